"""A server's pages and static files."""

import time
from email.utils import parsedate_to_datetime

import pytest

from scriptling_ws._handshakes.head import Refused
from scriptling_ws._server.response import text
from scriptling_ws._server.routes import Routes
from servers import (
    Answer,
    ask,
    dial,
    echo,
    exiting,
    head,
    raw_websocket,
    read_all,
    routes_of,
    serving,
    status_of,
)

pytestmark = pytest.mark.once("it is about pages")


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
def test_bodies_that_are_refused(site, line, status):
    assert status_of(site, head("/page", line)) == status


def test_head_of_a_page(site):
    answer = ask(site, head("/page", method="HEAD"))
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == "4"


# nginx and HAProxy with their defaults, and load balancers.
@pytest.mark.parametrize("host", [None, "", "backend_1:8080"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("lines", [(), ("Connection: close",), ("Connection: keep-alive",)])
def test_pages_answer_http_1_0(site, host, method, lines):
    answer = ask(site, head("/page", *lines, method=method, version="HTTP/1.0", host=host))
    assert answer.status == (204 if method == "OPTIONS" else 200)
    assert answer.body == (b"page" if method == "GET" else b"")
    assert answer.headers["connection"] == "close"
    # And what is refused is, too.
    answer = ask(site, head("/nowhere", *lines, method=method, version="HTTP/1.0", host=host))
    assert (answer.status, answer.headers["connection"]) == (404, "close")


def test_a_page_sees_that_http_1_0_names_no_host():
    seen = []
    routes = routes_of(page=lambda request: seen.append(request) or "page")
    with serving(routes=routes, allowed_hosts=["own.example"]) as server:
        # Who names a host has to name the right one; a browser always does.
        assert status_of(server, head("/page", version="HTTP/1.0", host="evil.example")) == 400
        assert status_of(server, head("/page", version="HTTP/1.0", host=None)) == 200
        assert status_of(server, head("http://own.example/page", version="HTTP/1.0")) == 200
    assert [request.headers for request in seen] == [{}, {"host": "own.example"}]


@pytest.mark.parametrize(
    ("path", "allow"),
    [
        ("/page", "GET, HEAD, OPTIONS"),
        ("/ws", "GET, OPTIONS"),
        ("/both", "GET, HEAD, OPTIONS"),
        ("/files/", "GET, HEAD, OPTIONS"),
        ("http://localhost/page", "GET, HEAD, OPTIONS"),
    ],
)
@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_options_of_a_path(tmp_path, path, allow, version):
    routes = routes_of()
    routes.get("/both", lambda request: "page")
    routes.websocket("/both", echo)
    routes.static("/files", tmp_path)
    with serving(routes=routes, allowed_hosts=["localhost"]) as server:
        answer = ask(server, head(path, method="OPTIONS", version=version))
        assert (answer.status, answer.body, answer.headers["allow"]) == (204, b"", allow)
        assert status_of(server, head("/nowhere", method="OPTIONS", version=version)) == 404
        rebound = head("/page", method="OPTIONS", version=version, host="evil.example")
        assert status_of(server, rebound) == 400


def test_options_of_a_server_of_one_handler():
    with serving(echo) as server:
        request = head("/", method="OPTIONS", version="HTTP/1.0", host=None)
        assert ask(server, request).headers["allow"] == "GET, OPTIONS"


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
def test_every_answer_has_a_date(site, version):
    def stamped(answer):
        date = parsedate_to_datetime(answer.headers["date"])
        assert answer.headers["date"].endswith(" GMT")
        return abs(date.timestamp() - time.time()) < 60

    for path in ("/page", "/nowhere", "/ws", "/%ff", "gopher://x/"):
        for method in ("GET", "HEAD", "OPTIONS", "POST"):
            assert stamped(ask(site, head(path, method=method, version=version)))
    with raw_websocket(site, "/ws") as client:
        assert stamped(client.answer)
    with serving(routes=routes_of(page=lambda request: 1 / 0)) as server:
        assert stamped(ask(server, head("/page", version=version)))


def test_a_page_takes_an_absolute_target():
    seen = []
    routes = routes_of(page=lambda request: seen.append(request) or "page")
    with serving(routes=routes, allowed_hosts=["own.example"]) as server:
        assert status_of(server, head("http://Own.example:81/page?x=%FF", host="a")) == 200
        assert status_of(server, head("https://own.example/page", host="a")) == 200
        assert status_of(server, head("http://user@own.example/page", host="a")) == 400
    assert [request.headers["host"] for request in seen] == ["Own.example:81", "own.example"]
    assert (seen[0].target, seen[0].query) == ("/page?x=%FF", {"x": "\ufffd"})


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
        for offer in ("h2c", "TLS/1.0", "h2c, TLS/1.0", "websocket2", "h2c\r\nUpgrade: x"):
            lines = (
                f"Upgrade: {offer}",
                "Connection: Upgrade, HTTP2-Settings",
                "HTTP2-Settings: A",
            )
            assert ask(server, head("/", *lines)).body == b"page", offer
        for offer in ("websocket", "WebSocket", "h2c, websocket", "h2c\r\nUpgrade: websocket"):
            lines = (f"Upgrade: {offer}", "Connection: Upgrade")
            assert ask(server, head("/", *lines)).status == 400, offer  # there is no key
        with raw_websocket(server, "/") as client:
            client.send(1, b"socket")
            assert client.receive() == (1, b"socket")


def test_an_upgrade_to_http2_of_a_socket_is_told_what_there_is(site):
    answer = ask(site, head("/ws", "Upgrade: h2c", "Connection: Upgrade"))
    assert (answer.status, answer.headers["upgrade"]) == (426, "websocket")


def test_an_upgrade_to_http2_of_a_page_is_ignored(site):
    # RFC 9110 section 7.8: a server may ignore Upgrade.
    assert status_of(site, head("/page", "Upgrade: h2c", "Connection: Upgrade")) == 200


def test_what_follows_a_page_request_is_answered_too(site):
    assert ask(site, head("/page") * 3).raw.count(b"HTTP/1.1 200 ") == 3
    closing = head("/page", "Connection: close")
    assert ask(site, closing + head("/page")).raw.count(b"HTTP/1.1") == 1


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
    assert ask(files, head("/sub?a=%20")).headers["location"] == "./sub/?a=%20"
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
