"""Connections that go on after an answer: what is kept and what not, with h11 as the judge."""

import contextlib
import errno
import io
import logging
import os
import socket
import sys

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from frames import frame
from heads import ACCEPT
from pairs import tls_contexts, until
from programs import runs_once
from scriptling_ws._handshakes.head import parse_request
from scriptling_ws._network.waiting import engine
from scriptling_ws._server import acceptor as _acceptor
from scriptling_ws._server.doors import Doors
from scriptling_ws._server.persistence import KeepAlive, most_kept, persists
from scriptling_ws._server.response import Response
from scriptling_ws._server.routes import Routes
from servers import (
    TIMEOUT,
    Answer,
    busy_threads,
    dial,
    echo,
    head,
    raw_websocket,
    read_all,
    read_answer,
    read_until,
    server_threads,
    serving,
    upgrade,
)

pytestmark = pytest.mark.once("it is about pages")


class Judge:
    """A connection whose bytes h11 reads: it raises where an answer is not what HTTP has."""

    def __init__(self, sock):
        self.sock = sock
        self.h11 = h11.Connection(h11.CLIENT)

    def ask(self, path="/page", method="GET", *lines, body=b""):
        """One request and its answer; the connection may be used again if `goes_on`."""
        headers = [("Host", "localhost"), *(line.split(": ", 1) for line in lines)]
        if body:
            headers.append(("Content-Length", str(len(body))))
        request = h11.Request(method=method, target=path, headers=headers)
        self.sock.sendall(self.h11.send(request))
        if body:
            self.sock.sendall(self.h11.send(h11.Data(body)))
        self.sock.sendall(self.h11.send(h11.EndOfMessage()))
        return self.answer()

    def answer(self):
        status, headers, content = 0, {}, b""
        while True:
            event = self.h11.next_event()
            if event is h11.NEED_DATA:
                self.h11.receive_data(self.sock.recv(65536))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.EndOfMessage):
                break
        self.goes_on = self.h11.their_state is h11.DONE is self.h11.our_state
        if self.goes_on:
            self.h11.start_next_cycle()
        return status, headers, content


def routes(folder=None):
    table = Routes()
    table.get("/page", lambda request: f"{request.remote_addr} {request.method}")
    table.get("/none", lambda request: Response(204))
    table.get("/wrong", lambda request: 1 / 0)
    table.get("/pipe", lambda request: Response(200, file=pipe_of(b"piped"), length=5))
    table.get("/large", lambda request: bytes(3_000_000))
    table.websocket("/ws", echo)
    if folder is not None:
        table.static("/files", folder)
    return table


def pipe_of(data):
    """The reading end of a pipe with some bytes in it."""
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return os.fdopen(read, "rb", buffering=0)


@pytest.fixture
def server(tmp_path):
    (tmp_path / "a.txt").write_text("a file")
    with serving(routes=routes(tmp_path)) as running:
        yield running


@contextlib.contextmanager
def judged(server):
    with dial(server) as sock:
        yield Judge(sock)


def test_many_requests_of_one_connection(server):
    with judged(server) as client:
        address = "{}:{}".format(*client.sock.getsockname())
        for method in ("GET", "HEAD", "GET"):
            status, headers, body = client.ask("/page", method)
            assert (status, body) == (200, f"{address} GET".encode() if method == "GET" else b"")
            assert headers["connection"] == "keep-alive"
            assert headers["keep-alive"] == "timeout=75"
            assert client.goes_on


def test_answers_of_all_kinds_leave_it_in_step(server):
    """Without a body, from a pipe, from a file, an error of the handler, one that is not there."""
    with judged(server) as client:
        _, headers, _ = client.ask("/files/a.txt")
        for path, method, line, status, body in (
            ("/none", "GET", "X: y", 204, b""),
            ("/pipe", "GET", "X: y", 200, b"piped"),
            ("/files/a.txt", "GET", "X: y", 200, b"a file"),
            ("/files/a.txt", "HEAD", "X: y", 200, b""),
            ("/files/a.txt", "GET", f"If-None-Match: {headers['etag']}", 304, b""),
            ("/files/a.txt", "GET", "Range: bytes=2-3", 206, b"fi"),
            ("/files/missing", "GET", "X: y", 404, None),
            ("/wrong", "GET", "X: y", 500, None),
            ("/large", "GET", "X: y", 200, bytes(3_000_000)),
        ):
            answer = client.ask(path, method, line)
            assert answer[0] == status
            assert body is None or answer[2] == body
            assert client.goes_on, path


def test_two_requests_in_one_segment(server):
    with dial(server) as sock:
        sock.sendall(head("/page") + head("/none") + head("/page", "Connection: close"))
        data = read_all(sock)
    assert [part[:3] for part in data.split(b"HTTP/1.1 ")] == [b"", b"200", b"204", b"200"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_body_and_what_follows_it(server, size):
    data = head("/page", "Content-Length: 5") + b"GET /" + head("/none", "Connection: close")
    with dial(server) as sock:
        for start in range(0, len(data), size):
            sock.sendall(data[start : start + size])
        answers = read_all(sock)
    assert [part[:3] for part in answers.split(b"HTTP/1.1 ")] == [b"", b"200", b"204"]


def test_an_upgrade_on_a_kept_connection(server):
    with dial(server) as sock:
        sock.sendall(head("/page"))
        assert read_answer(sock)[0].status == 200
        sock.sendall(upgrade("/ws"))
        assert ACCEPT.encode() in read_until(sock, b"\r\n\r\n")
        sock.sendall(frame(1, b"hello", mask=True))
        assert sock.recv(100) == frame(1, b"hello")


def test_a_page_an_upgrade_and_a_frame_in_one_segment(server):
    with dial(server) as sock:
        sock.sendall(head("/page") + upgrade("/ws") + frame(1, b"hello", mask=True))
        _, rest = read_answer(sock)
        while frame(1, b"hello") not in rest:
            rest += sock.recv(1000)
        assert rest.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    ("version", "line"),
    [
        ("HTTP/1.1", "Connection: close"),
        ("HTTP/1.1", "Connection: x, CLOSE"),
        ("HTTP/1.0", "X: y"),
        ("HTTP/1.0", "Connection: keep-alive"),
    ],
)
def test_who_wants_no_more_is_let_go(server, version, line):
    with dial(server) as sock:
        sock.sendall(head("/page", line, version=version) + head("/page"))
        data = read_all(sock)
    assert data.count(b"HTTP/1.1 ") == 1
    assert Answer(data).headers["connection"] == "close"
    assert "keep-alive" not in Answer(data).headers


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (head("/missing"), 404),
        (head("/page", method="DELETE"), 405),
        (head("/page", "Content-Length: 70000", method="POST"), (405, 413)),
        (head("/page", "Content-Length: 70000"), 413),
        (head("/page", "Transfer-Encoding: chunked"), 411),
        (head("/page", "Transfer-Encoding: chunked", "Content-Length: 3"), 400),
        (head("/page", "Content-Length: 3", "Transfer-Encoding: chunked"), 400),
        (head("/page", "Content-Length: 3", "Content-Length: 4"), 400),
        (head("/page", "Content-Length: 3, 4"), 400),
        (head("/page", "Content-Length: +3"), 400),
        (head("/page", "Content-Length : 3"), 400),
        (head("/page", "Transfer-Encoding : chunked"), 400),
        (head("/page", "Transfer-Encoding: identity"), (400, 411)),
        (head("/page", "Transfer-Encoding:\x0bchunked"), (400, 411)),
        (head("/page") + b"0\r\n\r\nGET /page HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ],
)
def test_a_request_that_is_refused_is_the_last(server, request_, status):
    """What follows may be its body, and is taken for no other request (RFC 9112, 11.2)."""
    smuggled = b"0\r\n\r\n" + head("/large")
    with dial(server) as sock:
        sock.sendall(head("/none"))
        assert read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 204 ")
        sock.sendall(request_ + smuggled)
        data = read_all(sock)
    last = Answer(data[data.rindex(b"HTTP/1.1 ") :])
    assert last.status == status or last.status in (status if isinstance(status, tuple) else ())
    assert last.headers["connection"] == "close"
    assert len(data) < 1000  # no /large


def test_none_is_kept_where_that_is_not_wanted():
    with serving(routes=routes(), keep_alive_timeout=0) as server, dial(server) as sock:
        sock.sendall(head("/page") + head("/page"))
        data = read_all(sock)
    assert data.count(b"HTTP/1.1 ") == 1
    assert Answer(data).headers["connection"] == "close"


def test_the_most_requests():
    with serving(routes=routes(), max_keep_alive_requests=3) as server, judged(server) as client:
        kept = []
        for _ in range(3):
            assert client.ask()[0] == 200
            kept.append(client.goes_on)
        assert kept == [True, True, False]
        assert client.sock.recv(1) == b""


def test_one_that_only_waits_is_let_go_in_the_end(log):
    with serving(routes=routes(), keep_alive_timeout=0.05) as server, judged(server) as client:
        assert client.ask()[0] == 200
        assert client.sock.recv(1) == b""
    assert not [text for text in log.texts() if "no request came" in text]


@pytest.mark.parametrize("part", [head("/page")[:-2], head("/page", "Content-Length: 9") + b"x"])
def test_a_second_request_has_its_own_deadline(part):
    with serving(routes=routes(), handshake_timeout=0.1) as server, dial(server) as sock:
        sock.sendall(head("/page"))
        assert read_answer(sock)[0].status == 200
        sock.sendall(part)
        assert Answer(read_all(sock)).status == 408


def test_waiting_costs_no_thread(server):
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(judged(server)) for _ in range(30)]
        for client in clients:
            assert client.ask()[0] == 200
        until(lambda: len(server_threads()) <= 1)  # the acceptor's; with gevent none
        for client in reversed(clients):
            assert client.ask()[0] == 200


def test_the_end_of_the_server_waits_for_none():
    with serving(routes=routes(), shutdown_timeout=None) as server, judged(server) as client:
        assert client.ask()[0] == 200
        server.close()
        assert client.sock.recv(1) == b""


def test_a_server_that_retires_lets_them_go():
    with serving(routes=routes()) as server, judged(server) as client:
        assert client.ask()[0] == 200
        server._retire()
        assert client.sock.recv(1) == b""
        until(server._is_idle)


def test_waiting_does_not_count_for_an_address():
    """A new connection takes the place of the one that has waited longest."""
    options = {"max_connections_per_address": 1, "max_requests": 1}
    with serving(routes=routes(), **options) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(judged(server)) for _ in range(1)]
        assert clients[0].ask()[0] == 200
        for _ in range(20):
            clients.append(stack.enter_context(judged(server)))
            assert clients[-1].ask()[0] == 200
        ended = [client for client in clients if is_over(client.sock)]
        assert ended == clients[: len(ended)]
        assert len(ended) == 21 - 9
        assert clients[-1].ask()[0] == 200


@runs_once
@pytest.mark.skipif(sys.platform == "win32", reason="its select() takes some hundred sockets")
def test_a_thousand_that_wait(log):
    """More than may wait, at the soft limit of descriptors that most systems have."""
    options = {"max_connections": 1, "max_requests": 1, "max_connections_per_address": 5}
    most = most_kept(65_536)
    with serving(routes=routes(), **options) as server, contextlib.ExitStack() as stack:
        for number in range(1000):
            with contextlib.suppress(OSError):  # the first ones have given way by then
                sock = socket.socket()
                sock.bind((f"127.{number % 250}.0.1", 0))
                sock.connect(("127.0.0.1", server.port))
                stack.enter_context(sock)
                sock.sendall(head("/page"))
                assert read_answer(sock)[0].status == 200
                if number % 2:
                    sock.close()
        assert 0 < len(server._acceptor._kept) <= most
        until(lambda: len(busy_threads()) <= 2)  # the last one may just end
        with raw_websocket(server, "/ws") as client:
            client.send(1, b"hello")
            assert client.receive() == (1, b"hello")
    assert not [text for text in log.texts(logging.WARNING) if "accepting" in text]


def is_over(sock):
    """Whether the stream has ended by now."""
    sock.setblocking(False)
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    finally:
        sock.settimeout(TIMEOUT)


def test_how_many_wait_is_bounded(monkeypatch):
    monkeypatch.setattr(_acceptor, "most_kept", lambda capacity: 5)
    with serving(routes=routes()) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(judged(server)) for _ in range(12)]
        for client in clients:
            assert client.ask()[0] == 200
        # Those that have waited longest give way; one may begin to wait a moment after the next.
        until(lambda: sum(is_over(client.sock) for client in clients) == 7)
        assert is_over(clients[0].sock)
        left = [client for client in clients if not is_over(client.sock)]
        assert clients[-1] in left
        for client in left:
            assert client.ask()[0] == 200


class Scarce:
    """A listener that has a descriptor for a connection every other time."""

    def __init__(self, listener):
        self._listener = listener
        self._left = False

    def accept(self):
        self._left = not self._left
        if self._left:
            raise OSError(errno.EMFILE, "too many open files")
        return self._listener.accept()


@pytest.mark.parametrize(("kind", "room"), [(Scarce, 9), (lambda listener: listener, 0)])
def test_without_room_or_descriptors_one_that_waits_gives_way(server, kind, room):
    gone = []

    def give_way():
        gone.append(1)
        return True

    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        poller = stack.enter_context(contextlib.closing(engine().poller()))
        listener.setblocking(False)
        doors = Doors([listener], poller)
        stack.enter_context(socket.create_connection(listener.getsockname()))
        found = [
            stack.enter_context(sock) for sock, _ in doors.accept(kind(listener), room, give_way)
        ]
        assert len(found) == 1
        assert gone
        assert doors.resume is None


def test_by_tls():
    client_context, server_context = tls_contexts()
    with (
        serving(routes=routes(), ssl_context=server_context) as server,
        client_context.wrap_socket(dial(server), server_hostname="localhost") as sock,
    ):
        sock.sendall(head("/page") + head("/none") + head("/large"))
        rest = b""
        for status in (200, 204, 200):
            answer, rest = read_answer(sock, rest=rest)
            assert answer.status == status
        sock.sendall(upgrade("/ws"))
        assert ACCEPT.encode() in read_until(sock, b"\r\n\r\n")


def test_a_client_that_leaves_while_it_waits(server, log):
    with judged(server) as client:
        assert client.ask()[0] == 200
        client.sock.shutdown(socket.SHUT_WR)
        assert client.sock.recv(1) == b""
    assert not [text for text in log.texts(level=30) if "left" in text or "failed" in text]


def test_a_proxys_connection_has_the_requests_of_many():
    """Each counts for its client, and between two of them for nobody."""
    options = {"trusted_proxies": ["127.0.0.1"], "max_connections_per_address": 1}
    with serving(routes=routes(), **options) as server, judged(server) as proxy:
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
            answer = proxy.ask("/page", "GET", f"X-Forwarded-For: {address}")
            assert answer[2] == f"{address} GET".encode()
        assert proxy.ask("/page")[2].startswith(b"127.0.0.1:")
        until(lambda: server._acceptor._kept)
        limits = server._acceptor._callers.limits
        until(lambda: dict(limits._sockets) == {None: 1})


def test_a_client_behind_a_kept_connection_that_comes_too_fast():
    options = {
        "trusted_proxies": ["127.0.0.1"],
        "max_connection_rate": 0.001,
        "max_connection_burst": 1,
    }
    with serving(routes=routes(), **options) as server, judged(server) as proxy:
        assert proxy.ask("/page", "GET", "X-Forwarded-For: 192.0.2.1")[0] == 200
        assert proxy.ask("/page", "GET", "X-Forwarded-For: 192.0.2.2")[0] == 200
        assert proxy.ask("/page", "GET", "X-Forwarded-For: 192.0.2.1")[0] == 429
        assert not proxy.goes_on


def test_a_file_that_shrinks_as_it_is_sent_ends_it():
    class Shrinking(io.RawIOBase):
        """A file of half the bytes that were announced."""

        left = 50

        def readable(self):
            return True

        def readinto(self, buffer):
            count = min(len(buffer), self.left)
            buffer[:count] = bytes(count)
            self.left -= count
            return count

    table = Routes()
    table.get("/", lambda request: Response(200, file=Shrinking(), length=100))
    with serving(routes=table) as server, dial(server) as sock:
        sock.sendall(head("/") + head("/"))
        data = read_all(sock)
    assert data.count(b"HTTP/1.1 ") == 1
    assert Answer(data).body == bytes(50)


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(["HTTP/1.1", "HTTP/1.0"]),
    st.lists(
        st.lists(st.sampled_from(["close", "CLOSE", "keep-alive", "x", "upgrade"]), min_size=1),
        max_size=2,
    ),
)
def test_h11_judges_who_goes_on(version, lists):
    data = head("/", *(f"Connection: {' , '.join(names)}" for names in lists), version=version)
    judge = h11.Connection(h11.SERVER)
    judge.receive_data(data)
    while judge.next_event() is not h11.PAUSED and judge.their_state is h11.SEND_BODY:
        pass
    assert persists(data, parse_request(data)) == (judge.their_state is h11.DONE)


def test_how_many_may_wait_at_most():
    assert most_kept(500) == 125
    assert most_kept(100) == 64
    assert 64 <= most_kept(10**9) <= 4096


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit of descriptors")
def test_how_many_may_wait_where_descriptors_have_no_limit(monkeypatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY,) * 2)
    assert most_kept(10**9) == 4096
    assert most_kept(500) == 125


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"timeout": None}, ValueError, "0 to close after each answer"),
        ({"timeout": -1}, ValueError, "keep_alive_timeout"),
        ({"timeout": "5"}, TypeError, "keep_alive_timeout"),
        ({"most": 0}, ValueError, "max_keep_alive_requests"),
        ({"most": None}, TypeError, "max_keep_alive_requests"),
    ],
)
def test_wrong_options(arguments, error, text):
    with pytest.raises(error, match=text):
        KeepAlive(**arguments)
