"""The end of a server: what its peers are told, what is left of it, signals that end it."""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from operator import attrgetter

import pytest
from websockets.exceptions import ConnectionClosed as PeerClosed
from websockets.sync.client import connect

from pairs import Interrupt, Running, until
from processes import Process
from scriptling_ws._network.addresses import address_text
from scriptling_ws._server import sessions as _sessions
from scriptling_ws._server import signals as _signals
from scriptling_ws._server.serve import serve
from scriptling_ws._server.server import Server
from scriptling_ws._server.signals import StopSignal
from servers import (
    Answer,
    dial,
    echo,
    head,
    raw_websocket,
    read_all,
    read_until,
    routes_of,
    server_threads,
    serving,
    upgrade,
)


def read_after(server, request):
    """What comes for a request, to its end."""
    with dial(server) as sock:
        sock.sendall(request)
        return read_all(sock)


# -- close -----------------------------------------------------------------


@pytest.mark.threads
@pytest.mark.abuse(71)
def test_shutdown_says_1001_to_all():
    seen = []

    def handler(client):
        client.send("ready")
        seen.append((client.receive(60), client.connected()))

    with serving(handler) as server, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(raw_websocket(server)) for _ in range(5)]
        for client in clients:
            assert client.receive() == (1, b"ready")
        assert len(server_threads()) == 6
        assert all(thread.daemon for thread in server_threads())  # none keeps the process
        closing = threading.Thread(target=server.close)
        closing.start()
        for client in clients:
            assert client.close_code() == 1001
            client.leave(1001)
        closing.join(10)
        assert not closing.is_alive()
        assert seen == [(None, False)] * 5
        assert server_threads() == []


def test_nothing_is_left_and_the_port_is_free():
    with serving(routes=routes_of()) as server:
        silent = dial(server)
        websocket = dial(server)
        websocket.sendall(upgrade("/ws"))
        read_until(websocket, b"\r\n\r\n")
        refused = dial(server)
        refused.sendall(head("/x"))
        page = dial(server)
        page.sendall(head("/page"))
        read_until(page, b"page")
        port = server.port
        websocket.close()
    assert server_threads() == []
    with silent, refused, page:
        assert silent.recv(1) == b""
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=10)
        with Server(echo, port=port) as again:
            assert again.port == port


def test_close_twice_and_from_several_threads():
    server = serving(echo)
    with raw_websocket(server) as client:
        threads = [threading.Thread(target=server.close) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert client.close_code() == 1001
        client.leave(1001)
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
    server.close()
    assert server.wait(0)
    assert server_threads() == []


def test_close_from_a_handler(log):
    result = []
    over = threading.Event()

    def handler(client):
        if client.receive(10) == "stop":
            server.close()
            server.close()
            result.append(client.connected())
            over.set()

    server = serving(handler)
    with raw_websocket(server) as other, raw_websocket(server) as client:
        client.send(1, b"stop")
        for peer in (other, client):
            assert peer.close_code() == 1001
            peer.leave(1001)
        assert server.wait(10)
    server.close()
    assert over.wait(10)
    assert result == [False]
    told = [text for text in log.texts(logging.WARNING) if "nothing else could run" not in text]
    assert not told  # the handler that closes is not one that stays


@pytest.mark.threads
@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no pthread_kill")
def test_close_from_a_signal_handler_inside_close():
    again = threading.Event()
    main = threading.get_ident()

    def close_again(*_):
        server.close()
        again.set()

    def handler(client):
        client.receive(10)  # until the shutdown
        signal.pthread_kill(main, signal.SIGUSR1)
        again.wait(10)

    previous = signal.signal(signal.SIGUSR1, close_again)
    try:
        server = serving(handler, close_timeout=0.1)
        with raw_websocket(server):
            server.close()
        assert again.is_set()
    finally:
        signal.signal(signal.SIGUSR1, previous)


@pytest.mark.threads
def test_an_interrupted_wait_for_another_close_leaves_that_to_go_on(monkeypatch):
    leave = threading.Event()

    def handler(client):
        client.receive(10)  # until the shutdown
        leave.wait(10)

    def interrupt(*_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    server = serving(handler, close_timeout=0.1)
    with raw_websocket(server):
        closing = Running(server.close)
        until(lambda: server._closing._closer)
        monkeypatch.setattr(server._closing.done, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            server.close()
        assert not server.wait(0)
        leave.set()
        closing.result()
        assert server.wait(0)


@pytest.mark.threads
@pytest.mark.parametrize("step", ["_thread.join", "_sessions.close", "_closing.done.set"])
def test_another_close_does_what_an_interrupted_one_has_left(monkeypatch, step):
    def interrupt(*_):
        monkeypatch.undo()
        raise KeyboardInterrupt

    server = serving(echo, close_timeout=0.1)
    with raw_websocket(server) as client:
        until(lambda: server.connections)
        name, _, method = step.rpartition(".")
        monkeypatch.setattr(attrgetter(name)(server), method, interrupt)
        with pytest.raises(KeyboardInterrupt):
            server.close()
        for _ in range(2):
            server.close()
            assert server.wait(0)
            assert server_threads() == []
        assert client.close_code() == 1001


def test_connections_are_told_without_the_lock_that_ending_threads_need():
    # Else a signal handler that closes the server while they are told would wait for ever.
    def tell():
        return server._sessions.includes_this_thread(), len(server.connections)

    with serving(echo, close_timeout=0.1) as server, raw_websocket(server):
        until(lambda: server.connections)
        with server._sessions._lock:
            assert Running(tell).result(10) == (False, 1)


def test_close_from_a_handler_while_another_thread_closes():
    entered, go = threading.Event(), threading.Event()

    def handler(client):
        entered.set()
        go.wait(10)
        server.close()

    server = serving(handler)
    with raw_websocket(server) as client:
        assert entered.wait(10)
        closing = threading.Thread(target=server.close)
        closing.start()
        assert client.close_code() == 1001
        go.set()
        client.leave(1001)
        closing.join(4)  # below shutdown_timeout: neither has waited for the other
        assert not closing.is_alive()


@pytest.mark.abuse(71)
def test_a_peer_that_does_not_answer_the_close_is_ended():
    def handler(client):
        client.receive(None)

    server = serving(handler, shutdown_timeout=0.2, close_timeout=30)
    with raw_websocket(server) as client:
        start = time.monotonic()
        server.close()
        assert time.monotonic() - start < 3
        assert client.close_code() == 1001
        assert client.ended()
    assert server_threads() == []


def test_a_handler_that_takes_no_notice_is_left_behind(log):
    leave, entered = threading.Event(), threading.Event()

    def handler(client):
        entered.set()
        leave.wait(30)

    server = serving(handler, shutdown_timeout=0.1)
    with raw_websocket(server) as client, pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sessions, "_LEAVE", 0.1)
        assert entered.wait(10)
        server.close()
        log.wait_for(f"{address_text(client.address)} goes on after the shutdown")
        leave.set()


@pytest.mark.parametrize("count", [0, 1])
def test_without_any_time_an_acceptor_that_is_not_busy_is_not_told_of(log, count):
    for _ in range(20):  # it was a race, which the acceptor lost as a rule
        server = serving(echo, shutdown_timeout=0)
        with contextlib.ExitStack() as stack:
            for _ in range(count):
                stack.enter_context(raw_websocket(server)).send(1, b"hello")
            server.close()
    assert not [text for text in log.texts(logging.WARNING) if "the acceptor" in text]


def test_an_acceptor_that_is_held_up_does_not_hold_up_the_shutdown(log):
    # By a handler of the program's log, which is all of the program that runs there.
    held, leave = threading.Event(), threading.Event()

    def hold(record):
        if "404" in record.getMessage():
            held.set()
            leave.wait(30)
        return True

    access = logging.getLogger("scriptling_ws.access")
    access.addFilter(hold)
    try:
        server = serving(routes=routes_of(), shutdown_timeout=0.3)
        with raw_websocket(server, "/ws") as client, dial(server) as sock:
            sock.sendall(head("/nowhere"))
            assert held.wait(10)
            closing = Running(server.close)
            assert client.close_code() == 1001
            client.leave(1001)
            start = time.monotonic()
            closing.result()
            assert time.monotonic() - start < 5
            log.wait_for("the acceptor is busy, and refuses what it takes up now: look for a log")
            log.wait_for("its thread is left behind")
            leave.set()
            server._thread.join(10)
            assert server_threads() == []
            with contextlib.suppress(ConnectionResetError):
                read_all(sock)
    finally:
        access.removeFilter(hold)


def test_a_handler_that_starts_while_the_server_closes_is_told():
    # What a busy acceptor takes up after `close` has told all others.
    with serving(echo, shutdown_timeout=0.2) as server:
        server._sessions._closing = True
        assert Answer(read_after(server, upgrade())).status == 503


def test_a_page_in_progress_is_finished():
    entered, leave = threading.Event(), threading.Event()

    def page(request):
        entered.set()
        leave.wait(10)
        return "finished"

    server = serving(routes=routes_of(page=page))
    with dial(server) as sock:
        sock.sendall(head("/page"))
        assert entered.wait(10)
        closing = threading.Thread(target=server.close)
        closing.start()
        leave.set()
        assert Answer(read_all(sock)).body == b"finished"
        closing.join(10)
        assert not closing.is_alive()


def test_a_block_that_raises_closes_too():
    with pytest.raises(ZeroDivisionError), serving(echo) as server:
        raise ZeroDivisionError
    assert server.wait(0)


def test_wait_times_out():
    with serving(echo) as server:
        assert not server.wait(0.01)
        with pytest.raises(ValueError):
            server.wait(-1)


# -- serve and its signals -------------------------------------------------


SIGHUP = getattr(signal, "SIGHUP", None)
ENDING = [number for number in (signal.SIGINT, signal.SIGTERM, SIGHUP) if number is not None]
DEFAULTS = {signal.SIGINT: signal.default_int_handler}

needs_sighup = pytest.mark.skipif(SIGHUP is None, reason="no SIGHUP here")


@contextlib.contextmanager
def handled(number, handler):
    """A signal with another handler than the test's own."""
    previous = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, previous)


@pytest.mark.parametrize("number", ENDING)
def test_serve_until_a_signal(number):
    before = {each: signal.getsignal(each) for each in ENDING}
    codes = []

    def client(url, connected):
        with connect(url) as peer:
            connected.set()
            try:
                peer.recv(30)
            except PeerClosed as closed:
                codes.append(closed.rcvd.code)

    threads = []

    def ready(server):
        connected = threading.Event()
        threads.append(threading.Thread(target=client, args=(server.url, connected)))
        threads[0].start()
        assert connected.wait(10)
        signal.raise_signal(number)

    with handled(number, DEFAULTS.get(number, signal.SIG_DFL)):  # nohup may have it ignored
        before[number] = signal.getsignal(number)
        serve(echo, port=0, ready=ready)
        threads[0].join(10)
        assert codes == [1001]
        assert {each: signal.getsignal(each) for each in before} == before
        assert signal.set_wakeup_fd(-1) == -1


def serve_through(number):
    """Serve, send a signal that is not to end it, see that it serves on, and close it."""
    answers = []

    def use(server):
        with raw_websocket(server) as client:
            client.send(1, b"served on")
            answers.append(client.receive())
        server.close()

    def ready(server):
        signal.raise_signal(number)
        users.append(Running(use, server))

    users = []
    serve(echo, port=0, ready=ready, close_timeout=0.1)
    users[0].result()
    assert answers == [(1, b"served on")]


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_that_is_ignored_stays_ignored(number):
    with handled(number, signal.SIG_IGN):
        serve_through(number)
        assert signal.getsignal(number) == signal.SIG_IGN


@pytest.mark.parametrize("number", ENDING)
def test_a_programs_own_handler_is_back_afterwards(number):
    seen = []

    def handle(number, frame):
        seen.append(number)

    with handled(number, handle):
        serve(echo, port=0, ready=lambda server: signal.raise_signal(number))
        assert signal.getsignal(number) is handle
    assert not seen


@contextlib.contextmanager
def struck(monkeypatch, step):
    """A signal handler raises right after the step of that number, of `_server.signals`."""
    steps = iter(range(100))

    def after(function):
        def call(*args, **keywords):
            result = function(*args, **keywords)
            if next(steps) == step:
                raise Interrupt
            return result

        return call

    with monkeypatch.context() as patch:
        patch.setattr(_signals.signal, "signal", after(signal.signal))
        patch.setattr(_signals.signal, "set_wakeup_fd", after(signal.set_wakeup_fd))
        yield


@pytest.mark.abuse(70)
@pytest.mark.parametrize("step", range(2 * len(ENDING) + 1))
def test_a_handler_that_raises_leaves_no_signal_taken_over(monkeypatch, step):
    own = socket.socketpair()
    own[1].setblocking(False)
    before = signal.set_wakeup_fd(own[1].fileno())
    handlers = {number: signal.getsignal(number) for number in ENDING}
    try:
        with struck(monkeypatch, step), pytest.raises(Interrupt), StopSignal() as stop:
            stop.set()
            stop.wait()
        assert {number: signal.getsignal(number) for number in ENDING} == handlers
        assert signal.set_wakeup_fd(before) == own[1].fileno()
    finally:
        signal.set_wakeup_fd(before)
        for end in own:
            end.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there nobody knows what blocks")
@pytest.mark.parametrize(
    ("spoil", "error"),
    [(socket.socket.close, OSError), (lambda own: os.set_blocking(own.fileno(), True), ValueError)],
)
def test_where_the_program_s_own_descriptor_cannot_be_put_back_all_else_is(spoil, error):
    own = socket.socketpair()
    own[1].setblocking(False)
    before = signal.set_wakeup_fd(own[1].fileno())
    handlers = {number: signal.getsignal(number) for number in ENDING}
    try:
        with pytest.raises(error), StopSignal() as stop:
            spoil(own[1])
        assert {number: signal.getsignal(number) for number in ENDING} == handlers
        assert signal.set_wakeup_fd(-1) == -1
        stop.restore()  # once more, which changes nothing
        assert {number: signal.getsignal(number) for number in ENDING} == handlers
    finally:
        signal.set_wakeup_fd(before)
        for end in own:
            end.close()


def test_sigint_is_the_last_to_come_back(monkeypatch):
    calls = []
    with handled(signal.SIGINT, signal.default_int_handler):
        with StopSignal():
            real = signal.signal
            monkeypatch.setattr(
                _signals.signal, "signal", lambda n, h: (calls.append(n), real(n, h))[1]
            )
        monkeypatch.undo()
    assert calls[-1] == signal.SIGINT
    assert len(calls) == len(ENDING)


@needs_sighup
@pytest.mark.parametrize(
    ("ignored", "sent", "code"), [("INT HUP", "INT", 0), ("INT HUP", "HUP", 0), ("INT", "HUP", 0)]
)
def test_signals_that_the_process_is_started_with(ignored, sent, code):
    """As a shell's `&` and `nohup` start it: what is ignored does not end it, SIGHUP else does."""
    program = (
        "import scriptling_ws as ws; "
        "ws.serve(lambda c: [c.send(m) for m in c], port=0, ready=lambda s: print(s.url, flush=1))"
    )
    shell = f'trap "" {ignored}; exec "$0" -c "$1"'
    with (
        handled(SIGHUP, signal.SIG_DFL),  # nohup may have it ignored
        Process("sh", "-c", shell, sys.executable, program) as server,
    ):
        url = server.line()
        with connect(url) as client:
            server.send_signal(getattr(signal, f"SIG{sent}"))
            if sent in ignored.split():
                client.send("served on")
                assert client.recv(10) == "served on"
                server.send_signal(signal.SIGTERM)
            with pytest.raises(PeerClosed) as closed:
                client.recv(10)
            assert closed.value.rcvd.code == 1001
        assert server.finish() == ([], code)


def test_a_handler_that_is_not_pythons_is_not_put_back(monkeypatch):
    # A program that embeds Python may have one: `getsignal` gives None for it, `signal` takes none.
    put, real, known = [], signal.signal, signal.getsignal

    def note(number, handler):
        put.append(number)
        return real(number, handler)

    def foreign(number):
        return None if number == signal.SIGTERM else known(number)

    before = known(signal.SIGTERM)
    monkeypatch.setattr(signal, "signal", note)
    monkeypatch.setattr(signal, "getsignal", foreign)
    try:
        serve(echo, port=0, ready=lambda server: server.close())
    finally:
        real(signal.SIGTERM, before)
    assert put.count(signal.SIGTERM) == 1  # taken over, and no more
    assert put.count(signal.SIGINT) == 2


def test_other_signals_do_not_end_it():
    if not hasattr(signal, "SIGUSR1"):
        pytest.skip("no SIGUSR1 here")
    seen = []
    previous = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))

    def ready(server):
        signal.raise_signal(signal.SIGUSR1)
        timer = threading.Timer(0.2, signal.raise_signal, (signal.SIGTERM,))
        timer.daemon = True
        timer.start()

    start = time.monotonic()
    try:
        serve(echo, port=0, ready=ready)
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert seen == [signal.SIGUSR1]
    assert time.monotonic() - start >= 0.2


def test_serve_in_another_thread():
    servers, ready = [], threading.Event()

    def on_ready(server):
        servers.append(server)
        ready.set()

    thread = threading.Thread(target=serve, args=(echo, "127.0.0.1", 0), kwargs={"ready": on_ready})
    thread.start()
    assert ready.wait(10)
    with connect(servers[0].url) as client:
        client.send("x")
        assert client.recv(10) == "x"
    servers[0].close()
    thread.join(10)
    assert not thread.is_alive()


def test_serve_forever_ends_with_close():
    server = serving(echo)
    timer = threading.Timer(0.05, server.close)
    timer.start()
    server.serve_forever()
    timer.join(10)
    assert server.wait(0)
    server.serve_forever()  # closed already: returns at once
