"""That each of the abuse cases has a test: see abuse.py."""

import re
import subprocess
import sys

import pytest

from abuse import ROWS
from places import TESTS
from processes import python_environment

pytestmark = pytest.mark.once


def test_every_row_has_a_test(request):
    cases = request.config.pluginmanager.get_plugin("abuse-cases")
    if cases.whole:
        assert sorted(set(ROWS) - cases.tested) == []
        return
    # This run is of some tests alone: look at all of them, in a process of its own.
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", TESTS],
        env=python_environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert re.search("^abuse cases covered: 86 of 86$", found.stdout, re.M), found.stdout[-500:]
