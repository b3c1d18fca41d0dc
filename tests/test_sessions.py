"""A server's sessions: what goes wrong before, around and after a handler."""

import logging
import threading

from pairs import until
from scriptling_ws import _sessions
from scriptling_ws._routes import Routes
from servers import dial, echo, head, raw_websocket, read_all, serving, upgrade


def test_a_peer_that_leaves_before_it_is_accepted(monkeypatch, log):
    def fail(transport, data, deadline):
        raise BrokenPipeError

    with serving(echo) as server:
        with monkeypatch.context() as patch:
            patch.setattr(_sessions, "write_all", fail)
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
        patch.setattr(_sessions, "make_connection", fail)
        with dial(server) as sock:
            sock.sendall(upgrade())
            assert read_all(sock).startswith(b"HTTP/1.1 101")
        log.wait_for("the thread for")


def test_a_failure_of_the_log_ends_the_connection(log):
    def fail(record):
        if record.getMessage().endswith("101"):
            raise ZeroDivisionError
        return True

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
