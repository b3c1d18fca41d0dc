"""What threads hand to an event loop of asyncio: the adapter for ASGI waits in one.

Rules:

- It is beside the engines: a handler blocks in an engine's event, the loop never waits for one.
- What is put into a Mailbox is put by any task or thread, and taken in the loop that has made it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

__all__ = ["Cancelled", "Mailbox", "in_a_loop", "together"]

_T = TypeVar("_T")

Cancelled = asyncio.CancelledError
"""What ends a coroutine that the server waits for no longer."""


def in_a_loop() -> bool:
    """Whether the caller runs in a loop of asyncio; else it is one of trio, say."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


class Mailbox(Generic[_T]):
    """What other threads have for one coroutine."""

    __slots__ = ("_came", "_items", "_loop")

    def __init__(self) -> None:
        """Belong to the running loop."""
        self._loop = asyncio.get_running_loop()
        self._items: deque[_T] = deque()
        self._came = asyncio.Event()

    def put(self, item: _T) -> None:
        """Hand something over. From any thread; does not wait. A closed loop takes nothing."""
        self._items.append(item)
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._came.set)

    async def take(self) -> _T:
        """What was put next."""
        while not self._items:
            self._came.clear()
            if not self._items:  # pragma: no branch - a race
                await self._came.wait()
        return self._items.popleft()

    def rest(self) -> list[_T]:
        """What was put, and never taken: the coroutine has ended."""
        left = list(self._items)
        self._items.clear()
        return left


async def together(
    first: Coroutine[Any, Any, object],
    other: Coroutine[Any, Any, object],
    stop: Coroutine[Any, Any, object],
) -> None:
    """Run three coroutines until the first or the third has ended, however the other one does.

    Raises:
        BaseException: what the first one has raised.
    """
    tasks = [asyncio.ensure_future(one) for one in (first, other, stop)]
    try:
        await asyncio.wait([tasks[0], tasks[2]], return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
