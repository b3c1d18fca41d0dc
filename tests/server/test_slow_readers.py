"""Peers that take a page's answer slowly: each costs a descriptor, but no thread."""

import contextlib
import io
import os
import socket
import threading
import time
import weakref

import pytest

from children import forked
from memory import counts_references, tracemalloc
from pairs import KIB, MIB, Running, until
from scriptling_ws._server import delivery as _delivery
from scriptling_ws._server import limits as _limits
from scriptling_ws._server.response import Response
from scriptling_ws._server.routes import Routes
from servers import (
    Answer,
    Certificates,
    ask,
    dial,
    echo,
    head,
    raw_websocket,
    read_all,
    routes_of,
    server_threads,
    serving,
    status_of,
)

pytestmark = pytest.mark.once("it is about pages, whose bytes no codec touches")

SIZE = 8 * MIB  # more than the kernels of both ends keep


def slow(server, path="/big", address="127.0.0.1", **options):
    """A peer that has asked for a page, and reads nothing of the answer yet."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.bind((address, 0))
    sock.settimeout(10)
    sock.connect(("127.0.0.1", server.port))
    sock.sendall(head(path, **options))
    return sock


@contextlib.contextmanager
def slow_ones(server, count, path="/big"):
    with contextlib.ExitStack() as stack:
        peers = []
        for number in range(1, count + 1):
            peers.append(stack.enter_context(slow(server, path)))
            # One at a time: those whose handlers run count as requests.
            until(lambda number=number: delivering(server) >= number)
        yield peers


def only_the_acceptor():
    return len(server_threads()) == 1


def delivering(server):
    return len(server._acceptor._delivering)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "big").write_bytes(bytes(range(256)) * (SIZE // 256))
    (tmp_path / "index.html").write_text("hello")
    return tmp_path


@pytest.fixture
def site(files):
    routes = Routes()
    routes.static("/", files)
    routes.websocket("/ws", echo)
    return routes


def test_a_hundred_slow_readers_hold_up_no_page(site):
    with (
        serving(routes=site, max_requests=4, shutdown_timeout=0.1) as server,
        slow_ones(server, 100) as peers,
    ):
        assert delivering(server) == 100
        until(only_the_acceptor)
        assert ask(server, head("/")).body == b"hello"
        with raw_websocket(server, "/ws") as client:
            client.send(1, b"served")
            assert client.receive() == (1, b"served")
        # And each of them still gets all of it.
        assert len(Answer(read_all(peers[0])).body) == SIZE
        assert Answer(read_all(peers[99])).body[-256:] == bytes(range(256))
        until(lambda: delivering(server) == 98)


def test_a_large_body_does_not_need_its_thread_either():
    body = os.urandom(SIZE)
    with (
        serving(routes=routes_of(page=lambda request: body), max_requests=1) as server,
        slow_ones(server, 2, "/page") as (first, second),
    ):
        until(only_the_acceptor)
        assert Answer(read_all(second)).body == body
        assert Answer(read_all(first)).body == body


def test_over_tls_too(site):
    certificates = Certificates()
    with (
        serving(routes=site, ssl_context=certificates.server, max_requests=1) as server,
        contextlib.ExitStack() as stack,
    ):
        peers = []
        for number in range(4):
            until(lambda number=number: delivering(server) == number)
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.settimeout(10)
            sock.connect(("127.0.0.1", server.port))
            tls = certificates.client.wrap_socket(sock, server_hostname="localhost")
            peers.append(stack.enter_context(tls))
            tls.sendall(head("/big"))
        until(lambda: delivering(server) == 4)
        until(only_the_acceptor)
        assert len(Answer(read_all(peers[3])).body) == SIZE
        until(lambda: delivering(server) == 3)


def test_slow_readers_take_little_memory(site):
    with serving(routes=site, shutdown_timeout=0.1) as server:
        assert status_of(server, head("/")) == 200
        tracemalloc.start()
        try:
            with slow_ones(server, 100):
                assert delivering(server) == 100
                until(only_the_acceptor)
                assert tracemalloc.get_traced_memory()[0] < 100 * 100 * KIB
        finally:
            tracemalloc.stop()


def test_bodies_in_memory_are_bounded(monkeypatch):
    # One that has no room stays with its thread, and counts as a request.
    monkeypatch.setattr(_limits, "_MOST_HELD", SIZE)
    body = bytes(SIZE)
    with serving(
        routes=routes_of(page=lambda request: body), max_requests=1, shutdown_timeout=0.1
    ) as server:
        with slow(server, "/page") as first:
            until(lambda: delivering(server) == 1)
            with slow(server, "/page") as second:
                until(lambda: server._sessions._sessions and not only_the_acceptor())
                until(lambda: status_of(server, head("/page")) == 503)
                assert len(Answer(read_all(second)).body) == SIZE
            assert len(Answer(read_all(first)).body) == SIZE
        until(only_the_acceptor)
        assert status_of(server, head("/page")) == 200


def test_head_of_a_file_needs_no_waiting(site):
    with serving(routes=site) as server:
        answer = ask(server, head("/big", method="HEAD"))
        assert (answer.headers["content-length"], answer.body) == (str(SIZE), b"")


def watched(files, opened, name="big"):
    """A page that answers with a file, which is noted."""

    def page(request):
        file = (files / name).open("rb")
        opened.append(file)
        return Response(200, file=file, length=SIZE)

    return page


def test_a_peer_that_leaves_is_forgotten_and_its_file_closed(files):
    opened = []
    with serving(routes=routes_of(page=watched(files, opened))) as server:
        with slow(server, "/page"):
            until(lambda: delivering(server) == 1)
            place = server._acceptor._delivering.front().place
            assert not opened[0].closed
        until(lambda: opened[0].closed)
        until(lambda: delivering(server) == 0)
        until(lambda: place.left)


def test_a_file_that_is_shorter_than_announced_is_broken_off(files, log):
    opened = []
    with serving(routes=routes_of(page=watched(files, opened))) as server:
        with slow(server, "/page") as peer:
            until(lambda: delivering(server) == 1)
            os.truncate(files / "big", SIZE - 1)
            assert len(Answer(read_all(peer)).body) == SIZE - 1
        assert log.wait_for("was broken off: its file is shorter").levelname == "WARNING"
        until(lambda: opened[0].closed)
        assert status_of(server, head("/nowhere")) == 404


def test_a_peer_below_the_least_rate_is_dropped(site, monkeypatch, log):
    monkeypatch.setattr(_delivery, "PERIOD", 0.3)
    with serving(routes=site) as server, slow(server) as peer:
        until(lambda: delivering(server) == 1)
        place = server._acceptor._delivering.front().place
        start = time.monotonic()
        with contextlib.suppress(ConnectionResetError):
            while peer.recv(1):  # a byte at a time keeps nothing
                time.sleep(0.05)
                if place.left:
                    break
        assert time.monotonic() - start < 5
        assert log.wait_for("broke off the answer to").levelname == "INFO"
        until(lambda: place.left)


def test_a_peer_above_the_least_rate_gets_all(site, monkeypatch):
    monkeypatch.setattr(_delivery, "PERIOD", 0.2)
    monkeypatch.setattr(_delivery, "LEAST", 4 * KIB)
    with serving(routes=site) as server, slow(server) as peer:
        received, start = 0, time.monotonic()
        while received <= SIZE and (piece := peer.recv(256 * KIB)):
            received += len(piece)
            if time.monotonic() - start < 1:
                time.sleep(0.01)
        assert received > SIZE
        assert time.monotonic() - start > 1


def test_answers_count_among_those_of_an_address(site):
    with (
        serving(routes=site, max_connections_per_address=3, shutdown_timeout=0.1) as server,
        slow_ones(server, 3) as peers,
    ):
        answer = ask(server, head("/"))
        assert answer.status == 503
        assert b"your address" in answer.body
        with slow(server, "/", address="127.0.0.2") as other:
            assert Answer(read_all(other)).status == 200
        peers[0].close()
        until(lambda: delivering(server) == 2)
        assert status_of(server, head("/")) == 200


# -- files that the acceptor must not read --------------------------------------------


@pytest.mark.threads
def test_a_pipe_blocks_its_own_thread_alone():
    read, write = os.pipe()

    def page(request):
        if request.query:
            return "quick"
        return Response(200, file=open(read, "rb"), length=5)

    with serving(routes=routes_of(page=page), max_requests=2) as server, dial(server) as sock:
        sock.sendall(head("/page"))
        until(lambda: not only_the_acceptor())
        for _ in range(3):
            assert ask(server, head("/page?quick")).body == b"quick"
        os.write(write, b"piped")
        os.close(write)
        assert Answer(read_all(sock)).body == b"piped"


def test_a_programs_own_file_is_read_and_closed_by_its_own_thread():
    threads = set()

    class Own(io.BytesIO):
        def read(self, size=-1):
            threads.add(threading.current_thread().name)
            return super().read(size)

        def close(self):
            if not self.closed:
                threads.add(threading.current_thread().name)
            super().close()

    def page(request):
        threads.add(threading.current_thread().name)
        return Response(200, file=Own(bytes(SIZE)), length=SIZE)

    with serving(routes=routes_of(page=page)) as server, slow(server, "/page") as peer:
        assert len(Answer(read_all(peer)).body) == SIZE
        assert len(threads) == 1


class Broken(io.BytesIO):
    """A file that cannot be read, from the beginning or from some byte on."""

    def __init__(self, error, good=0):
        super().__init__(bytes(SIZE))
        self.error, self.good = error, good

    def read(self, size=-1):
        if size and self.tell() >= self.good:
            raise self.error
        return super().read(size)


@pytest.mark.parametrize(
    "error", [OSError("disk"), ZeroDivisionError(), SystemExit(3)], ids=["OSError", "bug", "exit"]
)
def test_what_a_file_raises_before_anything_has_left_is_a_500(error, log):
    files = []

    def page(request):
        files.append(Broken(error))
        return Response(200, file=files[-1], length=SIZE)

    with serving(routes=routes_of(page=page), max_requests=1) as server:
        for _ in range(2):
            answer = ask(server, head("/page"))
            assert (answer.status, b"disk" in answer.body) == (500, False)
            assert log.wait_for("the page '/page' failed").exc_info
            assert files[-1].closed
        until(only_the_acceptor)


@pytest.mark.parametrize(
    "error", [OSError("disk"), ZeroDivisionError(), SystemExit(3)], ids=["OSError", "bug", "exit"]
)
def test_what_a_file_raises_later_is_the_end_and_a_line_in_the_log(error, log):
    files = []

    def page(request):
        files.append(Broken(error, good=MIB))
        return Response(200, file=files[-1], length=SIZE)

    with serving(routes=routes_of(page=page), max_requests=1) as server:
        for _ in range(2):
            with slow(server, "/page") as peer, contextlib.suppress(ConnectionResetError):
                assert len(read_all(peer)) < SIZE
            until(lambda: any(record.exc_info for record in log.records))
            log.records.clear()
            assert files[-1].closed
        until(only_the_acceptor)


# -- the server's end --------------------------------------------------------------------


def test_a_download_is_finished_in_the_grace_period(site):
    server = serving(routes=site, shutdown_timeout=10)
    with slow(server) as peer, slow(server) as refused:
        until(lambda: delivering(server) == 2)
        refused.close()
        closing = Running(server.close)
        until(server._acceptor._left.is_set)
        with pytest.raises(ConnectionRefusedError):
            dial(server)
        assert len(Answer(read_all(peer)).body) == SIZE
        start = time.monotonic()
        closing.result()
        assert time.monotonic() - start < 5


def test_a_download_is_cut_at_the_end_of_the_grace_period(files):
    opened = []
    server = serving(routes=routes_of(page=watched(files, opened)), shutdown_timeout=0.2)
    with slow(server, "/page") as peer:
        until(lambda: delivering(server) == 1)
        start = time.monotonic()
        server.close()
        assert 0.2 <= time.monotonic() - start < 2
        until(lambda: opened[0].closed)
        with contextlib.suppress(ConnectionResetError):
            assert len(read_all(peer)) < SIZE
    assert server_threads() == []


def test_an_answer_that_is_made_in_the_grace_period_is_delivered():
    entered, leave = threading.Event(), threading.Event()

    def page(request):
        entered.set()
        leave.wait(10)
        return bytes(SIZE)

    server = serving(routes=routes_of(page=page), shutdown_timeout=10)
    with slow(server, "/page") as peer:
        assert entered.wait(10)
        closing = Running(server.close)
        until(server._acceptor._left.is_set)
        leave.set()
        assert len(Answer(read_all(peer)).body) == SIZE
        closing.result()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_during_a_download_disturbs_neither(files):
    opened = []
    with (
        serving(routes=routes_of(page=watched(files, opened))) as server,
        slow(server, "/page") as peer,
    ):
        until(lambda: delivering(server) == 1)
        child = forked()
        if not child:  # pragma: no cover - another process
            over = delivering(server) == 0 and server.wait(0)
            server.close()
            os._exit(0 if over else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert len(Answer(read_all(peer)).body) == SIZE


@counts_references
def test_nothing_is_kept_of_an_answer():
    made = []

    def page(request):
        body = io.BytesIO(bytes(SIZE))
        made.append(weakref.ref(body))
        return Response(200, file=body, length=SIZE)

    with serving(routes=routes_of(page=page)) as server, slow(server, "/page") as peer:
        until(lambda: delivering(server) == 1)
        assert len(Answer(read_all(peer)).body) == SIZE
        peer.close()
        until(lambda: made[0]() is None)


def test_a_quick_reader_of_a_large_page_is_served_in_turn_with_others():
    body = os.urandom(SIZE)
    with serving(routes=routes_of(page=lambda request: body), max_requests=1) as server:
        for _ in range(3):
            assert ask(server, head("/page")).body == body
