"""The page for health checks, and the end of a server that load balancers see in time."""

import contextlib
import logging
import os
import signal
import socket
import threading

import pytest

import scriptling_ws as ws
from pairs import Running, at_least, tls_contexts, until
from processes import Process
from scriptling_ws._server import operations as _operations
from scriptling_ws._server import sessions as _sessions
from scriptling_ws._server.routes import Routes
from servers import (
    Answer,
    ask,
    dial,
    echo,
    head,
    raw_websocket,
    read_all,
    routes_of,
    serving,
    status_of,
)

pytestmark = pytest.mark.once("it is about pages")

TIMEOUT = 10


def health_of(server, method="GET", path="/healthz", **options):
    return ask(server, head(path, method=method, **options))


# -- the page ------------------------------------------------------------------


def test_it_says_that_the_server_serves():
    with serving(routes=routes_of(), health=True) as server:
        answer = health_of(server)
        assert (answer.status, answer.body) == (200, b"serving\n")
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        for method in ("HEAD", "OPTIONS"):
            assert health_of(server, method).status == 200
        assert health_of(server, "HEAD").body == b""
        assert ask(server, head("/healthz", version="HTTP/1.0", host=None)).status == 200


@pytest.mark.parametrize("health", [None, False])
def test_it_is_there_only_when_asked_for(health):
    with serving(routes=routes_of(), health=health) as server:
        assert health_of(server).status == 404


def test_its_path_can_be_another_one():
    with serving(echo, health="/up") as server:
        assert health_of(server, path="/up").status == 200
        assert health_of(server).status == 426  # the handler's, which is for any path


def test_other_methods_and_upgrades():
    with serving(routes=routes_of(), health=True) as server:
        answer = health_of(server, "POST")
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
        with pytest.raises(ws.HandshakeError) as caught:
            ws.connect(f"{server.url}/healthz")
        assert caught.value.status == 404
    with serving(echo, health=True) as server, ws.connect(f"{server.url}/healthz") as conn:
        conn.send("x")  # a WebSocket at the same path is the handler's
        assert conn.receive(TIMEOUT) == "x"


def test_any_name_may_ask():
    """Balancers ask by an address. No other page is open for that."""
    with serving(routes=routes_of(), health=True, allowed_hosts=["example.com"]) as server:
        for host in ("10.0.0.1:8080", "evil.example", "", None):
            version = "HTTP/1.1" if host else "HTTP/1.0"
            assert health_of(server, host=host, version=version).status == 200
        assert status_of(server, head("/page", host="10.0.0.1:8080")) == 400


def test_under_tls(tmp_path):
    for_client, for_server = tls_contexts()
    with (
        serving(echo, health=True, ssl_context=for_server) as server,
        dial(server) as bare,
        for_client.wrap_socket(bare, server_hostname="localhost") as sock,
    ):
        sock.sendall(head("/healthz"))
        assert Answer(read_all(sock)).status == 200


def test_a_server_that_is_full_is_not_gone():
    asked, go_on = threading.Event(), threading.Event()

    def page(request):
        asked.set()
        assert go_on.wait(TIMEOUT)
        return "page"

    options = {"max_requests": 1, "max_connections_per_address": 1}
    with (
        serving(routes=routes_of(page=page), health=True, **options) as server,
        dial(server) as busy,
    ):
        busy.sendall(head("/page"))
        assert asked.wait(TIMEOUT)
        assert status_of(server, head("/page")) == 503
        assert health_of(server).status == 200
        go_on.set()
        assert Answer(read_all(busy)).body == b"page"


def test_it_needs_no_thread(monkeypatch):
    def no_thread(body, name):
        raise RuntimeError("can't start new thread")

    with serving(routes=routes_of(), health=True) as server:
        monkeypatch.setattr(_sessions, "start_thread", no_thread)
        assert status_of(server, head("/page")) == 503
        assert health_of(server).status == 200


def test_a_body_in_the_request_does_not_matter():
    with serving(routes=routes_of(), health=True) as server:
        request = head("/healthz", "Content-Length: 5") + b"12345"
        assert ask(server, request).status == 200


def test_checks_are_in_the_log_on_its_debug_level_alone(log):
    with serving(routes=routes_of(), health=True) as server:
        assert health_of(server).status == 200
        log.wait_for("has checked the server's health: 200")
        assert status_of(server, head("/page")) == 200
        log.wait_for("/page")
        assert not [text for text in log.texts(logging.INFO) if "health" in text]


# -- where it can be ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"health": "healthz"}, ValueError, "has to start with '/'"),
        ({"health": "/{name}"}, ValueError, "there are no parameters here"),
        ({"health": 1}, TypeError, "health has to be a path, True or None, not int"),
        ({"metrics": b"/m"}, TypeError, "metrics has to be a path, True or None, not bytes"),
        ({"health": "/x", "metrics": "/x"}, ValueError, "both at '/x'"),
        ({"health": "/page"}, ValueError, "'/page' already has a page: give another one, health="),
        ({"drain_timeout": -1}, ValueError, "drain_timeout has to be 0 or more"),
        ({"drain_timeout": "1"}, TypeError, "drain_timeout has to be a number of seconds"),
        ({"drain_timeout": None}, ValueError, "drain_timeout has to be a number of seconds"),
        ({"drain_timeout": float("inf")}, ValueError, "drain_timeout has to be a number"),
    ],
)
def test_what_is_no_path_and_no_time(options, error, says):
    with pytest.raises(error, match=says):
        serving(routes=routes_of(), **options)


def test_beside_a_folder_and_a_websocket(tmp_path):
    (tmp_path / "healthz").write_text("a file")
    routes = Routes()
    routes.static("/", tmp_path)
    routes.websocket("/healthz", echo)
    with serving(routes=routes, health=True) as server:
        assert health_of(server).body == b"serving\n"
        with ws.connect(f"{server.url}/healthz") as conn:
            conn.send("x")
            assert conn.receive(TIMEOUT) == "x"


# -- the end ---------------------------------------------------------------------


class Drain:
    """Stands in for the engine of a server that drains: the time passes when the test says so.

    Attributes:
        asked: For how many seconds it was to sleep.
        begun: Set as it sleeps.
        over: What it sleeps for, in place of the time.
    """

    def __init__(self, monkeypatch):
        self.asked = []
        self.begun, self.over = threading.Event(), threading.Event()
        self.error = None
        monkeypatch.setattr(_operations, "engine", lambda: self)

    def sleep(self, seconds):
        self.asked.append(seconds)
        self.begun.set()
        if self.error is not None:
            raise self.error
        assert self.over.wait(TIMEOUT)

    def watch(self, tell):
        """As of threads: no task holds up another one."""


def test_while_it_drains_it_serves_and_says_503(monkeypatch):
    drain = Drain(monkeypatch)
    server = serving(routes=routes_of(), health=True, drain_timeout=7)
    with raw_websocket(server, "/ws") as old:
        closing = Running(server.close)
        assert drain.begun.wait(TIMEOUT)
        for method in ("GET", "HEAD", "OPTIONS"):
            assert health_of(server, method).status == 503
        assert health_of(server).body == b"closing\n"
        assert status_of(server, head("/page")) == 200
        with ws.connect(f"{server.url}/ws") as new:
            new.send("x")
            assert new.receive(TIMEOUT) == "x"
        old.send(1, b"y")
        assert old.receive() == (1, b"y")
        assert not closing.done()
        drain.over.set()
        assert old.close_code() == 1001
        old.leave(1001)
    closing.result()
    assert drain.asked == [7]
    with pytest.raises(ConnectionRefusedError):
        dial(server)


def test_without_a_drain_it_closes_at_once(monkeypatch):
    drain = Drain(monkeypatch)
    server = serving(echo, health=True)
    server.close()
    assert drain.asked == []


def test_a_drain_without_a_page(monkeypatch):
    drain = Drain(monkeypatch)
    drain.over.set()
    serving(echo, drain_timeout=3).close()
    assert drain.asked == [3]


def test_a_drain_takes_its_time():
    server = serving(echo, drain_timeout=0.2)
    with at_least(0.2):
        server.close()


def test_a_drain_that_is_cut_short_is_not_begun_anew(monkeypatch):
    drain = Drain(monkeypatch)
    drain.error = KeyboardInterrupt()
    server = serving(routes=routes_of(), health=True, drain_timeout=7)
    with pytest.raises(KeyboardInterrupt):
        server.close()
    assert health_of(server).status == 503
    server.close()
    assert drain.asked == [7]
    with pytest.raises(ConnectionRefusedError):
        dial(server)


SERVED = """
import scriptling_ws as ws

def echo(client):
    for message in client:
        client.send(message)

tell = lambda server: print(server.port, flush=True)
ws.serve(echo, port=0, ready=tell, health=True, drain_timeout=60)
"""


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals to send")
def test_sigterm_drains_and_a_second_one_ends_it():
    with Process.python("-c", SERVED) as process:
        port = int(process.line())

        def status():
            with socket.create_connection(("127.0.0.1", port), TIMEOUT) as sock:
                sock.sendall(head("/healthz"))
                return Answer(read_all(sock)).status

        with contextlib.closing(ws.connect(f"ws://127.0.0.1:{port}/")) as conn:
            assert status() == 200
            process.send_signal(signal.SIGTERM)
            until(lambda: status() == 503)
            conn.send("still here")
            assert conn.receive(TIMEOUT) == "still here"
            process.send_signal(signal.SIGTERM)
            process.finish()
