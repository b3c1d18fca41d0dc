"""Tests side by side in several processes, and some of them alone.

Rules:

- A test that is marked `alone` has the machine for itself, as far as this run goes: it measures
  how long something takes, or loads the machine so that such a test would fail beside it. All
  others run side by side, one in each of pytest-xdist's workers.
- It is the lock of readers and a writer, on two files. Who is to be alone takes both for itself;
  others go through the door and share the room. One who waits to be alone holds the door shut: it
  waits for those that are at it, but not for those that come after.
- The system gives back the locks of a worker that dies.
- Time in which a test waits for its turn is not counted, neither as its own nor by its timeout.
- Without workers, or where the system has no such locks, there are no turns.
"""

import tempfile
from pathlib import Path

import pytest

try:
    import fcntl
except ImportError:  # Windows: CONTRIBUTING.md says that the suite has one process there
    fcntl = None


class Host:
    """The process that the workers belong to: it has the folder of the locks."""

    def __init__(self):
        self._folder = tempfile.TemporaryDirectory(prefix="ws-turns-")

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node):
        node.workerinput["turns"] = self._folder.name

    def pytest_unconfigure(self):
        self._folder.cleanup()


class Turns:
    """A worker's locks."""

    def __init__(self, folder):
        self._door = Path(folder, "door").open("w")  # noqa: SIM115 - for the whole run
        self._room = Path(folder, "room").open("w")  # noqa: SIM115

    # Outside of pytest-timeout's, which it would be otherwise.
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        alone = item.get_closest_marker("alone") is not None
        self._enter(fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        try:
            return (yield)
        finally:
            fcntl.flock(self._room, fcntl.LOCK_UN)

    def _enter(self, how):
        fcntl.flock(self._door, how)
        try:
            fcntl.flock(self._room, how)
        finally:
            fcntl.flock(self._door, fcntl.LOCK_UN)

    def pytest_unconfigure(self):
        self._door.close()
        self._room.close()


def take_turns(config):
    """Have this run's tests take turns, if they run in several processes."""
    if fcntl is None:
        return
    if (said := getattr(config, "workerinput", None)) is not None:
        config.pluginmanager.register(Turns(said["turns"]), "turns")
    elif config.getoption("numprocesses", None):
        config.pluginmanager.register(Host(), "turns")
