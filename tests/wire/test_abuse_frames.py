"""The abuse cases of frames and fragmentation, on sockets and at both ends; and what they cost.

How the protocol takes each of them in all cuts is in test_protocol.py.
"""

import os
import socket
import struct
import time

import pytest

from abuse import every_violation
from frames import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from looped import looped
from memory import tracemalloc
from pairs import (
    KIB,
    MIB,
    SOON,
    raw_peer,
    receive_exactly,
    receive_frame,
    receive_to_end,
    roles,
    running,
)
from protocols import protocol
from scriptling_ws import ConnectionClosed
from scriptling_ws._kernel import next_key


def close_code(sock):
    """The code of the close frame that comes next."""
    first, payload = receive_frame(sock)
    assert first == 0x88
    return struct.unpack("!H", payload[:2])[0]


# -- what is not allowed ---------------------------------------------------


@pytest.mark.parametrize(("client", "data", "code"), every_violation())
def test_a_violation_on_the_wire(client, data, code):
    """The peer sees the close code, TCP ends, and `receive` returns None."""
    with raw_peer(client=client, close_timeout=5) as (conn, peer):
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) in ("x", None)
        assert conn.receive(SOON) is None
        assert not conn.connected()
        assert close_code(peer) == code
        assert receive_to_end(peer) == b""
        assert conn.close_code == code
        with pytest.raises(ConnectionClosed) as caught:
            conn.send("x")
        assert caught.value.code == code


@pytest.mark.abuse(36)
@roles
@pytest.mark.parametrize("size", [2**62, 17 * MIB])
def test_an_announced_size_is_refused_before_it_comes(client, size):
    header = struct.pack("!BBQ", 0x82, 127 if client else 255, size) + bytes(0 if client else 4)
    with raw_peer(client=client, close_timeout=0) as (conn, peer):
        tracemalloc.start()
        peer.sendall(header)
        assert conn.receive(SOON) is None
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert close_code(peer) == 1009
        assert peak < 64 * 1024


@pytest.mark.abuse(39)
@roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("fragments", [1, 2, 7])
def test_the_limit_and_one_more(client, opcode, fragments):
    limit = 1000

    def message(size):
        step = -(-size // fragments)
        pieces = [b"x" * min(step, size - start) for start in range(0, size, step)]
        return b"".join(
            frame(
                CONTINUATION if number else opcode,
                piece,
                fin=number == len(pieces) - 1,
                mask=not client,
            )
            for number, piece in enumerate(pieces)
        )

    options = {"client": client, "max_message_size": limit, "binary_type": bytes}
    with raw_peer(**options, close_timeout=0) as (conn, peer):
        peer.sendall(message(limit))
        assert len(conn.receive(SOON)) == limit
        peer.sendall(message(limit + 1))
        assert conn.receive(SOON) is None
        assert close_code(peer) == 1009


# -- what is allowed -------------------------------------------------------


@pytest.mark.abuse(40)
@roles
def test_code_points_that_are_split_over_frames(client):
    text = "\xe4\u20ac\U0001f600"
    data = text.encode()
    with raw_peer(client=client) as (conn, peer):
        for cut in range(len(data) + 1):
            peer.sendall(frame(TEXT, data[:cut], fin=False, mask=not client))
            peer.sendall(frame(CONTINUATION, data[cut:], mask=not client))
            assert conn.receive(SOON) == text


@pytest.mark.abuse(44)
@roles
def test_a_ping_between_fragments_on_the_wire(client):
    with raw_peer(client=client) as (conn, peer):
        peer.sendall(frame(TEXT, b"a", fin=False, mask=not client))
        peer.sendall(frame(PING, b"now", mask=not client))
        assert conn.receive(0.05) is None
        assert receive_frame(peer) == (0x8A, b"now")  # before the message is complete
        peer.sendall(frame(CONTINUATION, b"b", mask=not client))
        assert conn.receive(SOON) == "ab"


@pytest.mark.abuse(47)
@roles
def test_empty_messages_on_the_wire(client):
    with raw_peer(client=client) as (conn, peer):
        peer.sendall(frame(TEXT, mask=not client) + frame(BINARY, mask=not client))
        assert conn.receive(SOON) == ""
        assert conn.receive(SOON) == []
        assert conn.connected()


@pytest.mark.abuse(42)
def test_every_frame_of_a_client_has_a_key_of_its_own_from_the_system(monkeypatch):
    """The keys are those that os.urandom gave, each used once: chance decides nothing here."""
    drawn = []

    def urandom(size):
        drawn.append(draw(size))
        return drawn[-1]

    draw = os.urandom
    monkeypatch.setattr(os, "urandom", urandom)
    while not drawn:  # what others have left
        first = next_key()
    count = 10_000
    with raw_peer() as (conn, peer), running(lambda: conn.send_many(["x"] * count)):
        headers = [receive_exactly(peer, 7) for _ in range(count)]
        assert {header[1] for header in headers} == {0x81}
        used = [header[2:6] for header in headers]
    given = b"".join(drawn)
    keys = [given[start : start + 4] for start in range(0, len(given), 4)]
    for key in (first, *used):
        keys.remove(key)  # fails for a key that was not given, or was used twice
    assert len(keys) < 1024


# -- what it costs ---------------------------------------------------------


def drip(proto, data):
    for index in range(len(data)):
        proto.space()[:1] = data[index : index + 1]
        proto.feed(1)


@pytest.mark.abuse(41)
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_the_time_for_a_message_byte_by_byte_is_linear(opcode):
    def cost(size):
        proto = protocol()
        data = frame(opcode, b"x" * size)
        start = time.thread_time()
        drip(proto, data)
        spent = time.thread_time() - start
        assert len(proto.ready) == 1
        return spent

    cost(1000)
    small = min(cost(5000) for _ in range(3))
    assert cost(40_000) < 24 * small  # eight times the length; quadratic would be 64


@pytest.mark.abuse(45)
@roles
def test_a_million_empty_continuations_on_the_wire(client):
    """The 131,073rd fragment is refused, and what comes after it is not looked at."""
    empty = frame(CONTINUATION, fin=False, mask=not client)
    allowed = frame(TEXT, fin=False, mask=not client) + empty * 131_071
    allowed += frame(PING, b"all read", mask=not client)

    def send():
        peer.sendall(allowed)
        assert receive_frame(peer) == (0x80 | PONG, b"all read")

    with raw_peer(client=client, close_timeout=0, ping_interval=None) as (conn, peer):
        peer.settimeout(90)
        with running(send, timeout=90) as (sending,):
            while not sending.done():
                assert conn.receive(0.02) is None
        assert conn.connected()
        peer.sendall(empty)
        assert conn.receive(SOON) is None
        assert close_code(peer) == 1008


def test_empty_continuations_on_the_wire_take_little_memory():
    """Of a server, as it takes time to measure; a client reads by the same code."""
    empty = frame(CONTINUATION, fin=False, mask=True)
    allowed = frame(TEXT, fin=False, mask=True) + empty * 39_999
    options = {"client": False, "close_timeout": 0, "ping_interval": None}
    with raw_peer(max_fragments=40_000, **options) as (conn, peer):
        peer.settimeout(90)  # the pure codec takes ten times as long
        tracemalloc.start()
        try:
            with running(lambda: peer.sendall(allowed + empty), timeout=90):
                assert conn.receive(SOON) is None
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert close_code(peer) == 1008
        assert peak < 600 * KIB  # with a pointer for each more than 700


@roles
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_message_in_65536_fragments_is_received_by_default(client, opcode):
    """The Autobahn testsuite sends 4 MiB in pieces of 64 bytes (9.3.1 and 9.4.1)."""
    piece = bytes(range(64))
    more = frame(CONTINUATION, piece, fin=False, mask=not client) * 65_534
    first = frame(opcode, piece, fin=False, mask=not client)
    whole = first + more + frame(CONTINUATION, piece, mask=not client)
    with raw_peer(client=client, binary_type=bytes) as (conn, peer):
        with running(lambda: peer.sendall(whole)):
            message = conn.receive(6 * SOON)
        expected = piece * 65_536
        assert message == (expected.decode() if opcode == TEXT else expected)


@pytest.mark.abuse(46)
def test_a_hundred_unfinished_messages_of_small_fragments():
    """Each connection holds its message in one buffer, of less than twice its length."""
    length, count = 500, 100
    data = frame(BINARY, b"x", fin=False) + frame(CONTINUATION, b"x", fin=False) * (length - 1)
    protocols = [protocol() for _ in range(count)]
    half = len(data) // 2
    tracemalloc.start()
    for proto in protocols:
        for part in (data[:half], data[half:]):
            proto.feed_bytes(part)
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    window = 4096 + 512  # with what CPython needs for a bytearray and the rest
    assert held < count * (2 * length + window) + 64 * 1024
    assert peak < held + 256 * 1024
    for proto in protocols:
        proto.feed_bytes(frame(CONTINUATION))
        assert list(proto.ready) == [b"x" * length]


@pytest.mark.abuse(48, 49)
@roles
@looped("code", [1000, 1001, 1003, *range(1007, 1015), 3000, 4999])
def test_a_valid_code_is_echoed_on_the_wire(client, code):
    with raw_peer(client=client) as (conn, peer):
        payload = struct.pack("!H", code) + b"why"
        late = frame(TEXT, b"late", mask=not client)
        peer.sendall(frame(CLOSE, payload, mask=not client) + late)
        peer.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) is None
        assert receive_frame(peer) == (0x88, payload)
        assert receive_to_end(peer) == b""
        assert (conn.close_code, conn.close_reason) == (code, "why")
