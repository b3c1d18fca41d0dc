"""What every test gets: the name of the codec in use, and a check that nothing is left behind.

And the fixtures of several files, and the count of the abuse cases, at the end of a run: a row
is covered when a test that is marked with it has passed and none has failed; with
--collect-only, when it has a test.
"""

import contextlib
import importlib
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

import foreign
import kernels
from abuse import ROWS
from channels import FREE_THREADED, WAYS, Way
from children import end_pool
from places import TESTS
from scriptling_ws import _kernel as _frame
from scriptling_ws._connection import keepalive as _keepalive
from scriptling_ws._network.waiting import engine

OUR_THREADS = "scriptling-ws"


def pytest_report_header():
    return f"scriptling-ws codec: {_frame.IMPLEMENTATION}, engine: {engine().name}"


def pytest_sessionstart(session):
    required = os.environ.get("SCRIPTLING_WS_EXTENSION") == "yes"
    pure = os.environ.get("SCRIPTLING_WS_PURE") == "1"
    if required and not pure and _frame.IMPLEMENTATION != "compiled":
        pytest.exit("the compiled kernel is required, but it is not there", returncode=1)
    _keepalive.start()  # it stays: not to be taken for something that a test has left
    heed_signals()


def heed_signals():
    """A shell's `&`, and nohup, have signals ignored that tests send, here and to children."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


class AbuseCases:
    """Counts the rows of the abuse cases that the tests of this run cover."""

    def __init__(self):
        self.files = set()
        self.tested = set()
        self.passed = set()
        self.failed = set()

    @property
    def whole(self):
        """Whether this run has all the tests."""
        return self.files >= set(TESTS.rglob("test_*.py"))

    def pytest_itemcollected(self, item):
        rows = {number for mark in item.iter_markers("abuse") for number in mark.args}
        if not rows <= set(ROWS):
            raise pytest.UsageError(f"{item.nodeid}: there are no abuse cases {rows - set(ROWS)}")
        self.files.add(item.path)
        self.tested |= rows
        item.user_properties.append(("abuse", sorted(rows)))

    def pytest_runtest_logreport(self, report):
        rows = dict(report.user_properties).get("abuse", ())
        if report.failed:
            self.failed.update(rows)
        elif report.when == "call" and report.passed:
            self.passed.update(rows)

    def pytest_terminal_summary(self, terminalreporter, config):
        covered = self.tested if config.option.collectonly else self.passed - self.failed
        if self.tested:
            missing = sorted(set(ROWS) - covered)
            terminalreporter.write_line(f"abuse cases covered: {len(covered)} of {len(ROWS)}")
            if missing and self.whole:
                terminalreporter.write_line(f"abuse cases not covered: {missing}")


def pytest_configure(config):
    config.pluginmanager.register(AbuseCases(), "abuse-cases")


# What the codec has no part in. Where SCRIPTLING_WS_ONCE says that the compiled codec has had all
# tests, these are left out with the pure one.
ONCE = (
    *("adapters/test_adapter_", "adapters/test_inside", "client/test_proxies_real", "deploy/"),
    *("server/test_behind_", "server/test_engines", "server/test_exhaustion"),
    *("server/test_processes", "server/test_sockets", "test_bundling", "test_cli"),
    *("test_conformance", "test_mutants", "test_packaging", "test_readme"),
)


def pytest_collection_modifyitems(items):
    if engine().name != "threads":
        leave_out(items, lambda item: item.get_closest_marker("threads"), "it is about threads")
        leave_out(items, runs_once, "its servers are other processes")
    if os.environ.get("SCRIPTLING_WS_ONCE") == "yes" and _frame.IMPLEMENTATION == "pure":
        leave_out(items, runs_once, "the codec has no part in it, and it has run")


def runs_once(item):
    return item.path.is_relative_to(TESTS) and item.path.relative_to(TESTS).as_posix().startswith(
        ONCE
    )


def leave_out(items, which, reason):
    for item in filter(which, items):
        item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(params=["compiled", "pure"])
def kernel(request):
    """Each of the two kernels."""
    return kernels.load(request.param)


# The gate is that of the kernel in use, which heeds forks.
HAS_GATE = _frame.IMPLEMENTATION == "compiled" and sys.platform == "linux" and not FREE_THREADED


@pytest.fixture(params=(*WAYS, "gate") if HAS_GATE else WAYS)
def way(request):
    """Each of the ways of a channel."""
    kernels.load("pure" if request.param == "pure" else "compiled")  # or skip
    way = Way.named(request.param)
    if way.by_descriptor and sys.platform == "win32":
        pytest.skip("there are no such descriptors here")
    if way.name == "gate" and not _frame.open_gate():  # of the kernel in use: it heeds forks
        pytest.skip("there is no gate here")
    way.channel.use_gate_from(1 if way.name == "gate" else 0)
    yield way
    way.channel.use_gate_from(8)


@pytest.fixture
def log():
    """The package's log, watched."""
    from servers import watching  # which needs trustme: not on every platform

    with watching() as watch:
        yield watch


@pytest.fixture
def site():
    """A server with a WebSocket and a page."""
    from servers import routes_of, serving

    with serving(routes=routes_of()) as server:
        yield server


@pytest.fixture(scope="module", params=foreign.NAMES)
def peer(request):
    """Starts the program of a foreign peer that is called "client" or "server"."""
    return foreign.starter(request.param)


@pytest.fixture(scope="module")
def peer_client(peer):
    """A foreign client, which is told what to do."""
    with peer("client") as process:
        yield process


def open_descriptors():
    """The descriptors this process has open, and what each one is."""
    result = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            result[int(entry.name)] = os.readlink(entry)
        except OSError:
            continue  # the listing's own
    return result


def sockets_beside(before):
    """The sockets and the like that are open now and were not before."""
    return {
        fd: what
        for fd, what in open_descriptors().items()
        if what.startswith(("socket:", "anon_inode:[event", "pipe:")) and before.get(fd) != what
    }


def open_gate():
    """Have the compiled kernel's gate open, which stays: a test may have made it believe in a fork.

    On the pure codec too, where tests of the kernel use both.
    """
    with contextlib.suppress(ImportError):
        importlib.import_module("scriptling_ws._wsframe").open_gate()


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """No thread of the package, and no socket, outlives a test."""
    open_gate()
    has_proc = Path("/proc/self/fd").is_dir()
    before = open_descriptors() if has_proc else {}
    yield
    deadline = time.monotonic() + 5
    for thread in threading.enumerate():
        if thread.name.startswith(OUR_THREADS) and thread.name != _keepalive.NAME:
            thread.join(max(0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} is still running"
    end_pool()
    pause = threading.Event()
    while has_proc and (new := sockets_beside(before)):
        # A thread that holds a lock closes what `close` has left to it on its way out.
        assert time.monotonic() < deadline, f"descriptors left open: {new}"
        pause.wait(0.01)
