"""A whole connection over a socket that is short, late, interrupted and cut, on a clock of its own.

What is checked (invariants 6 to 9):

- messages come in order, none twice, none lost but by a local `close` or a reset;
- what goes out is whole frames, masked by a client alone, of the messages that were sent,
  in order, one close frame at most, nothing behind it;
- every call is over at its timeout and raises what its docstring names, or what a signal
  handler raised in a system call; `connected` never becomes true again;
- the descriptor is closed once.
"""

from __future__ import annotations

import errno
import socket
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import streams
from harness import Source, fuzz
from scriptling_ws._connection.connection import Connection
from scriptling_ws._errors import ConnectionClosed, SendTimeout
from scriptling_ws._network import deadline as _deadline
from scriptling_ws._network.transport import NAP, Transport
from scriptling_ws._options import Options

if TYPE_CHECKING:
    from scriptling_ws._network.deadline import Deadline

SEND_TIMEOUT, CLOSE_TIMEOUT = 3.0, 2.0
SLACK = 0.5  # a nap, the overtime of a message that is being read, and the steps of this clock
TIMEOUTS = (0, 0, 0.005, 0.05, 1.5, 30)
SIZES = {0: 125, 1: 126, 2: 3000, 254: 70_000, 255: 300_000}


class Signal(BaseException):
    """What a signal handler raises."""


class Clock:
    """A clock that only passes when somebody waits."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 1e-6
        return self.now


class Wire:
    """A socket: what comes is `incoming`, what becomes of each call is in `plan`."""

    family = getattr(socket, "AF_UNIX", None)

    def __init__(self, incoming: bytes, plan: Source, clock: Clock) -> None:
        self._incoming = incoming
        self._at = 0
        self._plan = plan
        self._clock = clock
        self._finished = False
        self.broken = False
        self.sent = bytearray()
        self.closed = 0

    def _next(self) -> int:
        if self.closed:
            raise OSError(errno.EBADF, "closed")
        self._clock.now += 1e-5
        return self._plan.byte() if self._plan else 0

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        """Bytes, nothing yet, the end, a reset, or a signal."""
        step = self._next()
        if step & 7 == 7:
            raise Signal
        if step & 7 == 6 and not self.broken:
            self._clock.now += 0 if flags else NAP
            raise BlockingIOError(errno.EAGAIN, "nothing there")
        if self.broken or step == 0xFD:
            self.broken = True
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        most = len(buffer) if step & 7 < 2 else 1 + step // 8
        with memoryview(buffer) as view:
            piece = self._incoming[self._at : self._at + min(most, len(view))]
            view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def send(self, data: Any, flags: int = 0) -> int:
        """Take all, a part or nothing; a signal, or a broken pipe."""
        step = self._next()
        if step & 7 == 7:
            raise Signal
        if step & 7 == 6 and not self.broken:
            raise BlockingIOError(errno.EAGAIN, "no room")
        if self.broken or self._finished or step == 0xFD:
            self.broken = True
            raise BrokenPipeError(errno.EPIPE, "broken")
        count = len(data) if step & 7 < 3 else min(len(data), 1 + step)
        self.sent += data[:count]
        return count

    def shutdown(self, how: int) -> None:
        """The end of sending, or of all."""
        self._finished = True
        self.broken = self.broken or how == socket.SHUT_RDWR

    def close(self) -> None:
        """Count."""
        self.closed += 1

    def pause(self, deadline: Deadline) -> None:
        """Wait for something to change: in time, or not before the deadline, or a signal."""
        if self.closed:
            raise ValueError("Invalid file descriptor: -1")  # as a selector does
        left = deadline.left()
        if self._plan and self._next() & 15 == 15:
            raise Signal
        self._clock.now += 1.0 if left is None else min(left, 1.0)

    def fileno(self) -> int:
        """No descriptor: nothing here may need one."""
        return -1

    def getsockname(self) -> str:
        """No address."""
        return ""

    getpeername = getsockname

    def setblocking(self, blocking: bool) -> None:
        """Never: see recv_into."""

    setsockopt = setblocking  # type: ignore[assignment]

    def getsockopt(self, *_: int) -> bytes:
        """Nothing is counted, as on a socket that is not of TCP."""
        raise OSError(errno.ENOPROTOOPT, "Protocol not available")


class WireTransport(Transport):
    """A transport whose one place that sleeps is the wire's."""

    __slots__ = ()

    def wait(self, read: bool, write: bool, deadline: Deadline, wakeable: bool = False) -> None:
        """Let the clock pass."""
        self._sock.pause(deadline)  # type: ignore[attr-defined]

    def _prepare(self, native: bool) -> bool:
        """Nothing to set, and no system that could tell what has become of its bytes."""
        self._internet = False
        return False


class Session:
    """A connection, and what has to hold of it after every call."""

    def __init__(self, source: Source) -> None:
        how = source.byte()
        self.client = bool(how & 1)
        plan = Source(source.take(source.byte()))
        self.calls = Source(source.take(source.byte() % 64))
        incoming = streams.stream(source, masked=not self.client)
        self.clock = Clock()
        self.wire = Wire(incoming, plan, self.clock)
        whole = streams.protocol(self.client)
        streams.feed(whole, incoming)
        self.coming = list(whole.ready)
        self.received: list[Any] = []
        self.tried: list[Any] = []
        self.sure: list[Any] = []  # of those, what has to have been sent
        self.closing = False
        self.gone = False

    def run(self) -> None:
        """Make the calls, then close."""
        # Under the clock, for deadlines are made here as well.
        self.conn = Connection(
            WireTransport(self.wire),  # type: ignore[arg-type]
            client=self.client,
            options=Options(
                binary_type=bytes,
                send_timeout=SEND_TIMEOUT,
                close_timeout=CLOSE_TIMEOUT,
                ping_interval=None,  # keepalive has a thread, and a clock of its own
            ),
        )
        while self.calls:
            self.call()
            self.check_received()
        self.drain()
        self.finish()
        self.check_sent()

    def call(self) -> None:
        """One call, with its time."""
        what, how = self.calls.byte(), self.calls.byte()
        timeout = TIMEOUTS[how % len(TIMEOUTS)]
        start = self.clock.now
        try:
            if what % 8 < 2:
                message = self.conn.receive(timeout)
                self.received += [] if message is None else [message]
            elif what % 8 == 2:
                self.received += self.conn.receive_many(1 + how % 4, timeout)
            elif what % 8 < 6:
                timeout = SEND_TIMEOUT
                self.send(what % 8, how)
            elif what % 8 == 6:
                timeout = 0
                connected = self.conn.connected()
                assert not (connected and self.gone)
                self.gone = self.gone or not connected
            elif how & 3 == 3:
                timeout = CLOSE_TIMEOUT
                self.closing = True
                self.conn.close(1000 + (how & 8) // 8, "bye")
        except Signal:
            return
        assert self.clock.now - start <= timeout + SLACK, (what % 8, self.clock.now - start)

    def send(self, what: int, how: int) -> None:
        size = SIZES.get(how, how)
        marks = len(self.tried).to_bytes(2, "big").hex()
        messages: list[Any] = [f"{marks}{'x' * size}"]
        if what == 4:
            messages = [messages[0].encode()]
        elif what == 5:
            messages += [b"%d" % number for number in range(how % 5)]
        self.tried += messages
        try:
            if what == 3:
                self.conn.send(messages[0])
            elif what == 4:
                self.conn.send_binary(messages[0])
            else:
                self.conn.send_many(messages)
        except (ConnectionClosed, SendTimeout):
            return
        if self.conn._link.lifecycle.open:
            self.sure += messages

    def check_received(self) -> None:
        """In order, and nothing but what came."""
        assert self.received == self.coming[: len(self.received)]

    def drain(self) -> None:
        """Take what is left: all of it has to come, save after a reset or a close."""
        for _ in range(len(self.coming) + 300):
            try:
                message = self.conn.receive(30)
            except Signal:
                continue
            if message is None and not self.conn_connected():
                break
            self.received += [] if message is None else [message]
        self.check_received()
        if not (self.closing or self.wire.broken):
            assert self.received == self.coming

    def conn_connected(self) -> bool:
        try:
            return self.conn.connected()
        except Signal:
            return True

    def finish(self) -> None:
        """Close for good, and find it closed."""
        while not self.wire.closed:
            try:
                self.conn.close()
            except Signal:
                continue
            assert self.wire.closed, "close() has left the descriptor open"
        assert self.wire.closed == 1
        assert self.conn.receive(0) is None
        assert not self.conn.connected()
        assert self.conn.close_code is not None
        try:
            self.conn.send("late")
        except ConnectionClosed:
            return
        raise AssertionError("a message was sent on a closed connection")

    def check_sent(self) -> None:
        """Whole frames, in order; the last may be cut off where the stream broke."""
        sent = bytes(self.wire.sent)
        whole = len(sent)
        if self.wire.broken:
            whole = max((end for end in ends(sent) if end <= len(sent)), default=0)
        frames = streams.strict(sent[:whole], masked=self.client)
        closes = [at for at, (first, _) in enumerate(frames) if first == 0x88]
        assert closes in ([], [len(frames) - 1]), [first for first, _ in frames]
        if closes:
            assert whole == len(sent), "something follows the close frame"
        messages = [
            payload.decode() if first == 0x81 else payload
            for first, payload in frames
            if first in (0x81, 0x82)
        ]
        assert is_subsequence(messages, self.tried)
        assert self.wire.broken or is_subsequence(self.sure, messages)


def ends(sent: bytes) -> accumulate[int]:
    """Where each frame ends, also one that is cut off."""
    sizes = []
    at = 0
    while at < len(sent):
        second = (sent + b"\0\0")[at + 1]
        length, head = second & 0x7F, 6 if second & 0x80 else 2
        extended = {126: 2, 127: 8}.get(length, 0)
        if extended:
            length = int.from_bytes(sent[at + 2 : at + 2 + extended].ljust(extended, b"\0"), "big")
        sizes.append(max(head + extended + length, 2))
        at += sizes[-1]
    return accumulate(sizes)


def is_subsequence(some: list[Any], of: list[Any]) -> bool:
    rest = iter(of)
    return all(any(each == other for other in rest) for each in some)


def check(data: bytes) -> None:
    """One connection's life."""
    session = Session(Source(data))
    monotonic = _deadline.monotonic
    _deadline.monotonic = session.clock  # type: ignore[assignment]
    try:
        session.run()
    finally:
        _deadline.monotonic = monotonic


if __name__ == "__main__":
    fuzz(check)
