"""What a frame's first byte says: its bits, and the opcodes (RFC 6455 section 5.2).

No I/O, and nothing of this package is imported here. The kernel reads and writes the byte as it
is, and has a copy of what it has to know of it.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BINARY",
    "CLOSE",
    "COMPRESSED",
    "CONTINUATION",
    "FIN",
    "MOST_CONTROL",
    "PING",
    "PONG",
    "RESERVED",
    "TEXT",
    "WHOLE_BINARY",
    "WHOLE_TEXT",
]

FIN: Final = 0x80
"""The bit of a message's last frame."""
RESERVED: Final = 0x70
"""The bits that extensions may give a meaning."""
COMPRESSED: Final = 0x40
"""The one of them that permessage-deflate uses, on a message's first frame (RFC 7692 section 6)."""

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2
CLOSE: Final = 8
"""The first opcode of a control frame; those below are data."""
PING: Final = 9
PONG: Final = 10

MOST_CONTROL: Final = 125
"""The most bytes in the payload of a control frame (section 5.5)."""

WHOLE_TEXT: Final = FIN | TEXT
"""The first byte of a text message that is one frame."""
WHOLE_BINARY: Final = FIN | BINARY
"""The first byte of a binary message that is one frame."""
