"""Closing one connection: the last frames, the stream's end, the descriptor.

Rules (RFC 6455 section 7; those about locks are in `_shared`):

- `_start_close` sends the close frame and wakes whoever waits; it does not wait itself.
- After the end of reading, `_settle` says goodbye on the wire; `_dispose`
  closes the descriptor, holding both I/O locks, so that no other thread is
  in a system call on it.
- Whoever cannot get a lock in time leaves the descriptor to its holder (`_orphaned`), who
  closes it on the way out.
- close_timeout counts anew while the peer goes on taking what was sent before, for send_timeout
  at most: what `send` has returned for arrives, if the peer reads.
- The handshake that a peer has begun ends within close_timeout, even if the caller never calls
  again: the keepalive thread then sees the connection off (`_see_off`), without waiting.
"""

# ruff: noqa: B007 - a lock is taken by a `for`, and whether it was is used below

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from ._deadline import FOREVER, Deadline
from ._keepalive import Next
from ._locks import attempt
from ._reading import LOOK_AGAIN
from ._shared import LOOK
from ._writing import Writing

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Closing"]

_MAX_DRAIN: Final = 16 * 1024 * 1024  # what is read and dropped after the end, at most
_LEAVE: Final = 1.0  # seconds that a sender gets to leave a connection that was ended


class Closing(Writing):
    """A connection that can be closed."""

    __slots__ = ()

    def _start_close(self, code: int, reason: str, *, discard: bool) -> None:
        """Send a close frame, if none has gone either way, and wake whoever receives.

        Never waits. Messages that have come stay ready unless `discard` is set; those
        that still come are dropped.
        """
        with self._state_lock:
            frame = self._protocol.control.close(code, reason)
            if frame:
                self._outbox.append(frame)
            self._protocol.discard(keep_ready=not discard)
            self._closing = True
            self._note_state()
        self._transport.wake()
        self._flush()
        self._tell_closed()

    def _finish_close(self) -> None:
        """Wait for the closing handshake's end, within close_timeout, and let go."""
        deadline = self._close_deadline or FOREVER
        self._close_pulse = self._transport.pulse()
        self._close_limit = Deadline(self._send_timeout)
        inside = self._reader == threading.get_ident() and self._recv_lock.locked()
        lock, got = self._recv_lock, False
        try:
            for got in attempt(lock, 0 if inside else deadline.left()):
                break
            if not got:
                # Somebody is inside receive() or send() and cannot leave: this very thread,
                # if this is a signal handler. It disposes on its way out.
                self._orphaned = True
                self._transport.abort()
                return
            self._reader = threading.get_ident()
            while not (self._protocol.ended or self._close_over()):
                self._read(self._close_deadline or FOREVER, wakeable=False)
            self._settle(FOREVER)
            self._dispose()
        finally:
            if got:
                lock.release()

    def _close_over(self) -> bool:
        """Whether close_timeout has passed, and is not to count anew."""
        if self._close_deadline is None or not self._close_deadline.passed():
            return False
        before, self._close_pulse = self._close_pulse, self._transport.pulse()
        if before is None or self._close_pulse is None or self._close_limit.passed():
            return True
        if not (self._close_pulse.queued and self._close_pulse.acknowledged > before.acknowledged):
            return True
        self._close_deadline = Deadline(self._close_timeout)
        return False

    def _settle(self, deadline: Deadline) -> None:
        """Say goodbye, and wait for the peer to do so. Holds _recv_lock.

        Does what it can until `deadline`, and may be called again. Once the peer
        has ended the stream, or the connection's close_timeout is over, it disposes.
        """
        drained = 0
        while not (self._disposed or self._eof or self._close_over() or drained > _MAX_DRAIN):
            self._flush()
            closing = self._close_deadline or FOREVER
            until = deadline.sooner(closing.left())
            # A sender that is just leaving may hold the lock: then this is tried again.
            until = until if self._finish_writing() else until.sooner(LOOK_AGAIN)
            left = until.left()
            count = self._read(until, wakeable=False)
            if count is None:
                closing.waited(left)
                if deadline.passed() and not self._close_over():
                    return
            drained += count or 0
        self._dispose()

    def _dispose(self) -> None:
        """Close the descriptor. Holds _recv_lock."""
        if self._disposed:
            return
        self._transport.abort()  # so that a blocked sender leaves
        self._orphaned = True  # if it does not in time, it closes the descriptor itself
        # One second for all calls: in a signal handler, the sender may be this very thread.
        self._leave_by = self._leave_by or Deadline(_LEAVE)
        lock, got = self._send_lock, False
        try:
            for got in attempt(lock, self._leave_by.left()):
                break
            if got:
                self._disposed = True
                self._transport.close()
        finally:
            if got:
                lock.release()

    def _see_off(self) -> Next | None:
        """As far towards the end as that goes without waiting; None once it is over."""

        def look() -> None:
            # A sender that is still inside is not waited for: this is done again.
            patience, self._leave_by = self._leave_by, Deadline(0)
            try:
                self._look()
            finally:
                self._leave_by = patience

        free = self._read_if_free(look)
        if self._disposed:
            return None
        left = self._close_deadline.left() if self._close_deadline is not None else None
        wait = LOOK if left is None else max(min(left, LOOK), LOOK_AGAIN)
        return Next(monotonic() + wait, readable=free)

    def _look_around(self) -> None:
        """Answer what has come, for a caller that only sends."""
        now = monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK
            self._look_due = not self._attended
            wanted = not (self._lock_waiters or self._protocol.ended or self._disposed)
            self._read_if_free(self._look_ahead, wanted=wanted)

    def _look_ahead(self) -> None:
        """Take control frames; and messages, unless the caller may wait for them on the socket.

        A ping may stand behind messages that the caller never receives. Holds _recv_lock.
        """
        if self._take_controls() and not (self._polled or self._backlog_full()):
            self._read_ahead()

    def _look(self) -> None:
        """Read what is there, and go as far towards the end as that goes. Holds _recv_lock."""
        if not self._protocol.ended and self._read_some(nap=False) is None:
            self._flush()
        if self._protocol.ended:
            self._settle(Deadline(0))

    def _abort(self) -> None:
        """End the connection at once, without a goodbye: whoever is blocked in it returns.

        Messages that were read stay ready; nothing is read any more.
        """
        with self._state_lock:
            self._protocol.discard(keep_ready=True)
            self._closing = True
        self._transport.wake()
        self._transport.abort()
        self._tell_closed()

    def _read_if_free(self, read: Callable[[], object], *, wanted: bool = True) -> bool:
        """Call `read` holding _recv_lock, if no other thread does; whether that was so."""
        lock, got = self._recv_lock, False
        try:
            for got in attempt(lock, wanted=wanted):
                break
            if got and not self._disposed:  # perhaps since the caller has looked
                self._reader = threading.get_ident()
                read()
                self._reader = 0
            if got and self._orphaned:
                self._dispose()
        finally:
            if got:
                lock.release()
        return got
