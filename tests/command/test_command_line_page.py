"""docs/command-line.md: its options, commands and statuses are those of the command."""

import re

import pytest

from places import REPOSITORY
from scriptling_ws._command.connect_arguments import connect_parser
from scriptling_ws._command.slash import COMMANDS
from scriptling_ws._command.statuses import Status

pytestmark = pytest.mark.once("it opens no connection")

PAGE = (REPOSITORY / "docs" / "command-line.md").read_text(encoding="utf-8")


def first_cells():
    """The first cell of each row of the page's tables."""
    return re.findall(r"^\| ([^|]+) \|", PAGE, re.M)


def test_every_option_has_a_row():
    told = {word for cell in first_cells() for word in re.findall(r"(?<![\w-])--?[a-zA-Z-]+", cell)}
    found = {name for action in connect_parser()._actions for name in action.option_strings} - {
        "-h",
        "--help",
    }
    # Said in the row of another, or behind a short form.
    elsewhere = {"--header", "--verbose", "--plain", "--text"}
    assert told - {"-H"} - found == set()
    assert found - told == elsewhere
    assert "`--text`" in PAGE
    assert "`--plain`" in PAGE


def test_every_command_has_a_row():
    assert {f"`{name}`" for name in COMMANDS} <= set(first_cells())


def test_every_status_has_a_row():
    told = {int(number) for cell in first_cells() for number in re.findall(r"^\d+|\b1\d\d\b", cell)}
    assert told == {*map(int, Status), 129, 143}
