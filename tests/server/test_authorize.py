"""`authorize`: who comes in, what a refusal is, and what a handler finds of it."""

import logging
import types

import pytest

import scriptling_ws as ws
from scriptling_ws import runtime
from scriptling_ws._handshakes.head import Refused
from scriptling_ws._options import ServerOptions
from scriptling_ws._server.authorization import Verdict, verdict_of
from scriptling_ws._server.metrics import _reason_label
from scriptling_ws._typed import parse_options
from servers import (
    TIMEOUT,
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
    upgrade,
)

pytestmark = pytest.mark.once("it is about what is admitted")

http = runtime.http


def by_query(request):
    """Whoever says who he is may come in."""
    name = request.query.get("name")
    if name is None:
        return http.text(401, "who are you?", {"WWW-Authenticate": 'Basic realm="x"'})
    if name == "mallory":
        return http.json(403, {"error": "not you"})
    request.state.user = name
    return [("Set-Cookie", "session=1; HttpOnly"), ("Set-Cookie", f"name={name}")]


class Called:
    """Handlers that note that they were called."""

    def __init__(self):
        self.by = []

    def handler(self, client):
        self.by.append((client.user, client.state))
        client.send({"user": client.user})

    def page(self, request):
        self.by.append((getattr(request.state, "user", None), request.state))
        return "page"


@pytest.fixture
def called():
    return Called()


def served(called, **options):
    return serving(routes=routes_of(called.handler, called.page), **options)


# -- refusals --------------------------------------------------------------------


@pytest.mark.parametrize("make", [upgrade, head], ids=["upgrade", "page"])
def test_nobody_comes_in_who_is_refused(called, make, log):
    path = "/ws" if make is upgrade else "/page"
    with served(called, authorize=by_query) as server:
        answer = ask(server, make(path))
        assert (answer.status, answer.body) == (401, b"who are you?")
        assert answer.headers["www-authenticate"] == 'Basic realm="x"'
        assert answer.headers["connection"] == ("close" if make is upgrade else "keep-alive")
        answer = ask(server, make(f"{path}?name=mallory"))
        assert (answer.status, answer.body) == (403, b'{"error":"not you"}')
        assert answer.headers["content-type"] == "application/json"
        log.wait_for(f"GET '{path}' 403: authorize has refused it")
    assert called.by == []
    assert not any("mallory" in text for text in log.texts())


def test_what_a_client_is_told(called):
    with served(called, authorize=by_query) as server:
        with pytest.raises(ws.HandshakeError) as caught:
            ws.connect(f"{server.url}/ws", TIMEOUT)
        assert (caught.value.status, caught.value.body) == (401, b"who are you?")


def test_a_redirect_is_a_refusal_too(called):
    with served(called, authorize=lambda request: http.redirect("/login")) as server:
        answer = ask(server, head("/page"))
        assert (answer.status, answer.headers["location"]) == (303, "/login")
        assert status_of(server, upgrade("/ws")) == 303
    assert called.by == []


def test_a_refusal_to_head_has_no_body(called):
    with served(called, authorize=lambda request: http.text(403, "not here")) as server:
        answer = ask(server, head("/page", method="HEAD"))
        assert (answer.status, answer.body, answer.headers["content-length"]) == (403, b"", "8")


def test_a_refusal_may_be_a_file(called, tmp_path):
    (tmp_path / "no.html").write_text("<p>no")

    def refuse(request):
        return runtime.Response(403, file=(tmp_path / "no.html").open("rb"))

    def broken(request):
        file = (tmp_path / "no.html").open("rb")
        response = runtime.Response(403, file=file)
        file.close()
        return response

    with served(called, authorize=refuse) as server:
        assert ask(server, upgrade("/ws")).body == b"<p>no"
    with served(called, authorize=broken) as server:
        assert status_of(server, upgrade("/ws")) == 500
    assert called.by == []


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_a_refusal_is_read_to_its_end(called, size):
    with served(called, authorize=lambda request: http.text(403, "x" * size)) as server:
        assert len(ask(server, upgrade("/ws")).body) == size


# -- what lets in ------------------------------------------------------------------


def test_who_comes_in_has_the_headers(called):
    with served(called, authorize=by_query) as server:
        with raw_websocket(server, "/ws?name=ann") as client:
            cookies = client.answer.raw.count(b"Set-Cookie: ")
            assert cookies == 2
            assert b"Set-Cookie: session=1; HttpOnly\r\n" in client.answer.raw
            assert client.receive() == (1, b'{"user":"ann"}')
        answer = ask(server, head("/page?name=ann"))
        assert (answer.status, answer.body) == (200, b"page")
        assert answer.raw.count(b"Set-Cookie: ") == 2
    assert [user for user, _ in called.by] == ["ann", "ann"]


@pytest.mark.parametrize("result", [None, {}, [], (), {"X-A": "1"}, iter([("X-A", "1")])])
def test_what_lets_in(result):
    verdict = verdict_of(result)
    assert (verdict.response, verdict.reason) == (None, "")
    assert verdict.headers in ((), (("X-A", "1"),))


@pytest.mark.parametrize(
    ("result", "error", "text"),
    [
        (True, TypeError, "authorize returned bool: it has to return None or headers"),
        (False, TypeError, "authorize returned bool"),
        (0, TypeError, "authorize returned int"),
        (403, TypeError, "authorize returned int"),
        ("ann", TypeError, "authorize returned str"),
        ("", TypeError, "authorize returned str"),
        (b"", TypeError, "authorize returned bytes"),
        (object(), TypeError, "authorize returned object"),
        (("Set-Cookie", "a=1"), TypeError, "pairs"),
        ({"Set-Cookie": 1}, TypeError, "have to be str"),
        ({"X": "a\r\nY: b"}, ValueError, "does not allow"),
        ({"Upgrade": "x"}, ValueError, "leave it out"),
        ({"Connection": "close"}, ValueError, "leave it out"),
        ({"Content-Length": "5"}, ValueError, "leave it out"),
        ({"Transfer-Encoding": "chunked"}, ValueError, "leave it out"),
        ({"Date": "now"}, ValueError, "leave it out"),
        ({"Sec-WebSocket-Protocol": "x"}, ValueError, "leave it out"),
        ({"sec-websocket-accept": "x"}, ValueError, "leave it out"),
        ({"Sec-WebSocket-Extensions": "x"}, ValueError, "leave it out"),
    ],
)
def test_what_lets_nobody_in(called, result, error, text, log):
    with pytest.raises(error, match=text):
        verdict_of(result)
    with served(called, authorize=lambda request: result) as server:
        answer = ask(server, upgrade("/ws"))
        assert answer.status == 500
        assert b"the server failed to decide" in answer.body
    record = log.wait_for("deciding about a request for '/ws' failed")
    assert isinstance(record.exc_info[1], error)
    assert called.by == []


@pytest.mark.parametrize("fail", [lambda: 1 / 0, exiting])
@pytest.mark.parametrize("make", [upgrade, head], ids=["upgrade", "page"])
def test_what_it_raises_is_a_500(called, fail, make, log):
    with served(called, authorize=lambda request: fail()) as server:
        answer = ask(server, make("/ws" if make is upgrade else "/page"))
        assert answer.status == 500
        assert b"division" not in answer.body
        assert log.wait_for("deciding about").exc_info
        log.wait_for("500: authorize has failed")
    assert called.by == []


def test_what_a_request_itself_refuses_is_a_refusal(called, log):
    """Such as a malformed body, which it is asked for."""

    def authorize(request):
        raise Refused(400, "the body is no JSON")

    with served(called, authorize=authorize) as server:
        answer = ask(server, head("/page"))
        assert (answer.status, answer.body) == (400, b"400 Bad Request: the body is no JSON\n")
        log.wait_for("GET '/page' 400: the body is no JSON")
    assert called.by == []
    assert not log.texts(logging.ERROR)


def test_the_state_is_one_object(called):
    seen = []

    def authorize(request):
        request.state.user = types.SimpleNamespace(name="ann")
        seen.append((request.state, request.method, request.path, request.headers["host"]))

    with served(called, authorize=authorize) as server:
        with raw_websocket(server, "/ws") as client:
            assert client.close_code() == 1011  # no JSON of that
        ask(server, head("/page", "Content-Length: 4") + b"body")
    assert [state for state, *_ in seen] == [state for _, state in called.by]
    assert seen[0][1:] == ("GET", "/ws", "localhost")
    assert called.by[0][0].name == "ann"


def test_a_handler_may_keep_something_on_its_client():
    def handler(client):
        assert client.user is None
        client.user = "bob"
        client.state.room = "lobby"
        assert client.request.state is client.state
        client.send({"user": client.user, "room": client.state.room})

    with serving(handler) as server, ws.connect(server.url, TIMEOUT) as conn:
        assert conn.receive(TIMEOUT) == '{"user":"bob","room":"lobby"}'
        assert conn.user is None
        conn.state.of = "the client's own"


def test_each_request_has_a_state_of_its_own():
    first, second = runtime.Request("GET", "/"), runtime.Request("GET", "/")
    assert first.state is not second.state
    assert first.params is not second.params
    assert first == second


# -- where it holds ----------------------------------------------------------------


def refuse(request):
    return http.text(403, "")


def test_a_route_goes_before_the_server(tmp_path, called):
    (tmp_path / "file").write_text("x")
    routes = runtime.HTTP()
    routes.websocket("/ws", called.handler)
    routes.websocket("/open/ws", called.handler, authorize=None)
    routes.websocket("/own/{name}", called.handler, authorize=by_query)
    routes.get("/page", called.page)
    routes.post("/page", called.page, authorize=None)
    routes.get("/open", called.page, authorize=None)
    routes.static("/files", tmp_path)
    routes.static("/open/files", tmp_path, authorize=None)
    with serving(routes=routes, authorize=refuse, health=True) as server:
        assert status_of(server, upgrade("/ws")) == 403
        assert status_of(server, upgrade("/own/x")) == 401
        for path in ("/open/ws", "/own/x?name=ann"):
            with raw_websocket(server, path):
                pass
        assert status_of(server, head("/page")) == 403
        assert status_of(server, head("/page", method="POST")) == 200
        assert status_of(server, head("/open")) == 200
        assert status_of(server, head("/files/file")) == 403
        assert status_of(server, head("/open/files/file")) == 200
        # Nobody is asked for these, which tell nothing.
        assert status_of(server, head("/healthz")) == 200
        assert status_of(server, head("/page", method="OPTIONS")) == 204
        assert status_of(server, head("/page", method="PUT")) == 405
        assert status_of(server, head("/nowhere")) == 404


def test_the_parameters_of_the_path_are_there_already(called):
    def authorize(request):
        return None if request.params["name"] == "own" else refuse(request)

    routes = runtime.HTTP()
    routes.websocket("/room/{name}", called.handler, authorize=authorize)
    with serving(routes=routes) as server:
        assert status_of(server, upgrade("/room/other")) == 403
        with raw_websocket(server, "/room/own"):
            pass


def test_the_checks_before_it_come_first(called):
    """What is malformed, or of a foreign page, asks nobody."""
    asked = []
    with served(called, authorize=asked.append, allowed_hosts=["localhost"]) as server:
        assert status_of(server, upgrade("/nowhere")) == 404
        assert status_of(server, upgrade("/ws", method="POST")) == 405
        assert status_of(server, upgrade("/ws", Sec_WebSocket_Version="8")) == 426
        assert status_of(server, upgrade("/ws", "Origin: https://evil.example")) == 403
        assert status_of(server, upgrade("/ws", host="evil.example")) == 400
        assert status_of(server, head("/page", host="evil.example")) == 400
        assert status_of(server, head("/page", "Content-Length: 99999999")) == 413
        assert asked == []
        assert status_of(server, head("/page")) == 200
        assert len(asked) == 1


def test_it_sees_the_body_of_a_request():
    def authorize(request):
        return None if request.body == b"secret" else refuse(request)

    routes = runtime.HTTP()
    routes.post("/hook", lambda request: "taken", authorize=authorize)
    with serving(routes=routes) as server:
        for body, status in ((b"secret", 200), (b"guess!", 403)):
            request = head("/hook", f"Content-Length: {len(body)}", method="POST") + body
            assert status_of(server, request) == status


def test_a_name_of_a_function(called, tmp_path, monkeypatch):
    (tmp_path / "au_library.py").write_text(
        "from scriptling_ws import runtime\n"
        "def check(request): return runtime.http.text(403, 'by name')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with served(called, authorize="au_library.check") as server:
        assert ask(server, upgrade("/ws")).body == b"by name"
    assert parse_options(["authorize=au_library.check"]) == {"authorize": "au_library.check"}
    assert "authorize" in ServerOptions.__annotations__


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (5, TypeError, "the authorize function '5' is not a function"),
        (lambda: None, TypeError, "authorize function .* with the request alone"),
        (lambda a, b: None, TypeError, "authorize function .* with the request alone"),
        ("nowhere", ValueError, "library.function"),
        ("os.system", ValueError, "standard library"),
    ],
)
def test_what_is_no_function_of_the_request(function, error, text):
    async def asynchronous(request):
        pass

    routes = runtime.HTTP()
    for register in (
        lambda: serving(echo, authorize=function),
        lambda: routes.websocket("/", echo, authorize=function),
        lambda: routes.get("/", print, authorize=function),
        lambda: routes.static("/", ".", authorize=function),
    ):
        with pytest.raises(error, match=text):
            register()
    with pytest.raises(TypeError, match="write 'def'"):
        routes.get("/", print, authorize=asynchronous)
    assert not routes.table()


# -- subprotocols ------------------------------------------------------------------


def newest(offer):
    return max((name for name in offer if name.startswith("v")), default=None)


@pytest.mark.parametrize(
    ("offer", "agreed"), [(["v1", "v3", "x"], "v3"), (["x"], None), ([], None), (["v1"], "v1")]
)
@pytest.mark.parametrize("authorize", [None, lambda request: None])
def test_a_function_of_the_offer(offer, agreed, authorize):
    with (
        serving(echo, subprotocols=newest, authorize=authorize) as server,
        ws.connect(server.url, TIMEOUT, subprotocols=offer) as conn,
    ):
        assert conn.subprotocol == agreed


@pytest.mark.parametrize(
    ("choose", "error"),
    [
        (lambda offer: "other", ValueError),
        (lambda offer: 5, TypeError),
        (lambda offer: offer, TypeError),
        (lambda offer: 1 / 0, ZeroDivisionError),
    ],
)
def test_a_function_that_chooses_what_is_not_offered(choose, error, log):
    called = []
    with serving(called.append, subprotocols=choose) as server:
        assert status_of(server, upgrade("/", "Sec-WebSocket-Protocol: a")) == 500
        assert isinstance(log.wait_for("deciding about").exc_info[1], error)
    assert called == []


def test_the_subprotocol_is_not_asked_for_who_is_refused():
    asked = []
    with serving(echo, subprotocols=asked.append, authorize=refuse) as server:
        assert status_of(server, upgrade("/", "Sec-WebSocket-Protocol: a")) == 403
    assert asked == []


def test_what_is_no_function_of_the_offer():
    with pytest.raises(TypeError, match=r"subprotocols function .* with the offer alone"):
        serving(echo, subprotocols=lambda: None)


# -- the log and the figures ---------------------------------------------------------


def test_a_line_of_the_access_log(called, log):
    with served(called, authorize=by_query, access_log="json") as server:
        assert status_of(server, upgrade("/ws?name=mallory")) == 403
        line = log.wait_for('"status":403').message
        assert '"bytes":19' in line
        assert '"reason":"authorize has refused it"' in line
        assert "mallory" not in line
        assert not [text for text in log.texts(logging.INFO) if "101" in text]


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/ws", "401", "authorize"),
        ("/ws?name=mallory", "403", "authorize"),
        ("/page", "401", "authorize"),
        ("/fails", "500", "failed"),
    ],
)
def test_figures_of_refusals(called, path, status, reason):
    pytest.importorskip("prometheus_client")
    routes = routes_of(called.handler, called.page)
    routes.get("/fails", called.page, authorize=lambda request: 1 / 0)

    def authorize(request):
        return None if request.path == "/metrics" else by_query(request)

    with serving(routes=routes, authorize=authorize, metrics=True) as server:
        make = upgrade if path.startswith("/ws") else head
        assert status_of(server, make(path)) == int(status)
        text = ask(server, head("/metrics")).body.decode()
        assert f'scriptling_ws_refused_total{{reason="{reason}",status="{status}"}} 1.0' in text
        assert 'page_requests_total{route="/page"' not in text


def test_reasons_are_told_apart():
    assert _reason_label(403, "this origin may not connect") == "origin"
    assert _reason_label(403, verdict_of(refuse(None)).reason) == "authorize"
    assert Verdict() == Verdict((), None, "", None)


def test_pipelined_bytes_wait_for_the_decision(called):
    """What a client sends before it is let in is its connection's, and not lost."""
    with (
        serving(echo, authorize=lambda request: None) as server,
        dial(server) as sock,
    ):
        sock.sendall(upgrade("/") + b"\x88\x80\0\0\0\0")
        answer, _, frames = read_all(sock).partition(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 101 ")
        assert frames == b"\x88\x00"
