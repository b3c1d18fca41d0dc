"""What the libraries for asyncio share: an event loop of their own.

It is uvloop's where that is installed, as the libraries' own benchmarks have it.  A method
of an adapter enters the loop once, for all the messages of a measurement.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

T = TypeVar("T")


def new_event_loop() -> asyncio.AbstractEventLoop:
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    loop: asyncio.AbstractEventLoop = uvloop.new_event_loop()
    return loop


class EventLoop:
    """Runs coroutines to their end."""

    def __init__(self) -> None:
        self.loop = new_event_loop()
        asyncio.set_event_loop(self.loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; returns its result."""
        return self.loop.run_until_complete(work)
