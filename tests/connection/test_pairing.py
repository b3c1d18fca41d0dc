"""pair(): handlers without a port, on connections that are no different from others."""

import contextlib
import os
import socket
import threading

import pytest

import scriptling_ws as ws
from pairs import SOON, running
from servers import echo


@contextlib.contextmanager
def pair(*arguments, **options):
    client, server = ws.pair(*arguments, **options)
    try:
        yield client, server
    finally:
        client._abort()
        client.close()
        server.close()


@pytest.mark.parametrize("compression", [None, "deflate"])
def test_a_handler_of_a_server(compression):
    with pair(compression=compression, compression_threshold=0) as (client, server):
        assert client._channel.compresses is server._channel.compresses is bool(compression)
        with running(lambda: echo(server)):
            client.send("x" * 10_000)
            client.send_binary([1, 2])
            assert client.recv(SOON) == "x" * 10_000
            assert client.recv(SOON) == [1, 2]
            assert client.ping(SOON) is not None
            client._begin_close(4000, "bye")
        assert (server.close_code, server.close_reason) == (4000, "bye")
        assert list(client) == []


def test_the_request_is_what_a_server_would_have():
    with pair(
        "wss://user:secret@example.com:8443/chat%20room?name=ann&name=bo",
        {"X-One": "1"},
        subprotocols=["v2", "v1"],
        binary_type=bytes,
    ) as (client, server):
        request = server.request
        assert (request.method, request.path, request.query) == (
            "GET",
            "/chat room",
            {"name": "bo"},
        )
        assert request.headers["host"] == "example.com:8443"
        assert request.headers["x-one"] == "1"
        assert request.has_credentials("user", "secret")
        assert request.secure
        assert server.state is request.state
        assert client.request.target == request.target
        assert client.response.status == 101
        assert client.subprotocol == server.subprotocol == "v2"
        client.send_binary(b"\x01")
        assert server.recv(SOON) == b"\x01"


def test_both_ends_take_part_in_the_closing_handshake():
    with pair() as (client, server), running(lambda: list(server)) as (loop,):
        client.close(1001, "going")
        assert loop.result() == []
        assert (client.close_code, server.close_code) == (1001, 1001)


def test_the_limits_are_those_of_any_connection():
    with pair(max_message_size=10) as (client, server):
        client.send("12345678901")
        with pytest.raises(ws.ConnectionClosed) as caught:
            server.recv(SOON)
        assert caught.value.code == 1009
        assert client.receive(SOON) is None
        assert client.close_code == 1009


def test_a_peer_that_does_not_read_is_given_up():
    with pair(send_timeout=0.05, max_backlog=0) as (client, _), pytest.raises(ws.SendTimeout):
        for _ in range(1000):
            client.send_binary(bytes(100_000))


def test_wait_and_rooms_know_them():
    room = ws.room("pairing")
    with pair() as (client, server), pair() as (other, outside):
        room.join(server)
        room.send("hello")
        assert ws.wait([other, client, outside], SOON) == [client]
        assert client.receive(0) == "hello"
        room.leave(server)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "says"),
    [
        (["http://localhost/"], {}, ws.InvalidURL, "scheme"),
        ([1], {}, TypeError, "URL"),
        ([], {"headers": {"Upgrade": "x"}}, ValueError, "Upgrade"),
        ([], {"subprotocols": "v1"}, TypeError, "subprotocols"),
        ([], {"max_message_size": 0}, ValueError, "max_message_size"),
        ([], {"max_size": 1}, TypeError, r"pair\(\) takes no option 'max_size': write max_mes"),
        ([], {"timeout": 1}, TypeError, r"pair\(\) takes no option 'timeout'"),
        (["ws://localhost/a/../../b"], {}, ws.HandshakeError, "would refuse this with HTTP status"),
    ],
)
def test_bad_arguments(arguments, options, error, says):
    with pytest.raises(error, match=says):
        ws.pair(*arguments, **options)


def test_too_few_descriptors(monkeypatch):
    def none_left():
        raise OSError(24, os.strerror(24))

    monkeypatch.setattr("socket.socketpair", none_left)
    with pytest.raises(ws.ConnectError, match="cannot make a pair") as caught:
        ws.pair()
    assert caught.value.errno == 24


def test_a_signal_handlers_timeout_leaves_nothing_open(monkeypatch):
    made = []

    class Struck(socket.socket):
        """One in whose call a signal handler raises."""

        def getpeername(self):
            raise TimeoutError("a signal handler's")

    def struck():
        near, far = socketpair()
        made.extend([near, Struck(fileno=far.detach())])
        return made

    socketpair = socket.socketpair
    monkeypatch.setattr("socket.socketpair", struck)
    with pytest.raises(TimeoutError, match="a signal handler's"):
        ws.pair()
    assert [sock.fileno() for sock in made] == [-1, -1]


def test_it_leaves_nothing_behind():
    threads = threading.active_count()
    client, server = ws.pair()
    with running(server.close):
        client.close()
    assert client.fileno() == server.fileno() == -1
    assert threading.active_count() == threads
