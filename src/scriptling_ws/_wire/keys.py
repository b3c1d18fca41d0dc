"""Masking keys (RFC 6455 section 5.3): unpredictable, fresh for each frame.

Rules:

- Every key comes from the operating system's entropy and is used once.
- They are drawn 1,024 at a time: one key costs a list's pop, not a system call.
- A forked child draws its own: the two must not send the same keys.
"""

from __future__ import annotations

import os
import struct
from typing import Final

__all__ = ["next_key"]

_DRAW: Final = 1024
_split = struct.Struct("4s" * _DRAW).unpack
_keys: list[bytes] = []  # list.pop is atomic, so no lock

if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_keys.clear)


def next_key() -> bytes:
    """Four bytes that were never given out before. Thread-safe."""
    while True:
        try:
            return _keys.pop()
        except IndexError:
            _keys.extend(_split(os.urandom(4 * _DRAW)))
