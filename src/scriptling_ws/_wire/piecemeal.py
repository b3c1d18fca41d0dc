"""A message that is given out while it comes, for one who streams it.

Rules:

- What has come, and was not taken so far, is in `chunks`, oldest first: bytes of a binary
  message, str of a text, or of an `encoded` one bytes. A chunk of text ends with a whole character
  (`Assembly.drain`).
- With a `target` it is not given out in pieces: it is received into that (`receive_into`). One that
  comes in another way than one frame that fits is put together as any other, and copied.
- Nothing is taken unless it is all there: a call that times out leaves everything as it was.
- What was given out has been checked as any message is (RFC 6455 sections 5.4, 8.1): a text that
  turns out not to be UTF-8 ends the connection, and the message never ends.

What fills it holds the lifecycle's lock. One thread at a time takes, without a lock, perhaps while
another one fills: so each number is written by one side alone, and the rest follows from both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import _kernel as kernel
from .opcodes import TEXT

if TYPE_CHECKING:
    from .assembly import Assembly, Message

__all__ = ["Piecemeal"]


class Piecemeal:
    """The message that is being streamed.

    Attributes:
        text: Whether it is text, else binary; None until it has begun.
        encoded: Whether a text is given out as bytes.
        total: Its bytes, where that is known; None where it is not.
        target: Where it is received into; None to give it out.
        done: Whether all of it has come.
        received: How many bytes were taken.
    """

    __slots__ = (
        "_at",
        "_chunks",
        "_come",
        "_taken",
        "done",
        "encoded",
        "received",
        "target",
        "text",
        "total",
    )

    def __init__(self, target: memoryview | None = None) -> None:
        """Wait for a message to begin."""
        self.target = target
        self.text: bool | None = None
        self.encoded = False
        self.total: int | None = None
        self.done = False
        self.received = 0
        self._chunks: list[bytes | str] = []
        self._at = 0  # where in the first of them
        self._come = 0  # bytes or characters that have come
        self._taken = 0  # those that were taken

    def begin(self, assembly: Assembly) -> None:
        """It begins with what is being put together there."""
        self.total = assembly.announced
        if self.target is None:
            assembly.open_up()
        else:
            assembly.receive_into(self.target[: self.total])
        self.text = assembly.opcode == TEXT

    def whole(self, message: Message, *, text: bool) -> None:
        """It is this one, all of which has come."""
        if isinstance(message, list):
            message = kernel.list_to_bytes(message)
        elif isinstance(message, str) and self.encoded:
            message = message.encode()
        target = self.target
        if target is not None and not text and isinstance(message, bytes):
            if len(message) > len(target):
                raise BufferError(
                    f"the next message has {len(message)} bytes, and the buffer {len(target)}: it "
                    "stays the next one for receive(), receive_stream() or a larger buffer"
                )
            target[: len(message)] = message
        self.total = len(message) if isinstance(message, bytes) else len(message.encode())
        self.add(message)
        self.done = True
        self.text = text

    def add(self, chunk: bytes | str) -> None:
        """More of it has come."""
        if chunk:
            self._chunks.append(chunk)
            self._come += len(chunk)

    @property
    def size(self) -> int:
        """How many bytes or characters wait to be taken."""
        return self._come - self._taken

    def text_or_size(self) -> str | bytes | int:
        """The message, if it is text; else how many bytes of the target it fills."""
        if self.text:
            return self.take(self.size)
        return self.total or 0

    def first(self) -> int:
        """How much waits in the first chunk."""
        return len(self._chunks[0]) - self._at if self._chunks else 0

    def take(self, most: int) -> bytes | str:
        """Take so many bytes or characters, or all that wait if they are fewer."""
        parts, used, at = self._next(most)
        piece = parts[0] if len(parts) == 1 else self._joined(parts)
        taken = self._taken + len(piece)
        received = self.received + len(piece if isinstance(piece, bytes) else piece.encode())
        # No call from here to the caller's hands, so no signal handler's exception loses it.
        del self._chunks[:used]
        self._at = at
        self._taken = taken
        self.received = received
        return piece

    def take_into(self, room: memoryview) -> int:
        """Take so many bytes as there is room for, or all that wait; how many they were."""
        parts, used, at = self._next(len(room))
        filled = 0
        for part in parts:
            stop = filled + len(part)
            room[filled:stop] = part  # type: ignore[assignment]  # bytes of a binary one
            filled = stop
        # As in `take`.
        del self._chunks[:used]
        self._at = at
        self._taken += filled
        self.received += filled
        return filled

    def _next(self, most: int) -> tuple[list[bytes | str], int, int]:
        """What waits, in parts; how many chunks that uses up, and where in the next one it ends."""
        parts: list[bytes | str] = []
        used, at, left = 0, self._at, most
        for chunk in self._chunks:
            part = chunk[at : at + left]
            parts.append(part)
            left -= len(part)
            if at + len(part) < len(chunk):
                at += len(part)
                break
            used, at = used + 1, 0
        return parts, used, at

    def _joined(self, parts: list[bytes | str]) -> bytes | str:
        as_str = self.text and not self.encoded
        return "".join(parts) if as_str else b"".join(parts)  # type: ignore[arg-type]
