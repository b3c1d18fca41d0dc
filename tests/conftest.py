"""What every test gets: the name of the codec in use, and a check that nothing is left behind."""

import os
import threading
import time
from pathlib import Path

import pytest

from scriptling_ws import _frame, _keepalive

OUR_THREADS = "scriptling-ws"


def pytest_report_header():
    return f"scriptling-ws codec: {_frame.IMPLEMENTATION}"


def pytest_sessionstart(session):
    required = os.environ.get("SCRIPTLING_WS_EXTENSION") == "yes"
    pure = os.environ.get("SCRIPTLING_WS_PURE") == "1"
    if required and not pure and _frame.IMPLEMENTATION != "compiled":
        pytest.exit("the compiled kernel is required, but it is not there", returncode=1)
    _keepalive.start()  # it stays: not to be taken for something that a test has left


def open_descriptors():
    """The descriptors this process has open, and what each one is."""
    result = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            result[int(entry.name)] = os.readlink(entry)
        except OSError:
            continue  # the listing's own
    return result


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """No thread of the package, and no socket, outlives a test."""
    has_proc = Path("/proc/self/fd").is_dir()
    before = open_descriptors() if has_proc else {}
    yield
    deadline = time.monotonic() + 5
    for thread in threading.enumerate():
        if thread.name.startswith(OUR_THREADS) and thread.name != _keepalive.NAME:
            thread.join(max(0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} is still running"
    if has_proc:
        after = open_descriptors()
        new = {
            fd: what
            for fd, what in after.items()
            if what.startswith(("socket:", "anon_inode:[event", "pipe:")) and before.get(fd) != what
        }
        assert not new, f"descriptors left open: {new}"
