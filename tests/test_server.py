"""The server on real sockets: what it answers, to whom, and what is left of it afterwards."""

import contextlib
import errno
import signal
import socket
import ssl
import threading
import time

import pytest
from websockets.exceptions import ConnectionClosed as PeerClosed
from websockets.sync.client import connect

import scriptling_ws
from abuse import row
from pairs import Running, until
from scriptling_ws import _accept, _server, _sessions
from scriptling_ws._errors import ConnectionClosed
from scriptling_ws._head import Refused
from scriptling_ws._http import text
from scriptling_ws._routes import Routes
from scriptling_ws._server import Server, serve
from servers import (
    Answer,
    Certificates,
    RawWebSocket,
    ask,
    dial,
    echo,
    head,
    raw_websocket,
    read_all,
    read_until,
    server_threads,
    serving,
    status_of,
    upgrade,
)


@pytest.fixture(scope="module")
def certificates():
    return Certificates()


def routes_of(handler=echo, page=lambda request: "page"):
    routes = Routes()
    routes.websocket("/ws", handler)
    routes.get("/page", page)
    return routes


# -- the basics ----------------------------------------------------------------


def test_echo():
    with serving(echo) as server, connect(server.url) as client:
        client.send("hello")
        assert client.recv(10) == "hello"
        client.send(b"\x00\xff")
        assert client.recv(10) == b"\x00\xff"


def test_where_it_listens():
    with serving(echo) as server:
        assert server.port > 0
        assert server.address == f"127.0.0.1:{server.port}"
        assert server.url == f"ws://127.0.0.1:{server.port}"


def test_ipv6():
    try:
        server = serving(echo, host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    with server:
        assert server.url == f"ws://[::1]:{server.port}"
        with connect(server.url) as client:
            client.send("six")
            assert client.recv(10) == "six"


def test_a_name_is_listened_on_at_all_its_addresses(monkeypatch):
    found = [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.2", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)
    try:
        server = serving(echo, host="several.test")
    except OSError:
        pytest.skip("one loopback address only")
    monkeypatch.undo()
    with server:
        for host in ("127.0.0.1", "127.0.0.2"):
            with socket.create_connection((host, server.port), timeout=10) as sock:
                sock.sendall(head("/x"))
                assert Answer(read_all(sock)).status == 426


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


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({}, ValueError, "nothing to serve"),
        ({"routes": Routes()}, ValueError, "routes are empty"),
        ({"routes": {}}, TypeError, "has to be a Routes"),
        ({"handler": echo, "routes": routes_of()}, ValueError, "exclude each other"),
        ({"routes": routes_of(), "path": "/x"}, ValueError, "no handler"),
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


def test_a_port_in_use():
    with serving(echo) as server:
        with pytest.raises(OSError, match=rf"cannot listen on 127.0.0.1:{server.port}: ") as caught:
            Server(echo, port=server.port)
        assert caught.value.errno == errno.EADDRINUSE


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a..b"])
def test_an_address_that_is_not_here(host):
    with pytest.raises((OSError, ValueError), match=r"cannot listen|cannot find|is not a host"):
        Server(echo, host=host, port=0)


# -- what is refused, with which status ------------------------------------------


def long_lines(count, size):
    return [f"X-{number}: {'x' * size}" for number in range(count)]


REFUSALS = [
    *row(
        12,
        {
            "unknown path": (upgrade("/nowhere"), 404),
            "unknown page": (head("/nowhere"), 404),
            "dotted path": (upgrade("//x/../ws"), 404),
            "asterisk": (upgrade("*"), 400),
            "absolute form": (upgrade("http://evil/ws"), 400),
            "fragment": (upgrade("/ws#x"), 400),
            "upgrade of a page": (upgrade("/page"), 404),
        },
    ),
    *row(
        1,
        {
            "POST": (upgrade("/ws", method="POST"), 405),
            "HEAD": (upgrade("/ws", method="HEAD"), 405),
            "POST to a page": (head("/page", method="POST"), 405),
            "DELETE of a page": (head("/page", method="DELETE"), 405),
        },
    ),
    *row(
        2,
        {
            "HTTP/1.0": (upgrade("/ws", version="HTTP/1.0"), 505),
            "HTTP/2.0": (upgrade("/ws", version="HTTP/2.0"), 505),
            "HTTP/1.0 page": (head("/page", version="HTTP/1.0"), 505),
        },
    ),
    *row(
        3,
        {
            "no Host": (upgrade("/ws", host=None), 400),
            "two Hosts": (upgrade("/ws", "Host: other"), 400),
        },
    ),
    *row(
        4,
        {
            "Host of high bytes": (upgrade("/ws", host="\xff"), 400),
        },
    ),
    *row(
        5,
        {
            "no key": (upgrade("/ws", Sec_WebSocket_Key=None), 400),
            "short key": (upgrade("/ws", Sec_WebSocket_Key="abc"), 400),
            "key not base64": (upgrade("/ws", Sec_WebSocket_Key="!!!=="), 400),
            "two keys": (upgrade("/ws", "Sec-WebSocket-Key: c2l4dGVlbiBieXRlcy4uLg=="), 400),
        },
    ),
    *row(
        6,
        {
            "version 8": (upgrade("/ws", Sec_WebSocket_Version="8"), 426),
            "no version": (upgrade("/ws", Sec_WebSocket_Version=None), 400),
        },
    ),
    *row(
        7,
        {
            "Connection: notupgrade": (upgrade("/ws", Connection="notupgrade"), 400),
            "Upgrade: h2c": (upgrade("/ws", Upgrade="h2c"), 400),
            "no upgrade": (head("/ws"), 426),
        },
    ),
    *row(
        8,
        {
            "Content-Length": (upgrade("/ws", "Content-Length: 5") + b"hello", 400),
            "chunked": (upgrade("/ws", "Transfer-Encoding: chunked") + b"0\r\n\r\n", 400),
            "both": (upgrade("/ws", "Content-Length: 5", "Transfer-Encoding: chunked"), 400),
        },
    ),
    *row(
        9,
        {
            "folded line": (upgrade("/ws", "X: a", " b"), 400),
            "bare LF": (upgrade("/ws").replace(b"\r\nUpgrade", b"\nUpgrade"), 400),
            "NUL": (upgrade("/ws", "X: a\0b"), 400),
            "NUL in a name": (upgrade("/ws", "X\0Y: a"), 400),
            "NUL in the path": (upgrade("/ws\0"), 400),
            "NUL in the method": (upgrade("/ws", method="GE\0T"), 400),
            "NUL in a token": (upgrade("/ws", Upgrade="websocket\0"), 400),
            "vertical tab": (upgrade("/ws", "X: a\x0bb"), 400),
            "vertical tab in a name": (upgrade("/ws", "X\x0bY: a"), 400),
            "vertical tab in the path": (upgrade("/ws\x0b"), 400),
            "vertical tab in a token": (upgrade("/ws", Upgrade="\x0bwebsocket"), 400),
            "name of high bytes": (upgrade("/ws", "X\x85: a"), 400),
        },
    ),
    *row(
        10,
        {
            "20 KiB header": (upgrade("/ws", "X: " + "x" * 20_480), 431),
            "1,000 headers": (upgrade("/ws", *long_lines(1000, 1)), 431),
            "100 KiB of headers": (upgrade("/ws", *long_lines(100, 1000)), 431),
        },
    ),
    *row(
        11,
        {
            "100 KiB request line": (upgrade("/" + "x" * 102_400), 414),
        },
    ),
    # not HTTP at all
    pytest.param(b"\x00\x01\x02\r\n\r\n", 400, id="garbage"),
    pytest.param(b"hello\r\n\r\n", 400, id="a word"),
    pytest.param(b"SSH-2.0-OpenSSH_9.9\r\n\r\n", 400, id="SSH"),
    pytest.param(head("/%ff"), 400, id="bad percent-encoding"),
]


@pytest.fixture
def refusing():
    with serving(routes=routes_of()) as server:
        yield server


@pytest.mark.parametrize(("request_bytes", "status"), REFUSALS)
def test_refusals(refusing, request_bytes, status):
    answer = ask(refusing, request_bytes)
    assert answer.status == status
    assert "close" in answer.headers["connection"]
    if "HEAD" not in request_bytes[:4].decode("latin-1"):
        assert answer.body.startswith(str(status).encode())
    # The next one is served: nothing of the refused one is left.
    assert ask(refusing, head("/page")).body == b"page"


@pytest.mark.parametrize("size", [1, 7, 100])
def test_refusals_do_not_depend_on_the_pieces(refusing, size):
    request = upgrade("/ws", Sec_WebSocket_Version="8")
    with dial(refusing) as sock:
        for start in range(0, len(request), size):
            sock.sendall(request[start : start + size])
        assert Answer(read_all(sock)).status == 426


def test_headers_that_refusals_have_to_have(refusing):
    answer = ask(refusing, upgrade("/ws", method="POST"))
    assert answer.headers["allow"] == "GET"
    assert ask(refusing, head("/page", method="PUT")).headers["allow"] == "GET, HEAD"
    for request in (head("/ws"), upgrade("/ws", Sec_WebSocket_Version="8")):
        answer = ask(refusing, request)
        assert answer.headers["upgrade"] == "websocket"
        assert answer.headers["connection"] == "close, upgrade"
    for version in ("8", "13, 8", None):
        answer = ask(refusing, upgrade("/ws", Sec_WebSocket_Version=version))
        assert answer.headers["sec-websocket-version"] == "13"


@pytest.mark.abuse(13)
@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=15x",
        'permessage-deflate; server_max_window_bits="10"',
        "permessage-deflate; server_max_window_bits=99",
        "permessage-deflate; client_max_window_bits",
        "x-unknown; a=b, permessage-deflate",
    ],
)
def test_extension_offers_are_declined(refusing, offer):
    with raw_websocket(refusing, "/ws", f"Sec-WebSocket-Extensions: {offer}") as client:
        assert "sec-websocket-extensions" not in client.answer.headers
        client.send(1, b"still works")
        assert client.receive() == (1, b"still works")


@pytest.mark.abuse(14)
@pytest.mark.parametrize("offer", ['a="' + "\x07" * 3000, "b" + " " * 7000 + "x"])
def test_hostile_extension_headers_cost_no_time(refusing, offer):
    request = upgrade("/ws", f"Sec-WebSocket-Extensions: {offer}")
    with dial(refusing) as sock:
        before = time.process_time()
        sock.sendall(request)
        status = read_until(sock, b"\r\n")[9:12]
        spent = time.process_time() - before
    assert status in (b"101", b"400")
    assert spent < 0.1  # 10 ms is the goal; the whole process and its tracer are counted here


def test_the_answer_is_read_whole_in_spite_of_unread_bytes(refusing):
    # A socket closed with unread bytes in it is reset, and the answer lost.
    with dial(refusing) as sock:
        sock.sendall(head("/page", "Content-Length: 3000000", method="POST"))
        with contextlib.suppress(OSError):
            sock.sendall(bytes(3_000_000))
        assert Answer(read_all(sock)).status == 405


@pytest.mark.abuse(15)
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "x"])
def test_foreign_origins(refusing, origin, log):
    assert status_of(refusing, upgrade("/ws", f"Origin: {origin}")) == 403
    record = log.wait_for("to allow it")
    assert f"origins=['{origin}']" in record.message


def test_the_own_origin(refusing):
    host = f"localhost:{refusing.port}"
    with raw_websocket(refusing, "/ws", f"Origin: http://{host}", host=host):
        pass


def test_origins_option():
    routes = Routes()
    routes.websocket("/own", echo)
    routes.websocket("/named", echo, origins=["https://app.example"])
    routes.websocket("/any", echo, origins="*")
    with serving(routes=routes) as server:
        for path, status in (("/own", 403), ("/any", 101), ("/named", 101)):
            if status == 101:
                with raw_websocket(server, path, "Origin: https://app.example"):
                    pass
            else:
                assert status_of(server, upgrade(path, "Origin: https://app.example")) == status
        assert status_of(server, upgrade("/named", "Origin: https://evil.example")) == 403
    with serving(echo, origins="*") as server, raw_websocket(server, "/", "Origin: null"):
        pass


@pytest.mark.abuse(16)
def test_allowed_hosts():
    with serving(routes=routes_of(), allowed_hosts=["good.example"]) as server:
        for path in ("/ws", "/page"):
            make = upgrade if path == "/ws" else head
            assert status_of(server, make(path, host="evil.example")) == 400
        # Rebinding makes Origin and Host agree.
        request = upgrade("/ws", "Origin: http://evil.example", host="evil.example")
        assert status_of(server, request) == 400
        assert ask(server, head("/page", host="good.example:99")).status == 200
        with raw_websocket(server, "/ws", host="good.example"):
            pass


@pytest.mark.abuse(85)
def test_the_log_is_escaped(refusing, log):
    status_of(refusing, head("/%1b%5b31m%0d%0aforged%e2%98%83"))
    record = log.wait_for(" 404")
    assert r"'/\x1b[31m\r\nforged\u2603'" in record.message
    status_of(refusing, upgrade("/ws", "Origin: http://\x9b31m"))
    assert r"\x9b31m" in log.wait_for("to allow it").message
    for message in log.texts():
        assert message.isascii()
        assert message.isprintable()


# -- bytes that come early ---------------------------------------------------------


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


# -- slow and silent peers -----------------------------------------------------------


@pytest.mark.abuse(17, 18)
def test_slow_peers_cost_no_threads():
    with serving(echo, handshake_timeout=30) as server, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(dial(server)) for _ in range(100)]
        for number, sock in enumerate(slow):
            sock.sendall(upgrade("/")[: number % 50])
        with connect(server.url) as client:
            client.send("through")
            assert client.recv(10) == "through"
            assert len(server_threads()) == 2  # the acceptor and this client's
        slow[49].sendall(upgrade("/")[49:])  # and a slow one gets through in the end
        assert read_until(slow[49], b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")


@pytest.mark.abuse(17)
def test_a_request_that_takes_too_long_is_408(log):
    with serving(routes=routes_of(), handshake_timeout=0.2) as server, dial(server) as sock:
        sock.sendall(upgrade("/ws")[:-1])
        assert Answer(read_all(sock)).status == 408
        log.wait_for("- '-' 408")


def test_a_body_that_takes_too_long_is_408():
    with serving(routes=routes_of(), handshake_timeout=0.2) as server, dial(server) as sock:
        sock.sendall(head("/page", "Content-Length: 5") + b"half")
        assert Answer(read_all(sock)).status == 408


@pytest.mark.abuse(18)
def test_silence_is_closed_at_the_deadline():
    with serving(echo, handshake_timeout=0.2) as server, dial(server) as sock:
        start = time.monotonic()
        assert read_all(sock) == b""
        assert time.monotonic() - start < 5


@pytest.mark.abuse(17)
def test_a_steady_drip_does_not_move_the_deadline():
    with serving(echo, handshake_timeout=0.5) as server, dial(server) as sock:
        start = time.monotonic()
        sock.settimeout(0.02)
        received = b""
        for byte in head("/", "X: " + "x" * 8000):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.send(bytes([byte]))
            try:
                received = sock.recv(4096)
                break
            except TimeoutError:
                continue
        assert received.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - start < 3


def test_peers_that_leave_are_forgotten():
    with serving(echo, handshake_timeout=30) as server:
        for data in (b"", b"GET / HT", upgrade("/")[:-2]):
            with dial(server) as sock:
                sock.sendall(data)
        with connect(server.url) as client:
            client.send("alive")
            assert client.recv(10) == "alive"
        for _ in range(100):  # the acceptor notices them one by one
            if not server._acceptor._opening and not server._acceptor._closing:
                break
            status_of(server, head("/"))
        assert len(server._acceptor._opening) == 0


def test_a_peer_that_does_not_close_after_its_refusal_is_closed(monkeypatch):
    monkeypatch.setattr("scriptling_ws._accept.LINGER", 0.2)
    with serving(echo) as server, dial(server) as sock:
        sock.sendall(head("/"))
        assert Answer(read_all(sock)).status == 426
        with pytest.raises(OSError):  # the server's socket is gone: a reset comes back
            while True:
                sock.sendall(b"x")


def test_a_peer_that_goes_on_sending_after_its_refusal_is_closed(monkeypatch):
    monkeypatch.setattr("scriptling_ws._peer._MAX_DRAIN", 100_000)
    with serving(echo) as server, dial(server) as sock:
        sock.sendall(head("/"))
        assert Answer(read_until(sock, b"client\n")).status == 426
        with pytest.raises(OSError):
            while True:
                sock.sendall(bytes(10_000))


# -- handlers and how they end ---------------------------------------------------------


def ending(action):
    def handler(client):
        client.receive(10)
        action()

    return handler


def exiting():
    raise SystemExit(3)


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
            assert "the handler of '/' failed" in failures[0].message
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
        log.wait_for("failed")


def test_what_a_handler_closes_stays_closed_so():
    def handler(client):
        client.close(4001, "mine")

    with serving(handler) as server, raw_websocket(server) as client:
        assert client.close_code() == 4001


def test_access_log(log):
    with serving(echo) as server:
        with raw_websocket(server, "/a?secret=1") as client:
            log.wait_for("GET '/a' 101")
            client.send(8, b"\x0f\xa0")
            assert client.close_code() == 4000
        log.wait_for("'/a' closed, code 4000, after ")
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


# -- limits ------------------------------------------------------------------------------


@pytest.mark.abuse(63)
def test_max_connections():
    with (
        serving(routes=routes_of(), max_connections=2) as server,
        raw_websocket(server, "/ws") as first,
        raw_websocket(server, "/ws"),
    ):
        answer = ask(server, upgrade("/ws"))
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert status_of(server, head("/page")) == 200  # pages are counted apart
        first.send(8, b"\x03\xe8")
        assert first.close_code() == 1000
        assert first.ended()
        first.sock.close()
        for _ in range(100):  # until the handler's thread has counted itself out
            with dial(server) as sock:
                sock.sendall(upgrade("/ws"))
                if read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101"):
                    break
        else:
            pytest.fail("the place was not given back")


@pytest.mark.abuse(63)
def test_max_connections_per_address():
    with serving(echo, max_connections_per_address=1) as server, raw_websocket(server):
        assert status_of(server, upgrade()) == 503
        with contextlib.ExitStack() as stack:
            try:
                other = stack.enter_context(
                    socket.create_connection(
                        ("127.0.0.1", server.port), 10, source_address=("127.0.0.2", 0)
                    )
                )
            except OSError:
                return  # one loopback address only
            other.sendall(upgrade())
            assert read_until(other, b"\r\n\r\n").startswith(b"HTTP/1.1 101")


def test_max_requests():
    entered, leave = threading.Semaphore(0), threading.Event()

    def page(request):
        entered.release()
        leave.wait(10)
        return "done"

    with serving(routes=routes_of(page=page), max_requests=2) as server:
        with dial(server) as first, dial(server) as second:
            for sock in (first, second):
                sock.sendall(head("/page"))
                assert entered.acquire(timeout=10)
            assert status_of(server, head("/page")) == 503
            with raw_websocket(server, "/ws"):
                pass
            leave.set()
            assert Answer(read_all(first)).status == Answer(read_all(second)).status == 200
        assert status_of(server, head("/page")) == 200


@pytest.mark.abuse(63)
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_no_thread_left(monkeypatch, error, log):
    def refuse(body, name):
        raise error

    with serving(routes=routes_of(), max_connections=1, max_requests=1) as server:
        with monkeypatch.context() as patch:
            patch.setattr(_sessions, "start_thread", refuse)
            for _ in range(2):
                assert status_of(server, upgrade("/ws")) == 503
                assert status_of(server, head("/page")) == 503
        with raw_websocket(server, "/ws"):  # the places were given back, the server lives
            pass
        assert status_of(server, head("/page")) == 200
        assert server.connections == [] or len(server.connections) == 1


class Exhausted(socket.socket):
    """A listening socket on which accept fails a number of times."""

    failures = 0
    calls = 0
    error = errno.EMFILE

    def accept(self):
        type(self).calls += 1
        if type(self).failures:
            type(self).failures -= 1
            raise OSError(self.error, "Too many open files") if self.error else MemoryError
        return super().accept()


@pytest.mark.abuse(62)
@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, 0])
def test_out_of_descriptors_backs_off_and_recovers(monkeypatch, error, log):
    real = _server.listen

    def listen(host, port):
        return [Exhausted(fileno=sock.detach()) for sock in real(host, port)]

    monkeypatch.setattr(_server, "listen", listen)
    monkeypatch.setattr(Exhausted, "failures", 3)
    monkeypatch.setattr(Exhausted, "calls", 0)
    monkeypatch.setattr(Exhausted, "error", error)
    with serving(echo) as server:
        start = time.monotonic()
        with raw_websocket(server):
            pass
        assert time.monotonic() - start >= 0.3  # 0.1, 0.2 and 0.4 s, not a spin
        assert Exhausted.calls <= 8
    assert sum("accepting no connections" in message for message in log.texts(level=30)) == 1


def test_no_memory_for_a_peer_is_one_connections_own(monkeypatch, log):
    def fail(*_):
        raise MemoryError

    with serving(echo) as server:
        monkeypatch.setattr(_accept.Peer, "__init__", fail)
        with dial(server) as sock:
            assert sock.recv(1) == b""
        monkeypatch.undo()
        with raw_websocket(server):
            pass
    assert any("could not be taken" in message for message in log.texts(level=40))


def test_other_accept_errors_are_one_connections_own(monkeypatch):
    real = _server.listen

    def listen(host, port):
        return [Exhausted(fileno=sock.detach()) for sock in real(host, port)]

    monkeypatch.setattr(_server, "listen", listen)
    monkeypatch.setattr(Exhausted, "failures", 3)
    monkeypatch.setattr(Exhausted, "error", errno.ECONNABORTED)
    with serving(echo) as server, raw_websocket(server):
        pass


def test_no_error_ends_the_acceptor(monkeypatch, log):
    def fail(self, transport, head, request):
        raise ZeroDivisionError

    with serving(echo) as server:
        monkeypatch.setattr(server._acceptor, "_admit", fail.__get__(server))
        with dial(server) as sock:
            sock.sendall(upgrade())
            assert read_all(sock) == b""
        log.wait_for("the handshake with")
        monkeypatch.undo()
        with raw_websocket(server):
            pass


# -- pages ---------------------------------------------------------------------------------


def test_a_page_gets_the_request():
    seen = []

    def page(request):
        seen.append(request)
        return text(202, "seen", {"X-More": "1"})

    routes = Routes()
    routes.get("/a b", page)
    with serving(routes=routes) as server:
        answer = ask(server, head("/a%20b?x=1&x=2&y=%20", "X-Y: 1", "X-Y: 2"))
    assert (answer.status, answer.body, answer.headers["x-more"]) == (202, b"seen", "1")
    (request,) = seen
    assert (request.method, request.path) == ("GET", "/a b")
    assert request.query == {"x": "2", "y": " "}
    assert request.headers["x-y"] == "1, 2"
    assert request.body == b""


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_pages_request_may_have_a_body(pieces):
    routes = routes_of(page=lambda request: request.body[::-1])
    with serving(routes=routes) as server, dial(server) as sock:
        request = head("/page", "Content-Length: 6") + b"abcdefEXTRA"
        step = -(-len(request) // pieces)
        for start in range(0, len(request), step):
            sock.sendall(request[start : start + step])
        assert Answer(read_all(sock)).body == b"fedcba"


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("Content-Length: 1048577", 413),
        ("Content-Length: " + "9" * 19, 413),
        ("Content-Length: -1", 400),
        ("Content-Length: 1x", 400),
        ("Transfer-Encoding: chunked", 411),
    ],
)
def test_bodies_that_are_refused(refusing, line, status):
    assert status_of(refusing, head("/page", line)) == status


def test_head_of_a_page(refusing):
    answer = ask(refusing, head("/page", method="HEAD"))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == "4"


def refusing_page(request):
    raise Refused(404, "not here")


@pytest.mark.parametrize(
    ("page", "status"),
    [
        (lambda request: 1 / 0, 500),
        (lambda request: exiting(), 500),
        (lambda request: None, 500),
        (lambda request: text(99, ""), 500),
        (refusing_page, 404),
    ],
)
def test_pages_that_fail(page, status, log):
    with serving(routes=routes_of(page=page)) as server:
        answer = ask(server, head("/page"))
        assert answer.status == status
        assert b"Traceback" not in answer.body
        assert b"division" not in answer.body
        if status == 500:
            assert log.wait_for("the page '/page' failed").exc_info
        with raw_websocket(server, "/ws"):
            pass


def test_a_page_and_a_websocket_on_one_path():
    routes = Routes()
    routes.get("/", lambda request: "page")
    routes.websocket("/", echo)
    with serving(routes=routes) as server:
        assert ask(server, head("/")).body == b"page"
        assert ask(server, head("/", "Upgrade: h2c", "Connection: Upgrade")).status == 400
        with raw_websocket(server, "/") as client:
            client.send(1, b"socket")
            assert client.receive() == (1, b"socket")


def test_an_upgrade_to_http2_of_a_page_is_ignored(refusing):
    # RFC 9110 section 7.8: a server may ignore Upgrade.
    assert status_of(refusing, head("/page", "Upgrade: h2c", "Connection: Upgrade")) == 200


def test_what_follows_a_page_request_is_not_answered(refusing):
    assert ask(refusing, head("/page") * 3).raw.count(b"HTTP/1.1") == 1


@pytest.fixture
def files(tmp_path):
    root = tmp_path
    (root / "public" / "sub").mkdir(parents=True)
    (root / "secret.txt").write_text("secret")
    (root / "public" / "index.html").write_text("<p>home")
    (root / "public" / "big.bin").write_bytes(bytes(range(256)) * 20_000)
    routes = Routes()
    routes.static("/", root / "public")
    routes.websocket("/ws", echo)
    with serving(routes=routes) as server:
        yield server


def test_static_files(files):
    answer = ask(files, head("/"))
    assert (answer.status, answer.body) == (200, b"<p>home")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert ask(files, head("/big.bin")).body == bytes(range(256)) * 20_000
    assert ask(files, head("/big.bin", method="HEAD")).headers["content-length"] == "5120000"
    assert ask(files, head("/sub")).headers["location"] == "/sub/"
    assert status_of(files, head("/", method="POST")) == 405
    assert status_of(files, head("/ws")) == 426
    with raw_websocket(files, "/ws"):
        pass


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%2fsecret.txt",
        "/sub/../../secret.txt",
        "/sub/%2e%2e/%2e%2e/secret.txt",
        "/..%5csecret.txt",
        "/..%c0%afsecret.txt",
        "/%252e%252e/secret.txt",
        "/index.html%00.txt",
        "/%00",
        "//secret.txt",
        "///etc/passwd",
        "/%2fetc/passwd",
        "/sub/....//secret.txt",
    ],
)
def test_traversal(files, path):
    answer = ask(files, head(path))
    assert answer.status in (400, 404)
    assert b"secret" not in answer.body.replace(path.encode(), b"")


def test_a_download_that_is_broken_off(files, log):
    with dial(files) as sock:
        sock.sendall(head("/big.bin"))
        assert sock.recv(100)
    log.wait_for("was not sent")
    assert status_of(files, head("/")) == 200


# -- TLS -----------------------------------------------------------------------------------


def test_tls(certificates):
    with serving(echo, ssl_context=certificates.server) as server:
        assert server.url == f"wss://127.0.0.1:{server.port}"
        # Not with websockets: on CPython 3.13.0 its two threads can lock each other out
        # of one SSLSocket.
        with scriptling_ws.connect(server.url, ssl_context=certificates.client) as client:
            client.send("x" * 300_000)
            assert client.receive(10) == "x" * 300_000
            client.send_binary([1])
            assert client.receive(10) == [1]


def tls_dial(server, certificates):
    return certificates.client.wrap_socket(dial(server), server_hostname="localhost")


def test_tls_refusals_and_pages(certificates):
    with serving(routes=routes_of(), ssl_context=certificates.server) as server:
        for request, status in ((head("/page"), 200), (head("/x"), 404), (head("/ws"), 426)):
            with tls_dial(server, certificates) as sock:
                sock.sendall(request)
                assert Answer(read_all(sock)).status == status


@pytest.mark.abuse(20, 60)
def test_tls_request_and_frame_in_one_record(certificates):
    with (
        serving(echo, ssl_context=certificates.server) as server,
        tls_dial(server, certificates) as sock,
    ):
        sock.sendall(upgrade("/") + b"\x81\x85\0\0\0\0early")
        data = read_until(sock, b"\r\n\r\n")
        client = RawWebSocket(sock, None, data.partition(b"\r\n\r\n")[2])
        assert client.receive() == (1, b"early")


@pytest.mark.abuse(19)
def test_plain_bytes_to_a_tls_port(certificates, log):
    with serving(echo, ssl_context=certificates.server, handshake_timeout=30) as server:
        with dial(server) as sock:
            sock.sendall(upgrade("/"))
            with contextlib.suppress(ConnectionResetError):
                assert not read_all(sock).startswith(b"HTTP")
        log.wait_for("left during the handshake")
        with connect(server.url, ssl=certificates.client) as client:
            client.send("alive")
            assert client.recv(10) == "alive"


@pytest.mark.abuse(19)
def test_tls_to_a_plain_port(certificates):
    with serving(echo, handshake_timeout=30) as server:
        start = time.monotonic()
        with pytest.raises(ssl.SSLError), tls_dial(server, certificates):
            pass
        assert time.monotonic() - start < 5  # at once, not at the deadline
        with raw_websocket(server):
            pass


@pytest.mark.abuse(19)
def test_stalled_tls_handshakes_cost_no_threads(certificates):
    with (
        serving(echo, ssl_context=certificates.server, handshake_timeout=1) as server,
        contextlib.ExitStack() as stack,
    ):
        stalled = [stack.enter_context(dial(server)) for _ in range(20)]
        outgoing = ssl.MemoryBIO()
        tls = certificates.client.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
        with pytest.raises(ssl.SSLWantReadError):
            tls.do_handshake()
        hello = outgoing.read()
        for number, sock in enumerate(stalled):
            sock.sendall(hello[: number * 10])
        with connect(server.url, ssl=certificates.client) as client:
            client.send("through")
            assert client.recv(10) == "through"
            assert len(server_threads()) == 2
        for sock in stalled:
            with contextlib.suppress(ConnectionResetError):
                read_all(sock)  # ends at the deadline


def test_a_client_that_does_not_trust_the_certificate(certificates, log):
    with serving(echo, ssl_context=certificates.server) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            connect(server.url, ssl=ssl.create_default_context())
        log.wait_for("left during the handshake")
        with connect(server.url, ssl=certificates.client):
            pass


# -- the end of a server ---------------------------------------------------------------------


@pytest.mark.abuse(71)
def test_shutdown_says_1001_to_all():
    seen = []

    def handler(client):
        client.send("ready")
        seen.append((client.receive(60), client.connected()))

    with serving(handler) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(raw_websocket(server)) for _ in range(5)]
        for client in clients:
            assert client.receive() == (1, b"ready")
        assert len(server_threads()) == 6
        assert all(thread.daemon for thread in server_threads())  # none keeps the process
        closing = threading.Thread(target=server.close)
        closing.start()
        for client in clients:
            assert client.close_code() == 1001
            client.leave(1001)
        closing.join(10)
        assert not closing.is_alive()
        assert seen == [(None, False)] * 5
        assert server_threads() == []


def test_nothing_is_left_and_the_port_is_free():
    with serving(routes=routes_of()) as server:
        silent = dial(server)
        websocket = dial(server)
        websocket.sendall(upgrade("/ws"))
        read_until(websocket, b"\r\n\r\n")
        refused = dial(server)
        refused.sendall(head("/x"))
        page = dial(server)
        page.sendall(head("/page"))
        read_until(page, b"page")
        port = server.port
        websocket.close()
    assert server_threads() == []
    with silent, refused, page:
        assert silent.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
        with Server(echo, port=port) as again:
            assert again.port == port


def test_close_twice_and_from_several_threads():
    server = serving(echo)
    with raw_websocket(server) as client:
        threads = [threading.Thread(target=server.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert client.close_code() == 1001
        client.leave(1001)
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
    server.close()
    assert server.wait(0)
    assert server_threads() == []


def test_close_from_a_handler():
    result = []
    over = threading.Event()

    def handler(client):
        if client.receive(10) == "stop":
            server.close()
            server.close()
            result.append(client.connected())
            over.set()

    server = serving(handler)
    with raw_websocket(server) as other, raw_websocket(server) as client:
        client.send(1, b"stop")
        for peer in (other, client):
            assert peer.close_code() == 1001
            peer.leave(1001)
        assert server.wait(10)
    server.close()
    assert over.wait(10)
    assert result == [False]


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no pthread_kill")
def test_close_from_a_signal_handler_inside_close():
    again = threading.Event()
    main = threading.get_ident()

    def close_again(*_):
        server.close()
        again.set()

    def handler(client):
        client.receive(10)  # until the shutdown
        signal.pthread_kill(main, signal.SIGUSR1)
        again.wait(10)

    previous = signal.signal(signal.SIGUSR1, close_again)
    try:
        server = serving(handler, close_timeout=0.1)
        with raw_websocket(server):
            server.close()
        assert again.is_set()
    finally:
        signal.signal(signal.SIGUSR1, previous)


@pytest.mark.parametrize("step", ["_thread.join", "_sessions.close", "_closed.set"])
def test_another_close_does_what_an_interrupted_one_has_left(monkeypatch, step):
    def interrupt(*_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    server = serving(echo, close_timeout=0.1)
    with raw_websocket(server) as client:
        until(lambda: server.connections)
        name, method = step.split(".")
        monkeypatch.setattr(getattr(server, name), method, interrupt)
        with pytest.raises(KeyboardInterrupt):
            server.close()
        for _ in range(2):
            server.close()
            assert server.wait(0)
            assert server_threads() == []
        assert client.close_code() == 1001


def test_connections_are_told_without_the_lock_that_ending_threads_need():
    # Else a signal handler that closes the server while they are told would wait for ever.
    def tell():
        return server._sessions.includes_this_thread(), len(server.connections)

    with serving(echo, close_timeout=0.1) as server, raw_websocket(server):
        until(lambda: server.connections)
        with server._sessions._lock:
            assert Running(tell).result(10) == (False, 1)


def test_close_from_a_handler_while_another_thread_closes():
    entered, go = threading.Event(), threading.Event()

    def handler(client):
        entered.set()
        go.wait(10)
        server.close()

    server = serving(handler)
    with raw_websocket(server) as client:
        assert entered.wait(10)
        closing = threading.Thread(target=server.close)
        closing.start()
        assert client.close_code() == 1001
        go.set()
        client.leave(1001)
        closing.join(4)  # below shutdown_timeout: neither has waited for the other
        assert not closing.is_alive()


@pytest.mark.abuse(71)
def test_a_peer_that_does_not_answer_the_close_is_ended():
    def handler(client):
        client.receive(None)

    server = serving(handler, shutdown_timeout=0.2, close_timeout=30)
    with raw_websocket(server) as client:
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < 3
        assert client.close_code() == 1001
        assert client.ended()
    assert server_threads() == []


def test_a_handler_that_takes_no_notice_is_left_behind(log):
    leave, entered = threading.Event(), threading.Event()

    def handler(client):
        entered.set()
        leave.wait(30)

    server = serving(handler, shutdown_timeout=0.1)
    with raw_websocket(server), pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sessions, "_LEAVE", 0.1)
        assert entered.wait(10)
        server.close()
        log.wait_for("takes no notice of the shutdown")
        leave.set()


def test_a_page_in_progress_is_finished():
    entered, leave = threading.Event(), threading.Event()

    def page(request):
        entered.set()
        leave.wait(10)
        return "finished"

    server = serving(routes=routes_of(page=page))
    with dial(server) as sock:
        sock.sendall(head("/page"))
        assert entered.wait(10)
        closing = threading.Thread(target=server.close)
        closing.start()
        leave.set()
        assert Answer(read_all(sock)).body == b"finished"
        closing.join(10)
        assert not closing.is_alive()


def test_a_block_that_raises_closes_too():
    with pytest.raises(ZeroDivisionError), serving(echo) as server:
        raise ZeroDivisionError
    assert server.wait(0)


def test_wait_times_out():
    with serving(echo) as server:
        assert not server.wait(0.01)
        with pytest.raises(ValueError):
            server.wait(-1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serve_until_a_signal(number):
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    codes = []

    def client(url, connected):
        with connect(url) as peer:
            connected.set()
            try:
                peer.recv(30)
            except PeerClosed as closed:
                codes.append(closed.rcvd.code)

    threads = []

    def ready(server):
        connected = threading.Event()
        threads.append(threading.Thread(target=client, args=(server.url, connected)))
        threads[0].start()
        assert connected.wait(10)
        signal.raise_signal(number)

    serve(echo, port=0, ready=ready)
    threads[0].join(10)
    assert codes == [1001]
    assert {each: signal.getsignal(each) for each in before} == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_handler_that_is_not_pythons_is_not_put_back(monkeypatch):
    # A program that embeds Python may have one: `signal.signal` gives None for it, but takes none.
    put, real = [], signal.signal

    def foreign(number, handler):
        put.append(handler)
        previous = real(number, handler)
        return None if number == signal.SIGTERM else previous

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(signal, "signal", foreign)
    try:
        serve(echo, port=0, ready=lambda server: server.close())
    finally:
        real(signal.SIGTERM, before)
    assert put
    assert None not in put


def test_other_signals_do_not_end_it():
    if not hasattr(signal, "SIGUSR1"):
        pytest.skip("no SIGUSR1 here")
    seen = []
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))

    def ready(server):
        signal.raise_signal(signal.SIGUSR1)
        timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGTERM,))
        timer.daemon = True
        timer.start()

    start = time.monotonic()
    try:
        serve(echo, port=0, ready=ready)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert seen == [signal.SIGUSR1]
    assert time.monotonic() - start >= 0.2


def test_serve_in_another_thread():
    servers, ready = [], threading.Event()

    def on_ready(server):
        servers.append(server)
        ready.set()

    thread = threading.Thread(target=serve, args=(echo, "127.0.0.1", 0), kwargs={"ready": on_ready})
    thread.start()
    assert ready.wait(10)
    with connect(servers[0].url) as client:
        client.send("x")
        assert client.recv(10) == "x"
    servers[0].close()
    thread.join(10)
    assert not thread.is_alive()


def test_serve_forever_ends_with_close():
    server = serving(echo)
    timer = threading.Timer(0.05, server.close)
    timer.start()
    server.serve_forever()
    timer.join(10)
    assert server.wait(0)
    server.serve_forever()  # closed already: returns at once
