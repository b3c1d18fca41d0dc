"""A compressed message that is being received (RFC 7692 section 6.2).

Rules:

- Its payload is inflated as it arrives, straight from the window: what is compressed is
  never put together.
- The limit is on what was inflated. What is compressed has one of its own, so that a peer
  cannot send for ever what inflates to nothing; no compressor that is in its right mind
  makes a message twice as long.

The rest is as with any other message: see `assembly`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .. import _kernel as kernel
from .assembly import Assembly, Message
from .deflate import Decompressor
from .opcodes import BINARY, TEXT

if TYPE_CHECKING:
    from .._handshakes.terms import Terms
    from .assembly import Frame

__all__ = ["Inflation"]

_SLACK: Final = 1024


class Inflation(Assembly):
    """The compressed message that is being put together, if there is one.

    Attributes:
        size: How many bytes have been inflated.
    """

    __slots__ = ("_decompressor", "_taken")

    def __init__(self, terms: Terms, *, masked: bool, limit: int, **keywords: Any) -> None:
        """Start without a message.

        Args:
            terms: How the other end compresses; a client's frames are masked.
            masked: As for Assembly.
            limit: The most bytes in a message.
            **keywords: As for Assembly.
        """
        self._decompressor = Decompressor(*terms.of(client=masked), limit)
        self._taken = 0  # bytes of the compressed payload
        super().__init__(masked=masked, limit=limit, **keywords)

    def forget(self) -> None:
        """There is no message any more."""
        super().forget()
        self._taken = 0
        self._decompressor.forget()

    @property
    def left(self) -> int:
        """How many bytes of compressed payload the message may still have."""
        return 2 * self._limit + _SLACK - self._taken

    def counts(self) -> tuple[int, int, int]:
        """As of any message: this one is compressed."""
        return self._fragments, self._drained + self.size, self._taken

    @property
    def announced(self) -> None:
        """A compressed frame's length says nothing about the message's."""

    def _cut(self, count: int) -> bytes:
        """The first so many bytes that were inflated."""
        piece = self._decompressor.take(count)
        self._room = [self._decompressor.data]
        return piece

    def _reserve(self, size: int) -> None:
        """A compressed frame's length says nothing about the message's."""

    def take(self, window: bytearray, position: int, end: int) -> int:
        """Take what lies in the window of the frame's payload; returns where that ends."""
        frame = self.frame
        if frame is None:
            return position
        stop = min(position + frame.left, end)
        self._inflate(frame, window, position, stop)
        self._room = [self._decompressor.data]
        self.size = self._decompressor.size
        self._check_text()
        return stop

    def _inflate(self, frame: Frame, window: bytearray, position: int, stop: int) -> None:
        with memoryview(window) as whole, whole[position:stop] as piece:
            if frame.key is not None:
                kernel.mask_in_place(piece, frame.key, frame.offset)
            self._decompressor.feed(piece)
        self._advance(frame, stop - position)
        self._taken += stop - position
        if self.complete:
            self._decompressor.finish()

    def finish(self, *, as_list: bool, as_utf8: bool = False) -> Message:
        """The complete message; there is none any more."""
        if as_list if self.opcode == BINARY else not as_utf8:
            return super().finish(as_list=as_list)
        if self.opcode == TEXT:
            self._check(more=False)
        data, size = self._decompressor.data, self.size
        self.forget()
        return data if isinstance(data, bytes) else bytes(memoryview(data)[:size])
