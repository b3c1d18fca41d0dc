"""Receiving on one connection: what a call of `receive` does.

Rules (those about locks are in `link`):

- A message that is ready is taken without a lock, by `Connection` itself; what is here reads.
  Before it reads, it takes what was read for others (`Unreceived.release`), under the lifecycle's
  lock alone: a sender that has read it may hold the intake's, and wait.
- Every call is over at its timeout, and a timeout loses nothing, wherever in a message it strikes.
- A message that is there is read on for a moment after the timeout, so that pings and fragments
  without end do not keep it from coming.
- While a message is streamed (`instream`), there is none for `receive`, which says so.
- Once all is over, a loop that goes on receiving is slowed down.

The lock is the intake's.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from .._network.deadline import FOREVER, Deadline, check_timeout
from .._network.locks import holding
from .farewell import part
from .intake import A_READ, OVERTIME
from .link import LOOK_AGAIN

if TYPE_CHECKING:
    from .._wire.incoming import Message
    from .closer import Closer
    from .intake import Intake
    from .link import Link
    from .outlet import Outlet

__all__ = ["Reader"]

_MANY: Final = 10_000  # receives on a closed connection, after which the next ones take their time
_PACE: Final = 0.01  # seconds
_STREAMED: Final = (
    "a message is being received by receive_stream(): read it to its end, or leave its with block, "
    "before the next one is received"
)
_TURNS: Final = 16  # reads of `fetch`: a peer can send pings without end


def _deadline(timeout: float | None) -> Deadline:
    return FOREVER if timeout is None else Deadline(timeout)


class Reader:
    """Receives the messages of one connection."""

    __slots__ = (
        "_channel",
        "_closer",
        "_identity",
        "_intake",
        "_lifecycle",
        "_link",
        "_nones",
        "_outlet",
        "_over",
        "_protocol",
        "_ready",
        "_share",
        "_sleep",
        "_unreceived",
    )

    def __init__(self, link: Link, outlet: Outlet, intake: Intake, closer: Closer) -> None:
        self._link = link
        self._outlet = outlet
        self._channel = link.channel
        self._lifecycle = link.lifecycle
        self._protocol = link.protocol
        self._ready = link.protocol.ready
        self._unreceived = link.protocol.unreceived
        self._intake = intake
        self._closer = closer
        self._nones = 0  # receives since all was over
        self._over = False  # `connected` has said so
        ways = link.ways
        self._identity = ways.identity
        self._sleep = ways.sleep
        self._share = ways.share

    def receive(self, timeout: float | None, quick: bool) -> Message | None:
        """As `Connection.receive`, from where the channel leaves it. Holds the intake's lock.

        Args:
            timeout: The seconds that are left, None for ever.
            quick: Whether they are so many that no clock has to be read before something comes.
        """
        self._channel.reader = self._identity()
        try:
            # What is ready goes before: its answers may still leave.
            if quick and not self._ready and part(self._link, self._outlet, self._intake):
                self._lifecycle.told = True
                return None
            self._intake.flush()
            return self._receive(timeout, quick)
        finally:
            self._channel.reader = 0
            if self._channel.orphaned:
                self._intake.dispose()

    def leave(self) -> None:
        """A call of the channel is over, in which `close` has left the descriptor to it."""
        self._intake.dispose()

    def seconds(self, timeout: object) -> float | None:
        """Check a timeout for the channel."""
        return check_timeout(timeout)

    def receive_waiting(self, timeout: float | None) -> Message | None:
        """As `receive`, while another thread receives: wait for the turn first."""
        deadline = Deadline(timeout)
        intake = self._intake
        with self._lifecycle.lock:
            intake.waiters += 1  # a blocked sender that reads leaves it to this thread
        try:
            return self._receive_in_turn(deadline)
        finally:
            with self._lifecycle.lock:
                intake.waiters -= 1

    def _receive_in_turn(self, deadline: Deadline) -> Message | None:
        """As `receive_waiting`, for one of those that wait."""
        # In slices: who closes may get the lock first, and keeps it until the peer answers.
        while not self._lifecycle.closing:
            if (message := self._take()) is not None:
                return message
            slice_ = deadline.sooner(LOOK_AGAIN)
            left = slice_.left()
            received = holding(
                self._intake.lock, lambda: (self.receive(deadline.left(), False),), left
            )
            if received is not None:
                return received[0]
            slice_.waited(left)
            if deadline.passed():
                return None
        self._unreceived.drop_late()
        message = self._take()  # what a server's shutdown leaves
        if message is None:
            self._lifecycle.told = True
        return message

    def _take(self) -> Message | None:
        """A message that was read; None if there is none. Needs no lock."""
        ready = self._ready
        while ready or self._held():
            self._release()
            with contextlib.suppress(IndexError):  # another thread took it
                return ready.popleft()
        return None

    def _held(self) -> bool:
        """Whether something is held, unless it is for a `receive_into` of another thread."""
        streamed = self._unreceived.streamed
        return bool(self._unreceived.held) and (streamed is None or streamed.target is None)

    def _release(self) -> None:
        streamed = self._unreceived.streamed
        if streamed is not None and streamed.target is None:
            raise RuntimeError(_STREAMED)
        with self._lifecycle.lock:
            self._unreceived.release()

    def _receive(self, timeout: float | None, quick: bool) -> Message | None:
        """As receive, for what is no message yet, or long in coming. Holds the intake's lock."""
        ready, protocol, lifecycle = self._ready, self._protocol, self._lifecycle
        unreceived = self._unreceived
        first = quick and not protocol.window.plain  # else the channel's read was just made
        deadline: Deadline | None = None
        overtime: Deadline | None = None
        while True:
            if lifecycle.closing:
                unreceived.drop_late()
            self._share(len(ready) or A_READ)
            if ready:
                try:
                    return ready.popleft()
                except IndexError:  # pragma: no cover - a race
                    continue  # another task took it
            if unreceived.holding and not (unreceived.streamed is not None and lifecycle.closing):
                self._release()
                protocol.hold_no_more()
                continue
            if lifecycle.closing or protocol.ended:
                self._end(timeout, deadline or _deadline(timeout))
                return None
            if first:
                first = False
                if self._intake.read_some(nap=True) is not None:
                    continue
            deadline = deadline or _deadline(timeout)
            if self._intake.read(deadline, wakeable=True, nap=not quick) is None and not ready:
                return None
            if not ready and deadline.passed():
                # More may be there, but pings and fragments can come without end.
                overtime = overtime or Deadline(OVERTIME)
                if overtime.passed():
                    return None

    def _end(self, timeout: float | None, deadline: Deadline) -> None:
        """There is no message any more, and none will come. Holds the intake's lock."""
        self._closer.tell_receiver(deadline)
        # A loop that receives on a closed connection, and never asks `connected`, slows down.
        if self._lifecycle.disposed:
            self._nones += 1
            if self._nones > _MANY:
                self._sleep(_PACE if timeout is None else min(timeout, _PACE))

    def at_hand(self) -> bool:
        """Whether a message was read, or the end: `receive(0)` would show it. Needs no lock."""
        unreceived, over = self._unreceived, self._lifecycle.closing or self._protocol.ended
        return bool(self._ready or over or (unreceived.held and unreceived.streamed is None))

    def tend(self) -> None:
        """Look after the connection, if that is due and there is no thread for it."""
        self._intake.tend()

    def keeps(self) -> bool:
        """Whether bytes have come that are not read: no poll of the descriptor would show them."""
        return self._protocol.window.unfed is not None or self._link.transport.keeps()

    def fetch(self) -> bool:
        """Receive until something is at hand, or nothing is there, without waiting.

        Returns:
            False, at once, if another thread receives, or a message is streamed: how much of that
            is read is for its reader to say.
        """

        def read() -> None:
            for _ in range(_TURNS):
                if self.at_hand() or self._intake.read_some(nap=False) is None:
                    return

        return self._intake.if_free(read, wanted=self._unreceived.streamed is None)

    def connected(self) -> bool:
        """As `Connection.connected`."""
        if self._over:
            return False  # though another thread may bring what it had begun to receive
        lifecycle = self._lifecycle
        closing = lifecycle.closing  # before _ready: from then on hardly anything is added to that
        if self._ready or self._unreceived.held:
            return True
        self._intake.if_free(self._closer.look, wanted=not lifecycle.disposed)
        ended = closing or self._protocol.ended  # as above
        if ended and not (self._ready or self._unreceived.held):
            self._over = lifecycle.told = True
            return False
        return True
