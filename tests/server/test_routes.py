"""Registration: what is refused at the line that registers it, and what matches afterwards."""

import functools
import os

import pytest

from looped import looped
from scriptling_ws._server.handlers import resolve
from scriptling_ws._server.route_table import RouteTable, WebSocketRoute
from scriptling_ws._server.routes import Routes
from scriptling_ws._server.serve import serve
from scriptling_ws._server.server import Server
from scriptling_ws._server.settings import Settings
from scriptling_ws.runtime import HTTP

pytestmark = pytest.mark.once


def handler(client):
    pass


def page(request):
    return "page"


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A module `rt_library` and a package `rt_package` on the module path."""
    (tmp_path / "rt_library.py").write_text(
        "from os import system\n"
        "import json\n"
        "LOADED = []\n"
        "def chat(client): pass\n"
        "async def modern(client): pass\n"
        "def generator(client): yield\n"
        "def greedy(client, database): pass\n"
        "class Handler:\n"
        "    def __call__(self, client): pass\n"
        "instance = Handler()\n"
        "value = 5\n"
    )
    (tmp_path / "rt_package").mkdir()
    (tmp_path / "rt_package" / "__init__.py").write_text("")
    (tmp_path / "rt_package" / "inner.py").write_text("def chat(client): pass\n")
    (tmp_path / "rt_broken.py").write_text("import rt_is_not_there\n")
    (tmp_path / "rt_nameless.py").write_text("raise ModuleNotFoundError('of no name')\n")
    (tmp_path / "rt_raises.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    ["rt_library.chat", "rt_package.inner.chat", "rt_library.instance", "rt_library.Handler"],
)
def test_names_are_resolved(library, name):
    assert callable(resolve(name))


def test_a_library_is_imported_once(library):
    assert resolve("rt_library.chat") is resolve("rt_library.chat")


@pytest.mark.abuse(84)
@pytest.mark.parametrize(
    "name",
    [
        "",
        "a",
        "chat",
        ".",
        "..x",
        ".rt_library.chat",
        "rt_library.",
        "rt_library..chat",
        "rt_library.chat()",
        "rt_library:chat",
        "rt_library/chat",
        "rt_library.class",
        "rt library.chat",
        "rt_library.chat\n",
        "1.chat",
    ],
)
def test_malformed_names(library, name):
    with pytest.raises(ValueError, match=r"is not a handler: write 'library\.function'"):
        resolve(name)


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "os.path.join",
        "subprocess.run",
        "builtins.exec",
        "posix.system",
        "nt.system",
        "sys.exit",
        "_thread.start_new_thread",
        "rt_library.system",  # the same function by another name
    ],
)
def test_the_standard_library_is_refused(library, name):
    with pytest.raises(ValueError, match="standard library"):
        resolve(name)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("rt_nowhere.chat", "no module 'rt_nowhere'"),
        ("rt_package.nowhere.chat", "no module 'rt_package.nowhere'"),
        ("rt_library.chat.deeper", "no module 'rt_library.chat'"),
        ("rt_library.nowhere", "has no 'nowhere'"),
    ],
)
def test_missing_names(library, name, missing):
    with pytest.raises(ImportError, match=missing):
        resolve(name)


def test_what_a_library_raises_is_not_hidden(library):
    with pytest.raises(ModuleNotFoundError, match="rt_is_not_there"):
        resolve("rt_broken.chat")
    with pytest.raises(ModuleNotFoundError, match="of no name"):
        resolve("rt_nameless.chat")
    with pytest.raises(ZeroDivisionError):
        resolve("rt_raises.chat")


@pytest.mark.parametrize("name", ["rt_library.value", "rt_library.LOADED"])
def test_names_of_what_cannot_be_called(library, name):
    with pytest.raises(TypeError, match="is not a function"):
        resolve(name)


def test_asynchronous_handlers_are_refused(library):
    with pytest.raises(TypeError, match="write 'def'"):
        Routes().websocket("/", "rt_library.modern")

    async def modern(client):
        pass

    with pytest.raises(TypeError, match="write 'def'"):
        Routes().websocket("/", modern)
    with pytest.raises(TypeError, match="write 'def'"):
        Routes().get("/", functools.partial(modern))

    class Modern:
        async def __call__(self, client):
            pass

    with pytest.raises(TypeError, match="write 'def'"):
        Routes().websocket("/", Modern())

    class Made:
        def __init__(self, client):
            pass

        async def __call__(self, client):
            pass

    Routes().websocket("/", Made)  # making one is not asynchronous


def test_asynchronous_generators_are_refused_as_asynchronous():
    async def stream(client):
        yield

    class Stream:
        async def __call__(self, client):
            yield

    for handler in (stream, functools.partial(stream), Stream()):
        with pytest.raises(TypeError, match="write 'def'"):
            Routes().websocket("/", handler)
        with pytest.raises(TypeError, match="write 'def'"):
            Routes().get("/", handler)


# -- handlers that could not run -------------------------------------------


class Callable:
    """Its instances, its methods and itself are handlers."""

    def __init__(self, client=None):
        pass

    def __call__(self, client):
        pass

    def method(self, client):
        pass

    def bare(self):
        pass

    def generator(self, client):
        yield

    @classmethod
    def of_class(cls, client):
        pass

    @staticmethod
    def static(client):
        pass


class Generating:
    def __call__(self, client):
        yield


class Greedy:
    def __init__(self, client, database):
        pass

    def __call__(self, client, database):
        pass


def passing_on(function, *more):
    """A decorator that calls with more arguments, or as it was called."""

    @functools.wraps(function)
    def wrapper(*arguments, **keywords):
        return function(*arguments, *more, **keywords)

    return wrapper


def none():
    pass


def two(client, database):
    pass


def keyword_only(client, *, database):
    pass


def named(*, client):
    pass


def optional(client, database=None, *, more=1):
    pass


def anything(*arguments, **keywords):
    pass


def positional(client, /):
    pass


def generator(client):
    yield


def one_argument_decorator(function):
    @functools.wraps(function)
    def wrapper():
        return function(None)

    return wrapper


def register_as(kind, function):
    """Every way to register a handler."""
    {
        "websocket": lambda: Routes().websocket("/", function),
        "websocket decorator": lambda: Routes().websocket("/")(function),
        "page": lambda: Routes().get("/", function),
        "page decorator": lambda: Routes().get("/")(function),
        "server": lambda: Server(function, port=0).close(),
        "server's path": lambda: Server(function, port=0, path="/x").close(),
    }[kind]()


WAYS = ["websocket", "websocket decorator", "page", "page decorator", "server", "server's path"]


@looped("kind", WAYS)
@looped(
    "function",
    [
        none,
        two,
        keyword_only,
        named,
        lambda: None,
        Callable().bare,
        Callable.method,  # which takes two: the object is missing
        Greedy,
        Greedy(None, None),
        functools.partial(none),
        functools.partial(handler, None),
        functools.partial(two, client=None),
        functools.partial(functools.partial(two), None, None),
        one_argument_decorator(handler),
    ],
)
def test_handlers_that_take_something_else_than_one_argument(kind, function):
    argument = "request" if "page" in kind else "client"
    with pytest.raises(TypeError, match=f"cannot be called with the {argument} alone"):
        register_as(kind, function)


@looped("kind", WAYS)
@looped(
    "function",
    [
        generator,
        Generating(),
        Callable().generator,
        functools.partial(generator),
        functools.partial(Generating()),
        lambda client: (yield),
    ],
)
def test_generator_functions_are_refused(kind, function):
    with pytest.raises(TypeError, match=r"has a 'yield' in it, so calling it would run nothing"):
        register_as(kind, function)


@looped("kind", WAYS)
@looped(
    "function",
    [
        handler,
        optional,
        anything,
        positional,
        Callable,
        Callable(),
        Callable().method,
        Callable.of_class,
        Callable.static,
        functools.partial(two, database=1),
        functools.partial(two, None),
        passing_on(handler),
        passing_on(two, 1),  # the decorator adds what is missing
        functools.lru_cache(handler),
        [].append,
        print,
        str,
        int,  # nothing is known of it before Python 3.13 or so
    ],
)
def test_handlers_that_can_be_called_with_one_argument(kind, function):
    register_as(kind, function)


@pytest.mark.parametrize(
    ("name", "text"), [("generator", "'yield'"), ("greedy", r"missing .*'database'")]
)
def test_references_to_handlers_that_could_not_run(library, name, text):
    for kind in WAYS:
        if "decorator" not in kind:
            with pytest.raises(TypeError, match=text):
                register_as(kind, f"rt_library.{name}")


def test_a_table_in_the_handlers_place_is_told_its_name():
    for call in (Server, serve):
        for table in (Routes(), HTTP()):
            with pytest.raises(TypeError, match="routes="):
                call(table, port=0)


def test_a_failed_registration_registers_nothing(library):
    routes = Routes()
    for attempt in (
        lambda: routes.websocket("/", "os.system"),
        lambda: routes.websocket("/", "rt_library.nowhere"),
        lambda: routes.websocket("/", handler, no_such_option=1),
        lambda: routes.websocket("/", generator),
        lambda: routes.websocket("/")(two),
        lambda: routes.get("/", 5),
        lambda: routes.get("/")(none),
        lambda: routes.static("/", os.devnull),
    ):
        with pytest.raises((ValueError, TypeError, ImportError)):
            attempt()
    assert not routes.table()


@pytest.mark.parametrize("path", ["", "chat", "/a?b", "/a#b", "/a b\n", "/\0", "/a%20b", "*"])
def test_malformed_paths(path):
    for register in (Routes().websocket, Routes().get):
        with pytest.raises(ValueError, match="the path"):
            register(path, handler)
    with pytest.raises(ValueError, match="the path"):
        Routes().static(path, ".")


@pytest.mark.parametrize("path", [None, 5, b"/chat", handler])
def test_path_types(path):
    with pytest.raises(TypeError, match="the path has to be a str"):
        Routes().websocket(path)


def test_one_of_a_kind_on_a_path(tmp_path):
    routes = Routes()
    routes.websocket("/a", handler)
    routes.get("/a", page)  # a page beside the socket
    routes.static("/a", tmp_path)
    with pytest.raises(ValueError, match="already has a WebSocket"):
        routes.websocket("/a", handler)
    with pytest.raises(ValueError, match="already has a WebSocket"):
        routes.websocket("/a")
    with pytest.raises(ValueError, match="already has a page"):
        routes.get("/a", page)
    with pytest.raises(ValueError, match="already has a directory"):
        routes.static("/a/", tmp_path)


def test_decorators_return_the_function():
    routes = Routes()

    @routes.websocket("/ws", binary_type=bytes)
    def one(client):
        pass

    @routes.get("/page")
    def two(request):
        pass

    table = routes.table()
    assert table.websocket("/ws")[0].handler is one
    assert table.websocket("/ws")[0].options == {"binary_type": bytes}
    assert table.page("/page", "GET")[0].handler is two


def test_a_decorator_used_twice():
    routes = Routes()
    decorate = routes.websocket("/ws")
    decorate(handler)
    with pytest.raises(ValueError, match="already has"):
        decorate(handler)


def test_unknown_options_name_the_nearest_known_one():
    with pytest.raises(TypeError, match=r"'binary_typ'.*'binary_type'.*Routes\.websocket"):
        Routes().websocket("/", handler, binary_typ=bytes)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"max_message_size": 0}, ValueError),
        ({"max_message_size": "1"}, TypeError),
        ({"binary_type": str}, ValueError),
        ({"origins": "https://a.example"}, TypeError),
        ({"origins": ["*.example"]}, ValueError),
        ({"subprotocols": "chat"}, TypeError),
        ({"subprotocols": ["a b"]}, ValueError),
        ({"close_timeout": -1}, ValueError),
    ],
)
def test_options_are_checked_at_registration(options, error):
    with pytest.raises(error):
        Routes().websocket("/", handler, **options)


def test_paths_are_compared_whole(tmp_path):
    routes = Routes()
    routes.websocket("/chat", handler)
    routes.get("/grüße", page)
    table = routes.table()
    assert table.websocket("/chat")
    for other in ("/chat/", "/Chat", "/chat/x", "//chat", "/", "/cha"):
        assert table.websocket(other) is None
    assert table.page("/grüße", "GET")


def test_order_of_routes(tmp_path):
    (tmp_path / "inner").mkdir()
    routes = Routes()
    routes.static("/", tmp_path)
    routes.static("/files/inner", tmp_path / "inner")
    routes.static("/files", tmp_path)
    routes.get("/files/page", page)
    routes.websocket("/files/ws", handler)
    table = routes.table()
    assert table.page("/x", "GET")[0].path == "/"
    assert table.page("/files", "GET")[0].path == "/files"
    assert table.page("/filesystem", "GET")[0].path == "/"
    assert table.page("/files/inner/x", "GET")[0].path == "/files/inner"
    assert table.page("/files/page", "GET")[0].handler is page
    assert table.page("/files/ws", "GET") is None  # a WebSocket's path is no file's


def test_a_table_stays_what_it_is():
    routes = Routes()
    routes.websocket("/a", handler)
    table = routes.table()
    routes.websocket("/b", handler)
    assert table.websocket("/b") is None
    routes.clear()
    assert table.websocket("/a")
    assert not routes.table()


def test_a_handler_for_any_path():
    table = RouteTable({}, {}, {}, WebSocketRoute("", handler, {}))
    assert table.websocket("/whatever")[0].handler is handler
    assert table.websockets[0].handler is handler
    assert table


def test_subprotocol_choice_is_the_servers():
    settings = Settings.of({"subprotocols": ["v2", "v1"]})
    assert settings.choose_subprotocol(["v1", "v2"]) == "v2"
    assert settings.choose_subprotocol(["v3", "v1"]) == "v1"
    assert settings.choose_subprotocol(["v3"]) is None
    assert Settings().choose_subprotocol(["v1"]) is None
