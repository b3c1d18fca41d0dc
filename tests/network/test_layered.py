"""TLS inside of TLS: both ways, in any pieces, with an end, and with what a reader may meet."""

import contextlib
import socket
import ssl
import threading

import pytest

from pairs import (
    SOON,
    connection,
    read_from,
    running,
    shake,
    tcp_pair,
    tls_contexts,
)
from scriptling_ws._network.deadline import Deadline
from scriptling_ws._network.layered import TLSInTLS, _Tunnel
from scriptling_ws._network.tls import TLSTransport


def layered_pair(buffer=None):
    """Two transports that are each other's peer, through two sessions: client and server."""
    near, far = tcp_pair(buffer)
    for_client, for_server = tls_contexts()
    client = TLSTransport(near, for_client, server_side=False, server_hostname="localhost")
    server = TLSTransport(far, for_server, server_side=True)
    shake(client, server)
    inner = TLSInTLS(client, for_client, server_hostname="127.0.0.1")
    # The other end is the same thing, as a server.
    other = TLSTransport.__new__(_Server)
    other._outer = server
    TLSTransport.__init__(other, _Tunnel(server), for_server, server_side=True)
    other.descriptor = other._descriptor = None
    shake(inner, other)
    return inner, other


class _Server(TLSInTLS):
    """The inner transport of a server, for which the package has no use."""

    __slots__ = ()


@contextlib.contextmanager
def pair(buffer=None):
    ends = layered_pair(buffer)
    try:
        yield ends
    finally:
        for end in ends:
            end.close()


def write_all(transport, data):
    rest = memoryview(data)
    deadline = Deadline(SOON)
    while rest or not transport.flush():
        count = transport.write(rest) if rest else 0
        rest = rest[count:]
        if not count:
            assert not deadline.passed()
            transport.wait(False, True, deadline)


def test_the_bytes_that_go_over_the_socket_are_twice_encrypted():
    with pair() as (client, server):
        assert client.write(b"hello") == 5
        assert client.flush()
        deadline = Deadline(SOON)
        server.wait(True, False, deadline)
        raw = server._outer._sock.recv(1000, socket.MSG_PEEK)
        assert raw[0] == 23  # a record of application data
        assert b"hello" not in raw
        assert read_from(server, 5) == b"hello"
        assert server.read_into(bytearray(10)) is None


@pytest.mark.parametrize("buffer", [None, 65_536])
@pytest.mark.parametrize("size", [1, 16_384, 1_000_000])
def test_both_ways(size, buffer):
    data = bytes(range(256)) * (size // 256 + 1)
    with pair(buffer) as (client, server):
        for one, other in ((client, server), (server, client)):
            with running(lambda one=one: write_all(one, data)):
                assert read_from(other, len(data)) == data
            assert not one.pending


def test_what_is_peeked_at_stays():
    with pair() as (client, server):
        write_all(client, b"hello")
        server.wait(True, False, Deadline(SOON))
        until_there(server)
        assert server.peek(3) == b"hel"
        assert server.unread()
        assert server.peek(10) == b"hello"
        assert read_from(server, 5) == b"hello"
        assert server.peek(1) is None
        assert not server.unread()
        assert server.pulse() is None or server.pulse().received > 0


def until_there(transport):
    deadline = Deadline(SOON)
    while transport.peek(1) is None:
        assert not deadline.passed()
        transport.wait(True, False, deadline)


def test_the_end():
    with pair() as (client, server):
        write_all(client, b"last")
        client.finish_writing()
        assert read_from(server, 10) == b"last"
        assert server.read_into(bytearray(10)) == 0
        write_all(server, b"still")
        assert read_from(client, 5) in (b"still", bytes(5))  # what no key has vouched for: zeros


def test_an_abort_ends_a_wait():
    with pair() as (client, _), running(lambda: read_from(client, 1)):
        client.abort()
    assert client.fileno() == -1


def test_a_wake_ends_a_wait():
    with pair() as (client, _):
        woken = threading.Timer(0.02, client.wake)
        woken.start()
        client.wait(True, False, Deadline(SOON), wakeable=True)
        woken.join()


def test_messages():
    client, server = layered_pair()
    one = connection(client, client=True, binary_type=bytes)
    other = connection(server, client=False, binary_type=bytes)
    try:
        for conn, peer in ((one, other), (other, one)):
            conn.send("hello")
            assert peer.receive(SOON) == "hello"
            with running(lambda conn=conn: conn.send_binary(bytes(3_000_000))):
                assert peer.receive(SOON) == bytes(3_000_000)
            assert peer.receive(0) is None
        with running(lambda: other.receive(SOON)):
            assert one.ping(SOON) is not None
            one.send("end")
        assert one.connected()
        with running(one.close):
            assert other.receive(SOON) is None
        assert other.close_code == 1000
    finally:
        one.close()
        other.close()


def test_both_ends_send_first():
    """Neither reads until it has sent all: the writers read meanwhile."""
    client, server = layered_pair(65_536)
    one = connection(client, client=True, binary_type=bytes)
    other = connection(server, client=False, binary_type=bytes)
    data = bytes(2_000_000)

    def run(conn):
        conn.send_binary(data)
        return conn.receive(SOON) == data

    try:
        with running(lambda: run(one), lambda: run(other)) as calls:
            pass
        assert [call.result() for call in calls] == [True, True]
    finally:
        one._abort()
        other._abort()
        one.close()
        other.close()


def test_an_outer_session_that_breaks_is_an_error():
    with pair() as (client, server):
        server._outer._sock.send(b"what is no record")
        client.wait(True, False, Deadline(SOON))
        with pytest.raises(ssl.SSLError):
            while client.read_into(bytearray(10)) is None:
                client.wait(True, False, Deadline(SOON))
