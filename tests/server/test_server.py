"""The server on real sockets: what handlers see and do, and how they end."""

import contextlib
import ssl
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed as PeerClosed
from websockets.sync.client import connect

from looped import looped
from scriptling_ws._errors import ConnectionClosed
from scriptling_ws._server.routes import Routes
from scriptling_ws._server.server import Server
from servers import (
    RawWebSocket,
    dial,
    echo,
    exiting,
    head,
    raw_websocket,
    read_all,
    read_until,
    routes_of,
    serving,
    status_of,
    upgrade,
)

# -- the basics ------------------------------------------------------------


def test_echo():
    with serving(echo) as server, connect(server.url) as client:
        client.send("hello")
        assert client.recv(10) == "hello"
        client.send(b"\x00\xff")
        assert client.recv(10) == b"\x00\xff"


@pytest.mark.abuse(85)
def test_the_handler_sees_the_request():
    seen = []

    def handler(client):
        seen.append((client.request, client.remote_addr, client.local_addr))
        client.send("seen")
        client.receive(10)

    with serving(handler) as server:
        with connect(
            server.url + "/a%20b?x=1&y=",
            additional_headers={"X-Test": "yes", "X-Forwarded-For": "6.6.6.6"},
        ) as client:
            own = "{}:{}".format(*client.socket.getsockname())
            assert client.recv(10) == "seen"
        request, remote, local = seen[0]
        assert request.path == "/a b"
        assert request.query == {"x": "1", "y": ""}
        assert request.headers["x-test"] == "yes"
        assert remote == own  # no header changes it
        assert local == server.address


def test_options_reach_the_connection():
    types = []

    def handler(client):
        types.append(type(client.receive(10)))

    routes = Routes()
    routes.websocket("/bytes", handler, binary_type=bytes)
    routes.websocket("/default", handler)
    for options, expected in (({}, [bytes, list]), ({"binary_type": bytes}, [bytes, bytes])):
        types.clear()
        with serving(routes=routes, **options) as server:
            for path in ("/bytes", "/default"):
                with connect(server.url + path) as client:
                    client.send(b"x")
                    with pytest.raises(PeerClosed):
                        client.recv(10)
        assert types == expected


def test_message_size_limit_of_a_route():
    routes = Routes()
    routes.websocket("/small", echo, max_message_size=10)
    with serving(routes=routes) as server, connect(server.url + "/small") as client:
        client.send("x" * 11)
        with pytest.raises(PeerClosed) as closed:
            client.recv(10)
        assert closed.value.rcvd.code == 1009


def test_one_path_or_any():
    with serving(echo, path="/only") as server:
        assert status_of(server, upgrade("/other")) == 404
        with raw_websocket(server, "/only"):
            pass
    with serving(echo) as server, raw_websocket(server, "/what/ever?x"):
        pass


def test_handlers_share_their_module(tmp_path, monkeypatch):
    (tmp_path / "shared_state.py").write_text(
        "seen = []\ndef handler(client):\n    seen.append(1)\n    client.send(str(len(seen)))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with serving("shared_state.handler") as server:
        for expected in ("1", "2", "3"):
            with connect(server.url) as client:
                assert client.recv(10) == expected


def test_subprotocols():
    with serving(echo, subprotocols=["v2", "v1"]) as server:
        with connect(server.url, subprotocols=["v1", "v2"]) as client:
            assert client.subprotocol == "v2"
        with connect(server.url, subprotocols=["v1"]) as client:
            assert client.subprotocol == "v1"
        with raw_websocket(server, "/", "Sec-WebSocket-Protocol: v3") as client:
            assert "sec-websocket-protocol" not in client.answer.headers


@pytest.mark.parametrize("routed", [False, True])
def test_options_out_of_iterators(routed):
    options = {"subprotocols": iter(["v1"]), "origins": (name for name in ["http://a.example"])}
    if routed:
        routes = Routes()
        routes.websocket("/", echo, **options)
        settings = {"routes": routes}
    else:
        settings = {"handler": echo, **options}
    for _ in range(1 + routed):  # a table may be served more than once
        with (
            serving(**settings) as server,
            connect(server.url, subprotocols=["v1"], origin="http://a.example") as client,
        ):
            assert client.subprotocol == "v1"


def test_connections_property():
    with serving(echo) as server:
        assert server.connections == []
        with connect(server.url) as client:
            client.send("in")
            assert client.recv(10) == "in"
            (connection,) = server.connections
            connection.send("pushed from outside the handler")
            assert client.recv(10) == "pushed from outside the handler"


@looped(
    ("arguments", "error", "text"),
    [
        ({}, ValueError, "nothing to serve"),
        ({"routes": Routes()}, ValueError, "routes are empty"),
        ({"routes": {}}, TypeError, "has to be a Routes"),
        ({"handler": echo, "routes": routes_of(), "path": "/x"}, ValueError, "exclude each other"),
        ({"routes": routes_of(), "path": "/x"}, ValueError, "without a handler"),
        ({"handler": 5}, TypeError, "is not a function"),
        ({"handler": "os.system"}, ValueError, "standard library"),
        ({"handler": echo, "path": "x"}, ValueError, "start with '/'"),
        ({"handler": echo, "host": ""}, ValueError, "host is empty"),
        ({"handler": echo, "host": None}, TypeError, "host has to be a str"),
        ({"handler": echo, "port": "80"}, TypeError, "port has to be an int"),
        ({"handler": echo, "port": True}, TypeError, "port has to be an int"),
        ({"handler": echo, "port": 65536}, ValueError, "0 to 65535"),
        ({"handler": echo, "port": -1}, ValueError, "0 to 65535"),
        ({"handler": echo, "handshake_timeout": -1}, ValueError, "handshake_timeout"),
        ({"handler": echo, "shutdown_timeout": "1"}, TypeError, "shutdown_timeout"),
        ({"handler": echo, "max_connections": 0}, ValueError, "max_connections"),
        ({"handler": echo, "allowed_hosts": "a"}, TypeError, "allowed_hosts"),
        ({"handler": echo, "nonsense": 1}, TypeError, "nonsense"),
        ({"handler": echo, "ssl_context": True}, TypeError, "SSLContext"),
        (
            {"handler": echo, "ssl_context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)},
            ValueError,
            "is a client's",
        ),
    ],
)
def test_wrong_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        Server(**{"port": 0, **arguments})


# -- bytes that come early -------------------------------------------------


@pytest.mark.abuse(20)
def test_frames_in_the_same_segment_as_the_request():
    with serving(echo) as server, dial(server) as sock:
        first = b"\x81\x85\0\0\0\0first"
        second = b"\x82\x82\0\0\0\0\x01\x02"
        sock.sendall(upgrade("/") + first + second[:3])
        client = RawWebSocket(sock, None, read_until(sock, b"\r\n\r\n").partition(b"\r\n\r\n")[2])
        assert client.receive() == (1, b"first")
        sock.sendall(second[3:])
        assert client.receive() == (2, b"\x01\x02")


@pytest.mark.abuse(20)
def test_a_close_frame_in_the_same_segment():
    ended = []

    def handler(client):
        ended.append((client.receive(10), client.connected(), client.close_code))

    with serving(handler) as server, dial(server) as sock:
        sock.sendall(upgrade("/") + b"\x88\x82\0\0\0\0\x0f\xa0")
        assert read_all(sock).endswith(b"\x88\x02\x0f\xa0")
    assert ended == [(None, False, 4000)]


# -- handlers and how they end ---------------------------------------------


def ending(action):
    def handler(client):
        client.receive(10)
        action()

    return handler


@pytest.mark.abuse(75)
@pytest.mark.parametrize(
    ("action", "code"), [(lambda: None, 1000), (lambda: 1 / 0, 1011), (exiting, 1011)]
)
def test_how_a_handler_ends_is_the_close_code(action, code, log):
    with serving(ending(action)) as server:
        with raw_websocket(server) as bystander, raw_websocket(server) as client:
            client.send(1, b"go")
            assert client.close_code() == code
            client.leave(code)
            bystander.send(9, b"still there?")  # another client has noticed nothing
            assert bystander.receive() == (10, b"still there?")
        failures = [record for record in log.records if record.levelname == "ERROR"]
        if code == 1011:
            host, port = client.address
            assert failures[0].message == f"the handler of '/' failed for {host}:{port}"
            assert failures[0].exc_info
        else:
            assert not failures


def test_a_peer_that_left_is_no_failure(log):
    done = threading.Event()

    def handler(client):
        try:
            while True:
                client.send("more")
                client.receive(0.01)
        finally:
            done.set()

    with serving(handler) as server:
        with connect(server.url) as client:
            assert client.recv(10) == "more"
        assert done.wait(10)
        log.wait_for("closed, code")
    assert not log.texts(level=30)


def test_another_connections_end_is_a_failure(log):
    def handler(client):
        raise ConnectionClosed(1000, "another one's")

    with serving(handler) as server, raw_websocket(server) as client:
        assert client.close_code() == 1011
        host, port = client.address
        log.wait_for(f"the handler of '/' failed for {host}:{port}")


def test_what_a_handler_closes_stays_closed_so():
    def handler(client):
        client.close(4001, "mine")

    with serving(handler) as server, raw_websocket(server) as client:
        assert client.close_code() == 4001


def test_access_log(log):
    with serving(echo) as server:
        start = time.monotonic()
        with raw_websocket(server, "/a?secret=1") as client:
            log.wait_for("GET '/a' 101")
            client.send(8, b"\x0f\xa0")
            assert client.close_code() == 4000
        closed = log.wait_for("'/a' closed, code 4000, after ").message
        seconds = float(closed.removesuffix(" s").rpartition(" ")[2])
        assert 0 <= seconds < time.monotonic() - start + 0.001
        status_of(server, head("/b"))
        log.wait_for("GET '/b' 426")
    assert not any("secret" in message for message in log.texts())


def test_chat_with_three_clients():
    clients = []

    def chat(client):
        clients.append(client)
        client.send("Welcome")
        try:
            while client.connected():
                message = client.receive(timeout=60)
                if message:
                    for other in clients:
                        if other.connected():
                            other.send(message)
        finally:
            clients.remove(client)

    with serving(chat) as server, contextlib.ExitStack() as stack:
        peers = [stack.enter_context(connect(server.url)) for _ in range(3)]
        for peer in peers:
            assert peer.recv(10) == "Welcome"
        for number, peer in enumerate(peers):
            peer.send(f"from {number}")
            for other in peers:
                assert other.recv(10) == f"from {number}"
