"""What the tests of the pages share."""

import pytest

import snippets


@pytest.fixture
def world(monkeypatch):
    """Where a page's Python runs."""
    with snippets.world(monkeypatch) as made:
        yield made
