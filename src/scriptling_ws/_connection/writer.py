"""Sending on one connection: what a call of `send` does.

Rules (those about locks are in `link`):

- A frame that was begun is finished before another one, or the connection is ended,
  even if a KeyboardInterrupt has ended the call that began it: see `unsent`.
- A thread that cannot write reads meanwhile (`Intake.read_meanwhile`), up to max_backlog: two
  peers that both send first do not wait for each other for ever. If it reads the peer's close
  frame, its own frame has until close_timeout to leave.
- send_timeout counts anew with each _PROGRESS bytes that the peer has taken: a slow link is no
  reason to end a message, a peer that takes a byte a minute is.
- A message that is sent in fragments (`outstream`) has the turn from its first to its last: other
  messages wait for its end, as for a long one; answers go between.
- `send` looks at what has come, at most once a second: a caller that only sends still answers
  pings. Where the keepalive thread attends to that, it looks if that thread says so (`look_due`).

The lock is the outlet's.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

from .._codes import CloseCode
from .._errors import SendTimeout
from .._network.deadline import Deadline, check_timeout
from .._network.locks import holding
from .._network.waiting import engine
from .._wire.tally import count_sent
from .link import LOOK, LOOK_AGAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._network.contract import Lock
    from .._wire.tally import Sliced
    from .intake import Intake
    from .link import Link
    from .outlet import Outlet

__all__ = ["Writer"]

_T = TypeVar("_T")

_PROGRESS: Final = 64 * 1024  # bytes of a message that a peer has to take within send_timeout
_INSIDE: Final = (
    "send_stream() is sending a message in this thread: its source and its progress function "
    "may not send another one"
)
_SEND: Final = 4  # what a send counts where tasks share a thread: see the kernel's `share`
_BYTES: Final = 256  # of a frame, that count one
_SLOWLY: Final = 256  # what one counts that has to wait for its turn, or comes in pieces
_DOES_NOT_READ: Final = (
    "the peer does not read: the message was not sent within send_timeout, "
    "or the call's own timeout"
)


class Writer:
    """Sends the messages of one connection.

    Attributes:
        attended: Whether the keepalive thread looks where nobody reads.
        turn: What the sender of a message in fragments holds; None before there was any.
        fragmenter: The task that has it, 0 for none.
    """

    __slots__ = (
        "_channel",
        "_intake",
        "_lifecycle",
        "_link",
        "_outlet",
        "_share",
        "_transport",
        "_unsent",
        "attended",
        "fragmenter",
        "turn",
    )

    def __init__(self, link: Link, outlet: Outlet, intake: Intake) -> None:
        self._link = link
        self._channel = link.channel
        self._lifecycle = link.lifecycle
        self._transport = link.transport
        self._unsent = link.unsent
        self._outlet = outlet
        self._share = link.ways.share
        self._intake = intake
        self._channel.look_due = True
        self._channel.look_at = link.opened + LOOK
        self.attended = False
        self.turn: Lock | None = None
        self.fragmenter = 0

    def send(self, frame: bytes | Sliced, messages: int = 1, payload: int = -1) -> None:
        """Send one whole frame, perhaps in pieces, waiting until the system has taken it.

        Args:
            frame: The frame, or those of several messages.
            messages: How many, to be counted.
            payload: Their bytes, as `Channel.send` takes it.
        """
        if isinstance(frame, bytes):
            self._share(_SEND + len(frame) // _BYTES)
            if self._channel.send(frame, self, messages, payload):
                return
        self._in_turn(frame, messages=messages, payload=payload)

    def send_within(self, frame: bytes | Sliced, timeout: float | None) -> None:
        """As send, within a time for this call alone."""
        self._in_turn(frame, Deadline(check_timeout(timeout)))

    def broke(self, frame: bytes, error: BaseException) -> bool:
        """Sending a frame at once raised; whether that is dealt with. Holds the lock."""
        if isinstance(error, OSError) and error.errno is not None:
            self._fail(error)
            self._not_open()
            return True
        if self._transport.uncounted:  # a signal handler's, and part of the frame is under way
            self._unsent.begin(frame)
            self._unsent.keep()
        return False

    def look_after(self) -> None:
        """Answer what has come, if there is something or it is time to look."""
        if self._unsent.answers:
            self._intake.answer()
        if self._channel.look_due:
            self._look()

    def _in_turn(
        self,
        frame: bytes | Sliced,
        whole: Deadline | None = None,
        messages: int = 1,
        payload: int = -1,
    ) -> None:
        """Send one whole frame, waiting for other senders first: one deadline for both.

        Args:
            frame: The frame.
            whole: The call's own deadline, in place of send_timeout and its renewals.
            messages: How many messages it has.
            payload: Their bytes, as `Channel.send` takes it.
        """
        self._share(_SLOWLY)
        deadline = whole or Deadline(self._link.send_timeout)

        def send() -> bool:
            if not self._lifecycle.open:
                self._not_open()
            elif self._unsent.fragmented:
                return False
            else:
                self.go_on(frame, deadline, renew=whole is None)
                count_sent(self._unsent.tally, frame, messages, payload)
            return True

        sent = holding(self._outlet.lock, send, deadline.left())
        if sent is False:
            sent = self.with_turn(
                lambda: holding(self._outlet.lock, send, deadline.left()), deadline
            )
        if not sent:
            name = "send_timeout" if whole is None else "the timeout"
            raise SendTimeout(f"other threads' messages took all of {name}")
        self.look_after()

    def with_turn(self, body: Callable[[], _T], deadline: Deadline) -> _T | None:
        """Call `body` once no message in fragments is under way, which keeps others from beginning.

        Returns:
            What `body` returns; None if the deadline came first.

        Raises:
            RuntimeError: the caller is inside of such a message itself.
            ConnectionClosed: the connection is not open any more.
        """
        if self.fragmenter == engine().identity():
            raise RuntimeError(_INSIDE)
        with self._lifecycle.lock:
            turn = self.turn = self.turn or engine().lock()
        while self._lifecycle.open:
            slice_ = deadline.sooner(LOOK_AGAIN)
            left = slice_.left()
            done = holding(turn, lambda: (body(),), left)
            if done is not None:
                return done[0]
            slice_.waited(left)
            if deadline.passed():
                return None
        raise self._link.closed_error()

    def _not_open(self) -> None:
        """A message is to be sent on a connection that is not open any more.

        Raises ConnectionClosed, unless the peer has left and no caller was told so far (by
        `receive` or `connected`): for a second after a close, or while messages from before lie
        unread, for send_timeout at most. What is sent then is lost as if the peer had left a
        moment later. A close frame that lies behind a failed send is told at once.
        """
        lifecycle, control = self._lifecycle, self._link.protocol.control
        error = self._link.send_error
        silent = error is None or control.code in (None, CloseCode.ABNORMAL)
        gone = silent and not control.error
        if isinstance(error, SendTimeout):
            gone = False  # it does not read
        now = monotonic()
        lately = lifecycle.grace is not None and now < lifecycle.grace and not error
        protocol = self._link.protocol
        if (protocol.ready or protocol.unreceived.held) and lifecycle.unread_grace is not None:
            lately = now < lifecycle.unread_grace
        if lifecycle.told or not (gone and lately):
            # If close() has left the descriptor to this thread:
            holding(self._intake.lock, self._link.dispose, wanted=self._channel.orphaned)
            raise self._link.closed_error()

    def go_on(
        self,
        frame: bytes | Sliced | None,
        deadline: Deadline | None = None,
        *,
        renew: bool = True,
    ) -> None:
        """Send a frame, and before it what has to go first. Holds the lock.

        Args:
            frame: The frame; None to go on with one of which some has left.
            deadline: Until when, None for send_timeout from now on.
            renew: Whether send_timeout counts anew as the peer takes what is sent.
        """
        deadline = deadline or Deadline(self._link.send_timeout)
        unsent, mine = self._unsent, frame is None
        try:
            while not mine and unsent.take(self._lifecycle.lock):
                if not unsent.advance():
                    self._wait_writable(deadline)
            if not (mine or self._lifecycle.open):  # a close frame has come or gone meanwhile
                self._not_open()
                return
            mine = True
            if frame is None:
                unsent.resume()
            else:
                unsent.begin(frame)
            self._write_out(deadline, renew)
        except SendTimeout as error:
            if mine and unsent.due:
                self._transport.abort()  # part of the frame has left: the stream is spoilt
                self._fail(error)
            elif mine:
                unsent.idle()
            raise
        except BaseException as error:
            if isinstance(error, OSError) and error.errno is not None:
                self._fail(error)
                self._not_open()
                return
            unsent.keep()  # a signal handler raised, TimeoutError or KeyboardInterrupt perhaps
            raise

    def _write_out(self, deadline: Deadline, renew: bool) -> None:
        """Write all of the frame that was begun, waiting for it. Holds the lock."""
        unsent = self._unsent
        unsent.taken = 0
        while unsent.begun:
            if not unsent.advance():
                self._wait_writable(deadline)
            elif renew and unsent.taken >= _PROGRESS:
                deadline, unsent.taken = Deadline(self._link.send_timeout), 0
        while not self._transport.flush():
            self._wait_writable(deadline)
        self._outlet.stalled = None

    def _wait_writable(self, deadline: Deadline) -> None:
        """Wait until something can be written, reading meanwhile. Holds the lock."""
        if deadline.passed():
            raise SendTimeout(_DOES_NOT_READ)
        close_by = self._lifecycle.close_by
        if close_by is not None:
            if close_by.passed():
                self._transport.abort()  # what has left of the frame is of no use
                self._fail(SendTimeout("the peer has closed, and does not read"))
                raise self._link.closed_error()
            deadline = deadline.sooner(close_by.left())
        if not self._intake.read_meanwhile(deadline):
            self._transport.wait(False, True, deadline.sooner(LOOK_AGAIN))

    def _fail(self, error: OSError) -> None:
        """Nothing can be written any more. Holds the lock."""
        self._link.send_failed(error)

        def hear_out() -> None:
            # The close frame that says why may lie unread; messages before it stay ready.
            self._intake.read_all()
            if self._channel.orphaned:
                self._link.dispose()

        holding(self._intake.lock, hear_out)
        self._lifecycle.tell()

    # -- for a caller that only sends --------------------------------------

    def _look(self) -> None:
        """Answer what has come, if it is time for that."""
        now, channel = monotonic(), self._channel
        if now >= channel.look_at:
            channel.look_at = now + LOOK
            channel.look_due = not self.attended
            ended = self._link.protocol.ended or self._lifecycle.disposed
            self._intake.if_free(self._look_ahead, wanted=not (self._intake.waiters or ended))

    def _look_ahead(self) -> None:
        """Take control frames; and messages, unless the caller may wait for them on the socket.

        A ping may stand behind messages that the caller never receives. Holds the intake's lock.
        """
        intake = self._intake
        if intake.take_controls() and not (intake.polled or intake.full()):
            intake.read_ahead()
