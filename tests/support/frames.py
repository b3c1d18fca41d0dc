"""Frames by hand, as RFC 6455 section 5.2 draws them: for tests, fuzz targets and the soak test.

Nothing of the package is used here, nor of pytest.
"""

from __future__ import annotations

import os

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10  # opcodes


def xor(data: bytes, key: bytes, offset: int = 0) -> bytes:
    """RFC 6455 section 5.3, as one number."""
    turned = key[offset % 4 :] + key[: offset % 4]
    repeated = (turned * (len(data) // 4 + 1))[: len(data)]
    masked = int.from_bytes(data, "big") ^ int.from_bytes(repeated, "big")
    return masked.to_bytes(len(data), "big")


def header(first: int, length: int, key: bytes | None = None, form: int | None = None) -> bytes:
    """A frame's header; `form` (7, 16 or 64 bits) overrides the shortest one."""
    if form is None:
        form = 7 if length < 126 else 16 if length < 65536 else 64
    mask_bit = 0 if key is None else 128
    coded = {7: length, 16: 126, 64: 127}[form]
    extended = b"" if form == 7 else length.to_bytes(form // 8, "big")
    return bytes([first, mask_bit | coded]) + extended + (key or b"")


def raw_frame(first: int, payload: bytes, key: bytes | None = None) -> bytes:
    """A whole frame by its first byte, masked with a key."""
    return header(first, len(payload), key) + (xor(payload, key) if key else payload)


def frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, mask: bool = False, rsv: int = 0
) -> bytes:
    """A whole frame by what its first byte says, masked with a key that nobody knows."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    return raw_frame(first, payload, os.urandom(4) if mask else None)


def close_frame(code: int = 1000, reason: bytes = b"", *, mask: bool = False) -> bytes:
    """A close frame."""
    return frame(CLOSE, code.to_bytes(2, "big") + reason, mask=mask)
