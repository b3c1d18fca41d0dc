"""`scriptling_ws.wsgi`: threads that run out, servers without a socket, reloads, bad input."""

import io
import os
import socket
import ssl
import threading

import pytest

import scriptling_ws as ws
from adapting import TIMEOUT, adapted, need, serving_command
from heads import UPGRADE
from pairs import tcp_pair, until
from places import TESTS
from processes import Process, python_environment
from programs import free_port, runs_once
from scriptling_ws import wsgi
from scriptling_ws._adapters import door, running
from scriptling_ws._adapters.ending import Seat, ending
from scriptling_ws._adapters.environ import take_read
from scriptling_ws.runtime import HTTP
from servers import read_all

HEADERS = {f"HTTP_{name.upper().replace('-', '_')}": text for name, text in UPGRADE.items()}


def environ(**changes):
    """What a server makes of an upgrade."""
    made = {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/echo",
        "QUERY_STRING": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "Some/1.0",
        "REMOTE_ADDR": "192.0.2.1",
        "REMOTE_PORT": "4000",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(),
        "HTTP_HOST": "localhost",
        **HEADERS,
        **changes,
    }
    return {name: value for name, value in made.items() if value is not None}


def routes_of(handler=lambda client: client.send("hello"), path="/echo", **options):
    routes = ws.Routes()
    routes.websocket(path, handler, **options)
    return routes


def application(environ, start_response):
    start_response("200 OK", [])
    return [b"the application"]


class Called:
    """A middleware that was called: what it answered."""

    def __init__(self, middleware, environ):
        self.body = b"".join(middleware(environ, self._start))

    def _start(self, status, headers):
        self.status, self.headers = status, dict(headers)


@pytest.fixture(autouse=True)
def nothing_taken_over():
    yield
    ending().stop()


@pytest.fixture
def pair():
    near, far = tcp_pair()
    with near, far:
        near.settimeout(TIMEOUT)
        yield near, far


# -- what it is made of ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "error", "text"),
    [
        ((None, ws.Routes()), {}, TypeError, "application has to be a WSGI application"),
        ((application, {}), {}, TypeError, "routes has to be a Routes, not dict"),
        ((application, ws.Routes()), {}, ValueError, "the routes have no WebSocket"),
        ((application, routes_of()), {"orgins": []}, TypeError, "did you mean 'origins'"),
        ((application, routes_of()), {"max_connections": 0}, ValueError, "at least 1"),
        ((application, routes_of()), {"allowed_hosts": []}, ValueError, "allowed_hosts is empty"),
        ((application, routes_of()), {"send_timeout": -1}, ValueError, "send_timeout"),
    ],
)
def test_a_wrong_argument_fails_where_it_is_given(arguments, options, error, text):
    with pytest.raises(error, match=text):
        wsgi.Middleware(*arguments, **options)


def test_what_is_no_upgrade_is_the_applications():
    middleware = wsgi.Middleware(application, routes_of())
    plain = environ(HTTP_UPGRADE=None, HTTP_SEC_WEBSOCKET_KEY=None)
    assert Called(middleware, plain).body == b"the application"
    assert Called(middleware, environ(PATH_INFO="/other")).body == b"the application"
    assert Called(middleware, environ(PATH_INFO="/\xff")).body == b"the application"
    middleware = wsgi.Middleware(application, routes_of(path="/room/{name}"))
    plain["PATH_INFO"] = "/room/lobby"
    assert Called(middleware, plain).body == b"the application"


def test_what_is_no_upgrade_is_an_error_in_a_view(pair):
    made = environ(HTTP_UPGRADE=None, HTTP_SEC_WEBSOCKET_KEY=None)
    with pytest.raises(ws.HandshakeError) as caught:
        wsgi.accept({**made, "werkzeug.socket": pair[1]})
    assert caught.value.status == 426


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"REQUEST_METHOD": "POST"}, 405, b"a WebSocket starts with GET"),
        ({"HTTP_SEC_WEBSOCKET_VERSION": "8"}, 426, b"has to be 13"),
        ({"HTTP_SEC_WEBSOCKET_KEY": "short"}, 400, b"16 bytes in base64"),
        ({"HTTP_SEC_WEBSOCKET_KEY": "a,b"}, 400, b"16 bytes in base64"),
        ({"HTTP_CONNECTION": "keep-alive"}, 400, b"Connection has to name Upgrade"),
        ({"HTTP_ORIGIN": "https://foreign.example"}, 403, b"origin may not connect"),
        ({"HTTP_HOST": "foreign.example"}, 400, b"does not go by the name"),
        ({"HTTP_HOST": None}, 400, b"Host header is missing"),
        ({"HTTP_HOST": ""}, 400, b"Host header is empty"),
        ({"HTTP_X": "a\r\nHost: b"}, 400, b"line end"),
        ({"HTTP_X": "\u20ac"}, 400, b"outside Latin-1"),
        ({"SERVER_PROTOCOL": "HTTP/2"}, 400, b"malformed"),
        ({"SERVER_PROTOCOL": "HTTP/1.0"}, 505, b"HTTP/1.0"),
        ({"RAW_URI": "/a%2f../echo"}, 404, b""),
        ({"CONTENT_LENGTH": "5"}, 400, b"no body"),
    ],
)
def test_a_bad_upgrade_is_refused(pair, changes, status, text):
    middleware = wsgi.Middleware(application, routes_of())
    called = Called(middleware, environ(**{"werkzeug.socket": pair[1], **changes}))
    assert called.status.startswith(f"{status} ")
    assert text in called.body
    assert "Connection" not in called.headers  # which is no application's to say
    pair[1].close()
    assert pair[0].recv(100) == b""  # nothing was written by another way


def test_a_bad_upgrade_in_a_view_is_an_error_with_the_answer(pair):
    with pytest.raises(ws.HandshakeError, match="403 this origin may not connect") as caught:
        made = environ(HTTP_ORIGIN="https://foreign.example", **{"werkzeug.socket": pair[1]})
        wsgi.accept(made)
    assert caught.value.status == 403
    assert caught.value.headers["content-type"] == "text/plain; charset=utf-8"
    assert caught.value.body == b"403 Forbidden: this origin may not connect\n"


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"SERVER_SOFTWARE": "waitress"}, "waitress"),
        ({"passenger.hijack": True}, "Phusion Passenger"),
        ({"SERVER_SOFTWARE": "Phusion_Passenger/6"}, "Phusion Passenger"),
        ({"SERVER_SOFTWARE": None}, "this WSGI server"),
    ],
)
def test_a_server_without_a_socket_is_named(changes, name):
    with pytest.raises(ws.HandshakeError, match=f"501 {name} lets no application have") as caught:
        wsgi.accept(environ(**changes))
    assert caught.value.status == 501
    assert b"run the application under gunicorn" in caught.value.body


def test_the_connection_is_the_views_own(pair):
    """The server's socket stays open, and what the server writes to it reaches nobody."""
    near, far = pair
    with wsgi.accept(environ(**{"werkzeug.socket": far})) as client:
        assert near.recv(1000).startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert client.remote_addr == "192.0.2.1:4000"
        client.send("hello")
        assert near.recv(100) == b"\x81\x05hello"
        near.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
        near.shutdown(socket.SHUT_WR)
        assert client.receive(TIMEOUT) is None
    assert far.fileno() >= 0
    with pytest.raises(BrokenPipeError):
        far.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    assert near.recv(100) == b"\x88\x02\x03\xe8"
    assert near.recv(100) == b""


def test_a_client_that_has_left_is_an_error(pair):
    near, far = pair
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    near.close()
    until(lambda: not is_connected(far))
    with pytest.raises(ws.ConnectError, match="the client left before it was accepted"):
        wsgi.accept(environ(**{"werkzeug.socket": far}))


def is_connected(sock):
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


def test_more_than_max_connections_are_refused(pair):
    near, far = pair
    with wsgi.accept(environ(**{"werkzeug.socket": far})) as client:
        with pytest.raises(ws.HandshakeError, match="503 the server is full") as caught:
            wsgi.accept(environ(**{"werkzeug.socket": far}), max_connections=1)
        assert caught.value.headers["retry-after"] == "5"
        near.close()
        assert client.receive(TIMEOUT) is None


def test_the_path_is_that_behind_the_mount(pair):
    near, far = pair
    seen = []
    middleware = wsgi.Middleware(
        application, routes_of(lambda client: seen.append(client.request), path="/é")
    )
    mounted = environ(SCRIPT_NAME="/app", PATH_INFO="/\xc3\xa9", QUERY_STRING="a=1")
    near.sendall(b"\x88\x82\0\0\0\0\x03\xe8")  # the answer to the close to come
    near.shutdown(socket.SHUT_WR)
    called = Called(middleware, {**mounted, "werkzeug.socket": far})
    assert called.status == "101 Switching Protocols"
    assert (seen[0].path, seen[0].target, seen[0].query) == ("/é", "/app/%C3%A9?a=1", {"a": "1"})


# -- servers ---------------------------------------------------------------------------------


@runs_once
def test_a_full_pool_of_threads_is_a_refusal_and_pages_go_on():
    with (
        adapted("gthread", None, "--threads", "3") as server,
        server.connect("/echo") as one,
        server.connect("/echo") as other,
    ):
        for _ in range(2):
            refused = refusal(server)
            assert (refused.status, refused.headers["retry-after"]) == (503, "5")
            assert server.page().endswith(b"the page")
        one.send("still here")
        assert one.receive(TIMEOUT) == "still here"
        other.close()
        until(lambda: opens(server))


def refusal(server):
    """Why no WebSocket comes about."""
    with pytest.raises(ws.HandshakeError) as caught:
        server.connect("/echo")
    return caught.value


def opens(server):
    try:
        server.connect("/echo").close()
    except ws.HandshakeError:
        return False
    return True


@runs_once
@pytest.mark.parametrize("more", [["--threads", "1"], ["-k", "sync", "--threads", "1"]])
def test_a_worker_of_one_thread_says_what_to_do(more):
    with adapted("gthread", None, *more) as server:
        caught = refusal(server)
        assert caught.status == 503
        assert b"start gunicorn with --threads 8" in caught.body


@runs_once
def test_waitress_is_refused_with_a_reason():
    with adapted("waitress") as server:
        assert b"waitress lets no application have its socket" in refusal(server).body
        assert server.page().endswith(b"the page")


@runs_once
@pytest.mark.parametrize("name", ["wsgiref", "gthread", "pywsgi"])
def test_a_view_accepts(name):
    with adapted(name) as server:
        for _ in range(2):
            with server.connect("/view", headers={"Origin": "https://friend.example"}) as conn:
                conn.send("hello")
                assert conn.receive(TIMEOUT) == "hello"
        with pytest.raises(ws.HandshakeError) as caught:
            server.connect("/view", headers={"Origin": "https://foe.example"})
        assert (caught.value.status, caught.value.body.partition(b":")[0]) == (
            403,
            b"403 Forbidden",
        )


@runs_once
def test_a_preloaded_application_and_max_requests():
    """The worker leaves after its second request: who is connected is told so."""
    with (
        adapted("gthread", None, "--preload", "--max-requests", "2") as server,
        server.connect("/echo") as conn,
    ):
        conn.send("hello")
        assert conn.receive(TIMEOUT) == "hello"
        server.page()
        assert conn.receive(TIMEOUT) is None
        assert conn.close_code == 1001


FLASK = """
from flask import Flask, request
from scriptling_ws import wsgi

app = Flask(__name__)

@app.get("/version", websocket=True)
def version():
    with wsgi.accept(request.environ) as client:
        client.send("VERSION")
        client.receive(None)
    return ""
"""


@runs_once
def test_flask_reloads_in_debug_mode(tmp_path):
    need("flask")
    source, port = tmp_path / "app.py", free_port()
    source.write_text(FLASK.replace("VERSION", "first"))
    command = ["-m", "flask", "--app", source, "run", "--debug", "--port", port]
    with serving_command("flask", command, port, cwd=tmp_path) as server:
        with server.connect("/version") as conn:
            assert conn.receive(TIMEOUT) == "first"
            source.write_text(FLASK.replace("VERSION", "second"))
            assert conn.receive(TIMEOUT) is None
            assert conn.close_code == 1001
        until(lambda: version_of(server) == "second")


def version_of(server):
    try:
        with server.connect("/version") as conn:
            return conn.receive(TIMEOUT)
    except ws.ConnectError:
        return None


# -- a handler's end, and what is rare -----------------------------------------------------


def run(pair, handler, **changes):
    """A middleware's whole run of a handler, whose client closes at once."""
    near, far = pair
    near.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
    near.shutdown(socket.SHUT_WR)
    middleware = wsgi.Middleware(application, routes_of(handler))
    return Called(middleware, environ(**{"werkzeug.socket": far, **changes}))


def test_a_handler_that_fails_is_logged_with_its_traceback(pair, caplog):
    run(pair, lambda client: 1 / 0)
    assert "the handler of '/echo' failed for 192.0.2.1:4000" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_handler_whose_connection_has_closed_has_not_failed(pair, caplog):
    def handler(client):
        assert client.receive(TIMEOUT) is None
        client.send("too late")

    run(pair, handler)
    assert "failed" not in caplog.text


def test_a_handler_whose_other_connection_has_closed_has_failed(pair, caplog):
    def handler(client):
        raise ws.ConnectionClosed(1000)

    near, far = pair
    closing = threading.Timer(0.05, near.close)  # once the server has said close
    closing.start()
    middleware = wsgi.Middleware(application, routes_of(handler))
    Called(middleware, environ(**{"werkzeug.socket": far}))
    closing.join()
    assert "the handler of '/echo' failed" in caplog.text


def test_what_ends_the_servers_thread_goes_on_to_it(pair):
    def handler(client):
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        run(pair, handler)


def test_a_client_that_has_left_is_no_error_of_the_middleware(pair):
    near, far = pair
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    near.close()
    until(lambda: not is_connected(far))
    middleware = wsgi.Middleware(application, routes_of())
    assert Called(middleware, environ(**{"werkzeug.socket": far})).body == b""


@pytest.mark.parametrize(
    ("owner", "name"), [(running, "log_answer"), (Seat, "fill")], ids=["its line", "its seat"]
)
def test_what_fails_once_it_is_open_keeps_nothing(pair, monkeypatch, owner, name):
    def fail(*_):
        raise KeyboardInterrupt

    near, far = pair
    monkeypatch.setattr(owner, name, fail)
    middleware = wsgi.Middleware(application, routes_of(), close_timeout=0.1)
    with pytest.raises(KeyboardInterrupt):
        middleware(environ(**{"werkzeug.socket": far}), lambda *_: None)
    assert near.recv(1000).startswith(b"HTTP/1.1 101 ")
    assert read_all(near) in (b"", b"\x88\x02\x03\xe9")  # the end of the stream
    assert not ending()._seats


def test_a_client_that_does_not_read_the_answer_is_left(pair, monkeypatch):
    def write_all(*_):
        raise TimeoutError("the peer does not read")

    monkeypatch.setattr(door, "write_all", write_all)
    with pytest.raises(ws.ConnectError, match="the client left"):
        wsgi.accept(environ(**{"werkzeug.socket": pair[1]}))
    assert pair[0].recv(100) == b""
    assert not ending()._seats


def test_what_the_server_has_read_already_is_the_connections(pair):
    near, far = pair
    near.sendall(b"head\r\n\x81\x85\0\0\0\0hello\x88\x82\0\0\0\0\x03\xe8")
    near.shutdown(socket.SHUT_WR)
    with far.makefile("rb") as stream:
        assert stream.readline() == b"head\r\n"
        with wsgi.accept(environ(**{"wsgi.input": stream})) as client:
            assert client.receive(TIMEOUT) == "hello"
            assert client.receive(TIMEOUT) is None


@pytest.mark.parametrize(
    ("changes", "address"),
    [
        ({"REMOTE_ADDR": ""}, "unix:"),
        ({"REMOTE_ADDR": "<local>"}, "unix:"),
        ({"REMOTE_ADDR": "::1"}, "[::1]:4000"),
        ({"REMOTE_PORT": None}, "192.0.2.1"),
    ],
)
def test_the_clients_address_is_the_servers_word(pair, changes, address):
    seen = []
    run(pair, lambda client: seen.append(client.remote_addr), **changes)
    assert seen == [address]


@pytest.mark.threads
def test_a_server_of_greenlets_in_a_process_of_threads_is_told_so(pair):
    kind = type("socket", (socket.socket,), {"__module__": "gevent._socket3"})
    with kind(fileno=pair[1].detach()) as sock:
        with pytest.raises(ws.HandshakeError, match="500 this server waits by gevent") as caught:
            wsgi.accept(environ(**{"werkzeug.socket": sock}))
        assert b"choose the engine before the first" in caught.value.body


ENGINE = """
import socket, sys
import scriptling_ws as ws
from gevent import socket as greens
from scriptling_ws import asgi, wsgi
from scriptling_ws._network import waiting
from test_wsgi import application, environ, only_ann, routes_of

way = sys.argv[1]
routes = routes_of(lambda client: client.send("hello"), authorize=lambda request: None)
routes.websocket("/room/{name}", print, subprotocols=lambda offered: None, authorize=only_ann)
hosts = ["localhost"]
middleware = wsgi.Middleware(
    application, routes, allowed_hosts=hosts, origins=["https://friend.example"]
)
asgi.Middleware(application, routes, max_connections=3)


def answer(**changes):
    near, far = greens.socketpair()
    made = environ(**{"werkzeug.socket": far, **changes})
    near.sendall(b"\\x88\\x82\\0\\0\\0\\0\\x03\\xe8")
    near.shutdown(socket.SHUT_WR)
    if way == "middleware":
        list(middleware(made, lambda *_: None))
    else:
        try:
            with wsgi.accept(made, allowed_hosts=hosts, authorize=lambda request: None) as client:
                client.send("hello")
        except ws.HandshakeError as error:
            assert changes, error
    far.close()
    try:
        return near.recv(1000)
    except ConnectionResetError:  # nobody has read the frame
        return b""


for changes in (
    {"HTTP_UPGRADE": "", "HTTP_SEC_WEBSOCKET_KEY": None},
    {"HTTP_X": "a\\r\\nb: c"},
    {"PATH_INFO": "/\\xff"},
    {"RAW_URI": "/a%2f../echo"},
    {"HTTP_SEC_WEBSOCKET_KEY": "short"},
    {"HTTP_HOST": "foreign.example"},
    {"HTTP_ORIGIN": "https://foreign.example"},
    {"PATH_INFO": "/room/one"},
):
    answer(**changes)
    assert waiting._engine is None or waiting._engine.name == "gevent", changes
opened = answer()
assert b"hello" in opened and waiting.engine().name == "gevent", opened
print("open", flush=True)
"""


@pytest.mark.processes
@pytest.mark.parametrize("way", ["middleware", "accept"])
def test_nothing_asks_for_an_engine_before_the_servers_is_chosen(way):
    """In a process of gevent's that nothing has patched: threads would be chosen for good."""
    need("gevent")
    path = os.pathsep.join([str(TESTS / "adapters"), str(TESTS / "support")])
    env = python_environment()
    env = {**env, "PYTHONPATH": os.pathsep.join([path, env["PYTHONPATH"]])}
    for name in ("SCRIPTLING_WS_ENGINE", "PYTHONWARNINGS"):
        env.pop(name, None)
    with Process.python("-c", ENGINE, way, env=env) as process:
        assert process.line() == "open"


def test_a_path_that_is_no_text_leads_nowhere(pair):
    with pytest.raises(ws.HandshakeError, match="404 the path is not UTF-8"):
        wsgi.accept(environ(PATH_INFO="/\xff", **{"werkzeug.socket": pair[1]}))


def test_under_tls_nothing_may_have_been_read(pair):
    class Stream:
        def peek(self, size):
            raise ssl.SSLWantReadError

        def read1(self, size):
            raise AssertionError("not asked for")

    assert take_read({"wsgi.input": Stream()}, pair[1]) == b""
    assert pair[1].gettimeout() is None


# -- what the routes have of the native server's ----------------------------------------------


def only_ann(request):
    if request.headers.get("authorization") != "Bearer ann":
        return HTTP.text(401, "who are you?", {"WWW-Authenticate": "Bearer"})
    request.state.user = "Ann"
    return {"Set-Cookie": "a=1"}


def test_authorize_and_parameters_hold_here_too(pair):
    near, far = pair
    seen = []
    routes = routes_of(lambda c: seen.append((c.user, c.request.params)), path="/room/{name}")
    middleware = wsgi.Middleware(application, routes, authorize=only_ann)
    asked = environ(PATH_INFO="/room/one", **{"werkzeug.socket": far})
    refused = Called(middleware, asked)
    assert (refused.status, refused.body) == ("401 Unauthorized", b"who are you?")
    assert refused.headers["WWW-Authenticate"] == "Bearer"
    near.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
    near.shutdown(socket.SHUT_WR)
    Called(middleware, {**asked, "HTTP_AUTHORIZATION": "Bearer ann"})
    assert seen == [("Ann", {"name": "one"})]
    assert b"\r\nSet-Cookie: a=1\r\n" in near.recv(1000)


def test_authorize_in_a_view(pair):
    with pytest.raises(ws.HandshakeError, match="401") as caught:
        wsgi.accept(environ(**{"werkzeug.socket": pair[1]}), authorize=only_ann)
    assert caught.value.body == b"who are you?"
    assert not ending()._seats
