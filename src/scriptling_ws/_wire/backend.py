"""What compresses: zlib, or zlib-ng where it is installed (the extra `speed`).

Rules:

- It compresses alone. What is inflated, and refused, and how much memory that takes, is the same
  with either: a peer can see the difference in nothing but how many bytes it is sent.
- It is loaded when something is first compressed. Without a GIL it is zlib all the same: a module
  that is not declared ready for that would switch the GIL on.

zlib-ng has the functions and the levels of zlib, its own trade of size for speed within each, and
contexts that are larger: see `deflate`.
"""

from __future__ import annotations

import sys
import zlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["chosen", "compressobj", "use"]

_chosen: list[Any] = []  # the module, once it was chosen


def _choose() -> Any:
    if getattr(sys, "_is_gil_enabled", lambda: True)():
        try:
            from zlib_ng import zlib_ng
        except ImportError:
            pass
        else:
            return zlib_ng
    return zlib


def use(module: Any) -> None:
    """Compress with a module that has zlib's functions; None to choose anew."""
    _chosen[:] = [] if module is None else [module]


def chosen() -> Any:
    """The module that compresses."""
    if not _chosen:
        _chosen[:] = [_choose()]
    return _chosen[0]


def compressobj(level: int, bits: int) -> zlib._Compress:
    """What compresses raw deflate in a window of 2**bits bytes."""
    make: Callable[..., zlib._Compress] = chosen().compressobj
    return make(level=level, wbits=-bits, memLevel=max(1, bits - 7))
