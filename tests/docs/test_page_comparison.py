"""docs/comparison.md: each y of ours names a test that there is, each n says why."""

import ast
import re
from functools import cache

import pytest

import code_blocks
import tables
from looped import looped
from places import TESTS

pytestmark = pytest.mark.once

PAGE = "docs/comparison.md"
SECTIONS = re.findall(r"^## (.+)$", code_blocks.read(PAGE), re.M)[:-1]
LIBRARIES = [row[0] for row in tables.rows(code_blocks.read(PAGE).partition("\n## ")[0])][1:]
ROWS = [row for title in SECTIONS for row in tables.rows(tables.section(PAGE, title)) if row[0]]


@cache
def names_in(file):
    """The names of a file's tests."""
    tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_the_columns_are_the_libraries():
    for title in SECTIONS:
        heading = next(iter(tables.rows(tables.section(PAGE, title))))
        assert heading == ["", *LIBRARIES, "here", "shown by"]
    assert len(ROWS) > 70


@looped("row", ROWS)
def test_a_row(row):
    _, *theirs, ours, proof = row
    assert len(theirs) == len(LIBRARIES)
    assert set(theirs) <= set("ypn-?")
    if ours == "n":
        assert len(proof) > 5
        return
    assert ours == "y"
    target = re.fullmatch(r"`make ([a-z-]+)`", proof)
    if target:
        assert re.search(rf"^{target[1]}:", code_blocks.read("Makefile"), re.M)
        return
    file, name = re.fullmatch(r"`([\w/]+\.py)::(test_\w+)`", proof).groups()
    assert name in names_in(file)
