"""What the command lines share: one benchmark at a time, a part of it, and word of its progress."""

from __future__ import annotations

import contextlib
import fcntl
import sys
import time
from fnmatch import fnmatch
from typing import TYPE_CHECKING, TypeVar

from .compiler import SCRATCH

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

T = TypeVar("T")


def say(text: str) -> None:
    """Progress goes to standard error; standard output is the report's."""
    print(text, file=sys.stderr, flush=True)


def timed(name: str, work: Callable[[], T]) -> T:
    started = time.monotonic()
    result = work()
    say(f"{name}: {time.monotonic() - started:.0f} s")
    return result


def chosen(names: Iterable[str], patterns: Sequence[str] | None) -> list[str]:
    """The names that have one of the patterns in them; all where there are none."""
    return [
        name
        for name in names
        if not patterns or any(fnmatch(name, f"*{each}*") for each in patterns)
    ]


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Wait until no other benchmark of this checkout runs."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with (SCRATCH / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another benchmark runs: waiting for its end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
