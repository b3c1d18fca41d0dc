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
GATE = int(os.environ.get("SCRIPTLING_WS_GATE") or "128")  # active connections; the defaults of the
SPIN = int(os.environ.get("SCRIPTLING_WS_SPIN") or "50")  # microseconds; compiled one
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
