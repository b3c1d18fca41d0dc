"""The code that a page shows, taken out of it so that tests run it.

Rules:

- A block is what stands between ```python and ```. Tests find it by a line of it, not by its
  number: a page may get more of them.
- Of a page that shows two libraries side by side, a block belongs to the one that it imports.
- A block is compiled with a name that says where it is from, so that a traceback does.
- A call in a table stands in backquotes. `calls` gives those of one column; a test holds them to
  what the library has.
"""

import ast
import re
from functools import cache

from places import REPOSITORY

FENCED = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)


@cache
def read(page):
    """The text of a page, by its path from the repository's root."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


def blocks(page):
    """All blocks of Python of a page, in its order."""
    return FENCED.findall(read(page))


def block(page, *lines):
    """The one block that has all of these texts in it."""
    found = [code for code in blocks(page) if all(line in code for line in lines)]
    assert len(found) == 1, f"{page} has {len(found)} blocks with {lines}"
    return found[0]


def run(page, *lines, **names):
    """Run that block; its names."""
    names.setdefault("__name__", "page")
    exec(compile(block(page, *lines), f"{page}: {lines[0]}", "exec"), names)
    return names


def imports(code, package):
    """Whether a block imports a package, or a part of it."""
    return re.search(rf"^(?:import|from) {re.escape(package)}\b", code, re.M) is not None


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
