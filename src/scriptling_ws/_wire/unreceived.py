"""Messages that have come, and that nobody has received yet.

Rules:

- What comes is put in `queue()`. Mostly that is `ready`, which a receiver pops from without a
  lock, and into which the kernel's channel reads.
- Messages that nobody has asked for yet are held as they came (`hold`), and become lists of ints,
  which take eight times as much memory, when they are received (`release`).
- While somebody streams (`streamed`), one message is given out as it comes, and those that come
  behind it are held.
- After `discard` what comes is dropped, and perhaps what has come.

No I/O, and no lock: `release` and `drop_late` may be called while another thread reads, the rest
by the one that does.
"""

from __future__ import annotations

import contextlib
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Final

from .. import _kernel as kernel
from .tally import Tally

if TYPE_CHECKING:
    from collections import deque

    from .assembly import Message
    from .piecemeal import Piecemeal

__all__ = ["Unreceived"]

_AT_A_TIME: Final = 64 * 1024  # bytes that are held, of which lists are made at a time


class Unreceived:
    """The messages of one connection that nobody has received.

    Attributes:
        as_list: Whether binary messages come out as lists of ints, else bytes.
        ready: Those that can be received, oldest first.
        held: Those that have come behind them while `holding`, binary ones as bytes.
        holding: Whether what comes is held.
        discarding: Whether what comes is dropped.
        streamed: The message that is given out as it comes, None for none: see `stream`.
        tally: What has come, but for what the window counts.
    """

    __slots__ = (
        "_dropping",
        "_window",
        "as_list",
        "discarding",
        "held",
        "holding",
        "ready",
        "streamed",
        "tally",
    )

    def __init__(self, ready: deque[Message], window: kernel.Window, *, as_list: bool) -> None:
        """Start with nothing.

        Args:
            ready: Where the channel puts messages that are whole.
            window: What it reads from; it is told when it may not put any there.
            as_list: Whether binary messages come out as lists of ints, else bytes.
        """
        self._window = window
        self._dropping = False  # what has come too
        self.as_list = as_list
        self.ready = ready
        self.held: list[Message] = []
        self.holding = False
        self.discarding = False
        self.streamed: Piecemeal | None = None
        self.tally = Tally()

    def queue(self) -> deque[Message] | list[Message]:
        """Where messages go as they come."""
        return self.held if self.holding else self.ready

    def discard(self, *, keep_ready: bool) -> None:
        """Drop the messages that still come, and unless `keep_ready` those that have."""
        self.discarding = True
        self._window.plain = False
        self._dropping = self._dropping or not keep_ready
        self.drop_late()

    def drop_late(self) -> None:
        """Drop the messages that were brought while `discard` was called."""
        if self._dropping:
            self.ready.clear()
            self.held.clear()

    def hold(self) -> None:
        """From here on keep binary messages as they come, if they are to be lists."""
        if self.as_list and not self.holding:
            self._window.plain = False
            self.holding = True

    def release(self) -> None:
        """Make ready some of what is held, unless something is: what is held comes behind it.

        May be called while another thread reads, by one thread at a time.
        """
        if self.ready or self.streamed is not None:
            return
        made: list[Message] = []
        size = 0
        for message in self.held:
            listed = self.as_list and isinstance(message, bytes)
            made.append(kernel.bytes_to_list(message) if listed else message)  # type: ignore[arg-type]
            size += len(message)
            if size >= _AT_A_TIME:
                break
        count, ready = len(made), self.ready
        # No call in these two, so no signal handler runs between them.
        ready += made
        del self.held[:count]
        self.drop_late()  # a signal handler may have closed since they were made

    def stream(self, message: Piecemeal) -> None:
        """Give out the next message as it comes; until that is over none becomes ready.

        For callers that hold the lock of what becomes ready, and read.
        """
        self._window.plain = False
        self.holding = True
        self.streamed = message
        # What is ready goes before what is held. `extend` keeps what it has got when its source
        # raises, and no call is in the line after it: no signal handler's exception loses any.
        held = self.held
        count = len(held)
        try:
            with contextlib.suppress(IndexError):
                held.extend(starmap(self.ready.popleft, repeat(())))
        finally:
            held[:] = held[count:] + held[:count]

    def sought(self) -> bool:
        """Whether the next message that begins is the one that is streamed."""
        return self.streamed is not None and self.streamed.text is None and not self.held
