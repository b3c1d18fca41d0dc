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

where `lock` is a local name: a fork inside may have given the connection another one. `holding`
does that around a call. Where the call would cost too much (`tls`, and the kernel's channel in
Python) it is written out, with an iterable that is made once: see `turns`.
"""

from __future__ import annotations

from itertools import repeat, starmap
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .contract import Lock, RLock

__all__ = ["attempt", "holding", "turns"]

_T = TypeVar("_T")

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


def holding(
    lock: Lock, body: Callable[[], _T], timeout: float | None = 0.0, *, wanted: bool = True
) -> _T | None:
    """Call `body` holding a lock, if that can be taken in time.

    Args:
        lock: The lock.
        body: Called without arguments.
        timeout: Seconds to try, None for ever, 0 not to wait.
        wanted: Whether to try at all.

    Returns:
        What `body` returns; None if the lock was not taken.
    """
    got = False
    try:
        for got in attempt(lock, timeout, wanted=wanted):  # noqa: B007 - used below
            break
        return body() if got else None
    finally:
        if got:
            lock.release()


def turns(lock: RLock) -> Iterable[bool]:
    """As `attempt`, waiting for ever: made once, and taken from any number of times.

    `iter(lock.acquire, False)` would do so on CPython alone: PyPy makes a generator of it,
    in which there can be but one thread.
    """
    return starmap(lock.acquire, _WAITING)
