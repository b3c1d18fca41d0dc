"""The pages on moving in from other libraries, for the tests that run their code.

Each block of the other library has a counterpart of ours with the same functions. The other library
is in the group `test`; where it is not installed its tests are skipped by name.
"""

import re

import pytest

import code_blocks

# Each library: its page, and the package that its blocks import.
PAGES = {
    "websocket-client": ("docs/moving-from-websocket-client.md", "websocket"),
    "websockets": ("docs/moving-from-websockets.md", "websockets"),
    "simple-websocket": ("docs/moving-from-simple-websocket.md", "simple_websocket"),
    "flask-sock": ("docs/moving-from-simple-websocket.md", "flask_sock"),
    "gevent-websocket": ("docs/moving-from-gevent-websocket.md", "geventwebsocket"),
}
BOTH = pytest.mark.parametrize("whose", ["theirs", "ours"])


def need(library):
    """Skip the test where a library is not installed."""
    pytest.importorskip(PAGES[library][1], reason=f"{library} is not installed")


def code(library, whose, *lines):
    """The block that has these lines, of the other library or of ours; skips without theirs."""
    page, package = PAGES[library]
    if whose == "theirs":
        need(library)
    wanted = package if whose == "theirs" else "scriptling_ws"
    found = [
        each
        for each in code_blocks.python(page)
        if imports(each, wanted) and all(line in each for line in lines)
    ]
    assert len(found) == 1, f"{page} has {len(found)} such blocks with {lines}"
    return found[0]


def imports(text, package):
    """Whether a block imports a package, or a part of it."""
    return re.search(rf"^(?:import|from) {re.escape(package)}\b", text, re.M) is not None


def function(library, whose, name):
    """A function of a block."""
    names = {"__name__": "page"}
    exec(code(library, whose, f"def {name}("), names)
    return names[name]
