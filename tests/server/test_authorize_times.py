"""A slow `authorize`: it delays nobody else, and has a deadline; ends of either side meanwhile."""

import logging
import sys
import threading
import time

import pytest

import scriptling_ws as ws
from frames import frame
from pairs import Running, tls_contexts, until
from scriptling_ws import runtime
from scriptling_ws._network.waiting import engine
from scriptling_ws._server import sessions as _sessions
from scriptling_ws._server.routes import Routes
from servers import (
    TIMEOUT,
    Answer,
    ask,
    dial,
    echo,
    head,
    raw_websocket,
    read_all,
    read_until,
    routes_of,
    serving,
    status_of,
    upgrade,
)

pytestmark = pytest.mark.once("it is about what is admitted")


class Slow:
    """An authorize function that decides when the test says so."""

    def __init__(self, result=None):
        self.result = result
        self.asked = 0
        self.go = threading.Event()
        self.on = set()

    def __call__(self, request):
        self.asked += 1
        self.on.add(engine().identity())
        assert self.go.wait(TIMEOUT)
        return self.result


@pytest.fixture
def slow():
    function = Slow()
    yield function
    function.go.set()


def slow_routes(slow, handler=echo):
    """Sockets and pages, /slow/... with the function and the others without."""
    routes = routes_of(handler)
    routes.websocket("/slow/ws", handler, authorize=slow)
    routes.get("/slow/page", lambda request: "slow", authorize=slow)
    return routes


# -- others ------------------------------------------------------------------------


def test_a_slow_decision_delays_no_other_connection(slow):
    with serving(routes=slow_routes(slow)) as server:
        pending = [dial(server) for _ in range(20)]
        for number, sock in enumerate(pending):
            sock.sendall(upgrade("/slow/ws") if number % 2 else head("/slow/page"))
        until(lambda: slow.asked == 20)
        for _ in range(3):
            with ws.connect(f"{server.url}/ws", TIMEOUT) as conn:
                conn.send("meanwhile")
                assert conn.receive(TIMEOUT) == "meanwhile"
            assert status_of(server, head("/page")) == 200
        until(lambda: server.connections == [])
        slow.go.set()
        for number, sock in enumerate(pending):
            with sock:
                if number % 2:
                    assert sock.recv(12) == b"HTTP/1.1 101"
                else:
                    assert Answer(read_all(sock)).body == b"slow"
        assert len(slow.on) > 1


def test_the_handler_runs_where_it_was_decided():
    """So that what belongs to a thread, such as a connection to a database, is still at hand."""
    where = []

    def authorize(request):
        where.append(engine().identity())

    def handler(client):
        where.append(engine().identity())

    with (
        serving(handler, authorize=authorize) as server,
        raw_websocket(server) as client,
    ):
        assert client.close_code() == 1000
    assert len({*where}) == 1


@pytest.mark.parametrize("authorize", [None, lambda request: None])
def test_no_more_threads_are_started_for_it(monkeypatch, authorize):
    started = []
    start = _sessions.start_thread

    def count(body, name):
        started.append(name)
        return start(body, name)

    monkeypatch.setattr(_sessions, "start_thread", count)
    with serving(routes=routes_of(), authorize=authorize) as server:
        with ws.connect(f"{server.url}/ws", TIMEOUT):
            pass
        assert status_of(server, head("/page")) == 200
    assert 1 <= len(started) <= 2  # the second may have the first one's


def test_without_it_nothing_is_under_way(monkeypatch):
    """A connection without authorize is not counted, looked for, or waited for anywhere."""

    def fail(*_):
        raise AssertionError

    with serving(routes=routes_of()) as server:
        monkeypatch.setattr(server._acceptor._decisions, "start", fail)
        monkeypatch.setattr(server._acceptor._decisions, "take", fail)
        with ws.connect(f"{server.url}/ws", TIMEOUT):
            pass
        assert status_of(server, head("/page")) == 200


# -- the deadline --------------------------------------------------------------------


@pytest.mark.parametrize("make", [upgrade, head], ids=["upgrade", "page"])
def test_who_takes_too_long_is_answered_with_503(slow, make, log):
    path = "/slow/ws" if make is upgrade else "/slow/page"
    called = []
    routes = slow_routes(slow, called.append)
    with serving(routes=routes, handshake_timeout=0.2) as server:
        start = time.monotonic()
        answer = ask(server, make(path))
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert 0.2 <= time.monotonic() - start < 5
        log.wait_for(f"GET '{path}' 503: deciding about this request took too long")
        slow.go.set()
        until(lambda: not server._sessions.running)
        with raw_websocket(server, "/ws"):
            pass
    assert len(called) == 1  # which was that of the other path


def test_those_that_are_left_behind_are_counted(slow):
    """Each has a thread, which nothing can end: so they take the places of connections."""
    with serving(routes=slow_routes(slow), handshake_timeout=0.1, max_connections=2) as server:
        for _ in range(2):
            assert ask(server, upgrade("/slow/ws")).body.startswith(
                b"503 Service Unavailable: deciding"
            )
        assert b"full" in ask(server, upgrade("/ws")).body
        slow.go.set()
        until(lambda: not server._sessions.running)
        for _ in range(2):
            with raw_websocket(server, "/ws"):
                pass


def test_pages_that_are_left_behind_are_counted(slow):
    with serving(routes=slow_routes(slow), handshake_timeout=0.1, max_requests=1) as server:
        assert b"too long" in ask(server, head("/slow/page")).body
        assert b"full" in ask(server, head("/page")).body
        slow.go.set()
        until(lambda: not server._sessions.running)
        assert status_of(server, head("/page")) == 200


class Overtaken:
    """A deadline that has passed; as it is looked at, the program decides."""

    looked = False

    def __init__(self, slow, decisions):
        self._slow = slow
        self._decisions = decisions

    def left(self):
        return 0.0

    def passed(self):
        self.looked = True
        self._slow.go.set()
        until(lambda: not self._decisions._open)
        return True


def test_a_decision_that_comes_as_its_time_ends_counts(slow):
    with serving(routes=slow_routes(slow)) as server, dial(server) as sock:
        sock.sendall(upgrade("/slow/ws"))
        until(lambda: slow.asked)
        decisions = server._acceptor._decisions
        (decision,) = decisions._open
        decision.deadline = Overtaken(slow, decisions)
        assert status_of(server, head("/page")) == 200  # the acceptor looks up
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        assert decision.deadline.looked
        sock.sendall(frame(1, b"x", mask=True) + frame(8, b"", mask=True))
        assert read_all(sock) == b"\x81\x01x\x88\x00"


def test_no_limit_of_time(slow):
    with serving(routes=slow_routes(slow), handshake_timeout=None) as server, dial(server) as sock:
        sock.sendall(upgrade("/slow/ws"))
        until(lambda: slow.asked)
        assert server._acceptor._decisions.deadline.left() is None
        slow.go.set()
        assert sock.recv(12) == b"HTTP/1.1 101"
        assert server._acceptor._decisions.deadline is None


def test_a_subprotocol_that_takes_too_long(slow):
    with serving(echo, subprotocols=slow, handshake_timeout=0.1) as server:
        assert status_of(server, upgrade("/", "Sec-WebSocket-Protocol: a")) == 503
        slow.go.set()


def test_a_late_decision_is_dropped(slow):
    slow.result = runtime.http.text(403, "x" * 1000)
    with serving(routes=slow_routes(slow), handshake_timeout=0.1, metrics=True) as server:
        assert status_of(server, upgrade("/slow/ws")) == 503
        slow.go.set()
        until(lambda: not server._sessions.running)
        text = ask(server, head("/metrics")).body.decode()
        assert 'refused_total{reason="timeout",status="503"} 1.0' in text
        assert 'status="403"' not in text


# -- ends meanwhile --------------------------------------------------------------------


def test_no_handler_is_called_for_a_client_that_has_left(slow, log):
    called = []
    with serving(called.append, authorize=slow, max_connections=1) as server:
        for leave in (lambda sock: sock.close(), lambda sock: sock.shutdown(1)):
            slow.go.clear()
            asked = slow.asked
            with dial(server) as sock:
                sock.sendall(upgrade("/"))
                until(lambda asked=asked: slow.asked > asked)
                leave(sock)
                slow.go.set()
                until(lambda: not server._sessions.running)
            log.wait_for("left before authorize had decided")
    assert called == []


@pytest.mark.parametrize("leaves", [False, True])
def test_the_same_under_tls(slow, leaves, log):
    client_side, server_side = tls_contexts()
    called = []
    options = {"ssl_context": server_side, "authorize": slow}
    with serving(called.append, **options) as server, dial(server) as plain:
        sock = client_side.wrap_socket(plain, server_hostname="localhost")
        sock.sendall(upgrade("/"))
        until(lambda: slow.asked)
        if leaves:
            sock.close()
        slow.go.set()
        if leaves:
            log.wait_for("left before authorize had decided")
        else:
            assert sock.recv(12) == b"HTTP/1.1 101"
            until(lambda: called)
            sock.close()
    assert len(called) == (not leaves)


def test_what_a_client_sends_early_under_tls(slow):
    """It is looked at whether the client has left, and nothing of it is lost by that."""
    client_side, server_side = tls_contexts()
    options = {"ssl_context": server_side, "authorize": slow}
    with (
        serving(echo, **options) as server,
        dial(server) as plain,
        client_side.wrap_socket(plain, server_hostname="localhost") as sock,
    ):
        sock.sendall(upgrade("/"))
        until(lambda: slow.asked)
        sock.sendall(frame(1, b"early", mask=True))
        slow.go.set()
        assert read_until(sock, b"\x81\x05early").startswith(b"HTTP/1.1 101 ")
        sock.sendall(frame(8, b"", mask=True))
        assert sock.recv(2) == b"\x88\x00"


def test_a_server_that_closes_refuses_upgrades_at_once(slow, log):
    server = serving(routes=slow_routes(slow), shutdown_timeout=5)
    with dial(server) as sock:
        sock.sendall(upgrade("/slow/ws"))
        until(lambda: slow.asked)
        closing = Running(server.close)
        answer = Answer(read_all(sock))
        assert (answer.status, answer.headers["retry-after"]) == (503, "5")
        assert b"the server is shutting down" in answer.body
        slow.go.set()
        closing.result()


class Deciding(logging.Handler):
    """A handler of the log that, as it is told of a refusal, waits until all else is decided."""

    def __init__(self, slow, decisions):
        super().__init__(logging.INFO)
        self._slow = slow
        self._decisions = decisions

    def emit(self, record):
        if "the server is shutting down" in record.getMessage():
            self._slow.go.set()
            until(lambda: not self._decisions._open)


def test_a_decision_that_comes_as_another_one_is_refused_counts(slow, log):
    server = serving(routes=slow_routes(slow), shutdown_timeout=5)
    handler = Deciding(slow, server._acceptor._decisions)
    logger = logging.getLogger("scriptling_ws.access")
    with dial(server) as first, dial(server) as second:
        for count, sock in enumerate((first, second), 1):
            sock.sendall(upgrade("/slow/ws"))
            until(lambda count=count: slow.asked == count)
        logger.addHandler(handler)
        try:
            closing = Running(server.close)
            assert Answer(read_all(first)).status == 503
            assert read_until(second, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
            second.sendall(frame(8, b"", mask=True))
            second.close()
            closing.result()
        finally:
            logger.removeHandler(handler)
    assert len([text for text in log.texts() if "503: the server is shutting down" in text]) == 1


def test_a_server_that_closes_lets_pages_end(slow):
    server = serving(routes=slow_routes(slow), shutdown_timeout=5)
    with dial(server) as sock:
        sock.sendall(head("/slow/page"))
        until(lambda: slow.asked)
        closing = Running(server.close)
        until(lambda: server._acceptor._left.is_set())
        slow.go.set()
        assert Answer(read_all(sock)).body == b"slow"
        closing.result()


def test_a_server_leaves_behind_what_does_not_end(slow, monkeypatch, log):
    monkeypatch.setattr(_sessions, "_LEAVE", 0.1)
    server = serving(routes=slow_routes(slow), shutdown_timeout=0.1)
    with dial(server) as sock, dial(server) as page:
        sock.sendall(upgrade("/slow/ws"))
        page.sendall(head("/slow/page"))
        until(lambda: slow.asked == 2)
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < 5
        assert read_all(page) == b""
        log.wait_for("goes on after the shutdown")
        slow.go.set()


def test_no_thread_left(monkeypatch):
    def refuse(body, name):
        raise RuntimeError("can't start new thread")

    with serving(echo, authorize=lambda request: None) as server:
        with monkeypatch.context() as patch:
            patch.setattr(_sessions, "start_thread", refuse)
            assert b"no thread left" in ask(server, upgrade("/")).body
        assert server._acceptor._decisions.deadline is None
        with raw_websocket(server):
            pass


def test_a_refusal_that_fails_ends_nothing_else(slow, monkeypatch, log):
    def fail(*_):
        raise ZeroDivisionError

    with serving(routes=slow_routes(slow), handshake_timeout=0.1) as server:
        with monkeypatch.context() as patch:
            patch.setattr(server._sessions.figures, "refused", fail, raising=False)
            with dial(server) as sock:
                sock.sendall(upgrade("/slow/ws"))
                assert read_all(sock) == b""
            log.wait_for("the refusal of")
        with raw_websocket(server, "/ws"):
            pass
        slow.go.set()


class FailingLog(logging.Handler):
    """A handler of the log that raises, as those of the standard library do not."""

    def __init__(self, text):
        super().__init__()
        self.text = text

    def emit(self, record):
        if record.getMessage().startswith(self.text):
            raise SystemExit


@pytest.fixture
def failing_log(monkeypatch):
    """The log fails as it is told that a decision has failed, and what raises in a thread."""
    raised = []
    monkeypatch.setattr(threading, "excepthook", lambda caught: raised.append(caught.exc_type))
    logger, handler = logging.getLogger("scriptling_ws.server"), FailingLog("deciding about")
    logger.addHandler(handler)
    yield raised
    logger.removeHandler(handler)


@pytest.mark.parametrize("make", [upgrade, head], ids=["upgrade", "page"])
def test_where_the_log_fails_too_nothing_is_kept(failing_log, make):
    routes = routes_of()
    path = "/ws" if make is upgrade else "/page"
    options = {"authorize": lambda request: 1 / 0, "handshake_timeout": None}
    with serving(routes=routes, **options) as server:
        with dial(server) as sock:
            sock.sendall(make(path))
            assert read_all(sock) == b""
        until(lambda: not server._sessions.running)
        assert server._acceptor._decisions.deadline is None


def test_where_the_log_fails_late_the_connection_is_left_alone(slow, failing_log, monkeypatch):
    """It is the acceptor's by then, and no thread's to close."""
    slow.result = True  # which is nothing that it may return
    ended = []
    monkeypatch.setattr(_sessions.Session, "end", lambda session: ended.append(session))
    with serving(routes=slow_routes(slow), handshake_timeout=0.1) as server:
        assert status_of(server, upgrade("/slow/ws")) == 503
        slow.go.set()
        until(lambda: not server._sessions.running)
    assert ended == []


@pytest.mark.threads
@pytest.mark.skipif(sys.platform == "win32", reason="no fork here")
def test_a_forked_child_has_none_under_way(slow):
    from children import in_child

    with serving(routes=slow_routes(slow)) as server, dial(server) as sock:
        sock.sendall(upgrade("/slow/ws"))
        until(lambda: slow.asked)
        decisions = server._acceptor._decisions
        with decisions._lock:
            assert in_child(lambda: decisions.deadline is None) is True
        slow.go.set()
        assert sock.recv(12) == b"HTTP/1.1 101"


def test_many_decide_at_once():
    routes = Routes()
    count = []
    lock = threading.Lock()

    def authorize(request):
        with lock:
            count.append(request.query["n"])
        return None if int(request.query["n"]) % 2 else runtime.http.text(403, "even")

    routes.websocket("/", lambda client: client.send("in"), authorize=authorize)
    with serving(routes=routes) as server:

        def one(number):
            try:
                with ws.connect(f"{server.url}/?n={number}", TIMEOUT) as conn:
                    return conn.receive(TIMEOUT)
            except ws.HandshakeError as error:
                return error.status

        running = [Running(one, number) for number in range(30)]
        results = [each.result() for each in running]
    assert results == [("in" if number % 2 else 403) for number in range(30)]
    assert len(count) == 30
