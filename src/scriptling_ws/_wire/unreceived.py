"""Messages that have come, and that nobody has received yet.

Rules:

- What comes is put in `queue()`. Mostly that is `ready`, which a receiver pops from without a
  lock, and into which the kernel's channel reads.
- Messages that nobody has asked for yet are held as they came (`hold`), and become lists of ints,
  which take eight times as much memory, when they are received (`release`).
- Where text is received as bytes, binary messages are lists, so that what is ready tells them
  apart. What is held does too: text is str there, binary bytes; but for what was ready before.
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
        as_utf8: Whether texts come out as bytes, else str.
        ready: Those that can be received, oldest first.
        held: Those that have come behind them while `holding`: str, and binary ones as bytes.
            Those at its front that were ready before are as they are received.
        holding: Whether what comes is held.
        discarding: Whether what comes is dropped.
        streamed: The message that is given out as it comes, None for none: see `stream`.
        tally: What has come, but for what the window counts.
    """

    __slots__ = (
        "_dropping",
        "_made",
        "_window",
        "as_list",
        "as_utf8",
        "discarding",
        "held",
        "holding",
        "ready",
        "streamed",
        "tally",
    )

    def __init__(
        self,
        ready: deque[Message],
        window: kernel.Window,
        as_list: bool,
        as_utf8: bool = False,
    ) -> None:
        """Start with nothing.

        Args:
            ready: Where the channel puts messages that are whole.
            window: What it reads from; it is told when it may not put any there.
            as_list: Whether binary messages come out as lists of ints, else bytes.
            as_utf8: Whether texts come out as bytes, else str. Not without `as_list`.
        """
        self._window = window
        self._dropping = False  # what has come too
        self._made = 0  # how many at the front of `held` were ready before
        self.as_list = as_list
        self.as_utf8 = as_utf8
        self.ready = ready
        self.held: list[Message] = []
        self.holding = False
        self.discarding = False
        self.streamed: Piecemeal | None = None
        self.tally = Tally()

    def queue(self) -> deque[Message] | list[Message]:
        """Where messages go as they come."""
        return self.held if self.holding else self.ready

    def kinds(self) -> tuple[bool, bool]:
        """Whether binary messages become lists as they come, and texts bytes."""
        made = not self.holding
        return self.as_list and made, self.as_utf8 and made

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
            made.append(message if len(made) < self._made else self._as_received(message))
            size += len(message)
            if size >= _AT_A_TIME:
                break
        count, ready = len(made), self.ready
        left = max(self._made - count, 0)
        # No call in these three, so no signal handler runs between them.
        ready += made
        del self.held[:count]
        self._made = left
        self.drop_late()  # a signal handler may have closed since they were made

    def _as_received(self, message: Message) -> Message:
        """What is held of a message, as it is received."""
        if isinstance(message, str):
            return message.encode() if self.as_utf8 else message
        return kernel.bytes_to_list(message) if self.as_list else message  # type: ignore[arg-type]

    def stream(self, message: Piecemeal) -> None:
        """Give out the next message as it comes; until that is over none becomes ready.

        For callers that hold the lock of what becomes ready, and read.
        """
        self._window.plain = False
        self.holding = True
        message.encoded = self.as_utf8
        self.streamed = message
        # What is ready goes before what is held. `extend` keeps what it has got when its source
        # raises, and no call is in the line after it: no signal handler's exception loses any.
        held = self.held
        count, counted = len(held), map(len, (held,))
        try:
            with contextlib.suppress(IndexError):
                held.extend(starmap(self.ready.popleft, repeat(())))
        finally:
            (total,) = counted  # which is done where it is unpacked
            more = total - count
            held[:] = held[count:] + held[:count]
            self._made += more

    def stream_held(self, message: Piecemeal) -> None:
        """Give out the first message that is held. As `stream`."""
        first, left = self.held[0], max(self._made - 1, 0)
        encoded = self.as_utf8 and self._made > 0 and isinstance(first, bytes)
        message.whole(first, text=encoded or isinstance(first, str))
        del self.held[0]
        self._made = left

    def sought(self) -> bool:
        """Whether the next message that begins is the one that is streamed."""
        return self.streamed is not None and self.streamed.text is None and not self.held
