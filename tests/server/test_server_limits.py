"""A server's limits: slow and silent peers, too many peers, nothing left of a resource."""

import contextlib
import errno
import socket
import threading
import time

import pytest
from websockets.sync.client import connect

from pairs import until
from scriptling_ws._server import acceptor as _accept
from scriptling_ws._server import endpoints as _endpoints
from scriptling_ws._server import sessions as _sessions
from scriptling_ws._server.limits import SPARE
from servers import (
    Answer,
    ask,
    dial,
    echo,
    head,
    raw_websocket,
    read_all,
    read_until,
    routes_of,
    server_threads,
    serving,
    status_of,
    upgrade,
)

# -- slow and silent peers -------------------------------------------------


@pytest.mark.threads
@pytest.mark.abuse(17, 18)
def test_slow_peers_cost_no_threads():
    with serving(echo, handshake_timeout=30) as server, contextlib.ExitStack() as stack:
        slow = [stack.enter_context(dial(server)) for _ in range(100)]
        for number, sock in enumerate(slow):
            sock.sendall(upgrade("/")[: number % 50])
        with connect(server.url) as client:
            client.send("through")
            assert client.recv(10) == "through"
            assert len(server_threads()) == 2  # the acceptor and this client's
        slow[49].sendall(upgrade("/")[49:])  # and a slow one gets through in the end
        assert read_until(slow[49], b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")


@pytest.mark.abuse(17)
def test_a_request_that_takes_too_long_is_408(log):
    with serving(routes=routes_of(), handshake_timeout=0.2) as server, dial(server) as sock:
        sock.sendall(upgrade("/ws")[:-1])
        assert Answer(read_all(sock)).status == 408
        log.wait_for("GET '/ws' 408: the request took too long")


def test_a_body_that_takes_too_long_is_408():
    with serving(routes=routes_of(), handshake_timeout=0.2) as server, dial(server) as sock:
        sock.sendall(head("/page", "Content-Length: 5") + b"half")
        assert Answer(read_all(sock)).status == 408


@pytest.mark.abuse(18)
def test_silence_is_closed_at_the_deadline():
    with serving(echo, handshake_timeout=0.2) as server, dial(server) as sock:
        start = time.monotonic()
        assert read_all(sock) == b""
        assert time.monotonic() - start < 5


@pytest.mark.abuse(17)
def test_a_steady_drip_does_not_move_the_deadline():
    with serving(echo, handshake_timeout=0.5) as server, dial(server) as sock:
        start = time.monotonic()
        sock.settimeout(0.02)
        received = b""
        for byte in head("/", "X: " + "x" * 8000):
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                sock.send(bytes([byte]))
            try:
                received = sock.recv(4096)
                break
            except TimeoutError:
                continue
        assert received.startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - start < 3


def test_peers_that_leave_are_forgotten():
    with serving(echo, handshake_timeout=30) as server:
        for data in (b"", b"GET / HT", upgrade("/")[:-2]):
            with dial(server) as sock:
                sock.sendall(data)
        with connect(server.url) as client:
            client.send("alive")
            assert client.recv(10) == "alive"
        for _ in range(100):  # the acceptor notices them one by one
            if not server._acceptor._opening and not server._acceptor._closing:
                break
            status_of(server, head("/"))
        assert len(server._acceptor._opening) == 0


def test_a_peer_that_does_not_close_after_its_refusal_is_closed(monkeypatch):
    monkeypatch.setattr("scriptling_ws._server.acceptor.LINGER", 0.2)
    pause = threading.Event()
    with serving(echo) as server, dial(server) as sock:
        sock.sendall(head("/"))
        assert Answer(read_all(sock)).status == 426
        with pytest.raises(OSError):  # the server's socket is gone: a reset comes back
            while True:
                sock.sendall(b"x")
                pause.wait(0.001)  # greenlets of the server run meanwhile


def test_a_peer_that_goes_on_sending_after_its_refusal_is_closed(monkeypatch):
    monkeypatch.setattr("scriptling_ws._server.peer._MAX_DRAIN", 100_000)
    with serving(echo) as server, dial(server) as sock:
        sock.sendall(head("/"))
        assert Answer(read_until(sock, b"client\n")).status == 426
        with pytest.raises(OSError):
            while True:
                sock.sendall(bytes(10_000))


# -- limits ----------------------------------------------------------------


@pytest.mark.abuse(63)
def test_max_connections():
    with (
        serving(routes=routes_of(), max_connections=2) as server,
        raw_websocket(server, "/ws") as first,
        raw_websocket(server, "/ws"),
    ):
        answer = ask(server, upgrade("/ws"))
        assert answer.status == 503
        assert answer.headers["retry-after"]
        assert status_of(server, head("/page")) == 200  # pages are counted apart
        first.send(8, b"\x03\xe8")
        assert first.close_code() == 1000
        assert first.ended()
        first.sock.close()
        for _ in range(100):  # until the handler's thread has counted itself out
            with dial(server) as sock:
                sock.sendall(upgrade("/ws"))
                if read_until(sock, b"\r\n\r\n").startswith(b"HTTP/1.1 101"):
                    break
        else:
            pytest.fail("the place was not given back")


@pytest.mark.abuse(63)
def test_max_connections_per_address():
    with serving(echo, max_connections_per_address=1) as server, raw_websocket(server):
        assert status_of(server, upgrade()) == 503
        with contextlib.ExitStack() as stack:
            try:
                other = stack.enter_context(
                    socket.create_connection(
                        ("127.0.0.1", server.port), 10, source_address=("127.0.0.2", 0)
                    )
                )
            except OSError:
                return  # one loopback address only
            other.sendall(upgrade())
            assert read_until(other, b"\r\n\r\n").startswith(b"HTTP/1.1 101")


def from_address(server, address):
    """A plain socket to a server from another loopback address."""
    try:
        sock = socket.create_connection(("127.0.0.1", server.port), 10, source_address=(address, 0))
    except OSError:
        pytest.skip("one loopback address only")
    return sock


def ended(sock):
    """Whether the server has closed a connection on which nothing was said."""
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


@pytest.mark.abuse(18, 63)
@pytest.mark.parametrize("said", [b"", b"GET / HT"], ids=["silent", "half a head"])
def test_an_address_cannot_use_up_the_descriptors(said, log):
    with (
        serving(echo, max_connections_per_address=4, handshake_timeout=30) as server,
        contextlib.ExitStack() as stack,
    ):
        held = [stack.enter_context(from_address(server, "127.0.0.2")) for _ in range(4 + SPARE)]
        for sock in held:
            sock.sendall(said)
        for _ in range(50):
            with from_address(server, "127.0.0.2") as more:
                assert ended(more)
        assert len(server._acceptor._opening) <= 4 + SPARE
        with raw_websocket(server):  # from another address
            pass
        # One warning, though peers can cause it as often as they like.
        assert sum("max_connections_per_address" in text for text in log.texts(30)) == 1
        held.pop().close()  # makes room
        until(lambda: len(server._acceptor._opening) < 4 + SPARE)
        with from_address(server, "127.0.0.2") as again:
            again.sendall(upgrade())
            assert read_until(again, b"\r\n\r\n").startswith(b"HTTP/1.1 101")


def test_spare_connections_of_a_browser_do_not_count_against_its_requests():
    with (
        serving(routes=routes_of(), max_connections_per_address=2) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(6):
            stack.enter_context(dial(server))
        with raw_websocket(server, "/ws"):
            assert status_of(server, head("/page")) == 200
            with raw_websocket(server, "/ws"):
                assert status_of(server, head("/page")) == 503


def test_refusals_that_are_not_read_count_among_the_connections_of_an_address():
    with (
        serving(routes=routes_of(), max_connections_per_address=1) as server,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(1 + SPARE):
            sock = stack.enter_context(dial(server))
            sock.sendall(head("/nowhere"))
            assert sock.recv(1)
        with dial(server) as more:
            assert ended(more)


def test_without_a_limit_an_address_may_have_any_number():
    with serving(echo, handshake_timeout=30) as server, contextlib.ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(dial(server))
        with raw_websocket(server):
            pass
        until(lambda: len(server._acceptor._opening) == 100)


def test_max_requests():
    entered, leave = threading.Semaphore(0), threading.Event()

    def page(request):
        entered.release()
        leave.wait(10)
        return "done"

    with serving(routes=routes_of(page=page), max_requests=2) as server:
        with dial(server) as first, dial(server) as second:
            for sock in (first, second):
                sock.sendall(head("/page"))
                assert entered.acquire(timeout=10)
            assert status_of(server, head("/page")) == 503
            with raw_websocket(server, "/ws"):
                pass
            leave.set()
            assert Answer(read_all(first)).status == Answer(read_all(second)).status == 200
        assert status_of(server, head("/page")) == 200


def test_a_request_is_over_when_its_peer_has_the_answer(monkeypatch):
    deliver, may_deliver = _accept.Acceptor.deliver, threading.Event()

    def late(acceptor, *answer):
        assert may_deliver.wait(10)
        deliver(acceptor, *answer)

    monkeypatch.setattr(_accept.Acceptor, "deliver", late)
    routes = routes_of(page=lambda request: "done")
    with serving(routes=routes, max_requests=1) as server, contextlib.ExitStack() as stack:
        for _ in range(3):
            sock = stack.enter_context(dial(server))
            sock.sendall(head("/page"))
            answer = read_until(sock, b"\r\n\r\ndone")
            assert answer.startswith(b"HTTP/1.1 200 ")
        may_deliver.set()


@pytest.mark.abuse(63)
@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), MemoryError()])
def test_no_thread_left(monkeypatch, error, log):
    def refuse(body, name):
        raise error

    with serving(routes=routes_of(), max_connections=1, max_requests=1) as server:
        with monkeypatch.context() as patch:
            patch.setattr(_sessions, "start_thread", refuse)
            for _ in range(2):
                assert status_of(server, upgrade("/ws")) == 503
                assert status_of(server, head("/page")) == 503
            assert not server._sessions._sessions
        with raw_websocket(server, "/ws"):  # the places were given back, the server lives
            pass
        assert status_of(server, head("/page")) == 200
        assert server.connections == [] or len(server.connections) == 1


class Exhausted(socket.socket):
    """A listening socket on which accept fails a number of times."""

    failures = 0
    calls = 0
    error = errno.EMFILE

    def accept(self):
        type(self).calls += 1
        if type(self).failures:
            type(self).failures -= 1
            raise OSError(self.error, "Too many open files") if self.error else MemoryError
        return super().accept()


def exhaust(monkeypatch, error):
    """Let accept fail three times on the listening sockets that are made from here on."""
    real = _endpoints.listen

    def listen(host, port):
        listeners = [Exhausted(fileno=sock.detach()) for sock in real(host, port)]
        for listener in listeners:
            listener.setblocking(False)  # PyPy takes it to block
        return listeners

    monkeypatch.setattr(_endpoints, "listen", listen)
    monkeypatch.setattr(Exhausted, "failures", 3)
    monkeypatch.setattr(Exhausted, "calls", 0)
    monkeypatch.setattr(Exhausted, "error", error)


@pytest.mark.abuse(62)
@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, 0])
def test_out_of_descriptors_backs_off_and_recovers(monkeypatch, error, log):
    exhaust(monkeypatch, error)
    with serving(echo) as server:
        start = time.monotonic()
        with raw_websocket(server):
            pass
        assert time.monotonic() - start >= 0.3  # 0.1, 0.2 and 0.4 s, not a spin
        assert Exhausted.calls <= 8
    assert sum("accepting no connections" in message for message in log.texts(level=30)) == 1


def test_no_memory_for_a_peer_is_one_connections_own(monkeypatch, log):
    def fail(*_):
        raise MemoryError

    with serving(echo) as server:
        monkeypatch.setattr(_accept.Peer, "__init__", fail)
        with dial(server) as sock:
            assert sock.recv(1) == b""
        monkeypatch.undo()
        with raw_websocket(server):
            pass
    assert any("could not be taken" in message for message in log.texts(level=40))


def test_other_accept_errors_are_one_connections_own(monkeypatch):
    exhaust(monkeypatch, errno.ECONNABORTED)
    with serving(echo) as server, raw_websocket(server):
        pass


def test_no_error_ends_the_acceptor(monkeypatch, log):
    def fail(self, head, request):
        raise ZeroDivisionError

    with serving(echo) as server:
        monkeypatch.setattr(server._acceptor, "_admit", fail.__get__(server))
        with dial(server) as sock:
            sock.sendall(upgrade())
            assert read_all(sock) == b""
        log.wait_for("the handshake with")
        monkeypatch.undo()
        with raw_websocket(server):
            pass
