"""A large frame, sent piece by piece: the message is never there twice.

Rules (RFC 6455 section 5.3):

- A client's pieces are masked in a scratch buffer, one after the other. A server does not mask:
  its pieces are the caller's bytes, where they lie.
- A piece is valid until the next one is asked for.
"""

from __future__ import annotations

from typing import Final

from .. import _kernel as kernel
from .tally import Sizes

__all__ = ["Pieces"]

# As much as keeps the memory that a message takes beside the caller's own below 512 KiB:
# half a megabyte at a time was measured to go out faster than any smaller piece.
# The pure codec needs room of its own to mask in.
_SCRATCH: Final = (504 if kernel.IMPLEMENTATION == "compiled" else 320) * 1024
_MOST_SCRATCHES: Final = 2  # that are kept for the next large message
_FIRST: Final = 32 * 1024  # of a frame that is not masked: copied behind its header


class Pieces:
    """A large frame in pieces, each valid until the next one is asked for.

    A client's are masked in a scratch buffer, which is used again: new memory for each
    would cost more in page faults than the masking. A server's lie where they are.

    Not a generator, which an exception of a signal handler would end: here the next call
    makes the piece that the last one did not get to return.
    """

    __slots__ = ("_at", "_header", "_key", "_scratch", "_view")

    def __init__(self, first: int, view: memoryview, masked: bool) -> None:
        self._view = view
        self._key = kernel.next_key() if masked else None
        self._header = kernel.encode_header(first, len(view), self._key)
        self._at = 0
        self._scratch = _take_scratch() if masked else None

    def sizes(self) -> Sizes:
        """As `Sliced.sizes`, of a message that is not compressed."""
        return Sizes(len(self._view), self.wire)

    @property
    def wire(self) -> int:
        """How many bytes the frame has."""
        return len(self._header) + len(self._view)

    def __iter__(self) -> Pieces:
        return self

    def __next__(self) -> memoryview:
        start = self._at
        if start >= len(self._view):
            self._done()
            raise StopIteration
        if self._key is not None and self._scratch is not None:
            piece, stop = self._masked(start, self._key, memoryview(self._scratch))
        elif not start:
            stop = _FIRST
            piece = memoryview(self._header + self._view[:stop])
        else:
            stop = len(self._view)
            piece = self._view[start:]
        self._at = stop
        return piece

    def _masked(self, start: int, key: bytes, scratch: memoryview) -> tuple[memoryview, int]:
        head = 0 if start else len(self._header)
        stop = min(start + len(scratch) - head, len(self._view))
        end = head + stop - start
        kernel.mask_into(scratch[head:end], self._view[start:stop], key, start)
        if head:
            scratch[:head] = self._header
        return scratch[:end], stop

    def _done(self) -> None:
        if self._scratch is not None and len(_scratches) < _MOST_SCRATCHES:
            _scratches.append(self._scratch)
        self._scratch = None

    def __copy__(self) -> Pieces:
        """What is still to come of it, with a scratch buffer of its own."""
        other = Pieces.__new__(Pieces)
        other._view, other._key, other._header = self._view, self._key, self._header
        other._at = self._at
        other._scratch = None if self._scratch is None else _take_scratch()
        return other


_scratches: list[bytearray] = []  # those that are not in use; its methods are atomic


def _take_scratch() -> bytearray:
    try:
        return _scratches.pop()
    except IndexError:
        return bytearray(_SCRATCH)
