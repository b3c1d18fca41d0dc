"""Looking at the frames of a stream as they pass: for a log, beside what sends and receives them.

Rules:

- It is told of all bytes of one direction, in their order, in pieces of any size. Of a payload it
  keeps the first bytes alone: a large message costs no copy.
- It judges nothing: reserved bits, unknown opcodes and wrong masks are frames too. Where a length
  cannot be, frames cannot be told apart any more, and it says so once.
- A call that an exception has ended may have lost its place: then it says so, and is silent.

No I/O, and not thread-safe: one thread at a time moves bytes in one direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from .. import _kernel as kernel
from .opcodes import CLOSE, COMPRESSED, CONTINUATION, MOST_CONTROL, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Lost", "Seen", "Watch"]

_SHOWN: Final = 64  # bytes of a message's frame that are kept
_MOST: Final = 14 + MOST_CONTROL  # of a frame whose beginning is not all there
_INTERRUPTED: Final = "an exception has interrupted the look at them"


class Seen(NamedTuple):
    """A frame that has begun to pass.

    Attributes:
        first: Its first byte: FIN, the reserved bits and the opcode.
        length: The bytes of its payload.
        start: The first of these, not masked; of a control frame all.
        text: Whether it is of a text message.
        compressed: Whether it is of a compressed message.
    """

    first: int
    length: int
    start: bytes
    text: bool
    compressed: bool


class Lost(NamedTuple):
    """The frames cannot be told apart from here on.

    Attributes:
        why: Why.
        start: The first bytes.
    """

    why: str
    start: bytes


class Watch:
    """Looks at the frames of one direction."""

    __slots__ = ("_busy", "_compressed", "_head", "_lost", "_skip", "_text")

    def __init__(self) -> None:
        self._head = b""  # the beginning of a frame, of which more has to come
        self._skip = 0  # bytes of a payload that are still to pass
        self._text = self._compressed = False  # the message that is under way, or was
        self._busy = self._lost = False

    @property
    def unfinished(self) -> bool:
        """Whether a frame has begun, and more of it has to come."""
        return bool(self._head or self._skip) and not self._lost

    def feed(self, data: memoryview) -> Iterator[Seen | Lost]:
        """Bytes pass: the frames of which enough has come now."""
        if self._lost:
            return
        if self._busy:
            self._lost = True
            yield Lost(_INTERRUPTED, b"")
            return
        self._busy = True
        at = 0
        while at < len(data):
            passing = min(self._skip, len(data) - at)
            self._skip -= passing
            at += passing
            if at < len(data):
                found, at = self._next(data, at)
                if found is not None:
                    yield found
                if isinstance(found, Lost):
                    return
        self._busy = False

    def _next(self, data: memoryview, at: int) -> tuple[Seen | Lost | None, int]:
        """The frame whose beginning ends behind `at`, and where that is; None for none."""
        before = len(self._head)
        piece = self._head + bytes(data[at : at + _MOST - before])
        try:
            header = kernel.parse_header(piece, 0, len(piece))
        except ValueError as error:
            self._lost = True
            return Lost(str(error), piece[:16]), at
        if header is None:
            self._head = piece
            return None, len(data)
        first, length, start, key = header
        stop = start + min(length, _SHOWN if first & 0x0F < CLOSE else MOST_CONTROL)
        if stop > len(piece):
            self._head = piece
            return None, len(data)
        self._head = b""
        self._skip = length - (stop - start)
        shown = piece[start:stop]
        return self._seen(first, length, kernel.apply_mask(shown, key) if key else shown), (
            at + stop - before
        )

    def _seen(self, first: int, length: int, start: bytes) -> Seen:
        opcode = first & 0x0F
        if opcode >= CLOSE:
            return Seen(first, length, start, False, False)
        if opcode != CONTINUATION:
            self._text, self._compressed = opcode == TEXT, bool(first & COMPRESSED)
        return Seen(first, length, start, self._text, self._compressed)
