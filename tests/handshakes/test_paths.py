"""Paths: a request's is what a proxy has decided by, or leads nowhere; a route's is such a one."""

import pytest

from looped import looped
from scriptling_ws._handshakes.head import Refused, parse_request
from scriptling_ws._handshakes.paths import Hidden, check_path, check_pattern, decoded_path
from scriptling_ws._server.routes import Routes
from scriptling_ws._server.server import Server
from servers import ask, echo, head, raw_websocket, serving, status_of, upgrade
from spellings import AMBIGUOUS, NOT_UTF8, PLAIN

pytestmark = pytest.mark.once("it is about paths")


@pytest.mark.abuse(12)
@looped("raw", AMBIGUOUS)
def test_a_path_that_may_be_another_one_leads_nowhere(raw):
    with pytest.raises(Hidden):
        decoded_path(raw)


@looped("raw", PLAIN)
def test_any_other_path_is_decoded_once(raw):
    assert decoded_path(raw) == PLAIN[raw]


@pytest.mark.parametrize("raw", NOT_UTF8)
def test_a_path_has_to_be_utf_8(raw):
    with pytest.raises(ValueError, match="not UTF-8") as caught:
        decoded_path(raw)
    assert not isinstance(caught.value, Hidden)


@pytest.mark.abuse(12)
@looped("raw", [raw for raw in AMBIGUOUS if raw.startswith("/")])
@looped("prefix", ["", "http://own"])
def test_the_status_of_a_request_with_such_a_path(raw, prefix):
    with pytest.raises(Refused) as caught:
        parse_request(f"GET {prefix}{raw} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
    assert caught.value.status == 404


def test_the_query_is_no_path():
    parsed = parse_request(b"GET /a?b=/../%2f%00\\ HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (parsed.path, parsed.query) == ("/a", {"b": "/../\x2f\x00\\"})


@pytest.fixture
def site(tmp_path):
    """A secret as a page, as a socket and as a file; and what is open beside it."""
    (tmp_path / "files" / "priv").mkdir(parents=True)
    (tmp_path / "files" / "priv" / "x").write_text("secret")
    (tmp_path / "priv").write_text("secret")
    routes = Routes()
    routes.get("/priv/x", lambda request: "secret")
    routes.websocket("/priv/x", echo)
    routes.get("/priv", lambda request: "secret")
    routes.static("/", tmp_path / "files")
    with serving(routes=routes) as server:
        yield server


@pytest.mark.parametrize("raw", [raw for raw in (*AMBIGUOUS, *NOT_UTF8) if raw.startswith("/")])
def test_pages_files_and_sockets_alike(site, raw):
    answer = ask(site, head(raw))
    assert answer.status in (400, 404)
    assert b"secret" not in answer.body
    assert status_of(site, upgrade(raw)) in (400, 404)
    assert status_of(site, head(raw, method="OPTIONS")) in (400, 404)


@looped("raw", [raw for raw in (*AMBIGUOUS, *NOT_UTF8) if raw.startswith("/")])
def test_a_handler_of_any_path_is_not_called(raw):
    called = []
    with serving(called.append) as server:
        assert status_of(server, upgrade(raw)) in (400, 404)
    assert not called


def test_a_handler_of_any_path_sees_the_others():
    seen = []
    with serving(lambda client: seen.append(client.request.path)) as server:
        for raw in PLAIN:
            with raw_websocket(server, raw) as client:
                assert client.close_code() == 1000
    assert seen == list(PLAIN.values())


# -- routes --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/users/{id", "no parameter: write a whole segment"),
        ("/users/<id>", "which is no pattern"),
        ("/users/:id", "which is no pattern"),
        ("/files/*", "which is no pattern"),
        ("/**/x", "which is no pattern"),
        ("/a/../b", "resolved"),
        ("/a/./b", "resolved"),
        ("/..", "resolved"),
        ("/.", "resolved"),
        ("//", "resolved"),
        ("//a", "resolved"),
        ("/a//b", "resolved"),
        ("/a//", "resolved"),
        ("/a\\b", "backslashes"),
        ("/a?b", "query"),
        ("/a#b", "fragment"),
        ("/a\nb", "control"),
        ("/a\0", "control"),
        ("/\ud800", "control"),
        ("/a%20b", "percent-encoded"),
        ("", "start with"),
        ("a", "start with"),
        ("*", "start with"),
    ],
)
def test_paths_that_no_request_has_or_that_look_like_patterns(path, text, tmp_path):
    registering = [
        lambda: check_pattern(path),
        lambda: Routes().get(path, lambda request: ""),
        lambda: Routes().get(path),
        lambda: Routes().websocket(path, echo),
        lambda: Server(echo, port=0, path=path).close(),
    ]
    for register in registering:
        with pytest.raises(ValueError, match=text):
            register()
    for register in (lambda: check_path(path), lambda: Routes().static(path, tmp_path)):
        with pytest.raises(ValueError, match="the path"):
            register()


@pytest.mark.parametrize(
    "path", ["/", "/a", "/a/", "/.well-known/x", "/a.b", "/...", "/a:b", "/a;b=1", "/\xfc", "/100%"]
)
def test_paths_that_a_request_can_have(path):
    assert check_path(path) == path
    assert decoded_path(path.replace("%", "%25")) == path
