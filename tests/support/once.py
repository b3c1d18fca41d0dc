"""Which tests a run leaves out, as another run has them: those in which its codec has no part.

Rules:

- The suite runs with the compiled codec, and once more with the pure one. Where
  SCRIPTLING_WS_ONCE=yes says that the first has had all tests, the second has those alone in
  which the codec plays a part.
- A test says that itself: with the mark `once` that it opens no connection (it is of heads, pages,
  limits, names...), which is checked while it runs; with a reason, `once("...")`, it may open some.
  The mark `processes` says that other processes are what it is about: it runs once too, and not
  with the engine of gevent, which is this process's.
- A test that is given its kernel runs once as well: the fixture `kernel` goes through both in each
  run, and of the `way`s of a channel the pure codec has the pure one.
- What has no mark runs with both. So that is what a new test does.
"""

import contextlib
import functools
import itertools
import os

import pytest

from places import TESTS
from scriptling_ws import _kernel
from scriptling_ws._connection.connection import Connection
from scriptling_ws._network.waiting import engine

OURS = str(TESTS / "conftest.py")


def runs_once(item):
    """Whether the codec in use has no part in a test."""
    if item.get_closest_marker("once") or item.get_closest_marker("processes"):
        return True
    given = {name for name in ("kernel", "way") if is_ours(item, name)}
    return bool(given) and item.callspec.params.get("way") != "pure"


def is_ours(item, fixture):
    """Whether a test has this fixture of conftest.py."""
    found = item._fixtureinfo.name2fixturedefs.get(fixture, ())
    return bool(found) and found[-1].func.__code__.co_filename == OURS


def leave_out(config, items):
    """Take out of a run's tests what it is not to have."""
    out = []
    if os.environ.get("SCRIPTLING_WS_ONCE") == "yes" and _kernel.IMPLEMENTATION == "pure":
        out = [item for item in items if runs_once(item)]
    if engine().name != "threads":
        marks = ("threads", "processes")
        out = [item for item in items if any(map(item.get_closest_marker, marks))]
    if out:
        config.hook.pytest_deselected(items=out)
        gone = set(map(id, out))
        items[:] = [item for item in items if id(item) not in gone]


@contextlib.contextmanager
def no_connection():
    """None may be opened in this process meanwhile, nor by the handler of a server."""
    count = itertools.count()
    open_one = Connection.__init__

    @functools.wraps(open_one)
    def counted(*args, **options):
        next(count)
        open_one(*args, **options)

    Connection.__init__ = counted
    try:
        yield
    finally:
        Connection.__init__ = open_one
    opened = next(count)
    assert not opened, f"{opened} connections: the codec has a part in it, it is not for `once`"


@pytest.fixture(autouse=True)
def opens_no_connection(request):
    """A test that says so opens none."""
    mark = request.node.get_closest_marker("once")
    if mark is None or mark.args or request.node.get_closest_marker("processes"):
        yield
    else:
        with no_connection():
            yield
