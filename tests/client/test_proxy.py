"""The tests' own proxy: that it does what a test tells it, and nothing else."""

import contextlib
import socket

import pytest

from pairs import SOON, receive_exactly, receive_to_end, reset
from proxy import Proxy

pytestmark = pytest.mark.once("it is about the way to a server")


@contextlib.contextmanager
def through(piece=None):
    """A proxy, and the two ends of a stream through it."""
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        Proxy(listener.getsockname()[1], piece) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), SOON) as client,
    ):
        server, _ = listener.accept()
        server.settimeout(SOON)
        with server:
            yield proxy, client, server


@pytest.mark.parametrize("piece", [None, 1, 1000])
def test_bytes_pass_both_ways_and_so_does_the_end(piece):
    data = bytes(range(256)) * 20
    with through(piece) as (_, client, server):
        client.sendall(data)
        assert receive_exactly(server, len(data)) == data
        server.sendall(data)
        server.shutdown(socket.SHUT_WR)
        assert receive_to_end(client) == data
        client.sendall(b"still open this way")
        assert receive_exactly(server, 19) == b"still open this way"


def test_what_is_held_comes_when_it_is_released():
    with through() as (proxy, client, server):
        proxy.up.after(3, "hold")
        client.sendall(b"abcdef")
        assert receive_exactly(server, 3) == b"abc"
        assert proxy.up.held.wait(SOON)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.recv(1)
        server.settimeout(SOON)
        server.sendall(b"other way")
        assert receive_exactly(client, 9) == b"other way"
        proxy.up.release()
        assert receive_exactly(server, 3) == b"def"


def test_a_stream_that_is_cut():
    with through() as (proxy, client, server):
        proxy.down.after(2, "fin")
        server.sendall(b"abc")
        assert receive_to_end(client) == b"ab"


def test_a_stream_that_is_reset():
    with through() as (proxy, client, server):
        proxy.down.after(2, "rst")
        server.sendall(b"abc")
        with pytest.raises(ConnectionResetError):
            while client.recv(10):
                pass
        with pytest.raises(ConnectionResetError):
            while server.recv(10):
                pass


def test_a_reset_is_passed_on():
    with through() as (_, client, server):
        client.sendall(b"x")
        assert receive_exactly(server, 1) == b"x"
        reset(client)
        with pytest.raises(ConnectionResetError):
            server.recv(1)
