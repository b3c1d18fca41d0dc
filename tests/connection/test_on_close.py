"""A connection that ends while its caller waits for something else: who is told, what is free."""

import contextlib
import queue
import signal
import sys
import threading

import pytest

from frames import CLOSE, close_frame
from looped import looped
from pairs import (
    KIB,
    MIB,
    SOON,
    Running,
    arrived,
    both_ends,
    connection,
    raw_peer,
    receive_close,
    receive_to_end,
    reset,
    roles,
    tcp_pair,
    tls_contexts,
    tls_pair,
    transports,
    until,
)
from scriptling_ws import ConnectionClosed, HandshakeError, SendTimeout, connect
from scriptling_ws._connection import keepalive as _keepalive
from scriptling_ws._connection import pinger as _pinger
from servers import dial, raw_websocket, serving, upgrade

OFTEN = 0.02


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """What is done once a second is done more often here."""
    monkeypatch.setattr(_pinger, "LOOK", OFTEN)
    monkeypatch.setattr(_keepalive, "_SWEEP", OFTEN)


class Told:
    """Something that is told, once."""

    def __init__(self):
        self.times = queue.SimpleQueue()

    def __call__(self):
        self.times.put(None)

    def once(self):
        self.times.get(timeout=SOON)
        assert self.times.empty()


def leave(conn, peer, how, *, client):
    """What a peer, or this end, does."""
    if how == "close":
        peer.sendall(close_frame(1000, mask=not client))
    elif how == "end":
        peer.close()
    elif how == "reset":
        reset(peer)
    elif how == "error":
        peer.sendall(b"\xff" * 20)
    elif how == "local":
        conn.close()
    elif how == "shutdown":
        conn._begin_close(1001)
    else:
        conn._abort()


HOWS = ["close", "end", "reset", "error", "local", "shutdown", "abort"]


@roles
@looped("how", HOWS)
@looped("reading", [False, True])
def test_it_is_told_once(client, how, reading):
    told = Told()
    with raw_peer(client=client, close_timeout=0.1) as (conn, peer):
        conn.on_close(told)
        receiving = Running(conn.receive, None) if reading else None
        leave(conn, peer, how, client=client)
        told.once()
        conn.close()
        told.times.put("the end")
        assert told.times.get() == "the end"  # and nothing before it
        if receiving:
            assert receiving.result() is None


def test_a_peer_that_was_given_up():
    told = Told()
    with raw_peer(ping_interval=OFTEN, ping_timeout=OFTEN) as (conn, _):
        conn.on_close(told)
        told.once()
        assert conn.close_code == 1011


def test_a_send_that_fails_tells_it():
    told = Told()
    with raw_peer(ping_interval=None) as (conn, peer):
        conn.on_close(told)
        reset(peer)
        with contextlib.suppress(OSError):
            for _ in range(100):
                conn.send("x")
        told.once()


def test_what_is_over_already_tells_at_once():
    told = Told()
    with both_ends(close_timeout=0) as (client, _):
        client.close()
        client.on_close(told)
        told.once()


def test_several_are_told_whatever_one_of_them_raises(caplog):
    def fail():
        raise ValueError("the callback's")

    told = [Told(), Told()]
    with both_ends(close_timeout=0) as (client, _):
        client.on_close(told[0])
        client.on_close(fail)
        client.on_close(told[1])
        client.close()
        for each in told:
            each.once()
    assert "the callback's" in caplog.text


def test_keepalive_goes_on_whatever_is_raised_on_its_thread(caplog):
    """It tells of an end that nobody else sees. An exit there would end it for all connections."""
    told = threading.Event()
    with both_ends() as (first, far), both_ends() as (second, other):
        first.on_close(sys.exit)
        second.on_close(told.set)
        far.close()
        until(lambda: "on_close() has failed" in caplog.text)
        other.close()
        assert told.wait(10)


def test_a_signal_handlers_exit_leaves_a_callback():
    with both_ends() as (client, _):
        client.on_close(lambda: signal.raise_signal(signal.SIGTERM))
        before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
        try:
            with pytest.raises(SystemExit) as left:
                client.close()
        finally:
            signal.signal(signal.SIGTERM, before)
        assert left.value.code == 3


def test_what_cannot_be_called_is_refused():
    with both_ends() as (client, _), pytest.raises(TypeError, match="function"):
        client.on_close("not a function")


# -- on a server ------------------------------------------------------------


@transports
@pytest.mark.parametrize("ping_interval", [None, 20])
@pytest.mark.parametrize("how", ["close", "end"])
def test_a_handler_that_waits_for_something_else_hears_of_its_peers_leaving(
    tls, ping_interval, how
):
    left = queue.SimpleQueue()

    def handler(client):
        waiting = queue.SimpleQueue()
        client.on_close(lambda: waiting.put("it has left"))
        left.put(waiting.get(timeout=SOON))

    contexts = tls_contexts() if tls else (None, None)
    with serving(handler, ping_interval=ping_interval, ssl_context=contexts[1]) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        conn = connect(url, ssl_context=contexts[0], close_timeout=SOON)
        if how == "close":
            conn.close()
            assert conn.close_code == 1000  # it was answered
        else:
            conn._abort()
        assert left.get(timeout=SOON) == "it has left"
        conn.close()


def test_a_peer_that_leaves_is_noticed_behind_what_it_has_sent():
    told = Told()
    near, far = tcp_pair()
    conn = connection(near, client=False, close_timeout=0.1)
    conn.on_close(told)
    far.sendall(b"\x81\x80\0\0\0\0" * 3)  # messages that nobody takes
    arrived(conn)
    far.close()
    told.once()
    assert [conn.receive(0) for _ in range(4)] == ["", "", "", None]
    conn.close()


def test_the_place_of_a_peer_that_has_left_is_free():
    leave = threading.Event()
    with serving(lambda client: leave.wait(SOON), max_connections=2) as server:
        for _ in range(2):
            conn = connect(server.url)
            until(lambda: len(server.connections) == 1)
            conn.close()
            until(lambda: not server.connections)
        leave.set()


@pytest.mark.abuse(63)
def test_handlers_that_go_on_without_their_peers_are_bounded():
    leave = threading.Event()
    with serving(lambda client: leave.wait(SOON), max_connections=2) as server:
        for _ in range(2):
            with connect(server.url):
                until(lambda: len(server.connections) == 1)
            until(lambda: not server.connections)
        with pytest.raises(HandshakeError) as caught:
            connect(server.url)
        assert caught.value.status == 503
        assert b"have left" in caught.value.body
        leave.set()
        until(lambda: opens(server))


def opens(server):
    with contextlib.suppress(HandshakeError), connect(server.url):
        return True


def test_a_server_without_a_thread_says_so(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(OSError, match="needs threads"):
        serving(lambda client: None)


def test_a_handler_hears_of_the_servers_closing():
    told = Told()

    def handler(client):
        ready.set()
        waiting = threading.Event()
        client.on_close(waiting.set)
        assert waiting.wait(SOON)
        told()

    ready = threading.Event()
    with serving(handler, shutdown_timeout=SOON) as server, raw_websocket(server) as client:
        assert ready.wait(SOON)
        closing = Running(server.close)
        assert client.receive()[0] == CLOSE
        client.leave(1001)
        closing.result(SOON)
    told.once()


def test_a_dead_peer_of_a_stubborn_handler_is_no_connection():
    leave = threading.Event()
    with serving(lambda client: leave.wait(SOON)) as server:
        with dial(server) as sock:
            sock.sendall(upgrade())
            until(lambda: len(server.connections) == 1)
        until(lambda: not server.connections)
        leave.set()


# -- a time for one send -----------------------------------------------------


@transports
@pytest.mark.parametrize("size", [KIB, 64 * KIB, 2 * MIB])
@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_send_has_a_time_of_its_own(tls, size, timeout):
    near, far = tls_pair(buffer=64 * KIB) if tls else tcp_pair(64 * KIB)
    conn = connection(near, send_timeout=None, ping_interval=None)
    with contextlib.ExitStack() as stack:
        stack.callback(far.close)
        stack.callback(conn.close)
        stack.callback(conn._abort)

        def send():
            with pytest.raises(SendTimeout):
                for _ in range(10_000):
                    conn.send_binary(bytes(size), timeout=timeout)

        Running(send).result(SOON)


def test_a_send_that_timed_out_before_its_first_byte_leaves_the_connection_usable():
    near, far = tcp_pair(64 * KIB)
    conn = connection(near, ping_interval=None)
    with far:
        with conn._outlet.lock:
            for call in (conn.send, conn.send_binary):
                message = "x" if call == conn.send else b"x"
                with pytest.raises(SendTimeout, match="the timeout"):
                    Running(lambda c=call, m=message: c(m, timeout=0.01)).result(SOON)
        conn.send("usable", timeout=None)
        assert conn.connected()
        conn._abort()
        conn.close()


@pytest.mark.parametrize(("timeout", "error"), [(-1, ValueError), ("1", TypeError)])
def test_a_wrong_time_sends_nothing(timeout, error):
    with both_ends() as (client, server):
        for call, message in ((client.send, "x"), (client.send_binary, b"x")):
            with pytest.raises(error, match="timeout"):
                call(message, timeout=timeout)
        client.send("the first")
        assert server.receive(SOON) == "the first"


# -- what a caller is told ------------------------------------------------------


@pytest.mark.parametrize("in_turn", [False, True])
def test_send_raises_once_receive_has_told_of_an_end_that_keepalive_saw_off(in_turn):
    with raw_peer(ping_interval=OFTEN) as (conn, peer):
        peer.sendall(close_frame(1000))
        peer.close()
        until(lambda: conn._link.lifecycle.disposed)
        with conn._intake.lock if in_turn else contextlib.nullcontext():
            assert conn.receive(0) is None
        with pytest.raises(ConnectionClosed):
            conn.send("too late")


def test_nobody_sees_off_what_is_over():
    with raw_peer(ping_interval=None) as (conn, _):
        with conn._intake.lock, conn._outlet.lock:
            conn._link.dispose()
        told = Told()
        conn.on_close(told)
        told.once()
        assert not conn._link.watched


def test_a_close_that_comes_with_the_handshake_is_seen_to_without_a_call():
    near, far = tcp_pair()
    with far:
        conn = connection(near, received=close_frame(1001), ping_interval=None, close_timeout=0.05)
        assert receive_close(far)[0] == 1001
        assert receive_to_end(far) == b""
        until(lambda: conn.fileno() == -1)
        conn.close()
