"""Bodies of requests: decided by the head, bounded, and sent when they are wanted (Expect)."""

import contextlib
import socket
import threading

import pytest

from memory import tracemalloc
from pairs import MIB, until
from servers import (
    Answer,
    Certificates,
    ask,
    dial,
    head,
    raw_websocket,
    read_all,
    read_until,
    routes_of,
    serving,
    status_of,
    upgrade,
)

pytestmark = pytest.mark.once("it is about the bodies of requests")

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def echoing(request):
    return request.body


@pytest.fixture
def site():
    with serving(routes=routes_of(page=echoing), max_body_size=1000) as server:
        yield server


def posted(body, *lines, path="/page", **options):
    return head(path, f"Content-Length: {len(body)}", *lines, **options) + body


# -- what is kept of a body ---------------------------------------------------------


def test_a_body_has_a_limit_that_an_option_sets(site):
    assert ask(site, posted(b"x" * 1000)).body == b"x" * 1000
    answer = ask(site, posted(b"x" * 1001))
    assert answer.status == 413
    assert b"more than the 1000 bytes of max_body_size" in answer.body


@pytest.mark.parametrize("size", ["65537", "9" * 20, "0" * 10 + "65537"])
def test_a_body_has_a_limit_by_default(size):
    with serving(routes=routes_of(page=echoing)) as server:
        assert status_of(server, head("/page", f"Content-Length: {size}")) == 413
        assert len(ask(server, posted(bytes(65536))).body) == 65536


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_large_body_is_read_in_turns_to_its_end(tls):
    certificates = Certificates()
    options = {"ssl_context": certificates.server} if tls else {}
    page = routes_of(page=lambda request: str(len(request.body)))
    with (
        serving(routes=page, max_body_size=8 * MIB, handshake_timeout=30, **options) as server,
        contextlib.ExitStack() as stack,
    ):
        sock = stack.enter_context(dial(server))
        if tls:
            wrapped = certificates.client.wrap_socket(sock, server_hostname="localhost")
            sock = stack.enter_context(wrapped)
        sock.sendall(posted(bytes(8 * MIB)))
        assert Answer(read_all(sock)).body == b"%d" % (8 * MIB)


def test_bodies_may_be_refused_altogether():
    with serving(routes=routes_of(page=echoing), max_body_size=0) as server:
        assert status_of(server, posted(b"")) == 200
        assert status_of(server, posted(b"x")) == 413


@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (None, TypeError), (1.5, TypeError), (True, TypeError)]
)
def test_what_the_limit_of_bodies_may_be(value, error):
    with pytest.raises(error, match="max_body_size"):
        serving(routes=routes_of(), max_body_size=value)


UNWANTED = [
    ("a page that there is not", "/nowhere", "GET", 404),
    ("a method that no page has", "/page", "POST", 405),
    ("more than the limit", "/page", "GET", 413),
    ("no upgrade", "/ws", "GET", 426),
    ("no host of ours", "/page", "GET", 400),
    ("a full server", "/page", "GET", 503),
]


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
@pytest.mark.parametrize(("why", "path", "method", "status"), UNWANTED, ids=lambda x: str(x))
def test_of_a_body_that_nobody_wants_nothing_is_kept(why, path, method, status, tls):
    entered, leave = threading.Event(), threading.Event()

    def page(request):
        entered.set()
        leave.wait(10)
        return ""

    certificates = Certificates()
    options = {"ssl_context": certificates.server} if tls else {}
    with (
        serving(
            routes=routes_of(page=page),
            max_requests=1,
            allowed_hosts=["localhost"],
            shutdown_timeout=0.1,
            max_body_size=2 * MIB if status == 503 else 65_536,
            **options,
        ) as server,
        contextlib.ExitStack() as stack,
    ):

        def opened():
            sock = dial(server)
            if tls:
                sock = certificates.client.wrap_socket(sock, server_hostname="localhost")
            return stack.enter_context(sock)

        if status == 503:
            opened().sendall(head("/page"))
            assert entered.wait(10)
            # And one whose body is on its way, of which there may be one too.
            opened().sendall(head("/page", "Content-Length: 5"))
            until(lambda: server._acceptor._callers.limits._counts["body"] == 1)
        host = "evil.example" if status == 400 else "localhost"
        start = head(path, f"Content-Length: {MIB}", method=method, host=host)
        socks = [opened() for _ in range(20)]
        tracemalloc.start()
        try:
            for sock in socks:
                sock.sendall(start + bytes(64 * 1024))
                assert Answer(read_until(sock, b"\n\r\n") + b"").status == status
                with contextlib.suppress(OSError):
                    sock.sendall(bytes(MIB - 64 * 1024 - 1))
            assert tracemalloc.get_traced_memory()[1] < 8 * MIB
        finally:
            tracemalloc.stop()
            leave.set()


def test_a_page_without_a_body_does_not_wait_for_bodies_that_are_on_their_way():
    with (
        serving(routes=routes_of(page=echoing), max_requests=2) as server,
        dial(server) as first,
        dial(server) as second,
    ):
        for sock in (first, second):
            sock.sendall(posted(b"12345")[:-2])
        until(lambda: server._acceptor._callers.limits._counts["body"] == 2)
        assert status_of(server, head("/page")) == 200
        assert status_of(server, posted(b"12")) == 200  # it came with its head
        answer = ask(server, posted(b"12345")[:-2])
        assert answer.status == 503
        assert answer.headers["retry-after"]
        first.sendall(b"45")
        assert Answer(read_all(first)).body == b"12345"
        second.close()
        until(lambda: not server._acceptor._callers.limits._counts["body"])


def test_a_place_is_given_back_whatever_becomes_of_a_body():
    with serving(routes=routes_of(page=echoing), max_requests=1, handshake_timeout=0.3) as server:
        for _ in range(2):
            with dial(server) as sock:  # which leaves
                sock.sendall(posted(b"12345")[:-2])
                until(lambda: server._acceptor._callers.limits._counts["body"])
            until(lambda: not server._acceptor._callers.limits._counts["body"])
            with dial(server) as sock:  # which is too slow
                sock.sendall(posted(b"12345")[:-2])
                assert Answer(read_all(sock)).status == 408
            assert not server._acceptor._callers.limits._counts["body"]
        assert ask(server, posted(b"123")).body == b"123"


# -- Expect (RFC 9110 section 10.1.1) ---------------------------------------------------


@pytest.mark.parametrize("value", ["100-continue", "100-Continue", ", 100-continue ,100-continue"])
@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_body_that_is_wanted_is_asked_for(value, tls):
    certificates = Certificates()
    options = {"ssl_context": certificates.server} if tls else {}
    with (
        serving(routes=routes_of(page=echoing), **options) as server,
        contextlib.ExitStack() as stack,
    ):
        sock = stack.enter_context(dial(server))
        if tls:
            wrapped = certificates.client.wrap_socket(sock, server_hostname="localhost")
            sock = stack.enter_context(wrapped)
        start = posted(b"body", f"Expect: {value}")
        sock.sendall(start[:-4])
        received = b""
        while len(received) < len(CONTINUE):
            received += sock.recv(1000)
        assert received == CONTINUE
        sock.sendall(b"body")
        assert Answer(read_all(sock)).body == b"body"


def test_a_body_that_has_come_is_not_asked_for(site):
    for request in (
        posted(b"body", "Expect: 100-continue"),
        posted(b"", "Expect: 100-continue"),
        head("/page", "Expect: 100-continue"),
    ):
        assert ask(site, request).status == 200


@pytest.mark.parametrize(
    ("path", "method", "size", "status"),
    [
        ("/nowhere", "GET", 5, 404),
        ("/page", "POST", 5, 405),
        ("/page", "GET", 1001, 413),
        ("/ws", "GET", 5, 426),
    ],
)
def test_a_body_that_is_not_wanted_gets_its_answer_at_once(site, path, method, size, status):
    request = head(path, f"Content-Length: {size}", "Expect: 100-continue", method=method)
    assert status_of(site, request) == status


@pytest.mark.parametrize("value", ["200-ok", "100-continue, more", "100-continue=1", "100"])
def test_other_expectations_are_refused(site, value):
    for request in (head("/page", f"Expect: {value}"), upgrade("/ws", f"Expect: {value}")):
        answer = ask(site, request)
        assert answer.status == 417
        assert b"100-continue" in answer.body


def test_an_upgrade_may_expect_to_go_on(site):
    with raw_websocket(site, "/ws", "Expect: 100-continue") as client:
        client.send(1, b"x")
        assert client.receive() == (1, b"x")


def test_http_1_0_has_no_expectations(site):
    with dial(site) as sock:
        request = posted(b"body", "Expect: 100-continue, more", version="HTTP/1.0")
        sock.sendall(request[:-4])
        sock.settimeout(0.1)
        with pytest.raises(TimeoutError):
            sock.recv(1)
        sock.settimeout(10)
        sock.sendall(b"body")
        assert Answer(read_all(sock)).body == b"body"


def test_a_peer_that_leaves_before_it_is_told_to_go_on(site, log):
    with socket.create_connection(("127.0.0.1", site.port)) as sock:
        sock.sendall(head("/page", "Content-Length: 5", "Expect: 100-continue"))
    log.wait_for("left during the handshake")
    assert status_of(site, head("/page")) == 200
