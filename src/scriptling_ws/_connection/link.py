"""What the parts of one connection share: the transport, the protocol, the state, what is unsent.

Rules:

- A link does nothing by itself. What reads is in `intake`, what writes in `outlet`; each has a
  lock of the channel's and says what that guards.
- Locks are taken in this order when more than one is held, and in the way of `_network.locks`: the
  intake's, the outlet's, the lifecycle's. A thread that holds the outlet's takes the intake's
  only without blocking.
- The descriptor is closed (`dispose`) by a thread that holds both the intake's lock and the
  outlet's, so that no other thread is in a system call on it.
- No thread of its own. One thread waits in `receive`; any number send meanwhile.
"""

from __future__ import annotations

import errno
from copy import copy
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from .. import _kernel as kernel
from .._codes import CloseCode
from .._errors import ConnectionClosed, without_close_frame
from .._network.waiting import engine
from . import keepalive
from .lifecycle import BREAK, DISPOSE, END, Lifecycle
from .pings import Pings
from .unsent import Unsent

if TYPE_CHECKING:
    from .._network.transport import Transport
    from .._wire.incoming import Protocol

__all__ = ["LOOK", "LOOK_AGAIN", "Link", "Over"]

LOOK: Final = 1.0
"""Seconds after which `send` looks again at what has come."""

LOOK_AGAIN: Final = 0.1
"""Seconds after which a thread that waits asks again what the others do."""

_NOT_OURS: Final = "it is the parent process's, and a forked child cannot use it"


class Over(NamedTuple):
    """The end of a link.

    Attributes:
        moment: When the descriptor was closed, on the monotonic clock.
        info: What the system had counted by then, for `pulse.read_pulse`; b"" for nothing.
    """

    moment: float
    info: bytes


class Link:
    """The two ends' link, as this end sees it.

    Attributes:
        transport: The byte stream.
        protocol: The incoming side, without I/O; its control plane is guarded by the lifecycle's
            lock, the rest by the intake's.
        channel: The quick ways in and out, and the two locks.
        lifecycle: The state.
        unsent: What is still to be written.
        pings: The pings that wait for their answers; guarded by the lifecycle's lock.
        client: Whether this end is the client.
        send_timeout: Seconds that the peer has to take a message, None for ever.
        send_error: Why nothing can be written any more; None while something can.
        read_error: With what reading has failed, if the stream has ended so without a close frame.
        cut: What of the peer's had begun and was not whole as the stream ended: see
            `Protocol.unfinished`.
        eof: Whether the peer has ended the stream.
        opened: When it was opened, on the monotonic clock.
        over: When the descriptor was closed, and what the system had counted; None before.
        watched: Whether the keepalive thread knows the connection.
        looked_after: Whether it has looked after it.
        ways: The engine by which the parts wait.
    """

    __slots__ = (
        "channel",
        "client",
        "cut",
        "eof",
        "lifecycle",
        "looked_after",
        "opened",
        "over",
        "pings",
        "protocol",
        "read_error",
        "send_error",
        "send_timeout",
        "transport",
        "unsent",
        "watched",
        "ways",
    )

    def __init__(
        self,
        transport: Transport,
        protocol: Protocol,
        client: bool,
        send_timeout: float | None,
        close_timeout: float | None,
    ) -> None:
        """Take over an open transport and its protocol."""
        self.transport = transport
        self.protocol = protocol
        ways = self.ways = engine()
        self.channel = kernel.Channel(
            transport,
            protocol.window,
            protocol.outbox,
            masks=client,
            reading=ways.lock(),
            writing=ways.lock(),
            identity=ways.identity,
        )
        self.lifecycle = Lifecycle(self.channel, close_timeout, send_timeout)
        self.unsent = Unsent(self.channel, transport, protocol.outbox)
        self.pings = Pings()
        self.client = client
        self.send_timeout = send_timeout
        self.send_error: Exception | None = None
        self.read_error: OSError | None = None
        self.cut = ""
        self.eof = False
        self.watched = self.looked_after = False
        self.opened = monotonic()
        self.over: Over | None = None
        # Where the system does not tell when something moved, the channel notes that itself.
        self.channel.timed = not transport.has_pulse()

    def wake(self) -> None:
        """Have a thread that waits to receive look at the state, now and from now on."""
        self.transport.wake()
        self.channel.wake()

    def note(self) -> None:
        """Bring the state up to date with the control plane. Holds the lifecycle's lock."""
        if not self.protocol.control.open:
            self.lifecycle.go(END if self.protocol.ended else BREAK)

    def end_of_stream(self) -> None:
        """The peer has ended the stream. Holds the intake's lock and the lifecycle's."""
        self.eof = True
        # What came first says why: a close frame, an error of a send, or an end by this end itself.
        first = self.protocol.control.code is None and self.send_error is None
        if first and not self.lifecycle.closing:
            self.read_error = self.transport.failure
            self.cut = self.protocol.unfinished
        self.protocol.window.unfed = None
        self.protocol.end()

    def send_failed(self, error: OSError) -> None:
        """Nothing can be written any more. Holds the outlet's lock."""
        with self.lifecycle.lock:
            # A copy, without the traceback: that holds all that the callers have in hand.
            self.send_error = copy(error)
            self.unsent.forget()
            self.lifecycle.go(BREAK)

    def closed_error(self) -> ConnectionClosed:
        """What `send` raises on a connection that is not open."""
        control = self.protocol.control
        code, cause = control.code or CloseCode.ABNORMAL, self.read_error or self.send_error
        if code == CloseCode.ABNORMAL and not control.reason:
            return without_close_frame(self.cut, cause)
        error = ConnectionClosed(code, control.reason)
        error.__cause__ = control.error or cause
        return error

    def dispose(self) -> bool:
        """Close the descriptor. Holds the intake's lock and the outlet's; not twice.

        Returns:
            True.
        """
        if not self.lifecycle.disposed:
            self.over = Over(monotonic(), self.transport.taken_pulse())
            with self.lifecycle.lock:
                self.lifecycle.go(DISPOSE)
            self.transport.close()
            if self.looked_after:
                keepalive.forget()
        return True

    def after_fork(self) -> None:
        """In a forked child: be closed, without a word to the peer, who is the parent's."""
        # If a signal handler has forked in here, a call goes on that holds one of the old locks.
        self.channel.renew(engine().lock(), engine().lock())
        control = self.protocol.control
        if control.code is None:
            control.code, control.reason = int(CloseCode.ABNORMAL), _NOT_OURS
        self.lifecycle.after_fork()
        self.over = Over(monotonic(), b"")
        self.protocol.ended = True
        # Not what is unsent: a send that goes on in here fails at the closed descriptor.
        self.send_error = OSError(errno.EBADF, _NOT_OURS)
        self.protocol.outbox.clear()
        self.protocol.ready.clear()
        self.protocol.unreceived.held.clear()
