"""A message that is given out while it comes, for one who streams it.

Rules:

- What has come, and was not taken so far, is in `chunks`, oldest first: bytes of a binary
  message, str of a text. A chunk of text ends with a whole character (`Assembly.drain`).
- With a `target` it is not given out in pieces: it is received into that (`receive_into`). One that
  comes in another way than one frame that fits is put together as any other, and copied.
- Nothing is taken unless it is all there: a call that times out leaves everything as it was.
- What was given out has been checked as any message is (RFC 6455 sections 5.4, 8.1): a text that
  turns out not to be UTF-8 ends the connection, and the message never ends.

Not thread-safe: what fills it holds the lifecycle's lock; one thread at a time takes.
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
        total: Its bytes, where that is known; None where it is not.
        target: Where it is received into; None to give it out.
        size: How many bytes or characters wait to be taken.
        done: Whether all of it has come.
    """

    __slots__ = ("_at", "_chunks", "done", "size", "target", "text", "total")

    def __init__(self, target: memoryview | None = None) -> None:
        """Wait for a message to begin."""
        self.target = target
        self.text: bool | None = None
        self.total: int | None = None
        self.size = 0
        self.done = False
        self._chunks: list[bytes | str] = []
        self._at = 0  # where in the first of them

    def begin(self, assembly: Assembly) -> None:
        """It begins with what is being put together there."""
        self.total = assembly.announced
        if self.target is None:
            assembly.open_up()
        else:
            assembly.receive_into(self.target[: self.total])
        self.text = assembly.opcode == TEXT

    def whole(self, message: Message) -> None:
        """It is this one, all of which has come."""
        if isinstance(message, list):
            message = kernel.list_to_bytes(message)
        target = self.target
        if target is not None and isinstance(message, bytes):
            if len(message) > len(target):
                raise BufferError(
                    f"the next message has {len(message)} bytes, and the buffer {len(target)}: it "
                    "stays the next one for receive(), receive_stream() or a larger buffer"
                )
            target[: len(message)] = message
        self.total = len(message) if isinstance(message, bytes) else len(message.encode())
        self.add(message)
        self.done = True
        self.text = isinstance(message, str)

    def add(self, chunk: bytes | str) -> None:
        """More of it has come."""
        if chunk:
            self._chunks.append(chunk)
            self.size += len(chunk)

    def text_or_size(self) -> str | int:
        """The message, if it is text; else how many bytes of the target it fills."""
        if self.text:
            return self.take(self.size)  # type: ignore[return-value]  # str of a text
        return self.total or 0

    def first(self) -> int:
        """How much waits in the first chunk."""
        return len(self._chunks[0]) - self._at if self._chunks else 0

    def take(self, most: int) -> bytes | str:
        """Take so many bytes or characters, or all that wait if they are fewer."""
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
        piece = parts[0] if len(parts) == 1 else self._joined(parts)
        size = self.size - len(piece)
        # No call in these, so no signal handler runs between them.
        del self._chunks[:used]
        self._at = at
        self.size = size
        return piece

    def _joined(self, parts: list[bytes | str]) -> bytes | str:
        return "".join(parts) if self.text else b"".join(parts)  # type: ignore[arg-type]
