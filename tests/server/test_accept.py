"""The acceptor and its peers where a real socket does not easily lead them."""

import contextlib
import errno
import gc
import selectors
import socket
import threading
import weakref
from typing import NamedTuple

import pytest

from pairs import Interrupt, Running, tcp_pair, until
from scriptling_ws._handshakes.head import Refused
from scriptling_ws._network.addresses import address_text
from scriptling_ws._network.deadline import FOREVER, Deadline
from scriptling_ws._network.listen import listen
from scriptling_ws._network.transport import Transport
from scriptling_ws._network.waiting import engine
from scriptling_ws._server import acceptor as _accept
from scriptling_ws._server import endpoints as _endpoints
from scriptling_ws._server import peer as _peer
from scriptling_ws._server import server as _server
from scriptling_ws._server.acceptor import Acceptor
from scriptling_ws._server.access import AccessLog
from scriptling_ws._server.arrival import PeerOptions
from scriptling_ws._server.callers import Callers
from scriptling_ws._server.decisions import Decisions
from scriptling_ws._server.delivery import Delivery
from scriptling_ws._server.doors import Doors
from scriptling_ws._server.endpoints import Endpoints
from scriptling_ws._server.entrance import Entrance
from scriptling_ws._server.figures import Figures
from scriptling_ws._server.limits import REQUEST, WEBSOCKET, Limits
from scriptling_ws._server.operations import Operations
from scriptling_ws._server.peer import AGAIN, CLOSE, READ, READY, WRITE, WRITTEN, Peer
from scriptling_ws._server.reading import Rest
from scriptling_ws._server.response import text
from scriptling_ws._server.server import Server
from scriptling_ws._server.sessions import Sessions
from servers import TIMEOUT, Answer, dial, echo, head, raw_websocket, read_all, serving, upgrade

pytestmark = pytest.mark.once("it is about how connections are accepted")

unix_only = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="no Unix sockets here")

# -- a peer ----------------------------------------------------------------


class Script:
    """A transport that gives what it is told to: bytes, None for "nothing there", b"" for the end.

    It takes as many bytes of a write as `room` says, in turn.
    """

    remote_addr = "127.0.0.1:1"

    def __init__(self, *reads, room=()):
        self.reads = list(reads)
        self.room = list(room)
        self.written = b""
        self.finished = False
        self.flushes = []

    def read_into(self, buffer):
        data = self.reads.pop(0)
        if data is None:
            return None
        buffer[: len(data)] = data
        return len(data)

    def write(self, data):
        count = min(self.room.pop(0), len(data)) if self.room else len(data)
        self.written += bytes(data[:count])
        return count

    def flush(self):
        return self.flushes.pop(0) if self.flushes else True

    def finish_writing(self):
        self.finished = True

    def pulse(self):
        return None


class Admitted(NamedTuple):
    """A request that is let in, and that nothing answers."""

    kind: str | None

    def start(self, arrival):
        """Take it over."""


def admit_all(head, request):
    return Admitted(WEBSOCKET if "upgrade" in request.headers else REQUEST)


def a_place():
    return Limits(None, None, 1).arrive("127.0.0.1:1")


def peer_of(transport, admit=admit_all):
    return Peer(transport, a_place(), FOREVER, admit, PeerOptions())


def acceptor_of(*listeners):
    return Acceptor(
        list(listeners),
        admit_all,
        context=None,
        timeout=None,
        callers=Callers(Limits(None, None, 1)),
        decisions=Decisions(Sessions(AccessLog()), None),
        options=PeerOptions(),
        access=AccessLog(),
    )


BUFFER = bytearray(4096)


def test_a_request_byte_by_byte():
    request = upgrade("/x")
    reads = [part for byte in request for part in (None, bytes([byte]))]
    peer = peer_of(Script(*reads))
    for _ in request:
        assert peer.advance(BUFFER) == READ
    assert peer.advance(BUFFER) == READY
    assert peer.arrival.request.path == "/x"
    assert peer.arrival.rest == b""


@pytest.mark.parametrize("extra", [b"", b"\x81\x80\0\0\0\0"])
def test_what_follows_an_upgrade_is_the_connections(extra):
    peer = peer_of(Script(upgrade("/x") + extra))
    assert peer.advance(BUFFER) == READY
    assert peer.arrival.rest == extra
    assert peer.arrival.request.body == b""


@pytest.mark.parametrize("pieces", [[b"abc"], [b"a", b"bc"], [b"", b"abcREST"]])
def test_a_body_is_told_from_what_follows_it(pieces):
    first, *more = pieces
    later = [part for piece in more for part in (None, piece)]
    peer = peer_of(Script(head("/x", "Content-Length: 3") + first, *later))
    results = [peer.advance(BUFFER) for _ in pieces]
    assert results == [READ] * len(more) + [READY]
    assert peer.arrival.request.body == b"abc"
    assert peer.arrival.rest == b"".join(pieces)[3:]


def test_an_answer_that_does_not_fit_waits():
    transport = Script(upgrade("/x"), None, b"more", None, b"", room=[0, 10, 0])
    transport.flushes = [False]

    def refuse(head, request):
        raise Refused(403, "no")

    peer = peer_of(transport, refuse)
    with pytest.raises(Refused) as refused:
        peer.advance(BUFFER)
    peer.refuse(refused.value, FOREVER)
    assert peer.advance(BUFFER) == WRITE
    assert peer.advance(BUFFER) == WRITE  # ten bytes went
    assert peer.advance(BUFFER) == WRITE  # all went, but TLS keeps some back
    assert not transport.finished
    assert peer.advance(BUFFER) == WRITTEN
    assert peer.advance(BUFFER) == READ
    assert transport.finished
    assert Answer(transport.written).status == 403
    assert peer.advance(BUFFER) == READ  # what still comes is dropped
    assert peer.advance(BUFFER) == CLOSE


def test_a_client_that_waits_is_told_to_go_on_though_that_does_not_fit():
    request = head("/x", "Content-Length: 4", "Expect: 100-continue", method="POST")
    transport = Script(request, None, b"body", room=[5, 0])
    transport.flushes = [False]
    peer = peer_of(transport)
    assert peer.advance(BUFFER) == WRITE  # five bytes went
    assert peer.advance(BUFFER) == WRITE  # all went, but TLS keeps some back
    assert peer.advance(BUFFER) == READ
    assert transport.written == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert peer.advance(BUFFER) == READY
    assert peer.arrival.request.body == b"body"


def test_what_is_drained_is_bounded():
    transport = Script(*[bytes(4096)] * 2000)
    peer = Peer.to_deliver(Delivery(transport, text(200, "answer"), head_only=False), a_place())
    assert peer.advance(BUFFER) == WRITTEN
    turns = 0
    while (result := peer.advance(BUFFER)) == AGAIN:  # others have their turn
        turns += 1
    assert result == CLOSE
    assert len(transport.reads) > 900
    assert turns >= 16


def test_a_body_is_read_in_turns():
    reads = [bytes(4096)] * 200
    peer = Peer(
        Script(head("/", f"Content-Length: {200 * 4096}"), *reads),
        a_place(),
        FOREVER,
        admit_all,
        PeerOptions(max_body_size=200 * 4096),
    )
    results = [peer.advance(BUFFER)]
    while results[-1] == AGAIN:
        results.append(peer.advance(BUFFER))
    assert results[-1] == READY
    assert len(results) >= 3
    assert peer.arrival.request.body == bytes(200 * 4096)


def test_the_end_of_the_stream_is_an_error_until_answered():
    for reads in ([b""], [b"GET", b""], [head("/", "Content-Length: 3"), b""]):
        with pytest.raises(ConnectionResetError):
            peer_of(Script(*reads)).advance(BUFFER)


def test_only_who_has_spoken_gets_a_408():
    silent = peer_of(Script(None))
    assert silent.advance(BUFFER) == READ
    assert not silent.expire(FOREVER)
    assert silent.reason == "no request came"
    talking = peer_of(Script(b"GET", None))
    assert talking.advance(BUFFER) == READ
    assert talking.expire(FOREVER)
    assert talking.answered == 408
    assert not talking.expire(FOREVER)  # and it gets one only


# -- the acceptor ----------------------------------------------------------


def test_too_many_peers_are_left_in_the_backlog(monkeypatch, log):
    monkeypatch.setattr(_accept, "_MOST_PEERS", 2)
    with serving(echo) as server, dial(server) as one, dial(server), dial(server) as three:
        log.wait_for("too many connections in their opening handshake")
        three.sendall(head("/"))
        one.close()  # makes room
        assert Answer(read_all(three)).status == 426


def test_a_pause_holds_for_all_listeners():
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        selectors.DefaultSelector() as selector,
    ):
        doors = Doors([listener], selector)
        doors.resume = Deadline(10)
        assert list(doors.accept(listener, 10)) == []  # it would block
        doors.close()


@pytest.mark.parametrize("error", [OSError(errno.ENOTCONN, "gone"), ZeroDivisionError()])
def test_a_connection_that_cannot_be_taken(monkeypatch, error, log):
    def fail(sock, address):
        raise error

    with serving(echo) as server:
        with monkeypatch.context() as patch:
            patch.setattr(_accept, "Transport", fail)
            with dial(server) as sock:
                assert read_all(sock) == b""
            if isinstance(error, OSError):  # as a client may bring about
                record = log.wait_for("was lost as it was accepted: [Errno")
                assert record.levelname == "DEBUG"
            else:
                assert log.wait_for("could not be taken").exc_info[1] is error
            assert not server._acceptor._callers.limits._sockets
        with raw_websocket(server):
            pass


def test_what_is_no_error_ends_the_acceptor_and_leaves_nothing(monkeypatch):
    """Such as what gevent raises to end a task."""

    def fail(sock, address):
        raise Interrupt

    with serving(echo) as server:
        with monkeypatch.context() as patch:
            patch.setattr(threading, "excepthook", lambda caught: None)
            patch.setattr(_accept, "Transport", fail)
            with dial(server) as sock:
                assert read_all(sock) == b""
            server._thread.join(TIMEOUT)
            assert not server._thread.is_alive()
        assert not server._acceptor._callers.limits._sockets
        with pytest.raises(ConnectionRefusedError):
            dial(server)


def test_a_late_peer_that_cannot_be_answered_is_one_peers_own(monkeypatch, log):
    def fail(*args, **options):
        raise MemoryError

    with serving(echo, handshake_timeout=0.05) as server:
        with monkeypatch.context() as patch:
            patch.setattr(_peer, "Delivery", fail)
            with dial(server) as sock:
                sock.sendall(b"GET / HT")
                assert read_all(sock) == b""
            assert log.wait_for("failed").exc_info
        with dial(server) as sock:
            sock.sendall(b"GET / HT")
            assert Answer(read_all(sock)).status == 408


def test_what_ends_the_acceptor_is_logged_and_leaves_nothing(monkeypatch, log):
    with serving(echo) as server:

        def fail():
            raise ZeroDivisionError

        monkeypatch.setattr(server._acceptor, "_expire", fail)
        with dial(server) as sock:
            assert read_all(sock) == b""
        log.wait_for("takes no more connections")
        with pytest.raises(ConnectionRefusedError):
            dial(server)


def test_a_peer_is_let_go_while_the_acceptor_waits():
    with serving(echo) as server:
        opening = server._acceptor._opening
        with dial(server) as sock:
            sock.sendall(b"GET / HT")
            until(lambda: any(peer.events for peer in list(opening)))
            gone = weakref.ref(opening.front().transport)
        # The acceptor notices that it left, and waits for whoever comes next.
        until(lambda: (gc.collect(), gone())[1] is None)


def test_an_answer_that_does_not_fit_waits_until_it_can_be_written(monkeypatch):
    waiting = threading.Event()

    class Full(Transport):
        """One that takes nothing at first."""

        __slots__ = ("tried",)

        def read_into(self, buffer, nap=False):
            count = super().read_into(buffer, nap)
            if count is None:
                waiting.set()
            return count

        def write(self, data):
            if hasattr(self, "tried"):
                return super().write(data)
            self.tried = True
            return 0

    monkeypatch.setattr(_accept, "Transport", Full)
    with serving(echo, path="/ws") as server, dial(server) as sock:
        assert waiting.wait(10)
        sock.sendall(upgrade("/elsewhere"))
        assert Answer(read_all(sock)).status == 404


def an_answer():
    """A delivery and its place; both ends of its connection."""
    near, far = tcp_pair()
    return (Delivery(Transport(near), text(200, ""), head_only=False), a_place()), near, far


def test_an_answer_is_closed_after_the_end():
    acceptor = acceptor_of()
    running = Running(acceptor.run)
    assert acceptor.leave(Deadline(10))
    acceptor.stop(Deadline(0))
    running.result()
    (delivery, place), near, far = an_answer()
    with far:
        acceptor.deliver(delivery, place)
        assert near.fileno() == -1
        assert place.left
    acceptor.stop(Deadline(0))
    assert acceptor.leave(Deadline(0))


def test_an_answer_in_the_inbox_at_the_end_is_closed():
    acceptor = acceptor_of()
    (delivery, place), near, far = an_answer()
    with far:
        acceptor.deliver(delivery, place)
        acceptor.stop(Deadline(0))
        acceptor.run()
        assert near.fileno() == -1
        assert place.left


@pytest.fixture
def waiting():
    """An acceptor that does not run, and the far end of a peer that may ask it again."""
    with contextlib.ExitStack() as stack:
        (listener,) = listen("127.0.0.1", 0)
        acceptor = acceptor_of(listener)
        stack.callback(acceptor.close)
        acceptor._doors.open()
        near, far = tcp_pair()
        stack.enter_context(far)
        sequel = Rest(admit_all, PeerOptions())
        answer = Delivery(Transport(near), text(200, ""), head_only=False, sequel=sequel)
        peer = Peer.to_deliver(answer, a_place())
        acceptor._advance(peer)
        assert len(acceptor._kept) == 1
        yield acceptor, peer, far, listener.getsockname()


def test_a_peer_that_gives_way_is_left_alone_in_the_same_turn(waiting, log):
    """Its own event comes behind that of the connection for which it has given way."""
    acceptor, peer, far, address = waiting
    acceptor._most = 1
    far.sendall(b"GET")
    select = acceptor._poller.select

    def both(timeout):
        found = []
        while len(found) < 2:
            found = select(timeout)
        return sorted(found, key=lambda each: each[0].data is peer)

    acceptor._poller.select = both
    with socket.create_connection(address) as other:
        acceptor._turn()
        assert (len(acceptor._kept), len(acceptor._opening)) == (0, 1)
        assert acceptor._opening.front().transport.peer_addr == address_text(other.getsockname())
    assert not log.texts()


def test_a_peer_that_leaves_in_its_turn_has_no_second_one(waiting, log):
    acceptor, peer, far, _ = waiting
    acceptor._again[peer] = None  # as if it had more to do at once
    far.shutdown(socket.SHUT_WR)
    until(lambda: peer.transport.peek(1) == b"")
    acceptor._turn()
    assert not acceptor._again
    assert not acceptor._kept
    assert not log.texts()


def test_a_connection_that_comes_as_the_server_retires_is_left_to_others(waiting):
    acceptor, peer, _, address = waiting
    with socket.create_connection(address):
        acceptor.retire()
        acceptor._turn()
        assert not acceptor._opening
        assert acceptor._kept.front() is peer


def test_an_answer_that_cannot_be_taken_is_one_peers_own(monkeypatch, log):
    def fail(cls, delivery, place):
        raise MemoryError

    acceptor = acceptor_of()
    running = Running(acceptor.run)
    with monkeypatch.context() as patch:
        patch.setattr(Peer, "to_deliver", classmethod(fail))
        (delivery, place), _, far = an_answer()
        with far:
            acceptor.deliver(delivery, place)
            log.wait_for("cannot be sent")
            assert far.recv(1) == b""
    (delivery, place), _, far = an_answer()
    with far:
        acceptor.deliver(delivery, place)
        assert Answer(read_all(far)).status == 200
    acceptor.stop(Deadline(0))
    running.result()


def test_a_server_that_cannot_start_leaves_nothing(monkeypatch):
    def refuse(body, name):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_server, "start_thread", refuse)
    with pytest.raises(OSError, match="needs threads"):
        serving(echo)  # conftest looks for what is left


@pytest.mark.threads
@pytest.mark.abuse(62)
@pytest.mark.parametrize("what", [(socket, "socketpair"), (selectors, "DefaultSelector")])
def test_a_server_without_descriptors_leaves_nothing(monkeypatch, what):
    def refuse():
        raise OSError(errno.EMFILE, "Too many open files")

    listeners = listen("127.0.0.1", 0)
    monkeypatch.setattr(_endpoints, "listen", lambda host, port: listeners)
    monkeypatch.setattr(*what, refuse)
    with pytest.raises(OSError, match="Too many"):
        serving(echo)
    assert listeners[0].fileno() == -1


# Where a server that listens already may still fail to be made, in this order.
LATER_STEPS = [
    (Entrance, "listen_on"),
    (Endpoints, "page_url"),
    (_server, "Acceptor"),
    (Operations, "watch"),
    (Figures, "start"),
    (_server, "start_thread"),
    (_server, "Closing"),
    (_server, "tell_after_fork"),
]


@unix_only
@pytest.mark.parametrize("step", LATER_STEPS, ids=[name for _, name in LATER_STEPS])
def test_a_server_that_fails_at_any_step_leaves_nothing(monkeypatch, tmp_path, step):
    """Neither the file of its socket, nor its thread, nor its watch over the handlers."""

    def fail(*_, **__):
        raise MemoryError("at this step")

    begun, ended = [], []

    class Watch:
        def close(self):
            ended.append(self)

    def watch(tell):
        begun.append(tell)
        return Watch()

    monkeypatch.setattr(type(engine()), "watch", staticmethod(watch))
    monkeypatch.setattr(*step, fail)
    made = weakref.WeakSet()

    class Made(Server):
        def __new__(cls, *arguments, **options):
            server = super().__new__(cls)
            made.add(server)
            return server

    gc.disable()
    try:
        with pytest.raises((OSError, MemoryError), match="at this step"):
            Made(echo, unix=tmp_path / "socket")  # conftest looks for threads and descriptors
        assert len(begun) == len(ended)
        assert list(tmp_path.iterdir()) == []
        if step[1] != "tell_after_fork":  # the last one, whose cycle the collector finds
            assert not made
    finally:
        gc.enable()
