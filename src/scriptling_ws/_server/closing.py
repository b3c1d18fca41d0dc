"""A close that is done once, whoever calls it, and what waits for it.

Rules:

- The first call does it, all others wait for that one; save for those that it waits for itself,
  and a signal handler that has interrupted it.
- A call that an exception ends (a signal handler's) is none: the next one is the first again.
- What waits is let go before the callbacks are called, each of them once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._network.waiting import engine

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Closing"]


class Closing:
    """Whether something is open, closing or closed. Safe for any number of threads.

    Attributes:
        done: Set once it is closed.
    """

    def __init__(self, end: Callable[[], None], is_waited_for: Callable[[], bool]) -> None:
        """Be open.

        Args:
            end: Does what there is to do, and calls `finish`. It may be called again, to do what
                it has left to do.
            is_waited_for: Whether `end` waits for the caller.
        """
        self._end = end
        self._is_waited_for = is_waited_for
        # An RLock: a signal handler may call `run` inside of `run`.
        self._lock = engine().rlock()  # guards _closer and _callbacks
        self._closer = 0  # the thread that closes or has closed, 0 for none
        self._callbacks: list[Callable[[], None]] = []
        self.done = engine().event()

    def after_fork(self) -> None:
        """In a forked child: be closed."""
        self._lock = engine().rlock()
        self._closer = engine().identity()
        self.done = engine().event()
        self.done.set()

    def run(self) -> None:
        """Close, or wait until it is closed. Blocks."""
        this, first = engine().identity(), False
        try:
            with self._lock:
                first = not self._closer
                if first:
                    self._closer = this
            if first:
                self._end()
            elif self._closer != this and not self._is_waited_for():
                self.done.wait()
        except BaseException:
            if first:
                self._closer = 0
            raise

    def finish(self) -> None:
        """It is closed."""
        self.done.set()
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback()

    def call_when_done(self, callback: Callable[[], None]) -> None:
        """Call a function once it is closed; at once if it is."""
        with self._lock:
            if not self.done.is_set():
                self._callbacks.append(callback)
                return
        callback()
