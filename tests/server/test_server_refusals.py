"""What a server refuses, with which status, and what its log says of it."""

import ast
import contextlib
import time

import pytest

import scriptling_ws as ws
from abuse import row
from scriptling_ws._server.routes import Routes
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
    routes_of,
    serving,
    status_of,
    upgrade,
)

pytestmark = pytest.mark.once("it is about what is refused")


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
            "asterisk of OPTIONS": (head("*", method="OPTIONS"), 400),
            "another scheme": (upgrade("gopher://x/ws"), 400),
            "absolute form without a host": (upgrade("http:///ws"), 400),
            "absolute form of an unknown path": (upgrade("http://localhost/nowhere"), 404),
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
            "HTTP/2.0 page": (head("/page", version="HTTP/2.0"), 505),
            "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
            "HTTP/0.9": (b"GET /page\r\n\r\n", 400),
            "HTTP/0.9 by name": (head("/page", version="HTTP/0.9"), 505),
        },
    ),
    *row(
        3,
        {
            "no Host": (upgrade("/ws", host=None), 400),
            "no Host of a page": (head("/page", host=None), 400),
            "two Hosts": (upgrade("/ws", "Host: other"), 400),
            "two Hosts of a page": (head("/page", "Host: other"), 400),
            "empty Host": (upgrade("/ws", host=""), 400),
            "empty Host of a page": (head("/page", host=""), 400),
        },
    ),
    *row(
        4,
        {
            "Host of high bytes": (upgrade("/ws", host="\xff"), 400),
            **{
                f"{kind} of the Host {host}": (make(path, host=host), 400)
                for host in ("a b/c", "[", "a:b:c", "a:0", "a:65536", "a:x", "user@a", "a/b")
                for kind, make, path in (("upgrade", upgrade, "/ws"), ("page", head, "/page"))
            },
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
            "Content-Length: +0": (upgrade("/ws", "Content-Length: +0"), 400),
            "two lengths": (upgrade("/ws", "Content-Length: 0", "Content-Length: 5"), 400),
            "length 0 and chunked": (
                upgrade("/ws", "Content-Length: 0", "Transfer-Encoding: chunked"),
                400,
            ),
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


@pytest.mark.parametrize(("request_bytes", "status"), REFUSALS)
def test_refusals(site, request_bytes, status):
    answer = ask(site, request_bytes)
    assert answer.status == status
    assert "close" in answer.headers["connection"]
    if "HEAD" not in request_bytes[:4].decode("latin-1"):
        assert answer.body.startswith(str(status).encode())
    # The next one is served: nothing of the refused one is left.
    assert ask(site, head("/page")).body == b"page"


@pytest.mark.parametrize("size", [1, 7, 100])
def test_refusals_do_not_depend_on_the_pieces(site, size):
    request = upgrade("/ws", Sec_WebSocket_Version="8")
    with dial(site) as sock:
        for start in range(0, len(request), size):
            sock.sendall(request[start : start + size])
        assert Answer(read_all(sock)).status == 426


def test_headers_that_refusals_have_to_have(site):
    answer = ask(site, upgrade("/ws", method="POST"))
    assert answer.headers["allow"] == "GET, OPTIONS"
    answer = ask(site, head("/page", method="PUT"))
    assert answer.headers["allow"] == "GET, HEAD, OPTIONS"
    for request in (head("/ws"), upgrade("/ws", Sec_WebSocket_Version="8")):
        answer = ask(site, request)
        assert answer.headers["upgrade"] == "websocket"
        assert answer.headers["connection"] == "close, upgrade"
    for version in ("8", "13, 8", None):
        answer = ask(site, upgrade("/ws", Sec_WebSocket_Version=version))
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
def test_extension_offers_are_declined(site, offer):
    with raw_websocket(site, "/ws", f"Sec-WebSocket-Extensions: {offer}") as client:
        assert "sec-websocket-extensions" not in client.answer.headers
        client.send(1, b"still works")
        assert client.receive() == (1, b"still works")


@pytest.mark.abuse(14)
@pytest.mark.parametrize("offer", ['a="' + "\x07" * 3000, "b" + " " * 7000 + "x"])
def test_hostile_extension_headers_cost_no_time(site, offer):
    request = upgrade("/ws", f"Sec-WebSocket-Extensions: {offer}")
    with dial(site) as sock:
        before = time.process_time()
        sock.sendall(request)
        status = read_until(sock, b"\r\n")[9:12]
        spent = time.process_time() - before
    assert status in (b"101", b"400")
    assert spent < 0.1  # 10 ms is the goal; the whole process and its tracer are counted here


def test_the_answer_is_read_whole_in_spite_of_unread_bytes(site):
    # A socket closed with unread bytes in it is reset, and the answer lost.
    with dial(site) as sock:
        sock.sendall(head("/page", "Content-Length: 3000000", method="POST"))
        with contextlib.suppress(OSError):
            sock.sendall(bytes(3_000_000))
        assert Answer(read_all(sock)).status == 405


@pytest.mark.abuse(15)
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "x"])
def test_foreign_origins(site, origin, log):
    assert status_of(site, upgrade("/ws", f"Origin: {origin}")) == 403
    record = log.wait_for("to allow it")
    assert f"origins=['{origin}']" in record.message


@pytest.mark.parametrize(
    "origin",
    [
        "file://",
        "null",
        "app://.",
        "capacitor://localhost",
        "https://a.example/",
        "x",
        "http://A:80",
    ],
)
def test_what_the_log_advises_lets_in(origin, log):
    line, host = f"Origin: {origin}", "api.example"
    with serving(echo, allowed_hosts=[host]) as server:
        assert status_of(server, upgrade("/", line, host=host)) == 403
    advised = log.wait_for("to allow it").message.partition("origins=")[2]
    with serving(echo, origins=ast.literal_eval(advised), allowed_hosts=[host]) as server:
        with raw_websocket(server, "/", line, host=host):
            pass
        assert status_of(server, upgrade("/", "Origin: https://evil.example", host=host)) == 403


def test_an_absolute_target_is_the_host_for_origins_and_allowed_hosts():
    seen = []

    def handler(client):
        request = client.request
        seen.append((request.headers["host"], request.path, request.target, request.query))

    with serving(handler, allowed_hosts=["own.example"]) as server:
        url = f"http://own.example:{server.port}/a?b=1"
        origin = f"Origin: http://own.example:{server.port}"
        with raw_websocket(server, url, origin, host="other.example") as client:
            assert client.close_code() == 1000  # the handler has seen it
        assert seen == [(f"own.example:{server.port}", "/a", "/a?b=1", {"b": "1"})]
        # What the Host header says does not count, for good or ill.
        evil = f"http://evil.example:{server.port}/"
        assert status_of(server, upgrade(evil, host="own.example")) == 400
        origin = f"Origin: http://other.example:{server.port}"
        host = f"other.example:{server.port}"
        assert status_of(server, upgrade(url, origin, host=host)) == 403


@pytest.mark.parametrize(
    "lines",
    [
        ("Connection: keep-alive",),
        ("Upgrade: h2c",),
        ("Content-Length: 0",),
        ("Sec-WebSocket-Extensions: x", "Sec-WebSocket-Extensions: permessage-deflate"),
        ("Sec-WebSocket-Protocol: v1", "X: y", "Sec-WebSocket-Protocol: chat"),
        ("Cookie: a=1", "Cookie: b=2"),
    ],
)
@pytest.mark.parametrize("extra", [b"", b"\x81\x85\0\0\0\0first"])
def test_what_devices_and_proxies_send_is_an_upgrade(lines, extra):
    options = {"subprotocols": ["chat"], "compression": "deflate"}
    with serving(echo, **options) as server, dial(server) as sock:
        sock.sendall(upgrade("/", *lines) + extra)
        answer = read_until(sock, b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert (b"Protocol: chat" in answer) == ("chat" in lines[-1])
        assert (b"permessage-deflate" in answer) == ("deflate" in lines[-1])
        if extra:
            client = RawWebSocket(sock, None, answer.partition(b"\r\n\r\n")[2])
            assert client.receive() == (1, b"first")


def test_an_upgrade_in_http_1_0_is_told_the_proxys_setting(site):
    answer = ask(site, upgrade("/ws", version="HTTP/1.0"))
    assert answer.status == 505
    assert b"proxy_http_version 1.1" in answer.body
    # nginx with its defaults: what is left of the upgrade is the key.
    answer = ask(site, upgrade("/ws", version="HTTP/1.0", Upgrade=None, Connection="close"))
    assert answer.status == 505
    assert b"proxy_http_version 1.1" in answer.body


def test_the_own_origin(site):
    host = f"localhost:{site.port}"
    with raw_websocket(site, "/ws", f"Origin: http://{host}", host=host):
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


@pytest.mark.abuse(16)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "192.0.2.1", "[2001:db8::1]"])
def test_a_server_on_the_loopback_answers_to_its_own_names_alone(host, log):
    with serving(routes=routes_of()) as server:
        # Rebinding makes Origin and Host agree.
        request = upgrade("/ws", f"Origin: http://{host}", host=host)
        assert status_of(server, request) == 400
        assert status_of(server, upgrade("/ws", host=host)) == 400
        for method in ("GET", "HEAD", "OPTIONS"):
            assert status_of(server, head("/page", method=method, host=host)) == 400
        assert status_of(server, head(f"http://{host}/page", host="localhost")) == 400
        for own in ("localhost", f"127.0.0.1:{server.port}", "[::1]:80", "x.localhost", "box"):
            assert ask(server, head("/page", host=own)).body == b"page"
            with raw_websocket(server, "/ws", f"Origin: http://{own}", host=own):
                pass
        assert status_of(server, head("/page", host=None, version="HTTP/1.0")) == 200
    record = log.wait_for("in its Host header")
    assert record.levelname == "WARNING"
    advised = record.message.partition("allowed_hosts=")[2]
    with serving(routes=routes_of(), allowed_hosts=ast.literal_eval(advised)) as server:
        assert ask(server, head("/page", host=host)).body == b"page"
        assert status_of(server, head("/page", host="localhost")) == 400
    with serving(routes=routes_of(), allowed_hosts="*") as server:
        assert ask(server, head("/page", host=host)).body == b"page"


@pytest.mark.parametrize("option", [{}, {"origins": ["https://app.example"]}, {"origins": []}])
def test_the_scheme_of_the_own_origin(option):
    certificates = Certificates()
    with serving(echo, ssl_context=certificates.server, **option) as server:
        for scheme in ("http", "https", "ws", "wss", "capacitor"):
            origin = {"Origin": f"{scheme}://localhost:{server.port}"}
            url = f"wss://localhost:{server.port}"
            if scheme == "https" and option != {"origins": []}:
                ws.connect(url, headers=origin, ssl_context=certificates.client).close()
            else:
                with pytest.raises(ws.HandshakeError) as caught:
                    ws.connect(url, headers=origin, ssl_context=certificates.client)
                assert caught.value.status == 403, scheme
        ws.connect(url, ssl_context=certificates.client).close()  # a program


def test_no_browser(log):
    with serving(echo, origins=[]) as server:
        host = f"localhost:{server.port}"
        assert status_of(server, upgrade("/", f"Origin: http://{host}", host=host)) == 403
        assert log.wait_for("from the origin").message.endswith(
            "origins=[] is for no browser at all"
        )
        with raw_websocket(server, "/"):
            pass


@pytest.mark.abuse(85)
def test_the_log_is_escaped(site, log):
    status_of(site, head("/%1b%5b31m%0d%0aforged%e2%98%83"))
    record = log.wait_for(" 404")
    assert r"'/\x1b[31m\r\nforged\u2603'" in record.message
    status_of(site, upgrade("/ws", "Origin: http://\x9b31m"))
    assert r"\x9b31m" in log.wait_for("from the origin").message
    for message in log.texts():
        assert message.isascii()
        assert message.isprintable()
