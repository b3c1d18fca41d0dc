"""Closing against raw peers, on real sockets: the close frame, the waiting, calls afterwards."""

import contextlib
import os
import socket
import sys
import threading

import pytest

from frames import BINARY, CLOSE, PING, TEXT, close_frame, frame
from looped import looped
from pairs import (
    KIB,
    MIB,
    SOON,
    ByMethod,
    Counted,
    Running,
    arrived,
    at_least,
    both_ends,
    connection,
    ended,
    raw_peer,
    receive_close,
    receive_frame,
    receive_to_end,
    reset,
    roles,
    running,
    tcp_pair,
    until,
)
from scriptling_ws import ConnectionClosed, ProtocolError, SendTimeout, WebSocketError
from scriptling_ws._connection import intake as _intake
from scriptling_ws._network import locks as _locks
from scriptling_ws._network.locks import attempt

# -- closing ---------------------------------------------------------------


@looped("code", [1000, 1001, 1003, *range(1007, 1015), 3000, 4000, 4999])
@roles
def test_closing_with_a_code_and_a_reason(client, code):
    def answer(peer):
        assert receive_close(peer) == (code, "gr\xfc\xdfe")
        peer.sendall(close_frame(code, "gr\xfc\xdfe".encode(), mask=not client))
        if client:
            peer.shutdown(socket.SHUT_WR)
        assert receive_to_end(peer) == b""
        peer.close()

    with raw_peer(client=client) as (conn, peer), running(lambda: answer(peer)):
        descriptor = conn.fileno()
        assert (conn.close_code, conn.close_reason) == (None, None)
        conn.close(code, "gr\xfc\xdfe")
        assert (conn.close_code, conn.close_reason) == (code, "gr\xfc\xdfe")
        assert conn.fileno() == -1
        assert conn.connected() is False
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(descriptor)


@pytest.mark.abuse(52)
@looped(
    ("code", "reason", "error", "says"),
    [(code, "", ValueError, str(code)) for code in (0, 1, 999, 1002, 1004, 1005, 1006, 1015, 1016)]
    + [(code, "", ValueError, str(code)) for code in (-1, 2999, 5000, 65_536, 2**40)]
    + [(999, "", ValueError, "a registered one from 3000 to 3999, or one of your own from 4000")]
    + [
        ("1000", "", TypeError, "int"),
        (1000.0, "", TypeError, "int"),
        (True, "", TypeError, "int"),
        (None, "", TypeError, "int"),
        (1000, b"bye", TypeError, "str"),
        (1000, None, TypeError, "str"),
        (1000, "x" * 124, ValueError, "123"),
        (1000, "\u20ac" * 42, ValueError, "123"),
        (1000, "\ud800", ValueError, "surrogate"),
    ],
)
def test_what_may_not_be_in_a_close_frame(code, reason, error, says):
    with raw_peer() as (conn, peer):
        with pytest.raises(error, match=says):
            conn.close(code, reason)
        assert conn.connected()
        conn.send("still open")
        assert receive_frame(peer) == (0x81, b"still open")


def test_a_reason_of_123_bytes():
    with raw_peer(close_timeout=0) as (conn, peer):
        conn.close(1000, "\u20ac" * 41)
        assert receive_close(peer) == (1000, "\u20ac" * 41)


@pytest.mark.abuse(50)
@pytest.mark.parametrize("timeout", [0, 0.1, 0.3])
@roles
def test_a_peer_that_never_answers_a_close(client, timeout):
    with raw_peer(client=client, close_timeout=timeout) as (conn, peer):
        with at_least(timeout, 5):
            conn.close(1001, "going")
        assert conn.fileno() == -1
        assert conn.connected() is False
        assert (conn.close_code, conn.close_reason) == (1001, "going")
        assert receive_close(peer) == (1001, "going")
        assert receive_to_end(peer) == b""


@pytest.mark.parametrize(
    "noise", [frame(TEXT, b"x" * 1000), frame(PING), frame(BINARY, bytes(200_000))[:-1]]
)
def test_a_peer_that_answers_a_close_with_anything_else_for_ever(noise):
    with raw_peer(close_timeout=0.2) as (conn, peer):

        def shout():
            peer.settimeout(None)
            with contextlib.suppress(OSError):
                while True:
                    peer.sendall(noise * 20)

        shouting = Running(shout)
        arrived(conn, 1000)
        with at_least(0, 5):
            conn.close()
        assert conn.fileno() == -1
        shouting.result()


def test_a_peer_that_answers_but_does_not_end_the_stream():
    with raw_peer(close_timeout=0.2) as (conn, peer):
        peer.sendall(close_frame())
        with at_least(0.15, 5):
            conn.close()
        assert conn.fileno() == -1


@pytest.mark.parametrize("answer", [b"", close_frame()], ids=["silent", "answers"])
def test_a_close_does_not_poll_beside_a_peer_that_does_not_end_the_stream(answer):
    with raw_peer(close_timeout=0.3, transport=Counted) as (conn, peer):
        peer.sendall(answer)
        conn.close()
        assert conn._link.transport.reads < 12  # a nap of a hundredth of a second each would be 30
        assert conn._link.transport.waits < 6


def test_a_peer_that_does_not_read_cannot_hold_up_a_close():
    with raw_peer(close_timeout=0.2, send_timeout=0.1) as (conn, _):
        with pytest.raises((SendTimeout, ConnectionClosed)):
            while True:
                conn.send_binary(bytes(60_000))
        with at_least(0, 5):
            conn.close()
        assert conn.fileno() == -1


def test_a_second_close_does_nothing():
    with raw_peer(close_timeout=SOON) as (conn, peer):
        closing = Running(conn.close, 4000, "first")
        assert receive_close(peer) == (4000, "first")
        peer.sendall(close_frame(4000, b"first"))
        peer.shutdown(socket.SHUT_WR)
        closing.result()
        with at_least(0, SOON / 2):
            conn.close(4001, "second")
            conn.close()
        assert (conn.close_code, conn.close_reason) == (4000, "first")
        assert receive_to_end(peer) == b""


@roles
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("end", [socket.socket.close, reset], ids=["close", "reset"])
def test_a_close_is_over_once_the_peer_has_ended_the_stream(client, answers, end):
    with raw_peer(client=client, close_timeout=3 * SOON) as (conn, peer):
        closing = Running(conn.close)
        assert receive_close(peer) == (1000, "")
        if answers:
            peer.sendall(close_frame(mask=not client))
        end(peer)
        closing.result(SOON)
        assert conn.fileno() == -1


@pytest.mark.abuse(49)
def test_both_ends_close_at_the_same_time():
    with (
        both_ends() as (client, server),
        running(lambda: client.close(4001, "client"), lambda: server.close(4002, "server")),
    ):
        pass
    assert client.close_code in (4001, 4002)
    assert server.close_code in (4001, 4002)


@pytest.mark.abuse(49)
def test_a_close_frame_that_crosses_ours():
    with raw_peer() as (conn, peer):
        peer.sendall(close_frame(4002, b"theirs"))
        peer.shutdown(socket.SHUT_WR)
        conn.close(4001, "ours")
        assert (conn.close_code, conn.close_reason) == (4001, "ours")
        assert receive_close(peer) == (4001, "ours")
        assert receive_to_end(peer) == b""


def test_closing_after_the_peer_has_keeps_its_code():
    with raw_peer() as (conn, peer):
        peer.sendall(close_frame(4002, b"theirs"))
        peer.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) is None
        conn.close(4001, "ours")
        assert (conn.close_code, conn.close_reason) == (4002, "theirs")
        assert receive_close(peer) == (4002, "theirs")
        assert receive_to_end(peer) == b""


@roles
def test_a_close_frame_without_a_code(client):
    with raw_peer(client=client) as (conn, peer):
        peer.sendall(frame(CLOSE, mask=not client))
        peer.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) is None
        assert (conn.close_code, conn.close_reason) == (1005, "")
        assert receive_frame(peer) == (0x88, b"")


# RFC 6455 section 7.1.1: the server ends the stream, the client waits for that.
def test_a_server_ends_the_stream_first():
    with raw_peer(client=False) as (conn, peer):
        peer.sendall(close_frame(mask=True))
        assert conn.receive(0.1) is None
        assert receive_close(peer) == (1000, "")
        assert peer.recv(1) == b""
        assert conn.fileno() >= 0  # it still waits for the client's
        peer.close()
        ended(conn)
        assert conn.receive(SOON) is None
        assert conn.fileno() == -1


def test_a_client_waits_for_the_server_to_end_the_stream():
    with raw_peer() as (conn, peer):
        peer.sendall(close_frame())
        assert conn.receive(0.1) is None
        assert receive_close(peer) == (1000, "")
        peer.settimeout(0.1)
        with pytest.raises(TimeoutError):
            peer.recv(1)
        peer.shutdown(socket.SHUT_WR)
        ended(conn)
        assert conn.connected() is False
        assert conn.fileno() == -1


# On the wire: the close frame, then the end, within close_timeout.
@pytest.mark.abuse(33, 39, 40)
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(TEXT, b"hello", mask=True), 1002),
        (frame(TEXT, b"\xff"), 1007),
        (frame(BINARY, bytes(1001)), 1009),
        (b"HTTP/1.1 200 OK\r\n", 1002),
    ],
    ids=["masked", "text", "size", "http"],
)
def test_a_violation_is_answered_and_ends_the_stream(data, code):
    with raw_peer(max_message_size=1000, close_timeout=0.2) as (conn, peer):
        peer.sendall(data)
        assert conn.receive(SOON) is None
        assert conn.connected() is False
        assert receive_close(peer)[0] == code
        assert receive_to_end(peer) == b""
        assert conn.close_code == code
        with pytest.raises(ConnectionClosed) as caught:
            conn.send("x")
        assert caught.value.__cause__.code == code


@roles
def test_a_receive_during_a_close_does_not_wait_for_the_peer(client):
    with raw_peer(client=client, close_timeout=SOON) as (conn, peer):
        waiting = [Running(conn.receive, None) for _ in range(3)]
        until(lambda: conn._intake.waiters == 2)
        closing = Running(conn.close)
        with at_least(0, SOON / 2):
            receive_close(peer)
            for each in (*waiting, Running(conn.receive, None)):
                assert each.result() is None
        assert not closing.done()
        peer.close()
        closing.result()


def test_a_receive_in_turn_takes_what_a_shutdown_leaves_ready():
    with raw_peer(close_timeout=SOON) as (conn, peer):
        peer.sendall(frame(TEXT, b"before"))
        assert conn._intake.lock.acquire()
        waiting = Running(conn.receive, SOON)
        until(lambda: conn._intake.waiters)
        conn._intake.read_some(nap=False)
        conn._begin_close(1001)
        assert waiting.result() == "before"
        conn._intake.lock.release()


def test_close_drops_messages_that_were_not_received():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"a") + frame(TEXT, b"b"))
        assert conn.receive(SOON) == "a"
        peer.sendall(frame(TEXT, b"c") + close_frame())
        peer.shutdown(socket.SHUT_WR)
        conn.close()
        assert conn.connected() is False
        assert conn.receive(SOON) is None
        assert list(conn) == []


def test_a_context_closes():
    with raw_peer(close_timeout=0) as (conn, peer):
        with conn as same:
            assert same is conn
        assert receive_close(peer) == (1000, "")
        assert conn.fileno() == -1


@pytest.mark.parametrize(("error", "code"), [(ValueError, 1011), (KeyboardInterrupt, 1000)])
def test_a_context_that_raises(error, code):
    with raw_peer(close_timeout=0) as (conn, peer):
        with pytest.raises(error), conn:
            raise error
        assert receive_close(peer) == (code, "")


def test_begin_close_keeps_what_has_come():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"a") + frame(TEXT, b"b"))
        arrived(conn, 6)
        assert conn.connected()
        conn._begin_close(1001, "shutdown")
        assert receive_close(peer) == (1001, "shutdown")
        peer.sendall(frame(TEXT, b"late") + close_frame(1001))
        peer.shutdown(socket.SHUT_WR)
        assert conn.connected()
        assert conn.receive(SOON) == "a"
        assert list(conn) == ["b"]
        assert conn.connected() is False


def test_what_another_thread_brings_after_a_close_does_not_connect_again():
    with raw_peer() as (conn, _):
        conn._begin_close(1001)
        assert conn.connected() is False
        conn._ready.append("late")  # as a receiver that had begun before the close
        assert conn.connected() is False
        assert conn.receive(0) == "late"


class Struck(ByMethod):
    """One in whose `send` the connection is closed, as a signal handler may do that."""

    conn = None

    @property
    def send(self):
        return self._send_and_close

    def _send_and_close(self, *_):
        if self.conn is not None:
            self.conn.close()
        raise BlockingIOError


@pytest.mark.abuse(70)
def test_close_as_a_send_begins_leaves_no_descriptor(monkeypatch):
    monkeypatch.setattr(_intake, "_LEAVE", 0.01)
    with raw_peer(close_timeout=0.05, transport=Struck) as (conn, _):
        conn._link.transport.conn = conn
        with pytest.raises(ConnectionClosed):
            conn.send("too late")
        assert conn.fileno() == -1


@pytest.mark.abuse(70)
def test_close_as_a_send_begins_waits_once_for_the_sender_to_leave(monkeypatch):
    def noting(lock, timeout=0.0, **more):
        if lock is conn._outlet.lock:
            waits.append(timeout)
        return attempt(lock, timeout, **more)

    waits = []
    monkeypatch.setattr(_intake, "_LEAVE", 0.01)
    monkeypatch.setattr(_locks, "attempt", noting)
    with raw_peer(close_timeout=0.05) as (conn, _), conn._outlet.lock:
        conn.close()
        assert 0 < sum(waits) <= 0.01


def test_a_close_waits_for_a_sender_for_a_second_at_most(monkeypatch):
    def noting(lock, timeout=0.0, **more):
        if lock is conn._outlet.lock and timeout:
            waits.append(timeout)
        return attempt(lock, **more)

    waits = []
    monkeypatch.setattr(_locks, "attempt", noting)
    with raw_peer(close_timeout=0) as (conn, _), conn._outlet.lock:
        conn.close()
        assert 0.5 < max(waits) <= 1  # what is left of it, should it ask again


class Closing(ByMethod):
    """One in whose wait the connection is closed, as a signal handler may do that."""

    def wait(self, *arguments, **keywords):
        if self.conn is not None:
            conn, self.conn = self.conn, None
            conn.close()
        super().wait(*arguments, **keywords)


@pytest.mark.abuse(70)
def test_a_close_inside_a_receive_does_not_wait_for_its_end(monkeypatch):
    def noting(lock, timeout=0.0, **more):
        if lock is conn._intake.lock:
            waits.append(timeout)
        return attempt(lock, timeout, **more)

    waits = []
    with raw_peer(transport=Closing, close_timeout=SOON) as (conn, _):
        conn._link.transport.conn = conn
        monkeypatch.setattr(_locks, "attempt", noting)
        assert conn.receive(SOON) is None
        assert waits == [0]
        assert conn.fileno() == -1


class Holding(ByMethod):
    """A transport whose waits end only when they may."""

    def __init__(self, sock):
        super().__init__(sock)
        self.inside, self.may_leave = threading.Event(), threading.Event()

    def wait(self, *arguments, **keywords):
        self.inside.set()
        super().wait(*arguments, **keywords)
        assert self.may_leave.wait(SOON)


@pytest.mark.abuse(70)
def test_a_close_gives_another_threads_receive_its_time_to_leave():
    near, far = tcp_pair()
    transport = Holding(near)
    conn = connection(transport, close_timeout=0.2, ping_interval=None)
    with far:
        receiving = Running(conn.receive, None)
        assert transport.inside.wait(SOON)
        with at_least(0.2):
            conn.close()
        assert not receiving.done()
        transport.may_leave.set()
        assert receiving.result() is None
        assert conn.fileno() == -1


def test_the_end_of_close_timeout_ends_a_receive_and_the_connection():
    with raw_peer(close_timeout=0.05, ping_interval=None) as (conn, peer):
        peer.sendall(close_frame())  # and the stream goes on
        with at_least(0.04):
            assert conn.receive(SOON) is None
        assert conn.fileno() == -1


def test_connected_does_not_wait_for_the_streams_end():
    with raw_peer(transport=Counted) as (conn, peer):
        peer.sendall(close_frame())
        arrived(conn)
        assert not conn.connected()
        assert conn._link.transport.waits <= 1  # which comes back at once
        with at_least(0, 0.9):
            assert not conn.connected()


def test_after_an_abort_nothing_is_read_any_more():
    with raw_peer(transport=Counted) as (conn, peer):
        peer.sendall(frame(TEXT, b"first") + frame(TEXT, b"second"))
        arrived(conn, 15)
        assert conn.receive(SOON) == "first"
        peer.sendall(frame(TEXT, b"too late"))
        arrived(conn, 10)
        before = conn._link.transport.reads
        conn._abort()
        assert conn.receive(SOON) == "second"
        assert conn.receive(SOON) is None
        assert conn._link.transport.reads == before
        assert not conn.connected()


def test_what_a_close_reads_of_a_peer_that_goes_on_sending_is_bounded():
    class Endless(ByMethod):
        """One whose peer sends at once, without end, what no other end would."""

        read = -1  # none, before the close

        def read_into(self, buffer, nap=False):
            if self.read < 0:
                return super().read_into(buffer, nap)
            self.read += len(buffer)
            return len(buffer)

    with raw_peer(transport=Endless, close_timeout=None) as (conn, peer):
        peer.sendall(close_frame())
        arrived(conn)
        with conn._intake.lock:
            conn._intake.read_some(nap=False)
        conn._link.transport.read = 0
        conn.close()
        assert 16 * MIB < conn._link.transport.read < 17 * MIB


# -- after the end ---------------------------------------------------------


@pytest.mark.abuse(81)
@pytest.mark.parametrize("how", ["by peer", "by us", "by violation"])
def test_calls_on_a_closed_connection_ten_thousand_times(how):
    with raw_peer() as (conn, peer):
        if how == "by us":
            peer.sendall(close_frame())
            peer.shutdown(socket.SHUT_WR)
            conn.close(4000, "bye")
        else:
            peer.sendall(close_frame(4000, b"bye") if how == "by peer" else frame(3))
            peer.shutdown(socket.SHUT_WR)
            assert conn.receive(SOON) is None
        for _ in range(10_000):
            with pytest.raises(ConnectionClosed) as caught:
                conn.send("x")
            assert conn.receive(30) is None
        with pytest.raises(ConnectionClosed):
            conn.send_binary([1])
        with pytest.raises(ConnectionClosed):
            conn.send_many(["a"])
        assert conn.receive_many() == []
        assert list(conn) == []
        assert caught.value.code == conn.close_code
        assert caught.value.reason == conn.close_reason
        assert isinstance(caught.value, WebSocketError)
        if how == "by violation":
            assert isinstance(caught.value.__cause__, ProtocolError)
            assert caught.value.__cause__.code == 1002
        elif how == "by peer":
            assert (caught.value.code, caught.value.reason) == (4000, "bye")


def test_bad_input_is_refused_on_a_closed_connection_too():
    with raw_peer() as (conn, peer):
        peer.close()
        assert conn.receive(SOON) is None
        with pytest.raises(TypeError, match="send_binary"):
            conn.send(b"x")
        with pytest.raises(ValueError, match="256"):
            conn.send_binary([256])
        with pytest.raises(ValueError, match="timeout"):
            conn.receive(-1)
        with pytest.raises(ValueError, match="1005"):
            conn.close(1005)


# -- what was sent before --------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="what the kernel tells")
@roles
def test_what_was_sent_arrives_at_a_peer_that_reads_slowly(client):
    near, far = tcp_pair(64 * KIB)
    conn = connection(near, client=client, close_timeout=0.1, ping_interval=None)
    size = 2 * MIB
    with far:
        far.settimeout(SOON)
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)
        conn.send_binary(bytes(size))
        closing = Running(conn.close, 1000, "and goodbye")
        got, pause = 0, threading.Event()
        while not closing.done():
            got += len(far.recv(64 * KIB))
            with contextlib.suppress(OSError):
                far.send(frame(TEXT, b"ack", mask=not client))
            pause.wait(0.02)
        got += len(receive_to_end(far))
        assert got > size  # and the close frame
    closing.result()


@pytest.mark.abuse(50)
def test_a_peer_that_reads_nothing_of_what_was_sent_is_not_waited_for():
    near, far = tcp_pair(64 * KIB)
    conn = connection(near, close_timeout=0.1, ping_interval=None)
    with far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MIB)
        conn.send_binary(bytes(MIB))
        with at_least(0.1, 2):
            conn.close()
        assert conn.fileno() == -1


@pytest.mark.skipif(sys.platform != "linux", reason="what the kernel tells")
def test_a_peer_that_takes_its_time_over_what_was_sent_has_send_timeout():
    near, far = tcp_pair(64 * KIB)
    conn = connection(near, close_timeout=0.05, send_timeout=0.3, ping_interval=None)
    with far:
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * MIB)
        conn.send_binary(bytes(4 * MIB))
        pause, taken = threading.Event(), 0
        with at_least(0.3):
            closing = Running(conn.close)
            while not closing.done():
                taken += len(far.recv(16 * KIB))
                pause.wait(0.01)
        closing.result()
        assert taken < 3 * MIB  # and all of it if it had as long as it takes


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no sockets of which none counts")
def test_where_the_kernel_tells_nothing_a_close_has_close_timeout():
    near, far = socket.socketpair()
    conn = connection(near, close_timeout=0.1, ping_interval=None)
    with far:
        with at_least(0.1):
            conn.close()
        assert receive_close(far) == (1000, "")
        assert conn.fileno() == -1
