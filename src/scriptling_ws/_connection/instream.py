"""Receiving a message while it comes: what `receive_stream` gives out.

Rules:

- How it is waited for: see `awaiting`. Nothing is taken out of it but for the caller at once.
- What is left when the stream is given up is dropped as it comes, by whoever reads next: to leave
  a `with` block does not wait. The limits of a message go on counting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Generic

from .._functions import check_runs
from .._wire.piecemeal import Piecemeal
from .derived import Text_co

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from typing_extensions import Self

    from .awaiting import Awaiting

__all__ = ["MessageStream"]

_NOT_HERE: Final = "a stream is read inside of its with block: with conn.receive_stream() as stream"


class MessageStream(Generic[Text_co]):
    """One message, received while it comes: what `Connection.receive_stream` returns.

    It is used as a context manager, which waits for the message to begin. For one thread at a time.
    What is known of the message can still be asked for after the block; it is read inside alone.

    Attributes:
        text: Whether the message is text; known from its beginning.
        binary: Whether it is binary.
        total: How many bytes it has, where its header tells: if it comes in one frame, and not
            compressed. Else None.
        received: How many bytes were read so far.
    """

    __slots__ = ("_awaiting", "_latest", "_progress")

    def __init__(self, awaiting: Any, progress: Callable[[int, int | None], object] | None) -> None:
        """Not for callers: `Connection.receive_stream` makes streams."""
        if progress is not None and not callable(progress):
            raise TypeError(f"progress has to be a function, not {type(progress).__name__}")
        check_runs(progress, "progress")
        self._awaiting: Awaiting = awaiting
        self._progress = progress
        self._latest = Piecemeal()  # the message that was begun last, or is to be

    def __enter__(self) -> Self:
        """Wait for the message to begin.

        Raises:
            ReceiveTimeout: none has begun in time; nothing is lost.
            ConnectionClosed: the connection is closed, and no message is left.
            RuntimeError: a stream of the connection is open, this one or another.
        """
        self._latest = self._awaiting.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Leave the message: what was not read of it is dropped, now or as it comes."""
        self._awaiting.leave()

    @property
    def text(self) -> bool:
        """Whether the message is text: then pieces are str, or bytes with `text_type=bytes`."""
        return bool(self._begun().text)

    @property
    def binary(self) -> bool:
        """Whether the message is binary: then pieces are bytes."""
        return not self.text

    @property
    def total(self) -> int | None:
        """How many bytes the message has, where that is known from its beginning; else None."""
        return self._begun().total

    @property
    def received(self) -> int:
        """How many bytes of the message were read so far."""
        return self._latest.received

    def read(self, size: int = -1) -> Text_co | bytes:
        """Read so much of the message.

        Blocks until so much has come, or the message's end. A timeout or a signal handler's
        exception loses nothing: the next call goes on.

        Args:
            size: Bytes, or characters of a text that is read as str; -1 (the default) for all
                that is left.

        Returns:
            bytes, or str of a text (see `text`): shorter than `size` at the message's end alone,
            empty after it.

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
            self._awaiting.until(lambda: message.done)
            size = message.size
        else:
            self._awaiting.until(lambda: message.done or message.size >= size)
        return self._take(message, size)

    def readinto(self, buffer: Any) -> int:
        """Read into a writable buffer, until it is full or the message has ended.

        Blocks and raises as `read`, in which case nothing was read.

        Args:
            buffer: A writable, contiguous bytes-like object.

        Returns:
            How many bytes were read: fewer than the buffer has at the message's end alone.

        Raises:
            TypeError: the message is text, and read as str; or the buffer cannot be written.
        """
        message = self._here()
        if message.text and not message.encoded:
            raise TypeError("the message is text: use read()")
        with memoryview(buffer) as view:
            if view.readonly or not view.c_contiguous:
                raise TypeError("the buffer cannot be written in one piece: use a bytearray")
            with view.cast("B") if view.nbytes else memoryview(bytearray()) as room:
                self._awaiting.until(lambda: message.done or message.size >= len(room))
                count = message.take_into(room)
        if count and self._progress is not None:
            self._progress(message.received, message.total)
        return count

    def __iter__(self) -> Self:
        """Read what has come, piece by piece, until the message's end.

        Each turn blocks until something more has come, and raises as `read`. After a
        ReceiveTimeout the same loop can go on.
        """
        return self

    def __next__(self) -> Text_co | bytes:
        """The next piece; see `__iter__`."""
        message = self._here()
        self._awaiting.until(lambda: message.done or bool(message.size))
        piece = self._take(message, message.first())
        if not piece:
            raise StopIteration
        return piece

    def _here(self) -> Piecemeal:
        message = self._awaiting.message
        if message is None:
            raise ValueError(_NOT_HERE)
        return message

    def _begun(self) -> Piecemeal:
        if self._latest.text is None:
            raise ValueError(_NOT_HERE)
        return self._latest

    def _take(self, message: Piecemeal, size: int) -> Text_co | bytes:
        piece: Any = message.take(size)  # a text as text_type says
        if piece and self._progress is not None:
            self._progress(message.received, message.total)
        return piece  # type: ignore[no-any-return]
