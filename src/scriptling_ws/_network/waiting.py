"""The seam for waiting: everything that sleeps, locks or starts something to run beside it.

Rules:

- No other file of the package imports `threading`, `selectors` or `select`, or sleeps: it asks
  `engine()`. The tests hold the package to that.
- The engine is chosen once, when it is first asked for, not at import: a program may have patched
  `threading` by then. By default it is gevent (`greenlets`) in a process that gevent has patched,
  and threads (`threads`) in all others; `choose`, and SCRIPTLING_WS_ENGINE in the environment,
  say otherwise.
- An engine is asked for as an object is made, and anew in a forked child.

This file is the choice of an engine. What each has to provide is in `contract`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .contract import Engine

__all__ = ["READ", "WRITE", "choose", "engine", "forget", "is_patched", "patch", "use"]

READ: Final = 1
"""The event of a descriptor from which can be read, or whose stream has ended."""

WRITE: Final = 2
"""The event of a descriptor to which can be written."""

_engine: Engine | None = None


def engine() -> Engine:
    """The process's engine; made, if this is the first call."""
    return choose(None) if _engine is None else _engine


def choose(name: str | None) -> Engine:
    """Choose the process's engine.

    Args:
        name: "threads" or "gevent"; None for the one that is in use, or the default.

    Raises:
        TypeError: the name is no str.
        ValueError: there is no such engine.
        RuntimeError: another one is in use already.
        ImportError: gevent is not installed.
    """
    global _engine  # noqa: PLW0603  # the one there is
    if name is not None and not isinstance(name, str):
        raise TypeError(f"engine has to be a str or None, not {type(name).__name__}")
    if _engine is None:
        _engine = _make(name or os.environ.get("SCRIPTLING_WS_ENGINE") or _default())
    elif name is not None and name != _engine.name:
        _check(name)
        raise RuntimeError(
            f"this process has connections or servers on {_engine.name} already, so that it "
            f"cannot change to {name}: choose the engine before the first of them, or set "
            f"SCRIPTLING_WS_ENGINE={name} in its environment"
        )
    return _engine


def patch() -> None:
    """Have gevent patch the standard library, for good: before anything waits.

    Raises:
        ImportError: gevent is not installed.
    """
    from . import greenlets

    greenlets.patch()


def is_patched() -> bool:
    """Whether gevent has patched the process, which would stand still in a thread's wait."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def _default() -> str:
    return "gevent" if is_patched() else "threads"


def _check(name: str) -> None:
    if name not in ("threads", "gevent"):
        raise ValueError(f"there is no engine {name!r}: it is 'threads' or 'gevent'")


def _make(name: str) -> Engine:
    _check(name)
    if name == "threads":
        from .threads import Threads  # not at import: see above

        return Threads()
    try:
        from .greenlets import Greenlets
    except ImportError as error:
        raise ImportError(
            f"the engine 'gevent' needs gevent: pip install 'scriptling-ws[gevent]' ({error})"
        ) from error
    return Greenlets()


@contextlib.contextmanager
def use(other: Engine) -> Iterator[None]:
    """Have another engine for a while: for tests. What was made before keeps its own."""
    global _engine  # noqa: PLW0603  # the one there is
    before, _engine = _engine, other
    try:
        yield
    finally:
        _engine = before


def forget() -> None:
    """Have the engine chosen anew: in a forked child that begins as a process of its own."""
    global _engine  # noqa: PLW0603  # the one there is
    _engine = None
