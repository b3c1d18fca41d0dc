"""A message whose length is not known when it begins: its frames, one after the other.

Rules (RFC 6455 section 5.4, RFC 7692 section 7.2.1):

- What is to be sent is checked before it becomes a frame, as with any message.
- All frames but the last have the same payload, before compression. The last has what is left,
  perhaps nothing. A character may be cut between two of them.
- A compressed message is flushed at each frame's end, so that the peer can inflate what has come.
  Compressing begins with the first frame: a message that is no longer than that is compressed from
  a size on.

No I/O. Its frames are made by one thread at a time, which has the turn of all messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .. import _kernel as kernel
from .opcodes import BINARY, COMPRESSED, CONTINUATION, FIN, TEXT
from .outgoing import binary_payload, text_payload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .deflate import Compressor

__all__ = ["Fragments", "cut", "pieces_of", "total_of"]

_BYTES: Final = (bytes, bytearray, memoryview)
_NOT_UTF_8: Final = "the text is not UTF-8: leave text=True out to send binary"
_CUT: Final = "the text is not UTF-8: a character is cut, and its end does not come"
_AT_A_TIME: Final = 64 * 1024  # characters of a str that are encoded at a time


class Fragments:
    """Makes the frames of one message.

    Attributes:
        made: How many there were so far.
        payload: The bytes in them, before compression.
        deflated: Those that they have, if the message is compressed; else None.
    """

    __slots__ = (
        "_compressor",
        "_masked",
        "_opcode",
        "_threshold",
        "deflated",
        "made",
        "payload",
    )

    def __init__(
        self,
        *,
        text: bool,
        masked: bool,
        compressor: Compressor | None = None,
        threshold: int = 0,
    ) -> None:
        """Begin with the next frame.

        Args:
            text: Whether it is text, else binary.
            masked: Whether frames are masked.
            compressor: What compresses, None for nothing.
            threshold: The bytes from which on the message is compressed.
        """
        self._opcode = TEXT if text else BINARY
        self._masked = masked
        self._compressor = compressor
        self._threshold = threshold
        self.made = 0
        self.payload = 0
        self.deflated: int | None = None

    def frame(self, payload: bytes, *, last: bool) -> bytes:
        """The next frame."""
        first = CONTINUATION if self.made else self._opcode
        if not self.made and last and len(payload) < self._threshold:
            self._compressor = None
        self.payload += len(payload)
        if self._compressor is not None:
            if not self.made:
                first |= COMPRESSED
                self._compressor.begin()
            payload = self._compressor.piece(payload, last=last)
            self.deflated = (self.deflated or 0) + len(payload)
        key = kernel.next_key() if self._masked else None
        frame = kernel.encode_frame(first | (FIN if last else 0), payload, key)
        self.made += 1
        return frame

    def sent(self) -> None:
        """All of the message has left."""
        if self._compressor is not None:
            self._compressor.sent()


def cut(pieces: Iterable[bytes | memoryview], size: int) -> Iterator[tuple[bytes, bool]]:
    """The payloads of the frames: so many bytes each, and whether it is the last."""
    room = bytearray()
    for piece in pieces:
        at = 0
        while (stop := at + size - len(room)) <= len(piece):
            room += piece[at:stop]
            at = stop
            yield bytes(room), False
            room.clear()
        room += piece[at:]
    yield bytes(room), True


def pieces_of(source: Any, text: bool, size: int) -> Iterator[bytes | memoryview]:
    """What a caller wants to send, piece by piece: see `Connection.send_stream`.

    Raises:
        TypeError: it is nothing that can be sent, or a piece is none.
        ValueError: a piece cannot be sent as what it is to be.
    """
    pieces = _raw_pieces(source, text, size)
    if text:
        yield from _text_pieces(pieces)
        return
    for piece in pieces:
        if isinstance(piece, str):
            raise TypeError(
                "send_stream() takes bytes, not str: open a file as 'rb', or send text by text=True"
            )
        yield binary_payload(piece, "send_stream() takes as a part a list or tuple of ints, or")


def _text_pieces(pieces: Iterable[Any]) -> Iterator[bytes | memoryview]:
    cut = b""  # the beginning of a character whose end is still to come
    for piece in pieces:
        if isinstance(piece, _BYTES):
            payload = binary_payload(piece)
            cut = _checked(cut, payload)
            yield payload
        elif not isinstance(piece, str):
            raise TypeError(
                f"send_stream(..., text=True) takes str, or bytes of UTF-8, not "
                f"{type(piece).__name__}: leave text=True out to send binary"
            )
        elif cut:
            raise ValueError(_CUT)
        else:
            for at in range(0, len(piece), _AT_A_TIME):
                yield text_payload(piece[at : at + _AT_A_TIME])
    if cut:
        raise ValueError(_CUT)


def _checked(cut: bytes, payload: bytes | memoryview) -> bytes:
    """Check a piece of UTF-8 that goes on with a character; returns what it cuts of one itself."""
    start, size = 0, len(payload)
    if cut:
        missing = 2 + (cut[0] >= 0xE0) + (cut[0] >= 0xF0) - len(cut)
        start = min(missing, size)
        character = cut + bytes(payload[:start])
        position, is_cut = kernel.check_utf8(character, 0, len(character))
        if is_cut:
            return character
        if position < len(character):
            raise ValueError(_NOT_UTF_8)
    position, is_cut = kernel.check_utf8(payload, start, size)
    if position < size and not is_cut:
        raise ValueError(_NOT_UTF_8)
    return bytes(payload[position:])


def _raw_pieces(source: Any, text: bool, size: int) -> Iterable[Any]:
    if hasattr(source, "read"):
        return _read(source, size)
    if isinstance(source, (*_BYTES, str)):
        return (source,)
    if isinstance(source, dict) or not hasattr(source, "__iter__"):
        kind = "str or bytes" if text else "bytes"
        raise TypeError(
            f"send_stream() takes a file, {kind} or an iterable of {kind}, "
            f"not {type(source).__name__}"
        )
    return source  # type: ignore[no-any-return]


def _read(file: Any, size: int) -> Iterator[Any]:
    while True:
        piece = file.read(size)
        if piece is None:
            raise TypeError(
                "the file's read() has returned None: send_stream() takes no file that "
                "does not block"
            )
        if not len(piece):
            return
        yield piece


def total_of(source: Any, text: bool) -> int | None:
    """How many bytes a source has, where that can be told without reading it."""
    if isinstance(source, _BYTES):
        return memoryview(source).nbytes
    if text or not hasattr(source, "seek") or not hasattr(source, "tell"):
        return None
    try:
        at = source.tell()
        end = source.seek(0, 2)
        source.seek(at)
    except (OSError, ValueError):  # a pipe, or a file that is closed, which `read` will say
        return None
    return max(end - at, 0) if isinstance(at, int) and isinstance(end, int) else None
