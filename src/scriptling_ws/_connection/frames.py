"""The log of frames, `scriptling_ws.frames`: a line for each frame, both ways.

Rules:

- Whether a connection's frames are logged is decided when it is made: while the logger takes
  DEBUG. Else there is nothing of this in its way.
- They are seen where bytes enter and leave the transport, decrypted: what is logged is what went
  over the wire, whoever made it (a room, a stream, keepalive, wsproto) and whatever becomes of it.
- The channel has no descriptor then, and goes by the transport's methods: it sends by `send`, and
  what comes is read by `Intake`, for which `receive` says that nothing is there.
- No byte is lost to the log: an exception of a signal handler, or of a program's log handler, comes
  out with the bytes noted (`uncounted`, `_ahead`).
- A peer's text is in ASCII with escapes, so that no line is forged. Nothing of a handshake is shown
  but the path: no query, no headers.
"""

from __future__ import annotations

import logging
from itertools import count
from typing import TYPE_CHECKING, Final

from .._codes import CloseCode
from .._fields import shown
from .._network.transport import Transport
from .._wire.opcodes import BINARY, CLOSE, CONTINUATION, FIN, PING, PONG, RESERVED, TEXT
from .._wire.watch import Lost, Seen, Watch

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from .._handshakes.exchange import Exchange
    from .._handshakes.head import Request
    from .._network.deadline import Deadline
    from .._network.pulse import Pulse

__all__ = ["described", "label_of_next", "log_line", "log_message", "logs", "watched"]

_logger: Final = logging.getLogger("scriptling_ws.frames")
_numbers: Final = count(1)  # of the connections of this process whose frames are logged
_NAMES: Final = {
    CONTINUATION: "CONTINUATION",
    TEXT: "TEXT",
    BINARY: "BINARY",
    CLOSE: "CLOSE",
    PING: "PING",
    PONG: "PONG",
}
_SHOWN: Final = 64  # of a message that another program makes frames of
_CODES: Final = frozenset(map(int, CloseCode))
_BITS: Final = ((0x40, "RSV1"), (0x20, "RSV2"), (0x10, "RSV3"))


def logs() -> bool:
    """Whether the frames of a connection that is made now are logged."""
    return _logger.isEnabledFor(logging.DEBUG)


def label_of_next(role: str) -> str:
    """What the lines of one more connection begin with."""
    return f"{role}-{next(_numbers)}"


def log_message(label: str, way: str, message: str | bytes) -> None:
    """Log a message of a connection whose frames another program makes."""
    if logs():
        start, cut = message[:_SHOWN], len(message) > _SHOWN
        if isinstance(start, str):
            name, size, said = "TEXT", f"{len(message)} characters", ascii(start)
        else:
            name, size, said = "BINARY", _bytes(len(message)), start.hex(" ")
        _logger.debug("%s %s %s, %s%s", label, way, name, size, _joined(said, cut))


def log_line(label: str, text: str) -> None:
    """Log something else of a connection."""
    _logger.debug("%s %s", label, text)


def described(seen: Seen) -> str:
    """A frame in words: its name, FIN, whether it is compressed, its size and its first bytes."""
    opcode = seen.first & 0x0F
    parts = [_NAMES.get(opcode, f"opcode {opcode}")]
    if seen.first & FIN:
        parts.append("FIN")
    if seen.compressed:
        parts.append("compressed")
    if seen.first & RESERVED and not (seen.compressed and seen.first & RESERVED == 0x40):
        parts += [name for bit, name in _BITS if seen.first & bit]
    parts.append(_bytes(seen.length))
    cut = len(seen.start) < seen.length
    if opcode == CLOSE and len(seen.start) >= 2:
        code = int.from_bytes(seen.start[:2], "big")
        known = f" {CloseCode(code).name}" if code in _CODES else ""
        said = f"{code}{known} {_payload(seen.start[2:], True)}".rstrip()
    else:
        said = _payload(seen.start, seen.text and not seen.compressed, cut)
    return ", ".join(parts) + _joined(said, cut)


def _payload(start: bytes, text: bool, cut: bool = False) -> str:
    """The first bytes of a payload: of a text its characters, else in hexadecimal.

    Args:
        start: The bytes.
        text: Whether they are of a text.
        cut: Whether there are more, so that the last character may not be all there.
    """
    if not start:
        return ""
    if not text:
        return start.hex(" ")
    return ascii(_characters(start, cut))


def _characters(start: bytes, cut: bool) -> str:
    """As text: a byte that is no UTF-8, of a character that was cut, as its surrogate."""
    if cut:
        # A character has four bytes at most: the last three may begin one.
        for size in range(1, 4):
            if start[-size] >= 0xC0:
                lead = start[-size]
                needs = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
                start = start[:-size] if needs > size else start
                break
            if start[-size] < 0x80:
                break
    return start.decode("utf-8", "surrogateescape")


def _bytes(size: int) -> str:
    return "1 byte" if size == 1 else f"{size} bytes"


def _joined(said: str, cut: bool) -> str:
    return (f": {said}" if said else "") + ("..." if cut else "")


def watched(
    transport: Transport,
    *,
    client: bool,
    received: bytes,
    request: Request | None,
    exchange: Exchange | None,
    compresses: bool,
) -> Transport:
    """The transport of a new connection, with a log of its frames if that is wanted.

    Args:
        transport: Its transport.
        client: Whether this end is the client.
        received: What has come behind the opening handshake.
        request: The request for the upgrade, on a server.
        exchange: Both heads, on a client.
        compresses: Whether compression was agreed on.
    """
    if not logs():
        return transport
    label = label_of_next("client" if client else "server")
    asked = request if exchange is None else exchange.request
    way = "" if asked is None else f", {asked.method[:32]} {shown(asked.path)}"
    deflate = ", permessage-deflate" if compresses else ""
    ends = f"{transport.local_addr} to {transport.remote_addr}"
    log_line(label, f"open: {ends}{way}{deflate}")
    seen = Watched(transport, label)
    with memoryview(received) as piece:
        seen.saw(piece)
    return seen


class _Log:
    """The log of one direction."""

    __slots__ = ("_label", "_watch", "_way")

    def __init__(self, label: str, way: str) -> None:
        self._label = label
        self._way = way
        self._watch = Watch()

    def feed(self, data: memoryview) -> None:
        """Bytes pass."""
        for seen in self._watch.feed(data):
            if not logs():
                continue
            if isinstance(seen, Lost):
                text = f"no frames can be told apart from here on: {seen.why}"
                text += _joined(seen.start.hex(" "), False)
            else:
                text = described(seen)
            _logger.debug("%s %s %s", self._label, self._way, text)

    def end(self) -> None:
        """No more will pass."""
        if self._watch.unfinished and logs():
            _logger.debug("%s %s no end of the last frame", self._label, self._way)


class Watched(Transport):
    """A transport whose frames are logged: all else is the other transport's."""

    __slots__ = ("_ahead", "_in", "_inner", "_label", "_out")

    def __init__(self, inner: Transport, label: str) -> None:
        """Log what goes through a transport.

        Args:
            inner: The transport.
            label: What the lines begin with.
        """
        # Not that of a Transport, which takes a socket over: the other one has done so.
        self._inner = inner
        self._label = label
        self._in, self._out = _Log(label, "received"), _Log(label, "sent")
        self._ahead: bytes | None = None  # received, and logged, before an exception struck
        self.descriptor = None
        self.naps = inner.naps
        self.parking = inner.parking
        self.local_addr = inner.local_addr
        self.peer_addr = inner.peer_addr
        self.remote_addr = inner.remote_addr

    def saw(self, data: memoryview) -> None:
        """Log bytes that were received elsewhere."""
        self._in.feed(data)

    # What the other one has as attributes.

    @property
    def pending(self) -> bool:
        return self._inner.pending

    @pending.setter
    def pending(self, value: bool) -> None:
        self._inner.pending = value

    @property
    def uncounted(self) -> int:
        return self._inner.uncounted

    @uncounted.setter
    def uncounted(self, value: int) -> None:
        self._inner.uncounted = value

    # What moves bytes.

    @property
    def receive(self) -> Callable[[bytearray], int | None]:
        """Nothing is there for the channel: the intake reads, by `read_into`."""
        return _nothing

    @property
    def send(self) -> Callable[[bytes, int], int]:
        """As of the other transport."""
        return self._send_watched

    def _send_watched(self, data: bytes, flags: int) -> int:
        # Unpacked: as in Transport.read_into.
        (size,) = map(self._inner.send, (data,), (flags,))
        self._note_sent(data, size)
        return size

    def write(self, data: bytes | memoryview) -> int:
        """As of the other transport."""
        size = self._inner.write(data)
        self._note_sent(data, size)
        return size

    def _note_sent(self, data: bytes | memoryview, size: int) -> None:
        try:
            with memoryview(data) as view, view[:size] as piece:
                self._out.feed(piece)
        except BaseException:
            self._inner.uncounted = size
            raise

    def read_into(self, buffer: bytearray | memoryview, nap: bool = False) -> int | None:
        """As of the other transport."""
        if self._ahead is not None:
            return self._take_ahead(buffer)
        size = self._inner.read_into(buffer, nap)
        try:
            with memoryview(buffer) as view, view[: size or 0] as piece:
                self._in.feed(piece)
        except BaseException:
            self._ahead = bytes(buffer[: size or 0]) or None
            raise
        return size

    def _take_ahead(self, buffer: bytearray | memoryview) -> int:
        ahead = self._ahead or b""
        size = min(len(buffer), len(ahead))
        buffer[:size] = ahead[:size]
        rest = ahead[size:] or None
        # No call from here on: a signal handler cannot come between taking and telling.
        self._ahead = rest
        return size

    def peek(self, size: int) -> bytes | None:
        """As of the other transport."""
        return self._inner.peek(size) if self._ahead is None else self._ahead[:size]

    def peek_all(self, most: int) -> bytes | None:
        """As of the other transport."""
        return self._inner.peek_all(most) if self._ahead is None else None

    def note_failure(self, error: OSError) -> None:
        """As of the other transport."""
        self._inner.note_failure(error)

    @property
    def failure(self) -> OSError | None:
        """As of the other transport."""
        return self._inner.failure

    def unread(self) -> bool:
        """As of the other transport."""
        return self._ahead is not None or self._inner.unread()

    def keeps(self) -> bool:
        """As of the other transport."""
        return self._ahead is not None or self._inner.keeps()

    # The rest.

    def pulse(self) -> Pulse | None:
        """As of the other transport."""
        return self._inner.pulse()

    def taken_pulse(self) -> bytes:
        """As that of any transport."""
        return self._inner.taken_pulse()

    def has_pulse(self) -> bool:
        """As of the other transport."""
        return self._inner.has_pulse()

    def flush(self) -> bool:
        """As of the other transport."""
        return self._inner.flush()

    def wait(self, read: bool, write: bool, deadline: Deadline, wakeable: bool = False) -> None:
        """As of the other transport."""
        self._inner.wait(read, write, deadline, wakeable)

    def waker_number(self) -> int:
        """As of the other transport."""
        return self._inner.waker_number()

    def wake(self) -> None:
        """As of the other transport."""
        self._inner.wake()

    def finish_writing(self) -> None:
        """As of the other transport."""
        self._inner.finish_writing()

    def abort(self) -> None:
        """As of the other transport."""
        self._inner.abort()

    def detach(self) -> socket.socket:
        """As of the other transport."""
        return self._inner.detach()

    def close(self) -> None:
        """As of the other transport."""
        self._inner.close()
        for log in (self._in, self._out):
            log.end()
        log_line(self._label, "closed")

    def fileno(self) -> int:
        """As of the other transport."""
        return self._inner.fileno()


def _nothing(_buffer: bytearray) -> None:
    """Say that nothing is there."""
