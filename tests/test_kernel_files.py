"""The compiled kernel's files: each is there once, and uses what stands above it."""

import re
import sys

import pytest

from places import REPOSITORY

KERNEL = REPOSITORY / "src" / "_wsframe.pyx"
pytestmark = [
    pytest.mark.once("it reads the kernel's source"),
    pytest.mark.skipif(not KERNEL.exists(), reason="these tests are not in their repository"),
    pytest.mark.skipif(sys.gettrace() is not None, reason="`make coverage` makes one file of it"),
]

FOLDER = KERNEL.with_suffix("")
# What a line at the margin defines: a function, a class, a struct, a variable, or a name of Python.
DEFINED = re.compile(
    r"(?:def|cdef class|cdef struct|class) (\w+)|cdef [\w *]*?\b(\w+)(?=\(|\[| = )|([A-Z]\w+) ="
)
MEMBER = re.compile(r"    ([A-Z_]{3,})\b")  # of a `cdef enum:`
NO_CODE = re.compile(r'"""(?s:.*?)"""|"[^"\n]*"|#.*')


def included():
    return re.findall(r'^include "_wsframe/(\w+\.pxi)"$', KERNEL.read_text(), re.MULTILINE)


def names_of(text):
    """What a file defines for the others."""
    names, in_enum = set(), False
    for line in text.splitlines():
        if found := DEFINED.match(line):
            names.add(next(filter(None, found.groups())))
        in_enum = line == "cdef enum:" or (in_enum and line.startswith("    "))
        if in_enum and (found := MEMBER.match(line)):
            names.add(found[1])
    return names


def test_every_file_is_included_once_and_drawn():
    there = [path.name for path in FOLDER.glob("*.pxi")]
    assert sorted(included()) == sorted(there)
    drawing = KERNEL.read_text().split('"""')[1]
    drawn = re.findall(r"^ {4}[a-z ]{16}(\w+) ", drawing, re.MULTILINE)
    assert drawn == [name.removesuffix(".pxi") for name in included()]


def test_headers_are_included_by_name():
    text = "".join(path.read_text() for path in [KERNEL, *FOLDER.glob("*.pxi")])
    assert set(re.findall(r'"_wsframe/(\w+\.h)"', text)) == {
        path.name for path in FOLDER.glob("*.h")
    }


def test_a_file_uses_what_stands_above_it():
    texts = {name: NO_CODE.sub("", (FOLDER / name).read_text()) for name in included()}
    names = {name: names_of(text) for name, text in texts.items()}
    assert {"borrow", "read_run", "Lock", "draw_key", "_Line"} <= set().union(*names.values())
    order, wrong = included(), []
    for place, name in enumerate(order):
        used = set(re.findall(r"(?<![\w.])\w+", texts[name])) - names[name]
        wrong += [
            f"{name} uses {', '.join(sorted(used & names[below]))} of {below}"
            for below in order[place + 1 :]
            if used & names[below]
        ]
    assert not wrong
