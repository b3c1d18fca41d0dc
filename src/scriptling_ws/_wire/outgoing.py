"""From what a caller sends to frames.

Rules (RFC 6455 sections 5.3, 5.6):

- Everything is checked and encoded here, before a lock is taken: bad input changes
  nothing and sends nothing.
- An error names what is wrong, where, and the call that would be right.
- A message up to BATCH is one frame in one allocation, and so is any list. Other bytes above
  it, and the UTF-8 of a text, are masked and sent in slices, one at a time, not as a second
  copy of themselves.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Any, Final
from typing import Protocol as Interface

from .. import _kernel as kernel
from .._codes import may_be_sent
from .documents import text_of
from .opcodes import WHOLE_BINARY, WHOLE_TEXT
from .pieces import Pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .deflate import Compressor
    from .documents import Dumps
    from .tally import Sliced

__all__ = [
    "BATCH",
    "Encoder",
    "PlainEncoder",
    "binary_payload",
    "check_close",
    "check_messages",
    "text_payload",
    "utf8_payload",
]

BATCH: Final = 256 * 1024
"""Above this size a message is sent in slices; several together are sent in batches of it."""

_SHORT: Final = 125  # bytes of a payload whose header is the shortest (RFC 6455 section 5.2)
_MEDIUM: Final = 65535  # those of one whose header has two bytes more
_MAX_REASON: Final = 123
_MAX_ITEMS: Final = 64 * 1024 * 1024  # of a list: half a GB of memory, and a second of its own
_HINT: Final = ": use send() for a dict, or send_binary() for a list of byte values"
_STR_AS_BINARY: Final = (
    "send_binary() takes a list or tuple of ints, or bytes: send a str with send()"
)


def text_payload(text: str | bytes) -> bytes:
    """The payload of a text message.

    Raises:
        ValueError: the text holds a lone surrogate, or is bytes and no UTF-8.
    """
    if not isinstance(text, str):
        return utf8_payload(text)  # type: ignore[return-value]  # of bytes, these
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise _surrogate(error) from error


def _surrogate(error: UnicodeEncodeError) -> ValueError:
    return ValueError(
        f"the text cannot be sent as UTF-8: it has a lone surrogate at position {error.start}"
    )


def utf8_payload(data: Any) -> bytes | memoryview:
    """The payload of a text message that is encoded already: the bytes as they are.

    Raises:
        TypeError: it is not bytes-like.
        ValueError: it is no UTF-8, or the buffer is not contiguous.
    """
    payload = (
        data if isinstance(data, bytes) else _bytes_of(data, "send_text() takes a str or", _HINT)
    )
    size = len(payload)
    position, _ = kernel.check_utf8(payload, 0, size)
    if position < size:
        raise ValueError(
            f"the text is not UTF-8: see byte {position} of {size}. Send what is no text with "
            "send_binary()"
        )
    return payload


def binary_payload(data: Any, *said: str) -> bytes | memoryview:
    """The payload of a binary message.

    Args:
        data: The message.
        said: For the error, who takes what beside a bytes-like object, if it is not `send_binary`.

    Raises:
        TypeError, ValueError: as `Encoder.binary`.
    """
    if isinstance(data, bytes):
        return data
    if isinstance(data, (list, tuple)):
        _check_items(data)
        return kernel.list_to_bytes(data)
    if isinstance(data, str):
        raise TypeError(_STR_AS_BINARY)
    return _bytes_of(data, *said)


def check_messages(messages: object) -> None:
    """Check what `send_many` is to take one by one; one message would go letter by letter.

    Raises:
        TypeError: it is a single message, or nothing of several.
    """
    if isinstance(messages, (str, dict, bytes, bytearray, memoryview)) or not hasattr(
        messages, "__iter__"
    ):
        raise TypeError(
            f"send_many() takes messages, such as [message], not {type(messages).__name__}: send "
            "a single one with send() or send_binary()"
        )


def _bytes_of(data: Any, *said: str) -> bytes | memoryview:
    view = _buffer(data, *said)
    kernel.parse_header(view, 0, 0)  # refuses what is no bytes, as encode_frame does
    return view.cast("B") if view.nbytes else b""


def _check_items(values: list[int] | tuple[int, ...]) -> None:
    # They are turned into bytes in one piece, in which no other thread runs.
    if len(values) > _MAX_ITEMS:
        raise ValueError(f"a list may have {_MAX_ITEMS} items, not {len(values)}: send bytes")


def _buffer(
    data: Any, takes: str = "send_binary() takes a list or tuple of ints, or", hint: str = ""
) -> memoryview:
    try:
        return memoryview(data)
    except TypeError:
        kind = type(data).__name__
        raise TypeError(f"{takes} a bytes-like object, not {kind}{hint}") from None


class Encoder(Interface):
    """Makes frames of messages. Thread-safe.

    What a method returns is sent whole, before anything else: one `bytes`, or pieces, each
    valid until the next one is asked for.
    """

    @property
    def alone(self) -> tuple[int, int, int] | None:
        """How messages are compressed, each by itself; None where they are not, or refer back.

        The window bits, the bytes from which on a message is compressed, and the level.
        """

    def text(self, message: object, compress: bool = True) -> bytes | Sliced:
        """The frame of a text message.

        Args:
            message: A str, or a dict, which becomes JSON.
            compress: Whether it may be compressed.

        Raises:
            TypeError: it is neither, or the dict holds what JSON cannot.
            ValueError: JSON or UTF-8 cannot say it.
        """

    def utf8(self, data: Any, compress: bool = True) -> bytes | Sliced:
        """The frame of a text message that is encoded already.

        Raises:
            TypeError: it is not bytes-like.
            ValueError: it is no UTF-8, or the buffer is not contiguous.
        """

    def binary(self, data: Any, compress: bool = True) -> bytes | Sliced:
        """The frame of a binary message.

        Raises:
            TypeError: it is neither list, tuple nor bytes-like, or an element is no int.
            ValueError: an element is not in 0 to 255, a list too long, or the buffer not
                contiguous.
        """

    def compressor(self, compress: bool) -> tuple[Compressor | None, int]:
        """What a message in fragments is compressed by, guarded as they are, and from what size on.

        Args:
            compress: Whether it may be compressed.
        """

    def batches(
        self, messages: Iterable[Any], compress: bool = True
    ) -> Iterator[tuple[bytes | Sliced, int, int]]:
        """The frames of many messages, small ones together: see `Connection.send_many`.

        Each with the number of its messages, and their bytes, as `Channel.send` takes it.

        A message that cannot be sent raises once those before it were given out.
        """


class PlainEncoder:
    """Makes frames of messages as they are: the Encoder of a connection without compression."""

    __slots__ = ("_dumps", "_masked")

    alone: Final = None

    def __init__(self, *, masked: bool, dumps: Dumps | None = None) -> None:
        """Mask the frames, as a client has to, or not; make text of a dict by `dumps`."""
        self._masked = masked
        self._dumps = dumps

    def text(self, message: object, compress: bool = True) -> bytes | Pieces:  # noqa: ARG002
        """The frame of a text message, in pieces if it is large: see `Encoder`."""
        text = message if type(message) is str else text_of(message, self._dumps)
        if not isinstance(text, str):
            return self.utf8(text)
        try:
            if len(text) > BATCH:
                return Pieces(WHOLE_TEXT, memoryview(text.encode("utf-8")), self._masked)
            return kernel.encode_frame(WHOLE_TEXT, text, self._key())
        except UnicodeEncodeError as error:
            raise _surrogate(error) from error

    def utf8(self, data: Any, compress: bool = True) -> bytes | Pieces:  # noqa: ARG002
        """The frame of a text message that is encoded already, in pieces if it is large."""
        payload = utf8_payload(data)
        if len(payload) > BATCH:
            return Pieces(WHOLE_TEXT, memoryview(payload), self._masked)
        return kernel.encode_frame(WHOLE_TEXT, payload, self._key())

    def binary(self, data: Any, compress: bool = True) -> bytes | Pieces:  # noqa: ARG002
        """The frame of a binary message, in pieces if it is large and bytes-like."""
        if isinstance(data, bytes) and len(data) <= BATCH:  # first, because it is the fast choice
            return kernel.encode_frame(WHOLE_BINARY, data, self._key())
        if isinstance(data, str):
            raise TypeError(_STR_AS_BINARY)
        if not isinstance(data, (list, tuple)) and hasattr(data, "__len__") and len(data) > BATCH:
            kernel.parse_header(data, 0, 0)  # refuses what is no bytes, as encode_frame does
            view = memoryview(data)
            if view.nbytes:
                return Pieces(WHOLE_BINARY, view.cast("B"), self._masked)
        if not isinstance(data, (list, tuple)):
            data = _buffer(data)
        else:
            _check_items(data)
        return kernel.encode_frame(WHOLE_BINARY, data, self._key())

    def compressor(self, compress: bool) -> tuple[None, int]:  # noqa: ARG002
        """Nothing: see `Encoder`."""
        return None, 0

    def _key(self) -> bytes | None:
        return kernel.next_key() if self._masked else None

    def either(self, message: Any) -> bytes | Pieces:
        """The frame of a message of either kind: text for str and dict, else binary."""
        return self.text(message) if isinstance(message, (str, dict)) else self.binary(message)

    def batches(
        self,
        messages: Iterable[Any],
        compress: bool = True,  # noqa: ARG002
    ) -> Iterator[tuple[bytes | Pieces, int, int]]:
        """The frames of many messages, small ones together: see `Encoder`."""
        check_messages(messages)
        batch: list[bytes] = []
        size = 0
        try:
            for message in messages:
                frame = self.either(message)
                if isinstance(frame, bytes):
                    batch.append(frame)
                    size += len(frame)
                    if size < BATCH:
                        continue
                if batch:
                    yield self._joined(batch)
                size = 0
                if not isinstance(frame, bytes):
                    yield frame, 1, -1
                del frame  # it may lock the caller's buffer, who may want to fill it anew
        except BaseException:
            if batch:
                yield self._joined(batch)
            raise
        if batch:
            yield self._joined(batch)

    def _joined(self, batch: list[bytes]) -> tuple[bytes, int, int]:
        """The frames of a batch, how many they are, and the bytes of their messages."""
        frames, count = b"".join(batch), len(batch)
        # A header has two bytes, and two or eight more for a longer payload: how many frames are
        # so long is told by their sizes, without a look at each.
        least = 6 if self._masked else 2
        sizes = sorted(map(len, batch))
        longer = count - bisect_right(sizes, least + _SHORT)
        longest = count - bisect_right(sizes, least + 2 + _MEDIUM)
        batch.clear()
        return frames, count, len(frames) - least * count - 2 * longer - 6 * longest


def check_close(code: object, reason: object) -> None:
    """Check what a close frame is to carry (RFC 6455 section 7.4).

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: the code may not be sent, or the reason is over 123 bytes.
    """
    if isinstance(code, bool) or not isinstance(code, int):
        raise TypeError(f"the close code has to be an int, not {type(code).__name__}")
    if not may_be_sent(code):
        raise ValueError(
            f"close code {code} may not be sent: use 1000 (normal), 1001, 1003, 1007 to 1014, "
            "a registered one from 3000 to 3999, or one of your own from 4000 to 4999"
        )
    if not isinstance(reason, str):
        raise TypeError(f"the close reason has to be a str, not {type(reason).__name__}")
    try:
        size = len(reason.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise _surrogate(error) from error
    if size > _MAX_REASON:
        raise ValueError(f"the close reason is {size} bytes long; {_MAX_REASON} is the most")
