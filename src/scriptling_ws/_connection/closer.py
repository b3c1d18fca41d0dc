"""Closing one connection: the last frames, the stream's end, the descriptor.

Rules (RFC 6455 section 7; those about locks are in `link`):

- `start` sends the close frame and wakes the threads that wait; it does not wait itself.
- After the end of reading, `settle` says goodbye on the wire, and then the descriptor is closed
  (`Intake.dispose`).
- A thread that cannot get a lock in time leaves the descriptor to the lock's holder
  (`Channel.orphaned`), which closes it on the way out.
- close_timeout counts anew while the peer goes on taking what was sent before, for send_timeout
  at most: what `send` has returned for arrives, if the peer reads.
- The handshake that a peer has begun ends within close_timeout, even if the caller never calls
  again: the keepalive thread then sees the connection off (`see_off`), without waiting.

No lock of its own: `finish`, `settle` and `tell_receiver` hold the intake's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._network.deadline import FOREVER, Deadline
from .._network.locks import holding
from .._network.transport import NAP
from .lifecycle import CLOSE
from .link import LOOK_AGAIN

if TYPE_CHECKING:
    from .._network.pulse import Pulse
    from .intake import Intake
    from .link import Link
    from .outlet import Outlet

__all__ = ["Closer"]

_LINGER: Final = 0.25  # seconds that a receiver waits for the stream's end after the last frame
_MAX_DRAIN: Final = 16 * 1024 * 1024  # what is read and dropped after the end, at most


class Closer:
    """Ends one connection."""

    __slots__ = ("_identity", "_intake", "_lifecycle", "_limit", "_link", "_outlet", "_pulse")

    def __init__(self, link: Link, outlet: Outlet, intake: Intake) -> None:
        self._link = link
        self._lifecycle = link.lifecycle
        self._outlet = outlet
        self._intake = intake
        self._identity = link.ways.identity
        self._limit = FOREVER  # for all that the time may count anew
        self._pulse: Pulse | None = None  # what the kernel had counted when it began

    def start(self, code: int, reason: str, *, discard: bool) -> None:
        """Send a close frame, if none has gone either way, and wake the receivers.

        Never waits. Messages that have come stay ready unless `discard` is set; those
        that still come are dropped.
        """
        link = self._link
        with self._lifecycle.lock:
            frame = link.protocol.control.close(code, reason)
            if frame:
                link.protocol.outbox.append(frame)
            link.protocol.unreceived.discard(keep_ready=not discard)
            self._lifecycle.go(CLOSE)
        link.wake()
        self._intake.answer()
        self._lifecycle.tell()

    def abort(self) -> None:
        """End the connection at once, without a goodbye: blocked calls return.

        Messages that were read stay ready; nothing is read any more.
        """
        link = self._link
        with self._lifecycle.lock:
            link.protocol.unreceived.discard(keep_ready=True)
            self._lifecycle.go(CLOSE)
        link.wake()
        link.transport.abort()
        self._lifecycle.tell()

    def finish(self) -> None:
        """Wait for the closing handshake's end, within close_timeout, and let go."""
        link, intake = self._link, self._intake
        deadline = self._lifecycle.close_by or FOREVER
        self._pulse = link.transport.pulse()
        self._limit = Deadline(link.send_timeout)
        inside = link.channel.reader == self._identity() and intake.lock.locked()
        if not holding(intake.lock, self._finish, 0 if inside else deadline.left()):
            # Somebody is inside receive() or send() and cannot leave: this very thread,
            # if this is a signal handler. It disposes on its way out.
            link.channel.orphaned = True
            link.transport.abort()

    def _finish(self) -> bool:
        self._link.channel.reader = self._identity()
        self._link.protocol.unreceived.drop_late()  # what a receiver has brought since `start`
        while not (self._link.protocol.ended or self._over()):
            self._intake.read(self._lifecycle.close_by or FOREVER, wakeable=False)
        self.settle(FOREVER)
        return True

    def _over(self) -> bool:
        """Whether close_timeout has passed, and is not to count anew."""
        if self._lifecycle.close_by is None or not self._lifecycle.close_by.passed():
            return False
        before, self._pulse = self._pulse, self._link.transport.pulse()
        if before is None or self._pulse is None or self._limit.passed():
            return True
        if not (self._pulse.queued and self._pulse.acknowledged > before.acknowledged):
            return True
        self._lifecycle.renew()
        return False

    def settle(self, deadline: Deadline) -> None:
        """Say goodbye, and wait for the peer to do so. Holds the intake's lock.

        Does what it can until `deadline`, and may be called again. Once the peer
        has ended the stream, or the connection's close_timeout is over, it disposes.
        """
        drained = 0
        lifecycle, link, outlet = self._lifecycle, self._link, self._outlet
        if outlet.finished and not (link.eof or lifecycle.disposed):
            # Mostly the peer's end is there, or comes at once.
            left = deadline.left()
            self._intake.read_some(nap=left is None or left > NAP)
        while not (lifecycle.disposed or link.eof or self._over() or drained > _MAX_DRAIN):
            if not outlet.finished:
                outlet.flush()
            closing = lifecycle.close_by or FOREVER
            until = deadline.sooner(closing.left())
            # A sender that is just leaving may hold the lock: then this is tried again.
            until = until if outlet.finished or outlet.finish() else until.sooner(LOOK_AGAIN)
            left = until.left()
            count = self._intake.read(until, wakeable=False)
            if count is None:
                closing.waited(left)
                if deadline.passed() and not self._over():
                    return
            drained += count or 0
        self._intake.dispose()

    def tell_receiver(self, deadline: Deadline) -> None:
        """No message is left and none will come, which the caller is about to be told."""
        if not self._lifecycle.closing:
            # Mostly the peer ends the stream at once. One that does not is
            # left to close(), so that the caller hears of the end in time.
            self.settle(deadline.sooner(_LINGER))
        self._lifecycle.told = True

    def look(self) -> None:
        """Read what is there, and go as far towards the end as that goes.

        Holds the intake's lock.
        """
        protocol = self._link.protocol
        if not protocol.ended and self._intake.read_some(nap=False) is None:
            self._outlet.flush()
        if protocol.ended:
            self.settle(Deadline(0))

    def see_off(self) -> bool:
        """Go as far towards the end as that goes without waiting; whether no reader is inside."""
        return self._intake.if_free(self._look_impatiently)

    def _look_impatiently(self) -> None:
        # A sender that is still inside is not waited for: this is done again.
        patience, self._intake.leave_by = self._intake.leave_by, Deadline(0)
        try:
            self.look()
        finally:
            self._intake.leave_by = patience
