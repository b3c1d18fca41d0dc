"""Pings, latency and keepalive: the peer is a plain socket that answers as a test wants."""

import errno
import gc
import os
import socket
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from time import monotonic

import pytest

from frames import CLOSE, PING, PONG, TEXT, frame
from pairs import (
    ByMethod,
    arrived,
    both_ends,
    connection,
    raw_peer,
    receive_exactly,
    stand_in,
    tcp_pair,
    unread,
    until,
)
from scriptling_ws import ConnectionClosed, ProtocolError
from scriptling_ws._connection import keepalive as _keepalive
from scriptling_ws._options import Options

OFTEN = 0.02  # seconds
AGES = 1000.0


def read_frame(peer):
    """The next short frame that a client has sent: opcode and payload."""
    first, second, *key = receive_exactly(peer, 6)
    data = receive_exactly(peer, second & 0x7F)
    return first & 0x0F, bytes(byte ^ key[i % 4] for i, byte in enumerate(data))


def read_ping(peer):
    opcode, payload = read_frame(peer)
    assert opcode == PING
    return payload


# ---- ping() ----


def test_a_ping_finds_that_another_thread_has_closed_meanwhile():
    with raw_peer(close_timeout=0) as (conn, _peer):
        wait = conn._pinger._await

        def late(pong, deadline):
            restore()
            threads.submit(conn.close).result()  # as this thread has seen it open
            wait(pong, deadline)

        with ThreadPoolExecutor(1) as threads:
            restore = stand_in(conn._pinger, _await=late)
            assert conn.ping(10) is None
        assert conn.fileno() == -1


@pytest.mark.parametrize("tls", [False, True])
def test_a_ping_tells_how_long_its_answer_took(tls):
    with both_ends(tls=tls) as (client, server), ThreadPoolExecutor() as pool:
        assert client.latency is server.latency is None
        for one, other in ((client, server), (server, client)):
            waiting = pool.submit(other.receive, 10)
            before = monotonic()
            seconds = one.ping()
            assert 0 < seconds <= monotonic() - before
            assert one.latency == seconds
            one.send("done")
            assert waiting.result() == "done"


def test_messages_that_come_before_the_pong_are_kept():
    with raw_peer() as (conn, peer), ThreadPoolExecutor() as pool:
        asked = pool.submit(conn.ping)
        payload = read_ping(peer)
        peer.sendall(frame(TEXT, b"one") + frame(TEXT, b"two") + frame(PONG, payload))
        assert asked.result() > 0
        assert conn.receive_many(2) == ["one", "two"]


def test_a_ping_that_times_out_as_its_answer_comes_harms_nothing():
    class Leaving(dict):
        def __iter__(self):
            keys = [*super().__iter__()]
            self.clear()  # as ping() does for its own, in another thread
            return iter(keys)

    with raw_peer() as (conn, peer):
        conn._link.pings.waiting = Leaving()
        assert conn.ping(0) is None
        key = read_ping(peer)
        conn._link.pings.waiting[key] = object()
        peer.sendall(frame(PONG, key) + frame(TEXT, b"x"))
        assert conn.receive(10) == "x"
        assert conn.latency is None


def test_a_ping_while_another_thread_receives():
    with raw_peer() as (conn, peer), ThreadPoolExecutor() as pool:
        receiving = pool.submit(conn.receive, None)
        asked = pool.submit(conn.ping, None)
        peer.sendall(frame(PONG, read_ping(peer)))
        assert asked.result() > 0
        peer.sendall(frame(TEXT, b"x"))
        assert receiving.result() == "x"


def test_a_ping_does_not_spin_while_another_thread_receives():
    with raw_peer() as (conn, peer), ThreadPoolExecutor() as pool:
        receiving = pool.submit(conn.receive, None)
        until(conn._intake.lock.locked)
        turns = []
        read = conn._intake.if_free
        restore = stand_in(
            conn._intake, if_free=lambda *call, **more: turns.append(read(*call, **more))
        )
        assert conn.ping(0.1) is None
        restore()
        assert len(turns) <= 10  # a fiftieth of a second each
        peer.sendall(frame(TEXT, b"x"))
        assert receiving.result() == "x"


@pytest.mark.parametrize("why", ["receivers", "backlog"])
def test_a_ping_leaves_messages_to_receivers_and_to_the_system(why):
    with raw_peer(max_backlog=0 if why == "backlog" else 1000) as (conn, peer):
        peer.sendall(frame(TEXT, b"x"))
        arrived(conn)
        if why == "receivers":
            conn._intake.waiters = 1  # as one that is just about to read
        assert conn.ping(0.05) is None
        assert not unread(conn)
        conn._intake.waiters = 0
        assert conn.receive(0) == "x"


def test_a_ping_without_answer():
    with raw_peer() as (conn, peer):
        assert conn.ping(timeout=0) is None
        assert conn.ping(timeout=0.01) is None
        assert conn.connected()
        assert conn.latency is None
        late = read_ping(peer)
        peer.sendall(frame(PONG, late) + frame(PONG, b"stray") + frame(TEXT, b"x"))
        assert conn.receive() == "x"
        assert conn.latency is None


def test_a_pong_answers_the_pings_before_it():
    with raw_peer() as (conn, peer), ThreadPoolExecutor() as pool:
        both = [pool.submit(conn.ping), pool.submit(conn.ping)]
        _, second = read_ping(peer), read_ping(peer)
        peer.sendall(frame(PONG, second))
        assert all(asked.result() > 0 for asked in both)


def test_a_ping_on_a_closed_connection():
    with raw_peer(close_timeout=0.05) as (conn, peer), ThreadPoolExecutor() as pool:
        asked = pool.submit(conn.ping, None)
        read_ping(peer)
        peer.sendall(frame(CLOSE, b"\x03\xe8"))
        assert asked.result() is None
        assert conn.ping() is None
        conn.close()
        assert conn.ping() is None


def test_close_wakes_a_ping():
    with raw_peer(close_timeout=0.05) as (conn, peer), ThreadPoolExecutor() as pool:
        asked = pool.submit(conn.ping, None)
        read_ping(peer)
        conn.close()
        assert asked.result() is None


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("1", TypeError)])
def test_bad_timeouts(timeout, error):
    with raw_peer() as (conn, _), pytest.raises(error):
        conn.ping(timeout)


# ---- keepalive ----


def test_keepalive_sees_the_pong_of_a_connection_that_nobody_reads():
    with raw_peer(ping_interval=OFTEN, ping_timeout=AGES) as (conn, peer):
        for _ in range(4):
            peer.sendall(frame(PONG, read_ping(peer)))
        assert conn.latency is not None
        assert conn.connected()


def test_keepalive_leaves_reading_to_a_thread_that_receives():
    with (
        raw_peer(ping_interval=OFTEN, ping_timeout=AGES) as (conn, peer),
        ThreadPoolExecutor() as pool,
    ):
        receiving = pool.submit(conn.receive, None)
        for _ in range(4):
            peer.sendall(frame(PONG, read_ping(peer)))
        peer.sendall(frame(TEXT, b"x"))
        assert receiving.result() == "x"


def test_whatever_comes_shows_that_the_peer_is_there():
    with raw_peer(ping_interval=OFTEN, ping_timeout=AGES) as (conn, peer):
        for _ in range(4):  # without an answer there is no second ping
            read_ping(peer)
            peer.sendall(frame(TEXT, b"busy"))
        assert [conn.receive() for _ in range(4)] == ["busy"] * 4
        assert len(conn._link.pings.waiting) <= 1


@pytest.mark.abuse(55, 67)
@pytest.mark.parametrize("reading", [False, True])
def test_a_silent_peer(reading):
    with (
        raw_peer(ping_interval=OFTEN, ping_timeout=OFTEN) as (conn, peer),
        ThreadPoolExecutor() as pool,
    ):
        receiving = pool.submit(conn.receive, None) if reading else None
        read_ping(peer)
        opcode, payload = read_frame(peer)
        assert opcode == CLOSE
        assert payload[:2] == (1011).to_bytes(2, "big")
        assert b"ping_timeout" in payload
        assert peer.recv(1) == b""
        if receiving:
            assert receiving.result() is None
        assert not conn.connected()
        assert conn.close_code == 1011
        with pytest.raises(ConnectionClosed) as caught:
            conn.send("x")
        assert caught.value.code == 1011
        assert isinstance(caught.value.__cause__, ProtocolError)


def test_without_ping_timeout_a_silent_peer_is_kept():
    with raw_peer(ping_interval=OFTEN, ping_timeout=None) as (conn, peer):
        assert len({read_ping(peer) for _ in range(3)}) == 3
        assert conn.connected()


def test_a_connection_that_is_read_now_and_then_is_looked_after_once():
    with raw_peer(ping_interval=OFTEN, ping_timeout=None) as (conn, peer):
        for _ in range(5):
            for _ in range(2):  # keepalive listens for answers that do not come
                read_ping(peer)
            with conn._intake.lock:  # as a thread that receives
                for _ in range(2):
                    read_ping(peer)
                peer.sendall(frame(TEXT, b"x"))
                read_ping(peer)
        entries = _keepalive._service()._entries.copy()
        assert sum(entry.watched() is conn for entry in entries) <= 1


def test_without_ping_interval_nobody_looks(monkeypatch):
    watched = []
    for name in ("watch", "welcome"):
        monkeypatch.setattr(_keepalive, name, lambda *arguments: watched.append(arguments))
    with raw_peer(ping_interval=None) as (conn, _):
        assert conn.connected()
        assert not watched
    with raw_peer(ping_interval=5):
        assert watched


@pytest.mark.parametrize(
    ("ping_interval", "looked", "times"), [(None, False, 0), (5, False, 0), (5, True, 1)]
)
def test_keepalive_is_told_once_of_a_close_it_has_waited_for(
    ping_interval, looked, times, monkeypatch
):
    told = []
    with raw_peer(ping_interval=ping_interval, close_timeout=0) as (conn, _):
        if looked:
            conn._pinger.look_after()
        monkeypatch.setattr(_keepalive, "forget", lambda: told.append(conn))
        conn.close()
        conn.close()
        conn._intake.dispose()
        assert len(told) == times
        monkeypatch.undo()


@pytest.mark.parametrize("name", ["ping_interval", "ping_timeout"])
@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), ("1", TypeError)])
def test_bad_options(name, value, error):
    with pytest.raises(error, match=name):
        Options(**{name: value})


# ---- the thread ----


class Watched:
    """Something to look after, which tells each time it is."""

    def __init__(self, moments, due=_keepalive.Next, descriptor=0):
        self.moments = list(moments)
        self.due = due
        self.number = descriptor
        self.looked = threading.Semaphore(0)

    def look_after(self):
        self.looked.release()
        moment = self.moments.pop(0) if self.moments else None
        if isinstance(moment, Exception):
            raise moment
        return moment if moment is None else self.due(monotonic() + moment)

    def is_free(self):
        return True

    def descriptor(self):
        return self.number if self.moments else -1

    def was_looked_after(self, times):
        return all(self.looked.acquire(timeout=10) for _ in range(times))


def test_a_later_one_does_not_keep_a_sooner_one_waiting():
    late, soon = Watched([]), Watched([0.0, 0.001])
    _keepalive.watch(late, monotonic() + AGES)
    _keepalive.watch(soon, monotonic())
    assert soon.was_looked_after(3)
    assert not late.looked.acquire(blocking=False)


def test_one_that_fails_does_not_end_the_others(caplog):
    bad, good = Watched([ValueError("bad")]), Watched([0.0])
    _keepalive.watch(bad, monotonic())
    _keepalive.watch(good, monotonic() + 0.001)
    assert bad.was_looked_after(1)
    assert good.was_looked_after(2)
    assert "keepalive has failed" in caplog.text
    assert not bad.looked.acquire(blocking=False)  # before ten seconds are over
    (entry,) = (each for each in _keepalive._service()._entries if each.watched() is bad)
    assert 5 < entry.moment - monotonic() <= 10 + 1 / _keepalive._GRID


@pytest.mark.parametrize("step", ["_silence", "_take_in"], ids=["with one", "between two"])
def test_an_exception_in_the_thread_itself_forgets_nobody(step, monkeypatch, caplog):
    service = _keepalive._service()

    def fail(*_):
        monkeypatch.undo()
        raise MemoryError

    now, later = Watched([]), Watched([])
    _keepalive.watch(later, monotonic() + AGES)
    monkeypatch.setattr(service, step, fail)
    _keepalive.watch(now, monotonic())
    assert now.was_looked_after(1)
    assert later.was_looked_after(1)  # all are, for what was listened for is not known any more
    assert "begins anew" in caplog.text


def test_one_that_wants_no_more_is_let_go_without_a_word(caplog):
    over, next_one = Watched([]), Watched([])
    _keepalive.watch(over, monotonic())
    assert over.was_looked_after(1)
    _keepalive.watch(next_one, monotonic())
    assert next_one.was_looked_after(1)
    assert not caplog.records
    assert not any(entry.watched() is over for entry in _keepalive._service()._entries)


def test_one_to_which_something_comes_is_looked_after_at_once():
    near, far = socket.socketpair()
    with near, far:
        watched = Watched(
            [AGES, AGES, None], partial(_keepalive.Next, readable=True), near.fileno()
        )
        _keepalive.watch(watched, monotonic())
        assert watched.was_looked_after(1)
        for _ in range(2):  # also when it was listened for before
            far.send(b"x")
            assert watched.was_looked_after(1)
            near.recv(1)


@pytest.mark.parametrize("closed", [False, True], ids=["full", "closed"])
def test_one_that_cannot_be_listened_for_has_its_time(closed, monkeypatch, caplog):
    service = _keepalive._service()
    near, far = socket.socketpair()
    with near, far:
        watched = Watched(
            [0.001] if closed else [0.001, AGES, AGES],
            partial(_keepalive.Next, readable=True),
            near.fileno(),
        )
        if not closed:
            monkeypatch.setattr(service, "_most", 0)
        far.send(b"x")
        _keepalive.watch(watched, monotonic())
        assert watched.was_looked_after(2)
        _keepalive.watch(other := Watched([]), monotonic())
        assert other.was_looked_after(1)  # and with it the thread is done with the first one
        assert near.fileno() not in service._poller.get_map()
        assert not caplog.records


@pytest.mark.parametrize("waits_for", ["readable", "when_free"])
def test_one_that_has_closed_and_was_swept_is_looked_after_no_more(waits_for, monkeypatch):
    monkeypatch.setattr(_keepalive, "_SWEEP", OFTEN)
    service, free = _keepalive._service(), threading.Event()
    near, far = socket.socketpair()
    with near, far:
        watched = Watched(
            [AGES, AGES], partial(_keepalive.Next, **{waits_for: True}), near.fileno()
        )
        monkeypatch.setattr(watched, "is_free", free.is_set)

        def known():
            read = [entry.watched() for entry in [*service._read.values()]]
            return near.fileno() in service._poller.get_map() or watched in read

        _keepalive.watch(watched, monotonic())
        assert watched.was_looked_after(1)
        until(known)
        watched.moments.clear()  # it is closed
        for _ in range(100):
            _keepalive.watch(Watched([]), monotonic() + AGES)
            _keepalive.forget()
        far.send(b"x")
        free.set()
        until(lambda: not known())
        _keepalive.watch(after := Watched([]), monotonic())
        assert after.was_looked_after(1)
        assert not watched.looked.acquire(blocking=False)


def test_where_it_cannot_listen_all_are_looked_after(monkeypatch, caplog):
    """As `select` has it where one of the descriptors was closed."""
    service = _keepalive._service()
    near, far = socket.socketpair()
    with near, far:
        watched = Watched([AGES, AGES], partial(_keepalive.Next, readable=True), near.fileno())
        _keepalive.watch(watched, monotonic())
        assert watched.was_looked_after(1)
        until(lambda: near.fileno() in service._poller.get_map())

        def fail(_):
            monkeypatch.undo()
            raise OSError(errno.EBADF, "Bad file descriptor")

        monkeypatch.setattr(service._poller, "select", fail)
        _keepalive.watch(Watched([]), monotonic())
        assert watched.was_looked_after(1)
        assert not caplog.records


def test_one_whose_descriptor_was_anothers_is_listened_for(caplog):
    (near, far), (new, new_far) = socket.socketpair(), socket.socketpair()
    with near, far, new, new_far:
        listening = partial(_keepalive.Next, readable=True)
        before, after = (Watched([AGES, AGES], listening, near.fileno()) for _ in range(2))
        _keepalive.watch(before, monotonic())
        assert before.was_looked_after(1)
        until(lambda: near.fileno() in _keepalive._service()._poller.get_map())
        os.dup2(new.fileno(), near.fileno())  # closed, and the number is given out again at once
        _keepalive.watch(after, monotonic())
        assert after.was_looked_after(1)
        new_far.send(b"x")
        assert after.was_looked_after(1)
        assert not before.looked.acquire(blocking=False)
        assert not caplog.records


def test_one_that_is_gone_is_forgotten():
    gone = Watched([])
    reference = weakref.ref(gone)
    _keepalive.watch(gone, monotonic() + AGES)
    del gone
    until(lambda: (gc.collect(), reference())[1] is None)  # the thread may just be looking


def test_newcomers_are_looked_after_in_their_turn():
    first, second = Watched([]), Watched([])
    for watched in (first, second):
        assert _keepalive.welcome(watched, monotonic() - _keepalive.FIRST)
    assert first.was_looked_after(1)
    assert second.was_looked_after(1)


def test_newcomers_that_are_gone_by_their_time_leave_nothing(monkeypatch):
    service, rung = _keepalive._Service(), []
    monkeypatch.setattr(service, "start", lambda: True)
    monkeypatch.setattr(service, "_wake", lambda: rung.append(1))
    stays, later = Watched([]), Watched([])
    long_ago = monotonic() - 2 * _keepalive.FIRST
    for watched in (*(Watched([]) for _ in range(100)), stays, *(Watched([]) for _ in range(100))):
        assert service.welcome(watched, long_ago)
    assert service.welcome(later, monotonic())
    del watched
    gc.collect()
    service._take_in()
    assert [entry.watched() for entry in service._entries] == [stays]
    assert [reference() for _, reference in service._newcomers] == [later]


def test_newcomers_wake_the_thread_until_it_has_seen_one(monkeypatch):
    """Of two that come at once neither may count on the other."""
    service, rung, stays = _keepalive._Service(), [], [Watched([]) for _ in range(4)]
    monkeypatch.setattr(service, "start", lambda: True)
    monkeypatch.setattr(service, "_wake", lambda: rung.append(1))
    assert service._left() > 2  # which finds none
    for number, watched in enumerate(stays[:2], 1):
        assert service.welcome(watched, monotonic())
        assert len(rung) == number
    assert service._left() < 2  # which finds two
    assert service.welcome(stays[2], monotonic() - 2 * _keepalive.FIRST)
    assert len(rung) == 2
    service._newcomers.clear()
    assert service._left() > 2
    assert service.welcome(stays[3], monotonic())
    assert len(rung) == 3


def test_closed_connections_do_not_pile_up():
    service = _keepalive._service()
    alive = Watched([AGES])  # with the descriptor 0, which one of a program without stdin has
    _keepalive.watch(alive, monotonic() + AGES)
    for _ in range(300):
        _keepalive.watch(Watched([]), monotonic() + AGES)
        _keepalive.forget()
    assert len(service._entries) < 200
    assert any(entry.watched() is alive for entry in service._entries)


@pytest.mark.abuse(63)
@pytest.mark.parametrize("call", ["watch", "welcome"])
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_a_thread_that_could_not_be_started_is_started_later(monkeypatch, error, call):
    service, failures, started = _keepalive._Service(), [error], []

    def start(thread):
        if failures:
            raise failures.pop()
        started.append(thread.name)

    monkeypatch.setattr(threading.Thread, "start", start)
    watched = [Watched([]) for _ in range(3)]
    assert [getattr(service, call)(each, monotonic() + AGES) for each in watched] == [
        *(False, True, True)
    ]
    assert started == [_keepalive.NAME]
    assert len(service._entries) + len(service._newcomers) == 2  # the first one was not noted
    service._alarm.close()


class Closing(ByMethod):
    """A transport in whose calls somebody closes the connection, as a signal handler may."""

    def __init__(self, sock, call):
        super().__init__(sock)
        self.call = call
        self.conn = None

    def _close(self, call):
        if self.call == call and self.conn is not None:
            conn, self.conn = self.conn, None
            conn.close()

    def wait(self, *args, **keywords):
        self._close("wait")
        super().wait(*args, **keywords)

    def read_into(self, *args):
        self._close("read")
        return super().read_into(*args)

    def peek(self, size):
        self._close("peek")
        return super().peek(size)


def test_close_inside_a_ping_leaves_nothing():
    near, far = tcp_pair()
    with far:
        transport = Closing(near, "wait")
        transport.conn = conn = connection(transport)
        assert conn.ping(10) is None
        assert conn.fileno() == -1
        assert conn.close_code == 1000


@pytest.mark.parametrize("call", ["peek", "read"])
def test_close_while_keepalive_reads_leaves_nothing(call):
    near, far = tcp_pair()
    with far:
        transport = Closing(near, call)
        conn = connection(transport, ping_interval=1000)
        assert conn._pinger.look_after() is not None
        far.sendall(frame(PING))
        arrived(conn)
        transport.conn = conn
        conn._pinger.look_after()
        assert conn.fileno() == -1
        assert conn._pinger.look_after() is None


def test_keepalive_does_not_read_what_nobody_takes(monkeypatch):
    with raw_peer(ping_interval=1000, ping_timeout=1) as (conn, peer):
        conn._pinger._liveness.asked -= 1000
        assert conn._pinger.look_after() is not None  # it asks
        read_ping(peer)
        peer.sendall(frame(TEXT, b"x"))
        monkeypatch.setattr(conn._intake, "_max_backlog", 0)
        later = conn._pinger.look_after()
        assert later.moment > monotonic() + 500  # when it is time for the next ping
        assert not unread(conn)
        monkeypatch.undo()
        assert conn.receive(10) == "x"
