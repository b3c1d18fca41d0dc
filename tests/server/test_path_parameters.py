"""Paths with parameters: which route a path leads to, what is in them, and what it costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scriptling_ws as ws
from calls import count_calls
from looped import looped
from scriptling_ws._handshakes.paths import Parameter, check_pattern
from scriptling_ws._server.path_tree import PathTree, shape
from scriptling_ws._server.route_table import PageRoute, RouteTable, WebSocketRoute
from scriptling_ws._server.routes import Routes
from scriptling_ws._server.server import Server
from servers import TIMEOUT, ask, head, raw_websocket, serving, status_of, upgrade

pytestmark = pytest.mark.once("it is about what is admitted")


def tree_of(*paths, below=()):
    """Routes whose values are their paths; directories have a star."""
    tree = PathTree()
    for path in paths:
        tree.add(check_pattern(path), path)
    for prefix in below:
        tree.add_below(prefix, f"{prefix}*")
    return tree


def first(tree, path):
    return next(tree.matches(path), (None, None))


# -- which route -----------------------------------------------------------------

PATHS = [
    "/room/help",
    "/room/{name}",
    "/room/{name}/log",
    "/room/{name}/{rest:path}",
    "/room/help/{page}",
    "/{any}/help",
    "/{any}",
    "/{rest:path}",
    "/files/{rest:path}",
    "/files/new",
]


@looped(
    ("path", "route", "params"),
    [
        ("/room/help", "/room/help", {}),
        ("/room/lobby", "/room/{name}", {"name": "lobby"}),
        ("/room/lobby/log", "/room/{name}/log", {"name": "lobby"}),
        ("/room/lobby/x", "/room/{name}/{rest:path}", {"name": "lobby", "rest": "x"}),
        ("/room/lobby/x/y", "/room/{name}/{rest:path}", {"name": "lobby", "rest": "x/y"}),
        ("/room/lobby/", "/room/{name}/{rest:path}", {"name": "lobby", "rest": ""}),
        ("/room/help/x", "/room/help/{page}", {"page": "x"}),
        # What is written out leads nowhere in the end, so what comes next is tried.
        ("/room/help/log", "/room/help/{page}", {"page": "log"}),
        ("/room/help/x/y", "/room/{name}/{rest:path}", {"name": "help", "rest": "x/y"}),
        ("/other/help", "/{any}/help", {"any": "other"}),
        ("/other", "/{any}", {"any": "other"}),
        ("/other/more", "/{rest:path}", {"rest": "other/more"}),
        ("/files/new", "/files/new", {}),
        ("/files/a", "/files/{rest:path}", {"rest": "a"}),
        ("/files", "/{any}", {"any": "files"}),
        ("/files/", "/files/{rest:path}", {"rest": ""}),
        ("/", "/{rest:path}", {"rest": ""}),
        ("/room", "/{any}", {"any": "room"}),
        ("/room/", "/{rest:path}", {"rest": "room/"}),
    ],
)
@looped("order", [PATHS, PATHS[::-1]])
def test_the_most_specific_goes_first(path, route, params, order):
    assert first(tree_of(*order), path) == (route, params)


def test_a_path_that_is_written_out_is_one_look_up():
    tree = tree_of(*PATHS)
    assert tree.whole("/room/help") == "/room/help"
    assert tree.whole("/room/{name}") is tree.whole("/room/lobby") is None


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/", "/*"),
        ("/x", "/*"),
        ("/files", "/files*"),
        ("/files/", "/files*"),
        ("/files//x", "/files*"),  # what a directory makes of it is its own
        ("/files/a", "/files/{name}"),
        ("/files/a/b", "/files*"),
        ("/files/deep/x", "/files/deep*"),
        ("/files/deep", "/files/deep*"),
        ("/filesystem", "/*"),
    ],
)
def test_a_directory_is_all_that_is_left(path, route):
    tree = tree_of("/files/{name}", below=["/", "/files", "/files/deep"])
    assert first(tree, path)[0] == route


def test_all_that_match_come_one_after_the_other():
    tree = tree_of("/a/b", "/a/{x}", "/{x}/b", "/{x}/{y}", "/a/{rest:path}", below=["/a", "/"])
    assert [route for route, _ in tree.matches("/a/b")] == [
        "/a/b",
        "/a/{x}",
        "/a/{rest:path}",
        "/a*",
        "/{x}/b",
        "/{x}/{y}",
        "/*",
    ]


# -- what is no parameter ----------------------------------------------------------


@pytest.mark.parametrize("path", ["//", "/room//log", "//x", "/room//", "/room/a//b", "/room/a///"])
def test_an_empty_segment_is_no_parameter(path):
    assert first(tree_of("/room/{name}/log", "/room/{name}", "/{rest:path}"), path)[0] is None


@pytest.mark.abuse(12)
@given(st.text(st.sampled_from("ab./%\\"), max_size=12))
def test_all_that_is_left_stays_below_a_folder(text):
    """A rest has no slash in front, and no empty segment: so that it may be joined to a path."""
    found = first(tree_of("/files/{rest:path}"), f"/files/{text}")
    if found[0] is not None:
        rest = found[1]["rest"]
        assert not rest.startswith("/")
        assert "//" not in rest
        assert rest == text


@pytest.mark.parametrize(
    ("raw", "status", "params"),
    [
        ("/room/a%20b", 200, {"name": "a b"}),
        ("/room/gr%C3%BC%C3%9Fe", 200, {"name": "grüße"}),
        ("/room/a+b;c=1,d", 200, {"name": "a+b;c=1,d"}),
        ("/room/%252e%252e", 200, {"name": "%2e%2e"}),  # decoded once
        ("/room/%7Bname%7D", 200, {"name": "{name}"}),
        ("/room/a%3Fb%23c?x=1", 200, {"name": "a?b#c"}),
        ("/room/...", 200, {"name": "..."}),
        ("/room/.hidden", 200, {"name": ".hidden"}),
        ("/files/a/b%20c/", 200, {"rest": "a/b c/"}),
        ("/files/", 200, {"rest": ""}),
        ("http://localhost/room/x", 200, {"name": "x"}),
        # separators that are encoded, dots, empty segments
        ("/room/a%2Fb", 404, None),
        ("/room/a%2fb", 404, None),
        ("/room/a%5Cb", 404, None),
        ("/room/a\\b", 404, None),
        ("/room/..", 404, None),
        ("/room/.", 404, None),
        ("/room/%2e%2e", 404, None),
        ("/room/%2E", 404, None),
        ("/room/x%00", 404, None),
        ("/room/", 404, None),
        ("/room//", 404, None),
        ("//room/x", 404, None),
        ("/room/x/", 404, None),
        ("/files/..%2f..%2fetc", 404, None),
        ("/files/a/../b", 404, None),
        ("/files//etc/passwd", 404, None),
        ("/files/a//b", 404, None),
        ("/files", 404, None),
        ("/room/%ff", 400, None),
    ],
)
def test_parameters_of_requests(parametrized, raw, status, params):
    answer = ask(parametrized, head(raw))
    assert answer.status == status
    if params is not None:
        assert parametrized.seen.pop() == params
        with raw_websocket(parametrized, raw.replace("http://localhost", "")) as client:
            assert client.close_code() == 1000
        assert parametrized.seen.pop() == params
    else:
        assert status_of(parametrized, upgrade(raw)) == status
    assert not parametrized.seen


@pytest.fixture
def parametrized():
    """Pages and sockets with parameters; what they have had is in `seen`."""
    seen = []
    routes = Routes()
    for path in ("/room/{name}", "/files/{rest:path}"):
        routes.get(path, lambda request: seen.append(request.params) or "")
        routes.websocket(path, lambda client: seen.append(client.request.params))
    server = serving(routes=routes)
    server.seen = seen
    yield server
    server.close()


def test_a_path_without_parameters_has_none():
    seen = []
    with serving(seen.append) as server, raw_websocket(server, "/x") as client:
        assert client.close_code() == 1000
    assert seen[0].request.params == {}


# -- registration ------------------------------------------------------------------


@looped(
    ("path", "text"),
    [
        ("/room/{}", "no parameter"),
        ("/room/{a b}", "no parameter"),
        ("/room/{1}", "no parameter"),
        ("/room/x{name}", "no parameter: write a whole segment"),
        ("/room/{name}.json", "no parameter"),
        ("/room/{a}{b}", "no parameter"),
        ("/room/{{name}}", "no parameter"),
        ("/room/}name{", "no parameter"),
        ("/room/{name:int}", "no parameter"),
        ("/room/{name:}", "no parameter"),
        ("/room/{:path}", "no parameter"),
        ("/{rest:path}/x", "takes all"),
        ("/{rest:path}/", "takes all"),
        ("/{a}/{a}", "two parameters of one name"),
        ("/{a}/../x", "resolved"),
        ("/{a}//x", "resolved"),
        ("/{a}/x?y", "query"),
        ("/{a}/%20", "percent-encoded"),
        ("/{a}/<b>", "which is no pattern"),
        ("{a}", "start with"),
    ],
)
def test_patterns_that_cannot_be(path, text):
    for register in (
        lambda: Routes().websocket(path, print),
        lambda: Routes().get(path, print),
        lambda: Routes().delete(path),
        lambda: Server(print, port=0, path=path).close(),
    ):
        with pytest.raises(ValueError, match=text) as caught:
            register()
        assert repr(path) in str(caught.value)


def test_a_directory_has_no_parameters(tmp_path):
    with pytest.raises(ValueError, match="no parameters here"):
        Routes().static("/{name}", tmp_path)


def test_segments_of_a_pattern():
    assert check_pattern("/room/{name}/{rest:path}") == (
        "room",
        Parameter("name", False),
        Parameter("rest", True),
    )
    assert check_pattern("/") == ("",)
    assert shape(check_pattern("/{größe}/x/")) == "/{}/x/"


def test_two_routes_that_no_request_can_tell_apart():
    routes = Routes()
    routes.websocket("/room/{name}", print)
    with pytest.raises(ValueError, match="already has a WebSocket"):
        routes.websocket("/room/{id}", print)
    routes.websocket("/room/{rest:path}", print)
    routes.get("/room/{id}", print)
    with pytest.raises(ValueError, match="already has a page"):
        routes.get("/room/{id}", print)
    with pytest.raises(ValueError, match=r"that of '/room/\{id\}'.*name them alike"):
        routes.post("/room/{name}", print)
    routes.post("/room/{id}", print)


def test_a_server_of_one_handler_may_have_parameters():
    seen = []
    with serving(lambda client: seen.append(client.request.params), path="/at/{place}") as server:
        with ws.connect(f"{server.url}/at/home", TIMEOUT) as conn:
            assert conn.receive(TIMEOUT) is None
        assert status_of(server, upgrade("/elsewhere")) == 404
    assert seen == [{"place": "home"}]


# -- the cost ----------------------------------------------------------------------


@pytest.mark.abuse(12)
@pytest.mark.parametrize(
    "shape_", ["/plain/{}", "/x{}/{{name}}", "/deep/er/{}/{{a}}/{{rest:path}}", "/{{a}}/{}"]
)
def test_ten_thousand_routes_cost_as_much_as_ten(shape_):
    few = tree_of(*(shape_.format(number) for number in range(10)))
    many = tree_of(*(shape_.format(number) for number in range(10_000)))
    asked = [
        shape_.format(7).replace("{name}", "n").replace("{a}", "a").replace("{rest:path}", "r/s"),
        "/nothing/at/all/of/these/" + "x/" * 100,
        "/plain",
        "/",
    ]
    for path in asked:
        assert list(many.matches(path)) == list(few.matches(path))
        cost = count_calls(lambda path=path: list(many.matches(path)))
        assert cost == count_calls(lambda path=path: list(few.matches(path)))
    assert list(many.matches(asked[0]))


def test_the_longest_path_of_a_request_is_no_deeper_than_the_routes():
    tree = tree_of("/{a}/{b}/{rest:path}")
    path = "/" + "x/" * 4000
    assert first(tree, path)[1]["rest"].count("/") == 3998
    assert count_calls(lambda: list(tree.matches(path))) < 30


class Many(Routes):
    """Ten thousand routes, whose handlers are not checked one by one."""

    def table(self):
        pages = {
            f"/page/{number}": {"GET": PageRoute(f"/page/{number}", lambda request: request.path)}
            for number in range(5_000)
        }
        sockets = {
            f"/of/{number}/{{}}": WebSocketRoute(
                f"/of/{number}/{{name}}", lambda client: client.send(client.request.params)
            )
            for number in range(5_000)
        }
        return RouteTable(sockets, pages, {})


def test_ten_thousand_routes_of_a_server():
    with serving(routes=Many()) as server:
        assert ask(server, head("/page/4999")).body == b"/page/4999"
        assert status_of(server, head("/page/5000")) == 404
        with ws.connect(f"{server.url}/of/4999/x", TIMEOUT) as conn:
            assert conn.receive(TIMEOUT) == '{"name":"x"}'
