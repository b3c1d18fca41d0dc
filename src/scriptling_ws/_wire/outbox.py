"""The control frames of one connection that wait to be sent, oldest first, in a list.

Rules (RFC 6455 section 5.5.3):

- They leave in the order in which they came in.
- The newest pong answers for all: a peer that pings and does not read cannot make more of them wait
  than `max_pending_pongs`, and a burst that comes in one piece.

No I/O, and not thread-safe: the connection's state lock guards the list.
"""

from __future__ import annotations

from typing import Final

from .opcodes import FIN, PONG

__all__ = ["add_answer", "drop_stale_pongs"]

_WHOLE_PONG: Final = bytes([FIN | PONG])
_BURST: Final = 256  # answers, beside those that may be pending, between two attempts to send


def add_answer(outbox: list[bytes], reply: bytes, most: int) -> None:
    """Add an answer to what has come.

    Args:
        outbox: The frames that wait.
        reply: One more.
        most: The most pongs that are kept where there are too many.
    """
    if len(outbox) >= _BURST + most:
        # One window may hold 100,000 pings.
        drop_stale_pongs(outbox, most)
    outbox.append(reply)


def drop_stale_pongs(outbox: list[bytes], most: int) -> None:
    """Of the pongs that could not be sent, keep the newest, and no more than `most`."""
    stale = sum(map(_is_pong, outbox)) - most
    for item in list(outbox) if stale > 0 else ():
        del outbox[0]
        if stale > 0 and _is_pong(item):
            stale -= 1
        else:
            outbox.append(item)


def _is_pong(item: bytes) -> bool:
    return item[:1] == _WHOLE_PONG
