"""The tables of a page, and the calls that stand in them.

A call in a table stands in backquotes. `calls` gives those of some cells, parsed; a test holds them
to what a library has.
"""

import ast
import re

from code_blocks import read


def section(page, title):
    """What is under a heading of the second level."""
    found = re.search(rf"^## {re.escape(title)}$(.*?)(?=^## |\Z)", read(page), re.M | re.S)
    assert found, f"{page} has no section {title!r}"
    return found[1]


def rows(text):
    """The cells of a text's tables, with their code's marks; without the lines under headings."""
    for line in text.splitlines():
        if line.startswith("|") and not set(line) <= set("|-: "):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]


def calls(cells):
    """The expressions that stand in backquotes in some cells, parsed."""
    for cell in cells:
        for text in re.findall(r"`([^`]+)`", cell):
            try:
                yield text, ast.parse(text)
            except SyntaxError:  # a command, a header, a file
                continue
