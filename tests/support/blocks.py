"""The code that a page shows, taken out of it so that tests run it.

Rules:

- A block is what stands between ```python and ```. Tests find it by a line of it, not by its
  number: a page may get more of them.
- Of a page that shows two libraries side by side, a block belongs to the one that it imports.
"""

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


def imports(code, package):
    """Whether a block imports a package, or a part of it."""
    return re.search(rf"^(?:import|from) {re.escape(package)}\b", code, re.M) is not None
