"""Pages of other origins: what their scripts may read, what they may change, and preflights."""

import pytest

from scriptling_ws import runtime
from scriptling_ws._server.cors import Cors
from scriptling_ws._server.routes import Routes
from servers import ask, echo, head, serving, status_of, upgrade

pytestmark = pytest.mark.once("it is about what is admitted")

APP = "https://app.example"
OTHER = "https://evil.example"


@pytest.fixture
def site(tmp_path):
    (tmp_path / "file").write_text("x")
    routes = runtime.HTTP()
    routes.get("/open", lambda request: "open", cors="*")
    routes.get("/api", lambda request: "read", cors=[APP])
    routes.post("/api", lambda request: "changed", cors=[APP, "http://127.0.0.1:5173"])
    routes.get("/own", lambda request: "own")
    routes.put("/own", lambda request: "changed")
    routes.get("/thing/{id}", lambda request: "thing", cors=[APP])
    routes.get("/asked", lambda request: "asked", cors=[APP], authorize=refuse)
    routes.get("/fails", lambda request: 1 / 0, cors=[APP])
    routes.get("/itself", itself, cors=[APP])
    routes.static("/files", tmp_path, cors="*")
    routes.websocket("/ws", echo)
    with serving(routes=routes) as server:
        yield server


def refuse(request):
    return runtime.http.text(401, "")


def itself(request):
    headers = {"Access-Control-Allow-Origin": "https://itself.example", "Vary": "Accept"}
    return runtime.http.text(200, "", headers)


def allowed(answer):
    return {
        name.removeprefix("access-control-allow-"): value
        for name, value in answer.headers.items()
        if name.startswith("access-control-allow-")
    }


def preflight(path, method, *lines, origin=APP, **options):
    rows = (f"Origin: {origin}", f"Access-Control-Request-Method: {method}", *lines)
    return head(path, *rows, method="OPTIONS", **options)


# -- reading -------------------------------------------------------------------------


def test_what_anybody_may_read(site):
    for path in ("/open", "/files/file"):
        for lines in ((), (f"Origin: {OTHER}",), ("Origin: null",)):
            answer = ask(site, head(path, *lines))
            assert (answer.status, allowed(answer)) == (200, {"origin": "*"})
            assert "vary" not in answer.headers


@pytest.mark.parametrize("path", ["/api", "/thing/1", "/fails", "/asked"])
def test_what_a_named_origin_may_read_with_cookies(site, path):
    answer = ask(site, head(path, f"Origin: {APP}"))
    assert allowed(answer) == {"origin": APP, "credentials": "true"}
    assert answer.headers["vary"] == "Origin"


@pytest.mark.parametrize(
    "origin", [OTHER, "null", f"{APP}:8443", f"{APP}.evil.example", "http://app.example"]
)
def test_what_others_may_not(site, origin):
    answer = ask(site, head("/api", f"Origin: {origin}"))
    assert (answer.status, allowed(answer)) == (200, {})
    assert answer.headers["vary"] == "Origin"  # as an answer to another one differs


def test_a_page_without_cors_says_nothing(site):
    answer = ask(site, head("/own", f"Origin: {APP}"))
    assert (answer.status, allowed(answer)) == (200, {})
    assert "vary" not in answer.headers


def test_what_a_handler_says_itself_is_kept(site):
    answer = ask(site, head("/itself", f"Origin: {APP}"))
    assert answer.raw.count(b"Access-Control-Allow-Origin:") == 1
    assert b"Access-Control-Allow-Origin: https://itself.example" in answer.raw
    assert answer.raw.count(b"Vary: ") == 2


# -- preflights ------------------------------------------------------------------------


def test_a_preflight(site):
    answer = ask(
        site, preflight("/api", "POST", "Access-Control-Request-Headers: content-type,x-a")
    )
    assert (answer.status, answer.body) == (204, b"")
    assert allowed(answer) == {
        "origin": APP,
        "credentials": "true",
        "methods": "POST",
        "headers": "content-type,x-a",
    }
    assert answer.headers["access-control-max-age"] == "600"
    assert answer.headers["allow"] == "GET, HEAD, POST, OPTIONS"
    assert answer.headers["vary"] == "Origin"


def test_a_preflight_of_what_anybody_may_read(site):
    answer = ask(site, preflight("/open", "GET", origin="null"))
    assert allowed(answer) == {"origin": "*", "methods": "GET"}


def test_a_preflight_is_asked_of_the_methods_own_route(site):
    local = "http://127.0.0.1:5173"
    assert allowed(ask(site, preflight("/api", "POST", origin=local)))["origin"] == local
    assert allowed(ask(site, preflight("/api", "GET", origin=local))) == {}
    assert allowed(ask(site, preflight("/thing/1", "GET")))["origin"] == APP


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_a_preflight_allows_no_other_method(site, method):
    """A browser remembers all that are named, and GET and POST may have different origins."""
    assert allowed(ask(site, preflight("/api", method)))["methods"] == method


def test_nobody_is_asked_to_authorize_a_preflight(site):
    answer = ask(site, preflight("/asked", "GET"))
    assert (answer.status, allowed(answer)["origin"]) == (204, APP)


@pytest.mark.parametrize(
    ("path", "method", "origin"),
    [
        ("/api", "POST", OTHER),
        ("/api", "DELETE", APP),  # which nothing answers
        ("/api", "x y", APP),
        ("/own", "PUT", APP),
        ("/ws", "GET", APP),
    ],
)
def test_a_preflight_that_is_not_allowed(site, path, method, origin):
    answer = ask(site, preflight(path, method, origin=origin))
    assert (answer.status, allowed(answer)) == (204, {})


def test_a_preflight_of_another_host(site):
    assert status_of(site, preflight("/api", "POST", host="evil.example")) == 400
    assert status_of(site, preflight("/nowhere", "POST")) == 404


# -- changing ----------------------------------------------------------------------------


def sent(path, method, *lines):
    return head(path, "Content-Length: 0", *lines, method=method)


@pytest.mark.parametrize(
    ("path", "method", "origin", "status"),
    [
        ("/api", "POST", None, 200),
        ("/api", "POST", APP, 200),
        ("/api", "POST", "http://localhost", 200),
        ("/api", "POST", "https://localhost", 200),
        ("/api", "POST", OTHER, 403),
        ("/api", "POST", "null", 403),
        ("/api", "POST", "http://localhost:81", 403),
        ("/own", "PUT", None, 200),
        ("/own", "PUT", "http://localhost", 200),
        ("/own", "PUT", APP, 403),
    ],
)
def test_a_foreign_page_changes_nothing(site, path, method, origin, status, log):
    lines = () if origin is None else (f"Origin: {origin}",)
    answer = ask(site, sent(path, method, *lines))
    assert answer.status == status
    if status == 403:
        assert answer.body != b"changed"
        warning = log.wait_for("refused").message
        assert f"a {method} of '{path}' from the origin '{origin}'" in warning
        assert f"to allow it, give the route cors=['{origin}']" in warning


def test_a_page_that_anybody_may_change():
    routes = Routes()
    routes.post("/hook", lambda request: "taken", cors="*")
    with serving(routes=routes) as server:
        assert ask(server, sent("/hook", "POST", f"Origin: {OTHER}")).body == b"taken"


def test_a_websocket_has_its_own_option(site):
    assert status_of(site, upgrade("/ws", f"Origin: {APP}")) == 403


# -- what may be given ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cors", "error", "text"),
    [
        ([], ValueError, "cors is empty"),
        ("", ValueError, "cors is empty"),
        (APP, TypeError, "cors has to be a list of str"),
        (5, TypeError, "cors has to be a list of str"),
        (True, TypeError, "cors has to be a list of str"),
        ([5], TypeError, "cors has to hold str"),
        ([""], ValueError, "cors has an empty entry"),
        (["https://*.example"], ValueError, r"pass cors='\*'"),
    ],
)
def test_what_cannot_be_allowed(cors, error, text):
    for register in (
        lambda: Cors(cors),
        lambda: Routes().get("/", print, cors=cors),
        lambda: Routes().static("/", ".", cors=cors),
    ):
        with pytest.raises(error, match=text):
            register()


def test_an_iterator_is_read_once():
    routes = Routes()
    routes.get("/", lambda request: "", cors=iter([APP]))
    for _ in range(2):
        with serving(routes=routes) as server:
            assert allowed(ask(server, head("/", f"Origin: {APP}")))["origin"] == APP


def test_any_among_others_is_any():
    assert Cors(["*", APP]).headers(runtime.Request("GET", "/")) == (
        ("Access-Control-Allow-Origin", "*"),
    )
