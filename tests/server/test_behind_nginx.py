"""nginx in front of a server: its defaults, what people leave out, and TLS that ends there."""

from urllib.parse import urljoin

import pytest

import scriptling_ws as ws
from behind import NGINX_HTTP_HOST, NGINX_PLAIN, NGINX_TLS, NGINX_WEBSOCKET, Backend, fetch
from pairs import tls_contexts
from programs import nginx, runs_once
from servers import TIMEOUT, dial, head, raw_websocket, read_until, upgrade

pytestmark = [runs_once, pytest.mark.processes]

# The one line that makes no upgrade yet.
NGINX_WITHOUT_UPGRADE = NGINX_PLAIN.replace(
    "proxy_pass", "proxy_http_version 1.1;\n        proxy_pass"
)

# Widely copied in place of the `map`: all requests say Connection: upgrade.
NGINX_ALWAYS_UPGRADE = """
server {
    listen LISTEN;
    location / {
        proxy_pass http://BACKEND;
        proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection "upgrade";
        proxy_set_header Host $host;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
    }
}
"""

# The documentation of `keepalive`: connections to the server are kept for the next request.
NGINX_KEEPALIVE = """
upstream http_backend {
    server BACKEND;
    keepalive 16;
}
server {
    listen LISTEN;
    location / {
        proxy_pass http://http_backend;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
    }
}
"""

# A part of a site: its prefix does not reach the server.
NGINX_PREFIX = NGINX_WEBSOCKET.replace("location /", "location /app/").replace(
    "http://BACKEND;", "http://BACKEND/;"
)

# nginx's own default: Host is the address in `proxy_pass`.
NGINX_PROXY_HOST = NGINX_TLS.replace("proxy_set_header Host $host;", "")


@pytest.fixture
def backend(tmp_path):
    with Backend(tmp_path) as running:
        yield running


def refused(proxy, path="/echo", **options):
    """The error with which an upgrade through a proxy fails."""
    with pytest.raises(ws.HandshakeError) as caught:
        ws.connect(f"{proxy.url}{path}", **options)
    return caught.value


def open_from(proxy, origin):
    """An upgrade through TLS, as a page of this origin asks for it."""
    return ws.connect(
        f"{proxy.url}/echo", headers={"Origin": origin}, ssl_context=tls_contexts()[0]
    )


# -- without the lines for upgrades ------------------------------------------------


def test_pages_by_http_1_0(backend):
    with nginx(backend.server, NGINX_PLAIN) as proxy:
        page = fetch(proxy, "/page")
        assert (page.status, page.body) == (200, b"the page")
        request = backend.requests.get(timeout=TIMEOUT)
        assert request.headers["host"] == backend.server.address
        assert request.headers["connection"] == "close"
        head = fetch(proxy, "/page", "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers["content-length"] == "8"
        assert fetch(proxy, "/nothing").status == 404
        assert fetch(proxy, "/files/large").body == backend.file


def test_an_upgrade_by_http_1_0_names_the_setting_that_is_missing(backend):
    with nginx(backend.server, NGINX_PLAIN) as proxy:
        error = refused(proxy)
    assert 400 <= error.status < 600
    assert b"proxy_http_version 1.1" in error.body


def test_an_upgrade_without_its_headers_says_so(backend):
    with nginx(backend.server, NGINX_WITHOUT_UPGRADE) as proxy:
        error = refused(proxy)
    assert 400 <= error.status < 500
    assert b"proxy_set_header Upgrade" in error.body


@pytest.mark.parametrize(
    "configuration",
    [NGINX_WITHOUT_UPGRADE, NGINX_ALWAYS_UPGRADE, NGINX_KEEPALIVE],
    ids=["1.1", "always-upgrade", "keepalive"],
)
def test_pages_by_http_1_1(backend, configuration):
    with nginx(backend.server, configuration) as proxy:
        for _ in range(2):
            assert fetch(proxy, "/page").body == b"the page"
        assert fetch(proxy, "/page", "HEAD").status == 200
        assert fetch(proxy, "/nothing").status == 404
        assert fetch(proxy, "/files/large").body == backend.file


def test_upgrades_where_all_requests_say_upgrade(backend):
    with nginx(backend.server, NGINX_ALWAYS_UPGRADE) as proxy:
        with ws.connect(f"{proxy.url}/echo") as conn:
            conn.send("é")
            assert conn.receive(TIMEOUT) == "é"
        request = backend.requests.get(timeout=TIMEOUT)
        assert request.headers["x-forwarded-proto"] == "http"
        assert request.headers["x-real-ip"] == "127.0.0.1"
        # A path that has a socket and no page.
        page = fetch(proxy, "/echo")
        assert page.status == 426
        assert b"WebSocket" in page.body


# -- a part of a site ----------------------------------------------------------------


def test_a_prefix_that_the_proxy_removes(backend):
    with nginx(backend.server, NGINX_PREFIX) as proxy:
        with ws.connect(f"{proxy.url}/app/echo") as conn:
            conn.send("é")
            assert conn.receive(TIMEOUT) == "é"
        assert backend.requests.get(timeout=TIMEOUT).path == "/echo"
        assert fetch(proxy, "/app/page").body == b"the page"
        page = fetch(proxy, "/app/files?a=1")
        assert page.status == 307
        target = urljoin("http://localhost/app/files?a=1", page.headers["location"])
        assert target == "http://localhost/app/files/?a=1"


# -- TLS, and which origins pass -------------------------------------------------------


def test_tls_that_ends_at_the_proxy(backend):
    with nginx(backend.server, NGINX_TLS) as proxy:
        with ws.connect(f"{proxy.url}/echo", ssl_context=tls_contexts()[0]) as conn:
            message = "é" * 500_000
            conn.send(message)
            assert conn.receive(TIMEOUT) == message
            conn.close(4001, "done")
        assert backend.ends.get(timeout=TIMEOUT) == (4001, "done")
        assert fetch(proxy, "/page").body == b"the page"
        assert fetch(proxy, "/files/large").body == backend.file


def test_the_own_page_may_connect_where_host_has_its_port(backend):
    with nginx(backend.server, NGINX_HTTP_HOST) as proxy:
        with open_from(proxy, f"https://localhost:{proxy.port}") as conn:
            conn.send("é")
            assert conn.receive(TIMEOUT) == "é"
        assert backend.requests.get(timeout=TIMEOUT).headers["host"] == f"localhost:{proxy.port}"
        for foreign in (f"https://evil.example:{proxy.port}", "https://localhost", "null"):
            with pytest.raises(ws.HandshakeError) as caught:
                open_from(proxy, foreign)
            assert caught.value.status == 403


@pytest.mark.parametrize("configuration", [NGINX_TLS, NGINX_PROXY_HOST], ids=["host", "default"])
def test_the_own_page_is_refused_where_the_proxy_changes_host(backend, log, configuration):
    """$host has no port, and the default is the server's address: the log says what to write."""
    with nginx(backend.server, configuration) as proxy:
        origin = f"https://localhost:{proxy.port}"
        with pytest.raises(ws.HandshakeError) as caught:
            open_from(proxy, origin)
        assert caught.value.status == 403
        assert f"origins=['{origin}']" in log.wait_for("origin").message


@pytest.mark.parametrize("configuration", [NGINX_TLS, NGINX_PROXY_HOST], ids=["host", "default"])
def test_origins_names_the_own_page_where_the_proxy_changes_host(tmp_path, configuration):
    # As from a default port: the proxy's own is known only once the server has started.
    with (
        Backend(tmp_path, origins=["https://localhost"]) as backend,
        nginx(backend.server, configuration) as proxy,
        open_from(proxy, "https://localhost") as conn,
    ):
        conn.send("é")
        assert conn.receive(TIMEOUT) == "é"


@pytest.mark.parametrize(
    "configuration", [NGINX_WEBSOCKET, NGINX_ALWAYS_UPGRADE], ids=["map", "always-upgrade"]
)
@pytest.mark.parametrize("origin", ["http://app.example", "https://app.example"])
def test_the_own_page_at_a_default_port(tmp_path, configuration, origin):
    """On port 80 or 443 neither Origin nor Host has a port: $host is enough."""
    with (
        Backend(tmp_path, allowed_hosts=["app.example"]) as backend,
        nginx(backend.server, configuration) as proxy,
    ):
        lines = (f"Origin: {origin}",)
        with raw_websocket(proxy, "/echo", *lines, host="app.example") as raw:
            raw.send(8, b"\x03\xe8")
            assert raw.close_code() == 1000
        with dial(proxy) as sock:
            sock.sendall(upgrade("/echo", "Origin: https://evil.example", host="app.example"))
            assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "configuration", [NGINX_WEBSOCKET, NGINX_ALWAYS_UPGRADE], ids=["map", "always-upgrade"]
)
def test_a_name_that_the_proxy_passes_on_has_to_be_allowed(backend, log, configuration):
    """The server listens on the loopback: the log says what to write."""
    with nginx(backend.server, configuration) as proxy:
        for request in (head("/page", host="app.example"), upgrade("/echo", host="app.example")):
            with dial(proxy) as sock:
                sock.sendall(request)
                assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 400 ")
        assert "allowed_hosts=['app.example']" in log.wait_for("Host header").message
