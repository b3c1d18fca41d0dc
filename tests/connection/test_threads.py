"""Several threads on one connection: both directions, blocked senders, close from everywhere."""

import contextlib
import itertools
import os
import random
import socket
import struct
import threading
import time
from collections import Counter, deque

import pytest

from frames import BINARY, PING, TEXT, close_frame, frame
from pairs import (
    MIB,
    SOON,
    Running,
    at_least,
    both_ends,
    connection,
    fill,
    raw_peer,
    receive_exactly,
    receive_frame,
    receive_to_end,
    reset,
    running,
    tcp_pair,
    tls_pair,
    transports,
    unread,
    until,
    writable,
)
from scriptling_ws import ConnectionClosed, SendTimeout


def receiving(conn, timeout=None):
    """A thread that is inside conn.receive(), waiting."""
    call = Running(conn.receive, timeout)
    until(conn._intake.lock.locked)
    return call


def sending(conn, message):
    """A thread that is inside conn.send_binary(), with no more room to write."""
    call = Running(conn.send_binary, message)
    until(conn._outlet.lock.locked)
    until(lambda: not writable(conn) or call.done())
    assert not call.done()
    return call


# -- both directions -------------------------------------------------------


@transports
def test_two_peers_that_both_send_50_mb_before_either_receives_finish(tls):
    count = 50
    body = os.urandom(MIB - 4)

    def run(conn):
        for number in range(count):
            conn.send_binary(struct.pack("!I", number) + body)
        for number in range(count):
            message = conn.receive(SOON)
            assert message[:4] == struct.pack("!I", number)
            assert message[4:] == body
        assert conn.connected()

    with both_ends(tls=tls, binary_type=bytes) as ends:
        for call in [Running(run, conn) for conn in ends]:
            call.result(60)
        assert [conn.receive(0) for conn in ends] == [None, None]


@transports
def test_messages_go_both_ways_at_full_speed(tls):
    count = 3000

    def send(conn):
        for number in range(count):
            conn.send(str(number))

    def receive(conn):
        return [int(conn.receive(SOON)) for _ in range(count)]

    with both_ends(tls=tls) as (client, server):
        calls = [Running(send, client), Running(send, server)]
        calls += [Running(receive, client), Running(receive, server)]
        results = [call.result() for call in calls]
    assert results[2:] == [list(range(count))] * 2


# Invariant 10.
@pytest.mark.abuse(82)
@transports
def test_eight_senders_of_1_mib_messages_do_not_interleave(tls):
    def send(conn, thread):
        for number in range(4):
            conn.send_binary(bytes([thread]) * MIB)
            conn.send_binary(bytes([thread, number]))
            conn.send_many([bytes([thread]) * 100, bytes([thread]) * (MIB // 2)])

    with both_ends(tls=tls, binary_type=bytes) as (client, server):
        calls = [Running(send, client, thread) for thread in range(8)]
        seen = Counter()
        order = {thread: [] for thread in range(8)}
        for _ in range(8 * 4 * 4):
            message = server.receive(SOON)
            if len(message) == 2:
                order[message[0]].append(message[1])
            else:
                assert message.count(message[0]) == len(message)
            seen[message[0], len(message)] += 1
        for call in calls:
            call.result()
        assert order == {thread: [0, 1, 2, 3] for thread in range(8)}
        assert set(seen.values()) == {4}
        assert len(seen) == 32
        assert server.receive(0) is None


@pytest.mark.abuse(82)
def test_what_eight_senders_put_on_the_wire_is_whole_frames():
    def send(conn, thread):
        for number in range(300):
            conn.send_binary(bytes([thread]) * (number % 200))

    with raw_peer() as (conn, peer):
        calls = [Running(send, conn, thread) for thread in range(8)]
        peer.sendall(frame(PING, b"p") * 50)
        drain = Running(conn.receive, SOON)
        sizes = Counter()
        pongs = 0
        while sum(sizes.values()) < 8 * 300 or not pongs:
            first, payload = receive_frame(peer)
            if first == 0x8A:
                assert payload == b"p"
                pongs += 1
                continue
            assert first == 0x82
            assert payload == payload[:1] * len(payload)
            sizes[len(payload)] += 1
        for call in calls:
            call.result()
        peer.sendall(frame(TEXT, b"end"))
        assert drain.result() == "end"


# -- a receiver and others -------------------------------------------------


@transports
def test_a_send_goes_through_while_another_thread_is_blocked_in_receive(tls):
    with both_ends(tls=tls) as (client, server):
        call = receiving(client)
        for number in range(100):
            client.send(str(number))
            assert server.receive(SOON) == str(number)
        assert not call.done()
        server.send("now")
        assert call.result() == "now"


@pytest.mark.abuse(51)
@transports
@pytest.mark.parametrize("timeout", [None, 60])
def test_close_wakes_a_blocked_receive(tls, timeout):
    with both_ends(tls=tls, close_timeout=60) as (client, server):
        call = receiving(client, timeout)
        with at_least(0):  # before the server looks
            closing = Running(client.close)
            assert call.result() is None
        assert not closing.done()
        with running(lambda: server.receive(SOON)):
            closing.result()
        assert client.connected() is False


@pytest.mark.abuse(51)
def test_close_wakes_a_blocked_receive_even_if_the_peer_never_answers():
    with raw_peer(close_timeout=60) as (conn, peer):
        calls = [receiving(conn), Running(conn.receive, 60), Running(list, conn)]
        with at_least(0):
            closing = Running(conn.close)
            assert [call.result() for call in calls] == [None, None, []]
        assert not closing.done()
        peer.close()
        closing.result()
        assert conn.fileno() == -1


def test_close_wakes_a_receive_that_waits_for_its_turn():
    with raw_peer(close_timeout=0.1) as (conn, _):
        call = receiving(conn)
        waiting = Running(conn.receive, None)
        until(lambda: conn._intake.waiters)
        conn.close()
        assert call.result() is None
        assert waiting.result() is None


# Two receivers.
@pytest.mark.abuse(82)
@transports
def test_of_several_receivers_each_message_goes_to_one(tls):
    count = 5000

    def receive(conn):
        got = []
        while (message := conn.receive(SOON)) is not None:
            got.append(int(message))
        return got

    with both_ends(tls=tls) as (client, server):
        calls = [Running(receive, server) for _ in range(4)]
        client.send_many(str(number) for number in range(count))
        client.close()
        results = [call.result() for call in calls]
    for got in results:
        assert got == sorted(got)
    assert sorted(itertools.chain(*results)) == list(range(count))


def test_the_timeout_of_a_second_receiver_holds():
    with raw_peer() as (conn, peer):
        first = receiving(conn)
        with at_least(0):
            assert conn.receive(0) is None
        with at_least(0.2):
            assert conn.receive(0.2) is None
        assert not first.done()
        peer.sendall(frame(TEXT, b"x"))
        assert first.result() == "x"


def test_a_second_receiver_gets_its_turn():
    with raw_peer() as (conn, peer):
        calls = [receiving(conn), Running(conn.receive, SOON)]
        until(lambda: conn._intake.waiters)
        peer.sendall(frame(TEXT, b"a"))
        peer.sendall(frame(TEXT, b"b"))
        assert sorted(call.result() for call in calls) == ["a", "b"]


def test_connected_does_not_block_behind_a_receiver():
    with raw_peer() as (conn, peer):
        call = receiving(conn)
        start = time.monotonic()
        assert all(conn.connected() for _ in range(100))
        assert time.monotonic() - start < 5
        peer.sendall(frame(TEXT, b"x"))
        assert call.result() == "x"


# Invariant 7.
@pytest.mark.parametrize("end", ["close frame", "fin", "close()", "begin"])
def test_connected_never_returns_to_true(end):
    for seed in range(4):
        rng = random.Random(seed)
        with raw_peer(close_timeout=0.05) as (conn, peer):
            start = threading.Barrier(3)

            def watch(conn=conn, start=start):
                start.wait(SOON)
                states = [True]
                while states[-1] or not conn._link.lifecycle.disposed:
                    state = conn.connected()
                    if states[-1] is not state:
                        states.append(state)
                return states

            def consume(conn=conn, start=start):
                start.wait(SOON)
                return sum(1 for _ in conn)

            watching, consuming = Running(watch), Running(consume)
            start.wait(SOON)
            count = rng.randrange(50)
            peer.sendall(frame(TEXT, b"x") * count)
            if end == "close frame":
                peer.sendall(frame(TEXT, b"x") * count + close_frame())
                peer.close()
            elif end == "fin":
                peer.close()
            elif end == "close()":
                conn.close()
            else:
                conn._begin_close(1001)
                peer.close()
            assert watching.result() == [True, False]
            consuming.result()


# -- a blocked sender ------------------------------------------------------


@transports
def test_a_blocked_sender_reads_for_a_receiver_that_comes_later(tls):
    near, far = tls_pair() if tls else tcp_pair()
    conn = connection(near)
    peer = connection(far, client=False, binary_type=bytes)
    call = sending(conn, bytes(30 * MIB // 2))
    late = Running(conn.receive, SOON)
    until(lambda: conn._intake.waiters or conn._link.channel.reader)
    peer.send("while it is blocked")
    assert late.result() == "while it is blocked"
    assert not call.done()
    assert len(peer.receive(SOON)) == 15 * MIB
    call.result()
    with running(peer.close):
        conn.close()


def test_a_blocked_sender_answers_a_ping_after_its_frame():
    with raw_peer() as (conn, peer):
        call = sending(conn, bytes(15 * MIB))
        peer.sendall(frame(PING, b"one") + frame(PING, b"two") + frame(TEXT, b"seen"))
        until(lambda: unread(conn))
        assert receive_frame(peer) == (0x82, bytes(15 * MIB))
        call.result()
        assert conn.receive(0) == "seen"
        assert conn.receive(0) is None  # the frame may have left no room for the answer
        assert receive_frame(peer) == (0x8A, b"two")  # of several, the newest


@pytest.mark.parametrize("poll", ["receive", "connected"])
def test_who_polls_sends_an_answer_for_which_there_was_no_room(poll):
    with raw_peer() as (conn, peer):
        filled = fill(conn)
        peer.sendall(frame(PING, b"one"))
        assert conn.receive(0.05) is None
        receive_exactly(peer, filled)
        if poll == "receive":
            assert conn.receive(0) is None
        else:
            assert conn.connected()
        assert receive_frame(peer) == (0x8A, b"one")


def test_who_receives_a_message_sends_an_answer_for_which_there_was_no_room():
    with raw_peer() as (conn, peer):
        filled = fill(conn)
        peer.sendall(frame(PING, b"one"))
        assert conn.receive(0.05) is None
        receive_exactly(peer, filled)
        peer.sendall(frame(TEXT, b"message"))
        assert conn.receive(SOON) == "message"
        assert receive_frame(peer) == (0x8A, b"one")


def test_a_blocked_receiver_answers_a_ping_between_two_frames_of_a_busy_sender():
    stop = threading.Event()

    def send(conn):
        while not stop.is_set():
            conn.send_binary(bytes(1000))

    with raw_peer(ping_interval=None) as (conn, peer):
        call, inside = Running(send, conn), receiving(conn)
        for number in range(12):
            peer.sendall(frame(PING, b"%d" % number))
            while (got := receive_frame(peer))[0] != 0x8A:
                assert got == (0x82, bytes(1000))
            assert got[1] == b"%d" % number
        stop.set()
        draining = Running(receive_to_end, peer)
        call.result()
        conn._abort()
        assert inside.result() is None
        draining.result()


@pytest.mark.parametrize("size", [1, 2000, 200_000])
def test_what_a_blocked_sender_lets_pile_up_is_bounded(size):
    limit = MIB
    total = 40 * MIB if size > 1 else 4 * MIB
    messages = total // (size + 10)

    with raw_peer(binary_type=bytes, max_backlog=limit) as (conn, peer):
        call = sending(conn, bytes(15 * MIB))

        def shout():
            peer.sendall(frame(BINARY, bytes(size)) * messages)
            peer.sendall(frame(TEXT, b"end"))

        shouting = Running(shout)
        until(conn._intake.full)
        # Nothing is read any more, and the other side stalls; unless it all went into sockets.
        waiting = list(conn._ready)
        assert len(waiting) * (size + 64) < 2 * limit + 600_000 + size
        received = 0
        while (message := conn.receive(SOON)) != "end":
            received += 1
            assert len(message) == size
        assert received == messages
        assert receive_frame(peer) == (0x82, bytes(15 * MIB))
        call.result()
        shouting.result()


def test_what_has_piled_up_is_counted_while_another_thread_takes_it():
    class Changing(deque):
        def copy(self):  # as without a GIL
            raise RuntimeError("deque mutated during iteration")

    with raw_peer() as (conn, _):
        conn._intake._backlog = conn._intake._max_backlog
        conn._intake._ready = Changing()
        assert conn._intake.full()
        conn._intake._ready = deque()
        assert not conn._intake.full()


def test_close_waits_for_a_frame_that_is_being_sent():
    with raw_peer(close_timeout=60) as (conn, peer):
        call = sending(conn, bytes(15 * MIB))
        closing = Running(conn.close, 4000)
        until(lambda: conn._link.lifecycle.closing)
        assert receive_frame(peer) == (0x82, bytes(15 * MIB))
        assert receive_frame(peer) == (0x88, b"\x0f\xa0")
        call.result()
        peer.sendall(close_frame(4000))
        peer.shutdown(socket.SHUT_WR)
        closing.result()


def test_the_stream_is_not_ended_while_a_sender_is_just_leaving():
    with raw_peer(client=False) as (conn, peer):
        with conn._outlet.lock:
            assert not conn._outlet.finish()
        assert conn._outlet.finish()
        assert peer.recv(1) == b""


def test_close_ends_a_sender_that_stays_blocked():
    with raw_peer(close_timeout=0.3) as (conn, _):
        call = sending(conn, bytes(15 * MIB))
        others = [Running(conn.send, "x") for _ in range(3)]
        start = time.monotonic()
        conn.close(4000)
        assert 0.3 <= time.monotonic() - start < 3
        assert conn.fileno() == -1
        for each in (call, *others):
            with pytest.raises(ConnectionClosed) as caught:
                each.result()
            assert caught.value.code == 4000


@transports
@pytest.mark.parametrize("receivers", [0, 1])
def test_a_reset_ends_a_blocked_sender_and_every_receiver(tls, receivers):
    near, far = tls_pair() if tls else tcp_pair()
    conn = connection(near)
    inside = [receiving(conn) for _ in range(receivers)]
    call = sending(conn, bytes(15 * MIB))
    reset(far._sock if tls else far)
    with pytest.raises(ConnectionClosed) as caught:
        call.result()
    assert caught.value.code == 1006
    for each in inside:
        assert each.result() is None
    assert conn.receive(SOON) is None
    assert conn.connected() is False
    with pytest.raises(ConnectionClosed):
        conn.send("x")
    conn.close()
    assert conn.fileno() == -1


def test_a_stream_that_the_peer_ended_still_takes_the_frame_that_was_begun():
    with raw_peer() as (conn, peer):
        call = sending(conn, bytes(15 * MIB))
        peer.sendall(close_frame(4000))
        until(lambda: not conn._link.lifecycle.open)
        assert receive_frame(peer) == (0x82, bytes(15 * MIB))
        assert receive_frame(peer) == (0x88, b"\x0f\xa0")
        call.result()
        assert not conn.connected()
        with pytest.raises(ConnectionClosed) as caught:
            conn.send("x")
        assert caught.value.code == 4000


def test_a_message_that_waits_behind_a_pong_is_not_sent_after_a_close_frame():
    with raw_peer() as (conn, peer):
        filled = fill(conn)
        while not conn._link.protocol.outbox:  # the first is in hand, and cannot leave
            peer.sendall(frame(PING))
            assert conn.receive(0.01) is None
        call = Running(conn.send, "late")
        until(conn._outlet.lock.locked)
        peer.sendall(close_frame())
        until(lambda: not conn._link.lifecycle.open)
        receive_exactly(peer, filled)
        frames = itertools.takewhile(
            lambda got: got[0] != 0x88, iter(lambda: receive_frame(peer), 0)
        )
        assert {first for first, _ in frames} == {0x8A}
        peer.shutdown(socket.SHUT_WR)
        call.result()
        assert not conn.connected()
        assert receive_to_end(peer) == b""


def test_a_failed_frame_is_followed_by_nothing():
    with raw_peer(send_timeout=0.3) as (conn, peer):
        first = sending(conn, bytes(15 * MIB))
        others = [Running(conn.send, "x") for _ in range(4)]
        with pytest.raises(SendTimeout):
            first.result()
        for other in others:
            # Who waited for its turn may have come to the end of its own send_timeout.
            with pytest.raises((ConnectionClosed, SendTimeout)):
                other.result()
        data = receive_to_end(peer)
        assert 0 < len(data) < 15 * MIB


# -- close, from everywhere at once ----------------------------------------


@transports
def test_many_threads_close_at_once(tls):
    with both_ends(tls=tls, close_timeout=5) as (client, server):
        start = threading.Barrier(9)

        def close(conn, code):
            start.wait(SOON)
            conn.close(code)

        calls = [Running(close, client, 4000 + number) for number in range(4)]
        calls += [Running(close, server, 4100 + number) for number in range(4)]
        start.wait(SOON)
        begin = time.monotonic()
        for call in calls:
            call.result()
        assert time.monotonic() - begin < 4
        assert client.fileno() == server.fileno() == -1
        assert client.close_code // 100 in (40, 41)
        assert {client.close_code // 100, server.close_code // 100} <= {40, 41}


@transports
@pytest.mark.parametrize("seed", range(4))
def test_a_storm_of_calls_ends_cleanly(tls, seed):
    """Senders, receivers and watchers on both ends, until somebody closes or resets."""
    rng = random.Random(seed)
    near, far = tls_pair() if tls else tcp_pair()
    options = {"binary_type": bytes, "close_timeout": 2, "send_timeout": 5}
    ends = [connection(near, client=True, **options), connection(far, client=False, **options)]
    stop = threading.Event()

    def send(conn, seed):
        local = random.Random(seed)
        with contextlib.suppress(ConnectionClosed, SendTimeout):
            while not stop.is_set():
                conn.send_binary(bytes(local.choice([0, 1, 100, 5000, 300_000])))
                if local.random() < 0.1:
                    conn.send_many([b"x", "y", bytes(1000)] * 10)

    def receive(conn, seed):
        local = random.Random(seed)
        while conn.connected() and not stop.is_set():
            message = conn.receive(local.choice([0, 0.001, 0.1]))
            assert message is None or message in ("y", bytes(len(message)), b"x")

    def watch(conn):
        while conn.connected():
            repr(conn)

    calls = [Running(send, conn, rng.random()) for conn in ends for _ in range(2)]
    calls += [Running(receive, conn, rng.random()) for conn in ends for _ in range(2)]
    calls += [Running(watch, conn) for conn in ends]
    threading.Event().wait(rng.uniform(0.02, 0.2))  # any moment is as good as another
    end = rng.choice(["close", "close both", "abort", "begin"])
    if end == "abort":
        ends[0]._abort()
    elif end == "begin":
        ends[1]._begin_close(1001)
    else:
        closers = [Running(conn.close, 4000) for conn in ends[: 1 if end == "close" else 2]]
        for call in closers:
            call.result()
    stop.set()
    for conn in ends:
        conn.close()
    for call in calls:
        call.result()
    assert [conn.fileno() for conn in ends] == [-1, -1]
    assert not any(conn.connected() for conn in ends)


# In small: nothing grows with connections that come and go.
@pytest.mark.abuse(73)
def test_no_thread_is_started_for_a_connection():
    before = threading.active_count()
    with raw_peer() as (conn, peer):
        conn.send("x")
        peer.sendall(frame(PING) + frame(TEXT, b"y"))
        assert conn.receive(SOON) == "y"
        assert conn.connected()
        assert threading.active_count() == before


@pytest.mark.abuse(73)
def test_a_thousand_connections_leave_no_descriptor():
    for _ in range(250):
        with both_ends() as (client, server):
            client.send("x")
            assert server.receive(SOON) == "x"
            with running(lambda server=server: server.receive(SOON)):
                client.close()
