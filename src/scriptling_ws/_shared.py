"""What the threads of one connection share, and the locks that guard it.

Rules, here and in `_reading`, `_writing` and `_closing`:

- Three locks, taken in this order when more than one is held, and in the way of `_locks`:
  `_recv_lock` guards reading: the transport's read side and the protocol's window.
  `_send_lock` guards writing: whole frames, one after the other.
  `_state_lock` guards the protocol's state; it is never held while waiting.
  Whoever holds `_send_lock` takes `_recv_lock` only without blocking.
- No thread of its own. One thread waits in `recv`; any number send meanwhile.
"""

from __future__ import annotations

import errno
import logging
import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from ._deadline import FOREVER, Deadline
from ._errors import ConnectionClosed
from ._fork import tell_after_fork
from ._locks import attempts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._liveness import Pulse
    from ._protocol import Protocol
    from ._transport import Transport

__all__ = ["LOOK", "NO_CODE", "Rest", "Shared"]

NO_CODE: Final = 1006
"""The code of a connection that ended without a close frame (RFC 6455 section 7.1.5)."""

LOOK: Final = 1.0
"""Seconds after which `send` looks again at what has come."""

_logger: Final = logging.getLogger("scriptling_ws.connection")
_GRACE: Final = 1.0  # seconds for which `send` does not raise after a close that none has seen
_NOT_OURS: Final = "it is the parent process's, and a forked child cannot use it"

# What is left to send of a frame: `data[sent:]`, then the pieces of `more`; and whether it
# has to be sent, because part of it has left, or because it is an answer.
Rest = tuple["bytes | memoryview", int, "Iterable[memoryview]", bool]


class Shared:
    """A transport, a protocol, three locks, and what they guard."""

    __slots__ = (
        "__weakref__",
        "_alone",
        "_attended",
        "_backlog",
        "_callbacks",
        "_client",
        "_close_deadline",
        "_close_limit",
        "_close_pulse",
        "_close_timeout",
        "_closing",
        "_disposed",
        "_eof",
        "_grace",
        "_heard",
        "_leave_by",
        "_lock_waiters",
        "_look_at",
        "_look_due",
        "_max_backlog",
        "_moved",
        "_open",
        "_orphaned",
        "_outbox",
        "_polled",
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
        "_taken",
        "_told",
        "_transport",
        "_try_recv_lock",
        "_try_send_lock",
        "_unread_grace",
        "_weight",
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
        max_backlog: int,
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
        self._try_recv_lock = attempts(self._recv_lock)
        self._try_send_lock = attempts(self._send_lock)
        # Not a Lock: close() may be called by a signal handler that interrupts its holder.
        self._state_lock = threading.RLock()
        self._reader = 0  # the thread that receives, 0 for none
        self._lock_waiters = 0  # receivers that wait for _recv_lock; guarded by _state_lock
        self._open = True  # control.open and no send error: kept for the hot path
        self._closing = False  # this end has begun to close
        # Until when `send` may drop its message, and until when while others lie unread: see
        # _not_open.
        self._grace: Deadline | None = None
        self._unread_grace: Deadline | None = None
        self._told = False  # a caller knows that the peer has closed
        self._close_deadline: Deadline | None = None  # for what is left of the connection
        self._close_limit = FOREVER  # for all that _close_deadline may be renewed
        self._close_pulse: Pulse | None = None  # what the kernel had counted when it was set
        self._eof = False  # the peer has ended the stream
        self._writing_finished = False  # this end has
        self._orphaned = False  # close() has left the descriptor to whoever reads
        self._leave_by: Deadline | None = None  # until when _dispose waits for a sender
        self._disposed = False  # the descriptor is closed; guarded by both I/O locks
        self._heard = False  # something came since this was set to False
        self._moved = False  # a blocked sender has sent something since this was set to False
        self._look_due = True  # `send` is to look at what has come, from this moment on:
        self._look_at = monotonic() + LOOK
        self._attended = False  # the keepalive thread does so, where nobody reads
        self._alone: float | None = None  # when a reader looks after it, without a thread for that
        self._polled = False  # the caller has asked for the descriptor, perhaps to wait on it
        self._rest: Rest | None = None  # what is being written; guarded by _send_lock
        self._tail: list[bytes] = []  # as send_frame leaves it; guarded by _send_lock
        self._taken = 0  # bytes of a message that have left since its deadline began; likewise
        self._stalled: Deadline | None = None  # until when answers wait for the peer to read
        self._send_error: Exception | None = None  # why nothing can be written any more
        self._backlog = 0  # bytes that were read for a caller that does not, at most
        self._max_backlog = max_backlog
        self._weight = protocol.weight
        self.local_addr: str = transport.local_addr
        self.remote_addr: str = transport.remote_addr
        self._callbacks: list[Callable[[], object]] = []  # see on_close; guarded by _state_lock
        tell_after_fork(self)

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call a function once the connection closes, for code that waits for something else.

        That is when the peer's close, or its end, was noticed; when this end closes it; and when a
        server closes. At once if that has happened. Does not block; thread-safe.

        A handler that waits on a queue is woken by `client.on_close(lambda: queue.put(None))`.
        A peer that leaves is noticed while nobody calls the connection too: by keepalive, and for
        a server's connections also without it.

        Args:
            callback: Called without arguments, once, by the thread that has noticed it. It has
                to return at once and must not call the connection: set an event, or put
                something into a queue. An exception of it is logged.

        Raises:
            TypeError: it cannot be called.
        """
        if not callable(callback):
            raise TypeError(f"on_close() takes a function, not {type(callback).__name__}")
        with self._state_lock:
            self._callbacks.append(callback)
        self._tell_closed()

    def _tell_closed(self) -> None:
        """Call those who want to know that the connection closes, if it does."""
        if self._open and not self._closing:
            return
        with self._state_lock:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _logger.exception("a function that was given to on_close() has failed")

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed: to wait on, not for I/O.

        It is readable where a message, a part of one or the end has come: then call
        `receive(0)` until it returns None. `send` may have to receive messages while the
        peer does not read; they stay ready for `receive`.
        """
        self._polled = True
        return self._transport.fileno()

    def _after_fork(self) -> None:
        """In a forked child: be closed, without a word to the peer, who is the parent's."""
        # If a signal handler has forked in here, a call goes on that holds one of the old locks.
        self._recv_lock = threading.Lock()
        self._try_recv_lock = attempts(self._recv_lock)
        self._send_lock = threading.Lock()
        self._try_send_lock = attempts(self._send_lock)
        self._state_lock = threading.RLock()
        control = self._protocol.control
        if control.code is None:
            control.code, control.reason = NO_CODE, _NOT_OURS
        self._open = False
        self._closing = self._disposed = self._protocol.ended = True
        # Not _rest and _tail: a send that goes on in here fails at the closed descriptor.
        self._send_error = OSError(errno.EBADF, _NOT_OURS)
        self._outbox.clear()
        self._ready.clear()
        self._callbacks = []  # the parent's: what they wake is not here

    def _note_state(self) -> None:
        """Bring what depends on the control plane up to date. Holds _state_lock."""
        self._open = self._protocol.control.open and self._send_error is None
        if not self._open and self._close_deadline is None:
            self._close_deadline = Deadline(self._close_timeout)
            self._grace = Deadline(_GRACE)
            self._unread_grace = Deadline(self._send_timeout)

    def _note_pongs(self) -> None:
        """Pongs have come: whoever pings takes them. Holds _state_lock."""

    def _closed_error(self) -> ConnectionClosed:
        control = self._protocol.control
        error = ConnectionClosed(control.code or NO_CODE, control.reason)
        error.__cause__ = control.error or self._send_error
        return error
