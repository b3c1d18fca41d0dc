"""Signal handlers that raise or close inside a connection's calls: no byte is lost or doubled."""

import contextlib
import itertools
import signal
import socket
import sys
import threading
import time

import pytest

from frames import PING, TEXT, frame
from memory import cpython_handlers
from pairs import (
    MIB,
    SOON,
    ByMethod,
    Counted,
    Interrupt,
    Running,
    arrived,
    both_ends,
    connection,
    fill,
    in_package,
    in_tool,
    raw_peer,
    receive_exactly,
    receive_frame,
    running,
    stand_in,
    tcp_pair,
    tls_pair,
    transports,
    until,
    writable,
)
from scriptling_ws import ConnectionClosed, SendTimeout
from scriptling_ws._network import threads as _threads
from scriptling_ws._network.deadline import Deadline

TOOL = "coverage" in sys.modules or "jitter" in sys.modules


class Interrupter:
    """Signals to the main thread, from another one; the handler raises inside of the package."""

    def __init__(self, conn, pauses, error=Interrupt):
        self._conn = conn
        self._pauses = pauses
        self._error = error
        self._stop = threading.Event()
        self._again = threading.Event()
        self.count = 0

    def _handle(self, number, stack):
        if in_tool(stack):
            self._again.set()
        elif in_package(stack, self._conn):
            self.count += 1
            raise self._error

    def _shoot(self, target):
        for pause in self._pauses:
            if self._stop.wait(pause):
                return
            signal.pthread_kill(target, signal.SIGUSR1)
            # One that has met the tool, and not the package, does not count.
            while TOOL and self._again.wait(0.01) and not self._stop.is_set():
                self._again.clear()
                signal.pthread_kill(target, signal.SIGUSR1)

    def __enter__(self):
        self._previous = signal.signal(signal.SIGUSR1, self._handle)
        self._shooting = Running(self._shoot, threading.main_thread().ident)
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._shooting.result()
        signal.signal(signal.SIGUSR1, self._previous)


@pytest.mark.abuse(70)
@pytest.mark.parametrize("part", [0, 1, 10, 20])
@transports
def test_an_interrupted_receive_loses_nothing(tls, part):
    message = frame(TEXT, b"x" * 300)
    near, far = tls_pair() if tls else tcp_pair()
    conn = connection(near)
    with Interrupter(conn, [0.05]):
        if part:
            sendall(far, message[:part])
        with pytest.raises(Interrupt):
            conn.receive(None)
    assert conn.connected()
    sendall(far, message[part:] + frame(TEXT, b"next"))
    assert conn.receive(SOON) == "x" * 300
    assert conn.receive(SOON) == "next"
    conn.send("fine")
    far.close()
    conn.close()


def sendall(stream, data):
    """Send all of it, on a socket or a TLS transport."""
    if isinstance(stream, socket.socket):
        stream.sendall(data)
        return
    view = memoryview(data)
    while view or not stream.flush():
        count = stream.write(view) if view else 0
        view = view[count:]
        if not count:
            stream.wait(False, True, Deadline(SOON))


@pytest.mark.abuse(70)
@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError, OSError, RuntimeError])
def test_whatever_a_signal_handler_raises_comes_out_of_receive(error):
    with raw_peer() as (conn, peer):
        # Again if need be: the handler raises inside of the package alone.
        with Interrupter(conn, itertools.repeat(0.05), error), pytest.raises(error):
            conn.receive(None)
        assert conn.connected()
        peer.sendall(frame(TEXT, b"x"))
        assert conn.receive(SOON) == "x"


class Full(ByMethod):
    """One that takes nothing, until a signal handler has raised in a wait for it."""

    full = True

    def write(self, data):
        return 0 if self.full else super().write(data)

    @property
    def send(self):
        return lambda data, _flags: self.write(data)

    def wait(self, *arguments, **keywords):
        if self.full:
            self.full = False
            raise Interrupt
        super().wait(*arguments, **keywords)


@pytest.mark.abuse(70)
@pytest.mark.parametrize("size", [1, 1_000_000])
def test_a_send_that_was_interrupted_before_it_began_is_not_made_up_for(size):
    """The caller may send it again: it would come twice."""
    with raw_peer(transport=Full) as (conn, peer):
        with pytest.raises(Interrupt):
            conn.send("x" * size)
        conn.send("after")
        assert receive_frame(peer) == (0x81, b"after")


@pytest.mark.abuse(70)
@pytest.mark.parametrize("call", ["send", "receive"])
def test_an_interrupted_wait_for_another_thread_leaves_that_its_lock(call):
    with raw_peer() as (conn, _):
        lock = conn._outlet.lock if call == "send" else conn._intake.lock
        release = threading.Event()

        def hold():
            with lock:
                release.wait(SOON)

        with running(hold):
            until(lock.locked)
            with Interrupter(conn, itertools.repeat(0.05)), pytest.raises(Interrupt):
                conn.send("x") if call == "send" else conn.receive(None)
            assert lock.locked()
            release.set()
        assert not lock.locked()


@pytest.mark.alone  # the signal comes once the frame is on its way
@pytest.mark.abuse(70)
@cpython_handlers
@pytest.mark.parametrize("error", [KeyboardInterrupt, TimeoutError, OSError, RuntimeError])
def test_whatever_a_signal_handler_raises_comes_out_of_send(error):
    with raw_peer() as (conn, peer):
        with Interrupter(conn, [0.1], error), pytest.raises(error) as caught:
            conn.send_binary(bytes(15 * MIB))
        assert type(caught.value) is error
        with running(lambda: conn.send("after")):
            assert receive_frame(peer) == (0x82, bytes(15 * MIB))
            assert receive_frame(peer) == (0x81, b"after")


@pytest.mark.abuse(70)
@cpython_handlers
@pytest.mark.parametrize("then", ["send", "receive", "close", "many"])
@pytest.mark.parametrize("size", [200_000, 6 * MIB])
@transports
def test_an_interrupted_send_is_completed_later(tls, size, then):
    """What was begun goes out whole before anything else does."""
    near, far = tls_pair() if tls else tcp_pair()
    conn = connection(near)
    peer = connection(far, client=False, binary_type=bytes)
    conn.send("start")
    sent = 0
    with Interrupter(conn, [0.1]), pytest.raises(Interrupt):
        while True:
            conn.send_binary(bytes([sent]) * size)
            sent += 1
    # It may have been interrupted before the last one had begun, or when it was out already.
    last = sent if conn._link.unsent.rest is not None else sent - 1

    def finish():
        if then == "send":
            conn.send("after")
        elif then == "many":
            conn.send_many(["after"])
        elif then == "receive":
            assert conn.receive(SOON) == "got it"
            conn.send("after")
        conn.close()

    finishing = Running(finish)
    got = []
    while (message := peer.receive(SOON)) is not None:
        got.append(message)
        if len(got) == last + 2 and then == "receive":  # behind the start
            peer.send("got it")
    finishing.result()
    peer.close()
    assert got.pop(0) == "start"
    if then != "close":
        assert got.pop() == "after"
    assert len(got) in (sent, sent + 1)
    assert got == [bytes([number]) * size for number in range(len(got))]


@pytest.mark.parametrize("call", ["receive", "receive_into"])
@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
def test_close_from_a_signal_handler_during_a_receive(client, call):
    with raw_peer(client=client, close_timeout=2) as (conn, _):

        def handle(number, stack):
            conn.close(4000)

        previous = signal.signal(signal.SIGUSR1, handle)
        main = threading.main_thread().ident

        def shoot():
            until(conn._intake.lock.locked)
            signal.pthread_kill(main, signal.SIGUSR1)

        start = time.monotonic()
        with running(shoot):
            if call == "receive":
                assert conn.receive(None) is None
            else:
                assert conn.receive_into(bytearray(1), None) is None
        assert time.monotonic() - start < 5
        signal.signal(signal.SIGUSR1, previous)
        assert conn.fileno() == -1
        assert conn.connected() is False


def test_close_from_a_signal_handler_during_a_send():
    with raw_peer(close_timeout=0.3) as (conn, _):

        def handle(number, stack):
            conn.close(4000)

        previous = signal.signal(signal.SIGUSR1, handle)
        main = threading.main_thread().ident

        def shoot():
            until(conn._outlet.lock.locked)
            until(lambda: not writable(conn))
            signal.pthread_kill(main, signal.SIGUSR1)

        with running(shoot), pytest.raises(ConnectionClosed):
            conn.send_binary(bytes(15 * MIB))
        signal.signal(signal.SIGUSR1, previous)
        assert conn.fileno() == -1


@pytest.mark.parametrize("call", ["receive", "send"])
def test_a_signal_that_does_not_interrupt_the_wait_is_handled_soon(call, monkeypatch):
    """It came to another thread, or just before the system call: the handler runs after that."""
    monkeypatch.setattr(_threads, "_LOOK_UP", 0.05)
    options = {"close_timeout": 0.1, "send_timeout": None, "ping_interval": None}
    with raw_peer(transport=Counted, **options) as (conn, _):

        def handle(number, stack):
            conn.close(4000)

        def shoot():
            until(lambda: conn._link.transport.waits)
            signal.raise_signal(signal.SIGUSR1)  # in this thread: the main one sleeps on

        previous = signal.signal(signal.SIGUSR1, handle)
        with running(shoot):
            if call == "receive":
                assert conn.receive(None) is None
            else:
                with pytest.raises(ConnectionClosed):
                    conn.send_binary(bytes(15 * MIB))
        signal.signal(signal.SIGUSR1, previous)
        assert conn.fileno() == -1


class Faulty(ByMethod):
    """A transport whose calls fail once, or take a few bytes at a time."""

    def __init__(self, sock):
        super().__init__(sock)
        self.error = None
        self.most = MIB

    def _fail(self):
        error, self.error = self.error, None
        if error is not None:
            raise error

    @property
    def receive(self):
        return lambda buffer: self.read_into(buffer, True)

    def read_into(self, *args):
        self._fail()
        return super().read_into(*args)

    @property
    def send(self):
        return lambda data, flags: self.write(data)

    def write(self, data):
        self._fail()
        return super().write(data[: self.most])


@contextlib.contextmanager
def faulty(**options):
    near, far = tcp_pair()
    far.settimeout(SOON)
    transport = Faulty(near)
    conn = connection(transport, **options)
    with far:
        yield conn, transport, far
        far.close()
        conn.close()


@pytest.mark.abuse(70)
@pytest.mark.parametrize("timeout", [None, 0.5])
def test_a_handlers_timeout_in_a_read_is_no_end_of_the_stream(timeout):
    with faulty() as (conn, transport, peer):
        transport.error = TimeoutError("a signal handler's")
        with pytest.raises(TimeoutError, match="a signal handler's"):
            conn.receive(timeout)
        peer.sendall(frame(TEXT, b"x"))
        assert conn.receive(SOON) == "x"


@pytest.mark.abuse(70)
def test_a_handlers_timeout_before_a_write_sends_nothing():
    with faulty() as (conn, transport, peer):
        transport.error = TimeoutError("a signal handler's")
        with pytest.raises(TimeoutError, match="a signal handler's"):
            conn.send("lost")
        conn.send("kept")
        assert receive_frame(peer) == (0x81, b"kept")


@pytest.mark.abuse(70)
def test_a_handlers_timeout_before_an_answer_leaves_that_to_the_next_call():
    with faulty() as (conn, _, peer):
        peer.sendall(frame(PING, b"p"))
        interrupted(conn._link.unsent, "advance", TimeoutError)
        with pytest.raises(TimeoutError):
            conn.receive(SOON)
        assert conn.receive(0.05) is None
        assert receive_frame(peer) == (0x8A, b"p")


class Peeking(ByMethod):
    """A transport in which a signal handler raises as it looks ahead, once."""

    error = None

    def peek(self, size):
        error, self.error = self.error, None
        if error is not None:
            raise error
        return super().peek(size)


@pytest.mark.abuse(70)
def test_a_handlers_timeout_as_a_sender_looks_for_pings_comes_behind_its_message():
    with raw_peer(transport=Peeking, ping_interval=None) as (conn, peer):
        conn._link.transport.error = TimeoutError("a signal handler's")
        peer.sendall(frame(PING, b"p"))
        arrived(conn, 3)
        conn._channel.look_at = 0.0  # it is time
        with pytest.raises(TimeoutError, match="a signal handler's"):
            conn.send("sent")
        assert receive_frame(peer) == (0x81, b"sent")
        conn._channel.look_at = 0.0
        conn.send("more")
        assert receive_frame(peer) == (0x81, b"more")
        assert receive_frame(peer) == (0x8A, b"p")


@pytest.mark.abuse(70)
def test_a_ping_that_came_as_a_handler_raised_is_answered_without_a_receiver():
    with raw_peer(transport=ByMethod, ping_interval=None) as (conn, peer):
        peer.sendall(frame(PING, b"p"))
        arrived(conn, 3)
        interrupted(conn._link.protocol, "feed_run", KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            conn.receive(0)
        conn._channel.look_at = 0.0  # it is time
        conn.send("x")
        assert {receive_frame(peer) for _ in range(2)} == {(0x81, b"x"), (0x8A, b"p")}


def test_close_inside_a_write_leaves_the_descriptor_to_the_sender():
    with faulty(close_timeout=0.1) as (conn, transport, _):

        def close_first(data):
            del transport.write
            conn.close()
            assert conn.fileno() != -1
            return transport.write(data)

        transport.write = close_first
        with pytest.raises(ConnectionClosed):
            conn.send("x")
        assert conn.fileno() == -1


def interrupted(part, method, error):
    """Have a signal handler raise in a method of one of a connection's parts, once."""

    def interrupt(*_):
        restore()
        raise error

    restore = stand_in(part, **{method: interrupt})


@pytest.mark.abuse(70)
@pytest.mark.parametrize("kind", [list, bytes])
@pytest.mark.parametrize("held", [False, True])
def test_what_came_as_a_handler_raised_is_not_overwritten_by_what_comes_next(kind, held):
    with raw_peer(binary_type=kind, transport=ByMethod) as (conn, peer):
        peer.sendall(frame(TEXT, b"one"))
        arrived(conn, 5)
        if held:
            conn._link.protocol.unreceived.hold()
        interrupted(conn._link.protocol, "feed_run", KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            conn.receive(0)
        peer.sendall(frame(TEXT, b"two"))
        arrived(conn, 5)
        assert [conn.receive(SOON), conn.receive(SOON)] == ["one", "two"]


@pytest.mark.abuse(70)
def test_the_tail_of_an_interrupted_frame_goes_first():
    with faulty() as (conn, transport, peer):
        transport.most = 3
        interrupted(conn._writer, "go_on", KeyboardInterrupt)
        with pytest.raises(KeyboardInterrupt):
            conn.send("first")
        conn.send("second")
        assert receive_frame(peer) == (0x81, b"first")
        assert receive_frame(peer) == (0x81, b"second")


@pytest.mark.abuse(70)
def test_the_rest_of_an_interrupted_answer_leaves_while_messages_come():
    with faulty() as (conn, transport, peer):
        peer.sendall(frame(PING, b"p"))
        transport.most, unsent = 1, conn._link.unsent
        advance = unsent.advance

        def begin():
            restore()
            interrupted(unsent, "advance", KeyboardInterrupt)
            return advance()

        restore = stand_in(unsent, advance=begin)
        with pytest.raises(KeyboardInterrupt):
            conn.receive(None)
        peer.sendall(frame(TEXT, b"x"))
        assert conn.receive(None) == "x"
        assert receive_frame(peer) == (0x8A, b"p")


@pytest.mark.abuse(70)
def test_an_answer_that_is_interrupted_as_it_is_encrypted_is_sent_once():
    with both_ends(tls=True) as (client, server):
        session, strike = server._link.transport.session.ssl, [True]

        class Struck:
            def __getattr__(self, name):
                return getattr(session, name)

            def write(self, data):
                count = session.write(data)
                if strike:
                    strike.clear()
                    raise KeyboardInterrupt
                return count

        server._link.transport.session.ssl = Struck()
        ping = Running(client.ping, SOON)
        with pytest.raises(KeyboardInterrupt):
            server.receive(SOON)
        assert server.receive(0.05) is None
        assert ping.result() is not None
        server.send("after it")
        assert client.receive(SOON) == "after it"


@pytest.mark.abuse(70)
def test_a_message_that_is_interrupted_as_it_is_encrypted_is_sent_once():
    with both_ends(tls=True) as (client, server):
        session = server._link.transport.session.ssl

        class Struck:
            read = session.read

            def write(self, data):
                session.write(data)
                raise KeyboardInterrupt

        server._link.transport.session.ssl = Struck()
        with pytest.raises(KeyboardInterrupt):
            server.send("first")
        server._link.transport.session.ssl = session
        server.send("second")
        assert client.receive(SOON) == "first"
        assert client.receive(SOON) == "second"


@pytest.mark.alone  # else what was filled may have room again
def test_a_send_that_waits_for_an_answer_to_leave_spoils_nothing():
    with both_ends(send_timeout=0.2) as (client, server):
        filler = fill(client)
        assert client.ping(0) is None
        with pytest.raises(SendTimeout):
            client.send("x")
        assert client._link.lifecycle.open
        receive_exactly(server._link.transport._sock, filler)
        client.send("y")
        assert server.receive(SOON) == "y"


def test_a_send_error_on_a_stream_that_says_nothing():
    with faulty() as (conn, transport, _):
        transport.error = OSError(32, "Broken pipe")
        with pytest.raises(ConnectionClosed) as caught:
            conn.send("x")
        assert isinstance(caught.value.__cause__, OSError)
