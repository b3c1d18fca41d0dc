"""The abuse cases of closing, pings and TLS, at both ends."""

import contextlib
import socket
import time

import pytest

from frames import CLOSE, PING, PONG, TEXT, frame
from memory import tracemalloc
from pairs import (
    MIB,
    SOON,
    ByMethod,
    Running,
    arrived,
    at_least,
    both_ends,
    connection,
    fill,
    raw_peer,
    receive_exactly,
    receive_frame,
    receive_to_end,
    roles,
    running,
    stand_in,
    tcp_pair,
    tls_pair,
    transports,
    until,
)
from scriptling_ws import ConnectionClosed, SendTimeout
from scriptling_ws._network.deadline import Deadline

# -- pings of a peer that does not read ------------------------------------


@pytest.mark.abuse(54)
@roles
def test_a_peer_that_pings_and_never_reads_is_given_up(client):
    """At the write deadline; one pong is pending until then, and less than 1 MiB held."""
    burst = frame(PING, bytes(125), mask=not client) * 1000
    pending = []

    def flush():
        flush_all()
        pending.append(len(conn._link.protocol.outbox))

    def flood():
        with contextlib.suppress(ConnectionError):
            while True:
                peer.sendall(burst)

    def receive():
        start = time.monotonic()
        assert conn.receive(None) is None
        return time.monotonic() - start

    with raw_peer(client=client, send_timeout=0.5) as (conn, peer):
        conn._link.transport._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
        fill(conn)
        flush_all = conn._outlet.flush
        stand_in(conn._outlet, flush=flush)  # what every read ends with
        tracemalloc.start()
        receiving, flooding = Running(receive), Running(flood)
        assert receiving.result() >= 0.5
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        flooding.result()
        assert peak < MIB
        assert max(pending) == 1
        assert conn.connected() is False
        assert conn.close_code == 1006
        with pytest.raises(ConnectionClosed) as caught:
            conn.send("x")
        assert isinstance(caught.value.__cause__, SendTimeout)
        assert "pings" in str(caught.value.__cause__)


@pytest.mark.abuse(54)
def test_a_receiver_that_sleeps_gives_up_such_a_peer_too():
    """No byte comes any more: it is the deadline itself that wakes it."""
    with raw_peer(send_timeout=0.3, ping_interval=None) as (conn, peer):
        fill(conn)
        peer.sendall(frame(PING))
        with at_least(0.3, SOON / 2):
            assert conn.receive(SOON) is None
        assert conn.close_code == 1006


@pytest.mark.abuse(54)
def test_a_peer_that_reads_late_but_in_time_is_not_given_up():
    with raw_peer() as (conn, peer):
        filled = fill(conn)
        peer.sendall(b"".join(frame(PING, b"%d" % number) for number in range(10)))
        receiving = Running(conn.receive, SOON)
        until(lambda: conn._outlet.stalled is not None)
        receive_exactly(peer, filled)
        # The first may have been begun; of those that waited, the newest was kept.
        seen = [receive_frame(peer)]
        while seen[-1] != (0x8A, b"9"):
            seen.append(receive_frame(peer))
        assert len(seen) <= 2
        peer.sendall(frame(TEXT, b"over"))
        assert receiving.result() == "over"
        assert conn._outlet.stalled is None


class Full(ByMethod):
    """One that takes nothing at first."""

    full = True

    def write(self, data):
        return 0 if self.full else super().write(data)


@pytest.mark.abuse(54)
def test_a_message_that_leaves_shows_that_the_peer_reads():
    with raw_peer(transport=Full) as (conn, peer):
        peer.sendall(frame(PING))
        arrived(conn)
        assert conn.receive(0) is None
        assert conn._outlet.stalled is not None
        conn._link.transport.full = False
        conn.send("on its way")
        assert receive_frame(peer) == (0x8A, b"")
        assert receive_frame(peer) == (0x81, b"on its way")
        assert conn._outlet.stalled is None


class Keeping(ByMethod):
    """One that takes what it is given, but does not get rid of all, as TLS may."""

    def flush(self):
        self.pending = self.keeps
        return not self.keeps

    keeps = True


@pytest.mark.abuse(54)
def test_a_stall_that_is_over_does_not_shorten_the_next_one():
    with raw_peer(transport=Keeping, send_timeout=SOON) as (conn, peer):
        conn._outlet.stalled = Deadline(0)  # the peer has read nothing for so long; now it does
        peer.sendall(frame(PING))
        arrived(conn)
        assert conn.receive(0) is None
        assert receive_frame(peer) == (0x8A, b"")
        assert not conn._outlet.stalled.passed()
        assert conn.connected()
        conn._link.transport.keeps = False
        assert conn.receive(0) is None
        assert conn._outlet.stalled is None


@pytest.mark.abuse(54)
@pytest.mark.parametrize("most", [1, 5, 500])
def test_how_many_pongs_may_be_pending_is_an_option(most):
    count = 1000
    with raw_peer(max_pending_pongs=most) as (conn, peer), conn._outlet.lock:
        peer.sendall(b"".join(frame(PING, b"%d" % number) for number in range(count)))
        peer.sendall(frame(TEXT, b"all"))
        assert conn.receive(SOON) == "all"
        assert len(conn._link.protocol.outbox) == most
        with conn._intake.lock:
            conn._outlet.lock.release()
            conn._intake.answer()
            conn._outlet.lock.acquire()
        for number in range(count - most, count):
            assert receive_frame(peer) == (0x8A, b"%d" % number)


@pytest.mark.abuse(55)
@roles
def test_stray_pongs_on_the_wire(client):
    with raw_peer(client=client) as (conn, peer):
        peer.sendall(frame(PONG, b"never asked for", mask=not client) * 10_000)
        peer.sendall(frame(TEXT, b"ok", mask=not client))
        assert conn.receive(SOON) == "ok"
        conn.send("nothing was sent before this")
        assert receive_frame(peer) == (0x81, b"nothing was sent before this")


# -- closing ---------------------------------------------------------------


@pytest.mark.abuse(50)
@roles
@transports
def test_a_close_that_is_never_answered_leaves_no_descriptor(client, tls):
    near, far = tls_pair() if tls else tcp_pair()
    if client:
        conn = connection(near, close_timeout=0.1)
    else:
        near, far = far, near
        conn = connection(near, client=False, close_timeout=0.1)
    start = time.monotonic()
    conn.close(1001)
    assert 0.1 <= time.monotonic() - start < 5
    assert conn.fileno() == -1
    far.close()


@pytest.mark.abuse(53)
@roles
@transports
def test_what_came_before_a_close_is_received_before_none(client, tls):
    with both_ends(tls=tls, close_timeout=1) as ends:
        conn, peer = ends if client else reversed(ends)

        def send():
            peer.send_many(str(number) for number in range(1000))
            peer.close(4000)

        with running(send):
            assert [conn.receive(SOON) for _ in range(1001)] == [*map(str, range(1000)), None]
        assert conn.close_code == 4000


@pytest.mark.abuse(49)
@roles
def test_a_close_without_a_code_is_echoed_as_it_came(client):
    with raw_peer(client=client) as (conn, peer):
        peer.sendall(frame(CLOSE, mask=not client))
        peer.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) is None
        assert receive_frame(peer) == (0x88, b"")
        assert receive_to_end(peer) == b""


@pytest.mark.abuse(51)
@roles
def test_a_close_wakes_receivers_at_once(client):
    """Not at a timeout of theirs: there is none. And what it costs them is no CPU."""
    with raw_peer(client=client, close_timeout=0) as (conn, _):
        spent = []

        def receive():
            start = time.thread_time()
            assert conn.receive(None) is None
            spent.append(time.thread_time() - start)

        with running(receive, receive, receive):
            until(lambda: conn._intake.waiters == 2)
            conn.close()
        assert max(spent) < 0.1


# -- TLS -------------------------------------------------------------------


@pytest.mark.abuse(60)
@roles
def test_two_frames_in_one_tls_record(client):
    ends = tls_pair()
    near, far = ends if client else reversed(ends)
    conn = connection(near, client=client)
    both = frame(TEXT, b"one", mask=not client) + frame(TEXT, b"two", mask=not client)
    assert far.write(both) == len(both)
    assert conn.receive(SOON) == "one"
    assert conn.receive(0) == "two"  # no poll of the socket shows it: it is inside of OpenSSL
    assert conn.receive(0) is None
    far.close()
    conn.close()


@pytest.mark.abuse(60)
def test_a_record_larger_than_the_window_is_had_without_waiting():
    near, far = tls_pair()
    conn = connection(near)
    frames = frame(TEXT, b"x" * 100) * 150
    assert far.write(frames) == len(frames)
    assert conn.receive(SOON) == "x" * 100
    assert [conn.receive(0) for _ in range(149)] == ["x" * 100] * 149
    far.close()
    conn.close()


@pytest.mark.abuse(61)
@roles
@pytest.mark.parametrize("when", ["idle", "in a message", "while it waits"])
def test_an_end_of_tls_without_close_notify(client, when):
    ends = tls_pair()
    near, far = ends if client else reversed(ends)
    conn = connection(near, client=client)
    receiving = Running(conn.receive, None) if when == "while it waits" else None
    if receiving is not None:
        until(conn._intake.lock.locked)
    if when == "in a message":
        part = frame(TEXT, b"hello", mask=not client)[:-1]
        assert far.write(part) == len(part)
    far._sock.shutdown(socket.SHUT_WR)  # the bare socket: OpenSSL is not told
    assert (receiving.result() if receiving else conn.receive(SOON)) is None
    assert conn.connected() is False
    assert conn.close_code == 1006
    far.close()
    conn.close()
