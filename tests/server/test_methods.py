"""Methods of pages: which handler answers which, and what a path says that it answers."""

import pytest

import scriptling_ws as ws
from scriptling_ws import runtime
from scriptling_ws._server.routes import Routes
from servers import TIMEOUT, ask, echo, head, raw_websocket, serving, status_of, upgrade

pytestmark = pytest.mark.once("it is about what is admitted")


def told(request):
    """A page that says what has come."""
    return f"{request.method} {request.body.decode()}"


def with_body(path, method, body=b"the body", *lines):
    return head(path, f"Content-Length: {len(body)}", *lines, method=method) + body


@pytest.fixture
def pages(tmp_path):
    (tmp_path / "form").write_text("a form")
    routes = Routes()
    for method in ("get", "post", "put", "patch", "delete"):
        getattr(routes, method)("/all", told)
    routes.post("/only-post", told)
    routes.websocket("/both", echo)
    routes.post("/both", told)
    routes.get("/thing/{id}", told)
    routes.delete("/thing/special", told)
    routes.static("/files", tmp_path)
    routes.post("/files/form", told)
    with serving(routes=routes) as server:
        yield server


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
def test_each_method_has_its_handler(pages, method):
    answer = ask(pages, with_body("/all", method))
    assert (answer.status, answer.body) == (200, f"{method} the body".encode())


def test_head_is_answered_by_get_without_the_body(pages):
    answer = ask(pages, head("/all", method="HEAD"))
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"", "5")
    assert status_of(pages, head("/only-post", method="HEAD")) == 405


@pytest.mark.parametrize(
    ("path", "method", "allow"),
    [
        ("/all", "TRACE", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("/all", "get", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"),
        ("/only-post", "GET", "POST, OPTIONS"),
        ("/both", "PUT", "GET, POST, OPTIONS"),
        ("/both", "HEAD", "GET, POST, OPTIONS"),
        ("/thing/1", "DELETE", "GET, HEAD, OPTIONS"),
        ("/thing/special", "PUT", "GET, HEAD, DELETE, OPTIONS"),
        ("/files/form", "PUT", "GET, HEAD, POST, OPTIONS"),
        ("/files/x", "POST", "GET, HEAD, OPTIONS"),
    ],
)
def test_other_methods_are_told_which_there_are(pages, path, method, allow):
    answer = ask(pages, head(path, method=method))
    assert (answer.status, answer.headers["allow"]) == (405, allow)
    answer = ask(pages, head(path, method="OPTIONS"))
    assert (answer.status, answer.body, answer.headers["allow"]) == (204, b"", allow)


def test_a_method_that_a_more_specific_route_has_not_is_the_next_ones(pages):
    assert ask(pages, head("/thing/special")).body == b"GET "
    assert ask(pages, head("/thing/special", method="DELETE")).body == b"DELETE "
    assert ask(pages, head("/files/form")).body == b"a form"
    assert ask(pages, with_body("/files/form", "POST")).body == b"POST the body"


def test_a_page_and_a_websocket_at_one_path(pages):
    assert ask(pages, with_body("/both", "POST")).body == b"POST the body"
    assert status_of(pages, head("/both")) == 426  # it is the WebSocket's method
    with raw_websocket(pages, "/both") as client:
        client.send(1, b"x")
        assert client.receive() == (1, b"x")


def test_a_page_alone_is_no_websocket(pages):
    for path in ("/all", "/only-post"):
        for method in ("GET", "POST", "PUT"):
            assert status_of(pages, upgrade(path, method=method)) in (404, 405)
    assert status_of(pages, upgrade("/all")) == 404


def test_one_handler_for_each_method():
    routes = Routes()
    routes.post("/a", told)
    routes.get("/a", told)
    for method in ("post", "get"):
        with pytest.raises(ValueError, match="'/a' already has a page"):
            getattr(routes, method)("/a", told)
    with pytest.raises(ValueError, match="already has a page for POST"):
        routes.post("/a")


def test_decorators():
    http = runtime.HTTP()

    @http.post("/a")
    def create(request):
        return http.json(201, {})

    @http.delete("/a")
    def remove(request):
        return http.text(200, "gone")

    with serving(routes=http) as server:
        assert status_of(server, with_body("/a", "POST")) == 201
        assert ask(server, head("/a", method="DELETE")).body == b"gone"
        assert status_of(server, head("/a")) == 405
    assert (create.__name__, remove.__name__) == ("create", "remove")


@pytest.mark.parametrize("call", ["post", "put", "patch", "delete"])
def test_what_is_registered_wrongly_fails_there(call):
    register = getattr(Routes(), call)
    with pytest.raises(TypeError, match="cannot be called with the request alone"):
        register("/", lambda: None)
    with pytest.raises(ValueError, match="is not a handler"):
        register("/", "nowhere")
    with pytest.raises(TypeError, match=f"{call}\\(\\) takes no option 'origins'"):
        register("/", told, origins=[])


# -- a handler of any path, beside routes --------------------------------------------


def test_a_handler_of_any_path_beside_routes(tmp_path):
    (tmp_path / "file").write_text("a file")
    routes = Routes()
    routes.websocket("/own", lambda client: client.send("own"))
    routes.websocket("/at/{name}", lambda client: client.send("parameter"))
    routes.get("/page", told)
    routes.static("/files", tmp_path)
    with serving(lambda client: client.send("any"), routes=routes) as server:
        for path, answer in {
            "/own": "own",
            "/at/x": "parameter",
            "/page": "any",
            "/": "any",
            "/at/x/y": "any",
            "//": "any",
        }.items():
            with ws.connect(server.url + path, TIMEOUT) as conn:
                assert conn.receive(TIMEOUT) == answer
        assert ask(server, head("/page")).body == b"GET "
        assert ask(server, head("/files/file")).body == b"a file"
        assert status_of(server, head("/elsewhere")) == 426
        assert ask(server, head("/x", method="OPTIONS")).headers["allow"] == "GET, OPTIONS"


def test_a_route_for_any_path_beside_routes():
    routes = Routes()
    routes.websocket("/own", lambda client: client.send("own"))
    routes.websocket("/{rest:path}", lambda client: client.send(client.request.params["rest"]))
    with serving(routes=routes) as server:
        for path, answer in {"/own": "own", "/a/b": "a/b", "/": ""}.items():
            with ws.connect(server.url + path, TIMEOUT) as conn:
                assert conn.receive(TIMEOUT) == answer


def test_a_handler_beside_no_routes_is_one_alone():
    with (
        serving(echo, routes=Routes()) as server,
        ws.connect(f"{server.url}/any", TIMEOUT) as conn,
    ):
        conn.send("x")
        assert conn.receive(TIMEOUT) == "x"
