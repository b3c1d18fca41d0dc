"""A server's sessions: what goes wrong before, around and after a handler."""

import contextlib
import logging
import threading
import time

import pytest

from memory import counts_references
from pairs import until
from scriptling_ws._handshakes.head import Refused
from scriptling_ws._network.addresses import address_text
from scriptling_ws._network.deadline import Deadline
from scriptling_ws._server import admitted as _admitted
from scriptling_ws._server import handler_threads as _handler_threads
from scriptling_ws._server import sessions as _sessions
from scriptling_ws._server.access import AccessLog
from scriptling_ws._server.routes import Routes
from scriptling_ws._server.sessions import Sessions
from servers import (
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


def test_a_peer_that_leaves_before_it_is_accepted(monkeypatch, log):
    def fail(transport, data, deadline):
        raise BrokenPipeError

    with serving(echo) as server:
        with monkeypatch.context() as patch:
            patch.setattr(_admitted, "write_all", fail)
            with dial(server) as sock:
                sock.sendall(upgrade())
                assert read_all(sock) == b""
            log.wait_for("left before it was accepted")
        with raw_websocket(server):
            pass


def test_a_failure_outside_the_handler_is_logged(monkeypatch, log):
    def fail(*args, **kwargs):
        raise ZeroDivisionError

    with serving(echo, max_connections=1) as server, monkeypatch.context() as patch:
        patch.setattr(_admitted, "Connection", fail)
        with dial(server) as sock:
            sock.sendall(upgrade())
            assert read_all(sock).startswith(b"HTTP/1.1 101")
        log.wait_for("the thread for")


def test_a_failure_of_the_log_ends_the_connection(monkeypatch, log):
    def fail(record):
        if record.getMessage().endswith("101"):
            raise ZeroDivisionError
        return True

    def make(*arguments, **options):
        made.append(make_connection(*arguments, **options))
        return made[0]

    made = []
    make_connection = _admitted.Connection
    monkeypatch.setattr(_admitted, "Connection", make)
    access = logging.getLogger("scriptling_ws.access")
    with serving(echo) as server:
        access.addFilter(fail)
        try:
            with raw_websocket(server) as client:
                log.wait_for("the thread for")
                assert client.ended()
        finally:
            access.removeFilter(fail)
        until(lambda: not server.connections)
        until(lambda: made[0]._link.lifecycle.disposed)  # its place is free before that
        assert made[0].close_code is not None
        assert "closed" in repr(made[0])


def test_a_page_that_takes_no_notice_of_a_shutdown_is_cut_off(monkeypatch):
    monkeypatch.setattr(_sessions, "_LEAVE", 0.1)
    entered, leave = threading.Event(), threading.Event()

    def page(request):
        entered.set()
        leave.wait(10)
        return "late"

    routes = Routes()
    routes.get("/", page)
    server = serving(routes=routes, shutdown_timeout=0.1)
    with dial(server) as sock:
        sock.sendall(head("/"))
        assert entered.wait(10)
        server.close()
        assert read_all(sock) == b""
        leave.set()


class Held:
    """What a handler keeps in a threading.local: its end takes as long as a test likes."""

    def __init__(self, ending, leave):
        self.ending, self.leave = ending, leave

    def __del__(self):
        self.ending.set()
        self.leave.wait(30)


@pytest.mark.threads
@counts_references
@pytest.mark.parametrize("path", ["/ws", "/page"])
def test_the_end_of_a_handlers_thread_holds_up_nobody(path):
    local, ending, leave = threading.local(), threading.Event(), threading.Event()
    kept = []

    def keep(_):
        if not kept:
            kept.append(1)
            local.held = Held(ending, leave)
        return ""

    with serving(routes=routes_of(keep, keep)) as server:
        with dial(server) as sock:
            sock.sendall(head(path) if path == "/page" else upgrade(path))
            if path == "/page":
                assert read_all(sock)
            else:
                read_until(sock, b"\x88\x02\x03\xe8")
        assert ending.wait(10)
        start = time.monotonic()
        for _ in range(5):
            assert status_of(server, head("/page")) == 200
            with raw_websocket(server, "/ws"):
                pass
        assert time.monotonic() - start < 5
        leave.set()


@pytest.mark.threads
@counts_references
def test_threads_at_their_end_are_waited_for_within_the_grace_period(log, monkeypatch):
    monkeypatch.setattr(_sessions, "_LEAVE", 0.1)
    local, ending, leave = threading.local(), threading.Event(), threading.Event()

    def keep(client):
        local.held = Held(ending, leave)

    server = serving(routes=routes_of(keep), shutdown_timeout=0.2)
    with raw_websocket(server, "/ws") as peer:
        pass
    assert ending.wait(10)
    for _ in range(3):  # each start of a thread forgets those that have ended, and no other
        assert status_of(server, head("/page")) == 200
    start = time.monotonic()
    server.close()
    assert 0.2 <= time.monotonic() - start < 3
    log.wait_for(
        f"the handler of {address_text(peer.address)} goes on after the shutdown: "
        "its thread is left behind"
    )
    leave.set()


def test_threads_that_have_ended_are_let_go(monkeypatch):
    monkeypatch.setattr(_handler_threads, "MOST", 2)
    with serving(echo) as server, contextlib.ExitStack() as stack:
        for _ in range(50):
            stack.enter_context(raw_websocket(server))
        stack.close()

        def few_are_left():
            with raw_websocket(server):
                return len(server._sessions._threads.ending()) < 5

        until(lambda: len(server._sessions._threads.ending()) > 40)
        until(few_are_left)


def test_what_comes_while_a_server_closes_is_refused():
    sessions = Sessions(AccessLog())
    sessions.close(Deadline(0))
    with pytest.raises(Refused) as refused:
        sessions.start(Arrived(), lambda session: None)
    assert refused.value.status == 503


class Arrived:
    """What a session needs of an arrival."""

    class transport:
        remote_addr = "127.0.0.1:1"

    place = None
