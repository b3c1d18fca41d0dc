"""One message for many: its frames, each made once.

Rules (RFC 6455 sections 5.3 and 5.6, RFC 7692 sections 6 and 7.2):

- A message is checked and encoded before any lock is taken: bad input sends nothing.
- A server does not mask, so all its connections share one frame. A client masks each frame with a
  key of its own, which is made anew for each client.
- A compressed frame is shared by the connections that compress each message by itself
  (`server_no_context_takeover`) in a window of the same size. A connection with context takeover
  cannot share: what it compresses refers to what went before on that connection alone. It gets the
  message uncompressed, which is allowed at any time. To compress it for each of a thousand
  members would cost a thousand times as much as all the rest of a broadcast, under each one's lock.

No lock of its own: a room makes and uses a message under its turn.
"""

from __future__ import annotations

from typing import Any, Final

from .. import _kernel as kernel
from .._wire.deflate import Compressor
from .._wire.documents import text_of
from .._wire.opcodes import COMPRESSED, WHOLE_BINARY, WHOLE_TEXT
from .._wire.outgoing import binary_payload, text_payload, utf8_payload

__all__ = ["MASKED", "PLAIN", "Form", "Message"]

Form = tuple[int, int, int]
"""How a connection takes a message: window bits, from how many bytes on it is compressed, level.

With 0 bits it is never compressed: see PLAIN and MASKED.
"""

PLAIN: Final[Form] = (0, 0, 0)
"""The form of a server's connection that is sent messages as they are."""

MASKED: Final[Form] = (0, 1, 0)
"""The form of a client's connection."""


class Message:
    """A message that was checked.

    Attributes:
        first: The first byte of its frame, WHOLE_TEXT or WHOLE_BINARY.
        payload: What it carries.
    """

    __slots__ = ("_frames", "first", "payload")

    def __init__(self, first: int, payload: bytes) -> None:
        self.first = first
        self.payload = payload
        self._frames: dict[tuple[int, int], bytes] = {}  # by window bits and level

    @classmethod
    def text(cls, message: object) -> Message:
        """A text message, of what `Connection.send` takes; it raises what that raises."""
        return cls(WHOLE_TEXT, text_payload(text_of(message)))

    @classmethod
    def utf8(cls, text: Any) -> Message:
        """A text message, of what `Connection.send_text` takes; it raises what that raises."""
        if isinstance(text, str):
            return cls.text(text)
        return cls(WHOLE_TEXT, bytes(utf8_payload(text)))

    @classmethod
    def binary(cls, data: Any) -> Message:
        """A binary message, of what `Connection.send_binary` takes; it raises what that raises."""
        return cls(WHOLE_BINARY, bytes(binary_payload(data)))

    def frame(self, form: Form) -> bytes:
        """The frame for all connections of a form but MASKED."""
        bits, threshold, level = form
        if len(self.payload) < threshold:
            bits = level = 0
        frame = self._frames.get((bits, level))
        if frame is None:
            frame = self._frames[bits, level] = self._make(bits, level)
        return frame

    def masked(self) -> bytes:
        """A frame for one client's connection."""
        return kernel.encode_frame(self.first, self.payload, kernel.next_key())

    def _make(self, bits: int, level: int) -> bytes:
        if not bits:
            return kernel.encode_frame(self.first, self.payload, None)
        (data,) = Compressor(bits, takeover=False, level=level).compress((self.payload,))
        return kernel.encode_frame(self.first | COMPRESSED, data, None)
