"""Receiving a message while it comes: what `receive_stream` gives out.

Rules (those about locks are in `link`):

- The stream reads as `receive` does, under the intake's lock, and holds it no longer than one call
  takes. So a blocked sender reads meanwhile, up to max_backlog, and pings are answered.
- While there is a stream, no other message becomes ready: they are held behind it.
- A call that times out, or is interrupted, has taken nothing: the next one goes on.
- What is left when the stream is given up is dropped as it comes, by whoever reads next: to leave
  a `with` block does not wait. The limits of a message go on counting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .._errors import ReceiveTimeout
from .._network.deadline import Deadline, check_timeout
from .._network.locks import holding
from .._network.waiting import engine
from .._wire.piecemeal import Piecemeal
from .link import LOOK_AGAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from typing_extensions import Self

    from .closer import Closer
    from .intake import Intake
    from .link import Link

__all__ = ["MessageStream"]

_OVERTIME: Final = 0.05  # seconds that what is there is read on after the timeout
_LINGER: Final = 0.25  # seconds that are waited for the stream's end after the last frame
_READ: Final = 32  # what a read counts where tasks share a thread
_NOT_HERE: Final = "a stream is read inside of its with block: with conn.receive_stream() as stream"


class MessageStream:
    """One message, received while it comes: what `Connection.receive_stream` returns.

    It is used as a context manager, which waits for the message to begin. For one thread at a time.

    Attributes:
        text: Whether the message is text; known from its beginning.
        binary: Whether it is binary.
        total: How many bytes it has, where its header tells: if it comes in one frame, and not
            compressed. Else None.
        received: How many bytes were read so far.
    """

    __slots__ = (
        "_channel",
        "_closer",
        "_intake",
        "_lifecycle",
        "_link",
        "_message",
        "_progress",
        "_protocol",
        "_timeout",
        "received",
    )

    def __init__(
        self,
        link: Link,
        intake: Intake,
        closer: Closer,
        timeout: float | None,
        progress: Callable[[int, int | None], object] | None,
    ) -> None:
        """Not for callers: `Connection.receive_stream` makes streams."""
        self._timeout = check_timeout(timeout)
        if progress is not None and not callable(progress):
            raise TypeError(f"progress has to be a function, not {type(progress).__name__}")
        self._progress = progress
        self._link = link
        self._channel = link.channel
        self._lifecycle = link.lifecycle
        self._protocol = link.protocol
        self._intake = intake
        self._closer = closer
        self._message: Piecemeal | None = None
        self.received = 0

    def __enter__(self) -> Self:
        """Wait for the message to begin.

        Raises:
            ReceiveTimeout: none has begun in time; nothing is lost.
            ConnectionClosed: the connection is closed, and no message is left.
            RuntimeError: another stream of the connection is open.
        """
        message = self._message = Piecemeal()
        try:
            self._until(lambda: message.text is not None, "no message has begun")
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the message: what was not read of it is dropped, now or as it comes."""
        self._leave()

    @property
    def text(self) -> bool:
        """Whether the message is text: then pieces are str."""
        return bool(self._here().text)

    @property
    def binary(self) -> bool:
        """Whether the message is binary: then pieces are bytes."""
        return not self.text

    @property
    def total(self) -> int | None:
        """How many bytes the message has, where that is known from its beginning; else None."""
        return self._here().total

    def read(self, size: int = -1) -> Any:
        """Read so much of the message.

        Blocks until so much has come, or the message's end. A timeout or a signal handler's
        exception loses nothing: the next call goes on.

        Args:
            size: Bytes, or characters of a text; -1 (the default) for all that is left.

        Returns:
            bytes, or str of a text: shorter than `size` at the message's end alone, empty after it.

        Raises:
            ReceiveTimeout: so much has not come in time. What has come can still be read.
            ConnectionClosed: the connection has ended before that. Likewise.
            TypeError: the size is no int.
            ValueError: the stream's block was left.
        """
        message = self._here()
        if isinstance(size, bool) or not isinstance(size, int):
            raise TypeError(f"the size has to be an int, not {type(size).__name__}")
        if size < 0:
            self._until(lambda: message.done)
            size = message.size
        else:
            self._until(lambda: message.done or message.size >= size)
        return self._take(message, size)

    def readinto(self, buffer: Any) -> int:
        """Read into a writable buffer, until it is full or the message has ended.

        Blocks and raises as `read`.

        Args:
            buffer: A writable, contiguous bytes-like object.

        Returns:
            How many bytes were read: fewer than the buffer has at the message's end alone.

        Raises:
            TypeError: the message is text, or the buffer cannot be written.
        """
        message = self._here()
        if message.text:
            raise TypeError("the message is text: use read()")
        with memoryview(buffer) as view, view.cast("B") as room:
            if room.readonly:
                raise TypeError("the buffer cannot be written: use a bytearray")
            filled = 0
            while filled < len(room):
                self._until(lambda: message.done or bool(message.size))
                piece = self._take(message, min(message.first(), len(room) - filled))
                if not piece:
                    break
                room[filled : filled + len(piece)] = piece
                filled += len(piece)
        return filled

    def __iter__(self) -> Iterator[Any]:
        """Read what has come, piece by piece, until the message's end.

        Each turn blocks until something more has come, and raises as `read`.
        """
        while True:
            message = self._here()
            self._until(lambda: message.done or bool(message.size))  # noqa: B023 - called at once
            piece = self._take(message, message.first())
            if not piece:
                return
            yield piece
            del piece  # not to be kept while the next one is waited for

    def _here(self) -> Piecemeal:
        if self._message is None:
            raise ValueError(_NOT_HERE)
        return self._message

    def _take(self, message: Piecemeal, size: int) -> Any:
        piece = message.take(size)
        if piece:
            self.received += len(piece) if isinstance(piece, bytes) else len(piece.encode())
            if self._progress is not None:
                self._progress(self.received, message.total)
        return piece

    def _leave(self) -> None:
        message, self._message = self._message, None
        with self._lifecycle.lock:
            if message is not None and self._protocol.streamed is message:
                self._protocol.stream_no_more()

    # -- waiting -------------------------------------------------------------

    def _until(
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
                if self._lifecycle.closing:
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
        """As `_until`; whether there is enough. Holds the intake's lock."""
        channel, lifecycle, protocol = self._channel, self._lifecycle, self._protocol
        parking = self._link.transport.parking
        overtime: Deadline | None = None
        channel.reader = engine().identity()
        try:
            self._intake.flush()
            while True:
                self._seek()
                if parking is not None:
                    parking.share(_READ)
                if enough():
                    return True
                if lifecycle.closing or protocol.ended:
                    self._end(deadline)
                if self._intake.read(deadline, wakeable=True) is None:
                    return False
                if deadline.passed():
                    # More may be there, but pings and fragments can come without end.
                    overtime = overtime or Deadline(_OVERTIME)
                    if overtime.passed():
                        return False
        finally:
            channel.reader = 0
            if channel.orphaned:
                self._intake.dispose()

    def _seek(self) -> None:
        """Begin with the message, if there is one."""
        message, protocol = self._message, self._protocol
        if message is None or message.text is not None:
            return
        with self._lifecycle.lock:
            if protocol.streamed is None:
                protocol.stream(message)
            elif protocol.streamed is not message:
                raise RuntimeError("another receive_stream() of this connection is open: leave it")
            protocol.seek()

    def _end(self, deadline: Deadline) -> None:
        """No more of it will come. Holds the intake's lock."""
        if not self._lifecycle.closing:
            self._closer.settle(deadline.sooner(_LINGER))
        self._lifecycle.told = True
        raise self._link.closed_error()
