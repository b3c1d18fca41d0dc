"""What the pages on moving in say that behaves otherwise: seen in the other library, and here."""

import contextlib
import socket
import threading
from queue import SimpleQueue

import pytest

import adapting
import scriptling_ws as ws
from adapting import serving_command
from moving import BOTH, need
from programs import free_port
from servers import read_until, serving, upgrade

pytestmark = pytest.mark.once("it is about other libraries; what the codec does, other tests show")

TIMEOUT = 20


@contextlib.contextmanager
def seeing():
    """A server, and what it has seen: the request's headers, then each message."""
    seen = SimpleQueue()

    def handler(client):
        seen.put(client.request.headers)
        for message in client:
            seen.put(message)

    with serving(handler, binary_type=bytes) as server:
        yield f"{server.url}/", lambda: seen.get(timeout=TIMEOUT)


@contextlib.contextmanager
def closing(code, *messages):
    """A server that sends some messages and closes with a code."""

    def handler(client):
        client.receive(TIMEOUT)
        for message in messages:
            client.send(message)
        client.close(code, "enough")

    with serving(handler, port=0) as server:
        yield f"{server.url}/"


@pytest.fixture
def proxy_named(monkeypatch):
    """The environment names a proxy that refuses; what has been asked of it."""
    asked = SimpleQueue()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            sock, _ = listener.accept()
            with sock:
                asked.put(sock.recv(1000))
                sock.sendall(b"HTTP/1.1 503 No\r\n\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        for name in ("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.getsockname()[1]}")
        yield asked
        with contextlib.suppress(OSError):  # if nobody has asked
            socket.create_connection(listener.getsockname()).close()
        thread.join(TIMEOUT)


# -- websocket-client ------------------------------------------------------------


def test_websocket_client_waits_for_ever_and_tells_the_end_twice():
    need("websocket-client")
    import websocket

    with closing(4000, "") as url:
        conn = websocket.create_connection(url)
        assert conn.gettimeout() is None
        conn.send("go")
        assert conn.recv() == ""  # the message
        assert conn.connected is True
        assert conn.recv() == ""  # the close
        assert conn.connected is False
        with pytest.raises(websocket.WebSocketConnectionClosedException):
            conn.recv()
    with closing(4000, "") as url, ws.connect(url) as conn:
        conn.send("go")
        assert conn.recv() == ""
        with pytest.raises(ws.ConnectionClosed) as caught:
            conn.recv()
        assert conn.connected() is False
        assert (caught.value.code, caught.value.reason) == (4000, "enough")


def test_websocket_client_sends_bytes_as_text_and_an_origin():
    need("websocket-client")
    import websocket

    with seeing() as (url, seen):
        conn = websocket.create_connection(url)
        assert seen()["origin"] == url.replace("ws:", "http:").rstrip("/")
        conn.send(b"text")
        assert seen() == "text"
        conn.close()
        with ws.connect(url) as conn:
            assert "origin" not in seen()
            with pytest.raises(TypeError, match="send_binary"):
                conn.send(b"text")


@pytest.mark.parametrize("library", ["websocket-client", "websockets"])
def test_the_environments_proxy_is_used_there(library, proxy_named):
    need(library)
    if library == "websocket-client":
        from websocket import create_connection as connect
    else:
        from websockets.sync.client import connect
    with pytest.raises(Exception, match="503"):
        connect("ws://there.invalid:8080/").__enter__()
    assert proxy_named.get(timeout=TIMEOUT).startswith(b"CONNECT there.invalid:8080 ")


def test_the_environments_proxy_is_not_used_here_unasked(proxy_named):
    with pytest.raises(ws.ConnectError) as caught:
        ws.connect("ws://there.invalid:8080/")
    assert not isinstance(caught.value, ws.ProxyError)
    assert proxy_named.empty()
    with pytest.raises(ws.ProxyError, match="503"):
        ws.connect("ws://there.invalid:8080/", proxy=True)


# -- websockets ------------------------------------------------------------------


def test_websockets_ends_a_loop_by_an_exception():
    need("websockets")
    from websockets.exceptions import ConnectionClosedError
    from websockets.sync.client import connect

    heard = []
    with closing(4000, "one") as url, connect(url, proxy=None) as websocket:
        websocket.send("go")
        with pytest.raises(ConnectionClosedError):
            heard.extend(websocket)
    with closing(4000, "one") as url, ws.connect(url) as conn:
        conn.send("go")
        assert list(conn) == ["one"]
        assert conn.close_code == 4000


def test_websockets_compresses_pings_without_waiting_and_starts_threads():
    need("websockets")
    from websockets.sync.client import connect

    with seeing() as (url, seen):
        with connect(url, proxy=None) as websocket:
            assert "permessage-deflate" in seen()["sec-websocket-extensions"]
            assert websocket.ping().wait(TIMEOUT)
            assert websocket.recv_events_thread.is_alive()
            assert websocket.keepalive_thread.is_alive()
        with ws.connect(url) as conn:  # the threads, test_threads has
            assert "sec-websocket-extensions" not in seen()
            assert conn.ping(TIMEOUT) > 0


def test_websockets_has_a_state():
    need("websockets")
    from websockets.protocol import State
    from websockets.sync.client import connect

    with closing(4000, "") as url, connect(url, proxy=None) as websocket:
        assert websocket.state is State.OPEN
        websocket.send("go")
        websocket.recv_events_thread.join(TIMEOUT)
        assert websocket.state is not State.OPEN


def test_websockets_has_a_limit_of_1_mib():
    need("websockets")
    from websockets.exceptions import ConnectionClosedError
    from websockets.sync.client import connect

    large = "x" * (2 * 1024 * 1024)
    with closing(1000, large) as url, connect(url, proxy=None) as websocket:
        websocket.send("go")
        with pytest.raises(ConnectionClosedError, match="1009"):
            websocket.recv()
    with closing(1000, large) as url, ws.connect(url) as conn:
        conn.send("go")
        assert conn.recv() == large


# -- simple-websocket --------------------------------------------------------------


def test_simple_websocket_sends_a_bytearray_as_its_repr():
    need("simple-websocket")
    import simple_websocket

    with seeing() as (url, seen):
        conn = simple_websocket.Client(url)
        assert seen()
        conn.send(bytearray(b"ab"))
        assert seen() == "bytearray(b'ab')"
        conn.close()
        with pytest.raises(simple_websocket.ConnectionClosed):
            conn.close()
        conn.thread.join(TIMEOUT)
        with ws.connect(url) as conn:
            assert seen()
            conn.send_binary(bytearray(b"ab"))
            assert seen() == b"ab"
            conn.close()
            conn.close()


# -- gevent-websocket ---------------------------------------------------------------

PROGRAM = """
from gevent import monkey

monkey.patch_all()

import gevent
from gevent.pywsgi import WSGIServer

{imports}


def heard(client):
    while True:
        try:
            with gevent.Timeout(0.1):
                return repr(client.{receive}())
        except gevent.Timeout:
            print("timeout", flush=True)


def application(environ, start_response):
    client = {accept}
    print(heard(client), flush=True)
    return []


WSGIServer(("127.0.0.1", {port}), application, log=None{handler}).serve_forever()
"""


@BOTH
def test_a_timeout_of_gevent_inside_a_frame(tmp_path, whose):
    need("gevent-websocket")
    adapting.need("gevent")
    port = free_port()
    parts = {
        "theirs": {
            "imports": "from geventwebsocket.handler import WebSocketHandler",
            "accept": 'environ["wsgi.websocket"]',
            "handler": ", handler_class=WebSocketHandler",
            "receive": "receive",
        },
        "ours": {
            "imports": "from scriptling_ws import wsgi",
            "accept": "wsgi.accept(environ)",
            "handler": "",
            "receive": "recv",
        },
    }[whose]
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.format(port=port, **parts), encoding="utf-8")
    whole = b"\x81\x85\0\0\0\0hello"  # so masked, its second half is no header of a frame
    with (
        serving_command(file.name, [file], port) as server,
        socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock,
    ):
        sock.sendall(upgrade())
        read_until(sock, b"\r\n\r\n")
        sock.sendall(whole[:8])
        for _ in range(2):  # the second began with the first part there
            server.process.line_with("timeout")
        sock.sendall(whole[8:])
        while (heard := server.process.line()) == "timeout":
            pass
    assert heard == ("'hello'" if whose == "ours" else "None")
