"""connect() over sockets that are no plain TCP socket of its own: given, Unix, bound, with options.

And what the connection shows of its upgrade.
"""

import contextlib
import errno
import os
import select
import socket
import sys
import threading

import pytest

from looped import looped
from pairs import (
    SOON,
    at_least,
    authority,
    receive_frame,
    receive_head,
    tcp_pair,
    tls_contexts,
    upgrade_answer,
)
from programs import directory, free_port
from scriptling_ws import ConnectError, ConnectTimeout, connect
from scriptling_ws._client.way_arguments import check_way
from scriptling_ws._handshakes.url import parse_url
from scriptling_ws._network.deadline import FOREVER
from scriptling_ws._network.dial import dial_unix
from scriptling_ws._network.race import SocketSettings
from scriptling_ws._network.waiting import engine
from scriptling_ws._options import DEFAULT_HEADS
from servers import echo, serving
from tunnels import listening

OPTIONS = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
HAS_UNIX = hasattr(socket, "AF_UNIX")
unix = pytest.mark.skipif(not HAS_UNIX, reason="there are no Unix sockets here")


@pytest.fixture
def file():
    with directory() as folder:
        yield folder / "ws:1.sock"


@pytest.fixture
def unix_server(file):
    with serving(echo, unix=file) as server:
        yield server


@contextlib.contextmanager
def answered(far, *lines, context=None):
    """A server at the other end of a socket; it notes the request's head."""
    seen = []

    def run():
        end = far
        if context is not None:
            end = context.wrap_socket(far, server_side=True)
        with end:
            end.settimeout(SOON)
            seen.append(receive_head(end))
            end.sendall(upgrade_answer(seen[0], *lines))
            with contextlib.suppress(OSError, AssertionError):
                first, payload = receive_frame(end)
                end.sendall(bytes([first, len(payload)]) + payload)
                end.recv(100)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        thread.join(SOON)
        assert not thread.is_alive()


def echoes(conn):
    conn.send("hello")
    return conn.receive(SOON) == "hello"


# -- a socket that the caller brings -------------------------------------------------


@pytest.mark.parametrize("make", [tcp_pair, socket.socketpair], ids=["tcp", "pair"])
@pytest.mark.parametrize("tls", [False, True], ids=["bare", "tls"])
def test_a_socket_that_is_connected(make, tls):
    near, far = make()
    client, context = tls_contexts() if tls else (None, None)
    url = f"{'wss' if tls else 'ws'}://localhost:1/path?x"
    with answered(far, context=context) as seen:
        with connect(url, SOON, sock=near, ssl_context=client, close_timeout=0) as conn:
            assert conn.fileno() == near.fileno()
            assert echoes(conn)
        assert near.fileno() == -1
    assert seen[0].startswith(b"GET /path?x HTTP/1.1\r\nHost: localhost:1\r\n")


def test_a_socket_in_non_blocking_mode_will_do():
    near, far = tcp_pair()
    near.setblocking(False)
    with answered(far), connect("ws://h/", SOON, sock=near, close_timeout=0) as conn:
        assert echoes(conn)


def test_a_socket_is_closed_if_that_fails():
    near, far = tcp_pair()
    with far, near, pytest.raises(ConnectTimeout):
        connect("ws://h/", 0.05, sock=near)
    assert near.fileno() == -1


def test_a_socket_stays_the_callers_where_the_arguments_are_wrong():
    near, far = tcp_pair()
    with far, near:
        with pytest.raises(ValueError, match="header"):
            connect("ws://h/", sock=near, headers={"a b": "c"})
        far.sendall(b"still")
        assert near.recv(5) == b"still"


def test_a_socket_that_is_not_connected():
    with socket.socket() as sock, pytest.raises(ConnectError) as caught:
        connect("ws://h/", SOON, sock=sock)
    assert isinstance(caught.value.__cause__, OSError)


def test_a_socket_that_is_none():
    client, _ = tls_contexts()
    for wrong in (1, "x", socket.socket, object()):
        with pytest.raises(TypeError, match="sock has to be"):
            connect("ws://h/", sock=wrong)
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(ValueError, match="stream"):
        connect("ws://h/", sock=sock)
    near, far = tcp_pair()
    with (
        far,
        client.wrap_socket(near, do_handshake_on_connect=False, server_hostname="h") as sock,
        pytest.raises(ValueError, match="plain socket"),
    ):
        connect("ws://h/", sock=sock)


@pytest.mark.skipif(not hasattr(socket, "AF_VSOCK"), reason="there is no VSOCK here")
def test_a_socket_of_a_virtual_machine():
    with socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM) as listener:
        near = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
        try:
            listener.bind((1, socket.VMADDR_PORT_ANY))
            listener.listen()
            near.connect(listener.getsockname())
        except OSError as error:
            near.close()
            pytest.skip(f"the kernel has no loopback for VSOCK: {error}")
        far, _ = listener.accept()
        with answered(far), connect("ws://vm/", SOON, sock=near, close_timeout=0) as conn:
            assert conn.remote_addr.startswith("1:")
            assert echoes(conn)


# -- Unix sockets ---------------------------------------------------------------------


@unix
def test_the_url_that_a_server_prints(unix_server):
    with connect(unix_server.url, SOON) as conn:
        assert echoes(conn)
        assert conn.remote_addr.startswith("unix:")
        assert conn.request.headers["host"] == "localhost"
        assert conn.request.target == "/"
    with connect(f"{unix_server.url}:/path?q=1", SOON) as conn:
        assert conn.request.target == "/path?q=1"
        assert conn.request.query == {"q": "1"}


@unix
@pytest.mark.parametrize("convert", [str, os.fspath, lambda path: path])
def test_the_path_beside_a_url(unix_server, file, convert):
    with connect("ws://localhost/chat", SOON, unix=convert(file)) as conn:
        assert echoes(conn)
        assert conn.request.path == "/chat"


@unix
def test_tls_over_a_unix_socket(file):
    client, context = tls_contexts()
    with serving(echo, unix=file, ssl_context=context) as server:
        assert server.url.startswith("wss+unix://")
        with connect(server.url, SOON, ssl_context=client) as conn:
            assert echoes(conn)
        with connect("wss://127.0.0.1/", SOON, unix=file, ssl_context=client) as conn:
            assert echoes(conn)


@unix
def test_nobody_listens_on_a_unix_socket(file):
    with pytest.raises(ConnectError, match=r"unix:.*ws:1\.sock") as caught:
        connect("ws://localhost/", SOON, unix=file)
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    assert caught.value.errno == caught.value.__cause__.errno
    with pytest.raises(ConnectError):
        connect("ws://localhost/", SOON, unix="/x" * 200)


def test_no_descriptor_for_a_unix_socket(monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "AF_UNIX", 1, raising=False)
    monkeypatch.setattr(socket, "socket", refuse)
    with pytest.raises(ConnectError, match=r"unix:/run/app\.sock: Too many open files") as caught:
        connect("ws+unix:///run/app.sock")
    assert caught.value.errno == errno.EMFILE


@unix
def test_a_unix_socket_whose_queue_is_full(file):
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(file))
        listener.listen(0)
        waiting = []
        with pytest.raises(BlockingIOError):
            while True:
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)
                sock.connect(str(file))
                waiting.append(sock)
        with at_least(0.05, 5), pytest.raises(ConnectTimeout, match="queue is full"):
            connect("ws://localhost/", 0.05, unix=file)
        taken = threading.Timer(0.02, lambda: listener.accept()[0].close())
        taken.start()
        dial_unix(str(file), FOREVER).close()
        taken.join()


@unix
def test_an_interrupted_wait_for_a_unix_socket_leaves_none(file, monkeypatch):
    class Stop(BaseException):
        pass

    def stop(_):
        raise Stop

    monkeypatch.setattr(type(engine()), "sleep", staticmethod(stop))
    with socket.socket(socket.AF_UNIX) as listener, contextlib.ExitStack() as stack:
        listener.bind(str(file))
        listener.listen(0)
        with pytest.raises(BlockingIOError):
            while True:
                sock = stack.enter_context(socket.socket(socket.AF_UNIX))
                sock.setblocking(False)
                sock.connect(str(file))
        with pytest.raises(Stop):  # a socket left open would be a warning, which is an error
            connect("ws://localhost/", SOON, unix=file)


def test_no_unix_sockets_anywhere(monkeypatch):
    monkeypatch.delattr(socket, "AF_UNIX", raising=False)
    with pytest.raises(ConnectError, match="no Unix sockets"):
        dial_unix("/x", FOREVER)


@unix
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_forked_child_closes_its_copy(unix_server):
    with connect(unix_server.url, SOON) as conn:
        child = os.fork()
        if child == 0:
            os._exit(0 if conn.fileno() == -1 and not conn.connected() else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert echoes(conn)


# -- from which address, with which options --------------------------------------------


@pytest.mark.parametrize("source", ["127.0.0.2", ("127.0.0.3", 0)])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127/8")
def test_from_an_address(source):
    with (
        serving(echo) as server,
        connect(f"ws://localhost:{server.port}/", SOON, source_address=source) as conn,
    ):
        host = source if isinstance(source, str) else source[0]
        assert conn.local_addr.rpartition(":")[0] == host
        assert echoes(conn)


def test_from_a_port():
    with serving(echo) as server:
        for _ in range(20):  # another program may take the port meanwhile
            port = free_port()
            with contextlib.suppress(ConnectError):
                conn = connect(server.url, SOON, source_address=("", port))
                break
        with conn:
            assert conn.local_addr == f"127.0.0.1:{port}"


def test_from_an_address_that_is_not_here():
    with serving(echo) as server, pytest.raises(ConnectError, match=r"192\.0\.2\.1") as caught:
        connect(server.url, SOON, source_address="192.0.2.1")
    assert caught.value.errno is not None
    with pytest.raises(ConnectError, match="no such address"):
        connect("ws://127.0.0.1:1/", SOON, source_address="::1")


def test_options_are_set_before_the_socket_connects():
    options = [
        (socket.SOL_SOCKET, socket.SO_RCVBUF, 4096),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.SOL_SOCKET, socket.SO_LINGER, bytes(8)),
    ]
    with serving(echo) as server, connect(server.url, SOON, socket_options=options) as conn:
        sock = conn._link.transport._sock
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 20_000
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert echoes(conn)


def test_a_signal_handlers_error_is_not_the_options():
    class Interrupted:
        def setsockopt(self, *_):
            raise TimeoutError("the handler's")

    with pytest.raises(TimeoutError, match="the handler's") as caught:
        SocketSettings(options=tuple(OPTIONS)).set_options(Interrupted())
    assert type(caught.value) is TimeoutError


def test_an_option_that_the_system_refuses():
    with (
        serving(echo) as server,
        pytest.raises(ConnectError, match=r"socket option \(1, 9999, 1\)") as caught,
    ):
        connect(server.url, SOON, socket_options=[(socket.SOL_SOCKET, 9999, 1)])
    assert isinstance(caught.value.__cause__, OSError)


# -- what cannot be, or not together ----------------------------------------------------


@looped(
    ("options", "error", "says"),
    [
        ({"unix": ""}, ValueError, "path"),
        ({"unix": "a\0b"}, ValueError, "path"),
        ({"unix": 1}, TypeError, "path"),
        ({"unix": "/x", "proxy": "http://h"}, ValueError, "unix and proxy"),
        ({"unix": "/x", "proxy": True}, ValueError, "unix and proxy"),
        ({"unix": "/x", "source_address": "127.0.0.1"}, ValueError, "unix and source_address"),
        ({"unix": "/x", "max_redirects": 1}, ValueError, "unix and max_redirects"),
        ({"url": "ws+unix:///x", "unix": "/y"}, ValueError, "unix and a ws"),
        ({"url": "ws+unix:///x", "proxy": "http://h"}, ValueError, "URL and proxy"),
        ({"source_address": 1}, TypeError, "source_address"),
        ({"source_address": ("h",)}, TypeError, "source_address"),
        ({"source_address": ("127.0.0.1", "0")}, TypeError, "source_address"),
        ({"source_address": ("127.0.0.1", True)}, TypeError, "source_address"),
        ({"source_address": ("127.0.0.1", 65_536)}, ValueError, "port"),
        ({"source_address": "localhost"}, ValueError, "address of this machine"),
        ({"source_address": "\ud800"}, ValueError, "address of this machine"),
        ({"socket_options": 1}, TypeError, "triples"),
        ({"socket_options": "abc"}, TypeError, "triples"),
        ({"socket_options": [(1, 2)]}, TypeError, "triples"),
        ({"socket_options": [(1, 2, "3")]}, TypeError, "triples"),
        ({"socket_options": [1]}, TypeError, "triples"),
        ({"server_hostname": "h"}, ValueError, "use wss"),
        ({"url": "wss://h", "server_hostname": 1}, TypeError, "server_hostname"),
        ({"url": "wss://h", "server_hostname": ""}, ValueError, "server_hostname"),
        ({"url": "wss://h", "server_hostname": "a b"}, ValueError, "server_hostname"),
        ({"url": "wss://h", "server_hostname": ".h"}, ValueError, "server_hostname"),
        ({"url": "wss://h", "server_hostname": "a..b"}, ValueError, "server_hostname"),
        ({"url": "wss://h", "server_hostname": "a" * 64}, ValueError, "server_hostname"),
        ({"proxy_ssl_context": tls_contexts()[0]}, ValueError, "no proxy"),
        (
            {"proxy": "http://h", "proxy_ssl_context": tls_contexts()[0]},
            ValueError,
            "no proxy with https",
        ),
        ({"proxy": "https://h", "proxy_ssl_context": tls_contexts()[1]}, ValueError, "a server's"),
        ({"proxy": True, "proxy_ssl_context": 1}, TypeError, "SSLContext"),
    ],
)
def test_bad_arguments(options, error, says):
    with pytest.raises(error, match=says):
        connect(**{"url": "ws://localhost:1/"} | options)


@pytest.mark.parametrize("name", ["Example.com.", "example.com", "::1"])
def test_the_name_for_tls_is_that_of_certificates(name):
    way = check_way(parse_url("wss://h/"), DEFAULT_HEADS, server_hostname=name)
    assert way.server_hostname == name.lower().removesuffix(".")


def test_what_cannot_go_together_with_a_socket():
    near, far = tcp_pair()
    with near, far:
        for other in (
            {"unix": "/x"},
            {"proxy": "http://h"},
            {"source_address": "127.0.0.1"},
            {"socket_options": OPTIONS},
            {"max_redirects": 1},
        ):
            with pytest.raises(ValueError, match=f"sock and {next(iter(other))}"):
                connect("ws://h/", sock=near, **other)
        assert near.fileno() >= 0


# -- names: whom TLS asks for, and whom HTTP ---------------------------------------------


def test_names_that_differ_from_the_address():
    import ssl

    client, _ = tls_contexts()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority().issue_cert("tls.test").configure_cert(context)
    asked, heads = [], []
    context.sni_callback = lambda _, name, __: asked.append(name)

    def script(sock):
        heads.append(receive_head(sock))
        sock.sendall(upgrade_answer(heads[0]))
        receive_frame(sock)

    with listening(script, context=context) as port:
        options = {"ssl_context": client, "headers": {"Host": "http.test"}, "close_timeout": 0}
        url = f"wss://127.0.0.1:{port}/"
        connect(url, SOON, server_hostname="TLS.test", **options).close()
        with pytest.raises(ConnectError, match=r"(?i)mismatch"):
            connect(url, SOON, server_hostname="other.test", **options)
    assert asked == ["tls.test", "other.test"]
    assert b"\r\nHost: http.test\r\n" in heads[0]
    assert heads[0].lower().count(b"\r\nhost:") == 1


# -- what the connection shows ------------------------------------------------------------


def test_the_request_and_the_response():
    near, far = tcp_pair()
    lines = ["Set-Cookie: a=1; Path=/", "X-One:  1 ", "set-cookie: b=2"]
    with answered(far, *lines):
        options = {
            "headers": [("X-A", "1"), ("X-A", "2"), ("Authorization", "Bearer secret")],
            "cookies": {"c": "3"},
        }
        url = "ws://name.test:1/a%20b?x=1&x=2"
        with connect(url, SOON, sock=near, close_timeout=0, **options) as conn:
            request, response = conn.request, conn.response
    assert (request.method, request.path) == ("GET", "/a b")
    assert request.target == "/a%20b?x=1&x=2"
    assert request.query_list("x") == ["1", "2"]
    assert request.headers["host"] == "name.test:1"
    assert request.headers["x-a"] == "1, 2"
    assert request.headers["cookie"] == "c=3"
    assert len(request.headers["sec-websocket-key"]) == 24
    assert request.secure is False
    assert response.status == 101
    assert response.header_list("Set-Cookie") == ["a=1; Path=/", "b=2"]
    assert response.header_list("nothing") == []
    assert response.headers["x-one"] == "1"
    assert response.headers["set-cookie"] == "a=1; Path=/, b=2"
    assert response.fields[-2:] == [("X-One", "1"), ("set-cookie", "b=2")]
    assert conn.request is request
    assert conn.response is response
    assert "secret" not in repr(request)
    assert "a=1" not in repr(response)
    assert repr(response).startswith("Response(status=101, headers={")


def test_a_server_has_no_response():
    seen = []
    with (
        serving(lambda client: seen.append((client.request.path, client.response))) as server,
        connect(f"{server.url}/x", SOON) as conn,
    ):
        assert conn.receive(SOON) is None
    assert seen == [("/x", None)]


def test_select_sees_what_a_pair_of_sockets_brings():
    near, far = socket.socketpair()
    with answered(far), connect("ws://h/", SOON, sock=near, close_timeout=0) as conn:
        conn.send("x")
        assert select.select([conn], [], [], SOON)[0]
        assert conn.receive(0) == "x"
