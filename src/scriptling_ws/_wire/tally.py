"""What has gone one way on a connection, but for what the kernel's channel counts itself.

A channel counts the messages that it moves, each of one frame; all others are counted here, by the
code that sends or reads them. No I/O and no lock: whoever counts holds the lock of the direction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

from .. import _kernel as kernel
from .opcodes import PING, PONG

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Sizes", "Sliced", "Tally", "count_sent", "payload_size"]


class Tally:
    """The counts of one direction.

    Attributes:
        messages: The messages.
        payload: Their bytes, before compression.
        frames: The frames: those of the messages, and control frames.
        wire: The bytes that went this way; on the way out those of the frames.
        original: The bytes of compressed messages, before compression.
        deflated: The same bytes, compressed.
        pings: The pings among the frames.
        pongs: The pongs among them.
    """

    __slots__ = (
        "deflated",
        "frames",
        "messages",
        "original",
        "payload",
        "pings",
        "pongs",
        "wire",
    )

    def __init__(self) -> None:
        self.messages = self.payload = self.frames = self.wire = 0
        self.original = self.deflated = self.pings = self.pongs = 0

    def whole(self, messages: int, payload: int) -> None:
        """Count messages of one frame each, but for all bytes."""
        self.messages += messages
        self.frames += messages
        self.payload += payload

    def assembled(self, frames: int, payload: int, deflated: int | None) -> None:
        """Count a message that was put together: see `Assembly.counts`."""
        self.messages += 1
        self.frames += frames
        self.payload += payload
        if deflated is not None:
            self.original += payload
            self.deflated += deflated

    def control(self, opcode: int) -> None:
        """Count a control frame, but for its bytes."""
        self.frames += 1
        if opcode == PING:
            self.pings += 1
        elif opcode == PONG:
            self.pongs += 1


class Sizes(NamedTuple):
    """How large frames are that are sent in slices.

    Attributes:
        payload: The bytes of their messages, before compression.
        wire: The bytes of the frames.
        original: Those of `payload` that were compressed.
        deflated: What these came to.
    """

    payload: int
    wire: int
    original: int = 0
    deflated: int = 0


class Sliced(Protocol):
    """Frames in slices, each valid until the next one is asked for."""

    def __iter__(self) -> Iterator[memoryview]: ...
    def sizes(self) -> Sizes:
        """How large the frames are. To be asked once all slices were given out."""


def payload_size(frame: bytes) -> int:
    """How many bytes of a whole frame are its payload."""
    header = kernel.parse_header(frame, 0, len(frame))
    assert header is not None
    return header[1]


def count_sent(tally: Tally, frame: bytes | Sliced, messages: int = 1, payload: int = -1) -> None:
    """Count frames that were sent; what is said of them is as in the kernel's `Channel.send`."""
    if not isinstance(frame, bytes):
        sizes = frame.sizes()
    else:
        sizes = Sizes(payload_size(frame) if payload < 0 else payload, len(frame))
    tally.messages += messages
    tally.frames += messages
    tally.payload += sizes.payload
    tally.wire += sizes.wire
    tally.original += sizes.original
    tally.deflated += sizes.deflated
