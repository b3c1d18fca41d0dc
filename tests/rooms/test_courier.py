"""The task that sends on: when it runs, what ends it, and what is done without it."""

import errno
import os
import socket
import threading

import pytest

from children import Child
from guests import BLOCK, SMALL, guest, guests, new_room, numbers, stall
from pairs import SOON, Running, receive_frame, until
from scriptling_ws._network.waiting import engine
from scriptling_ws._rooms import courier
from scriptling_ws._rooms.courier import Progress
from servers import tasks


def runs():
    return any(task.name == courier.NAME for task in tasks())


class Stub:
    """What can be sent on to, as a test says."""

    gone = False

    def __init__(self, *progress):
        self.near, self.far = socket.socketpair()
        self._progress = list(progress)
        self.pumped = threading.Semaphore(0)
        self.given_up = threading.Event()

    def fileno(self):
        return self.near.fileno()

    def pump(self):
        self.pumped.release()
        progress = self._progress.pop(0)
        if isinstance(progress, Exception):
            raise progress
        return progress

    def give_up(self):
        self.given_up.set()

    def await_pumps(self, count):
        for _ in range(count):
            assert self.pumped.acquire(timeout=SOON)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.near.close()
        self.far.close()


def test_it_runs_while_somebody_does_not_read():
    until(lambda: not runs())
    room = new_room()
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        room.send("x")
        assert receive_frame(far)[1] == b"x"
        assert not runs()
        count = stall(room, conn)
        assert runs()
        numbers(far, count)
        until(lambda: not runs())
        stall(room, conn)
        assert runs()
    until(lambda: not runs())


def test_it_comes_back_to_whom_it_could_not_send_to():
    with Stub(Progress.STUCK, Progress.STUCK, Progress.MOVED, Progress.DONE) as stub:
        assert courier.take(stub)
        stub.await_pumps(4)
        until(lambda: not runs())


def test_one_that_raises_is_given_up_and_the_others_go_on(caplog):
    with Stub(RuntimeError("unexpected")) as bad, Stub(Progress.DONE) as good:
        assert courier.take(bad)
        assert bad.given_up.wait(SOON)
        assert courier.take(good)
        good.await_pumps(1)
        until(lambda: not runs())
    assert "sending on to a member of a room has failed" in caplog.text


def test_one_that_has_left_is_let_go_of():
    with Stub(Progress.DONE) as stub:
        stub.gone = True
        assert courier.take(stub)
        stub.await_pumps(1)
        until(lambda: not runs())


def test_one_whose_descriptor_was_closed_is_let_go_of(monkeypatch):
    monkeypatch.setattr(courier, "_SWEEP", 0.01)
    with Stub(Progress.DONE) as stub:
        stub.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        stub.near.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                stub.near.send(bytes(1000))
        assert courier.take(stub)
        assert runs()
        stub.near.close()
        stub.await_pumps(1)
        until(lambda: not runs())


def test_where_the_poller_has_no_room(monkeypatch):
    """As `select` on Windows: those that are not polled are looked at now and then."""
    monkeypatch.setattr(type(engine()), "capacity", lambda self, poller: 1)
    with Stub(Progress.STUCK, Progress.MOVED, Progress.DONE) as stub:
        assert courier.take(stub)
        stub.await_pumps(3)
        until(lambda: not runs())


def test_it_is_not_over_for_one_that_comes_as_it_ends():
    last = courier._Courier()
    last._arrived.append(Stub)
    assert not last._is_over()
    last._arrived.clear()
    assert last._is_over()


def test_two_on_one_descriptor():
    """A connection that is in two rooms; or one that was closed, and another one has its number."""
    with (
        Stub(Progress.MOVED, Progress.DONE) as first,
        Stub(*[Progress.MOVED] * 3, Progress.DONE) as other,
    ):
        other.fileno = first.fileno
        assert courier.take(first)
        assert courier.take(other)
        first.await_pumps(2)
        other.await_pumps(4)
        until(lambda: not runs())


def test_it_begins_anew_after_an_exception(monkeypatch, caplog):
    wait, failures = courier._Watch.wait, [MemoryError()]

    def failing(watch):
        if failures:
            raise failures.pop()
        return wait(watch)

    monkeypatch.setattr(courier._Watch, "wait", failing)
    with Stub(Progress.DONE) as stub:
        assert courier.take(stub)
        stub.await_pumps(1)
        until(lambda: not runs())
    assert "the rooms' task has failed, and begins anew" in caplog.text


def test_where_select_fails_all_are_looked_at(monkeypatch):
    with Stub(Progress.DONE) as stub:
        alarm = courier.Alarm()
        watch = courier._Watch(engine(), alarm)
        try:
            assert watch.listen(stub)

            def failing(timeout):
                raise OSError(errno.EBADF, "bad descriptor")

            monkeypatch.setattr(watch._poller, "select", failing)
            assert watch.wait() == [stub]
        finally:
            watch.close()
            alarm.close()


@pytest.mark.parametrize("what", ["thread", "memory", "descriptor"])
def test_without_a_task_the_next_message_sends_on(monkeypatch, what):
    until(lambda: not runs())

    def refuse(*_):
        if what == "memory":
            raise MemoryError
        if what == "descriptor":
            raise OSError(errno.EMFILE, "too many open files")
        raise RuntimeError("can't start new thread")

    if what == "descriptor":
        monkeypatch.setattr(courier, "Alarm", refuse)
    else:
        monkeypatch.setattr(type(engine()), "spawn", refuse)
    room = new_room()
    with guest(buffer=SMALL) as (conn, far):
        room.join(conn)
        count = stall(room, conn)
        assert not runs()
        reading = Running(numbers, far, count + 1)
        until(lambda: room.send(f"{count + 1} {BLOCK}") or reading.done())
        assert reading.result() == list(range(1, count + 2))
        room.leave(conn)


def test_an_exception_of_a_signal_handler_is_not_taken_for_a_lack(monkeypatch):
    until(lambda: not runs())

    def interrupted():
        raise TimeoutError("a signal handler's")

    monkeypatch.setattr(courier, "Alarm", interrupted)
    with Stub() as stub, pytest.raises(TimeoutError):
        courier.take(stub)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.threads  # in a program that gevent has patched, this child does not end
def test_a_forked_child_has_a_task_of_its_own():
    room = new_room()
    with guests(1, buffer=SMALL) as [(conn, _)]:
        room.join(conn)
        stall(room, conn)
        assert runs()

        def in_child():
            with Stub(Progress.DONE) as stub:
                taken = courier.take(stub)
                stub.await_pumps(1)
                return taken

        assert Child(in_child).result() is True
