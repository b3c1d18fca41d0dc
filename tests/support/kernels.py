"""Both kernels for the tests, and the same work done the slow and obvious way."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

NAMES = {"compiled": "scriptling_ws._wsframe", "pure": "scriptling_ws._wsframe_py"}
KEY = b"\x12\x34\xab\xcd"
INT64_MAX = 2**63 - 1
TEXT, BINARY = 0x81, 0x82  # first bytes, with FIN
MIDDLE, LAST = 0x00, 0x80  # continuations


def load(name: str) -> ModuleType:
    """A kernel; skips where it was not built, unless it had to be."""
    try:
        return importlib.import_module(NAMES[name])
    except ImportError:
        if os.environ.get("SCRIPTLING_WS_EXTENSION") == "yes":
            raise
        pytest.skip("the compiled kernel is not built")


def xor(data: bytes, key: bytes, offset: int = 0) -> bytes:
    """RFC 6455, section 5.3, byte by byte."""
    return bytes(byte ^ key[(offset + i) % 4] for i, byte in enumerate(data))


def header(first: int, length: int, key: bytes | None = None, form: int | None = None) -> bytes:
    """RFC 6455, section 5.2; `form` (7, 16 or 64 bits) overrides the shortest one."""
    if form is None:
        form = 7 if length < 126 else 16 if length < 65536 else 64
    mask_bit = 0 if key is None else 128
    coded = {7: length, 16: 126, 64: 127}[form]
    extended = b"" if form == 7 else length.to_bytes(form // 8, "big")
    return bytes([first, mask_bit | coded]) + extended + (key or b"")


def frame(first: int, payload: bytes, key: bytes | None = None) -> bytes:
    """A whole frame."""
    return header(first, len(payload), key) + (xor(payload, key) if key else payload)
