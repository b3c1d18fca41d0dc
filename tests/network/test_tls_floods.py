"""Peers that send TLS records without data, for as long as they are let."""

import contextlib
import socket
import ssl
import threading

import pytest

from frames import frame
from pairs import KIB, MIB, SOON, Running, at_least, tcp_pair, tls_contexts
from renegotiation import Renegotiating, hello_requests, needs_cryptography
from scriptling_ws import ConnectTimeout, connect
from scriptling_ws._network.deadline import Deadline
from scriptling_ws._network.tls import TLSTransport
from servers import dial, echo, serving, upgrade

pytestmark = needs_cryptography

MOST = 2 * MIB  # what a flood may send before its connection is ended


@contextlib.contextmanager
def flooding(sock):
    """A thread that asks for renegotiation until it is left; how many bytes it has sent."""
    peer, sent = Renegotiating(sock), []

    def flood():
        with contextlib.suppress(OSError):
            while sum(sent) < 8 * MOST:
                sent.append(peer.ask())

    flood.peer = peer
    running = Running(flood)
    yield sent
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    running.result()


def test_a_flood_of_requests_to_renegotiate_ends_the_connection():
    near, far = tcp_pair()
    with near:
        server = TLSTransport(far, tls_contexts()[1], server_side=True)
        shaking = Running(Renegotiating, near)
        deadline = Deadline(SOON)
        while not server.handshake_step():
            server.wait(True, server.pending, deadline)
        peer = shaking.result()
        peer.send(b"data")
        buffer = bytearray(KIB)
        while server.read_into(buffer) is None:
            server.wait(True, False, deadline)
        assert buffer[:4] == b"data"

        def flood():
            with contextlib.suppress(OSError):
                while not deadline.passed():
                    peer.ask()

        running = Running(flood)
        received = 0
        with pytest.raises(ssl.SSLError, match="without data"):
            while True:
                assert server.read_into(buffer) is None
                received += 1
                server.wait(True, server.pending, deadline)
        server.close()
        running.result()


def test_a_few_requests_to_renegotiate_are_passed_over():
    with serving(echo, ssl_context=tls_contexts()[1]) as server, dial(server) as sock:
        peer = Renegotiating(sock)
        for _ in range(3):
            peer.ask(10)
            peer.send(upgrade()[:20])
            break
        peer.send(upgrade()[20:])
        peer.ask(10)
        peer.send(frame(1, b"still here", mask=True))
        assert sock.recv(65536)


@pytest.mark.abuse(17, 19)
@pytest.mark.parametrize("upgraded", [False, True], ids=["before its request", "as a connection"])
def test_others_are_served_while_a_peer_floods(upgraded):
    contexts = tls_contexts()
    ended = threading.Event()

    def handler(client):
        echo(client)
        ended.set()

    with serving(handler, ssl_context=contexts[1]) as server, dial(server) as sock:
        peer = Renegotiating(sock)
        if upgraded:
            peer.send(upgrade())
            assert sock.recv(65536)
        sent = []

        def flood():
            with contextlib.suppress(OSError):
                while sum(sent) < 100 * MIB:
                    sent.append(peer.ask())

        flood = Running(flood)
        url = f"wss://localhost:{server.port}"
        with connect(url, ssl_context=contexts[0]) as conn:
            conn.send("served")
            assert conn.receive(SOON) == "served"
        flood.result()  # it was left
        assert sum(sent) < 50 * MIB
        assert not upgraded or ended.wait(SOON)
        with at_least(0):
            server.close()


def test_a_receiver_keeps_its_timeout_while_a_server_floods():
    near, far = tcp_pair()
    contexts = tls_contexts()
    server = TLSTransport(far, contexts[1], server_side=True)
    with near:
        shaking = Running(Renegotiating, near)
        deadline = Deadline(SOON)
        while not server.handshake_step():
            server.wait(True, server.pending, deadline)
        peer = shaking.result()
        from pairs import connection

        conn = connection(server, client=False, ping_interval=None)
        stop = threading.Event()

        def flood():
            with contextlib.suppress(OSError):
                while not stop.is_set():
                    peer.ask()

        running = Running(flood)
        with at_least(0, SOON):
            assert conn.receive(SOON / 2) is None
        assert conn.close_code == 1006
        conn.close()
        stop.set()
        running.result()


@pytest.mark.abuse(32)
def test_connecting_to_a_server_that_floods_keeps_its_timeout():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def flood():
            sock, _ = listener.accept()
            many = hello_requests(256 * KIB)
            with sock, contextlib.suppress(OSError):
                sock.recv(65536)
                while True:
                    sock.sendall(many)

        running = Running(flood)
        with at_least(0.3), pytest.raises(ConnectTimeout):
            connect(
                f"wss://localhost:{listener.getsockname()[1]}",
                timeout=0.3,
                ssl_context=tls_contexts()[0],
            )
        running.result()
