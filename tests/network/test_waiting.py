"""The seam for waiting, and what stands behind it by default: threads."""

import os
import selectors
import subprocess
import sys
import threading
import time

import pytest

from pairs import SOON, Running, tcp_pair
from scriptling_ws._network import contract as _contract
from scriptling_ws._network import threads as _threads
from scriptling_ws._network.deadline import FOREVER, Deadline
from scriptling_ws._network.waiting import READ, WRITE, choose, engine, forget, use

NAME = "a task of a test"


@pytest.fixture
def pair():
    """Two connected sockets."""
    near, far = tcp_pair()
    with near, far:
        yield near, far


@pytest.fixture(params=["poll", "select"])
def waits(request, monkeypatch):
    """Each call that a wait may be made with: select is Windows'."""
    if request.param == "select":
        monkeypatch.setattr(_threads, "_Poll", _threads._Select)
        monkeypatch.setattr(_threads, "_EVENTS", (0, READ, WRITE, READ | WRITE))
    elif not hasattr(_threads.select, "poll"):
        pytest.skip("no poll here")


def test_there_is_one_engine():
    assert engine() is engine()
    assert isinstance(engine(), _threads.Threads)


def test_the_engine_is_chosen_at_its_first_use():
    program = """
import sys
from scriptling_ws._network import waiting as _waiting
assert "scriptling_ws._network.threads" not in sys.modules
_waiting.engine()
assert "scriptling_ws._network.threads" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)


def test_an_engine_that_is_forgotten_is_chosen_anew():
    with use(object()):
        forget()
        assert isinstance(engine(), _threads.Threads)


def test_gevent_where_it_is_not_installed(monkeypatch):
    monkeypatch.delitem(sys.modules, "scriptling_ws._network.greenlets", raising=False)
    monkeypatch.setitem(sys.modules, "gevent", None)
    with use(None):
        with pytest.raises(ImportError, match=r"pip install 'scriptling-ws\[gevent\]'"):
            choose("gevent")
        assert isinstance(choose("threads"), _threads.Threads)  # nothing was chosen by that


def test_another_engine_for_a_while():
    before, other = engine(), object()
    with pytest.raises(KeyError), use(other):
        assert engine() is other
        raise KeyError
    assert engine() is before


def test_the_events_are_those_of_selectors():
    assert (selectors.EVENT_READ, selectors.EVENT_WRITE) == (READ, WRITE)


def test_locks():
    lock, again = engine().lock(), engine().rlock()
    with lock:
        assert lock.locked()
        assert not lock.acquire(False)
        assert not Running(lock.acquire, True, 0.01).result()
    assert not lock.locked()
    with again, again:
        assert not Running(again.acquire, False).result()
    assert Running(again.acquire, False).result()


def test_events():
    event = engine().event()
    assert not event.wait(0.01)
    waiting = Running(event.wait, SOON)
    event.set()
    assert event.is_set()
    assert waiting.result()


def test_tasks():
    found, go = [], threading.Event()

    def body():
        found.append((engine().identity(), engine().current(), engine().hears_signals()))
        go.wait(SOON)

    task = engine().spawn(body, NAME)
    task.join(0.01)
    assert task.is_alive()
    go.set()
    task.join(SOON)
    assert not task.is_alive()
    ((identity, current, hears),) = found
    assert identity == task.ident != engine().identity()
    assert current is task
    assert task.name == NAME
    assert task.daemon
    assert not hears
    assert engine().hears_signals()
    assert engine().current() is threading.current_thread()


def test_sleeping():
    start = time.monotonic()
    engine().sleep(0.02)
    assert time.monotonic() - start >= 0.02


@pytest.mark.usefixtures("waits")
def test_waiting_for_events(pair):
    near, far = pair
    engine().wait(near, WRITE, FOREVER)
    engine().wait(near, READ | WRITE, FOREVER)
    deadline = Deadline(0.05)
    engine().wait(near, READ, deadline)
    assert deadline.passed()
    waiting = Running(engine().wait, near, READ, FOREVER)
    far.send(b"x")
    waiting.result()
    assert near.recv(1) == b"x"
    far.close()
    engine().wait(near, READ, FOREVER)


@pytest.mark.usefixtures("waits")
def test_a_waker_ends_every_wait(pair):
    waker = engine().waker()
    waiting = [Running(engine().wait, pair[0], READ, FOREVER, waker) for _ in range(2)]
    waker.set()
    waker.set()
    for each in waiting:
        each.result()
    engine().wait(pair[0], READ, FOREVER, waker)
    waker.close()
    waker.close()


@pytest.mark.usefixtures("waits")
def test_a_closed_socket_is_not_waited_for(pair):
    pair[0].close()
    with pytest.raises(ValueError, match="descriptor"):
        engine().wait(pair[0], READ, FOREVER)


@pytest.mark.usefixtures("waits")
def test_the_main_thread_looks_up_now_and_then(pair, monkeypatch):
    monkeypatch.setattr(_threads, "_LOOK_UP", 0.02)
    start = time.monotonic()
    deadline = Deadline(SOON)
    engine().wait(pair[0], READ, deadline)
    assert time.monotonic() - start >= 0.02
    assert not deadline.passed()
    assert Running(engine().wait, pair[0], READ, Deadline(0.05)).result() is None


def test_a_wait_that_timed_out_counts_where_the_clock_stands_still(pair, monkeypatch):
    monkeypatch.setattr("scriptling_ws._network.deadline.monotonic", lambda: 1000.0)
    deadline = Deadline(0.03125)
    engine().wait(pair[0], READ, deadline)
    assert deadline.passed()


def test_what_wakes_needs_no_eventfd(pair, monkeypatch):
    monkeypatch.delattr(os, "eventfd", raising=False)
    waker = engine().waker()
    waiting = Running(engine().wait, pair[0], READ, FOREVER, waker)
    waker.set()
    waker.set()
    waiting.result()
    waker.close()
    assert waker.fileno() == -1


@pytest.mark.parametrize("many", [False, True])
def test_pollers(pair, many):
    near, far = pair
    poller = engine().poller(many=many)
    assert engine().capacity(poller) > 10_000
    poller.register(near, READ, "near")
    poller.register(far, WRITE, "far")
    assert [(key.data, events) for key, events in poller.select(SOON)] == [("far", WRITE)]
    poller.modify(far, READ, "far")
    assert not poller.select(0)
    assert poller.get_key(near).data == "near"
    assert near.fileno() in poller.get_map()
    poller.unregister(far)
    far.send(b"x")
    assert [(key.data, events) for key, events in poller.select(SOON)] == [("near", READ)]
    poller.close()


def test_a_poller_on_select_takes_few():
    assert engine().capacity(selectors.SelectSelector()) == 400


def test_a_poller_for_few_costs_no_descriptor(monkeypatch):
    monkeypatch.setattr(_threads, "_Selector", selectors.SelectSelector)
    assert isinstance(engine().poller(), selectors.SelectSelector)


def test_a_call_in_a_worker():
    assert engine().in_worker(threading.current_thread, None, NAME).name == NAME
    assert engine().in_worker(lambda: "done", SOON, NAME) == "done"


def test_a_call_in_a_worker_that_takes_too_long():
    go = threading.Event()
    assert engine().in_worker(lambda: go.wait(SOON), 0.01, NAME) is None
    (left,) = [each for each in threading.enumerate() if each.name == NAME]
    go.set()
    left.join(SOON)


@pytest.mark.parametrize("error", [RuntimeError("no thread left"), MemoryError()])
def test_a_call_for_which_there_is_no_worker_is_made_here(monkeypatch, error):
    def refuse(_):
        raise error

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert engine().in_worker(threading.current_thread, 0.01, NAME) is threading.main_thread()
    with pytest.raises(type(error)):
        engine().spawn(lambda: None, NAME)


def test_a_call_that_a_disk_may_delay_is_made_here():
    assert engine().blocking(threading.current_thread) is threading.current_thread()


def test_the_threads_are_an_engine():
    missing = [name for name in vars(_contract.Engine) if not hasattr(_threads.Threads, name)]
    assert not [name for name in missing if not name.startswith("_")]
