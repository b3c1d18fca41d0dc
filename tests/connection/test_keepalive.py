"""What keepalive does for connections, on real sockets: whom it keeps, whom it answers.

And what is left of it where there is no thread for it.
"""

import contextlib
import ctypes
import random
import select
import socket
import sys
import threading
from time import monotonic

import pytest

from frames import CLOSE, PING, PONG, TEXT, close_frame, frame
from pairs import (
    KIB,
    SOON,
    ByMethod,
    Counted,
    Running,
    arrived,
    connection,
    ended,
    raw_peer,
    receive_close,
    receive_frame,
    receive_to_end,
    reset,
    roles,
    running,
    tcp_pair,
    tls_pair,
    transports,
    unread,
    until,
)
from scriptling_ws import ConnectionClosed, connect
from scriptling_ws._connection import keepalive as _keepalive
from scriptling_ws._connection import pinger as _pinger
from scriptling_ws._connection.intake import BEHIND
from scriptling_ws._connection.pings import Ping
from scriptling_ws._handshakes.terms import Terms
from scriptling_ws._network import pulse as _pulse
from scriptling_ws._network.transport import Transport
from scriptling_ws._network.waiting import engine
from servers import echo, serving

OFTEN = 0.02  # seconds
AGES = 1000.0
NOW = 0.0  # so long ago that it is time

compressions = pytest.mark.parametrize("deflate", [None, Terms()], ids=["plain", "deflate"])


@contextlib.contextmanager
def a_pair(*, client=True, tls=False, deflate=None, buffer=None, other=None, said=None, **options):
    """A Connection in a role, and its peer, another one that keepalive leaves alone.

    The peer has `said` something before there is the connection, whose keepalive waits for nobody.
    """
    near, far = tls_pair(buffer=buffer) if tls else tcp_pair(buffer)
    peer = connection(
        far, client=not client, deflate=deflate, **{"ping_interval": None, **(other or {})}
    )
    if said is not None:
        peer.send(said)
    one = connection(near, client=client, deflate=deflate, **options)
    try:
        yield one, peer
    finally:
        for conn in (one, peer):
            conn._abort()
            conn.close()


@pytest.fixture(autouse=True)
def often(monkeypatch):
    """What is done once a second is done more often here."""
    monkeypatch.setattr(_pinger, "LOOK", OFTEN)
    monkeypatch.setattr(_keepalive, "_SWEEP", OFTEN)


class Looks:
    """Counts how often keepalive has looked after any connection."""

    def __init__(self, monkeypatch):
        self._count = 0
        self._changed = threading.Condition()
        look = _pinger.Pinger.look_after

        def counted(conn):
            due = look(conn)
            with self._changed:
                self._count += 1
                self._changed.notify_all()
            return due

        monkeypatch.setattr(_pinger.Pinger, "look_after", counted)

    def more(self, number=2):
        """Wait until it has looked so often again."""
        with self._changed:
            end = self._count + number
            assert self._changed.wait_for(lambda: self._count >= end, SOON)


def look(conn):
    """Look after a connection as the keepalive thread does, now."""
    return conn._pinger.look_after()


def descriptor(conn):
    return conn._link.transport.fileno()


def answers(conn, peer):
    """Look after a connection; whether it has answered. The keepalive thread may be quicker."""
    look(conn)
    return select.select([peer], [], [], 0)[0]


# -- whom it keeps -----------------------------------------------------------


class Uncounted(ByMethod):
    """A transport of whose bytes no kernel tells anything; it notes whether it is waited on."""

    def __init__(self, sock):
        super().__init__(sock)
        self.waited = threading.Event()

    def pulse(self):
        return None

    def has_pulse(self):
        return False

    def wait(self, *arguments, **keywords):
        self.waited.set()
        super().wait(*arguments, **keywords)


@roles
def test_what_was_received_counts_while_a_receiver_waits_for_more(client):
    near, far = tcp_pair()
    transport = Uncounted(near)
    conn = connection(transport, client=client, ping_interval=AGES, ping_timeout=1)
    with far:
        conn._pinger._liveness.asked -= 2 * AGES
        look(conn)  # it asks
        assert not conn._pinger._liveness.answered
        far.sendall(frame(TEXT, b"alive", mask=not client))
        assert conn.receive(SOON) == "alive"
        transport.waited.clear()
        receiving = Running(conn.receive, None)
        assert transport.waited.wait(SOON)
        conn._pinger._liveness._since -= AGES  # and it has no time left
        look(conn)
        assert conn._pinger._liveness.answered
        far.sendall(frame(TEXT, b"more", mask=not client) + close_frame(mask=not client))
        assert receiving.result() == "more"
    conn.close()


@roles
@transports
@compressions
def test_a_message_to_a_slow_reader_is_sent_whatever_the_interval(
    client, tls, deflate, monkeypatch
):
    message = random.Random(1).randbytes(512 * KIB)  # compressing makes it no smaller
    interval, ahead = 60.0, 0.0  # by a clock that this test sets forward
    monkeypatch.setattr(_pinger, "monotonic", lambda: monotonic() + ahead)
    with a_pair(
        client=client,
        tls=tls,
        deflate=deflate,
        buffer=64 * KIB,
        other={"binary_type": bytes},
        ping_interval=interval,
        ping_timeout=5 * interval,  # while the message takes more than twice as long
        send_timeout=None,
    ) as (conn, peer):
        sending = Running(conn.send_binary, message)

        def taken():
            pulse = conn._link.transport.pulse()
            return pulse and pulse.acknowledged

        def reads_on():  # until the sender's system has seen it: more than a ping, which is no sign
            read_on(peer)
            return unread(peer) or seen is None or taken() > seen + KIB

        while not unread(peer):
            for _ in range(3):  # it asks, and judges; then the peer reads on, a little
                ahead += interval
                look(conn)
            assert conn.close_code is None
            seen = taken()
            until(reads_on)
        assert ahead > 2 * 5 * interval
        assert peer.receive(0) == message
        assert sending.result() is None


def read_on(conn):
    """Receive once; how much came, None if nothing was there."""
    with conn._intake.lock:
        return conn._intake.read_some(nap=False)


@roles
@pytest.mark.parametrize("last", [close_frame, reset], ids=["close", "reset"])
def test_a_thread_that_looks_after_many_naps_for_none(client, last):
    near, far = tcp_pair()
    far.settimeout(SOON)
    transport = Counted(near)
    conn = connection(transport, client=client, ping_interval=OFTEN, close_timeout=OFTEN)
    first, asked = receive_frame(far)
    assert first & 0x0F == PING
    far.sendall(frame(PONG, asked, mask=not client) + frame(PING, b"a", mask=not client))
    until(lambda: receive_frame(far) == (0x80 | PONG, b"a"))  # others of its pings come before
    if last is reset:
        reset(far)
    else:
        far.sendall(close_frame(mask=not client))
        assert receive_to_end(far)
        far.close()
    until(lambda: conn.close_code is not None and transport.fileno() < 0)
    assert transport.reads >= 2
    assert not any(transport.naps)


@transports
def test_a_peer_that_reads_nothing_is_not_kept_by_what_its_kernel_takes(tls):
    with a_pair(tls=tls, ping_interval=OFTEN, ping_timeout=OFTEN) as (conn, _):
        conn.send("taken by the kernel, and never read" * 100)
        until(lambda: conn.close_code == 1011)


@roles
@transports
def test_a_connection_on_which_something_lies_unread_is_kept(client, tls, monkeypatch):
    looks = Looks(monkeypatch)
    # It is not read for the caller, so that a pong could stand behind it.
    options = {"ping_interval": OFTEN, "ping_timeout": OFTEN, "max_backlog": 0}
    with a_pair(client=client, tls=tls, said="unread", **options) as (conn, _):
        looks.more(20)
        assert conn.connected()
        assert conn.receive(SOON) == "unread"  # not at once, while another thread has a look


@pytest.mark.skipif(not hasattr(ctypes, "PyDLL") or sys.platform == "win32", reason="no usleep")
@pytest.mark.parametrize("reading", [False, True])
@transports
def test_after_a_sleep_of_the_process_it_looks_before_it_judges(tls, reading):
    hold = ctypes.PyDLL(None).usleep  # and keeps the GIL
    with a_pair(tls=tls, ping_interval=0.3, ping_timeout=0.3) as (conn, peer):
        answering = Running(peer.receive, None)
        receiving = Running(conn.receive, None) if reading else None
        until(lambda: not conn._pinger._liveness.answered)  # a ping is under way
        asked = conn._pinger._liveness.asked
        hold(700_000)
        until(
            lambda: conn._pinger._liveness.asked != asked or not conn._link.lifecycle.open
        )  # it was answered
        assert conn._link.lifecycle.open, conn.close_reason
        peer.send("alive")
        assert (receiving.result() if receiving else conn.receive(SOON)) == "alive"
        conn.send("alive")
        assert answering.result() == "alive"


def test_a_look_before_the_interval_is_over_asks_nothing():
    with raw_peer(ping_interval=AGES) as (conn, _):
        for _ in range(3):
            due = look(conn)
            assert due.moment > monotonic() + AGES / 2
        assert conn._pinger._key is None
        conn._pinger._liveness.asked -= AGES
        look(conn)
        asked = conn._pinger._key
        assert asked is not None
        conn._link.channel.heard = True  # whatever comes is an answer
        for _ in range(3):
            look(conn)
        assert conn._pinger._key == asked


def test_a_ping_behind_a_frame_counts_from_when_it_has_left():
    with raw_peer(ping_interval=AGES, ping_timeout=1) as (conn, _):
        conn._pinger._liveness.asked -= 2 * AGES  # it is time
        with conn._outlet.lock:  # as a sender, whose frame takes its time
            look(conn)
            conn._pinger._liveness._since -= 10
            assert not conn._pinger._ping_has_left()
            look(conn)
            assert conn._link.lifecycle.open
        conn._intake.answer()
        assert conn._pinger._ping_has_left()
        assert (
            conn._pinger._liveness.next_look(conn._pinger._liveness._since, AGES)
            == conn._pinger._liveness._since + 1
        )


def test_a_ping_is_looked_for_while_answers_come_and_go():
    with raw_peer(ping_interval=AGES) as (conn, _):
        link, over = conn._link, threading.Event()

        def answer():
            while not over.is_set():
                with link.lifecycle.lock:
                    link.unsent.answers.append(b"pong")
                    del link.unsent.answers[0]

        link.unsent.answers.extend([b"pong"] * 1000)
        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-5)
        try:
            with running(answer):
                try:
                    assert all(conn._pinger._ping_has_left() for _ in range(200))
                finally:
                    over.set()
        finally:
            sys.setswitchinterval(interval)
            link.unsent.answers.clear()


# -- whom it answers -----------------------------------------------------------


def only_sends(conn, asked, message="I only send"):
    """Send, as if a second had passed since the last time, until a call of the peer is over."""

    def sent():
        conn._channel.look_at = NOW
        conn.send(message)
        return asked.done()

    until(sent)


@roles
@transports
@pytest.mark.parametrize("ping_interval", [None, AGES])
def test_a_caller_that_only_sends_answers_a_ping(client, tls, ping_interval):
    with a_pair(client=client, tls=tls, ping_interval=ping_interval) as (conn, peer):
        asked = Running(peer.ping, SOON)
        only_sends(conn, asked)
        assert asked.result() > 0
        assert peer.receive(SOON) == "I only send"


@transports
@pytest.mark.parametrize("ping_interval", [None, AGES])
def test_a_caller_that_only_sends_answers_a_ping_behind_messages(tls, ping_interval):
    with a_pair(tls=tls, ping_interval=ping_interval) as (conn, peer):
        peer.send_many(map(str, range(100)))
        asked = Running(peer.ping, SOON)
        only_sends(conn, asked)
        assert asked.result() > 0
        assert conn.receive_many() == [str(number) for number in range(100)]


def test_large_messages_look_too():
    with a_pair(ping_interval=None, other={"binary_type": bytes}) as (conn, peer):
        asked = Running(peer.ping, SOON)
        only_sends(conn, asked, "x" * 400 * KIB)
        assert asked.result() > 0


def test_send_looks_about_once_a_second(monkeypatch):
    with raw_peer(ping_interval=None) as (conn, _):
        looks = []
        monkeypatch.setattr(type(conn._writer), "_look_ahead", lambda each: looks.append(each))
        conn._channel.look_at = NOW
        for _ in range(3):
            conn.send("x")
        assert looks == [conn._writer]


@roles
@transports
def test_an_idle_connection_answers_a_ping(client, tls):
    with a_pair(client=client, tls=tls, ping_interval=AGES) as (conn, peer):
        look(conn)
        assert [peer.ping(SOON) is not None for _ in range(3)] == [True] * 3
        assert not unread(conn)


@roles
@transports
def test_a_caller_that_is_at_work_answers_pings_behind_messages(client, tls):
    with a_pair(client=client, tls=tls, ping_interval=AGES, binary_type=bytes) as (conn, peer):
        messages = [b"%d" % number * 5000 for number in range(20)]
        for message in messages[:10]:
            peer.send_binary(message)
        assert peer.ping(SOON) is not None
        assert peer.ping(SOON) is not None
        for message in messages[10:]:
            peer.send_binary(message)
        assert peer.ping(SOON) is not None
        assert [conn.receive(SOON) for _ in messages] == messages
        peer.send("and on")
        assert conn.receive(SOON) == "and on"


@transports
def test_a_peer_keeps_a_caller_that_is_at_work(tls):
    """With one message taken, others unread, and an interval much shorter than its own."""
    other = {"ping_interval": 0.1, "ping_timeout": SOON}
    with a_pair(client=False, tls=tls, ping_interval=AGES, other=other) as (conn, peer):
        for number in range(5):
            peer.send(str(number))
        assert conn.receive(SOON) == "0"
        until(lambda: peer.stats().pongs_received >= 3)
        assert conn.receive_many() == ["1", "2", "3", "4"]
        assert peer.connected()


def test_what_a_caller_takes_is_left_to_it():
    with raw_peer(ping_interval=None) as (conn, peer):
        for letter, left in (("a", False), ("b", True), ("c", True)):
            peer.sendall(frame(TEXT, letter.encode()) + frame(PING, b"behind"))
            until(conn._link.transport.unread)
            look(conn)  # one was taken since the last one, but for the first
            assert conn._link.transport.unread() is left
            assert conn.receive(0) == letter


def test_of_a_message_without_end_as_much_is_read_for_a_caller_that_is_at_work():
    with raw_peer(ping_interval=AGES, max_message_size=None) as (conn, peer):
        peer.settimeout(SOON)
        sending = Running(lambda: peer.sendall(frame(TEXT, bytes(4 * BEHIND), fin=False)))
        until(lambda: look(conn) and conn._intake.full(BEHIND))
        until(conn._link.transport.unread)
        look(conn)
        assert BEHIND - 128 * KIB <= conn._link.protocol.partial <= BEHIND + 16 * KIB
        asked = Running(conn.receive, SOON)
        sending.result()
        peer.sendall(frame(0, b"."))
        assert asked.result() == "\0" * 4 * BEHIND + "."


@pytest.mark.parametrize("most", [0, 100 * KIB, None])
def test_so_much_is_read_for_a_caller_that_is_at_work(most):
    options = {} if most is None else {"max_backlog": most}
    bound = BEHIND if most is None else most
    message = bytes(50 * KIB)
    count = 4 * BEHIND // len(message)
    other = {"binary_type": bytes}
    options |= {"client": False, "ping_interval": AGES, "binary_type": bytes}
    with a_pair(other=other, **options) as (conn, peer):
        sending = Running(peer.send_many, [message] * count)
        until(lambda: look(conn) and conn._intake.full(BEHIND))
        until(conn._link.transport.unread)
        look(conn)
        held = sum(map(len, [*conn._link.protocol.ready, *conn._link.protocol.unreceived.held]))
        assert bound - 2 * len(message) <= held <= bound + 16 * KIB  # with what one read takes
        assert [conn.receive(SOON) for _ in range(count)] == [message] * count
        sending.result()


def test_control_frames_that_come_in_pieces_are_answered():
    with raw_peer(ping_interval=AGES) as (conn, peer):
        ping = frame(PING, b"in pieces")
        for byte in ping[:-1]:
            peer.sendall(bytes([byte]))
        arrived(conn, len(ping) - 1)
        assert not look(conn).readable  # it would be at once, again and again
        assert conn.receive(0) is None  # which leaves a part of it in the window
        peer.sendall(ping[-1:])
        until(lambda: answers(conn, peer))
        assert receive_frame(peer) == (0x80 | PONG, b"in pieces")


class Sparing(ByMethod):
    """A transport on which a short ping comes at a time."""

    def peek(self, size):
        return super().peek(min(size, 3))

    def read_into(self, buffer, nap=False):
        return super().read_into(memoryview(buffer)[:3], nap)


def test_keepalive_takes_so_many_pings_of_one_connection_and_then_looks_at_others():
    with raw_peer(transport=Sparing, ping_interval=None) as (conn, peer):
        pings = [bytes([65 + number]) for number in range(20)]
        peer.sendall(b"".join(frame(PING, each) for each in pings))
        arrived(conn, 60)
        assert look(conn).readable
        assert conn.stats().frames_sent == 16
        assert look(conn).readable
        assert [receive_frame(peer) for _ in pings] == [(0x80 | PONG, each) for each in pings]


@roles
@transports
def test_select_sees_a_message_that_keepalive_has_seen(client, tls):
    with a_pair(client=client, tls=tls, ping_interval=AGES) as (conn, peer):
        assert conn.fileno() >= 0  # as one who selects has called it
        pong = peer._pinger._send(Ping())
        for message in ("seen", "and seen"):
            peer.send(message)
        until(lambda: look(conn).when_free)  # and not `readable`, which would be at once
        assert not unread(conn)
        assert select.select([conn], [], [], SOON)[0] == [conn]
        assert conn.receive(SOON) == "seen"
        if not unread(conn):  # the second one was not taken with it
            look(conn)
            assert select.select([conn], [], [], SOON)[0] == [conn]
        assert conn.receive(SOON) == "and seen"
        assert select.select([conn], [], [], 0)[0] == []
        until(lambda: read_on(peer) is not None)
        assert pong not in peer._link.pings.waiting  # what stood in front was answered


def test_select_sees_messages_that_lay_there_before_the_descriptor_was_asked_for(monkeypatch):
    looks = Looks(monkeypatch)
    with a_pair(ping_interval=OFTEN, ping_timeout=None) as (conn, peer):
        peer.send("one")
        peer.send("two")
        looks.more(10)
        assert select.select([conn], [], [], SOON)[0] == [conn]
        assert [conn.receive(SOON) for _ in range(2)] == ["one", "two"]


def test_send_leaves_messages_to_a_caller_that_waits_on_the_descriptor():
    with a_pair(ping_interval=None) as (conn, peer):
        assert conn.fileno() >= 0
        peer.send("for select")
        arrived(conn)
        conn._channel.look_at = NOW
        conn.send("x")
        assert select.select([conn], [], [], SOON)[0] == [conn]
        assert conn.receive(0) == "for select"


def test_a_part_of_a_fragmented_message_is_left_and_a_ping_between_is_answered():
    with raw_peer(ping_interval=AGES) as (conn, peer):
        peer.sendall(frame(TEXT, b"one ", fin=False))
        until(lambda: conn.receive(0) is None and conn._link.protocol._arriving.assembly.size == 4)
        peer.sendall(frame(PING, b"between"))
        until(lambda: answers(conn, peer))
        assert receive_frame(peer) == (0x80 | PONG, b"between")
        peer.sendall(frame(0, b"two"))
        assert conn.receive(SOON) == "one two"


@roles
def test_a_frame_that_breaks_the_protocol_is_refused_without_a_caller(client):
    with raw_peer(client=client, ping_interval=AGES) as (conn, peer):
        peer.sendall(frame(PING, bytes(126), mask=not client))
        until(lambda: answers(conn, peer))
        assert receive_close(peer)[0] == 1002


# -- the peer's close --------------------------------------------------------------


@roles
@transports
@pytest.mark.parametrize("ends", [False, True], ids=["stays", "ends its stream"])
def test_the_closing_handshake_ends_without_a_caller(client, tls, ends):
    with a_pair(client=client, tls=tls, ping_interval=AGES, close_timeout=0.2) as (conn, peer):
        look(conn)
        if ends:
            peer.close(4000, "goodbye")
        else:
            peer._begin_close(4000, "goodbye")
        until(lambda: descriptor(conn) == -1)
        assert (conn.close_code, conn.close_reason) == (4000, "goodbye")
        assert not conn.connected()


def test_a_stream_that_ends_without_a_word_is_noticed_without_a_caller():
    with raw_peer(ping_interval=AGES) as (conn, peer):
        look(conn)
        peer.close()
        until(lambda: descriptor(conn) == -1)
        assert conn.close_code == 1006


@transports
def test_a_reset_is_noticed_without_a_caller(tls):
    with a_pair(tls=tls, ping_interval=AGES, close_timeout=0.1) as (conn, peer):
        with conn._outlet.lock:  # so that keepalive does not get to the end by itself
            reset(peer._link.transport._sock)
            ended(conn)
            until(lambda: look(conn) and conn.close_code == 1006)
        until(lambda: descriptor(conn) == -1)


def test_without_keepalive_a_close_that_was_told_ends_without_another_call():
    with raw_peer(ping_interval=None, close_timeout=0.3) as (conn, peer):
        peer.sendall(close_frame(4000))
        assert conn.receive(SOON) is None
        assert receive_close(peer)[0] == 4000
        until(lambda: descriptor(conn) == -1)  # although the peer does not end its stream


def test_a_silent_peer_that_was_given_up_leaves_no_descriptor():
    with raw_peer(ping_interval=OFTEN, ping_timeout=OFTEN) as (conn, _):
        until(lambda: descriptor(conn) == -1)
        assert conn.close_code == 1011


@transports
def test_a_server_that_closes_is_not_kept_by_an_idle_client(tls):
    from pairs import tls_contexts

    theirs, ours = tls_contexts() if tls else (None, None)
    with serving(echo, shutdown_timeout=60, ssl_context=ours) as server:
        url = server.url.replace("127.0.0.1", "localhost")
        conn = connect(url, ssl_context=theirs, close_timeout=60)
        closing = Running(server.close)
        closing.result(SOON)
        until(lambda: descriptor(conn) == -1)
        assert conn.close_code == 1001


def test_a_sender_that_is_inside_does_not_hold_keepalive_up():
    with raw_peer(ping_interval=AGES, close_timeout=0) as (conn, peer):
        with conn._outlet.lock:  # as a sender
            peer.sendall(close_frame())
            # The keepalive thread may have been quicker.
            until(lambda: conn.close_code or select.select([conn], [], [], 0)[0])
            due = look(conn)
            assert due is not None
            assert descriptor(conn) >= 0
        look(conn)
        assert descriptor(conn) == -1


# -- what a blocked sender is told -----------------------------------------------------


@pytest.mark.abuse(39)
@roles
@transports
@compressions
@pytest.mark.parametrize("reading", [False, True])
def test_a_close_frame_reaches_a_blocked_sender(client, tls, deflate, reading):
    with a_pair(
        client=client,
        tls=tls,
        deflate=deflate,
        buffer=64 * KIB,
        send_timeout=None,
        close_timeout=0.1,
        ping_interval=None,
    ) as (conn, peer):
        sending = Running(conn.send_binary, random.Random(1).randbytes(1024 * KIB))
        until(lambda: conn._link.unsent.rest is not None and not peer_can_read_more(conn))
        receiving = Running(conn.receive, None) if reading else None
        peer._begin_close(1009, "too big!")
        with pytest.raises(ConnectionClosed) as caught:
            sending.result(SOON)
        assert (caught.value.code, caught.value.reason) == (1009, "too big!")
        if receiving:
            assert receiving.result(SOON) is None


def peer_can_read_more(conn):
    return select.select([], [descriptor(conn)], [], 0)[1]


def test_a_peer_that_closes_and_reads_on_gets_the_whole_message():
    with raw_peer(client=False, close_timeout=SOON) as (conn, peer):
        sending = Running(conn.send_binary, bytes(8 * 1024 * KIB))
        until(lambda: conn._link.unsent.rest is not None and not peer_can_read_more(conn))
        peer.sendall(close_frame(1000, mask=True))
        until(lambda: conn.close_code == 1000)
        assert receive_frame(peer) == (0x82, bytes(8 * 1024 * KIB))
        assert sending.result() is None
        assert receive_frame(peer)[0] == 0x80 | CLOSE


# -- without a thread --------------------------------------------------------------------


@pytest.fixture
def no_thread(monkeypatch):
    """An interpreter that gives keepalive no thread."""
    service = _keepalive._Service()

    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setitem(_keepalive._services, engine(), service)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    yield
    if service._alarm is not None:
        service._alarm.close()


@pytest.mark.abuse(63)
def test_without_a_thread_a_receiver_asks_and_gives_up(no_thread):
    with raw_peer(ping_interval=OFTEN, ping_timeout=OFTEN) as (conn, _):
        assert conn.receive(SOON) is None
        assert conn.close_code == 1011


def test_without_a_thread_a_receiver_keeps_a_peer_that_answers(no_thread):
    near, far = tcp_pair()
    with far:
        conn = connection(near, ping_interval=OFTEN, ping_timeout=OFTEN)
        for _ in range(3):
            far.settimeout(OFTEN / 4)
            while True:
                assert conn.receive(OFTEN / 2) is None
                with contextlib.suppress(TimeoutError):
                    opcode, payload = receive_frame(far)
                    break
            assert opcode == 0x80 | PING
            far.sendall(frame(PONG, payload))
        assert conn.connected()
        conn._abort()
        conn.close()


def test_without_a_thread_a_close_that_was_told_harms_nothing(no_thread):
    with raw_peer(ping_interval=None, close_timeout=0.1) as (conn, peer):
        peer.sendall(close_frame(4000))
        peer.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) is None
        assert receive_close(peer)[0] == 4000
        assert descriptor(conn) == -1


# -- what the kernel counts ------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="Linux' struct tcp_info")
def test_the_pulse_counts_what_the_kernels_have_taken():
    near, far = tcp_pair()
    with far:
        transport = Transport(near)
        before = transport.pulse()
        far.sendall(b"12345")
        transport.write(b"123")
        until(lambda: transport.pulse().received == before.received + 5)
        until(lambda: transport.pulse().acknowledged == before.acknowledged + 3)
        transport.close()
        assert transport.pulse() is None


@pytest.mark.skipif(sys.platform != "linux", reason="Linux' struct tcp_info")
def test_what_the_peer_has_no_room_for_is_queued_though_nothing_is_under_way():
    near, far = tcp_pair(64 * KIB)
    with far, contextlib.closing(Transport(near)) as transport:
        assert not transport.pulse().queued
        while transport.write(bytes(65_536)):
            pass

        def under_way():
            info = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _pulse._INFO.size)
            return _pulse._INFO.unpack(info)[1]

        until(lambda: not under_way())
        assert transport.pulse().queued


@pytest.mark.skipif(sys.platform != "linux", reason="Linux' struct tcp_info")
def test_what_is_no_tcp_has_no_pulse():
    near, far = socket.socketpair()
    with far:
        transport = Transport(near)
        assert transport.pulse() is None
        transport.close()
