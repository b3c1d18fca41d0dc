"""Taking a lock so that a signal handler that raises cannot leave it taken.

A handler runs between two steps of the interpreter. Between `acquire` and `try`, or in an
`__exit__` written in Python, it would leave the lock taken for ever. A `for` notes in one
step that the lock was taken, and `release` is C: the handler runs before or after each. So

    got = False
    try:
        for got in attempt(lock):
            break
        ...
    finally:
        if got:
            lock.release()

where `lock` is a local name: a fork inside may have given the connection another one.
"""

from __future__ import annotations

from itertools import repeat, starmap
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._waiting import Lock, RLock

__all__ = ["attempt", "attempts", "turns"]

_WITHOUT_WAITING: Final = repeat((False,))
_WAITING: Final = repeat(())


def attempt(lock: Lock, timeout: float | None = 0.0, *, wanted: bool = True) -> Iterable[bool]:
    """Take a lock if that can be done in time.

    Args:
        lock: The lock.
        timeout: Seconds to try, None for ever, 0 not to wait.
        wanted: Whether to try at all.
    """
    if not wanted:
        return ()
    return map(lock.acquire, (True,), (-1.0 if timeout is None else timeout,))


def attempts(lock: Lock) -> Iterable[bool]:
    """As `attempt`, without waiting: made once, and taken from any number of times."""
    return starmap(lock.acquire, _WITHOUT_WAITING)


def turns(lock: RLock) -> Iterable[bool]:
    """As `attempts`, waiting for ever.

    `iter(lock.acquire, False)` would do so on CPython alone: PyPy makes a generator of it,
    in which there can be but one thread.
    """
    return starmap(lock.acquire, _WAITING)
