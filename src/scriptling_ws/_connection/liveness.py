"""Whether a peer that has not answered a ping is still there: a judgement by facts.

Rules (RFC 6455 section 5.5.2):

- Whatever has come since the ping, read or not, shows that the peer lives.
- Bytes that move outwards show it too, and so does the room for more that a reading peer
  announces. The pong comes behind all that the peer has still to read.
- A ping counts from when it has left this process: it may stand behind a large frame.
- A judge that comes late has slept (a stopped process, a held GIL, a closed lid), and so may
  the network have: the peer gets the time once more.

No I/O and no clock in here: what is known at a moment is given as `Facts`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from .._network.pulse import Pulse

__all__ = ["Facts", "Liveness"]

_PING: Final = 64  # bytes that a ping adds to those acknowledged, at most: under TLS
_ROOM: Final = 1024  # bytes by which the window changes of itself, at most
_LATE: Final = 0.5  # of the time that a peer has: how late a judge may come


class Facts(NamedTuple):
    """What is known about a connection at one moment.

    Attributes:
        heard: Bytes have come since the ping, or lie unread.
        moved: Bytes have left since the last look, as far as this process has seen.
        left: The ping has left this process.
        pulse: What the kernel has counted; None where it does not tell.
    """

    heard: bool
    moved: bool
    left: bool
    pulse: Pulse | None


class Liveness:
    """The judge of one connection's pings, one after the other.

    Attributes:
        asked: When the latest ping was sent; at first, when the connection was opened.
        answered: Whether the peer has shown since then that it lives.
    """

    __slots__ = ("_due", "_excused", "_pulse", "_since", "_timeout", "answered", "asked")

    def __init__(self, timeout: float | None, now: float) -> None:
        """Judge by a `ping_timeout` in seconds; None never to give a peer up."""
        self._timeout = timeout
        self.asked = now
        self.answered = True
        self._since = now  # from when on the peer's time counts
        self._due = now  # when the next look was to be
        self._excused = False  # it has had the time once more, as a look came late
        self._pulse: Pulse | None = None

    def ask(self, now: float, pulse: Pulse | None) -> None:
        """A ping is sent."""
        self.asked = self._since = now
        self.answered = self._excused = False
        self._pulse = pulse

    def look(self, now: float, facts: Facts) -> bool:
        """Judge by what is known now; whether the peer is to be given up."""
        before, self._pulse = self._pulse, facts.pulse
        if self.answered or facts.heard or _came(before, facts.pulse):
            self.answered = True
            return False
        if facts.moved or not facts.left or _went(before, facts.pulse):
            self._since = now
            return False
        if self._timeout is None or now < self._since + self._timeout:
            return False
        if now > self._due + _LATE * self._timeout and not self._excused:
            self._excused = True
            self._since = now
            return False
        return True

    def next_look(self, now: float, interval: float) -> float:
        """When to look again, or to ask: at most an `interval` from now."""
        again = now + interval
        if self.asked + interval > now:
            again = self.asked + interval
        if not self.answered and self._timeout is not None:
            again = min(again, self._since + self._timeout)
        self._due = again
        return again


def _came(before: Pulse | None, now: Pulse | None) -> bool:
    return before is not None and now is not None and now.received > before.received


def _went(before: Pulse | None, now: Pulse | None) -> bool:
    """Whether bytes have left, beside the ping itself, or the peer has made room."""
    if before is None or now is None:
        return False
    return now.acknowledged > before.acknowledged + _PING or now.window > before.window + _ROOM
