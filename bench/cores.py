"""Which processor cores a measurement uses; it decides what is measured.

`one`: client and far end share a core.  What a message costs on both sides adds up, and
nothing overlaps or waits.  This shows the library's own cost most clearly, and repeats
best.  The far end's part is the same for every library.

`two`: a core each.  The client has its core to itself, and works while the far end does.
This is how a stream comes from another machine.  But a side that has nothing to do sleeps,
and to wake it takes tens of microseconds on a virtual machine: more than a small message
costs, which makes all libraries look alike where they take turns.  And on the loopback
interface the sender does the receiver's part of TCP: a client that is fast enough waits for
the far end, which a figure then says.

`free`: wherever the system puts them, which may be either, and change at any time.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

CHOICES = {
    "one": "client and far end on one core",
    "two": "client and far end on a core each",
    "free": "on whichever cores the system chose",
}


def possible() -> list[str]:
    """The choices that can be made on this machine."""
    if not hasattr(os, "sched_setaffinity"):
        return ["free"]
    return ["one", "two"] if len(os.sched_getaffinity(0)) > 1 else ["one"]


def for_client(choice: str) -> set[int]:
    """The client's cores; empty for all."""
    if choice == "free":
        return set()
    # The first core is the one that most interrupts go to.
    return {max(os.sched_getaffinity(0))}


def for_far_end(choice: str) -> set[int]:
    """The far end's cores; empty for all."""
    return {min(os.sched_getaffinity(0))} if choice == "two" else for_client(choice)


@contextlib.contextmanager
def confined(cores: set[int]) -> Iterator[None]:
    """Processes started in this context stay on these cores."""
    if not cores:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
