"""Sending against raw peers, on real sockets: what goes out, what is refused, stalled peers."""

import array
import contextlib
import ctypes
import json
import math
import sys
import threading
import time

import pytest

from frames import BINARY, PING, PONG, TEXT, close_frame, frame
from looped import looped
from pairs import (
    KIB,
    MIB,
    SOON,
    ByMethod,
    Running,
    arrived,
    at_least,
    both_ends,
    connection,
    ended,
    fill,
    raw_peer,
    receive_exactly,
    receive_frame,
    receive_to_end,
    reset,
    roles,
    running,
    tcp_pair,
    tls_pair,
    transports,
    unread,
    until,
)
from scriptling_ws import ConnectionClosed, ProtocolError, SendTimeout
from scriptling_ws._handshakes.terms import Terms
from scriptling_ws._network import deadline as _deadline

# -- what goes out, and what does not --------------------------------------


TEXTS = ["", "a", "h\xfc\u20ac\U0001f600", "x" * 125, "x" * 126, "x" * 65_535, "x" * 65_536]


TEXTS += ["x" * 262_144, "x" * 262_145, "\u20ac" * 200_000]


@roles
@looped("text", TEXTS)
def test_sending_text(client, text):
    with raw_peer(client=client) as (conn, peer), running(lambda: conn.send(text)):
        assert receive_frame(peer) == (0x81, text.encode())


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({}, "{}"),
        ({"a": [1, 2.5, None, True], "b": "\u20ac"}, '{"a":[1,2.5,null,true],"b":"\u20ac"}'),
        ({1: {"x": '\\"\n'}}, '{"1":{"x":"\\\\\\"\\n"}}'),
        ({"big": 10**30}, '{"big":1000000000000000000000000000000}'),
    ],
)
def test_sending_a_dict(message, text):
    with raw_peer() as (conn, peer):
        conn.send(message)
        first, payload = receive_frame(peer)
        assert (first, payload.decode()) == (0x81, text)
        assert json.loads(payload) == {str(key): value for key, value in message.items()}


BINARIES = [
    b"",
    b"abc",
    bytearray(b"abc"),
    memoryview(b"abcdef")[1:4],
    memoryview(bytearray(6)).cast("B", (2, 3)),
    array.array("B", [1, 2]),
    array.array("b", [-1, 2]),
    memoryview(b"abc").cast("c"),
    [],
    [0, 255],
    (1, 2, 3),
    list(range(256)) * 300,
    tuple(range(256)) * 2000,
    bytes(125),
    bytes(126),
    bytes(65_535),
    bytes(65_536),
    bytes(262_145),
    bytearray(1_000_000),
    memoryview(bytes(1_000_000)).cast("B", (1000, 1000)),
    memoryview(bytes(1_000_000)).cast("B", (500_000, 2)),
]


@roles
@looped("data", BINARIES)
def test_sending_binary(client, data):
    expected = data.tobytes() if isinstance(data, (memoryview, array.array)) else bytes(data)
    with raw_peer(client=client) as (conn, peer), running(lambda: conn.send_binary(data)):
        assert receive_frame(peer) == (0x82, expected)


def test_sending_numpy_arrays():
    numpy = pytest.importorskip("numpy")
    small = numpy.arange(256, dtype=numpy.uint8)
    large = numpy.zeros((300_000, 2), dtype=numpy.uint8)
    with raw_peer() as (conn, peer):
        conn.send_binary(small)
        assert receive_frame(peer) == (0x82, bytes(range(256)))
        with running(lambda: conn.send_binary(large)):
            assert receive_frame(peer) == (0x82, bytes(600_000))
        for bad, error in [
            (small.astype(numpy.uint16), TypeError),
            (small.astype(float), TypeError),
            (large.astype(numpy.int64), TypeError),
            (small[::2], ValueError),
            (numpy.zeros(600_000, dtype=numpy.uint8)[::2], ValueError),
            (large.T, ValueError),
        ]:
            with pytest.raises(error):
                conn.send_binary(bad)
        conn.send("ok")
        assert receive_frame(peer) == (0x81, b"ok")


cycle = {}


cycle["self"] = cycle


deep = {}


for _ in range(100_000):
    deep = {"a": deep}


# The call, the exact exception, and what its text has to say.
BAD_SENDS = {
    "bytes": (b"x", TypeError, "send_binary"),
    "bytearray": (bytearray(b"x"), TypeError, "send_binary"),
    "memoryview": (memoryview(b"x"), TypeError, "send_binary"),
    "list": ([1], TypeError, r"json\.dumps\(\).*send_binary"),
    "tuple": ((1,), TypeError, r"json\.dumps\(\).*send_binary"),
    "None": (None, TypeError, "NoneType"),
    "int": (1, TypeError, "int"),
    "set": ({1}, TypeError, "set"),
    "object": (object(), TypeError, "object"),
    "NaN": ({"x": math.nan}, ValueError, "JSON"),
    "infinity": ({"x": [math.inf]}, ValueError, "JSON"),
    "a set in a dict": ({"x": {1}}, TypeError, "JSON.*set"),
    "bytes in a dict": ({"x": b"y"}, TypeError, "JSON.*bytes"),
    "a tuple as key": ({(1, 2): 3}, TypeError, "JSON.*tuple"),
    "a cycle": (cycle, ValueError, "JSON.*[Cc]ircular"),
    "too deep": (deep, ValueError, "JSON.*deep"),
    "a lone surrogate": ("ab\ud800", ValueError, "surrogate at position 2"),
    "a lone surrogate in a dict": ({"x": "\udfff"}, ValueError, "surrogate"),
    "a lone surrogate in a long text": ("x" * 300_000 + "\ud800", ValueError, "position 300000"),
}


if sys.implementation.name == "pypy":  # 7.3.19 itself hangs or crashes in json, after its JIT ran
    del BAD_SENDS["too deep"]


BAD_BINARIES = {
    "str": ("x", TypeError, r"a list or tuple of ints, or bytes: send a str with send\(\)"),
    "long str": ("x" * 300_000, TypeError, r"send\(\)"),
    "None": (None, TypeError, "NoneType"),
    "int": (1, TypeError, "int"),
    "float": (1.5, TypeError, "float"),
    "dict": ({}, TypeError, "dict"),
    "set": ({1, 2}, TypeError, "set"),
    "large set": (set(range(300_000)), TypeError, "set"),
    "range": (range(10), TypeError, "a list or tuple of ints, or a bytes-like object, not range"),
    "large range": (range(300_000), TypeError, "range"),
    "generator": ((x for x in b"abc"), TypeError, "generator"),
    "256": ([0, 256], ValueError, "item 1 is 256"),
    "-1": ([-1], ValueError, "item 0 is -1"),
    "2**64": ([1, 2, 2**64], ValueError, "item 2"),
    "True": ([True], TypeError, "item 0.*bool"),
    "1.0": ([0, 1.0], TypeError, "item 1.*float"),
    "'1'": (["1"], TypeError, "item 0.*str"),
    "None in a list": ([None], TypeError, "item 0.*NoneType"),
    "nested": ([[1]], TypeError, "item 0.*list"),
    "tuple": ((1, 300), ValueError, "item 1 is 300"),
    "the last of many": ([0] * 300_000 + [256], ValueError, "item 300000 is 256"),
    "array of words": (array.array("H", [1]), TypeError, "2 bytes"),
    "large array of words": (array.array("H", [1]) * 300_000, TypeError, "2 bytes"),
    "strided": (memoryview(bytes(10))[::2], ValueError, "contiguous"),
    "large strided": (memoryview(bytes(600_002))[::2], ValueError, "contiguous"),
}


@pytest.mark.abuse(80)
def test_bad_messages_raise_and_send_nothing():
    with raw_peer() as (conn, peer):
        for name, (message, error, says) in BAD_SENDS.items():
            with pytest.raises(error, match=says) as caught:
                conn.send(message)
            assert type(caught.value) is error, name
        conn.send("ok")
        assert receive_frame(peer) == (0x81, b"ok")


@pytest.mark.abuse(76, 77)
def test_bad_binary_messages_raise_and_send_nothing():
    with raw_peer() as (conn, peer):
        for name, (message, error, says) in BAD_BINARIES.items():
            with pytest.raises(error, match=says) as caught:
                conn.send_binary(message)
            assert type(caught.value) is error, name
        conn.send("ok")
        assert receive_frame(peer) == (0x81, b"ok")


# send_many takes bytes-likes and lists as binary, a str as text, a dict as JSON.
GOOD_FOR_MANY = {"bytes", "bytearray", "memoryview", "list", "tuple", "str", "long str", "dict"}


BAD_FOR_MANY = [name for name in BAD_BINARIES | BAD_SENDS if name not in GOOD_FOR_MANY]


@looped("name", [*BAD_FOR_MANY, "a generator"])
def test_a_bad_message_among_many_sends_what_came_before_it(name):
    message, error, _ = (BAD_BINARIES | BAD_SENDS).get(name, (iter([1]), TypeError, ""))
    with raw_peer() as (conn, peer):
        with pytest.raises(error):
            conn.send_many(["a", b"b", {"c": 1}, message, "never"])
        conn.send("ok")
        received = [receive_frame(peer) for _ in range(4)]
        assert received == [(0x81, b"a"), (0x82, b"b"), (0x81, b'{"c":1}'), (0x81, b"ok")]


@pytest.mark.parametrize("deflate", [None, Terms()], ids=["plain", "deflate"])
def test_one_message_is_not_taken_for_many(deflate):
    """A str would go letter by letter, and a dict key by key."""
    with raw_peer(deflate=deflate) as (conn, peer):
        for message in ("abc", {"a": 1}, b"abc", bytearray(b"abc"), memoryview(b"abc"), 5, None):
            with pytest.raises(TypeError, match=r"^send_many\(\) takes messages, such as"):
                conn.send_many(message)
        conn.send("ok", compress=False)
        assert receive_frame(peer) == (0x81, b"ok")


@pytest.mark.parametrize("size", [8, 300_000])
def test_send_many_out_of_one_buffer(size):
    buffer = bytearray()

    def fill():
        for number in range(3):
            buffer[:] = bytes([number]) * (size + number)  # which fails while it is in use
            yield buffer

    with raw_peer() as (conn, peer), running(lambda: conn.send_many(fill())):
        for number in range(3):
            assert receive_frame(peer) == (0x82, bytes([number]) * (size + number))


def test_sending_many():
    messages = ["a", [1, 2], {"x": 1}, bytes(1000), "y" * 300_000, b"", "", bytes(400_000)] * 3
    with raw_peer() as (conn, peer), running(lambda: conn.send_many(iter(messages))):
        for message in messages:
            first, payload = receive_frame(peer)
            if isinstance(message, (str, dict)):
                text = message if isinstance(message, str) else '{"x":1}'
                assert (first, payload) == (0x81, text.encode())
            else:
                assert (first, payload) == (0x82, bytes(message))


def test_an_iterator_that_raises_among_many():
    def source():
        yield "a"
        raise RuntimeError("no more")

    with raw_peer() as (conn, peer):
        with pytest.raises(RuntimeError, match="no more"):
            conn.send_many(source())
        conn.send("b")
        assert [receive_frame(peer)[1] for _ in range(2)] == [b"a", b"b"]


# Invariant 9: a client masks, each frame with a key of its own.
@pytest.mark.abuse(33, 42)
def test_a_client_masks_with_fresh_keys_and_a_server_does_not():
    with raw_peer() as (conn, peer):
        keys = set()
        for _ in range(2000):
            conn.send("x")
            header = receive_exactly(peer, 7)
            assert header[1] == 0x81
            keys.add(header[2:6])
        assert len(keys) > 1990
    with raw_peer(client=False) as (conn, peer):
        conn.send("x")
        assert receive_exactly(peer, 3) == b"\x81\x01x"


def test_a_large_buffer_of_items_without_bytes_is_an_empty_message():
    with both_ends() as (client, server):
        client.send_binary((ctypes.c_ubyte * 0 * 300_000)())
        assert server.receive(SOON) == []


@pytest.mark.parametrize("last", [b"x" * 300_000, "x"])
def test_many_messages_of_which_one_is_large(last):
    with (
        both_ends(binary_type=bytes) as (client, server),
        running(lambda: client.send_many(["a", b"b" * 300_000, b"c" * 262_144, last])),
    ):
        assert server.receive(SOON) == "a"
        assert server.receive(SOON) == b"b" * 300_000
        assert server.receive(SOON) == b"c" * 262_144
        assert server.receive(SOON) == last


# -- a peer that does not read ---------------------------------------------


@pytest.mark.abuse(64)
def test_a_send_that_could_not_begin_leaves_the_connection_usable():
    with raw_peer(send_timeout=0.2) as (conn, peer):
        filled = fill(conn)
        with at_least(0.2, 5), pytest.raises(SendTimeout, match="send_timeout"):
            conn.send("x" * 1000)
        assert conn.connected()
        assert conn.close_code is None
        receive_exactly(peer, filled)
        conn.send("again")
        assert receive_frame(peer) == (0x81, b"again")


@pytest.mark.abuse(65)
@pytest.mark.parametrize("size", [200_000, 20_000_000])
def test_a_send_that_timed_out_half_way_ends_the_connection(size):
    with raw_peer(send_timeout=0.2) as (conn, peer):
        with at_least(0.2, 5), pytest.raises(SendTimeout) as caught:
            while True:
                conn.send_binary(bytes(size))
        assert isinstance(caught.value, TimeoutError)
        assert not conn.connected()
        assert conn.receive(SOON) is None
        with pytest.raises(ConnectionClosed) as closed:
            conn.send("x")
        assert closed.value.code == 1006
        assert isinstance(closed.value.__cause__, SendTimeout)
        # What the peer got is whole frames, and then a part of one: the stream was not resumed.
        data = receive_to_end(peer)
        whole = len(frame(BINARY, bytes(size), mask=True))
        assert len(data) % whole != 0


# Others are unaffected.
@pytest.mark.abuse(64)
def test_a_stalled_peer_does_not_hold_up_another_connection():
    with raw_peer(send_timeout=1) as (stalled, _), raw_peer() as (conn, peer):
        sending = Running(stalled.send_binary, bytes(30_000_000))
        for number in range(100):
            conn.send(str(number))
            assert receive_frame(peer) == (0x81, b"%d" % number)
        with pytest.raises(SendTimeout):
            sending.result()


def test_waiting_for_other_senders_is_part_of_send_timeout():
    with raw_peer(send_timeout=0.2) as (conn, _), conn._outlet.lock:
        start = time.monotonic()
        with pytest.raises(SendTimeout):
            conn.send("x")
        assert time.monotonic() - start < SOON
    assert conn.close_code is not None


# -- a peer that has left --------------------------------------------------


def test_answers_to_unread_messages_of_a_peer_that_left_are_dropped():
    with raw_peer() as (conn, peer):
        peer.sendall(b"".join(frame(TEXT, b"%d" % n) for n in range(5)) + close_frame(1000))
        seen = []
        while conn.connected():
            message = conn.receive(SOON)
            if message:
                seen.append(message)
                conn.send(f"Echo: {message}")
        assert seen == ["0", "1", "2", "3", "4"]
        with pytest.raises(ConnectionClosed):
            conn.send("late")


def test_who_only_sends_hears_of_a_close_that_nobody_else_has_seen():
    with raw_peer() as (conn, peer):
        peer.sendall(close_frame(4001))
        with conn._intake.lock:
            while conn._link.lifecycle.open:
                conn._intake.read_some(nap=True)
        end = time.monotonic() + SOON
        with pytest.raises(ConnectionClosed) as caught:
            while time.monotonic() < end:
                conn.send("x")
        assert caught.value.code == 4001


def test_a_local_close_is_no_reason_to_drop_silently():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"unread"))
        assert conn.connected()
        conn._begin_close(1001)
        with pytest.raises(ConnectionClosed):
            conn.send("x")


def test_a_broken_protocol_is_no_reason_to_drop_silently():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(3))
        assert conn.ping(SOON) is None  # it was read here: nobody was told
        with pytest.raises(ConnectionClosed) as caught:
            conn.send("x")
        assert isinstance(caught.value.__cause__, ProtocolError)


def test_sending_to_a_peer_that_was_reset_tells_why():
    with raw_peer() as (conn, peer):
        reset(peer)
        ended(conn)
        with pytest.raises(ConnectionClosed) as caught:
            for _ in range(100):
                conn.send("x" * 10_000)
        assert caught.value.code == 1006
        assert isinstance(caught.value.__cause__, OSError)
        assert not conn.connected()


def test_messages_that_came_before_a_failed_send_can_still_be_received():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"one") + frame(TEXT, b"two") + close_frame(4001, b"enough"))
        peer.close()
        ended(conn)
        with pytest.raises(ConnectionClosed) as caught:
            for _ in range(100):
                conn.send("x" * 10_000)
        assert (caught.value.code, caught.value.reason) == (4001, "enough")
        assert conn.connected()
        assert conn.receive(SOON) == "one"
        assert conn.receive(SOON) == "two"
        assert not conn.connected()


@pytest.mark.parametrize("timeout", [..., SOON])
def test_what_fails_to_be_sent_while_a_message_lies_unread_is_lost_without_a_word(timeout):
    """As if the peer had left a moment later."""
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"unread"))
        arrived(conn, 8)
        reset(peer)
        ended(conn)
        conn.send("lost", timeout=timeout)
        assert isinstance(conn._link.send_error, OSError)
        conn.send("lost too")
        assert conn.receive(SOON) == "unread"
        assert conn.receive(SOON) is None
        with pytest.raises(ConnectionClosed) as caught:
            conn.send("late")
        assert isinstance(caught.value.__cause__, OSError)


# -- slow peers ------------------------------------------------------------


@transports
def test_a_peer_that_reads_slowly_is_no_timeout(tls, monkeypatch):
    ahead = 0  # seconds by which this test has set the clock forward
    monkeypatch.setattr(_deadline, "monotonic", lambda: time.monotonic() + ahead)
    near, far = tls_pair(buffer=64 * KIB) if tls else tcp_pair(64 * KIB)
    conn = connection(near, send_timeout=60, ping_interval=None)
    peer = connection(far, client=False, ping_interval=None, binary_type=bytes)
    with contextlib.closing(conn), contextlib.closing(peer):
        sending = Running(conn.send_binary, bytes(MIB))
        pause = threading.Event()
        while not sending.done():
            left = 96 * KIB
            while left > 0 and not sending.done():
                with peer._intake.lock:
                    left -= peer._intake.read_some(nap=False) or 0
                pause.wait(0.001)
            ahead += 10
        assert sending.result() is None
        assert ahead > 60
        assert peer.receive(SOON) == bytes(MIB)
        conn._abort()


def test_a_peer_that_takes_a_little_now_and_then_is_one():
    near, far = tcp_pair(64 * KIB)
    conn = connection(near, send_timeout=0.2, ping_interval=None)
    with far:
        sending = Running(conn.send_binary, bytes(MIB))
        pause = threading.Event()
        with contextlib.suppress(OSError):
            while not sending.done():
                far.recv(1)
                pause.wait(0.01)
        with pytest.raises(SendTimeout):
            sending.result()
    conn.close()


class Dripping(ByMethod):
    """One whose peer takes a KiB every fiftieth of a second."""

    room = 0

    def write(self, data):
        count = super().write(data[: self.room]) if self.room else 0
        self.room -= count
        return count

    @property
    def send(self):
        return lambda data, _flags: self.write(data)

    def wait(self, *_, **__):
        threading.Event().wait(0.02)
        self.room = KIB


def test_a_peer_that_takes_less_than_64_kib_within_send_timeout_is_given_up():
    with (
        raw_peer(transport=Dripping, send_timeout=0.2, ping_interval=None) as (conn, _),
        at_least(0.2),
        pytest.raises(SendTimeout),
    ):
        conn.send_binary(bytes(256 * KIB))


@roles
def test_a_receiver_does_not_spin_while_a_sender_is_busy(client):
    with raw_peer(client=client, ping_interval=None) as (conn, peer):
        used, receiving = [], threading.Event()

        def receive():
            receiving.set()
            cpu = time.thread_time()
            message = conn.receive(SOON)
            used.append(time.thread_time() - cpu)
            return message

        with conn._outlet.lock:  # as a sender that compresses, for a while
            call = Running(receive)
            assert receiving.wait(SOON)
            peer.sendall(frame(PING, b"answered later", mask=not client))
            until(lambda: conn._link.protocol.outbox)
            threading.Event().wait(0.3)
            peer.sendall(frame(TEXT, b"x", mask=not client))
            assert call.result() == "x"
        assert used[0] < 0.1
        conn._intake.answer()
        assert receive_frame(peer) == (0x8A, b"answered later")


def test_a_caller_can_refuse_what_it_does_not_ask_for():
    with both_ends(max_backlog=0, ping_interval=None, binary_type=bytes) as (conn, peer):
        peer.send("unasked")
        arrived(conn)
        conn._intake.polled = False  # `arrived` has asked
        conn._channel.look_at = 0.0
        conn.send("I only send")
        assert not unread(conn)
        sending = Running(conn.send_binary, bytes(16 * MIB))
        until(lambda: conn._link.unsent.rest is not None)
        assert not unread(conn)
        assert peer.receive(SOON) == "I only send"
        assert peer.receive(SOON) == bytes(16 * MIB)
        sending.result()
        assert conn.receive(SOON) == "unasked"


# -- what is left for the one who holds the lock -----------------------------


class Busy(ByMethod):
    """One in whose last step another thread leaves an answer: it has found the lock taken."""

    leave = None

    def flush(self):
        leave, self.leave = self.leave, None
        if leave:
            leave()
        return super().flush()


def test_an_answer_that_comes_up_while_the_last_one_leaves_is_sent_too():
    with raw_peer(transport=Busy) as (conn, peer):
        answers = [frame(PONG, text, mask=True) for text in (b"first", b"left to this thread")]
        conn._link.protocol.outbox.append(answers[0])
        conn._link.transport.leave = lambda: conn._link.protocol.outbox.append(answers[1])
        conn._intake.answer()
        assert receive_frame(peer) == (0x8A, b"first")
        assert receive_frame(peer) == (0x8A, b"left to this thread")


def test_the_stream_is_not_ended_before_what_an_interrupted_send_has_left():
    with raw_peer(client=False) as (conn, peer):
        conn._link.unsent.tail.append(frame(TEXT, b"left"))
        assert conn._outlet.finish() is False
        conn._intake.answer()
        assert conn._outlet.finish() is True
        assert receive_to_end(peer) == frame(TEXT, b"left")


def test_a_send_that_fails_reads_no_more_than_may_lie_unread():
    with raw_peer(max_backlog=0) as (conn, peer):
        peer.sendall(frame(TEXT, b"unread"))
        arrived(conn, 8)
        conn._link.transport.finish_writing()
        with pytest.raises(ConnectionClosed):
            conn.send("x")
        assert not unread(conn)
        assert conn.receive(0) == "unread"


@pytest.mark.parametrize("kind", [list, bytes])
def test_reading_for_others_counts_what_it_brings(kind):
    with raw_peer(binary_type=kind) as (conn, peer):
        with conn._intake.lock:
            assert not conn._intake.read_ahead()
        assert conn._intake._backlog == 0
        counts = []
        for size in (100, 900):
            peer.sendall(frame(BINARY, bytes(size)))
            arrived(conn, size + 2)
            with conn._intake.lock:
                assert conn._intake.read_ahead()
            counts.append(conn._intake._backlog - sum(counts))
        small, large = counts
        header = 2  # bytes more, of the larger frame
        assert large - small == 800 + header  # no list before it is received
        assert small > 100
