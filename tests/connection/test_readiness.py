"""wait(): which of many connections have something, whatever it is that they have."""

import contextlib
import io
import math
import os
import signal
import socket
import ssl
import time

import pytest

import scriptling_ws as ws
from children import Child
from frames import BINARY, CONTINUATION, PING, PONG, TEXT, close_frame, frame
from pairs import (
    SOON,
    ByMethod,
    Counted,
    arrived,
    at_least,
    both_ends,
    connection,
    raw_peer,
    receive_frame,
    reset,
    roles,
    running,
    tcp_pair,
    tls_contexts,
    transports,
)
from scriptling_ws._connection import keepalive
from scriptling_ws._handshakes.terms import Terms
from scriptling_ws._network.waiting import engine

SHORT = 0.02
FIN = 0x80


@pytest.fixture
def quiet():
    """A connection on which nothing comes."""
    with raw_peer(ping_interval=None, close_timeout=0.1) as (conn, _):
        yield conn


@roles
def test_a_message_names_its_connection_and_stays_there(quiet, client):
    with raw_peer(client=client) as (conn, peer):
        assert ws.wait([quiet, conn], 0) == []
        peer.sendall(frame(TEXT, b"a", mask=not client))
        assert ws.wait([quiet, conn]) == [conn]
        assert ws.wait({conn: 1}, SOON) == [conn]
        assert conn.receive(0) == "a"
        assert ws.wait([quiet, conn], 0) == []


def test_all_are_named_in_their_order(quiet):
    with raw_peer() as (one, first), raw_peer() as (two, second):
        first.sendall(frame(TEXT, b"a") + frame(TEXT, b"b"))
        assert one.receive(SOON) == "a"  # the next one is read, and no more in the socket
        second.sendall(close_frame())
        arrived(two)
        assert ws.wait([two, quiet, one, two], SOON) == [two, one, two]
        assert one.receive(0) == "b"
        assert ws.wait(iter([one, quiet]), 0) == []


@transports
@pytest.mark.parametrize("deflate", [None, Terms()], ids=["plain", "deflate"])
def test_what_is_left_in_tls_or_the_window_is_found(quiet, tls, deflate):
    with both_ends(tls=tls, deflate=deflate, compression_threshold=0) as (near, far):
        sent = [f"{number} " + "x" * 700 for number in range(200)]
        far.send_many(sent)
        taken = []
        while len(taken) < len(sent):
            assert ws.wait([quiet, near], SOON) == [near]
            taken.append(near.receive(0))
        assert taken == sent
        assert ws.wait([quiet, near], SHORT) == []
        assert not near._reader.keeps()
        far.send_binary(b"\x01")
        assert ws.wait([quiet, near], SOON) == [near]


def test_the_end_that_stands_behind_a_message_is_found():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"a") + frame(0x3, b""))  # the error is put off
        assert ws.wait([conn], SOON) == [conn]
        assert conn.receive(0) == "a"
        assert ws.wait([conn], SOON) == [conn]
        assert conn.receive(0) is None
        assert conn.close_code == 1002


def gone(conn, peer):
    peer.close()


def broken(conn, peer):
    reset(peer)


def closed(conn, peer):
    peer.sendall(close_frame(1000))


def closed_here(conn, peer):
    peer.close()
    conn.close()


@pytest.mark.parametrize("end", [gone, broken, closed, closed_here])
def test_the_end_is_named_again_and_again(quiet, end):
    with raw_peer() as (conn, peer):
        end(conn, peer)
        for _ in range(3):
            assert ws.wait([quiet, conn], SOON) == [conn]
            assert conn.receive(0) is None
        assert not conn.connected()
        assert ws.wait([quiet, conn], SOON) == [conn]


def test_what_is_no_message_names_nobody_and_is_answered(quiet):
    with raw_peer() as (conn, peer):
        peer.sendall(frame(PING, b"p") + frame(PONG, b"stray") + frame(TEXT, b"ha", fin=False))
        with at_least(SHORT):
            assert ws.wait([quiet, conn], SHORT) == []
        assert receive_frame(peer)[:2] == (FIN | PONG, b"p")
        whole = frame(CONTINUATION, b"lf")
        peer.sendall(whole[:3])
        assert ws.wait([conn], SHORT) == []
        peer.sendall(whole[3:])
        assert ws.wait([conn], SOON) == [conn]
        assert conn.receive(0) == "half"


class Pinging(ByMethod):
    """A transport on which ping after ping comes."""

    reads = 0
    endless = True

    def read_into(self, buffer, nap=False):
        if not self.endless:
            return super().read_into(buffer, nap)
        self.reads += 1
        ping = frame(PING, b"%d" % self.reads)
        buffer[: len(ping)] = ping
        return len(ping)


def test_pings_without_end_do_not_keep_it(quiet):
    with raw_peer(transport=Pinging, ping_interval=None) as (conn, peer):
        transport = conn._link.transport
        peer.sendall(b"a")  # what a poll shows
        arrived(conn)
        assert ws.wait([quiet, conn], 0) == []
        assert transport.reads == 16
        assert [receive_frame(peer)[1] for _ in range(16)] == [b"%d" % n for n in range(1, 17)]
        transport.endless = False
        peer.close()


def test_it_waits_until_something_comes(quiet):
    with raw_peer() as (conn, peer):

        def send():
            while not conn._intake.polled:  # set as the wait begins
                time.sleep(0.001)
            peer.sendall(frame(BINARY, b"\x07"))

        with running(send):
            assert ws.wait([quiet, conn]) == [conn]
        assert conn.receive(0) == [7]


def test_a_close_by_another_thread_ends_it(quiet):
    with raw_peer() as (conn, peer):

        def close():
            peer.close()
            conn.close()

        with running(close):
            assert ws.wait([quiet, conn], SOON) == [conn]


def test_what_another_thread_reads_is_found(quiet):
    with raw_peer() as (conn, peer):

        def ping():
            return conn.ping(SOON)

        with running(ping) as (pinging,):
            _, payload = receive_frame(peer)[:2]
            peer.sendall(frame(TEXT, b"a") + frame(PONG, payload))
            assert ws.wait([quiet, conn], SOON) == [conn]
            assert pinging.result() is not None
        assert conn.receive(0) == "a"


def test_a_connection_in_which_another_thread_receives_is_left_to_it(quiet):
    with raw_peer() as (conn, peer), running(lambda: conn.receive(None)) as (receiving,):
        while not conn._channel.reader:
            time.sleep(0.001)
        assert ws.wait([quiet, conn], 3 * SHORT) == []
        peer.sendall(frame(TEXT, b"a"))
        assert receiving.result() == "a"


@transports
def test_a_connection_of_which_a_message_is_streamed_is_left_to_the_stream(quiet, tls):
    with both_ends(tls=tls) as (near, far):
        far.send_stream([b"a"])
        far.send("held")
        send = running(lambda: far.send_stream([b"b" * 100] * 10_000, fragment_size=1000))
        with near.receive_stream(SOON) as stream, send:
            assert stream.read() == b"a"
            assert ws.wait([quiet, near], 3 * SHORT) == []
            stream.__exit__(None, None, None)
            assert ws.wait([quiet, near], SOON) == [near]
            assert near.receive(SOON) == "held"
            assert len(near.receive(SOON)) == 1_000_000


def allow_descriptors(stack, count):
    """Have so many for a while."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before[1] != resource.RLIM_INFINITY and before[1] < count:
        pytest.skip(f"there are no {count} descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(count, before[0]), before[1]))
    stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, before)


def test_a_thousand_are_one_poll(monkeypatch):
    polls, made = [], engine().poller

    class Counting:
        def __init__(self):
            self._poller = made()
            self.close, self.register = self._poller.close, self._poller.register

        def select(self, timeout):
            polls.append(timeout)
            return self._poller.select(timeout)

    monkeypatch.setattr(type(engine()), "poller", lambda self: Counting())
    with contextlib.ExitStack() as stack:
        allow_descriptors(stack, 2500)
        pairs = [socket.socketpair() for _ in range(1000)]
        conns = [connection(Counted(near), ping_interval=None) for near, _ in pairs]
        try:
            assert ws.wait(conns, 0) == []
            assert polls == [0]
            assert not any(conn._link.transport.reads for conn in conns)
            for number in (3, 999, 500):
                pairs[number][1].sendall(frame(TEXT, b"%d" % number))
            assert ws.wait(conns, SOON) == [conns[3], conns[500], conns[999]]
            assert len(polls) == 2
            assert sum(bool(conn._link.transport.reads) for conn in conns) == 3
        finally:
            for conn, (_, far) in zip(conns, pairs, strict=True):
                far.close()
                conn._abort()
                conn.close()


# -- beside connections ---------------------------------------------------------


class Has:
    """An object with a descriptor."""

    def __init__(self, descriptor):
        self._descriptor = descriptor

    def fileno(self):
        return self._descriptor


def test_sockets_and_what_has_a_descriptor(quiet):
    near, far = socket.socketpair()
    read, write = os.pipe()
    try:
        with near, far, socket.create_server(("127.0.0.1", 0)) as listener:
            pipe = Has(read)
            items = [quiet, near, pipe, listener]
            assert ws.wait(items, 0) == []
            os.write(write, b"x")
            assert ws.wait([*items, pipe], SOON) == [pipe, pipe]
            far.send(b"x")
            assert ws.wait(items, SOON) == [near, pipe]
            with socket.create_connection(listener.getsockname()):
                assert ws.wait([quiet, listener], SOON) == [listener]
    finally:
        os.close(read)
        os.close(write)


def test_what_an_ssl_socket_has_decrypted(quiet):
    client, server = tls_contexts()
    near, far = tcp_pair()

    def accept():
        return server.wrap_socket(far, server_side=True)

    with running(accept) as (accepting,):
        wrapped = client.wrap_socket(near, server_hostname="localhost")
    with wrapped, accepting.result() as other:
        assert isinstance(wrapped, ssl.SSLSocket)
        other.sendall(b"xyz")
        assert wrapped.recv(1) == b"x"  # the rest is decrypted
        assert ws.wait([quiet, wrapped], SOON) == [wrapped]
        assert wrapped.recv(5) == b"yz"


def closed_socket():
    sock = socket.socket()
    sock.close()
    return sock


@pytest.mark.parametrize(
    ("items", "error", "says"),
    [
        (3, TypeError, "takes a list"),
        ("abc", TypeError, "takes a list"),
        ([object()], TypeError, r"conns\[0\] is neither a Connection"),
        ([0], TypeError, r"conns\[0\].*int"),
        ([None], TypeError, r"conns\[0\].*NoneType"),
        ([ws.Connection], TypeError, r"conns\[0\].*type"),
        ([Has("3")], TypeError, r"conns\[0\] returns a str"),
        ([Has(True)], TypeError, r"conns\[0\] returns a bool"),
        ([Has(-1)], ValueError, r"conns\[0\] is closed"),
        ([closed_socket()], ValueError, r"conns\[0\] is closed"),
        ([io.BytesIO()], ValueError, r"conns\[0\] has no descriptor"),
        ([], ValueError, "no timeout"),
    ],
)
def test_foreign_objects_are_refused(items, error, says):
    with pytest.raises(error, match=says):
        ws.wait(items)


def test_a_connection_alone_is_refused_and_keeps_its_messages():
    with raw_peer() as (conn, peer):
        peer.sendall(frame(TEXT, b"a"))
        with pytest.raises(TypeError, match=r"such as \[conn\]"):
            ws.wait(conn)
        with pytest.raises(TypeError, match=r"conns\[1\]"):
            ws.wait([conn, "x"])
        assert conn.receive(SOON) == "a"


@pytest.mark.parametrize(
    ("timeout", "error"),
    [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError)],
)
def test_bad_timeouts(quiet, timeout, error):
    with pytest.raises(error, match="timeout"):
        ws.wait([quiet], timeout)


def test_nothing_is_waited_for_until_the_timeout():
    with at_least(SHORT):
        assert ws.wait([], SHORT) == []


@pytest.mark.threads
def test_a_server_without_an_event_loop():
    """What it is for: one thread, many connections and a listening socket."""
    names = [f"c{number}" for number in range(20)]
    with contextlib.ExitStack() as stack:
        pairs = [stack.enter_context(both_ends()) for _ in names]

        def serve():
            open_ = {far for _, far in pairs}
            while open_:
                found = ws.wait(open_, SOON)
                assert found
                for conn in found:
                    while (message := conn.receive(0)) is not None:
                        conn.send(message.upper())
                    if not conn.connected():
                        conn.close()
                        open_.remove(conn)

        with running(serve):
            for (near, _), name in zip(pairs, names, strict=True):
                near.send(name)
            assert [near.receive(SOON) for near, _ in pairs] == [name.upper() for name in names]
            for near, _ in pairs:
                near.close()


def test_foreign_servers(quiet, peer):
    with peer("server") as process, contextlib.ExitStack() as stack:
        url = f"ws://127.0.0.1:{process.report()['port']}/echo?id="
        conns = [stack.enter_context(ws.connect(f"{url}{number}")) for number in range(3)]
        for conn in conns[1:]:
            conn.send("hello")
            assert ws.wait([quiet, *conns], SOON) == [conn]
            assert conn.receive(0) == "hello"
        conns[2].send_binary(bytes(100_000))  # comes in parts
        assert ws.wait([quiet, *conns], SOON) == [conns[2]]
        assert conns[2].receive(0) == [0] * 100_000


@pytest.mark.threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_in_a_forked_child_the_parents_connections_are_closed(quiet):
    def in_child():
        with pytest.raises(ws.ConnectionClosed):
            quiet.recv()
        return ws.wait([quiet], 0) == [quiet] and list(quiet.messages()) == []

    assert Child(in_child).result() is True
    assert ws.wait([quiet], 0) == []


def test_who_waits_looks_after_connections_that_no_thread_does(monkeypatch):
    monkeypatch.setattr(keepalive, "watch", lambda *_: False)  # as in a subinterpreter
    with raw_peer(ping_interval=0.05) as (conn, peer), running(lambda: receive_frame(peer)) as got:
        assert ws.wait([conn], 0.4) == []
        assert got[0].result()[0] == FIN | PING


@pytest.mark.threads
def test_a_signal_handler_may_raise_and_may_close(quiet):
    with raw_peer() as (conn, peer):
        peer.close()
        for handler, outcome in ((raises, TimeoutError), (lambda *_: quiet.close(), None)):
            before = signal.signal(signal.SIGALRM, handler)
            try:
                if outcome is None:
                    signal.setitimer(signal.ITIMER_REAL, SHORT)
                    assert ws.wait([quiet], SOON) == [quiet]
                else:
                    with pytest.raises(outcome):
                        signal.setitimer(signal.ITIMER_REAL, SHORT)  # it may come before `wait`
                        ws.wait([quiet], SOON)
            finally:
                signal.signal(signal.SIGALRM, before)
        assert ws.wait([conn, quiet], 0) == [conn, quiet]


def raises(*_):
    raise TimeoutError
