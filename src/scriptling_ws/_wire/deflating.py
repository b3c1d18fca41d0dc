"""The encoder of a connection that compresses what it sends (RFC 7692).

Rules:

- Everything is checked and encoded before a lock is taken, as without compression.
- A message is compressed when it is its turn to be sent, under the send lock: the other
  end inflates messages in the order in which they were compressed.
- A message of which nothing has left is as if it had never been compressed.
"""

from __future__ import annotations

from copy import copy
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from .. import _kernel as kernel
from .._options import LEAST_BITS
from .deflate import Compressor
from .documents import text_of
from .opcodes import COMPRESSED, WHOLE_BINARY, WHOLE_TEXT
from .outgoing import (
    BATCH,
    PlainEncoder,
    binary_payload,
    check_messages,
    text_payload,
    utf8_payload,
)
from .pieces import Pieces
from .tally import Sizes, payload_size

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from typing_extensions import Buffer

    from .._handshakes.terms import Terms
    from .._options import Options
    from .documents import Dumps
    from .outgoing import Encoder

__all__ = ["DeflatingEncoder", "make_encoder"]

_LONGEST: Final = 4  # bytes of a character

# What is to be sent: a frame, a large one in pieces, or the first byte and the payload of a
# message that is still to be compressed.
_Part = bytes | Pieces | tuple[int, "bytes | memoryview"]


def make_encoder(options: Options, *, client: bool, deflate: Terms | None) -> Encoder:
    """The encoder for the terms of compression that were agreed on, None for none.

    Where the other end wants a window that zlib cannot compress in, messages are sent as they
    are, which is always allowed.

    Args:
        options: The connection's.
        client: Whether this end is the client.
        deflate: The terms.
    """
    if deflate is None or deflate.of(client=client)[0] < LEAST_BITS:
        return PlainEncoder(masked=client, dumps=options.dumps)
    return DeflatingEncoder(
        Compressor(*deflate.of(client=client), options.compression_level),
        threshold=options.compression_threshold,
        masked=client,
        dumps=options.dumps,
    )


def _kept(part: _Part) -> _Part:
    """The same, for a batch: the caller may fill a buffer anew before the batch is sent."""
    if isinstance(part, tuple) and isinstance(part[1], memoryview) and len(part[1]) < BATCH:
        return part[0], bytes(part[1])
    return part


class DeflatingEncoder:
    """Makes frames of messages, compressed from a size on."""

    __slots__ = ("_compressor", "_dumps", "_masked", "_plain", "_threshold")

    def __init__(
        self, compressor: Compressor, *, threshold: int, masked: bool, dumps: Dumps | None = None
    ) -> None:
        """Compress what has at least `threshold` bytes; mask frames, or not; see PlainEncoder."""
        self._masked = masked
        self._dumps = dumps
        self._plain = PlainEncoder(masked=masked)
        self._compressor = compressor  # guarded by the send lock: see _Deflated
        self._threshold = threshold

    @property
    def alone(self) -> tuple[int, int, int] | None:
        """As `Encoder.alone`."""
        alone = self._compressor.alone
        return None if alone is None else (alone[0], self._threshold, alone[1])

    def compressor(self, compress: bool) -> tuple[Compressor | None, int]:
        """As `Encoder.compressor`."""
        return (self._compressor if compress else None), self._threshold

    def text(self, message: object, compress: bool = True) -> bytes | Pieces | _Deflated:
        """As `Encoder.text`."""
        return self._whole(self._text_part(message, compress))

    def utf8(self, data: Any, compress: bool = True) -> bytes | Pieces | _Deflated:
        """As `Encoder.utf8`."""
        return self._whole(self._utf8_part(data, compress))

    def binary(self, data: Any, compress: bool = True) -> bytes | Pieces | _Deflated:
        """As `Encoder.binary`."""
        return self._whole(self._binary_part(data, compress))

    def batches(
        self, messages: Iterable[Any], compress: bool = True
    ) -> Iterator[tuple[bytes | Pieces | _Deflated, int, int]]:
        """As `Encoder.batches`."""
        check_messages(messages)
        batch: list[_Part] = []
        size = 0
        try:
            for message in messages:
                if isinstance(message, (str, dict)):
                    part = self._text_part(message, compress)
                else:
                    part = _kept(self._binary_part(message, compress))
                batch.append(part)
                if isinstance(part, Pieces):
                    size = BATCH
                else:
                    size += len(part) if isinstance(part, bytes) else len(part[1])
                del part  # it may lock the caller's buffer, who may want to fill it anew
                if size >= BATCH:
                    yield self._joined(batch)
                    size = 0
        except BaseException:
            if batch:
                yield self._joined(batch)
            raise
        if batch:
            yield self._joined(batch)

    def _text_part(self, message: object, compress: bool) -> _Part:
        text = text_of(message, self._dumps)
        if not isinstance(text, str):
            return self._utf8_part(text, compress)
        if compress and len(text) * _LONGEST >= self._threshold:
            payload = text_payload(text)
            if len(payload) >= self._threshold:
                return WHOLE_TEXT, payload
        return self._plain.text(text)

    def _utf8_part(self, data: Any, compress: bool) -> _Part:
        if compress:
            payload = utf8_payload(data)
            if len(payload) >= self._threshold:
                return WHOLE_TEXT, payload
        return self._plain.utf8(data)

    def _binary_part(self, data: Any, compress: bool) -> _Part:
        if compress:
            data = binary_payload(data)
            if len(data) >= self._threshold:
                return WHOLE_BINARY, data
        return self._plain.binary(data)

    def _whole(self, part: _Part) -> bytes | Pieces | _Deflated:
        if isinstance(part, tuple):
            return _Deflated(self._compressor, [part], self._masked)
        return part

    def _joined(self, batch: list[_Part]) -> tuple[bytes | Pieces | _Deflated, int, int]:
        parts = batch.copy()
        batch.clear()
        if len(parts) == 1:
            return self._whole(parts[0]), 1, -1
        return _Deflated(self._compressor, parts, self._masked), len(parts), -1


class _Deflated:
    """Frames in pieces, each valid until the next one is asked for; see Pieces.

    The messages are compressed when the first one is asked for.
    """

    __slots__ = ("_at", "_compressor", "_deflated", "_frames", "_masked", "_parts")

    def __init__(self, compressor: Compressor, parts: list[_Part], masked: bool) -> None:
        self._compressor = compressor
        self._parts = parts
        self._masked = masked
        self._frames: list[memoryview | Pieces] | None = None
        self._at = 0  # the frame that is next
        self._deflated = 0  # bytes of compressed payloads

    def sizes(self) -> Sizes:
        """As `Sliced.sizes`."""
        wire = sum(f.wire if isinstance(f, Pieces) else len(f) for f in self._frames or ())
        original = sum(len(part[1]) for part in self._parts if isinstance(part, tuple))
        plain = sum(
            payload_size(part) if isinstance(part, bytes) else part.sizes().payload
            for part in self._parts
            if not isinstance(part, tuple)
        )
        return Sizes(original + plain, wire, original, self._deflated)

    def __iter__(self) -> _Deflated:
        return self

    def __next__(self) -> memoryview:
        if self._frames is None:
            self._frames = self._compress()
        while self._at < len(self._frames):
            frame = self._frames[self._at]
            if isinstance(frame, memoryview):
                self._at += 1
                return frame
            for piece in frame:
                return piece
            self._at += 1
        self._compressor.sent()
        raise StopIteration

    def __copy__(self) -> Iterable[memoryview]:
        """What is still to come of it, without a word to the compressor."""
        frames = (self._frames or [])[self._at :]
        return chain.from_iterable(
            copy(frame) if isinstance(frame, Pieces) else (frame,) for frame in frames
        )

    def _compress(self) -> list[memoryview | Pieces]:
        """The frames, those that are small together."""
        compressed = self._compressor.compress(
            part[1] for part in self._parts if isinstance(part, tuple)
        )
        self._deflated = sum(map(len, compressed))
        payloads = iter(compressed)
        frames: list[memoryview | Pieces] = []
        small: list[bytes] = []
        for part in self._parts:
            frame = self._frame(part[0], next(payloads)) if isinstance(part, tuple) else part
            if isinstance(frame, Pieces):
                frames += [memoryview(b"".join(small)), frame]
                small = []
            else:
                small.append(frame)
        frames.append(memoryview(b"".join(small)))
        return frames

    def _frame(self, first: int, payload: Buffer) -> bytes | Pieces:
        view = memoryview(payload)
        if len(view) > BATCH:
            return Pieces(first | COMPRESSED, view, self._masked)
        key = kernel.next_key() if self._masked else None
        return kernel.encode_frame(first | COMPRESSED, view, key)
