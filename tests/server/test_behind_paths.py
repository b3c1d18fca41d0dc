"""What a proxy's rule for a path forbids, no spelling of the path and no request in another gets.

nginx has its rule in a `location`, which it compares with the path decoded and resolved; HAProxy
in an ACL, before which its `normalize-uri` actions resolve the path as far as they do.
"""

import contextlib
import queue

import pytest

from behind import HAPROXY_TUNNEL, NGINX_WEBSOCKET
from programs import haproxy, nginx, runs_once
from scriptling_ws._server.routes import Routes
from servers import TIMEOUT, dial, head, read_all, serving, upgrade
from spellings import AMBIGUOUS, NOT_UTF8, PLAIN

pytestmark = [runs_once, pytest.mark.processes]

NGINX_RULE = NGINX_WEBSOCKET.replace(
    "    location / {",
    """    location /priv/ {
        return 403;
    }
    location / {""",
)
HAPROXY_RULE = "    expose-experimental-directives\n" + HAPROXY_TUNNEL.replace(
    "    default_backend servers",
    """    http-request normalize-uri percent-decode-unreserved
    http-request normalize-uri percent-to-uppercase
    http-request normalize-uri path-strip-dot
    http-request normalize-uri path-strip-dotdot full
    http-request normalize-uri path-merge-slashes
    http-request deny if { path_beg /priv/ }
    default_backend servers""",
)
PROXIES = {"nginx": (nginx, NGINX_RULE), "haproxy": (haproxy, HAPROXY_RULE)}

SPELLINGS = [raw for raw in (*AMBIGUOUS, *PLAIN, *NOT_UTF8) if raw.startswith("/")] + [
    "/priv?x",
    "/priv%3fx",
    "/priv/%78",
    "/%70%72%69%76/x",
    "/open//../priv/x",
    "/open/..//priv/x",
    "/open/..;/priv/x",
    "/open;/../priv/x",
    "/./././priv/x",
    "//./priv/x",
    "/priv./x",
    "/priv%20/x",
    "/%2e%2e/%2e%2e/priv/x",
    "/open/%252e%252e/priv/x",
    "/open%2f..%2fpriv%2fx",
    "/open/..%2f../priv/x",
    "/pri%76%2fx",
    "http://localhost/priv/x",
    "http://localhost/open/../priv/x",
    "http://localhost//priv/x",
    "HTTP://localhost/%70riv/x",
]


@pytest.fixture(params=PROXIES)
def proxied(request):
    """Something that puts the proxy in front of a server."""
    start, configuration = PROXIES[request.param]
    return lambda server: start(server, configuration)


def answer_of(proxy, data):
    """All that comes for some bytes, until the proxy ends the connection or says no more."""
    with dial(proxy, timeout=2) as sock:
        sock.sendall(data)
        got = b""
        with contextlib.suppress(TimeoutError, ConnectionError):
            while piece := sock.recv(65_536):
                got += piece
        return got


def test_no_spelling_gets_a_page_a_file_or_a_socket(proxied, tmp_path):
    (tmp_path / "priv").mkdir()
    for place in ("priv/x", "priv/index.html"):
        (tmp_path / place).write_text("secret")
    (tmp_path / "open").write_text("open")
    called = queue.SimpleQueue()
    routes = Routes()
    routes.static("/", tmp_path)
    routes.websocket("/priv/x", called.put)
    pages = Routes()
    for path in ("/priv/x", "/priv/"):
        pages.get(path, lambda request: "secret")
        pages.websocket(path, called.put)
    pages.get("/open", lambda request: "open")
    for table in (routes, pages):
        with serving(routes=table) as server, proxied(server) as proxy:
            for raw in SPELLINGS:
                with dial(proxy) as sock:
                    sock.sendall(head(raw, "Connection: close"))
                    assert b"secret" not in read_all(sock), raw
                with dial(proxy) as sock:
                    sock.sendall(upgrade(raw))
                    assert not sock.recv(65_536).startswith(b"HTTP/1.1 101"), raw
            with dial(proxy) as sock:
                sock.sendall(head("/open", "Connection: close"))
                assert read_all(sock).endswith(b"open")
    assert called.empty()


def test_a_handler_of_any_path_sees_what_the_rule_has_seen(proxied):
    seen = queue.SimpleQueue()
    with serving(lambda client: seen.put(client.request.path)) as server, proxied(server) as proxy:
        for raw in SPELLINGS:
            with dial(proxy) as sock:
                sock.sendall(upgrade(raw))
                taken = sock.recv(65_536).startswith(b"HTTP/1.1 101")
            if taken:
                path = seen.get(timeout=TIMEOUT)
                assert not "/".join(filter(None, f"{path}/".split("/"))).startswith("priv/"), raw
                assert not {".", ".."} & {*path.split("/")}, raw
                assert "\0" not in path, raw
                assert "\\" not in path, raw
    assert seen.empty()


# -- a request in another one --------------------------------------------------------

HIDDEN = head("/priv/x")
END = head("/open", "Connection: close")
CHUNK = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)


def carrying(*lines, body=HIDDEN, method="GET", path="/open"):
    return head(path, *lines, method=method) + body


SMUGGLED = {
    "pipelined": carrying(),
    "a body": carrying(f"Content-Length: {len(HIDDEN)}"),
    "a body of HEAD": carrying(f"Content-Length: {len(HIDDEN)}", method="HEAD"),
    "a body of a socket": carrying(f"Content-Length: {len(HIDDEN)}", path="/ws"),
    "a chunk": carrying("Transfer-Encoding: chunked", body=CHUNK),
    "length and chunked": carrying("Content-Length: 4", "Transfer-Encoding: chunked", body=CHUNK),
    "chunked and length": carrying("Transfer-Encoding: chunked", "Content-Length: 4", body=CHUNK),
    "chunked twice": carrying("Transfer-Encoding: chunked, chunked", body=CHUNK),
    "chunked and identity": carrying("Transfer-Encoding: chunked, identity", body=CHUNK),
    "no encoding": carrying("Transfer-Encoding: xchunked", "Content-Length: 0"),
    "a tab in the encoding": carrying("Transfer-Encoding:\tchunked", body=CHUNK),
    "a control character": carrying("Transfer-Encoding: \x0bchunked", "Content-Length: 0"),
    "a blank before the colon": carrying("Content-Length : 0"),
    "a folded line": carrying("X: y\r\n Content-Length: 0"),
    "two lengths": carrying("Content-Length: 0", f"Content-Length: {len(HIDDEN)}"),
    "two lengths in one": carrying(f"Content-Length: 0, {len(HIDDEN)}"),
    "a signed length": carrying(f"Content-Length: +{len(HIDDEN)}"),
    "a length in hex": carrying("Content-Length: 0x10"),
    "a long length": carrying("Content-Length: 18446744073709551616"),
    "bare line feeds": b"GET /open HTTP/1.1\nHost: localhost\nContent-Length: 0\n\n" + HIDDEN,
    "a bare line feed": carrying("X: y\nContent-Length: 0"),
    "HTTP/1.0": head("/open", "Connection: keep-alive", version="HTTP/1.0") + HIDDEN,
    "empty lines": b"\r\n\r\n" + carrying(),
    "an upgrade of another version": upgrade("/ws", Sec_WebSocket_Version="8") + HIDDEN,
    "an upgrade without a key": upgrade("/ws", Sec_WebSocket_Key=None) + HIDDEN,
    "an upgrade of a page": upgrade("/open") + HIDDEN,
    "an upgrade to h2c": upgrade("/open", Upgrade="h2c", Sec_WebSocket_Key=None) + HIDDEN,
    "an upgrade with a body": upgrade("/ws", f"Content-Length: {len(HIDDEN)}") + HIDDEN,
    "an upgrade": upgrade("/ws") + HIDDEN,  # which the socket takes for frames
}


def test_no_request_gets_through_in_another_one(proxied):
    routes = Routes()
    routes.get("/open", lambda request: "open")
    routes.get("/priv/x", lambda request: "secret")
    routes.websocket("/ws", lambda client: client.receive(TIMEOUT))
    with serving(routes=routes) as server, proxied(server) as proxy:
        assert answer_of(proxy, END).endswith(b"open")
        for name, data in SMUGGLED.items():
            got = answer_of(proxy, data + END)
            assert got.startswith(b"HTTP/1.1 "), name
            assert b"secret" not in got, name
