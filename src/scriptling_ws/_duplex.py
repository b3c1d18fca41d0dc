"""One connection's I/O: who reads, who writes, who closes, and who waits for whom.

Rules:

- Three locks, taken in this order when more than one is held:
  `_recv_lock` guards reading: the transport's read side and the protocol's window.
  `_send_lock` guards writing: whole frames, one after the other.
  `_state_lock` guards the protocol's state; it is never held while waiting.
  Whoever holds `_send_lock` takes `_recv_lock` only without blocking.
- No thread of its own. One thread waits in `recv`; any number send meanwhile.
- Answers (pongs, close frames) wait in the protocol's outbox. Whoever can get
  `_send_lock` at once sends them; else its holder does, after its frame.
- A thread that cannot write reads meanwhile, up to MAX_BACKLOG: two peers that both
  send first do not wait for each other for ever.
- A frame that was begun is finished before another one, or the connection is ended,
  even if a KeyboardInterrupt has ended the call that began it.
- After the end of reading, `_settle` says goodbye on the wire; `_dispose`
  closes the descriptor, holding both I/O locks, so that no other thread is
  in a system call on it.
"""

# ruff: noqa: B007 - a lock is taken by a `for`, and whether it was is used below

from __future__ import annotations

import contextlib
import threading
from copy import copy
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Final

from . import _frame
from ._deadline import FOREVER, Deadline
from ._errors import ConnectionClosed, SendTimeout
from ._fork import tell_after_fork
from ._transport import DONTWAIT, NAP

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._protocol import Protocol
    from ._transport import Transport

__all__ = ["MAX_BACKLOG", "Duplex", "attempt"]

MAX_BACKLOG: Final = 64 * 1024 * 1024
"""How many bytes of payload a thread that cannot write lets pile up, about.

As lists of ints they take eight times that.
"""

_MESSAGE_OVERHEAD: Final = 64  # what a small message costs beside its bytes, about
_GRACE: Final = 1.0  # seconds for which `send` does not raise after a close that none has seen
_LOOK_AGAIN: Final = 0.1  # seconds after which a blocked writer asks again who reads
_MAX_DRAIN: Final = 16 * 1024 * 1024  # what is read and dropped after the end, at most
_LEAVE: Final = 1.0  # seconds that a sender gets to leave a connection that was ended
_NO_CODE: Final = 1006
_NOT_OURS: Final = "it is the parent process's, and a forked child cannot use it"
_NOTHING: Final = ()
_DUE: Final = 3  # an index
# For `for got in starmap(lock.acquire, _WITHOUT_WAITING)`: as `attempt`, made once.
_WITHOUT_WAITING: Final = repeat((False,))

# What is left to send of a frame: `data[sent:]`, then the pieces of `more`; and whether it
# has to be sent, because part of it has left, or because it is an answer.
_Rest = tuple["bytes | memoryview", int, "Iterable[memoryview]", bool]


class Duplex:
    """The engine under Connection: a transport, a protocol and three locks."""

    __slots__ = (
        "__weakref__",
        "_backlog",
        "_client",
        "_close_deadline",
        "_close_timeout",
        "_closing",
        "_disposed",
        "_eof",
        "_grace",
        "_heard",
        "_lock_waiters",
        "_open",
        "_orphaned",
        "_outbox",
        "_protocol",
        "_reader",
        "_ready",
        "_receive_into",
        "_recv_lock",
        "_rest",
        "_send_error",
        "_send_lock",
        "_send_now",
        "_send_timeout",
        "_stalled",
        "_state_lock",
        "_tail",
        "_told",
        "_transport",
        "_try_recv_lock",
        "_try_send_lock",
        "_writing_finished",
        "local_addr",
        "remote_addr",
    )

    def __init__(
        self,
        transport: Transport,
        protocol: Protocol,
        *,
        client: bool,
        send_timeout: float | None,
        close_timeout: float | None,
    ) -> None:
        """Take over an open transport and its protocol."""
        self._transport = transport
        self._receive_into = transport.receive
        self._send_now = transport.send
        self._protocol = protocol
        self._ready = protocol.ready
        self._outbox = protocol.outbox
        self._client = client
        self._send_timeout = send_timeout
        self._close_timeout = close_timeout
        self._recv_lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._try_recv_lock = starmap(self._recv_lock.acquire, _WITHOUT_WAITING)
        self._try_send_lock = starmap(self._send_lock.acquire, _WITHOUT_WAITING)
        # Not a Lock: close() may be called by a signal handler that interrupts its holder.
        self._state_lock = threading.RLock()
        self._reader = 0  # the thread that receives, 0 for none
        self._lock_waiters = 0  # receivers that wait for _recv_lock; guarded by _state_lock
        self._open = True  # control.open and no send error: kept for the hot path
        self._closing = False  # this end has begun to close
        self._grace: Deadline | None = None  # until when `send` may drop: see _not_open
        self._told = False  # a caller knows that the peer has closed
        self._close_deadline: Deadline | None = None  # for what is left of the connection
        self._eof = False  # the peer has ended the stream
        self._writing_finished = False  # this end has
        self._orphaned = False  # close() has left the descriptor to whoever reads
        self._disposed = False  # the descriptor is closed; guarded by both I/O locks
        self._heard = False  # something came since this was set to False
        self._rest: _Rest | None = None  # what is being written; guarded by _send_lock
        self._tail: list[bytes] = []  # as send_frame leaves it; guarded by _send_lock
        self._stalled: Deadline | None = None  # until when answers wait for the peer to read
        self._send_error: Exception | None = None  # why nothing can be written any more
        self._backlog = 0  # bytes that blocked writers have read, at most
        self.local_addr: str = transport.local_addr
        self.remote_addr: str = transport.remote_addr
        tell_after_fork(self)

    # -- state -------------------------------------------------------------

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed: for looking at, not for I/O."""
        return self._transport.fileno()

    def _after_fork(self) -> None:
        """In a forked child: be closed, without a word to the peer, who is the parent's."""
        if self._reader != threading.get_ident():  # else a signal handler has forked in here
            self._recv_lock = threading.Lock()
            self._try_recv_lock = starmap(self._recv_lock.acquire, _WITHOUT_WAITING)
        self._send_lock = threading.Lock()
        self._try_send_lock = starmap(self._send_lock.acquire, _WITHOUT_WAITING)
        self._state_lock = threading.RLock()
        control = self._protocol.control
        if control.code is None:
            control.code, control.reason = _NO_CODE, _NOT_OURS
        self._open = False
        self._closing = self._disposed = self._protocol.ended = True
        self._rest = None
        del self._tail[:]
        self._outbox.clear()
        self._ready.clear()

    def _note_state(self) -> None:
        """Bring what depends on the control plane up to date. Holds _state_lock."""
        self._open = self._protocol.control.open and self._send_error is None
        if not self._open and self._close_deadline is None:
            self._close_deadline = Deadline(self._close_timeout)
            self._grace = Deadline(_GRACE)

    def _note_pongs(self) -> None:
        """Pongs have come: whoever pings takes them. Holds _state_lock."""

    def _closed_error(self) -> ConnectionClosed:
        control = self._protocol.control
        error = ConnectionClosed(control.code or _NO_CODE, control.reason)
        error.__cause__ = control.error or self._send_error
        return error

    # -- reading -----------------------------------------------------------

    def _read_some(self, nap: bool) -> int | None:
        """Receive once and parse. Holds _recv_lock.

        Args:
            nap: Let the kernel sleep for a moment if nothing is there.

        Returns:
            How many bytes came, 0 at the end of the stream, None if nothing was there.
        """
        protocol = self._protocol
        if protocol.unfed is None:
            # The count is stored before anything else can happen: should a signal
            # handler raise, the next call goes on from there.
            try:
                protocol.unfed = self._transport.read_into(protocol.space(), nap)
            except OSError as error:
                if error.errno is None:
                    raise  # a signal handler's, such as TimeoutError
                protocol.unfed = 0  # reset, timed out, unreachable: the peer is gone
            if protocol.unfed is None:
                return None
        count = protocol.unfed
        self._heard = True
        if not (count and protocol.feed_run()):
            with self._state_lock:
                if count:
                    protocol.feed_rest()
                    if protocol.control.pongs:
                        self._note_pongs()
                else:
                    self._eof = True
                    protocol.unfed = None
                    protocol.end()
                self._note_state()
        if self._outbox or self._transport.pending or self._rest is not None or self._tail:
            self._flush()
        return count

    def _read_run(self) -> bool:
        """Receive once if whole messages are likely; whether they came. Holds _recv_lock."""
        try:
            came = self._protocol.receive_run(self._receive_into)
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            return False  # _read_some meets it again
        self._heard = self._heard or came
        if self._outbox or self._transport.pending:
            self._flush()
        return came and not self._closing

    def _read(self, deadline: Deadline, wakeable: bool, nap: bool = True) -> int | None:
        """Receive once, waiting for it. Holds _recv_lock.

        Args:
            deadline: Until when.
            wakeable: Return when somebody begins to close.
            nap: Sleep in `recv` first, and only then where `wake` is heard.

        Returns:
            As _read_some; None if the deadline came, or somebody began to close,
            before anything did.
        """
        left = deadline.left()
        nap = nap and (left is None or left > NAP) and not self._unsent()
        while (count := self._read_some(nap)) is None:
            if deadline.passed() or (wakeable and self._closing):
                return None
            if left is None or left > 1:
                self._protocol.relax()
            write = self._unsent()
            self._transport.wait(True, write, self._until(deadline, write), wakeable)
            if write:
                self._flush()
            nap = False
        return count

    def _until(self, deadline: Deadline, write: bool) -> Deadline:
        """The deadline, or the moment at which a peer that takes no answers is given up."""
        left = self._stalled.left() if write and self._stalled is not None else None
        return deadline if left is None else deadline.sooner(max(left, _LOOK_AGAIN))

    # -- writing -----------------------------------------------------------
    #
    # What is left of a begun frame is in `_rest`, or for a moment in `_tail`: should a
    # signal handler's exception end a send, whoever has _send_lock next goes on from
    # there. A handler can run after every call, so there is none between a write and
    # the note of how much was written.

    def _send_frame(self, frame: bytes | Iterable[memoryview]) -> None:
        """Send one whole frame, perhaps in pieces, waiting until the system has taken it."""
        if not isinstance(frame, bytes):
            self._send_in_turn((b"", 0, frame, False))
            return
        got = False
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
                self._send_lock.release()
        if self._outbox:
            self._flush()

    def _send_at_once(self, frame: bytes) -> None:
        """Send a whole frame, before which nothing has to go. Holds _send_lock."""
        try:
            whole = _frame.send_frame(self._send_now, frame, DONTWAIT, self._tail)
        except BaseException as error:
            self._send_broke(frame, error)
            raise
        if not whole or self._transport.pending:
            self._send_remainder(b"" if whole else frame)

    def _send_broke(self, frame: bytes, error: BaseException) -> None:
        """Sending a frame at once raised. Holds _send_lock."""
        if isinstance(error, OSError) and error.errno is not None:
            raise self._send_failed(error) from error
        if self._transport.uncounted:  # a signal handler's, and part of the frame is under way
            self._rest = (frame, 0, _NOTHING, True)
            self._keep_rest()

    def _send_remainder(self, frame: bytes) -> None:
        """Send what could not be sent at once. Holds _send_lock."""
        rest: _Rest = (frame, 0, _NOTHING, not frame)
        if self._tail:
            self._rest = rest = (self._tail[0], 0, _NOTHING, True)
            del self._tail[:]
        self._send_slowly(rest)

    def _send_in_turn(self, rest: _Rest) -> None:
        """Send one whole frame, waiting for other senders first: one deadline for both."""
        deadline = Deadline(self._send_timeout)
        got = False
        try:
            for got in attempt(self._send_lock, deadline.left()):
                break
            if not got:
                raise SendTimeout("other threads' messages took all of send_timeout")
            if not self._open:
                self._not_open()
                return
            self._send_slowly(rest, deadline)
        finally:
            if got:
                self._send_lock.release()
        if self._outbox:
            self._flush()

    def _not_open(self) -> None:
        """A message is to be sent on a connection that is not open any more.

        Raises ConnectionClosed, unless the peer's close has come but no caller was told
        so far (by `receive` or `connected`), while messages from before it lie unread or
        for a second: what is sent then is lost as if the close had come a moment later.
        """
        lately = bool(self._ready) or (self._grace is not None and not self._grace.passed())
        clean = not (self._closing or self._send_error or self._protocol.control.error)
        if self._told or not (clean and lately):
            raise self._closed_error()

    def _send_slowly(self, rest: _Rest, deadline: Deadline | None = None) -> None:
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
            while self._rest is not None:
                if not self._write_some():
                    self._wait_writable(deadline)
            while not self._transport.flush():
                self._wait_writable(deadline)
            self._stalled = None
        except SendTimeout as error:
            if mine and (self._rest is None or self._rest[_DUE]):
                self._transport.abort()  # part of the frame has left: the stream is spoilt
                self._send_failed(error)
            elif mine:
                self._rest = None
            raise
        except BaseException as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise self._send_failed(error) from error
            self._keep_rest()  # a signal handler raised, TimeoutError or KeyboardInterrupt perhaps
            raise

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

    def _unsent(self) -> bool:
        """Whether something is to be sent that no sender has in hand."""
        return (
            bool(self._outbox)
            or self._transport.pending
            or ((self._rest is not None or bool(self._tail)) and not self._send_lock.locked())
        )

    def _flush(self) -> None:
        """Send what is in the outbox, as far as that goes without waiting."""
        while self._unsent():
            got = False
            try:
                for got in attempt(self._send_lock):
                    break
                if not got or not self._flush_holding():
                    break  # whoever holds the lock comes here after its frame
            finally:
                if got:
                    self._send_lock.release()
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

    def _wait_writable(self, deadline: Deadline) -> None:
        """Wait until something can be written, reading meanwhile. Holds _send_lock."""
        if deadline.passed():
            raise SendTimeout(
                "the peer does not read: the message was not sent within send_timeout"
            )
        reads = not (
            self._lock_waiters or self._closing or self._protocol.ended or self._backlog_full()
        )
        got = False
        try:
            for got in attempt(self._recv_lock, wanted=reads):
                break
            if not got:
                self._transport.wait(False, True, deadline.sooner(_LOOK_AGAIN))
                return
            self._reader = threading.get_ident()
            self._transport.wait(True, True, deadline, wakeable=True)
            self._read_ahead()
            self._reader = 0
        finally:
            if got:
                self._recv_lock.release()

    def _read_ahead(self) -> bool:
        """Receive once for others, and count it; False if nothing was there. Holds _recv_lock."""
        before, inflated = len(self._ready), self._protocol.inflated
        count = self._read_some(nap=False)
        more = len(self._ready) - before  # less what was taken meanwhile
        self._backlog += (count or 0) + _MESSAGE_OVERHEAD * max(more, 0)
        self._backlog += self._protocol.inflated - inflated
        return count is not None

    def _backlog_full(self) -> bool:
        """Whether as many messages as may lie unread do."""
        if self._backlog >= MAX_BACKLOG:  # perhaps some were taken since: count
            # Without the GIL the copy fails where a message is taken meanwhile: full for now.
            with contextlib.suppress(RuntimeError):
                waiting = self._ready.copy()
                self._backlog = sum(map(len, waiting)) + _MESSAGE_OVERHEAD * len(waiting)
        return self._backlog >= MAX_BACKLOG

    def _send_failed(self, error: OSError) -> ConnectionClosed:
        """Nothing can be written any more. Holds _send_lock; returns the error to raise."""
        with self._state_lock:
            self._send_error = error
            self._rest = None
            del self._tail[:]
            self._note_state()
        # The close frame that says why may lie unread; messages before it stay ready.
        got = False
        try:
            for got in attempt(self._recv_lock):
                break
            while got and not (self._protocol.ended or self._backlog_full()):
                if not self._read_ahead():
                    break
            if got and self._orphaned and not self._disposed:
                self._disposed = True
                self._transport.close()
        finally:
            if got:
                self._recv_lock.release()
        return self._closed_error()

    # -- closing -----------------------------------------------------------

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

    def _finish_close(self) -> None:
        """Wait for the closing handshake's end, within close_timeout, and let go."""
        deadline = self._close_deadline or FOREVER
        inside = self._reader == threading.get_ident() and self._recv_lock.locked()
        got = False
        try:
            for got in attempt(self._recv_lock, 0 if inside else deadline.left()):
                break
            if not got:
                # Somebody is inside receive() or send() and cannot leave: this very thread,
                # if this is a signal handler. It disposes on its way out.
                self._orphaned = True
                self._transport.abort()
                return
            self._reader = threading.get_ident()
            while not (self._protocol.ended or deadline.passed()):
                self._read(deadline, wakeable=False)
            self._settle(FOREVER)
            self._dispose()
        finally:
            if got:
                self._recv_lock.release()

    def _settle(self, deadline: Deadline) -> None:
        """Say goodbye, and wait for the peer to do so. Holds _recv_lock.

        Does what it can until `deadline`, and may be called again. Once the peer
        has ended the stream, or the connection's close_timeout is over, it disposes.
        """
        closing = self._close_deadline or FOREVER
        deadline = deadline.sooner(closing.left())
        drained = 0
        while not (self._disposed or self._eof or closing.passed() or drained > _MAX_DRAIN):
            self._flush()
            # A sender that is just leaving may hold the lock: then this is tried again.
            until = deadline if self._finish_writing() else deadline.sooner(_LOOK_AGAIN)
            count = self._read(until, wakeable=False)
            if count is None and deadline.passed() and not closing.passed():
                return
            drained += count or 0
        self._dispose()

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
        got = False
        try:
            for got in attempt(self._send_lock):
                break
            if got:
                self._writing_finished = True
                self._transport.finish_writing()
            return got
        finally:
            if got:
                self._send_lock.release()

    def _dispose(self) -> None:
        """Close the descriptor. Holds _recv_lock."""
        if self._disposed:
            return
        self._transport.abort()  # so that a blocked sender leaves
        self._orphaned = True  # if it does not in time, it closes the descriptor itself
        got = False
        try:
            for got in attempt(self._send_lock, _LEAVE):
                break
            if got:
                self._disposed = True
                self._transport.close()
        finally:
            if got:
                self._send_lock.release()

    def _abort(self) -> None:
        """End the connection at once, without a goodbye: whoever is blocked in it returns."""
        self._closing = True
        self._transport.wake()
        self._transport.abort()


def attempt(
    lock: threading.Lock, timeout: float | None = 0.0, *, wanted: bool = True
) -> Iterable[bool]:
    """Take a lock if that can be done in time.

    Written `for got in attempt(lock): break`, inside a `try` whose `finally` releases the
    lock if `got`. A `for` notes in one step that the lock was taken, and `release` is C: a
    signal handler that raises runs before or after each. Between `acquire` and `try`, or in
    an `__exit__` written in Python, it would leave the lock taken for ever.

    Args:
        lock: The lock.
        timeout: Seconds to try, None for ever, 0 not to wait.
        wanted: Whether to try at all.
    """
    if not wanted:
        return ()
    return map(lock.acquire, (True,), (-1.0 if timeout is None else timeout,))
