"""The abuse cases of exhaustion, bad networks and a connection's life, through a proxy.

That a server backs off when descriptors run out is in test_cli.py and test_server_limits.py, what a
fork does in test_fork.py.
"""

import contextlib
import errno
import gc
import os
import signal
import socket
import sys
import textwrap
import threading
import time

import pytest

from frames import TEXT, frame
from jitter import wanted
from memory import tracemalloc
from pairs import MIB, SOON, Running, both_ends, raw_peer, receive_frame, reset, running, until
from places import SUPPORT
from processes import Process
from proxy import Proxy
from scriptling_ws import ConnectionClosed, HandshakeError, SendTimeout, connect
from servers import dial, echo, has_accepted, raw_websocket, serving

ends = pytest.mark.parametrize("end", ["client", "server"])


@contextlib.contextmanager
def far_apart(piece=None, **options):
    """A client's and a server's connection with a network between: (proxy, client, server)."""
    options = {"close_timeout": 0.2, **options}
    taken, leave = [], threading.Event()

    def handler(connection):
        taken.append(connection)
        leave.wait(60)

    with serving(handler, **options) as server, Proxy(server.port, piece) as proxy:
        client = connect(f"ws://127.0.0.1:{proxy.port}", SOON, **options)
        try:
            until(lambda: taken)
            yield proxy, client, taken[0]
        finally:
            leave.set()
            client._abort()
            client.close()
            taken[0]._abort()


def choose(end, proxy, client, server):
    """The connection under test, its peer, and the rule for what comes to it."""
    return (client, server, proxy.down) if end == "client" else (server, client, proxy.up)


@pytest.mark.abuse(62)
def test_a_connection_goes_on_where_no_descriptor_is_left(monkeypatch):
    def full(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    if hasattr(os, "eventfd"):
        monkeypatch.setattr(os, "eventfd", full)
    monkeypatch.setattr(socket, "socketpair", full)
    with raw_peer(close_timeout=0.1) as (conn, peer):
        assert conn.receive(0.05) is None
        assert conn.ping(0.05) is None
        assert receive_frame(peer)[0] == 0x89
        with running(lambda: conn.send_binary(bytes(8 * MIB))):
            until(conn._outlet.lock.locked)
            assert receive_frame(peer) == (0x82, bytes(8 * MIB))
        waiting = Running(lambda: conn.receive(None))
        until(conn._intake.lock.locked)
        conn.close()
        assert waiting.result() is None


# -- networks that drip, delay, cut and reset ------------------------------


@pytest.mark.abuse(41, 66)
@ends
def test_a_network_that_passes_single_bytes(end):
    message = "\u20ac" * 300
    with far_apart(1) as apart:
        conn, peer, _ = choose(end, *apart)
        with running(lambda: [peer.send(message), peer.send_binary(bytes(1000)), peer.send("")]):
            assert conn.receive(SOON) == message
            assert conn.receive(SOON) == [0] * 1000
            assert conn.receive(SOON) == ""


@pytest.mark.abuse(66)
@ends
@pytest.mark.parametrize("passed", [0, 1, 3, 8, 100, 1001])
def test_a_timeout_anywhere_in_a_message_loses_nothing(end, passed):
    """In the header, the key, the payload: the next call goes on where this one left off."""
    with far_apart(binary_type=bytes) as apart:
        conn, peer, rule = choose(end, *apart)
        rule.after(passed, "hold")
        peer.send_binary(bytes(range(200)) * 5)
        peer.send("next")
        assert rule.held.wait(SOON)
        for timeout in (0, 0, 0.02):
            assert conn.receive(timeout) is None
            assert conn.connected()
        peer_hears = Running(peer.receive, SOON)
        conn.send("the other way is open")
        assert peer_hears.result() == "the other way is open"
        rule.release()
        assert conn.receive(SOON) == bytes(range(200)) * 5
        assert conn.receive(SOON) == "next"


@pytest.mark.abuse(68)
@ends
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("passed", [0, 1, 5, 500, 150_000])
def test_a_stream_that_ends_in_a_frame(end, how, passed):
    """None, and not connected; no call spins: each takes next to no CPU."""
    with far_apart(binary_type=bytes) as apart:
        conn, peer, rule = choose(end, *apart)
        rule.after(passed, how)
        with contextlib.suppress(ConnectionClosed):
            peer.send_binary(bytes(200_000))
        start = time.thread_time()
        assert conn.receive(SOON) is None
        assert conn.connected() is False
        for _ in range(1000):
            assert conn.receive(None) is None
        assert time.thread_time() - start < 1
        assert conn.close_code == 1006
        with pytest.raises(ConnectionClosed):
            conn.send("x")


SENDS = """
    import signal, sys
    from pairs import connection, tcp_pair, tls_pair
    from scriptling_ws import ConnectionClosed

    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    near, far = (tls_pair if "tls" in sys.argv else tcp_pair)()
    far.close()
    with connection(near) as conn:
        try:
            while True:
                conn.send_binary(bytes(int(sys.argv[1])))
        except ConnectionClosed:
            print("told")
    """


@pytest.mark.abuse(67)
@pytest.mark.skipif(not hasattr(socket, "MSG_NOSIGNAL"), reason="no MSG_NOSIGNAL here")
@pytest.mark.parametrize("stream", ["tcp", "tls"])
@pytest.mark.parametrize("size", [1, 300_000])
def test_a_peer_that_has_left_ends_no_process_with_the_default_sigpipe(stream, size):
    command = ("-c", textwrap.dedent(SENDS), size, stream)
    with Process.python(*command, cwd=SUPPORT) as process:
        assert process.finish() == (["told"], 0)


@pytest.mark.abuse(68)
@pytest.mark.parametrize("how", ["fin", "rst"])
@pytest.mark.parametrize("passed", [0, 10, 60])
def test_a_stream_that_ends_in_the_handshake(how, passed):
    with serving(echo) as server, Proxy(server.port) as proxy:
        proxy.down.after(passed, how)
        with pytest.raises(OSError) as caught:  # which of them is below
            connect(f"ws://127.0.0.1:{proxy.port}", SOON)
        kind = "ConnectError" if how == "rst" else "HandshakeError"
        assert type(caught.value).__name__ == kind
        assert how == "rst" or isinstance(caught.value, HandshakeError)
        with raw_websocket(server) as client:  # the server has not minded
            client.send(1, b"x")
            assert client.receive() == (1, b"x")


@pytest.mark.abuse(64, 65, 67)
@ends
def test_a_network_that_swallows_everything(end):
    """Nothing comes back, not even a RST: a receiver's timeout and a sender's are what ends it."""
    with far_apart(send_timeout=0.3) as apart:
        conn, _, rule = choose(end, *apart)
        proxy = apart[0]
        for each in (proxy.up, proxy.down):
            each.after(0, "hold")
            assert each.held.wait(SOON)
        assert conn.receive(0.05) is None
        assert conn.connected()  # nothing says otherwise
        with pytest.raises(SendTimeout):
            for _ in range(100):
                conn.send_binary(bytes(MIB))
        assert conn.connected() is False
        assert conn.receive(None) is None
        with pytest.raises(ConnectionClosed):
            conn.send("x")
        rule.release()


@pytest.mark.abuse(67)
@ends
def test_a_network_that_swallows_everything_is_noticed_by_keepalive(end):
    """Within interval and timeout, by a receiver without a timeout of its own."""
    with far_apart(ping_interval=0.1, ping_timeout=0.2) as apart:
        conn, _, rule = choose(end, *apart)
        rule.after(0, "hold")
        start = time.monotonic()
        assert conn.receive(None) is None
        assert time.monotonic() - start < 0.1 + 0.2 + 2
        assert conn.connected() is False
        assert conn.close_code == 1011
        rule.release()


# -- peers that do not read ------------------------------------------------


@pytest.mark.abuse(64)
@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
def test_a_peer_that_never_reads_100_mb(client):
    data = bytes(100_000_000)
    with raw_peer(client=client, send_timeout=0.3) as (conn, _):
        tracemalloc.start()
        cpu = time.thread_time()
        with pytest.raises(SendTimeout):
            conn.send_binary(data)
        spent = time.thread_time() - cpu
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < MIB  # not a second copy of the message
        assert spent < 0.3  # it waits, and does not spin
        assert not conn.connected()


@pytest.mark.abuse(74)
def test_a_broadcast_with_a_stalled_member():
    """A plain loop of `send`: the stalled one costs the sender send_timeout, once."""
    members, go = [], threading.Barrier(5, timeout=SOON)
    waits = {}
    text = "x" * 200_000

    def handler(client):
        name = client.receive(SOON)
        members.append((name, client))
        go.wait()
        while client.receive(None) is not None:
            pass

    def broadcast():
        for name, member in list(members):
            start = time.monotonic()
            try:
                member.send(text)
            except (SendTimeout, ConnectionClosed):
                members.remove((name, member))
            waits[name] = max(waits.get(name, 0), time.monotonic() - start)

    rounds = 60

    def listen(client):
        return [len(client.receive(SOON)) for _ in range(rounds)]

    with serving(handler, send_timeout=0.4) as server, contextlib.ExitStack() as stack:
        stalled = stack.enter_context(raw_websocket(server))
        stalled.send(1, b"stalled")
        until(lambda: members)
        others = [stack.enter_context(connect(server.url, SOON)) for _ in range(3)]
        for client in others:
            client.send("reads")
        go.wait()
        listening = [Running(listen, client) for client in others]
        for _ in range(rounds):
            broadcast()
        for call in listening:
            assert call.result() == [len(text)] * rounds
        assert [name for name, _ in members] == ["reads"] * 3
        assert 0.4 <= waits["stalled"] < 0.4 + 2


# -- signals and clocks ----------------------------------------------------


@pytest.mark.abuse(70)
def test_signals_do_not_prolong_a_timeout():
    """A handler that does not raise is run, and the call waits for what is left, no longer."""
    handled = []
    previous = signal.signal(signal.SIGUSR1, lambda *_: handled.append(time.monotonic()))
    main, stop = threading.main_thread().ident, threading.Event()

    def shoot():
        until(conn._intake.lock.locked)
        while not stop.wait(0.01):
            signal.pthread_kill(main, signal.SIGUSR1)

    try:
        with raw_peer() as (conn, _), running(shoot):
            start = time.monotonic()
            assert conn.receive(0.3) is None
            elapsed = time.monotonic() - start
            stop.set()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert 0.3 <= elapsed < 2
    assert len(handled) > 3


@pytest.mark.abuse(69)
@pytest.mark.parametrize("step", [-86_400, 86_400])
def test_a_wall_clock_that_jumps_a_day(step, monkeypatch):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)
    with far_apart() as (_, client, server):
        assert client.receive(0.05) is None
        server.send("x")
        assert client.receive(SOON) == "x"


# -- lifecycle -------------------------------------------------------------


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def churn(server):
    with connect(server.url, SOON) as conn:
        conn.send_binary(b"x" * 5000)
        assert conn.receive(SOON) == [120] * 5000
    with contextlib.suppress(ConnectionError), raw_websocket(server) as client:
        client.send(1, b"left without a word")
        reset(client.sock)


def settle(server):
    """Wait until the server has nothing more of any connection.

    Without a GIL a thread lets go of what others have dropped when it runs next: hence the knock
    at the acceptor, which waits for connections.
    """
    until(lambda: not server.connections)
    gc.collect()
    with dial(server) as sock:
        until(lambda: has_accepted(server, sock))
    until(lambda: not len(server._acceptor._opening))
    gc.collect()


@pytest.mark.abuse(73)
@pytest.mark.skipif(
    sys.gettrace() is not None or wanted() is not None,
    reason="what looks at threads keeps memory for each",
)
def test_connections_that_come_and_go_leave_nothing():
    """In small; `make soak` does so for long. Descriptors, threads and memory are as before."""
    with serving(echo) as server:
        for _ in range(20):
            churn(server)
        settle(server)
        before = descriptors(), threading.active_count()
        tracemalloc.start()
        for _ in range(20):
            churn(server)
        settle(server)
        first = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            churn(server)
        settle(server)
        until(lambda: (descriptors(), threading.active_count()) <= before)
        grown = tracemalloc.get_traced_memory()[0] - first
        tracemalloc.stop()
        assert grown < 32 * 1024  # of 100 connections


@pytest.mark.abuse(73)
def test_messages_leave_nothing():
    with both_ends() as (client, server):

        def talk(count):
            for _ in range(count):
                client.send("x" * 100)
                assert server.receive(SOON) == "x" * 100
                server.send_binary([1, 2, 3])
                assert client.receive(SOON) == [1, 2, 3]

        talk(200)
        gc.collect()
        tracemalloc.start()
        talk(500)
        gc.collect()
        first = tracemalloc.get_traced_memory()[0]
        talk(2000)
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - first < 32 * 1024
        tracemalloc.stop()


@pytest.mark.abuse(75)
@pytest.mark.parametrize(
    ("error", "code"), [(None, 1000), (ValueError, 1011), (SystemExit, 1011), (MemoryError, 1011)]
)
def test_a_handler_that_ends_closes_with_its_code_for_our_client(error, code):
    def handler(client):
        client.receive(SOON)
        if error is not None:
            raise error

    with serving(handler) as server:
        for _ in range(2):  # the server lives
            with connect(server.url, SOON) as conn:
                conn.send("go")
                assert conn.receive(SOON) is None
                assert conn.close_code == code


@pytest.mark.abuse(64)
def test_a_reader_is_not_held_up_by_a_stalled_sender():
    with raw_peer(send_timeout=5) as (conn, peer):
        sending = Running(conn.send_binary, bytes(8 * MIB))
        until(conn._outlet.lock.locked)
        for number in range(100):
            peer.sendall(frame(TEXT, b"%d" % number))
            assert conn.receive(SOON) == str(number)
        first, payload = receive_frame(peer)
        assert (first, len(payload)) == (0x82, 8 * MIB)
        sending.result()
