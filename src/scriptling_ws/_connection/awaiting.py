"""Waiting for a message that is taken while it comes: what `receive_stream` and its like share.

Rules (those about locks are in `link`):

- It is read as `receive` does, under the intake's lock, which is held no longer than one call
  takes. So a blocked sender reads meanwhile, up to max_backlog, and pings are answered.
- While there is such a message, no other becomes ready: they are held behind it.
- A call that times out, or is interrupted, has taken nothing: the next one goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._errors import ReceiveTimeout
from .._network.deadline import Deadline, check_timeout
from .._network.locks import holding
from .._network.waiting import engine
from .._wire.piecemeal import Piecemeal
from .intake import A_READ, OVERTIME
from .link import LOOK_AGAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from .closer import Closer
    from .intake import Intake
    from .link import Link

__all__ = ["Awaiting"]

_ANOTHER: Final = "a message is being received by receive_stream() already: leave it first"


class Awaiting:
    """One message that is taken while it comes.

    Attributes:
        message: It, from `begin` to `leave`; else None.
    """

    __slots__ = (
        "_channel",
        "_closer",
        "_intake",
        "_lifecycle",
        "_link",
        "_protocol",
        "_timeout",
        "message",
    )

    def __init__(self, link: Link, intake: Intake, closer: Closer, timeout: float | None) -> None:
        self._timeout = check_timeout(timeout)
        self._link = link
        self._channel = link.channel
        self._lifecycle = link.lifecycle
        self._protocol = link.protocol
        self._intake = intake
        self._closer = closer
        self.message: Piecemeal | None = None

    def begin(self) -> Piecemeal:
        """Wait for the next message to begin, and return it.

        Raises:
            ReceiveTimeout: none has begun in time; nothing is lost.
            ConnectionClosed: the connection is closed, and no message is left.
            RuntimeError: this one, or another one, is being taken.
        """
        if self.message is not None:
            raise RuntimeError(_ANOTHER)
        message = self.message = Piecemeal()
        try:
            self.until(lambda: message.text is not None, "no message has begun")
        except BaseException:
            self.leave()
            raise
        return message

    def leave(self) -> None:
        """What was not taken of it is dropped, now or as it comes."""
        message, self.message = self.message, None
        with self._lifecycle.lock:
            if message is not None and self._protocol.unreceived.streamed is message:
                self._protocol.stream_no_more()

    def until(
        self, enough: Callable[[], bool], what: str = "no more of the message has come"
    ) -> None:
        """Read until there is enough.

        Raises:
            ReceiveTimeout, ConnectionClosed: there is not.
        """
        if enough():
            return
        deadline, intake = Deadline(self._timeout), self._intake
        with self._lifecycle.lock:
            intake.waiters += 1  # a blocked sender that reads leaves it to this thread
        try:
            # In slices: another thread may read what this one waits for, or close.
            while not enough():
                if self._lifecycle.closing and not self._left_to_begin():
                    raise self._link.closed_error()
                slice_ = deadline.sooner(LOOK_AGAIN)
                left = slice_.left()
                read = holding(intake.lock, lambda: self._receive(enough, deadline), left)
                if read is None:
                    slice_.waited(left)
                if not enough() and deadline.passed():
                    raise ReceiveTimeout(f"{what} within {self._timeout:g} seconds")
        finally:
            with self._lifecycle.lock:
                intake.waiters -= 1

    def _receive(self, enough: Callable[[], bool], deadline: Deadline) -> bool:
        """As `until`; whether there is enough. Holds the intake's lock."""
        channel, lifecycle, protocol = self._channel, self._lifecycle, self._protocol
        overtime: Deadline | None = None
        channel.reader = engine().identity()
        try:
            self._intake.flush()
            while True:
                if lifecycle.closing:
                    protocol.unreceived.drop_late()
                self._seek()
                engine().share(A_READ)
                if enough():
                    return True
                if lifecycle.closing or protocol.ended:
                    self._end(deadline)
                if self._intake.read(deadline, wakeable=True) is None:
                    return False
                if deadline.passed():
                    # More may be there, but pings and fragments can come without end.
                    overtime = overtime or Deadline(OVERTIME)
                    if overtime.passed():
                        return False
        finally:
            channel.reader = 0
            if channel.orphaned:
                self._intake.dispose()

    def _left_to_begin(self) -> bool:
        """Whether it can be a message that a server's shutdown leaves."""
        message, protocol = self.message, self._protocol
        begun = message is None or message.text is not None
        return bool((protocol.ready or protocol.unreceived.held) and not begun)

    def _seek(self) -> None:
        """Begin with the message, if there is one."""
        message, protocol = self.message, self._protocol
        if message is None or message.text is not None:
            return
        with self._lifecycle.lock:
            if protocol.unreceived.streamed is None:
                protocol.unreceived.stream(message)
            elif protocol.unreceived.streamed is not message:
                raise RuntimeError(_ANOTHER)
            protocol.seek(message)

    def _end(self, deadline: Deadline) -> None:
        """No more of it will come. Holds the intake's lock."""
        self._closer.tell_receiver(deadline)
        raise self._link.closed_error()
