"""Below a prefix: what is taken off a path, and what redirects, cookies and logs have of it."""

import logging
import re
from http.cookies import SimpleCookie
from urllib.parse import urlsplit

import pytest

from looped import looped
from scriptling_ws._handshakes.cookies import make_cookie
from scriptling_ws._handshakes.head import Refused, Request
from scriptling_ws._server.http import SAFE_HEADERS, page_headers_of
from scriptling_ws._server.proxies import Proxies
from scriptling_ws._server.root_path import RootPath, is_root_path
from scriptling_ws.runtime import HTTP
from servers import Answer, ask, dial, echo, head, raw_websocket, serving, status_of, upgrade

pytestmark = pytest.mark.once("it is about paths and addresses")


def routes(folder=None):
    table = HTTP()
    table.get("/", lambda request: "home")
    table.get("/seen", lambda request: [request.path, request.target, request.root_path])
    table.get("/url", lambda request: [request.url, request.base_url, request.secure])
    table.get("/go", lambda request: HTTP.redirect("/done?x"))
    table.get("/near", lambda request: HTTP.redirect("./done"))
    table.get("/far", lambda request: HTTP.redirect("https://x.example/", absolute=True))
    table.get("/set", lambda request: HTTP.text(200, "").with_cookie("a", "b"))
    table.websocket("/ws", echo)
    if folder is not None:
        table.static("/files", folder)
    return table


@pytest.mark.parametrize(
    ("path", "target", "seen"),
    [
        ("/app/seen", "/app/seen?a=/b", ["/seen", "/seen?a=/b", "/app"]),
        ("/app/seen", "/%61pp/s%65en", ["/seen", "/s%65en", "/app"]),
        ("/app/", "/app/", ["/", "/", "/app"]),
        ("/app//x", "/app//x", ["//x", "//x", "/app"]),
        ("/app/app/x", "/app/app/x", ["/app/x", "/app/x", "/app"]),
        ("/healthz", "/healthz", ["/healthz", "/healthz", ""]),
    ],
)
def test_what_is_taken_off(path, target, seen):
    entered = RootPath("/app", ["/healthz"]).enter(Request("GET", path, target=target))
    assert [entered.path, entered.target, entered.root_path] == seen


@pytest.mark.parametrize("path", ["/", "/ap", "/apple", "/seen", "/x/app/seen", "//app/seen"])
def test_what_is_not_below_it(path):
    with pytest.raises(Refused) as caught:
        RootPath("/app").enter(Request("GET", path, target=path))
    assert caught.value.status == 404


def test_two_segments_and_a_proxy_in_front():
    request = Request("GET", "/a/b/x", target="/a/b/x", root_path="/outer")
    entered = RootPath("/a/b").enter(request)
    assert (entered.path, entered.root_path) == ("/x", "/outer/a/b")
    assert RootPath().enter(request) is request


@looped(
    "path",
    [
        "app",
        "/",
        "/app/",
        "//app",
        "/a//b",
        "/a/../b",
        "/.",
        "/ä",
        "/%41",
        "/a b",
        "/a?b",
        "/a\n",
        "/a\\b",
        "/a;Domain=b.example",
        "/a,/b",
        "/" + "x" * 300,
        "http://x",
    ],
)
def test_what_is_no_prefix(path):
    assert not is_root_path(path)
    with pytest.raises(ValueError, match="such as '/app'"):
        RootPath(path)


def test_a_prefix_is_a_str():
    with pytest.raises(TypeError, match="root_path has to be a str"):
        RootPath(None)


def test_a_prefix_is_one_that_a_cookie_and_a_url_can_have():
    """As it is: the Path of a cookie ends at a semicolon."""
    paths = [path for path in (f"/a{chr(code)}b" for code in range(128)) if is_root_path(path)]
    assert len(paths) > 62  # letters, digits, and more
    for path in paths:
        cookie = SimpleCookie(make_cookie("a", "b").text(path, secure=False))
        assert cookie["a"]["path"] == path
        assert urlsplit(f"http://host{path}/x").path == f"{path}/x"


@pytest.fixture
def below(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "index.html").write_text("<p>sub")
    options = {"root_path": "/app", "health": True}
    with serving(routes=routes(tmp_path), **options) as server:
        yield server


def test_a_server_that_is_told(below):
    assert ask(below, head("/app/seen?x")).body == b'["/seen","/seen?x","/app"]'
    assert status_of(below, head("/seen")) == 404
    assert status_of(below, head("/healthz")) == status_of(below, head("/app/healthz")) == 200
    assert below.page_url == f"http://127.0.0.1:{below.port}/app/"
    with raw_websocket(below, "/app/ws") as client:
        client.send(1, b"hello")
        assert client.receive() == (1, b"hello")
    assert status_of(below, upgrade("/ws")) == 404


def test_what_leads_back_to_it(below):
    assert ask(below, head("/app/go")).headers["location"] == "/app/done?x"
    assert ask(below, head("/app/near")).headers["location"] == "./done"
    assert ask(below, head("/app/far")).headers["location"] == "https://x.example/"
    assert ask(below, head("/app/files/sub")).headers["location"] == "./sub/"
    assert "; Path=/app;" in ask(below, head("/app/set")).headers["set-cookie"]


def test_without_its_slash(below):
    answer = ask(below, head("/app?x=1"))
    assert (answer.status, answer.headers["location"]) == (307, "./app/?x=1")
    assert ask(below, head("/app/")).body == b"home"
    assert status_of(below, upgrade("/app")) == 404  # a page, and no WebSocket


def test_the_log_has_the_path_that_the_client_sees(below, log):
    ask(below, head("/app/seen?secret"))
    log.wait_for("/app/seen")
    ask(below, head("/seen"))
    log.wait_for("/seen")
    assert "secret" not in "".join(log.texts(logging.INFO))


PROXY = {"trusted_proxies": ["127.0.0.1"], "allowed_hosts": ["a.example", "localhost"]}


@pytest.fixture
def behind():
    with serving(routes=routes(), **PROXY) as server:
        yield server


def test_a_proxy_that_takes_it_off(behind):
    prefix = "X-Forwarded-Prefix: /app"
    assert ask(behind, head("/seen", prefix)).body == b'["/seen","/seen","/app"]'
    assert ask(behind, head("/go", prefix)).headers["location"] == "/app/done?x"
    assert (
        ask(behind, head("/go", "X-Forwarded-Prefix: /app/")).headers["location"] == "/app/done?x"
    )


@pytest.mark.parametrize(
    "prefix",
    [
        "//evil.example",
        "/\\evil.example",
        "/a/../b",
        "http://x",
        "/a, /b",
        "/a,/b",
        "/a?b",
        "/a;b",
        "",
    ],
)
def test_a_prefix_that_is_none_is_ignored(behind, prefix):
    answer = ask(behind, head("/go", f"X-Forwarded-Prefix: {prefix}"))
    assert answer.headers["location"] == "/done?x"


def test_a_host_and_a_scheme(behind):
    lines = ["X-Forwarded-Host: a.example", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /p"]
    answer = ask(behind, head("/url?q", *lines))
    assert answer.body == b'["https://a.example/p/url?q","https://a.example/p",true]'
    assert "; Secure;" in ask(behind, head("/set", *lines)).headers["set-cookie"]


def test_an_origin_is_held_against_the_host_that_the_client_has_asked(behind):
    lines = ["X-Forwarded-Host: a.example", "X-Forwarded-Proto: https"]
    own, others = "Origin: https://a.example", "Origin: https://b.example"
    with raw_websocket(behind, "/ws", own, *lines):
        pass
    assert status_of(behind, upgrade("/ws", others, *lines)) == 403
    assert status_of(behind, upgrade("/ws", "Origin: http://a.example", *lines)) == 403
    assert status_of(behind, upgrade("/ws", own, "X-Forwarded-Host: b.example")) == 403


@pytest.mark.parametrize("host", ["b.example", "evil.example:80"])
def test_a_host_that_is_not_allowed(behind, host):
    assert status_of(behind, head("/url", f"X-Forwarded-Host: {host}")) == 400


def test_dns_rebinding_by_a_page_that_writes_a_forwarded_host(behind):
    """Its own Host header names its site, and that counts too."""
    request = head("/url", "X-Forwarded-Host: a.example", host="evil.example")
    assert status_of(behind, request) == 400


def test_nothing_of_it_counts_from_others():
    lines = ["X-Forwarded-Host: evil.example", "X-Forwarded-Proto: https", "X-Forwarded-Prefix: /p"]
    with serving(routes=routes()) as server:
        assert ask(server, head("/url", *lines)).body == (
            b'["http://localhost/url","http://localhost",false]'
        )
        assert "Secure" not in ask(server, head("/set", *lines)).headers["set-cookie"]


@pytest.mark.parametrize(
    ("header", "headers", "host"),
    [
        ("x-forwarded-for", {"x-forwarded-host": "a.example"}, "a.example"),
        ("x-forwarded-for", {"x-forwarded-host": "a.example, b.example"}, "b.example"),
        (
            "x-forwarded-for",
            {"x-forwarded-for": "1.1.1.1, 10.0.0.1", "x-forwarded-host": "c.example, a.example, b"},
            "a.example",
        ),
        (
            "x-forwarded-for",
            {"x-forwarded-for": "1.1.1.1, 10.0.0.1", "x-forwarded-host": "a.example"},
            "a.example",
        ),
        ("x-forwarded-for", {"x-forwarded-host": "a b"}, ""),
        ("x-forwarded-for", {"x-forwarded-host": "a.example/x"}, ""),
        ("x-forwarded-for", {"forwarded": "for=1.1.1.1;host=a.example"}, ""),
        ("forwarded", {"forwarded": 'for=1.1.1.1;host="a.example:81"'}, "a.example:81"),
        ("forwarded", {"forwarded": "for=1.1.1.1", "x-forwarded-host": "a.example"}, ""),
        ("forwarded", {"x-forwarded-host": "a.example"}, ""),
    ],
)
def test_whose_word_counts(header, headers, host):
    proxies = Proxies(["10.0.0.0/8"], header=header)
    assert proxies.client_of("10.0.0.2", headers).host == host


@pytest.mark.parametrize(
    ("options", "url"),
    [
        ({"host": "0.0.0.0"}, "http://localhost:PORT/"),
        ({"host": "localhost"}, "http://127.0.0.1:PORT/"),
        ({"root_path": "/x/y"}, "http://127.0.0.1:PORT/x/y/"),
    ],
)
def test_what_a_browser_opens(options, url):
    with serving(routes=routes(), **options) as server:
        assert server.page_url == url.replace("PORT", str(server.port))


def test_a_unix_socket_is_nothing_for_a_browser(tmp_path):
    with serving(routes=routes(), unix=tmp_path / "s", port=8080) as server:
        assert server.page_url == ""


# -- headers of every page ------------------------------------------------------------


def test_safe_headers():
    with serving(routes=routes()) as server:
        for request in (head("/"), head("/missing")):
            answer = ask(server, request)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "strict-origin-when-cross-origin"


def test_headers_of_the_program():
    table = routes()
    table.get("/own", lambda request: HTTP.text(200, "", {"x-frame-options": "SAMEORIGIN"}))
    given = {"X-Frame-Options": "DENY", "referrer-policy": None, "X-Content-Type-Options": "x"}
    with serving(routes=table, page_headers=given) as server:
        for path in ("/", "/missing"):
            answer = ask(server, head(path))
            assert answer.headers["x-frame-options"] == "DENY"
            assert answer.headers["x-content-type-options"] == "x"
            assert "referrer-policy" not in answer.headers
        assert ask(server, head("/own")).headers["x-frame-options"] == "SAMEORIGIN"
        with dial(server) as sock:
            sock.sendall(upgrade("/ws"))
            assert "x-frame-options" not in Answer(sock.recv(1000)).headers


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ([("A", "b")], TypeError, "has to be a dict"),
        ({"A": 5}, TypeError, "have to be str"),
        ({5: "a"}, TypeError, "have to be str"),
        ({"A b": "c"}, ValueError, "is not a header name"),
        ({"A": "b\r\nC: d"}, ValueError, "HTTP does not allow"),
        ({"Connection": "close"}, ValueError, "leave it out"),
        ({"Content-Type": "text/html"}, ValueError, "the same for all answers"),
    ],
)
def test_wrong_headers(given, error, text):
    with pytest.raises(error, match=re.escape(text)):
        page_headers_of(given)


def test_no_headers_of_the_program():
    assert page_headers_of(None) == page_headers_of({}) == SAFE_HEADERS
