"""The code blocks of the pages, each of which a test runs.

Rules:

- A block is fenced and says its language; `text` is a drawing, or what a program has written. It
  belongs to the heading above it, whose anchor is its address: `docs/rooms.md#several-processes`.
- A test that runs the blocks under a heading has the mark `blocks` with that address (and a number,
  for one of several), and is given them by the fixture of that name, in their order. The end of a
  run tells how many blocks a passing test has run, and which none has (`cases`).
- What is a user's own (a port, a name, a file) a test may change, by words that have to be there.
  All else is run as it stands.
- Commands (`sh`) are run line by line: tests/docs/test_commands.py has those of all pages.
"""

import re
from dataclasses import dataclass
from functools import cache

from places import REPOSITORY

PATTERNS = ("*.md", "docs/*.md", "bench/*.md", "deploy/*.md")
PAGES = tuple(
    sorted(
        path.relative_to(REPOSITORY).as_posix()
        for pattern in PATTERNS
        for path in REPOSITORY.glob(pattern)
    )
)
FENCE = re.compile(r"^( *)```([\w+{}-]*)\n(.*?)^\1```$", re.M | re.S)
HEADING = re.compile(r"^#+ (.+)$", re.M)


@cache
def read(page):
    """The text of a page, which is named from the repository's root."""
    return (REPOSITORY / page).read_text(encoding="utf-8")


def slug(title):
    """The anchor of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        place: Its page and heading: `docs/receiving.md#staying-connected`.
        number: Which one under this heading it is, from 0 on.
        language: What it says that it is.
        text: What is in it.
        line: The line of the page that it begins at.
    """

    place: str
    number: int
    language: str
    text: str
    line: int

    @property
    def page(self):
        """Its page."""
        return self.place.partition("#")[0]

    @property
    def id(self):
        """What names it: `docs/receiving.md#staying-connected 1`."""
        return f"{self.place} {self.number + 1}"

    def changed(self, changes):
        """Its text with words replaced, each of which has to be there."""
        text = self.text
        for old, new in changes.items():
            assert old in text, f"{self.id} has no {old!r} any more"
            text = text.replace(old, str(new))
        return text

    def run(self, changes=(), /, **names):
        """Run it as Python; the names that it has left, and those that it was given."""
        given = {"__name__": "__main__", **names}
        # Lines as on the page, for tracebacks.
        code = "\n" * self.line + self.changed(dict(changes))
        exec(compile(code, str(REPOSITORY / self.page), "exec"), given)
        return given


@cache
def blocks_of(page):
    """The code blocks of a page, in their order."""
    text = read(page)
    fences = [*FENCE.finditer(text)]
    inside = [range(*found.span()) for found in fences]
    titles = [
        found
        for found in HEADING.finditer(text)
        if not any(found.start() in span for span in inside)
    ]
    result = []
    for found in fences:
        if found[2].startswith("{"):
            continue  # what makes the site's navigation is no code
        above = [title for title in titles if title.start() < found.start()]
        place = f"{page}#{slug(above[-1][1]) if above else ''}"
        number = sum(block.place == place for block in result)
        margin = re.compile(f"^{found[1]}", re.M)
        line = text.count("\n", 0, found.start()) + 1
        result.append(Block(place, number, found[2], margin.sub("", found[3]), line))
    return result


@cache
def all_blocks():
    """The code blocks of all pages."""
    return [block for page in PAGES for block in blocks_of(page)]


def runnable():
    """Those that are code: not drawings, nor what a program has written."""
    return [block for block in all_blocks() if block.language != "text"]


def python(page):
    """The texts of a page's blocks of Python."""
    return [block.text for block in blocks_of(page) if block.language == "python"]


def find(page, *lines):
    """The text of the one block of Python that has all of these in it."""
    found = [text for text in python(page) if all(line in text for line in lines)]
    assert len(found) == 1, f"{page} has {len(found)} blocks with {lines}"
    return found[0]


def blocks_at(place):
    """The code blocks of a page, under a heading, or the one with this id; there has to be one."""
    if found := [block for block in runnable() if place in (block.page, block.place, block.id)]:
        return found
    raise LookupError(f"there is no code block at {place}")


def of(item):
    """The blocks that a test is marked with: a heading's, or one of its own."""
    marked = [each for mark in item.iter_markers("blocks") for each in mark.args]
    found = [blocks_at(each) if isinstance(each, str) else [each] for each in marked]
    return [block for some in found for block in some]
