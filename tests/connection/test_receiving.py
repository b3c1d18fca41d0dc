"""Receiving against raw peers, on real sockets: messages, timeouts, and the end as it is seen."""

import contextlib
import math
import os
import random
import select
import socket
import sys
import threading
import time

import pytest

from frames import BINARY, CONTINUATION, PING, PONG, TEXT, close_frame, frame
from looped import looped
from memory import counts_references, tracemalloc
from pairs import (
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
    reset,
    roles,
    running,
    stand_in,
    tcp_pair,
    unread,
    until,
)
from scriptling_ws import ConnectionClosed
from scriptling_ws import _kernel as _frame
from scriptling_ws._network import waiting as _waiting
from scriptling_ws._network.transport import NAP

# -- messages and timeouts -------------------------------------------------


@roles
def test_receiving_text_and_binary(client):
    with raw_peer(client=client) as (conn, peer):
        peer.sendall(frame(TEXT, "h\xfc\u20ac".encode(), mask=not client))
        peer.sendall(frame(BINARY, bytes(range(256)), mask=not client))
        assert conn.receive(SOON) == "h\xfc\u20ac"
        assert conn.receive(SOON) == list(range(256))


def test_binary_as_bytes():
    with raw_peer(binary_type=bytes) as (conn, peer):
        peer.sendall(frame(BINARY, b"\x00\xff") + frame(BINARY))
        assert conn.receive(SOON) == b"\x00\xff"
        assert conn.receive(SOON) == b""


@pytest.mark.abuse(47)
def test_empty_messages_are_not_none():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT) + frame(BINARY))
        assert conn.receive(SOON) == ""
        assert conn.receive(SOON) == []


@contextlib.contextmanager
def held(*locks):
    """Locks that another thread has."""
    taken, done = threading.Event(), threading.Event()

    def hold():
        with contextlib.ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            taken.set()
            assert done.wait(SOON), "somebody waited for a lock"

    with running(hold):
        assert taken.wait(SOON)
        try:
            yield
        finally:
            done.set()


def test_messages_that_are_ready_are_received_without_a_lock():
    with raw_peer() as (conn, peer):
        peer.sendall(b"".join(frame(TEXT, text) for text in (b"a", b"b", b"c", b"d")))
        assert conn.receive(SOON) == "a"
        with held(conn._intake.lock, conn._outlet.lock, conn._link.lifecycle.lock):
            assert conn.receive(0) == "b"
            assert next(iter(conn)) == "c"
            assert conn.receive_many(timeout=0) == ["d"]


def test_a_message_is_sent_by_one_lock():
    with raw_peer() as (conn, peer):
        with held(conn._intake.lock, conn._link.lifecycle.lock):
            conn.send("a")
            conn.send_binary([1])
        assert receive_frame(peer) == (0x81, b"a")
        assert receive_frame(peer) == (0x82, b"\x01")


def test_what_came_with_the_handshake_comes_first():
    near, far = tcp_pair()
    far.sendall(frame(TEXT, b"second"))
    conn = connection(near, received=frame(TEXT, b"first") + frame(PING, b"p"))
    with far:
        assert receive_frame(far) == (0x8A, b"p")
        assert conn.receive(SOON) == "first"
        assert conn.receive(SOON) == "second"
        far.sendall(close_frame())
        far.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) is None
        conn.close()


def test_half_a_frame_with_the_handshake():
    near, far = tcp_pair()
    conn = connection(near, received=frame(TEXT, b"whole")[:3])
    with far:
        assert conn.receive(0) is None
        far.sendall(frame(TEXT, b"whole")[3:])
        assert conn.receive(SOON) == "whole"
        far.close()
        conn.close()


def test_a_violation_with_the_handshake():
    near, far = tcp_pair()
    far.settimeout(SOON)
    conn = connection(near, received=frame(TEXT, b"good") + frame(3))
    with far:
        assert conn.receive(SOON) == "good"
        assert not conn.connected()
        assert receive_close(far)[0] == 1002
        far.close()
        conn.close()


@roles
@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"opcode": 3}, 1002),
        ({"opcode": CONTINUATION}, 1002),
        ({"opcode": TEXT, "payload": b"\xff"}, 1007),
        ({"opcode": TEXT, "payload": b"\xff", "fin": False}, 1007),
    ],
)
def test_messages_before_a_violation_can_be_answered(client, bad, code):
    mask = not client
    with raw_peer(client=client) as (conn, peer):
        peer.sendall(frame(TEXT, b"good", mask=mask) + frame(**bad, mask=mask))
        assert conn.receive(SOON) == "good"
        conn.send("answer")
        assert receive_frame(peer) == (0x81, b"answer")
        assert conn.receive(SOON) is None
        assert receive_close(peer)[0] == code
        with pytest.raises(ConnectionClosed):
            conn.send("late")


# The timeout strikes after each byte of a message in three frames, a ping between them.
@pytest.mark.abuse(66)
@roles
def test_a_timeout_after_each_byte_of_a_fragmented_message(client):
    mask = not client
    data = (
        frame(TEXT, "\u20acins ".encode()[:2], fin=False, mask=mask)
        + frame(PING, b"ping", mask=mask)
        + frame(CONTINUATION, "\u20acins ".encode()[2:] + b"x" * 130, fin=False, mask=mask)
        + frame(CONTINUATION, b" zwei", mask=mask)
    )
    with raw_peer(client=client) as (conn, peer):
        for index, byte in enumerate(data):
            peer.sendall(bytes([byte]))
            arrived(conn)
            message = conn.receive(0.001 if index % 10 == 0 else 0)
            assert (message is None) is (index < len(data) - 1)
            assert conn.connected()
        assert message == "\u20acins " + "x" * 130 + " zwei"
        assert receive_frame(peer) == (0x8A, b"ping")
        conn.send("done")
        assert receive_frame(peer) == (0x81, b"done")


@pytest.mark.abuse(66)
def test_a_timeout_in_a_large_message():
    payload = os.urandom(300_000)
    data = frame(BINARY, payload)
    with raw_peer(binary_type=bytes) as (conn, peer):
        for start in range(0, len(data), 10_001):
            assert conn.receive(0) is None
            peer.sendall(data[start : start + 10_001])
            arrived(conn)
        assert conn.receive(SOON) == payload


# Invariant 6.
@pytest.mark.parametrize("seed", range(3))
def test_random_timeouts_lose_duplicate_and_reorder_nothing(seed):
    rng = random.Random(seed)
    messages = [rng.randbytes(rng.choice([0, 1, 10, 125, 126, 5000, 70_000])) for _ in range(300)]
    data = b"".join(frame(BINARY, message) for message in messages)

    def send(peer):
        at = 0
        while at < len(data):
            size = rng.choice([1, 2, 10, 1000, 50_000])
            peer.sendall(data[at : at + size])
            at += size

    with raw_peer(binary_type=bytes) as (conn, peer), running(lambda: send(peer)):
        timeouts = random.Random(seed + 100)
        got = []
        end = time.monotonic() + SOON
        while len(got) < len(messages) and time.monotonic() < end:
            message = conn.receive(timeouts.choice([0, 0, 0.0001, 0.001, 0.02]))
            if message is not None:
                got.append(message)
        assert got == messages


@pytest.mark.abuse(83)
def test_zero_takes_what_is_there():
    with raw_peer() as (conn, peer):
        assert conn.receive(0) is None
        data = frame(TEXT, b"a") + frame(TEXT, b"b")
        peer.sendall(data)
        arrived(conn, len(data))
        assert conn.receive(0) == "a"
        assert conn.receive(0) == "b"
        assert conn.receive(0) is None


def test_zero_takes_a_message_that_is_larger_than_a_window():
    data = frame(TEXT, b"x" * 60_000)
    with raw_peer() as (conn, peer):
        peer.sendall(data)
        arrived(conn, len(data))
        assert conn.receive(0) == "x" * 60_000


def test_how_often_a_quiet_connection_is_read():
    with raw_peer(transport=Counted) as (conn, _):
        for _ in range(20):
            assert conn.receive(0) is None
        assert (conn._link.transport.reads, conn._link.transport.waits) == (20, 0)
    with raw_peer(transport=Counted) as (conn, _):
        assert conn.receive(0.1) is None
        # At first, after the wait, and where the clock is coarse once more.
        assert conn._link.transport.reads <= 3
        assert conn._link.transport.waits <= 2
        assert conn._link.transport.naps[0]
        assert not any(conn._link.transport.naps[1:])


def test_a_timeout_that_is_shorter_than_a_nap_is_waited_for_without_one():
    with raw_peer(transport=Counted) as (conn, _):
        assert conn.receive(NAP / 2) is None
        assert not any(conn._link.transport.naps)


@pytest.mark.parametrize("timeout", [0, SOON])
def test_whatever_is_received_shows_keepalive_that_the_peer_lives(timeout):
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"x"))
        arrived(conn, 3)
        conn._link.channel.heard = False
        assert conn.receive(timeout) == "x"
        assert conn._link.channel.heard


@pytest.mark.parametrize("timeout", [0.001, 0.05, 0.2])
def test_a_timeout_is_kept(timeout):
    with raw_peer() as (conn, _), at_least(timeout):
        assert conn.receive(timeout) is None
        assert conn.connected()


@pytest.mark.abuse(83)
@pytest.mark.parametrize("timeout", [None, math.inf, 1e12, 30])
def test_long_timeouts(timeout):
    with raw_peer() as (conn, peer):
        receiving = Running(conn.receive, timeout)
        peer.sendall(frame(TEXT, b"there"))
        assert receiving.result() == "there"


@pytest.mark.abuse(83)
@looped("message", [b"", frame(TEXT, b"there")])
@looped(
    ("timeout", "error"),
    [
        (-1, ValueError),
        (-0.1, ValueError),
        (math.nan, ValueError),
        (-math.inf, ValueError),
        ("5", TypeError),
        (b"1", TypeError),
        ([], TypeError),
        (1j, TypeError),
    ],
)
def test_bad_timeouts_take_nothing(timeout, error, message):
    with raw_peer() as (conn, peer):
        conn.send("x")
        if message:
            peer.sendall(message + message)
            assert conn.receive(SOON) == "there"  # and the other one is ready
        with pytest.raises(error, match="timeout"):
            conn.receive(timeout)
        with pytest.raises(error, match="timeout"):
            conn.receive_many(10, timeout)
        assert conn.receive(0) == ("there" if message else None)


@pytest.mark.abuse(83)
@pytest.mark.parametrize("timeout", [True, False])
def test_a_bool_is_no_timeout(timeout):
    with raw_peer() as (conn, _), pytest.raises(TypeError, match="bool"):
        conn.receive(timeout)


# The deadline holds however busy the peer keeps this end without a message.
@pytest.mark.parametrize(
    "noise", [frame(PING, b"x" * 100) * 1000, frame(PONG) * 20_000], ids=["pings", "pongs"]
)
@pytest.mark.parametrize("timeout", [0, 0.2])
def test_a_timeout_is_kept_while_noise_comes(noise, timeout):
    with raw_peer() as (conn, peer):
        peer.settimeout(0.05)

        def shout():
            with contextlib.suppress(OSError):
                while True:
                    with contextlib.suppress(TimeoutError):
                        peer.sendall(noise)

        def listen():
            with contextlib.suppress(OSError):
                while True:
                    with contextlib.suppress(TimeoutError):
                        assert peer.recv(MIB)

        shouting, listening = Running(shout), Running(listen)
        arrived(conn, 1000)
        with at_least(0.0, 30):  # where it is not kept, there is no end of it
            assert conn.receive(timeout) is None
        peer.shutdown(socket.SHUT_RDWR)
        for call in (shouting, listening):
            with contextlib.suppress(AssertionError):
                call.result()


# On the wire: pings of a peer that does not read.
@pytest.mark.abuse(54)
def test_pings_of_a_peer_that_does_not_read():
    with raw_peer() as (conn, peer):
        burst = frame(PING, bytes(125)) * 1000
        receiving = Running(conn.receive, None)
        for _ in range(60):
            peer.sendall(burst)
        peer.sendall(frame(TEXT, b"still there"))
        assert receiving.result() == "still there"
        assert sum(map(len, conn._link.protocol.outbox)) < MIB
        assert conn.connected()


@pytest.mark.parametrize(("limit", "open_"), [(None, True), (1000, False)])
def test_without_a_limit_any_length_may_be_announced(limit, open_):
    with raw_peer(max_message_size=limit) as (conn, peer):
        peer.sendall(b"\x01\x7f" + (2**40).to_bytes(8, "big"))
        arrived(conn)
        assert conn.receive(0.05) is None
        assert conn.connected() is open_


# -- the end, as the receiver sees it --------------------------------------


class Overtaken(ByMethod):
    """One whose reader has just got what came, when another thread begins to close."""

    begin_close = None

    @property
    def receive(self):
        return self._receive

    def _receive(self, buffer):
        count = self._recv_into(buffer)
        if self.begin_close:
            self.begin_close()
        return count


def test_a_message_that_comes_as_a_close_begins_is_dropped():
    with raw_peer(transport=Overtaken, close_timeout=0) as (conn, peer):
        peer.sendall(frame(TEXT, b"too late"))
        arrived(conn, 10)
        conn._link.transport.begin_close = lambda: conn._closer.start(1000, "", discard=True)
        assert conn.receive(SOON) is None
        assert not conn.connected()


@pytest.mark.abuse(53)
@pytest.mark.parametrize("how", ["close frame", "fin", "violation"])
def test_every_message_before_the_end_is_received_before_connected_turns_false(how):
    last = {"close frame": close_frame(4000, b"bye"), "fin": b"", "violation": frame(3)}[how]
    with raw_peer() as (conn, peer):
        peer.sendall(b"".join(frame(TEXT, b"%d" % number) for number in range(1000)) + last)
        peer.shutdown(socket.SHUT_WR)
        for number in range(1000):
            assert conn.connected()
            assert conn.receive(SOON) == str(number)
        assert conn.receive(SOON) is None
        assert conn.connected() is False
        assert conn.close_code == {"close frame": 4000, "fin": 1006, "violation": 1002}[how]
        assert [conn.receive(None) for _ in range(3)] == [None] * 3
        assert conn.connected() is False


# As far as a FIN or RST comes.
@pytest.mark.abuse(67)
@pytest.mark.parametrize("how", ["fin", "rst", "close frame"])
def test_connected_notices_a_peer_that_left_without_a_receive(how):
    with raw_peer() as (conn, peer):
        assert conn.connected() is True
        if how == "close frame":
            peer.sendall(close_frame())
            arrived(conn)
        elif how == "fin":
            peer.close()
        else:
            reset(peer)
        if how != "close frame":
            ended(conn)
        assert conn.connected() is False
        assert conn.close_code == (1000 if how == "close frame" else 1006)
        assert conn.connected() is False


def test_connected_is_true_while_a_message_waits_behind_the_end():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"last") + close_frame())
        peer.close()
        ended(conn)
        assert conn.connected() is True
        assert conn.connected() is True
        assert conn.receive(0) == "last"
        assert conn.connected() is False
        assert conn.receive(0) is None


def test_connected_does_not_block():
    with raw_peer() as (conn, peer):
        peer.sendall(b"\x81")  # half a header
        with at_least(0, 5):
            for _ in range(100):
                assert conn.connected()


@pytest.mark.abuse(68)
@looped("sent", [b"", b"\x81", frame(TEXT, b"hello")[:-1], frame(BINARY, bytes(200_000))[:-1]])
@looped("how", ["fin", "rst"])
@roles
def test_an_end_in_the_middle_of_a_frame(client, sent, how):
    if not client and len(sent) > 1:
        sent = sent[:1] + bytes([sent[1] | 0x80]) + sent[2:]
    with raw_peer(client=client) as (conn, peer):
        peer.sendall(sent)
        peer.close() if how == "fin" else reset(peer)
        assert conn.receive(SOON) is None
        assert conn.connected() is False
        assert conn.close_code == 1006
        assert conn.close_reason == ""
        with pytest.raises(ConnectionClosed) as caught:
            conn.send("x")
        assert caught.value.code == 1006


# No spin. A receive on a dead connection returns at once, whatever its timeout.
@pytest.mark.abuse(68)
def test_receiving_from_a_closed_connection_returns_at_once():
    with raw_peer() as (conn, peer):
        reset(peer)
        with at_least(0):
            assert [conn.receive(30) for _ in range(1000)] == [None] * 1000


def test_receiving_many():
    with raw_peer() as (conn, peer):
        peer.sendall(b"".join(frame(TEXT, b"%d" % number) for number in range(10)))
        arrived(conn, 30)
        assert conn.receive_many(3, SOON) == ["0", "1", "2"]
        assert conn.receive_many(100, SOON) == [str(number) for number in range(3, 10)]
        peer.sendall(frame(TEXT, b"x" * 5000) * 5)  # which take more than one read
        found = conn.receive_many(timeout=SOON)
        while len(found) < 5:
            found += conn.receive_many(timeout=SOON)
        assert found == ["x" * 5000] * 5
        with at_least(0.05):
            assert conn.receive_many(100, 0.05) == []
        assert conn.receive_many(timeout=0) == []
        for bad, error in [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)]:
            with pytest.raises(error, match="limit"):
                conn.receive_many(bad)


# -- iteration -------------------------------------------------------------


def test_iteration_ends_at_the_close():
    with raw_peer() as (conn, peer):
        peer.sendall(b"".join(frame(TEXT, b"%d" % number) for number in range(500)) + close_frame())
        peer.shutdown(socket.SHUT_WR)
        assert [int(message) for message in conn] == list(range(500))
        assert list(conn) == []
        assert conn.connected() is False


def test_iteration_goes_on_where_it_was_left():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"a") + frame(TEXT, b"b") + frame(TEXT, b"c") + close_frame())
        peer.shutdown(socket.SHUT_WR)
        for message in conn:
            assert message == "a"
            break
        assert conn.receive(SOON) == "b"
        assert list(conn) == ["c"]


@counts_references
def test_iteration_keeps_no_message_while_it_waits():
    taken = []

    def consume(conn):
        for message in conn:
            taken.append(message)
            del message

    with raw_peer(binary_type=bytes) as (conn, peer):
        consuming = Running(consume, conn)
        until(conn._intake.lock.locked)
        peer.sendall(frame(BINARY, b"x" * 1000))
        until(lambda: taken and conn._intake.lock.locked())
        references = sys.getrefcount(taken[0])  # not in the assert, which holds one more
        assert references == 2  # the list's and the call's
        peer.sendall(close_frame(1000))
        consuming.result()


@pytest.mark.abuse(81)
@pytest.mark.parametrize("how", ["this end", "the peer"])
@pytest.mark.parametrize(
    ("timeout", "pause"), [(0.5, 0.01), (None, 0.01), (0.001, 0.001), (0, 0)], ids=str
)
def test_a_loop_that_receives_on_a_closed_connection_is_slowed_down(
    monkeypatch, how, timeout, pause
):
    pauses = []
    monkeypatch.setattr(type(_waiting.engine()), "sleep", staticmethod(pauses.append))
    with raw_peer(close_timeout=0.1) as (conn, peer):
        if how == "this end":
            conn.close()
        else:
            peer.sendall(close_frame())
            peer.shutdown(socket.SHUT_WR)
            assert conn.receive(SOON) is None
            until(lambda: conn._link.lifecycle.disposed)
        while conn._reader._nones < 10_000:
            assert conn.receive(timeout) is None
        assert not pauses  # many Nones in a row, at full speed
        for _ in range(3):
            assert conn.receive(timeout) is None
        assert pauses == [pause] * 3


def test_a_loop_that_receives_on_a_closed_connection_uses_little_of_a_core():
    with both_ends(close_timeout=0) as (client, _):
        client.close()
        for _ in range(10_000):
            client.receive(0.5)
        cpu, start = time.thread_time(), time.monotonic()
        for _ in range(30):
            assert client.receive(0.5) is None
        assert time.thread_time() - cpu < (time.monotonic() - start) / 4


# -- what is received for a caller that does not -----------------------------

PARTS = [
    frame(BINARY, b"\x01\x02"),
    frame(TEXT, b"text"),
    frame(BINARY, b"\x03", fin=False) + frame(CONTINUATION, b"\x04"),
    frame(BINARY, b""),
    frame(BINARY, bytes(70_000)),
    frame(BINARY, b"\xff") * 3,
]
MESSAGES = [[1, 2], "text", [3, 4], [], [0] * 70_000, [255], [255], [255]]


def read_ahead(conn, peer, data):
    """Have messages come while nobody receives: as a blocked `send` reads them, for example."""
    sending = Running(peer.sendall, data)
    until(lambda: conn._intake.if_free(conn._intake.read_all) and sending.done())
    poller = select.poll()
    poller.register(conn.fileno(), select.POLLIN)
    while poller.poll(100):
        conn._intake.if_free(conn._intake.read_all)


@pytest.mark.abuse(33)
def test_lists_are_made_as_they_are_received():
    with raw_peer() as (conn, peer):
        read_ahead(conn, peer, b"".join(PARTS))
        assert not conn._ready
        assert [type(each) for each in conn._link.protocol.unreceived.held] == [
            bytes if isinstance(each, list) else str for each in MESSAGES
        ]
        assert conn.connected()
        assert [conn.receive(0) for _ in MESSAGES] == MESSAGES
        assert conn.receive(0) is None


def test_messages_keep_their_order_however_they_were_read():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"one") + frame(BINARY, b"2") + frame(TEXT, b"three"))
        arrived(conn, 5 + 3 + 7)
        assert conn.receive(SOON) == "one"
        read_ahead(conn, peer, frame(BINARY, b"4") + frame(BINARY, b"5"))
        assert conn.receive_many(10, SOON)[0] == [ord("2")]
        peer.sendall(frame(BINARY, b"6") + close_frame())
        rest = list(conn)
        assert rest[-1] == [ord("6")]
        assert [conn.receive(0), conn.connected()] == [None, False]


@pytest.mark.parametrize("tls", [False, True])
def test_what_was_read_for_others_takes_the_memory_of_its_bytes(tls):
    with both_ends(tls=tls, max_message_size=None) as (conn, peer):
        tracemalloc.start()
        try:
            sending = Running(lambda: [peer.send_binary(bytes(1000)) for _ in range(8000)])
            until(lambda: conn._intake.if_free(conn._intake.read_all) and sending.done())
            until(lambda: conn._intake.if_free(conn._intake.read_all) and unread(conn) == 8000)
            assert tracemalloc.get_traced_memory()[0] < 16 * MIB  # as lists, 64
        finally:
            tracemalloc.stop()
        got = conn.receive_many(8000, 0)
        assert 1 < len(got) < 8000  # as many as become lists at a time
        while len(got) < 8000:
            got += conn.receive_many(8000, 0)
        assert got == [[0] * 1000] * 8000


def test_an_error_behind_what_is_held_waits_for_it_to_be_taken():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(BINARY, b"1") + b"\x83\x00")  # no such opcode
        arrived(conn, 5)
        with conn._intake.lock:
            assert conn._intake.read_ahead()
        conn.send("answered")
        assert receive_frame(peer) == (0x81, b"answered")
        assert conn.receive(0) == [ord("1")]
        assert conn.receive(SOON) is None
        assert receive_close(peer)[0] == 1002


@contextlib.contextmanager
def blocked_sender(**options):
    """A connection whose blocked `send` has read two messages for its caller, and waits on."""
    with raw_peer(**options) as (conn, peer):
        sending = Running(conn.send_binary, bytes(16 * MIB))
        until(conn._outlet.lock.locked)
        peer.sendall(frame(BINARY, b"1") + frame(BINARY, b"2"))
        until(lambda: unread(conn) == 2 and conn._intake.lock.locked())
        yield conn
        peer.close()
        with pytest.raises(ConnectionClosed):
            sending.result()


@pytest.mark.parametrize("kind", [list, bytes])
def test_what_a_blocked_sender_has_read_is_received_while_it_waits(kind):
    with blocked_sender(binary_type=kind) as conn:
        assert [conn.receive(0), conn.receive(SOON)] == [kind(b"1"), kind(b"2")]
        assert conn.receive(0) is None


@pytest.mark.parametrize("kind", [list, bytes])
def test_a_shutdown_leaves_what_a_blocked_sender_has_read(kind):
    with blocked_sender(binary_type=kind) as conn:
        conn._begin_close(1001)
        with conn._intake.lock:  # as whoever closes holds it
            assert list(conn) == [kind(b"1"), kind(b"2")]
            assert not conn.connected()


def test_a_close_as_lists_are_made_leaves_none(monkeypatch):
    with raw_peer(close_timeout=0.1) as (conn, peer):
        read_ahead(conn, peer, frame(BINARY, b"1") * 3)
        whole = _frame.bytes_to_list

        def close_first(data):
            monkeypatch.undo()
            conn.close()  # as a signal handler may
            return whole(data)

        monkeypatch.setattr(_frame, "bytes_to_list", close_first)
        assert conn._reader._take() is None
        assert not conn.connected()


def test_what_a_receiver_brings_as_a_close_begins_is_dropped():
    with raw_peer(close_timeout=0.1) as (conn, _):
        protocol = conn._link.protocol

        def discard(**options):
            restore()
            protocol.unreceived.discard(**options)
            protocol.ready.append("late")  # as another thread's receive does

        restore = stand_in(protocol, discard=discard)
        conn.close()
        assert not conn.connected()


def test_nothing_is_received_in_front_of_an_error_that_waits_behind_what_is_held():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(BINARY, b"1") + frame(TEXT, b"\xff"))
        arrived(conn, 6)
        with conn._intake.lock:
            assert conn._intake.read_ahead()
        assert conn.receive(0) == [ord("1")]
        peer.sendall(frame(TEXT, b"behind it"))
        arrived(conn, 11)
        assert conn.receive(SOON) is None
        assert conn.close_code == 1007


@pytest.mark.parametrize("discard", [True, False])
def test_a_close_drops_what_is_held_or_leaves_it(discard):
    with raw_peer(close_timeout=0.1) as (conn, peer):
        read_ahead(conn, peer, frame(BINARY, b"1"))
        if discard:
            conn.close()
        else:
            conn._begin_close(1001)
        assert conn.receive(0) == (None if discard else [ord("1")])
        assert conn.receive(0) is None


@pytest.mark.abuse(70)
def test_an_exception_as_lists_are_made_loses_nothing(monkeypatch):
    with raw_peer() as (conn, peer):
        read_ahead(conn, peer, b"".join(PARTS))
        got, whole, strikes = [], _frame.bytes_to_list, iter(range(100))

        def strike(data):
            if next(strikes) % 2:
                raise KeyboardInterrupt
            return whole(data)

        with monkeypatch.context() as patch:
            patch.setattr(_frame, "bytes_to_list", strike)
            while len(got) < len(MESSAGES):
                try:
                    got.append(conn.receive(0))
                except KeyboardInterrupt:
                    if next(strikes) > 6:
                        patch.undo()
        assert got == MESSAGES
