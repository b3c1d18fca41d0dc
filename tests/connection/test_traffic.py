"""What has moved on a connection: messages as the callers count them, bytes as the system does."""

import sys
import threading

import pytest

from frames import raw_frame
from kernels import BINARY, KEY, TEXT
from pairs import MIB, both_ends, raw_peer, receive_frame, running, until
from scriptling_ws._handshakes.terms import Terms

TIMEOUT = 10
tells_bytes = pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell")

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
    received, sent, *_ = conn._traffic()
    return received, sent


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


@tells_bytes
def test_bytes_are_kept_when_the_connection_is_over():
    with both_ends() as (client, server):
        # Of a connection that this end has opened, the opening itself is counted as a byte.
        opening = client._traffic().bytes_sent
        assert server._traffic() == (0, 0, 0, 0)
        assert client._traffic() == (0, 0, 0, opening)
        assert opening in (0, 1)
        closing = threading.Thread(target=client.close)
        for _ in range(3):
            client.send_binary(bytes(1000))
            server.receive(TIMEOUT)
        until(
            lambda: client._traffic().bytes_sent == opening + 3 * 1008
        )  # headers of eight bytes each
        assert server._traffic().bytes_received == 3 * 1008
        closing.start()
        assert server.receive(TIMEOUT) is None
        closing.join(TIMEOUT)
        server.close()
        for conn in (client, server):
            assert conn.fileno() == -1
        received, sent, came, went = client._traffic()
        assert (received, sent) == (0, 3)
        # A close frame of eight bytes; and the end of the stream is counted as a byte by some.
        assert 3 * 1008 + 8 <= went - opening <= 3 * 1008 + 9
        assert 4 <= came <= 5
        assert 3 * 1008 + 8 <= server._traffic().bytes_received <= 3 * 1008 + 9


@tells_bytes
def test_bytes_of_which_nobody_asked_are_not_kept():
    with both_ends() as (client, server):
        client.send("x")
        assert server.receive(TIMEOUT) == "x"
        client._abort()
        server.close()
        client.close()
        assert client._traffic() == (0, 1, 0, 0)
