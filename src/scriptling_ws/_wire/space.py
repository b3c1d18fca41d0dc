"""Where received bytes lie until they are parsed: the window, or a large frame's own room.

Rules:

- What is left in the window is moved to its front, so that the next bytes come behind it.
- The window grows while more comes than it holds, and shrinks before a long wait: an idle
  connection keeps the smallest.
- A large frame, whose size is known and checked, is received where it is to be.

No I/O, and not thread-safe, as `incoming`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .. import _kernel as kernel
    from .assembly import Assembly

__all__ = ["SMALLEST", "Space"]

SMALLEST: Final = 1024
"""The bytes of an idle connection's window."""

_LARGEST: Final = 256 * 1024
# What is in the window may become a thousand times as much, and all of it has to go somewhere.
_LARGEST_DEFLATED: Final = 8 * 1024
_WORTHWHILE: Final = 4 * 1024  # bytes of a large frame that are received into its own room


class Space:
    """The memory of one connection's window.

    Attributes:
        have: How many received bytes are at the window's front.
        into_frame: Whether `give` has given out a large frame's own room.
    """

    __slots__ = ("_largest", "_window", "have", "into_frame")

    def __init__(self, window: kernel.Window, inflates: bool) -> None:
        """Begin with an empty window; `inflates`, if what comes may be compressed."""
        self._window = window
        self._largest = _LARGEST_DEFLATED if inflates else _LARGEST
        self.have = 0
        self.into_frame = False

    def give(self, assembly: Assembly) -> bytearray | memoryview:
        """Where to receive into; valid until the next call of any method."""
        view, size = assembly.view, assembly.size
        if view is not None and len(view) - size > _WORTHWHILE:
            self.into_frame = True
            return view[size:]
        self.into_frame = False
        return memoryview(self._window.data)[self.have :] if self.have else self._window.data

    def keep(self, position: int, end: int, *, large: bool = False, wanted: bool = True) -> None:
        """Move what was not parsed to the window's front, and fit the window's size.

        Args:
            position: Where that begins.
            end: Where the received bytes end.
            large: Whether a large frame goes on, which has a room of its own.
            wanted: Whether anything is parsed any more.
        """
        window = self._window.data
        left = end - position if wanted else 0
        if end == len(window) < self._largest and wanted and not large:
            # It was filled to the brim: more is waiting than it holds.
            larger = bytearray(min(4 * len(window), self._largest))
            larger[:left] = window[position:end]
            self._window.data = larger
        elif position and left:
            window[:left] = window[position:end]
        # No call from the move to here: it is not done twice.
        self.have = left
        self._window.stopped = None
        self._window.unfed = None

    def relax(self) -> None:
        """Give back memory, before a long wait."""
        if len(self._window.data) > SMALLEST and self.have < SMALLEST:
            self._window.data = self._window.data[: self.have].ljust(SMALLEST, b"\0")

    def forget(self) -> None:
        """Nothing that has come matters any more, nor what comes."""
        if len(self._window.data) > SMALLEST:
            self._window.data = bytearray(SMALLEST)
        self.have = 0
        self._window.stopped = None
        self._window.unfed = None
