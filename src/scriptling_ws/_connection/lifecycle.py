"""What becomes of a connection: its states, what leads from one to the next, and who is told.

Rules (RFC 6455 sections 7.1.2 to 7.1.4):

- A connection is in one `State`. An event leads to the next one, by the table below, and never
  back. Everything that changes a state is in this file.
- A state says what can still be done. Why it came to that are facts beside it: the close code
  (`_wire.control`), the error of a send (`Link.send_error`), whether a caller was told (`told`).
- The event that leads out of OPEN sets the times that the rest of the connection has.
- Each function that was given to `on_close` is called once, by the thread that has noticed the
  close. That thread may hold the intake's lock or the outlet's, but never this file's.

RFC 6455 has fewer states: its CLOSING is CLOSING and PEER_CLOSED here, its CLOSED is ENDED and
DISPOSED.
"""

from __future__ import annotations

import logging
from enum import IntEnum
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Final
from typing import Protocol as Interface

from .._network.deadline import Deadline
from .._network.waiting import engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._kernel import Channel
    from .._network.contract import RLock

__all__ = ["BREAK", "CLOSE", "DISPOSE", "END", "Lifecycle", "State"]

_logger: Final = logging.getLogger("scriptling_ws.connection")
_GRACE: Final = 1.0  # seconds for which `send` does not raise after a close that none has seen


class Ender(Interface):
    """What sees to the rest of a connection."""

    def watch_the_end(self) -> None:
        """No message can come any more: whether a call comes or not, the end will."""


class State(IntEnum):
    """What can still be done on a connection; from CLOSING on, this end's callers are done."""

    OPEN = 0
    """Messages go both ways."""
    BROKEN = 1
    """Nothing can be sent any more; what has come, and comes, is still received."""
    PEER_CLOSED = 2
    """No message can come any more: the peer has closed, left or broken the protocol. Those that
    have come are still received."""
    CLOSING = 3
    """This end has closed, and waits for the peer to."""
    ENDED = 4
    """Both ends have closed: what is left is the end of the stream."""
    DISPOSED = 5
    """The descriptor is closed."""


_O, _B, _P, _C, _E, _D = State
_OVER: Final = (_C, _E, _D)  # for callers of this end
_ENDED: Final = (_P, _E, _D)  # for messages

# From each state, in the order above, to the next. A tuple, because looking into one calls
# nothing: no signal handler runs between the state that is looked at and the one that is set.

CLOSE: Final = (_C, _C, _E, _C, _E, _D)
"""A caller of this end closes: `close`, or the server."""

BREAK: Final = (_B, _B, _P, _C, _E, _D)
"""Sending has failed, or this end has given the peer up."""

END: Final = (_P, _P, _P, _E, _E, _D)
"""The peer has closed, left or broken the protocol: no message can come any more."""

DISPOSE: Final = (_D, _D, _D, _D, _D, _D)
"""The descriptor is being closed."""


class Lifecycle:
    """One connection's state, the times that go with it, and who is told of its close.

    Attributes:
        lock: Guards all of this, the protocol's control plane and its answers, and the way of
            what is held to what is ready (`Unreceived.release`). Never held while waiting, and the
            last one taken. An RLock, because `close` may be called by a signal handler that has
            interrupted its holder.
        state: The state.
        told: Whether a caller knows that it is over: it has closed, or was told.
        close_by: Until when this end waits for what is left; None while open.
        grace: Until when `send` may drop its message, on the monotonic clock; None while open.
        unread_grace: The same while messages lie unread, infinity for ever.
        at_end: Finds, for `tell`, what sees to the rest once no message can come any more.
    """

    __slots__ = (
        "_callbacks",
        "_channel",
        "_close_timeout",
        "_send_timeout",
        "at_end",
        "close_by",
        "grace",
        "lock",
        "state",
        "told",
        "unread_grace",
    )

    def __init__(
        self, channel: Channel, close_timeout: float | None, send_timeout: float | None
    ) -> None:
        """Start OPEN; the channel is told of what it has to know."""
        self._channel = channel
        self.lock: RLock = engine().rlock()
        self.state = State.OPEN
        self.told = False
        self.close_by: Deadline | None = None
        self.grace: float | None = None
        self.unread_grace: float | None = None
        self.at_end: Callable[[], Ender | None] | None = None
        self._close_timeout = close_timeout
        self._send_timeout = send_timeout
        self._callbacks: list[Callable[[], object]] = []

    def go(self, event: tuple[State, ...]) -> None:
        """Take note of an event. Holds `lock`."""
        if event[self.state] is self.state and event is not CLOSE:
            return
        # No call in these, so no signal handler runs between them.
        self.state = event[self.state]
        self._channel.open = self.state is _O
        self._channel.closing = self.state in _OVER
        if event is CLOSE:
            self.told = True  # stored only then: a receiver sets it without the lock
        if self.state is not _O and self.close_by is None:
            self.close_by = Deadline(self._close_timeout)
            now = monotonic()
            self.grace = now + _GRACE
            self.unread_grace = now + (inf if self._send_timeout is None else self._send_timeout)

    @property
    def open(self) -> bool:
        """Whether it is OPEN."""
        return self.state is _O

    @property
    def closing(self) -> bool:
        """Whether it is CLOSING or later: over for callers of this end."""
        return self.state in _OVER

    @property
    def ended(self) -> bool:
        """Whether no message can come any more."""
        return self.state in _ENDED

    @property
    def disposed(self) -> bool:
        """Whether the descriptor is closed."""
        return self.state is _D

    def renew(self) -> None:
        """Let the time for what is left count anew."""
        self.close_by = Deadline(self._close_timeout)

    def on_close(self, callback: Callable[[], object]) -> None:
        """Have a function called once the connection is not open any more."""
        with self.lock:
            self._callbacks.append(callback)
        self.tell()

    def tell(self) -> None:
        """Tell of a close, if there is one, those who were not told so far. Not under `lock`."""
        if self.state is _O:
            return
        if self.at_end is not None and self.state in _ENDED:
            if (ender := self.at_end()) is not None:
                ender.watch_the_end()
            self.at_end = None
        if not self._callbacks:  # who adds one comes here after that
            return
        with self.lock:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except (Exception, SystemExit) as error:
                # In the main thread it is a signal handler's; any other may be the one of keepalive
                # for all connections, which it would end.
                if isinstance(error, SystemExit) and engine().hears_signals():
                    raise
                _logger.exception("a function that was given to on_close() has failed")

    def after_fork(self) -> None:
        """In a forked child: it is over, and nobody is told."""
        self.lock = engine().rlock()
        self._callbacks = []  # the parent's: what they wake is not here
        with self.lock:
            self.go(CLOSE)
            self.go(DISPOSE)
