"""A process that forks while it has connections: the child touches none of them."""

import contextlib
import errno
import os
import signal
import socket
import threading

import pytest

from children import forked, in_child, living_child, outcome_of
from frames import CLOSE, TEXT, frame
from pairs import (
    SOON,
    Running,
    both_ends,
    connection,
    raw_peer,
    receive_frame,
    running,
    tcp_pair,
    until,
)
from scriptling_ws import ConnectionClosed, connect
from scriptling_ws._kernel import next_key
from scriptling_ws._network.deadline import Deadline
from scriptling_ws._network.fork import tell_after_fork
from scriptling_ws._network.transport import Transport
from scriptling_ws._server.limits import WEBSOCKET
from servers import dial, echo, has_accepted, raw_websocket, serving

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.abuse(72),
]


def every_call(conn):
    """What each call of a connection comes to."""
    calls = {
        "send": lambda: conn.send("x"),
        "send_binary": lambda: conn.send_binary(b"x" * 1_000_000),
        "send_many": lambda: conn.send_many(["x"]),
        "receive": lambda: conn.receive(None),
        "ping": lambda: conn.ping(None),
        "receive_many": lambda: conn.receive_many(10, None),
        "iterate": lambda: list(conn),
        "connected": conn.connected,
        "close": conn.close,
        "fileno": conn.fileno,
        "code": lambda: conn.close_code,
        "reason": lambda: conn.close_reason,
    }
    return {name: outcome_of(call) for name, call in calls.items()}


def assert_closed(outcome):
    for name in ("send", "send_binary", "send_many"):
        assert "ConnectionClosed" in outcome.pop(name)
    assert "forked child cannot use it" in outcome.pop("reason")
    assert outcome == {
        "receive": None,
        "ping": None,
        "receive_many": [],
        "iterate": [],
        "connected": False,
        "close": None,
        "fileno": -1,
        "code": 1006,
    }


@pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])
def test_a_child_can_use_neither_end_and_the_parent_both(tls):
    with both_ends(tls=tls) as (client, server):
        server.send("before the fork")
        for conn in (client, server):
            assert_closed(in_child(lambda conn=conn: every_call(conn)))
        assert client.receive(SOON) == "before the fork"
        client.send("after it")
        assert server.receive(SOON) == "after it"
        with running(lambda: server.receive(SOON)):
            client.close()
        assert client.close_code == server.close_code == 1000


@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
def test_the_peer_hears_nothing_of_a_child(client):
    with raw_peer(client=client) as (conn, peer):
        in_child(lambda: every_call(conn))
        conn.send("the first that comes")
        assert receive_frame(peer) == (0x81, b"the first that comes")


def test_the_error_says_what_is_wrong():
    with raw_peer() as (conn, _):
        assert "parent process's" in in_child(lambda: conn.send("x"))
        assert "ConnectionClosed(1006" in in_child(lambda: repr(caught(conn)))


def caught(conn):
    with pytest.raises(ConnectionClosed) as error:
        conn.send("x")
    assert error.value.code == 1006
    return f"ConnectionClosed({error.value.code}"


def test_messages_that_had_come_are_the_parents():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"a") + frame(TEXT, b"b"))
        until(conn.connected)
        assert conn.receive(SOON) == "a"
        assert in_child(lambda: conn.receive(0)) is None
        assert conn.receive(SOON) == "b"


def test_how_a_connection_had_ended_stays():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(CLOSE, b"\x0f\xa0bye"))
        peer.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) is None
        assert in_child(lambda: [conn.close_code, conn.close_reason]) == [4000, "bye"]


def test_locks_that_other_threads_hold_are_free_in_the_child():
    with raw_peer() as (conn, peer):
        receiving = Running(conn.receive, None)
        until(conn._intake.lock.locked)
        sending = Running(conn.send_binary, bytes(20_000_000))
        until(conn._outlet.lock.locked)
        with conn._link.lifecycle.lock, conn._link.transport._wake_lock:
            held = Running(in_child, lambda: every_call(conn))
            assert_closed(held.result())
        peer.close()
        with contextlib.suppress(ConnectionClosed, TimeoutError):
            sending.result()
        assert receiving.result() is None


@contextlib.contextmanager
def interrupted(lock, handle, then):
    """Calls `handle` in a signal handler once the main thread has the lock, and then `then`."""
    main = threading.main_thread().ident
    handled = threading.Event()

    def act(number, stack):
        handle()
        handled.set()

    def shoot():
        until(lock.locked)
        signal.pthread_kill(main, signal.SIGUSR1)
        assert handled.wait(SOON)
        then()

    previous = signal.signal(signal.SIGUSR1, act)
    with running(shoot):
        yield
    signal.signal(signal.SIGUSR1, previous)


def test_a_fork_in_a_signal_handler_during_a_receive():
    outcomes = []

    def handle():  # where `receive` may not be called, nor `send`, but `close` may
        outcomes.append(in_child(lambda: [conn.close(), conn.connected(), conn.fileno()]))

    with (
        raw_peer() as (conn, peer),
        interrupted(conn._intake.lock, handle, lambda: peer.sendall(frame(TEXT, b"whole"))),
    ):
        assert conn.receive(None) == "whole"
    assert outcomes == [[None, False, -1]]


def forker():
    """A function that forks, and the list of the processes that it made: 0 in a child."""
    children = []

    def handle():
        children.append(forked())

    return handle, children


def test_a_receive_that_goes_on_in_a_child_ends_there():
    handle, children = forker()
    with (
        raw_peer() as (conn, peer),
        interrupted(conn._intake.lock, handle, lambda: peer.sendall(frame(TEXT, b"whole"))),
    ):
        message = "an exception"
        try:
            message = conn.receive(None)
        finally:
            if children == [0]:
                os._exit(0 if message is None else 1)
        assert message == "whole"
        assert os.waitpid(children[0], 0)[1] == 0


@pytest.mark.parametrize("tls", [False, True])
def test_a_send_that_goes_on_in_a_child_ends_there(tls):
    handle, children = forker()
    data = bytes(20 * 1024 * 1024)
    received = []
    with (
        both_ends(tls=tls, binary_type=bytes, max_message_size=None) as (client, server),
        interrupted(client._outlet.lock, handle, lambda: received.append(server.receive(SOON))),
    ):
        error = None
        try:
            client.send_binary(data)
        except BaseException as raised:
            error = raised
        if children == [0]:
            os._exit(0 if isinstance(error, ConnectionClosed) else 1)
        assert error is None
        assert os.waitpid(children[0], 0)[1] == 0
    assert received == [data]


def test_a_child_does_not_keep_the_stream_open():
    near, far = tcp_pair()
    far.settimeout(SOON)
    transport = Transport(near)
    with far, living_child(far.close):
        transport.close()
        assert far.recv(1) == b""  # were the child's copy open, the end would not come


class Failing:
    """What cannot be closed in a child, such as a descriptor that is just being closed."""

    def _after_fork(self):
        raise OSError(errno.EBADF, "closed already")


def test_what_fails_in_a_child_leaves_nothing_else_open(caplog):
    failing = [Failing() for _ in range(20)]
    for each in failing:
        tell_after_fork(each)
    with both_ends() as ends:
        assert_closed(in_child(lambda: every_call(ends[0])))
        assert_closed(in_child(lambda: every_call(ends[1])))
        ends[0].send("the parent's")
        assert ends[1].receive(SOON) == "the parent's"


def test_masks_differ():
    with raw_peer() as (conn, _):
        conn.send("keys were drawn")
        theirs = in_child(lambda: [next_key().hex() for _ in range(100)])
        ours = [next_key().hex() for _ in range(100)]
        assert not set(theirs) & set(ours)


def test_a_child_can_open_connections_of_its_own():
    with serving(echo) as server:

        def call():
            with connect(server.url, SOON) as conn:
                conn.send("from the child")
                return conn.receive(SOON)

        with connect(server.url, SOON) as conn:
            assert in_child(call) == "from the child"
            conn.send("from the parent")
            assert conn.receive(SOON) == "from the parent"


def test_a_server_goes_on_in_the_parent_alone():
    with serving(echo) as server, raw_websocket(server) as client:

        def call():
            before = len(server.connections)
            server.close()
            return [before, server.wait(0), outcome_of(server.serve_forever)]

        assert in_child(call) == [0, True, None]
        client.send(1, b"still served")
        assert client.receive() == (1, b"still served")
        with raw_websocket(server) as other:
            other.send(1, b"and so are new ones")
            assert other.receive() == (1, b"and so are new ones")


def test_a_child_does_not_keep_a_servers_port():
    server = serving(echo)
    half = dial(server)
    half.sendall(b"GET / HTTP")  # a handshake under way
    until(lambda: has_accepted(server, half))
    with half, living_child(half.close):
        server.close()
        assert half.recv(1) == b""
        with serving(echo, port=server.port) as again, raw_websocket(again):
            pass


def test_the_locks_of_a_server_that_other_threads_hold_are_free_in_the_child():
    with serving(echo) as server:
        sessions, acceptor = server._sessions, server._acceptor
        limits = acceptor._callers.limits

        def call():
            place = limits.arrive("127.0.0.1:1")  # as where a handler has forked and ends
            place.enter(WEBSOCKET)
            place.leave()
            sessions.close(Deadline(0))
            acceptor.stop(Deadline(0))
            server.close()
            return True

        with (
            sessions._lock,
            limits._lock,
            acceptor._inbox._lock,
            server._closing._lock,
        ):
            assert Running(in_child, call).result() is True


def test_a_handler_that_forks():
    children = []

    def handler(client):
        client.receive(SOON)
        children.append(in_child(lambda: every_call(client)))
        client.send("the parent's")

    with serving(handler) as server, raw_websocket(server) as client:
        client.send(1, b"go")
        assert client.receive() == (1, b"the parent's")
        assert client.close_code() == 1000
    assert_closed(children[0])


def test_without_a_fork_nothing_is_kept():
    import gc
    import weakref

    near, far = tcp_pair()
    conn = connection(near, close_timeout=0)
    far.close()
    conn.close()
    gone = weakref.ref(conn)
    del conn
    gc.collect()
    assert gone() is None


def test_a_childs_end_of_a_connection_tells_nobody():
    told = []
    with both_ends() as (client, _):
        client.on_close(lambda: told.append("closed"))

        def close():
            client.close()
            client.on_close(lambda: told.append("the child's own"))
            return told

        assert in_child(close) == ["the child's own"]
        assert told == []
