"""Writing to one connection: messages, and the answers that reading them asks for.

Rules (those about locks are in `_shared`):

- A frame that was begun is finished before another one, or the connection is ended,
  even if a KeyboardInterrupt has ended the call that began it.
- Answers (pongs, close frames) wait in the protocol's outbox. Whoever can get
  `_send_lock` at once sends them; else its holder does, after its frame.
- A thread that cannot write reads meanwhile, up to max_backlog: two peers that both
  send first do not wait for each other for ever. If it reads the peer's close frame, its own
  frame has until close_timeout to leave.
- send_timeout counts anew with each _PROGRESS bytes that the peer has taken: a slow link is no
  reason to end a message, a peer that takes a byte a minute is.
- `send` looks at what has come, at most once a second: a caller that only sends still answers
  pings. Where the keepalive thread attends to that, it looks if that thread says so (`_look_due`).
- What is left of a begun frame is in `_rest`, or for a moment in `_tail`: should a
  signal handler's exception end a send, whoever has `_send_lock` next goes on from
  there. A handler can run after every call, so there is none between a write and
  the note of how much was written.
"""

# ruff: noqa: B007 - a lock is taken by a `for`, and whether it was is used below

from __future__ import annotations

import threading
from abc import abstractmethod
from copy import copy
from typing import TYPE_CHECKING, Final

from . import _frame
from ._deadline import Deadline, check_timeout
from ._errors import SendTimeout
from ._locks import attempt
from ._reading import LOOK_AGAIN, Reading
from ._shared import NO_CODE
from ._transport import SEND_FLAGS

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import EllipsisType

    from ._shared import Rest

__all__ = ["Writing"]

_NOTHING: Final = ()
_DUE: Final = 3  # the index in a Rest
_PROGRESS: Final = 64 * 1024  # bytes of a message that a peer has to take within send_timeout


def _name(whole: Deadline | None) -> str:
    return "send_timeout" if whole is None else "the timeout"


class Writing(Reading):
    """A connection that can be written to."""

    __slots__ = ()

    def _send_within(
        self, frame: bytes | Iterable[memoryview], timeout: float | EllipsisType | None
    ) -> None:
        """As _send_frame, within a time for this call alone; ... for send_timeout."""
        if timeout is ...:
            self._send_frame(frame)
            return
        deadline = Deadline(check_timeout(timeout))
        if isinstance(frame, bytes):
            self._send_in_turn((frame, 0, _NOTHING, False), deadline)
        else:
            self._send_in_turn((b"", 0, frame, False), deadline)

    def _send_frame(self, frame: bytes | Iterable[memoryview]) -> None:
        """Send one whole frame, perhaps in pieces, waiting until the system has taken it."""
        if not isinstance(frame, bytes):
            self._send_in_turn((b"", 0, frame, False))
            return
        lock, got = self._send_lock, False
        try:
            for got in self._try_send_lock:
                break
            if not got:
                self._send_in_turn((frame, 0, _NOTHING, False))
            elif not self._open:
                self._not_open()
            elif self._rest is None and not self._tail and not self._outbox:
                self._send_at_once(frame)
            else:
                self._send_slowly((frame, 0, _NOTHING, False))
        finally:
            if got:
                lock.release()
        if self._outbox:
            self._flush()
        if self._look_due:
            self._look_around()

    @abstractmethod
    def _look_around(self) -> None:
        """Answer what has come, for a caller that only sends."""

    def _send_at_once(self, frame: bytes) -> None:
        """Send a whole frame, before which nothing has to go. Holds _send_lock."""
        try:
            whole = _frame.send_frame(self._send_now, frame, SEND_FLAGS, self._tail)
        except BaseException as error:
            if self._send_broke(frame, error):
                return
            raise
        if not whole or self._transport.pending:
            self._send_remainder(b"" if whole else frame)

    def _send_broke(self, frame: bytes, error: BaseException) -> bool:
        """Sending a frame at once raised; whether that is dealt with. Holds _send_lock."""
        if isinstance(error, OSError) and error.errno is not None:
            self._send_failed(error)
            self._not_open()
            return True
        if self._transport.uncounted:  # a signal handler's, and part of the frame is under way
            self._rest = (frame, 0, _NOTHING, True)
            self._keep_rest()
        return False

    def _send_remainder(self, frame: bytes) -> None:
        """Send what could not be sent at once. Holds _send_lock."""
        rest: Rest = (frame, 0, _NOTHING, not frame)
        if self._tail:
            self._rest = rest = (self._tail[0], 0, _NOTHING, True)
            del self._tail[:]
        self._send_slowly(rest)

    def _send_in_turn(self, rest: Rest, whole: Deadline | None = None) -> None:
        """Send one whole frame, waiting for other senders first: one deadline for both.

        Args:
            rest: The frame.
            whole: The call's own deadline, in place of send_timeout and its renewals.
        """
        deadline = whole or Deadline(self._send_timeout)
        lock, got = self._send_lock, False
        try:
            for got in attempt(lock, deadline.left()):
                break
            if not got:
                raise SendTimeout(f"other threads' messages took all of {_name(whole)}")
            if not self._open:
                self._not_open()
                return
            self._send_slowly(rest, deadline, renew=whole is None)
        finally:
            if got:  # pragma: no branch - else SendTimeout is on its way
                lock.release()
        if self._outbox:
            self._flush()
        if self._look_due:
            self._look_around()

    def _not_open(self) -> None:
        """A message is to be sent on a connection that is not open any more.

        Raises ConnectionClosed, unless the peer has left and no caller was told so far (by
        `receive` or `connected`): for a second after a close, or while messages from before lie
        unread, for send_timeout at most. What is sent then is lost as if the peer had left a
        moment later. A close frame that lies behind a failed send is told at once.
        """
        control = self._protocol.control
        silent = self._send_error is None or control.code in (None, NO_CODE)
        gone = silent and not (self._closing or control.error)
        if isinstance(self._send_error, SendTimeout):
            gone = False  # it does not read
        lately = self._grace is not None and not (self._grace.passed() or self._send_error)
        if self._ready and self._unread_grace is not None:
            lately = not self._unread_grace.passed()
        if self._told or not (gone and lately):
            self._leave()
            raise self._closed_error()

    def _leave(self) -> None:
        """Close the descriptor if close() has left that to this thread. Holds _send_lock."""
        lock, got = self._recv_lock, False
        try:
            for got in attempt(lock, wanted=self._orphaned):
                break
            if got and not self._disposed:
                self._disposed = True
                self._transport.close()
        finally:
            if got:
                lock.release()

    def _send_slowly(
        self, rest: Rest, deadline: Deadline | None = None, *, renew: bool = True
    ) -> None:
        """Send what is left of a frame, and before it what has to go first. Holds _send_lock."""
        deadline = deadline or Deadline(self._send_timeout)
        mine = rest[_DUE]
        try:
            while not mine and self._take_up():
                if not self._write_some():
                    self._wait_writable(deadline)
            if not (mine or self._open):  # a close frame has come or gone meanwhile
                self._not_open()
                return
            mine = True
            self._rest = rest
            self._write_out(deadline, renew)
        except SendTimeout as error:
            if mine and (self._rest is None or self._rest[_DUE]):
                self._transport.abort()  # part of the frame has left: the stream is spoilt
                self._send_failed(error)
            elif mine:
                self._rest = None
            raise
        except BaseException as error:
            if isinstance(error, OSError) and error.errno is not None:
                self._send_failed(error)
                self._not_open()
                return
            self._keep_rest()  # a signal handler raised, TimeoutError or KeyboardInterrupt perhaps
            raise

    def _write_out(self, deadline: Deadline, renew: bool) -> None:
        """Write all of `_rest`, waiting for it. Holds _send_lock."""
        self._taken = 0
        while self._rest is not None:
            if not self._write_some():
                self._wait_writable(deadline)
            elif renew and self._taken >= _PROGRESS:
                deadline, self._taken = Deadline(self._send_timeout), 0
        while not self._transport.flush():
            self._wait_writable(deadline)
        self._stalled = None

    def _take_up(self) -> bool:
        """Whether something has to be written before a new frame: `_rest`. Holds _send_lock."""
        if self._tail:
            self._rest = (self._tail[0], 0, _NOTHING, True)
            del self._tail[:]
        if self._rest is not None:
            if self._rest[_DUE] or self._transport.uncounted:
                return True
            self._rest = None  # a send was ended before it had begun
        with self._state_lock:
            if not self._outbox:
                return False
            self._rest = (self._outbox[0], 0, _NOTHING, True)
            del self._outbox[0]
        return True

    def _write_some(self) -> bool:
        """Write some of `_rest` without waiting; False if that cannot be. Holds _send_lock."""
        assert self._rest is not None
        data, sent, more, due = self._rest
        if self._transport.uncounted:
            sent += self._transport.uncounted
            self._rest = (data, sent, more, True)
            self._transport.uncounted = 0
        if sent < len(data):
            view = memoryview(data)[sent:]
            count = self._transport.write(view)
            if not count:
                return False
            self._rest = (data, sent + count, more, True)
            self._taken += count
            self._moved = True
            return True
        for piece in more:
            self._rest = (piece, 0, more, due)
            return True
        self._rest = None
        return True

    def _keep_rest(self) -> None:
        """Copy what is left: whoever wanted to send it may change it from here on."""
        if self._rest is not None and (self._rest[_DUE] or self._transport.uncounted):
            data, sent, more, _ = self._rest
            left = memoryview(data)[sent + self._transport.uncounted :]
            # Each is copied before the next one is made: see Pieces.
            whole = b"".join((bytes(left), *map(bytes, copy(more))))
            self._rest = (whole, 0, _NOTHING, True)
            self._transport.uncounted = 0

    # -- answers -----------------------------------------------------------

    def _unsent(self) -> bool:
        """Whether something is to be sent that no sender has in hand.

        A sender that has the lock sends the answers too, once its frame is out: who waits for the
        socket to be writable meanwhile would only spin.
        """
        waiting = self._outbox or self._transport.pending or self._rest is not None or self._tail
        return bool(waiting) and not self._send_lock.locked()

    def _flush(self) -> None:
        """Send what is in the outbox, as far as that goes without waiting."""
        while self._unsent():
            lock, got = self._send_lock, False
            try:
                for got in attempt(lock):
                    break
                if not got or not self._flush_holding():
                    break  # whoever holds the lock comes here after its frame
            finally:
                if got:  # pragma: no branch - else the loop has ended
                    lock.release()
        if self._outbox:
            with self._state_lock:
                self._protocol.drop_stale_pongs()
                if self._send_error is not None:
                    self._outbox.clear()
        if self._protocol.ended:
            # Whoever reads may have found the lock taken when it was this end's turn.
            self._finish_writing()

    def _flush_holding(self) -> bool:
        """As _flush. Holds _send_lock; whether nothing is left."""
        try:
            while self._send_error is None and self._take_up():
                if not self._write_some():
                    return self._note_stall()
                self._stalled = None
            if self._send_error is not None or not self._transport.flush():
                return self._note_stall()
            self._stalled = None
            return True
        except OSError as error:
            if error.errno is None:
                raise
            self._send_failed(error)
            return False

    def _note_stall(self) -> bool:
        """The peer takes no answers: after send_timeout, give it up. Holds _send_lock."""
        if self._stalled is None:
            self._stalled = Deadline(self._send_timeout)
        elif self._stalled.passed() and self._send_error is None:
            self._transport.abort()
            text = "the peer does not read: no answer to its pings was sent within send_timeout"
            self._send_failed(SendTimeout(text))
        return False

    # -- waiting, and the end ------------------------------------------------

    def _wait_writable(self, deadline: Deadline) -> None:
        """Wait until something can be written, reading meanwhile. Holds _send_lock."""
        if deadline.passed():
            raise SendTimeout(
                "the peer does not read: the message was not sent within send_timeout, "
                "or the call's own timeout"
            )
        if self._close_deadline is not None:
            if self._close_deadline.passed():
                self._transport.abort()  # what has left of the frame is of no use
                self._send_failed(SendTimeout("the peer has closed, and does not read"))
                raise self._closed_error()
            deadline = deadline.sooner(self._close_deadline.left())
        reads = not (
            self._lock_waiters or self._closing or self._protocol.ended or self._backlog_full()
        )
        lock, got = self._recv_lock, False
        try:
            for got in attempt(lock, wanted=reads):
                break
            if not got:
                self._transport.wait(False, True, deadline.sooner(LOOK_AGAIN))
                return
            self._reader = threading.get_ident()
            self._transport.wait(True, True, deadline, wakeable=True)
            self._read_ahead()
            self._reader = 0
        finally:
            if got:
                lock.release()

    def _send_failed(self, error: OSError) -> None:
        """Nothing can be written any more. Holds _send_lock."""
        with self._state_lock:
            # A copy, without the traceback: that holds all that the callers have in hand.
            self._send_error = copy(error)
            self._rest = None
            del self._tail[:]
            self._note_state()
        # The close frame that says why may lie unread; messages before it stay ready.
        lock, got = self._recv_lock, False
        try:
            for got in attempt(lock):
                break
            while got and not (self._protocol.ended or self._backlog_full()):
                if not self._read_ahead():
                    break
            if got and self._orphaned and not self._disposed:
                self._disposed = True
                self._transport.close()
        finally:
            if got:
                lock.release()
        self._tell_closed()

    def _finish_writing(self) -> bool:
        """End the outgoing stream once the last frame has left, if it is this end's turn.

        Returns:
            False if it is, but could not be done now.
        """
        # A server ends the stream first (RFC 6455 section 7.1.1), and so does
        # whoever fails the connection; else a client waits for the server to.
        its_turn = not self._client or self._protocol.control.error is not None
        if not its_turn or self._writing_finished or self._send_error is not None:
            return True
        if self._outbox or self._transport.pending or self._rest is not None or self._tail:
            return False
        lock, got = self._send_lock, False
        try:
            for got in attempt(lock):
                break
            if got:
                self._writing_finished = True
                self._transport.finish_writing()
            return got
        finally:
            if got:
                lock.release()
