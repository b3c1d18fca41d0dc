"""TLS sessions that another server has opened, taken over."""

import contextlib
import socket
import ssl
import threading

import pytest

import scriptling_ws as ws
from pairs import MIB, SOON, connection, tcp_pair, tls_contexts, until
from scriptling_ws._network.deadline import FOREVER, Deadline
from scriptling_ws._network.foreign import ForeignTLSTransport, adopt
from scriptling_ws._network.tls import TLSTransport


def tls_pair(buffer=None):
    """A client's SSLSocket, and the server's, with so many bytes on the way to the client."""
    for_client, for_server = tls_contexts()
    far, near = tcp_pair(buffer)
    client = for_client.wrap_socket(
        near, server_hostname="localhost", do_handshake_on_connect=False
    )
    shaking = threading.Thread(target=client.do_handshake)
    shaking.start()
    server = for_server.wrap_socket(far, server_side=True)
    shaking.join()
    return client, server


@pytest.fixture
def pair():
    """A client's SSLSocket, the server's, and a transport that has taken over the latter."""
    client, server = tls_pair()
    transport = adopt(server)
    client.settimeout(SOON)
    with client, server, contextlib.closing(transport):
        yield client, server, transport


def readable(transport):
    transport.wait(True, False, Deadline(SOON))
    return transport


def test_a_bare_socket_is_duplicated():
    near, far = tcp_pair()
    with near, far:
        transport = adopt(far)
        assert transport.fileno() != far.fileno()
        assert transport.write(b"hello") == 5
        assert near.recv(10) == b"hello"
        transport.close()
        assert far.fileno() >= 0
        far.sendall(b"x")  # the server's own: closing alone shuts nothing down
        assert near.recv(10) == b"x"


def test_what_cannot_be_taken_over_costs_no_descriptor():
    near, far = tcp_pair()
    far.close()
    with near, pytest.raises(OSError, match="Bad file descriptor"):
        adopt(far)


def test_bytes_go_both_ways(pair):
    client, _, transport = pair
    assert isinstance(transport, ForeignTLSTransport)
    assert not (transport.naps)
    assert not (transport.descriptor)
    assert not (transport.session)
    buffer = bytearray(10)
    assert transport.read_into(buffer, nap=True) is None
    client.sendall(b"hello")
    assert readable(transport).read_into(buffer) == 5
    assert buffer[:5] == b"hello"
    assert transport.write(memoryview(b"answer")) == 6
    assert client.recv(10) == b"answer"


def test_a_read_fills_the_buffer_and_the_rest_needs_no_socket(pair):
    """More than a record has come: no poll of the descriptor shows what OpenSSL has."""
    client, _, transport = pair
    client.sendall(bytes(16_384) + b"x" * 100)
    readable(transport)
    buffer = bytearray(16_000)
    assert transport.read_into(buffer) == 16_000
    transport.wait(True, False, FOREVER)
    assert transport.unread()
    until(lambda: transport.unread())
    whole = bytearray(16_384)
    assert transport.read_into(whole) >= 384


def test_peek_takes_nothing(pair):
    client, _, transport = pair
    assert transport.peek(5) is None
    assert not transport.unread()
    client.sendall(b"hello")
    readable(transport)
    assert transport.unread()
    assert transport.peek(2) == b"he"
    assert transport.peek(100) == b"hello"
    transport.wait(True, False, FOREVER)  # the descriptor shows nothing
    buffer = bytearray(3)
    assert transport.read_into(buffer) == 3
    assert buffer == b"hel"
    assert transport.peek(100) == b"lo"
    assert transport.read_into(buffer) == 2
    assert transport.read_into(buffer) is None


@pytest.mark.parametrize("how", ["close_notify", "cut"])
def test_the_end_is_the_end(pair, how):
    client, _, transport = pair
    client.sendall(b"last")
    if how == "cut":
        client.shutdown(socket.SHUT_RDWR)
    else:
        client.settimeout(0)
        with contextlib.suppress(ssl.SSLWantReadError):
            client.unwrap()
    buffer = bytearray(10)
    assert readable(transport).read_into(buffer) == 4
    readable(transport)
    assert transport.peek(1) == b""
    assert transport.read_into(buffer) == 0
    assert transport.read_into(buffer) == 0
    expected = ssl.SSLEOFError if how == "cut" else type(None)
    assert type(transport.failure) is expected


def test_garbage_is_an_error_and_the_end(pair):
    client, _, transport = pair
    raw = socket.fromfd(client.fileno(), client.family, client.type)
    with raw:
        raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
    readable(transport)
    with pytest.raises(ssl.SSLError):
        transport.read_into(bytearray(10))
    assert transport.read_into(bytearray(10)) == 0


def test_what_the_peer_does_not_read_is_kept():
    client, server = tls_pair(buffer=16_384)
    transport = adopt(server)
    with client, server, contextlib.closing(transport):
        data = bytes(range(256)) * 65_536
        sent = 0
        while not transport.pending:
            sent += transport.write(memoryview(data)[sent:])
        assert sent < len(data)
        assert transport.write(b"x") == 0
        assert not transport.flush()
        come, size = bytearray(), sent

        def read():
            while len(come) < size:
                come.extend(client.recv(65_536))

        reader = threading.Thread(target=read)
        reader.start()
        while not transport.flush():
            transport.wait(False, True, Deadline(SOON))
        reader.join()
        assert come == data[:size]
        assert not transport.pending


def test_what_the_server_writes_afterwards_is_a_broken_pipe(pair):
    """It is what every server takes for a client that has left; an error of OpenSSL is not."""
    client, server, transport = pair
    transport.finish_writing()
    assert client.recv(10) == b""
    transport.abort()
    transport.close()
    for _ in range(2):
        with pytest.raises(BrokenPipeError):
            server.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    assert server.fileno() >= 0


def test_after_the_own_end_what_openssl_refuses_is_dropped(pair):
    client, _, transport = pair
    transport.finish_writing()
    with socket.fromfd(client.fileno(), client.family, client.type) as raw:
        raw.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
        raw.shutdown(socket.SHUT_WR)
    buffer, count = bytearray(b"x" * 100), None
    while count != 0:
        count = readable(transport).read_into(buffer)
        assert not count or buffer[:count] == bytes(count)


def test_a_read_that_was_cut_short_keeps_what_it_has(pair):
    client, _, transport = pair
    client.sendall(b"hello")
    readable(transport)
    buffer = bytearray(10)
    transport._decrypt(memoryview(buffer))  # as before a signal handler's exception
    assert transport.peek(10) == b"\0"
    assert transport.unread()
    assert transport.read_into(buffer) == 5
    assert buffer[:5] == b"hello"


class Struck(Exception):
    pass


@pytest.mark.parametrize("error", [Struck, TimeoutError])
@pytest.mark.parametrize("what", ["read", "write"])
def test_what_a_signal_handler_has_cut_short_ends_the_connection(pair, what, error):
    client, _, transport = pair

    class Session:
        """OpenSSL's, in which a handler runs once its work is done."""

        def read(self, size, buffer):
            real.read(size, buffer)
            raise error

        def write(self, data):
            real.write(data)
            raise error

        def pending(self):
            return 0

    client.sendall(b"hello")
    readable(transport)
    real, transport._tls = transport._tls, Session()
    calls = {
        "read": lambda: transport.read_into(bytearray(9)),
        "write": lambda: transport.write(b"x"),
    }
    with pytest.raises(error):
        calls[what]()
    transport._tls = real
    with pytest.raises(ssl.SSLError, match="a signal handler interrupted"):
        calls[what]()


# -- whole connections --------------------------------------------------------------------


@contextlib.contextmanager
def connections(buffer=None, **options):
    """A client's connection, and a server's over a session taken over."""
    for_client, for_server = tls_contexts()
    far, near = tcp_pair(buffer)
    transport = TLSTransport(near, for_client, server_side=False, server_hostname="localhost")
    shaken = threading.Thread(target=shake, args=(transport,))
    shaken.start()
    server = for_server.wrap_socket(far, server_side=True)
    shaken.join()
    with (
        server,
        connection(transport, **options) as client,
        connection(adopt(server), client=False, **options) as taken_over,
    ):
        yield client, taken_over


def shake(transport):
    while not transport.handshake_step():
        transport.wait(True, transport.pending, Deadline(SOON))


def test_messages_of_every_size():
    with connections(binary_type=bytes) as (client, server):
        for size in (0, 125, 16_384, 65_536, 128 * 1024, MIB):
            for near, far in ((client, server), (server, client)):
                sender = threading.Thread(target=near.send_many, args=([bytes(size), "x" * size],))
                sender.start()
                assert far.receive(SOON) == bytes(size)
                assert far.receive(SOON) == "x" * size
                sender.join()


def test_two_ends_that_both_send_first_do_not_wait_for_each_other():
    message = "x" * (4 * MIB)
    with connections(buffer=65_536) as (client, server):
        got = []

        def talk(end):
            end.send(message)
            got.append(end.receive(SOON))

        ends = [threading.Thread(target=talk, args=(end,)) for end in (client, server)]
        for end in ends:
            end.start()
        for end in ends:
            end.join()
        assert got == [message, message]


def test_pings_and_closes():
    with connections(ping_interval=0.01) as (client, server):
        receiver = threading.Thread(target=client.receive, args=(None,))
        receiver.start()
        assert server.ping(SOON) is not None
        until(lambda: server.latency is not None)
        server.close(4001, "enough")
        receiver.join()
        assert (client.close_code, client.close_reason) == (4001, "enough")


def test_close_wakes_a_receiver():
    with connections() as (_, server):
        got = []
        receiver = threading.Thread(target=lambda: got.append(server.receive(None)))
        receiver.start()
        server._abort()
        receiver.join(SOON)
        assert got == [None]
        assert server.close_code in (1006, None)


def test_a_peer_that_does_not_read_is_a_timeout():
    with (
        connections(buffer=65_536, send_timeout=0.05, max_backlog=0) as (_, server),
        pytest.raises((ws.SendTimeout, ws.ConnectionClosed)),
    ):
        server.send("x" * (8 * MIB))
