"""Handlers' threads that run one handler after another: what each finds, and how they end."""

import random
import threading
import time
import weakref
from contextvars import ContextVar

import pytest

import scriptling_ws as ws
from pairs import until
from scriptling_ws import _kernel as kernel
from scriptling_ws._network.waiting import engine
from scriptling_ws._server import handler_threads as _handler_threads
from scriptling_ws._server import sessions as _sessions
from scriptling_ws._server.handler_threads import HandlerThreads
from servers import TIMEOUT, echo, raw_websocket, serving

pytestmark = pytest.mark.threads

reused = pytest.mark.skipif(kernel.forget_locals is None, reason="each handler has its own thread")


def spawn(body, name):
    return engine().spawn(body, name)


def one_after_another(handler, times=2):
    """Connections, each of which comes when the thread of the one before waits."""
    with serving(handler) as server:
        for _ in range(times):
            with raw_websocket(server) as client:
                assert client.close_code() == 1000
            until(lambda: not server._sessions.running)
            if kernel.forget_locals is not None:
                until(lambda: server._sessions._threads._waiting)


@reused
def test_a_thread_runs_one_handler_after_another(monkeypatch):
    seen, started = [], []
    start = _sessions.start_thread
    monkeypatch.setattr(
        _sessions, "start_thread", lambda body, name: started.append(name) or start(body, name)
    )
    one_after_another(lambda client: seen.append(threading.get_ident()), 4)
    assert len(seen) == 4
    assert len({*seen}) == len(started) == 1


def test_each_handler_finds_its_thread_as_a_new_one():
    local, variable = threading.local(), ContextVar("variable", default=None)
    seen = []

    def handler(client):
        thread = threading.current_thread()
        seen.append((vars(local).copy(), variable.get(), hasattr(thread, "user")))
        local.user = thread.user = "somebody"
        variable.set("somebody")

    one_after_another(handler, 3)
    assert seen == [({}, None, False)] * 3


@reused
def test_what_a_handler_has_kept_is_gone_before_its_thread_waits():
    class Kept:
        pass

    local, variable = threading.local(), ContextVar("variable")
    alive = []

    def handler(client):
        alive.append([reference() for reference in references])
        for kept in (Kept(), Kept(), Kept()):
            references.append(weakref.ref(kept))
        local.kept = kept
        variable.set(references[0]() or kept)
        threading.current_thread().kept = kept

    references = []
    one_after_another(handler)
    assert alive == [[], [None] * 3]
    until(lambda: not any(reference() for reference in references))


def test_a_thread_has_the_name_of_its_peer():
    names = []

    def handler(client):
        names.append((threading.current_thread().name, f"scriptling-ws {client.remote_addr}"))

    one_after_another(handler, 3)
    assert len({*names}) == 3
    assert all(name == wanted for name, wanted in names)


@reused
def test_one_that_waits_says_so():
    threads = HandlerThreads()
    task = threads.start(threads.leave, "busy", spawn)
    until(lambda: threads._waiting)
    assert task.name == "scriptling-ws waiting for a handler"
    threads.dismiss()
    task.join(TIMEOUT)
    assert not task.is_alive()


@reused
def test_a_thread_waits_for_a_moment_alone(monkeypatch):
    monkeypatch.setattr(_handler_threads, "REST", 0.05)
    threads = HandlerThreads()
    task = threads.start(threads.leave, "busy", spawn)
    task.join(TIMEOUT)
    assert not task.is_alive()
    assert threads._waiting == []
    assert threads.ending() == [task]
    assert threads.start(threads.leave, "busy", spawn) is not task
    assert task not in threads.ending()
    threads.dismiss()


@reused
def test_so_many_wait_and_no_more(monkeypatch):
    monkeypatch.setattr(_handler_threads, "MOST", 2)
    threads, go_on = HandlerThreads(), threading.Event()

    def body():
        go_on.wait(TIMEOUT)
        threads.leave()

    tasks = [threads.start(body, "busy", spawn) for _ in range(5)]
    go_on.set()
    until(lambda: sum(task.is_alive() for task in tasks) == 2)
    assert len(threads._waiting) == 2
    threads.dismiss()
    for task in tasks:
        task.join(TIMEOUT)
        assert not task.is_alive()


@reused
def test_a_body_that_raises_ends_its_thread_alone(monkeypatch):
    told = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: told.append(arguments.exc_type))
    threads = HandlerThreads()

    def fail():
        raise ZeroDivisionError

    threads.start(fail, "busy", spawn).join(TIMEOUT)
    assert told == [ZeroDivisionError]
    done = threading.Event()
    threads.start(done.set, "busy", spawn)
    assert done.wait(TIMEOUT)
    threads.dismiss()


@reused
def test_a_thread_that_is_wanted_as_its_time_ends_runs_the_body():
    wanted, listening, done = threading.Event(), threading.Event(), []

    class Bell:
        """A lock that is waited for until the thread is wanted: just then its time ends."""

        def __init__(self, lock):
            self.release = lock.release
            self._lock = lock

        def acquire(self, timeout=None):
            if timeout is not None:
                assert wanted.wait(TIMEOUT)
                return False
            listening.set()
            return self._lock.acquire()

    class Waiting(list):
        """The threads that wait, each with such a lock."""

        def append(self, hand):
            hand.bell = Bell(hand.bell)
            super().append(hand)

    class Name(str):
        """What the thread is called: it is given that before it is rung for."""

        __slots__ = ()

        def __str__(self):
            wanted.set()
            assert listening.wait(TIMEOUT)
            return "late"

    def body():
        done.append(threading.current_thread())
        threads.leave()

    threads = HandlerThreads()
    threads._waiting = Waiting()
    task = threads.start(body, "first", spawn)
    until(lambda: threads._waiting)
    assert threads.start(body, Name(), spawn) is task
    task.join(TIMEOUT)  # the next time nobody wants it
    assert not task.is_alive()
    assert done == [task] * 2
    assert threads.ending() == [task]


@reused
def test_no_body_is_lost_or_run_twice(monkeypatch):
    """Where a thread is woken as it stops waiting, one of the two sees to the body."""
    monkeypatch.setattr(_handler_threads, "REST", 0.0005)
    threads, done, tasks = HandlerThreads(), [], set()
    for number in range(2000):

        def body(number=number):
            done.append(number)
            threads.leave()

        tasks.add(threads.start(body, "busy", spawn))
        if random.random() < 0.5:
            time.sleep(random.random() * 0.001)
    until(lambda: len(done) == 2000)
    assert sorted(done) == [*range(2000)]
    threads.dismiss()
    for task in tasks:
        task.join(TIMEOUT)
        assert not task.is_alive()


def test_a_server_that_is_closed_leaves_no_thread():
    before = {*threading.enumerate()}
    server = serving(echo)
    for _ in range(3):
        with ws.connect(server.url, TIMEOUT) as conn:
            conn.send("x")
            assert conn.receive(TIMEOUT) == "x"
    server.close()
    left = {*threading.enumerate()} - before
    assert [thread for thread in left if "keepalive" not in thread.name] == []


@reused
def test_dropping_what_is_local_takes_no_other_threads():
    local, other = threading.local(), threading.Event()
    local.value = 1
    threading.Thread(target=lambda: (kernel.forget_locals(), other.set())).start()
    assert other.wait(TIMEOUT)
    assert local.value == 1
    kernel.forget_locals()
    assert not vars(local)
    local.value = 2
    assert local.value == 2
