"""The control frames that wait to be sent.

Rules (RFC 6455 section 5.5.3):

- They leave in the order in which they came in here.
- Of the pongs the newest answer for all: a peer that pings and does not read cannot make more of
  them wait than `max_pending_pongs`, and a burst that comes in one piece.

No I/O, and not thread-safe: the connection's state lock guards it.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from .opcodes import FIN, PONG

__all__ = ["Outbox"]

_WHOLE_PONG: Final = bytes([FIN | PONG])
_BURST: Final = 256  # answers, beside those that may be pending, between two attempts to send


class Outbox(deque[bytes]):
    """The control frames of one connection that wait, oldest first."""

    __slots__ = ("_max_pending_pongs",)

    def __init__(self, max_pending_pongs: int) -> None:
        """Start empty.

        Args:
            max_pending_pongs: The most answers to pings that `drop_stale_pongs` keeps.
        """
        super().__init__()
        self._max_pending_pongs = max_pending_pongs

    def answer(self, reply: bytes) -> None:
        """Add an answer to what has come."""
        if len(self) >= _BURST + self._max_pending_pongs:
            # One window may hold 100,000 pings.
            self.drop_stale_pongs()
        self.append(reply)

    def drop_stale_pongs(self) -> None:
        """Of the pongs that could not be sent, keep the newest."""
        stale = sum(map(_is_pong, self)) - self._max_pending_pongs
        for item in list(self) if stale > 0 else ():
            self.popleft()
            if stale > 0 and _is_pong(item):
                stale -= 1
            else:
                self.append(item)


def _is_pong(item: bytes) -> bool:
    return item[:1] == _WHOLE_PONG
