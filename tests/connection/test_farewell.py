"""A client's Close, its answer and the stream's end in one go: as the long way has it."""

import errno
import select
import socket

import pytest

from frames import CLOSE, PING, TEXT, close_frame, frame
from pairs import SOON, at_least, raw_peer, receive_to_end, reset, running, until
from scriptling_ws._connection import reader as _reader
from scriptling_ws._connection.lifecycle import State
from scriptling_ws._network.transport import Transport

CLOSES = {
    "usual": close_frame(1000, b"", mask=True),
    "with a reason": close_frame(4000, "gr\xfc\xdfe".encode(), mask=True),
    "without a code": frame(CLOSE, b"", mask=True),
    "a long reason": close_frame(1001, b"x" * 100, mask=True),
    "a code that may not be sent": close_frame(1005, b"", mask=True),
    "half a code": frame(CLOSE, b"\x03", mask=True),
    "no UTF-8": close_frame(1000, b"\xff", mask=True),
    "without a mask": close_frame(1000, b"", mask=False),
    "in fragments": frame(CLOSE, b"", mask=True, fin=False),
    "behind a message": frame(TEXT, b"a", mask=True) + close_frame(1000, b"", mask=True),
    "behind a ping": frame(PING, b"a", mask=True) + close_frame(1000, b"", mask=True),
    "twice": close_frame(1000, b"", mask=True) * 2,
    "before a message": close_frame(1000, b"", mask=True) + frame(TEXT, b"a", mask=True),
}


PLAIN = ["usual", "with a reason", "without a code", "behind a message"]


def outcome(data, **options):
    """What a server's end makes of a client that sends this and leaves: what all of it comes to."""
    with raw_peer(client=False, **options) as (conn, peer):
        told = []
        conn.on_close(lambda: told.append(conn.close_code))
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        messages = [*iter(lambda: conn.receive(SOON), None)]
        assert conn.fileno() == -1
        assert not conn.connected()
        stats = conn.stats()
        counts = stats.wire_received, stats.wire_sent, stats.frames_received, stats.frames_sent
        code, reason = conn.close_code, conn.close_reason
        return messages, receive_to_end(peer), code, reason, told, counts


@pytest.fixture
def ways(monkeypatch):
    """Whether each farewell was taken in one go."""
    taken, part = [], _reader.part

    def noting(*arguments):
        taken.append(part(*arguments))
        return taken[-1]

    monkeypatch.setattr(_reader, "part", noting)
    return taken


@pytest.mark.parametrize("name", CLOSES)
def test_both_ways_come_to_the_same(name, monkeypatch, ways):
    short = outcome(CLOSES[name])
    assert any(ways) is (name in PLAIN)
    monkeypatch.setattr(_reader, "part", lambda *_: False)
    assert outcome(CLOSES[name]) == short


class Sparing(Transport):
    """A socket that takes a byte at a time."""

    def write(self, data):
        return super().write(bytes(data[:1]))


def test_an_answer_that_leaves_in_pieces(ways):
    assert outcome(CLOSES["usual"], transport=Sparing) == outcome(CLOSES["usual"])
    assert ways == [False, True]


class Broken(Transport):
    """A socket that takes nothing any more."""

    def write(self, data):
        raise OSError(errno.EPIPE, "broken")


def test_an_answer_that_cannot_leave(ways):
    messages, answers, code, *_ = outcome(CLOSES["usual"], transport=Broken)
    assert (messages, answers, code) == ([], b"", 1000)
    assert ways == [False]


class Raising(Transport):
    """A socket one of whose calls a signal handler interrupts, once."""

    call = error = None

    def _strike(self, call):
        if call == self.call:
            self.call = None
            raise self.error

    def write(self, data):
        self._strike("write")
        return super().write(data)

    def read_into(self, buffer, nap=False):
        self._strike("read")
        return super().read_into(buffer, nap)


@pytest.mark.parametrize("call", ["write", "read"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError])  # one is an OSError
def test_an_exception_of_a_signal_handler_leaves_the_rest_to_the_next_call(call, error):
    with raw_peer(client=False, transport=Raising) as (conn, peer):
        conn._link.transport.call, conn._link.transport.error = call, error
        peer.sendall(CLOSES["usual"])
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(error):
            conn.receive(SOON)
        assert conn._link.send_error is None
        assert conn.receive(SOON) is None
        assert conn.fileno() == -1
        assert receive_to_end(peer) == close_frame(1000)


class Left(Transport):
    """A socket whose peer resets the connection once it has the answer.

    Attributes:
        peer: Its socket.
    """

    peer = None

    def finish_writing(self):
        super().finish_writing()
        assert receive_to_end(self.peer) == close_frame(1000)
        reset(self.peer)
        poller = select.poll()
        poller.register(self.fileno(), 0)  # an error is told of unasked
        assert poller.poll(SOON * 1000)


def test_a_peer_that_resets_the_connection_in_place_of_ending_its_stream(ways):
    with raw_peer(client=False, transport=Left) as (conn, peer):
        conn._link.transport.peer = peer
        peer.sendall(CLOSES["usual"])
        assert conn.receive(SOON) is None
        assert ways == [True]
        assert conn.fileno() == -1
        assert conn.close_code == 1000


def test_a_peer_that_does_not_end_its_stream(ways):
    with raw_peer(client=False, close_timeout=10) as (conn, peer):
        peer.sendall(CLOSES["usual"])
        with at_least(0.2):
            assert conn.receive(SOON) is None
        assert ways == [False]
        assert receive_to_end(peer) == close_frame(1000)
        assert conn._link.lifecycle.state is State.PEER_CLOSED
        peer.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) is None
        assert conn.fileno() == -1


def test_a_peer_that_goes_on_sending(ways):
    with raw_peer(client=False) as (conn, peer):
        peer.sendall(CLOSES["usual"])
        with running(lambda: (receive_to_end(peer), peer.sendall(b"x" * 9000), peer.close())):
            assert conn.receive(SOON) is None
        assert conn.close_code == 1000


def test_a_thread_that_writes_is_not_waited_for(ways):
    with raw_peer(client=False) as (conn, peer):
        peer.sendall(CLOSES["usual"])
        lock = conn._outlet.lock
        assert lock.acquire()
        with running(lambda: conn.receive(SOON)):
            until(lambda: ways == [False])
            lock.release()
            peer.shutdown(socket.SHUT_WR)
            assert receive_to_end(peer) == close_frame(1000)


def test_what_was_not_sent_goes_before(ways):
    with raw_peer(client=False) as (conn, peer):
        conn._link.protocol.outbox.append(frame(PING, b"first"))
        peer.sendall(CLOSES["usual"])
        peer.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) is None
        assert receive_to_end(peer) == frame(PING, b"first") + close_frame(1000)
        assert not any(ways)


def test_a_client_waits_for_the_server(ways):
    with raw_peer(client=True) as (conn, peer):
        peer.sendall(close_frame(1000))
        peer.shutdown(socket.SHUT_WR)
        assert conn.receive(SOON) is None
        assert conn.close_code == 1000
        assert not any(ways)
