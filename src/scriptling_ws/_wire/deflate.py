"""Compressing and inflating messages: the codec of permessage-deflate, without I/O.

Rules (RFC 7692 section 7.2):

- A message's compressed payload ends with an empty stored block, whose last four
  bytes are left out on the wire.
- The two ends of a direction share a window: what was compressed before. It goes on from
  message to message unless the terms say no. A message that was compressed but may not
  have left takes its window with it: the next one starts afresh, which the other
  end's inflater cannot tell from a message that happens to repeat nothing.
- What is inflated is taken in small pieces and counted: beside a message's bytes, which
  never exceed the limit, there are never more than 64 KiB.
- zlib's contexts are made at their first use. At 15 window bits one that compresses
  takes 262 KiB and one that inflates 39 KiB, at 12 bits 38 and 11, at 9 bits 10 and 8
  (zlib-ng's, which compress: 342 KiB, 160, 138);
  without context takeover they are let go after each message.

Not thread-safe: the connection's locks guard both.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

from .._codes import CloseCode
from .._errors import Violation
from .._options import DEFAULT_LEVEL
from .backend import compressobj

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Buffer

__all__ = ["Compressor", "Decompressor"]

_TAIL: Final = b"\x00\x00\xff\xff"
_EMPTY_MESSAGE: Final = b"\x00"  # section 7.2.3.6: zlib writes nothing for a second empty flush
# What zlib gets at once, and gives at once. There may be two of each at a time: it copies
# what it does not use of its input, and cuts its output to size.
_SLICE: Final = 2 * 1024
_PIECE: Final = 4 * 1024
_LARGEST_START: Final = 64 * 1024


class Compressor:
    """Compresses what one end sends."""

    __slots__ = ("_bits", "_level", "_pending", "_stream", "_takeover")

    def __init__(self, bits: int, takeover: bool, level: int = DEFAULT_LEVEL) -> None:
        """Compress in a window of 2**bits bytes, with `takeover` from message to message.

        The level is zlib's: 1 is the fastest, 9 makes the least.
        There have to be LEAST_BITS (see `_options`): zlib has no smaller window.
        """
        self._bits = bits
        self._takeover = takeover
        self._level = level
        self._stream: zlib._Compress | None = None
        self._pending: zlib._Compress | None = None  # until what it made has left

    def begin(self) -> None:
        """Begin a message that comes in pieces: see `piece`, and `sent` at its end."""
        self._pending = self._stream if self._stream is not None else self._new()
        self._stream = None

    def piece(self, payload: Buffer, *, last: bool) -> bytes:
        """The compressed payload of a piece, all of which the other end can inflate at once.

        An empty one is the last.
        """
        assert self._pending is not None
        if not memoryview(payload).nbytes:
            return _EMPTY_MESSAGE  # with the tail that is left out, an empty stored block
        data = self._pending.compress(payload) + self._pending.flush(zlib.Z_SYNC_FLUSH)
        return data[: -len(_TAIL)] if last else data

    def _new(self) -> zlib._Compress:
        return compressobj(self._level, self._bits)

    @property
    def alone(self) -> tuple[int, int] | None:
        """The window bits and the level, if each message is compressed by itself; else None."""
        return None if self._takeover else (self._bits, self._level)

    def compress(self, payloads: Iterable[Buffer]) -> list[memoryview]:
        """The compressed payloads of the messages that are sent next, in this order."""
        # The stream is given up from here until `sent`: if it does not come to that, the
        # other end may never see what this stream has seen.
        stream, self._stream, self._pending = self._stream, None, None
        result = []
        for payload in payloads:
            if memoryview(payload).nbytes:
                if stream is None or not self._takeover:
                    stream = self._new()
                data = stream.compress(payload) + stream.flush(zlib.Z_SYNC_FLUSH)
                result.append(memoryview(data)[: -len(_TAIL)])
            else:
                result.append(memoryview(_EMPTY_MESSAGE))
        self._pending = stream
        return result

    def sent(self) -> None:
        """All that was compressed has left: the next message may refer to it."""
        if self._takeover:
            self._stream = self._pending
        self._pending = None


class Decompressor:
    """Inflates what the other end sends: the pieces of one message after the other.

    Attributes:
        data: What was inflated of the message so far: the first `size` bytes of this.
        size: How many bytes that is.
    """

    __slots__ = (
        "_bits",
        "_fed",
        "_limit",
        "_start",
        "_stream",
        "_taken",
        "_takeover",
        "data",
        "size",
    )

    def __init__(self, bits: int, takeover: bool, limit: int) -> None:
        """Inflate what refers back 2**bits bytes, with `takeover` from message to message.

        Args:
            bits: The window bits.
            takeover: Whether a message may refer to the one before it.
            limit: The most bytes in a message.
        """
        self._bits = bits
        self._takeover = takeover
        self._limit = limit
        # A buffer that is doubled from here on comes to the limit nearly exactly.
        self._start = limit
        while self._start > _LARGEST_START:
            self._start = (self._start + 1) // 2
        self._stream: zlib._Decompress | None = None
        self._fed = False
        self._taken = 0  # bytes of the message that are in `data` no more
        self.data: bytes | bytearray = b""
        self.size = 0

    def feed(self, piece: memoryview) -> None:
        """Inflate a piece of the payload.

        Raises:
            Violation: 1009, over the limit; 1007, not deflate.
        """
        for start in range(0, len(piece), _SLICE):
            self._inflate(piece[start : start + _SLICE])
            self._fed = True

    def finish(self) -> bytes | bytearray:
        """The payload has ended: inflate what is left of it.

        Returns:
            The message: the first `size` bytes of it. Take them, then call `forget`.

        Raises:
            Violation: as `feed`.
        """
        if not self._fed:
            raise Violation(CloseCode.INVALID_DATA, "a compressed message has no data")
        # Without a stream it has just ended with a final block (section 7.2.3.4).
        if self._stream is not None:
            self._inflate(_TAIL)
        if not self._takeover:
            self._stream = None
        return self.data

    def take(self, count: int) -> bytes:
        """The first so many bytes of `data`, which keeps the others."""
        with memoryview(self.data) as room:
            whole = room.nbytes == count and isinstance(self.data, bytes)
            piece = self.data if whole else bytes(room[:count])
            left = bytes(room[count : self.size])
        self.data, self.size, self._taken = left, len(left), self._taken + count
        return bytes(piece)

    def forget(self) -> None:
        """Let go of a message, finished or not."""
        self._fed = False
        self._taken = 0
        self.data = b""
        self.size = 0

    def _inflate(self, data: Buffer) -> None:
        left: Buffer = data
        full = False
        while left or full:
            stream = self._stream
            if stream is None:
                stream = self._stream = zlib.decompressobj(wbits=-self._bits)
            most = min(_PIECE, self._limit - self._taken - self.size + 1)
            before = self.size
            try:
                # In one expression, so that no piece is held while the next one is made.
                self._take(stream.decompress(left, most))
            except zlib.error as error:
                raise Violation(
                    CloseCode.INVALID_DATA, "a compressed message is not deflate"
                ) from error
            left = stream.unconsumed_tail
            # It may keep more, and a final block's end, without a byte of input left.
            full = self.size - before == most
            if stream.eof:  # a final block: what follows is a stream with a window of its own
                left = stream.unused_data
                full = False
                self._stream = None

    def _take(self, piece: bytes) -> None:
        size = self.size + len(piece)
        if self._taken + size > self._limit:
            raise Violation.too_large(self._limit)
        if not self.size:
            self.data = piece  # often all of it
        elif piece:
            try:
                self._room(size)[self.size : size] = piece
            except MemoryError as error:
                raise Violation.no_memory() from error
        self.size = size

    def _room(self, size: int) -> bytearray:
        """`data` with room for so many bytes."""
        room = self.data
        if isinstance(room, bytes):
            first, room = room, bytearray(self._start)
            room[: len(first)] = first
            self.data = room
        while len(room) < size:
            room *= 2  # where it lies, and not by more than that, as += would
        return room
