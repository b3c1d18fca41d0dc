"""What every test gets: the name of the codec in use, and a check that nothing is left behind.

And the fixtures of several files. Which tests are left out, which run alone, and how the abuse
cases are counted, is in `once`, `turns` and `cases` of tests/support.
"""

import contextlib
import gc
import importlib
import os
import signal
import sys
import threading
import time
import zlib
from pathlib import Path

import pytest

import code_blocks as _blocks
import foreign
import kernels
from cases import AbuseCases, CodeBlocks, check_names
from channels import FREE_THREADED, WAYS, Way
from children import end_pool
from jitter import jitter, wanted
from once import leave_out, opens_no_connection  # noqa: F401 - a fixture of every test
from scriptling_ws import _kernel as _frame
from scriptling_ws._connection import keepalive as _keepalive
from scriptling_ws._network.waiting import engine
from scriptling_ws._wire import backend as _backend
from turns import take_turns

OUR_THREADS = "scriptling-ws"
DESCRIPTORS = "/proc/self/fd"
HAS_PROC = Path(DESCRIPTORS).is_dir()


def pytest_report_header():
    seed = wanted()
    pauses = "" if seed is None else f", jitter: {seed}"
    return f"scriptling-ws codec: {_frame.IMPLEMENTATION}, engine: {engine().name}{pauses}"


def pytest_sessionstart(session):
    required = os.environ.get("SCRIPTLING_WS_EXTENSION") == "yes"
    pure = os.environ.get("SCRIPTLING_WS_PURE") == "1"
    if required and not pure and _frame.IMPLEMENTATION != "compiled":
        pytest.exit("the compiled kernel is required, but it is not there", returncode=1)
    _backend.use(zlib)  # whose contexts tests measure; test_backend has zlib-ng
    _keepalive.start()  # it stays: not to be taken for something that a test has left
    heed_signals()


def heed_signals():
    """A shell's `&`, and nohup, have signals ignored that tests send, here and to children."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_configure(config):
    with contextlib.suppress(ImportError):  # a wheel is tested without it
        from hypothesis import settings

        settings.register_profile("suite", deadline=None)  # no example depends on the clock
        settings.load_profile("suite")
    config.pluginmanager.register(AbuseCases(), "abuse-cases")
    config.pluginmanager.register(CodeBlocks(), "code-blocks")
    take_turns(config)
    jitter(config)


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Thousands of tests are objects that stay, at which the collector need not look again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        if hasattr(gc, "freeze"):  # PyPy's has none
            gc.freeze()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """Five on two processors: tests wait for half of their time, for peers and for timeouts."""
    return 1 + 2 * (os.cpu_count() or 1)


def pytest_collection_modifyitems(config, items):
    check_names(items)
    leave_out(config, items)


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
    way.channel.use_gate_from(kernels.GATE)


@pytest.fixture
def blocks(request):
    """The code blocks that the test is marked with."""
    return _blocks.of(request.node)


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
    """The descriptors this process has open, and the file that each one is of.

    Every test asks twice: it costs less than to have them all named.
    """
    result = {}
    for name in os.listdir(DESCRIPTORS):
        try:
            state = os.fstat(int(name))
        except OSError:
            continue  # the listing's own
        result[int(name)] = state.st_dev, state.st_ino
    return result


def sockets_beside(before):
    """The sockets and the like that are open now and were not before."""
    result = {}
    for fd, file in open_descriptors().items():
        if before.get(fd) != file:
            with contextlib.suppress(OSError):  # it was closed meanwhile
                result[fd] = os.readlink(f"{DESCRIPTORS}/{fd}")
    kinds = ("socket:", "anon_inode:[event", "pipe:")
    return {fd: what for fd, what in result.items() if what.startswith(kinds)}


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
    before = open_descriptors() if HAS_PROC else {}
    yield
    deadline = time.monotonic() + 20
    for thread in threading.enumerate():
        if thread.name.startswith(OUR_THREADS) and thread.name != _keepalive.NAME:
            thread.join(max(0, deadline - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} is still running"
    end_pool()
    pause = threading.Event()
    while HAS_PROC and (new := sockets_beside(before)):
        # A thread that holds a lock closes what `close` has left to it on its way out.
        assert time.monotonic() < deadline, f"descriptors left open: {new}"
        pause.wait(0.01)
