"""Connection against raw peers, on real sockets: what each call does, returns, raises and sends."""

import array
import contextlib
import copy
import ctypes
import gc
import json
import math
import os
import pickle
import random
import select
import socket
import struct
import sys
import threading
import time
import weakref

import pytest

from memory import counts_references
from pairs import (
    BINARY,
    CLOSE,
    CONTINUATION,
    MIB,
    PING,
    PONG,
    SOON,
    TEXT,
    Running,
    both_ends,
    close_frame,
    connection,
    fill,
    frame,
    raw_peer,
    receive_exactly,
    receive_frame,
    receive_to_end,
    reset,
    roles,
    running,
    tcp_pair,
    until,
)
from scriptling_ws import (
    ConnectionClosed,
    ProtocolError,
    SendTimeout,
    WebSocketError,
    _closing,
    is_binary,
    is_text,
)
from scriptling_ws._connection import Connection
from scriptling_ws._locks import attempt
from scriptling_ws._options import Options
from scriptling_ws._terms import Terms


def arrived(conn, size=1):
    """Wait until `size` bytes lie in the kernel for a connection."""
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")
    poller = select.poll()
    poller.register(conn.fileno(), select.POLLIN)
    end = time.monotonic() + SOON
    while time.monotonic() < end:
        poller.poll(1000)
        (count,) = struct.unpack("i", fcntl.ioctl(conn.fileno(), termios.FIONREAD, bytes(4)))
        if count >= size:
            return
    pytest.fail(f"{size} bytes do not arrive")


def ended(conn):
    """Wait until the end of the stream, or a reset, has come to a connection."""
    poller = select.poll()
    poller.register(conn.fileno(), getattr(select, "POLLRDHUP", 0x2000))  # PyPy does not name it
    assert poller.poll(SOON * 1000)


def parts_of(sock):
    """The close frame from a socket: (code, reason)."""
    first, payload = receive_frame(sock)
    assert first == 0x88
    return struct.unpack("!H", payload[:2])[0], payload[2:].decode()


@contextlib.contextmanager
def at_least(seconds, most=SOON):
    start = time.monotonic()
    yield
    assert seconds <= time.monotonic() - start < most


# -- receiving -------------------------------------------------------------


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
        with held(conn._recv_lock, conn._send_lock, conn._state_lock):
            assert conn.receive(0) == "b"
            assert next(iter(conn)) == "c"
            assert conn.receive_many(timeout=0) == ["d"]


def test_a_message_is_sent_by_one_lock():
    with raw_peer() as (conn, peer):
        with held(conn._recv_lock, conn._state_lock):
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
        assert parts_of(far)[0] == 1002
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
        assert parts_of(peer)[0] == code
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
@pytest.mark.parametrize("message", [b"", frame(TEXT, b"there")])
@pytest.mark.parametrize(
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
        with at_least(0.0, 5):
            assert conn.receive(timeout) is None
        peer.shutdown(socket.SHUT_RDWR)
        for call in (shouting, listening):
            with contextlib.suppress(AssertionError):
                call.result()


# -- the end, as the receiver sees it --------------------------------------


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
@pytest.mark.parametrize(
    "sent", [b"", b"\x81", frame(TEXT, b"hello")[:-1], frame(BINARY, bytes(200_000))[:-1]]
)
@pytest.mark.parametrize("how", ["fin", "rst"])
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
            assert [conn.receive(30) for _ in range(10_000)] == [None] * 10_000


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


def test_receiving_many():
    with raw_peer() as (conn, peer):
        peer.sendall(b"".join(frame(TEXT, b"%d" % number) for number in range(10)))
        arrived(conn, 30)
        assert conn.receive_many(3, SOON) == ["0", "1", "2"]
        assert conn.receive_many(100, SOON) == [str(number) for number in range(3, 10)]
        with at_least(0.05):
            assert conn.receive_many(100, 0.05) == []
        assert conn.receive_many(timeout=0) == []
        for bad, error in [(0, ValueError), (-1, ValueError), ("1", TypeError), (True, TypeError)]:
            with pytest.raises(error, match="limit"):
                conn.receive_many(bad)


# -- sending ---------------------------------------------------------------

TEXTS = ["", "a", "h\xfc\u20ac\U0001f600", "x" * 125, "x" * 126, "x" * 65_535, "x" * 65_536]
TEXTS += ["x" * 262_144, "x" * 262_145, "\u20ac" * 200_000]


@roles
@pytest.mark.parametrize("text", TEXTS, ids=len)
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
@pytest.mark.parametrize("data", BINARIES, ids=lambda data: f"{type(data).__name__}{len(data)}")
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
    "list": ([1], TypeError, "send_binary"),
    "tuple": ((1,), TypeError, "send_binary"),
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
    "str": ("x", TypeError, r"send\(\)"),
    "long str": ("x" * 300_000, TypeError, r"send\(\)"),
    "None": (None, TypeError, "NoneType"),
    "int": (1, TypeError, "int"),
    "float": (1.5, TypeError, "float"),
    "dict": ({}, TypeError, "dict"),
    "set": ({1, 2}, TypeError, "set"),
    "large set": (set(range(300_000)), TypeError, "set"),
    "range": (range(10), TypeError, "range"),
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


@pytest.mark.parametrize("name", [*BAD_FOR_MANY, "a generator"])
def test_a_bad_message_among_many_sends_what_came_before_it(name):
    message, error, _ = (BAD_BINARIES | BAD_SENDS).get(name, (iter([1]), TypeError, ""))
    with raw_peer() as (conn, peer):
        with pytest.raises(error):
            conn.send_many(["a", b"b", {"c": 1}, message, "never"])
        conn.send("ok")
        received = [receive_frame(peer) for _ in range(4)]
        assert received == [(0x81, b"a"), (0x82, b"b"), (0x81, b'{"c":1}'), (0x81, b"ok")]


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


# -- closing ---------------------------------------------------------------


@pytest.mark.parametrize("code", [1000, 1001, 1003, *range(1007, 1015), 3000, 4000, 4999])
@roles
def test_closing_with_a_code_and_a_reason(client, code):
    def answer(peer):
        assert parts_of(peer) == (code, "gr\xfc\xdfe")
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
@pytest.mark.parametrize(
    ("code", "reason", "error", "says"),
    [(code, "", ValueError, str(code)) for code in (0, 1, 999, 1002, 1004, 1005, 1006, 1015, 1016)]
    + [(code, "", ValueError, str(code)) for code in (-1, 2999, 5000, 65_536, 2**40)]
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
        assert parts_of(peer) == (1000, "\u20ac" * 41)


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
        assert parts_of(peer) == (1001, "going")
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


def test_a_peer_that_does_not_read_cannot_hold_up_a_close():
    with raw_peer(close_timeout=0.2, send_timeout=0.1) as (conn, _):
        with pytest.raises((SendTimeout, ConnectionClosed)):
            while True:
                conn.send_binary(bytes(60_000))
        with at_least(0, 5):
            conn.close()
        assert conn.fileno() == -1


def test_a_second_close_does_nothing():
    with raw_peer(close_timeout=0.1) as (conn, peer):
        conn.close(4000, "first")
        with at_least(0, 0.09):
            conn.close(4001, "second")
            conn.close()
        assert (conn.close_code, conn.close_reason) == (4000, "first")
        assert parts_of(peer) == (4000, "first")
        assert receive_to_end(peer) == b""


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
        assert parts_of(peer) == (4001, "ours")
        assert receive_to_end(peer) == b""


def test_closing_after_the_peer_has_keeps_its_code():
    with raw_peer() as (conn, peer):
        peer.sendall(close_frame(4002, b"theirs"))
        peer.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) is None
        conn.close(4001, "ours")
        assert (conn.close_code, conn.close_reason) == (4002, "theirs")
        assert parts_of(peer) == (4002, "theirs")
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
        assert parts_of(peer) == (1000, "")
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
        assert parts_of(peer) == (1000, "")
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
)
def test_a_violation_is_answered_and_ends_the_stream(data, code):
    with raw_peer(max_message_size=1000, close_timeout=0.2) as (conn, peer):
        peer.sendall(data)
        assert conn.receive(SOON) is None
        assert conn.connected() is False
        assert parts_of(peer)[0] == code
        assert receive_to_end(peer) == b""
        assert conn.close_code == code
        with pytest.raises(ConnectionClosed) as caught:
            conn.send("x")
        assert caught.value.__cause__.code == code


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
        assert parts_of(peer) == (1000, "")
        assert conn.fileno() == -1


@pytest.mark.parametrize(("error", "code"), [(ValueError, 1011), (KeyboardInterrupt, 1000)])
def test_a_context_that_raises(error, code):
    with raw_peer(close_timeout=0) as (conn, peer):
        with pytest.raises(error), conn:
            raise error
        assert parts_of(peer) == (code, "")


def test_begin_close_keeps_what_has_come():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"a") + frame(TEXT, b"b"))
        arrived(conn, 6)
        assert conn.connected()
        conn._begin_close(1001, "shutdown")
        assert parts_of(peer) == (1001, "shutdown")
        peer.sendall(frame(TEXT, b"late") + close_frame(1001))
        peer.shutdown(socket.SHUT_WR)
        assert conn.connected()
        assert conn.receive(SOON) == "a"
        assert list(conn) == ["b"]
        assert conn.connected() is False


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
        assert sum(map(len, conn._outbox)) < MIB
        assert conn.connected()


# -- the rest --------------------------------------------------------------


def test_addresses():
    with raw_peer() as (conn, peer):
        host, port = peer.getsockname()
        assert conn.remote_addr == f"{host}:{port}"
        host, port = peer.getpeername()
        assert conn.local_addr == f"{host}:{port}"
        peer.close()
        conn.close()
        assert conn.remote_addr.startswith("127.0.0.1:")


def test_repr():
    with raw_peer(close_timeout=0) as (conn, _):
        assert repr(conn) == f"<Connection {conn.local_addr} to {conn.remote_addr}, open>"
        conn.close(4000)
        assert repr(conn).endswith(", closed 4000>")


def test_fileno_is_the_sockets():
    with raw_peer(close_timeout=0) as (conn, _):
        assert os.readlink(f"/proc/self/fd/{conn.fileno()}").startswith("socket:")
        conn.close()
        assert conn.fileno() == -1


@pytest.mark.parametrize(
    ("value", "text", "binary"),
    [
        ("", True, False),
        ([], False, True),
        (b"", False, True),
        (bytearray(), False, True),
        (memoryview(b""), False, True),
        (None, False, False),
        (1, False, False),
        ({}, False, False),
    ],
)
def test_is_text_and_is_binary(value, text, binary):
    assert is_text(value) is text
    assert is_binary(value) is binary


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"binary_type": str}, ValueError, "list or bytes"),
        ({"binary_type": "list"}, ValueError, "list or bytes"),
        ({"max_message_size": 0}, ValueError, "max_message_size"),
        ({"max_message_size": -1}, ValueError, "max_message_size"),
        ({"max_message_size": 2**63}, ValueError, "max_message_size"),
        ({"max_message_size": True}, TypeError, "max_message_size"),
        ({"max_message_size": "1"}, TypeError, "max_message_size"),
        ({"max_fragments": 0}, ValueError, "max_fragments"),
        ({"max_fragments": None}, TypeError, "max_fragments"),
        ({"send_timeout": -1}, ValueError, "send_timeout"),
        ({"send_timeout": "1"}, TypeError, "send_timeout"),
        ({"close_timeout": math.nan}, ValueError, "close_timeout"),
        ({"compression": "gzip"}, ValueError, "compression has to be 'deflate' or None"),
        ({"compression": True}, ValueError, "compression has to be 'deflate' or None"),
        ({"compression_threshold": -1}, ValueError, "at least 0"),
        ({"compression_threshold": 1.0}, TypeError, "compression_threshold"),
        ({"server_no_context_takeover": 1}, TypeError, "server_no_context_takeover"),
        ({"client_no_context_takeover": None}, TypeError, "client_no_context_takeover"),
        ({"server_max_window_bits": 8}, ValueError, "server_max_window_bits has to be from 9"),
        ({"client_max_window_bits": 16}, ValueError, "client_max_window_bits has to be from 9"),
        ({"client_max_window_bits": "9"}, TypeError, "client_max_window_bits"),
        ({"bogus": 1}, TypeError, "bogus"),
    ],
)
def test_bad_options(options, error, says):
    with pytest.raises(error, match=says):
        Options(**options)


def test_defaults():
    defaults = Options()
    assert defaults.binary_type is list
    assert defaults.max_message_size == 16 * MIB
    assert defaults.max_fragments == 16_384
    assert (defaults.send_timeout, defaults.close_timeout) == (60, 5)
    assert (defaults.compression, defaults.compression_threshold) == (None, 1024)
    assert defaults.deflate is None


def test_what_is_wanted_of_compression():
    assert Options(compression="deflate").deflate == Terms()
    options = Options(
        compression="deflate",
        server_no_context_takeover=True,
        client_no_context_takeover=True,
        server_max_window_bits=9,
        client_max_window_bits=10,
    )
    assert options.deflate == Terms(True, True, 9, 10)


@counts_references
def test_no_reference_cycle_keeps_a_connection():
    with raw_peer(close_timeout=0) as (conn, peer):
        conn.send("x")
        conn.close()
        count = sys.getrefcount(conn)
        assert count <= 4
        assert isinstance(conn, Connection)
        assert peer


# -- what the page's loops rely on -------------------------------------------


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
        with conn._recv_lock:
            while conn._open:
                conn._read_some(nap=True)
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


def test_waiting_for_other_senders_is_part_of_send_timeout():
    with raw_peer(send_timeout=0.2) as (conn, _), conn._send_lock:
        start = time.monotonic()
        with pytest.raises(SendTimeout):
            conn.send("x")
        assert time.monotonic() - start < SOON
    assert conn.close_code is not None


@counts_references
def test_iteration_keeps_no_message_while_it_waits():
    taken = []

    def consume(conn):
        for message in conn:
            taken.append(message)
            del message

    with raw_peer(binary_type=bytes) as (conn, peer):
        consuming = Running(consume, conn)
        until(conn._recv_lock.locked)
        peer.sendall(frame(BINARY, b"x" * 1000))
        until(lambda: taken and conn._recv_lock.locked())
        references = sys.getrefcount(taken[0])  # not in the assert, which holds one more
        assert references == 2  # the list's and the call's
        peer.sendall(close_frame(1000))
        consuming.result()


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_connection_is_not_copied(copier):
    with raw_peer() as (conn, _), pytest.raises(TypeError, match="cannot be copied"):
        copier(conn)


@pytest.mark.parametrize(("limit", "open_"), [(None, True), (1000, False)])
def test_without_a_limit_any_length_may_be_announced(limit, open_):
    with raw_peer(max_message_size=limit) as (conn, peer):
        peer.sendall(b"\x01\x7f" + (2**40).to_bytes(8, "big"))
        arrived(conn)
        assert conn.receive(0.05) is None
        assert conn.connected() is open_


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


# What holds a caller's message is the frame of the caller, and what holds that is a traceback.
@counts_references
@pytest.mark.abuse(73)
@pytest.mark.parametrize("reset", [False, True])
def test_a_broken_connection_keeps_nothing_of_who_used_it(reset):
    class Message(bytearray):
        pass

    def send():
        message = Message(32 * MIB)
        messages.append(weakref.ref(message))
        with pytest.raises((ConnectionClosed, SendTimeout)):
            conn.send_binary(message)

    messages = []
    with raw_peer(send_timeout=0.2) as (conn, peer):
        if reset:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
        gc.disable()
        try:
            send()
            assert messages[0]() is None
        finally:
            gc.enable()
        with pytest.raises(ConnectionClosed):
            conn.send("more")


@counts_references
@pytest.mark.abuse(73)
def test_a_broken_tls_stream_keeps_nothing_of_who_read_it():
    class Mine:
        pass

    def receive():
        mine = Mine()
        kept.append(weakref.ref(mine))
        assert client.receive(10) is None

    kept = []
    with both_ends(tls=True) as (client, server):
        server._transport._sock.send(b"\x17\x03\x03\x00\x10" + bytes(16))  # no such record
        gc.disable()
        try:
            receive()
            assert kept[0]() is None
        finally:
            gc.enable()
        assert client.close_code == 1006


# As a signal handler may, in the step after the lock was taken.
@pytest.mark.abuse(70)
def test_close_as_a_send_begins_leaves_no_descriptor(monkeypatch):
    monkeypatch.setattr(_closing, "_LEAVE", 0.01)
    with raw_peer(close_timeout=0.05) as (conn, _):
        turns = conn._try_send_lock
        conn._try_send_lock = (conn.close() or got for got in turns)
        with pytest.raises(ConnectionClosed):
            conn.send("too late")
        assert conn.fileno() == -1
        conn._try_send_lock = turns


@pytest.mark.abuse(70)
def test_close_as_a_send_begins_waits_once_for_the_sender_to_leave(monkeypatch):
    def noting(lock, timeout=0.0, **more):
        if lock is conn._send_lock:
            waits.append(timeout)
        return attempt(lock, timeout, **more)

    waits = []
    monkeypatch.setattr(_closing, "_LEAVE", 0.01)
    monkeypatch.setattr(_closing, "attempt", noting)
    with raw_peer(close_timeout=0.05) as (conn, _), conn._send_lock:
        conn.close()
        assert 0 < sum(waits) <= 0.01
