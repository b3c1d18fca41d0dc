"""`Connection.stats`: what has moved on a connection, counted once, by whichever way it went."""

import contextlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scriptling_ws as ws
from frames import raw_frame
from kernels import BINARY, KEY, TEXT
from pairs import (
    MIB,
    both_ends,
    connection,
    raw_peer,
    receive_frame,
    running,
    tcp_pair,
    until,
)
from scriptling_ws._handshakes.terms import Terms

TIMEOUT = 10

# What is sent, by the call that sends it, and how many messages that is.
CALLS = {
    "text": (lambda conn: conn.send("text"), 1),
    "dict": (lambda conn: conn.send({"a": 1}), 1),
    "large text": (lambda conn: conn.send("é" * MIB), 1),
    "list": (lambda conn: conn.send_binary([1, 2, 3]), 1),
    "bytes": (lambda conn: conn.send_binary(b"123"), 1),
    "memoryview": (lambda conn: conn.send_binary(memoryview(b"123")), 1),
    "large bytes": (lambda conn: conn.send_binary(bytes(MIB)), 1),
    "within a time": (lambda conn: conn.send("text", timeout=TIMEOUT), 1),
    "uncompressed": (lambda conn: conn.send("text" * 1000, compress=False), 1),
    "many": (lambda conn: conn.send_many(["a", b"b", {"c": 1}] * 1000), 3000),
    "many large": (lambda conn: conn.send_many(["a", bytes(MIB), "b", "c" * MIB]), 4),
}


def moved(conn):
    stats = conn.stats()
    return stats.messages_received, stats.messages_sent


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "options",
    [{}, {"tls": True}, {"deflate": Terms(), "compression_threshold": 0}],
    ids=["plain", "tls", "deflate"],
)
def test_each_message_counts_at_both_ends(call, options):
    send, count = CALLS[call]
    with both_ends(**options) as (client, server):
        for one, other in ((client, server), (server, client)):
            before, there = moved(one)[1], moved(other)[0]

            def receive(other=other):
                for _ in range(count):
                    assert other.receive(TIMEOUT) is not None

            with running(receive):
                send(one)
            assert moved(one)[1] - before == count
            assert moved(other)[0] - there == count


def test_messages_in_fragments_count_once():
    with raw_peer(client=False) as (conn, far):
        far.sendall(raw_frame(0x01, b"a", KEY) + raw_frame(0x00, b"b", KEY))
        far.sendall(raw_frame(0x89, b"ping", KEY) + raw_frame(0x80, b"c", KEY))
        far.sendall(raw_frame(TEXT, b"d", KEY))
        assert [conn.receive(TIMEOUT) for _ in range(2)] == ["abc", "d"]
        assert receive_frame(far) == (0x8A, b"ping")
        assert moved(conn) == (2, 0)  # a pong is no message


def test_messages_that_nobody_receives_count():
    with raw_peer(client=False) as (conn, far):
        far.sendall(raw_frame(BINARY, b"x", KEY) * 10)
        assert conn.receive(TIMEOUT) == [ord("x")]
        until(lambda: moved(conn) == (10, 0))


def test_what_is_wrong_does_not_count():
    with raw_peer() as (conn, _):
        with pytest.raises(ValueError, match="256"):
            conn.send_binary([256])
        with pytest.raises(TypeError):
            conn.send(b"bytes")
        assert moved(conn) == (0, 0)


def test_threads_that_send_at_a_time():
    with both_ends() as (client, server):

        def send():
            for i in range(250):
                client.send("x") if i % 50 else client.send("x" * MIB, timeout=TIMEOUT)

        def receive():
            for _ in range(1000):
                assert server.receive(TIMEOUT) is not None

        with running(send, send, send, send, receive):
            pass
        assert moved(client) == (0, 1000)
        assert moved(server) == (1000, 0)


def differences(client, server):
    """The figures of both ends that differ, if what one has sent is all that the other has got."""
    one, other = client.stats(), server.stats()
    pairs = [("compression_sent", "compression_received")]
    for name in ("messages", "bytes", "wire", "frames", "pings", "pongs"):
        pairs.append((f"{name}_sent", f"{name}_received"))
    pairs += [(there, here) for here, there in pairs]
    figures = [(mine, getattr(one, mine), theirs, getattr(other, theirs)) for mine, theirs in pairs]
    return [row for row in figures if row[1] != row[3]]


def both(client, server):
    """The same figures of both ends; the thread that calls this one has to have sent them."""
    assert differences(client, server) == []
    return client.stats()


def take(conn, count):
    return [conn.receive(TIMEOUT) for _ in range(count)]


def test_what_each_way_of_sending_comes_to():
    with both_ends(binary_type=bytes) as (client, server):
        sizes = {
            "a short one": (lambda: client.send("x" * 125), 1, 1, 125, 131),
            "a medium one": (lambda: client.send_binary(bytes(126)), 1, 1, 126, 134),
            "a long one": (lambda: client.send("x" * 65536), 1, 1, 65536, 65550),
            "a list": (lambda: client.send_binary([1] * 10), 1, 1, 10, 16),
            "a view": (lambda: client.send_binary(memoryview(b"abc")), 1, 1, 3, 9),
            "not ASCII": (lambda: client.send("\u20ac"), 1, 1, 3, 9),
            "a dict": (lambda: client.send({"a": 1}), 1, 1, 7, 13),
            "within a time": (lambda: client.send("abc", timeout=TIMEOUT), 1, 1, 3, 9),
            "in slices": (lambda: client.send_binary(bytes(MIB)), 1, 1, MIB, MIB + 14),
            "text in slices": (lambda: client.send("\u20ac" * MIB), 1, 1, 3 * MIB, 3 * MIB + 14),
            "a batch": (
                *(lambda: client.send_many(["x" * 125, bytes(126), "y", bytes(65536), b""]), 5, 5),
                *(125 + 126 + 1 + 65536, 131 + 134 + 7 + 65550 + 6),
            ),
            "a large one in a batch": (
                *(lambda: client.send_many(["x", bytes(MIB), "y"]), 3, 3),
                *(MIB + 2, 7 + MIB + 14 + 7),
            ),
            "fragments": (
                *(lambda: client.send_stream(bytes(250), fragment_size=100), 1, 3),
                *(250, 2 * 106 + 56),
            ),
        }
        for name, (send, messages, frames, payload, wire) in sizes.items():
            before = client.stats()
            with running(lambda count=messages: take(server, count)):
                send()
            after = both(client, server)
            assert after.messages_sent - before.messages_sent == messages, name
            assert after.frames_sent - before.frames_sent == frames, name
            assert after.bytes_sent - before.bytes_sent == payload, name
            assert after.wire_sent - before.wire_sent == wire, name


def test_a_server_s_frames_are_not_masked():
    with both_ends() as (client, server):
        server.send("abc")
        server.send_many(["abc", "x" * 126, "y" * 65536])
        take(client, 4)
        assert both(server, client).wire_sent == 5 + 5 + 130 + 65546


def test_compressed_messages():
    options = {"deflate": Terms(), "compression_threshold": 100, "binary_type": bytes}
    with both_ends(**options) as (client, server):
        client.send("not compressed")
        take(server, 1)
        assert both(client, server).compression_sent is None
        client.send("x" * 10_000)
        client.send_binary(bytes(10_000), compress=False)
        client.send_many(["y" * 10_000, "short", bytes(10_000)])
        client.send_stream(b"z" * 10_000, fragment_size=1000)
        client.send_stream(b"short")
        take(server, 7)
        stats = both(client, server)
        assert stats.messages_sent == 8
        assert stats.bytes_sent == len("not compressed") + 50_000 + 10
        assert stats.frames_sent == 7 + 11  # the last fragment is empty
        assert 20 < stats.compression_sent < 10_000
        # What was compressed is all that was: 40,000 bytes, and the rest as it is.
        saved = stats.bytes_sent - 40_000
        assert stats.wire_sent > saved + 40_000 / stats.compression_sent
        client.send_stream(b"a" * 10_000, fragment_size=1000)
        with server.receive_stream() as stream:
            assert b"".join(stream) == b"a" * 10_000
        assert both(client, server).bytes_sent == stats.bytes_sent + 10_000


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=200),
            st.binary(max_size=300),
            st.builds(lambda n: bytes(n), st.sampled_from([65535, 65536, 70_000])),
            st.lists(st.one_of(st.text(max_size=9), st.binary(max_size=200)), min_size=1),
            st.builds(lambda data, n: (data, n), st.binary(max_size=300), st.integers(1, 200)),
        ),
        max_size=8,
    ),
    st.booleans(),
)
def test_both_ends_agree_on_random_messages(messages, compressed):
    options = {"deflate": Terms(), "compression_threshold": 50} if compressed else {}
    with both_ends(binary_type=bytes, **options) as (client, server):
        for one, other in ((client, server), (server, client)):
            count = size = 0
            for message in messages:
                whole = message if isinstance(message, list) else [message]
                if isinstance(message, tuple):
                    one.send_stream(message[0], fragment_size=message[1])
                    whole = [message[0]]
                elif isinstance(message, list):
                    one.send_many(message)
                else:
                    (one.send if isinstance(message, str) else one.send_binary)(message)
                assert take(other, len(whole)) == whole
                count += len(whole)
                size += sum(len(m.encode() if isinstance(m, str) else m) for m in whole)
            stats = both(one, other)
            assert (stats.messages_sent, stats.bytes_sent) == (count, size)


def test_pings_and_pongs_and_how_long_they_took():
    with both_ends() as (client, server):
        assert (client.stats().latency, client.stats().latency_mean) == (None, None)
        with running(lambda: server.receive(TIMEOUT)):
            times = [client.ping(TIMEOUT) for _ in range(5)]
            client.send("end")
        stats = both(client, server)
        assert (stats.pings_sent, stats.pongs_received) == (5, 5)
        assert (stats.pings_received, stats.pongs_sent) == (0, 0)
        assert stats.frames_sent == 6
        assert stats.latency == client.latency == times[-1]
        assert stats.latency_least == min(times)
        assert stats.latency_mean == pytest.approx(sum(times) / 5)


def test_frames_of_a_message_and_what_is_between_them():
    with raw_peer(client=False) as (conn, far):
        data = raw_frame(0x01, b"a", KEY) + raw_frame(0x00, b"b", KEY)
        data += raw_frame(0x89, b"ping", KEY) + raw_frame(0x80, b"c", KEY)
        far.sendall(data)
        assert conn.receive(TIMEOUT) == "abc"
        stats = conn.stats()
        assert (stats.messages_received, stats.frames_received) == (1, 4)
        assert (stats.bytes_received, stats.wire_received) == (3, len(data))
        assert (stats.pings_received, stats.pongs_sent, stats.frames_sent) == (1, 1, 1)
        assert stats.wire_sent == 6


def test_a_message_that_is_not_all_there_is_on_the_wire_alone():
    with raw_peer(client=False) as (conn, far):
        far.sendall(raw_frame(BINARY, bytes(1000), KEY)[:500])
        until(lambda: conn.receive(0) is not None or conn.stats().wire_received == 500)
        assert (conn.stats().messages_received, conn.stats().bytes_received) == (0, 0)


def test_a_text_that_is_none_is_not_counted():
    with raw_peer(client=False) as (conn, far):
        far.sendall(raw_frame(TEXT, b"ok", KEY) + raw_frame(0x01, b"\xe2", KEY))
        far.sendall(raw_frame(0x80, b"x", KEY))
        assert conn.receive(TIMEOUT) == "ok"
        assert conn.receive(TIMEOUT) is None
        assert (moved(conn), conn.stats().bytes_received) == ((1, 0), 2)


def test_what_came_with_the_handshake_counts():
    near, far = tcp_pair()
    frame = raw_frame(TEXT, b"early")
    conn = connection(near, received=frame)
    with far:
        stats = conn.stats()
        assert (stats.messages_received, stats.wire_received) == (1, len(frame))
        conn._abort()
        conn.close()


def test_what_is_received_into_a_buffer_counts():
    with both_ends() as (client, server):
        room = bytearray(1000)
        client.send_binary(bytes(700))
        assert server.receive_into(room, TIMEOUT) == 700
        assert both(client, server).bytes_sent == 700


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_figures_stay_when_the_connection_is_over(tls):
    with both_ends(tls=tls) as (client, server):
        for _ in range(3):
            client.send_binary(bytes(1000))
            server.receive(TIMEOUT)
        with running(lambda: server.receive(TIMEOUT), client.close):
            pass
        server.close()
        for conn in (client, server):
            assert conn.fileno() == -1
        stats = both(client, server)
        assert stats.messages_sent == 3
        assert (stats.wire_sent, stats.wire_received) == (3 * 1008 + 8, 4)
        assert (stats.frames_sent, stats.frames_received) == (4, 1)
        open_for, quiet = stats.seconds_open, stats.seconds_since_received
        until(lambda: client.stats().seconds_since_received > quiet)
        assert client.stats().seconds_open == open_for


@pytest.mark.parametrize("transport", ["tcp", "unix"])
def test_when_something_has_moved(transport):
    with contextlib.ExitStack() as ends:
        client, server = ends.enter_context(both_ends()) if transport == "tcp" else pair_of(ends)
        until(lambda: client.stats().seconds_since_sent > 0.15)
        until(lambda: min(server.stats().seconds_since_sent, server.stats().seconds_open) > 0.1)
        quiet = client.stats()
        assert quiet.seconds_since_received > 0.1
        began = time.monotonic()
        client.send("x")
        after = client.stats()
        assert after.seconds_since_sent < 0.1 + time.monotonic() - began
        assert after.seconds_since_received > 0.1
        assert server.receive(TIMEOUT) == "x"
        stats = server.stats()
        assert stats.seconds_since_received < 0.1 + time.monotonic() - began
        assert stats.seconds_since_sent > 0.1
        assert stats.seconds_open > 0.1


def pair_of(ends):
    client, server = ws.pair()
    for conn in (server, client):
        ends.callback(conn.close)
        ends.callback(conn._abort)
    return client, server


def test_figures_cannot_be_changed():
    with raw_peer() as (conn, _):
        stats = conn.stats()
        assert isinstance(stats, ws.ConnectionStats)
        with pytest.raises(AttributeError):
            stats.messages_sent = 5


def test_a_room_s_messages_count_once():
    """Also where a member does not read: what is queued is counted once it has left."""
    room = ws.room("test_stats", queue=10_000, queue_bytes=64 * MIB)
    options = {"deflate": Terms(server_no_context_takeover=True)}
    for compressed in (False, True):
        with both_ends(binary_type=bytes, **(options if compressed else {})) as (client, server):
            room.join(server)
            for _ in range(200):
                room.send_binary(bytes(20_000))
            assert all(message == bytes(20_000) for message in take(client, 200))
            room.leave(server)
            # Noted once they are sent, by the thread that has sent the last ones.
            until(lambda: not differences(server, client))
            stats = both(server, client)
            assert (stats.messages_sent, stats.frames_sent) == (200, 200)
            assert stats.bytes_sent == 200 * 20_000
            assert (stats.compression_sent is not None) is compressed
