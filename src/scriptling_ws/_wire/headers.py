"""What a frame's header may say, and which frames go before a message.

Rules (RFC 6455 sections 5.1, 5.2, 5.4, 5.5; RFC 7692 section 6):

- A reserved bit is an error, but for RSV1 on a message's first frame where compression was agreed
  on.
- A client masks every frame, a server none.
- A control frame is whole, and has up to 125 bytes. It may come between the frames of a message.
- The first frame of a message says what it is; those that follow are continuations, and no other
  message begins before the last of them.

The kernel makes the same checks of the frames that it reads in runs. No I/O.
"""

from __future__ import annotations

from typing import Final

from .. import _kernel as kernel
from .._codes import CloseCode
from .._errors import Violation
from .opcodes import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    FIN,
    MOST_CONTROL,
    PING,
    PONG,
    RESERVED,
    TEXT,
)

__all__ = ["check_header", "lone_close", "messages_alone", "whole_controls"]

_MASKED_CLOSE: Final = FIN | CLOSE
_FEW: Final = 50  # frames, among which to look for a ping
_OVERHEAD: Final = 6  # bytes of a masked control frame beside its payload


def check_header(
    first: int, length: int, masked: bool, *, from_client: bool, inside: bool, inflates: bool
) -> None:
    """Check the header of a frame that came.

    Args:
        first: Its first byte.
        length: How many bytes of payload it announces.
        masked: Whether it is masked.
        from_client: Whether a client has sent it, which masks all of them.
        inside: Whether a message has begun, and goes on.
        inflates: Whether a message may be compressed.

    Raises:
        Violation: 1002.
    """
    opcode = first & 0x0F
    if first & RESERVED and not (
        inflates and first & RESERVED == COMPRESSED and opcode in (TEXT, BINARY)
    ):
        raise _error("a reserved bit is set")
    if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
        raise _error(f"unknown opcode {opcode}")
    if masked is not from_client:
        raise _error(f"a frame is {'not ' if from_client else ''}masked")
    if opcode >= CLOSE:
        if not first & FIN or length > MOST_CONTROL:
            raise _error("a control frame is fragmented or over 125 bytes")
        return
    if opcode == CONTINUATION and not inside:
        raise _error("a continuation without a message")
    if opcode != CONTINUATION and inside:
        raise _error("a new message inside a fragmented one")


def _error(text: str) -> Violation:
    return Violation(CloseCode.PROTOCOL_ERROR, text)


def whole_controls(data: bytes) -> int:
    """How many bytes the whole control frames take that stand in front.

    What no frame can begin with counts as one of them, with all that follows: it is an error,
    which no message comes before.
    """
    at = 0
    try:
        while (header := kernel.parse_header(data, at, len(data))) is not None:
            first, length, payload, _ = header
            if first & 0x0F < CLOSE or (length <= MOST_CONTROL and payload + length > len(data)):
                break
            at = payload + length
    except ValueError:
        at = len(data)
    return min(at, len(data))


def messages_alone(data: bytes) -> bool:
    """Whether frames of messages are all that is in there, as far as it goes; False too if many."""
    at = 0
    try:
        for _ in range(_FEW):
            header = kernel.parse_header(data, at, len(data))
            if header is None:
                return True
            first, length, payload, _ = header
            at = payload + length
            if first & 0x0F >= CLOSE:
                return False
            if at >= len(data):
                return True
    except ValueError:
        pass
    return False


def lone_close(window: kernel.Window) -> bytes | None:
    """The payload of a masked close frame that is all that the window has from where it stopped.

    Returns:
        None if something else is there.
    """
    if window.stopped is None:
        return None
    start, end, _ = window.stopped
    data, size = window.data, end - start - _OVERHEAD
    if (
        not 0 <= size <= MOST_CONTROL
        or data[start] != _MASKED_CLOSE
        or data[start + 1] != 0x80 | size
    ):
        return None
    head = start + _OVERHEAD
    return kernel.apply_mask(bytes(data[head:end]), bytes(data[start + 2 : head]))
