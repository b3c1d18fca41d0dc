"""The end of the server around: who is told, and who is not."""

import gc
import itertools
import os
import signal
import sys
import threading
import types

import pytest

from children import forked, in_child
from pairs import until
from scriptling_ws._adapters import ending as module
from scriptling_ws._adapters.ending import Ending, ending, gunicorn_worker
from scriptling_ws._handshakes.head import Refused

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals are those of POSIX")


class Told:
    """A connection that says what it was told."""

    def __init__(self):
        self.codes = []

    def on_close(self, callback):
        pass

    def _begin_close(self, code, reason=""):
        self.codes.append(int(code))

    def _settled(self):
        return bool(self.codes)


@pytest.fixture(autouse=True)
def nothing_taken_over():
    before = signal.getsignal(signal.SIGTERM)
    yield
    ending().stop()
    signal.signal(signal.SIGTERM, before)


def told(worker=None):
    connection = Told()
    connection.seat = ending().take_seat(None, "")
    connection.seat.fill(connection, worker)
    return connection


def test_sigterm_is_handed_on_and_all_are_told():
    handled = []
    signal.signal(signal.SIGTERM, lambda number, frame: handled.append(number))
    connections = [told(), told()]
    os.kill(os.getpid(), signal.SIGTERM)
    until(lambda: all(connection.codes for connection in connections))
    assert [connection.codes for connection in connections] == [[1001], [1001]]
    assert handled == [signal.SIGTERM]
    with pytest.raises(Refused, match="503 the server is shutting down"):
        ending().take_seat(None, "")


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    connection = told()
    os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
    assert connection.codes == []


def test_the_signal_ends_a_process_in_which_nobody_else_hears_it():
    class Says(Told):
        def _begin_close(self, code, reason=""):
            os.write(write, b"told")
            super()._begin_close(code, reason)

    def child():
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        connection = Says()
        ending().take_seat(None, "").fill(connection)
        os.kill(os.getpid(), signal.SIGTERM)
        until(lambda: False)

    read, write = os.pipe()
    process = forked()
    if not process:
        try:
            child()
        finally:
            os._exit(1)
    os.close(write)
    with open(read, "rb") as pipe:
        assert pipe.read() == b"told"
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGTERM


def test_gunicorns_worker_is_looked_at_and_its_signals_are_left_alone():
    before = signal.getsignal(signal.SIGTERM)
    worker = types.SimpleNamespace(alive=True)
    connection = told(worker)
    assert signal.getsignal(signal.SIGTERM) == before
    worker.alive = False
    until(lambda: connection.codes == [1001])
    with pytest.raises(Refused):
        ending().take_seat(None, "")


def test_the_main_thread_takes_the_signal_over_for_another_one():
    handler = lambda number, frame: None  # noqa: E731 - to be compared
    signal.signal(signal.SIGTERM, handler)
    kept = []
    for _ in range(2):  # somebody may put another one in its place, as a reloader does
        signal.signal(signal.SIGTERM, handler)
        threads = [threading.Thread(target=lambda: kept.append(told())) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if sys.implementation.name == "cpython":
            until(lambda: signal.getsignal(signal.SIGTERM) != handler)
    ending().stop()
    assert signal.getsignal(signal.SIGTERM) == handler


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="no other can be asked")
def test_what_the_main_thread_was_asked_for_may_be_too_late():
    handler = lambda number, frame: None  # noqa: E731 - to be compared
    signal.signal(signal.SIGTERM, handler)
    ending().stop()
    assert module._ask_main_thread()
    until(itertools.count(-100).__next__)  # it is done between two steps of this
    assert module._ending is None
    assert signal.getsignal(signal.SIGTERM) == handler


def test_at_the_programs_end_all_are_told():
    connection, looks = told(), []
    connection._settled = lambda: looks.append(1) or len(looks) > 2
    ending()._at_exit()
    assert connection.codes == [1001]
    assert len(looks) == 3  # it waited for the closing handshake


def test_a_seat_is_free_again():
    seats = [ending().take_seat(2, ""), ending().take_seat(2, "")]
    with pytest.raises(Refused, match="503 the server is full"):
        ending().take_seat(2, "")
    seats[0].leave()
    seats[0].leave()
    assert ending().take_seat(2, "")
    with pytest.raises(Refused, match="503 what to do"):
        ending().take_seat(0, "what to do")


def test_a_connection_that_nobody_has_any_more_keeps_no_seat():
    connection = Told()
    seat = ending().take_seat(1, "")
    seat.fill(connection)
    del connection
    gc.collect()
    assert ending().take_seat(1, "")


def test_without_a_thread_connections_go_on(monkeypatch):
    def spawn(*_):
        raise RuntimeError("can't start new thread")

    around = ending()
    monkeypatch.setattr(type(around._engine), "spawn", staticmethod(spawn))
    handled = []
    signal.signal(signal.SIGTERM, lambda number, frame: handled.append(number))
    connection = told()
    monkeypatch.undo()
    assert around._alarm is None
    os.kill(os.getpid(), signal.SIGTERM)
    until(lambda: handled)
    assert connection.codes == []
    other = told()
    around._alarm.ring(module._END)
    until(lambda: connection.codes == other.codes == [1001])


def test_a_forked_child_has_none_of_them():
    connection = told()
    before = ending()

    def look():
        mine = ending()
        return [mine is before, len(mine._seats)]

    assert in_child(look) == [False, 0]
    assert ending() is before
    assert connection.codes == []
    before.stop()
    before = ending()  # which has nothing yet
    assert in_child(look) == [False, 0]


def test_a_worker_of_gunicorn_is_found_on_the_stack():
    class Worker:
        __module__ = "gunicorn.workers.gthread"
        cfg = types.SimpleNamespace(threads=3)

        def handle(self):
            return gunicorn_worker()

    worker = Worker()
    assert worker.handle() is worker
    assert gunicorn_worker() is None

    def deep(frames):
        return deep(frames - 1) if frames else gunicorn_worker()

    assert deep(150) is None
    assert isinstance(ending(), Ending)
