"""The gate: threads that wait go to the GIL a few at a time, and none is forgotten.

Here every wait goes through it; otherwise it is used while many connections are active, or many
threads ask for the GIL.
"""

import contextlib
import mmap
import os
import signal
import socket
import sys
import threading
import time
from math import inf as INFINITY
from pathlib import Path

import pytest

from frames import TEXT, frame
from kernels import GATE
from pairs import SOON, Running, both_ends, connection, raw_peer, reset, tcp_pair, until
from processes import Process, python_environment
from scriptling_ws import _kernel as kernel

if not kernel.open_gate():
    pytest.skip("no gate here: it is the compiled kernel's, on Linux", allow_module_level=True)


PAST = 0.05  # seconds after which what was active before is so no more: some windows


@pytest.fixture(autouse=True)
def always():
    kernel.use_gate_from(1)
    yield
    kernel.use_gate_from(GATE)


def at_the_gate():
    """The descriptors that the gate's epoll knows."""
    known = set()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:[eventpoll]":
                lines = Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines()
                known |= {int(line.split()[1]) for line in lines if line.startswith("tfd:")}
    return known


def waits_at_the_gate(conn):
    return conn._link.channel.reader and conn.fileno() in at_the_gate()


@contextlib.contextmanager
def echoing(count, reply=lambda conn, message: conn.send(message)):
    """Connections, and as many peers with a thread each that replies."""

    def serve(conn):
        for message in conn:
            reply(conn, message)

    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(both_ends(ping_interval=None)) for _ in range(count)]
        serving = [Running(serve, server) for _, server in pairs]
        yield [client for client, _ in pairs]
        for client, _ in pairs:
            client.close()
        for each in serving:
            each.result()


@pytest.mark.parametrize("count", [1, 2, 40])
def test_no_wake_up_is_lost(count):
    """One lost, and its echo never comes."""

    def talk(conn):
        for number in range(12_000 // count // 4):
            text = str(number)
            conn.send(text)
            assert conn.receive(SOON) == text

    with echoing(count) as clients:
        for each in [Running(talk, client) for client in clients]:
            each.result()


def test_messages_that_come_while_none_waits():
    with echoing(3, lambda conn, message: conn.send_many(["a", "b", message])) as clients:
        for number in range(300):
            for client in clients:
                client.send(str(number))
            for client in clients:
                assert [client.receive(SOON) for _ in range(3)] == ["a", "b", str(number)]


@pytest.mark.parametrize("busy", ["sleeps", "computes"])
def test_handlers_that_take_their_time_hold_up_nobody(busy):
    """More of them than may start at a time."""
    go_on = threading.Event()

    def slow(conn, message):
        if message != "quick" and busy == "sleeps":
            go_on.wait(SOON)
        while message != "quick" and not go_on.is_set():
            pass  # one that computes
        conn.send(message)

    with echoing(10, slow) as clients:
        for client in clients[:5]:
            client.send("slow")
        until(lambda: not any(client._link.channel.heard for client in clients[:5]))
        try:
            for client in clients[5:]:
                client.send("quick")
            assert [client.receive(SOON) for client in clients[5:]] == ["quick"] * 5
        finally:
            go_on.set()
        assert [client.receive(SOON) for client in clients[:5]] == ["slow"] * 5


@pytest.mark.parametrize("timeout", [0.001, 0.05, 1.2])
def test_a_wait_ends_in_time(timeout):
    with raw_peer(ping_interval=None) as (conn, _):
        start = time.monotonic()
        assert conn.receive(timeout) is None
        assert time.monotonic() - start >= timeout
        assert conn.fileno() in at_the_gate()


def test_a_close_wakes_who_waits():
    with raw_peer(close_timeout=60, ping_interval=None) as (conn, peer):
        receiving = Running(conn.receive, None)
        until(lambda: waits_at_the_gate(conn))
        threading.Event().wait(0.1)  # it sleeps by now
        conn._begin_close(1001)  # which waits for nobody, and the peer says nothing
        assert receiving.result() is None
        peer.close()


@pytest.mark.parametrize("end", ["fin", "reset", "abort"])
def test_the_end_wakes_who_waits(end):
    near, far = tcp_pair()
    conn = connection(near, ping_interval=None)
    receiving = Running(conn.receive, None)
    until(lambda: waits_at_the_gate(conn))
    if end == "fin":
        far.shutdown(socket.SHUT_WR)
    elif end == "reset":
        reset(far)
    else:
        conn._link.transport.abort()
    assert receiving.result() is None
    assert conn.close_code == 1006
    conn.close()
    far.close()


def test_a_descriptor_has_left_the_gate_before_it_is_closed():
    before = at_the_gate()
    for _ in range(300):  # which have the same numbers
        near, far = tcp_pair()
        conn = connection(near, ping_interval=None, close_timeout=0)
        assert conn.receive(0.001) is None
        assert at_the_gate() - before == {conn.fileno()}
        far.sendall(frame(TEXT, b"x"))
        assert conn.receive(SOON) == "x"
        copy = os.dup(conn.fileno())  # as a child has it that was just forked
        conn.close()
        assert at_the_gate() == before
        os.close(copy)
        far.close()


def test_one_that_is_let_go_of_has_left_too():
    before = at_the_gate()
    near, far = tcp_pair()
    conn = connection(near, ping_interval=None)
    assert conn.receive(0.001) is None
    with far:
        with pytest.warns(ResourceWarning):
            del conn, near
        until(lambda: at_the_gate() == before)


def test_a_large_window_is_given_back_in_a_long_wait():
    with raw_peer(ping_interval=None, binary_type=bytes) as (conn, peer):
        sending = Running(peer.sendall, frame(0x2, bytes(50_000)) * 20)
        assert [conn.receive(SOON) for _ in range(20)] == [bytes(50_000)] * 20
        sending.result()
        window = conn._link.protocol.window
        assert len(window.data) > 1024
        receiving = Running(conn.receive, None)
        until(lambda: len(window.data) == 1024)
        peer.sendall(frame(TEXT, b"x"))
        assert receiving.result() == "x"


def test_signals_are_heard_at_the_gate():
    heard = threading.Event()
    previous = signal.signal(signal.SIGUSR1, lambda *_: heard.set())
    try:
        with raw_peer(ping_interval=None) as (conn, peer):

            def strike():
                until(lambda: waits_at_the_gate(conn))
                # To another thread: the one that waits is not interrupted by it.
                signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
                assert heard.wait(SOON)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
                peer.sendall(frame(TEXT, b"after"))

            striking = Running(strike)
            assert conn.receive(None) == "after"
            striking.result()
    finally:
        signal.signal(signal.SIGUSR1, previous)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_begins_anew_and_leaves_the_parent_s_as_it_is():
    with echoing(4) as clients:
        for client in clients:
            client.send("before")
            assert client.receive(SOON) == "before"
        known = at_the_gate()
        child = os.fork()
        if not child:
            status = 1
            try:
                with both_ends(ping_interval=None) as (one, other):
                    assert one.receive(0.001) is None
                    other.send("in the child")
                    assert one.receive(SOON) == "in the child"
                    assert not at_the_gate() & (known - {one.fileno(), other.fileno()})
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert at_the_gate() == known
        for client in clients:
            client.send("after")
            assert client.receive(SOON) == "after"


def test_it_is_not_used_where_it_is_switched_off():
    kernel.use_gate_from(0)
    with raw_peer(ping_interval=None) as (conn, _):
        assert conn.receive(0.02) is None
        assert conn.fileno() not in at_the_gate()


def test_a_few_connections_wait_by_themselves():
    kernel.use_gate_from(GATE)
    with both_ends(ping_interval=None) as (one, other):
        assert one.receive(PAST) is None
        for _ in range(20):
            assert other.receive(0.002) is None
        assert other.fileno() not in at_the_gate()


@pytest.mark.parametrize("count", [11, 12])
def test_many_connections_are_those_that_were_said(count):
    kernel.use_gate_from(12)
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(raw_peer(ping_interval=None)) for _ in range(count)]
        assert pairs[0][0].receive(PAST) is None
        # A window is longer than this takes; where it is not, the next round is quicker.
        for _ in range(200):
            for conn, _ in pairs:
                assert conn.receive(0.000001) is None
            if count == 12 and at_the_gate() & {conn.fileno() for conn, _ in pairs}:
                return
        assert count == 11
        assert not at_the_gate() & {conn.fileno() for conn, _ in pairs}


def test_one_that_is_alone_again_leaves_the_gate():
    with raw_peer(ping_interval=None) as (conn, peer), raw_peer(ping_interval=None) as (other, _):
        assert other.receive(0.001) is None
        assert conn.receive(0.001) is None
        assert {conn.fileno(), other.fileno()} <= at_the_gate()
        kernel.use_gate_from(0)
        until(lambda: conn.receive(0.001) is None and conn.fileno() not in at_the_gate())
        assert other.fileno() in at_the_gate()
        kernel.use_gate_from(1)
        peer.sendall(frame(TEXT, b"x"))
        assert conn.receive(SOON) == "x"
        assert conn.receive(0.001) is None
        assert conn.fileno() in at_the_gate()


@pytest.mark.skipif(
    sys.gettrace() is not None, reason="what sleeps there takes the GIL at each line"
)
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_threads_that_queue_for_the_gil_go_to_the_gate():
    """Fewer of them than are many: all are woken at once, while another thread keeps the GIL."""
    kernel.use_gate_from(GATE)
    interval = sys.getswitchinterval()
    said = mmap.mmap(-1, 1)  # what is written here can be read without letting go of the GIL

    def wake_all(peers):
        child = os.fork()
        if child:
            return child
        try:
            for peer in peers:
                peer.sendall(frame(TEXT, b"x"))
            said[0] = 1
        finally:
            os._exit(0)

    def keep_the_gil():
        """Until the child has written, and for as long as the threads may need to wake."""
        end = INFINITY
        while time.monotonic() < end:
            if said[0] and end == INFINITY:
                end = time.monotonic() + 0.1

    def receive(conn):
        for _ in conn:
            pass

    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(raw_peer(ping_interval=None)) for _ in range(24)]
        peers = [peer for _, peer in pairs]
        receiving = [Running(receive, conn) for conn, _ in pairs]
        try:
            for _ in range(50):  # they need not all have come to wait
                said[0] = 0
                sys.setswitchinterval(10)
                child = wake_all(peers)
                keep_the_gil()
                sys.setswitchinterval(interval)
                os.waitpid(child, 0)
                if {conn.fileno() for conn, _ in pairs} & at_the_gate():
                    break
            else:
                pytest.fail("none of them has come to the gate")
        finally:
            sys.setswitchinterval(interval)
            for peer in peers:
                peer.close()
            for each in receiving:
                each.result()


# As a program imports the package, and not in the order of the tests.
FORKING = """
import os
import scriptling_ws as ws

def echo(client):
    for message in client:
        client.send(message)

with ws.Server(echo, port=0) as server, ws.connect(server.url) as conn:
    for message in ("before", "after"):
        conn.send(message)
        print(conn.receive(10), flush=True)
        child = os.fork()
        if not child:
            os._exit(0)
        os.waitpid(child, 0)
"""


def test_a_child_takes_nothing_away_from_the_gate_of_its_parent():
    environment = python_environment(SCRIPTLING_WS_GATE="1")
    with Process.python("-W", "ignore", "-c", FORKING, env=environment) as program:
        assert program.finish() == (["before", "after"], 0)
