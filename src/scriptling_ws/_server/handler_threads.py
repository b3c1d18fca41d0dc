"""Handlers' threads, each of which may run another handler after the one before.

Rules:

- Starting and ending a thread takes longer than all system calls of a short connection together.
  So one whose handler has ended waits for the next for a moment. At most `MOST` wait.
- A handler finds its thread as a new one: what the one before has kept in a `threading.local`, in a
  context variable or as an attribute of its Thread is dropped before, and on that thread, however
  long that takes. (Its identity is that of the one before, as it may be of any two threads.)
- Where the engine cannot do that (gevent, whose tasks cost little; the pure kernel), each handler
  has a task of its own.
- `dismiss` ends those that wait. Those that are at their very end are known, so that a server that
  closes can wait for them too.

`_lock` guards all but the start of a task.
"""

from __future__ import annotations

import sys
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final

from .._network.waiting import engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._network.contract import Task

    Spawn = Callable[[Callable[[], None], str], Task]

__all__ = ["MOST", "REST", "HandlerThreads"]

MOST: Final = 64
"""How many threads may wait for a handler."""

REST: Final = 1.0
"""Seconds for which each waits."""

_NAME: Final = "scriptling-ws waiting for a handler"
# What a new thread begins with: nothing, or (free-threaded CPython 3.14) what its starter has.
_new_context: Final[Callable[[], Context]] = (
    copy_context if getattr(sys.flags, "thread_inherit_context", False) else Context
)


class HandlerThreads:
    """The handlers' threads of one server. Safe for any number of threads."""

    def __init__(self) -> None:
        self._fresh = engine().fresh
        self._lock = engine().lock()
        self._waiting: list[_Hand] = []
        self._ending: dict[Task, None] = {}  # whose handler has ended, and that do not wait
        self._over = False

    def start(self, body: Callable[[], None], name: str, spawn: Spawn) -> Task:
        """Run something on a thread that waits, or on a new one. Does not block.

        Args:
            body: What to run; its last call is `leave`.
            name: The thread's name meanwhile.
            spawn: Starts a new thread.

        Raises:
            RuntimeError, MemoryError: none can be started.
        """
        with self._lock:
            if self._ending:
                self._forget_ended()
            hand = self._waiting.pop() if self._waiting else None
        if hand is None:
            if self._fresh is None:
                return spawn(body, name)
            return spawn(_Hand(self, body, self._fresh).run, name)
        hand.body, hand.task.name = body, name
        task: Task = hand.task
        hand.bell.release()
        return task

    def leave(self) -> None:
        """What the calling thread was started for is done, but for what is the thread's own."""
        with self._lock:
            self._ending[engine().current()] = None

    def _forget_ended(self) -> None:
        """Let go of threads that have ended: of two at a time, since one is started."""
        for _ in range(min(2, len(self._ending))):
            task = next(iter(self._ending))
            del self._ending[task]
            if task.is_alive():
                self._ending[task] = None

    def wait(self, hand: _Hand) -> bool:
        """Have a thread wait for its next body; False if it is to end. For that thread."""
        with self._lock:
            if self._over or len(self._waiting) >= MOST:
                return False
            self._ending.pop(hand.task, None)
            hand.task.name = _NAME
            self._waiting.append(hand)
        if hand.bell.acquire(timeout=REST):
            return True
        with self._lock:
            if hand in self._waiting:
                self._waiting.remove(hand)
                self._ending[hand.task] = None
                return False
        hand.bell.acquire()  # `start` or `dismiss` has it in hand, and rings
        return True

    def dismiss(self) -> None:
        """End the threads that wait, and each other one after its handler. Does not block."""
        with self._lock:
            self._over = True
            waiting, self._waiting = self._waiting, []
            self._ending.update((hand.task, None) for hand in waiting)
        for hand in waiting:
            hand.bell.release()

    def ending(self) -> list[Task]:
        """Those that are at their end, and perhaps some that have ended."""
        with self._lock:
            return list(self._ending)


class _Hand:
    """One thread that runs a body after another."""

    __slots__ = ("_all", "_fresh", "bell", "body", "task")

    def __init__(
        self, all_: HandlerThreads, body: Callable[[], None], fresh: Callable[[], object]
    ) -> None:
        self._all = all_
        self._fresh = fresh
        self.body: Callable[[], None] | None = body  # the next; None if there is none
        self.bell = engine().lock()  # taken; released once there is something to look at
        self.bell.acquire()
        self.task: Any = None  # a Thread, whose name may be set

    def run(self) -> None:
        """The thread's body."""
        self.task = engine().current()
        own = len(vars(self.task))
        while (body := self.body) is not None:
            self.body = None
            _new_context().run(body)
            del body
            for name in [*vars(self.task)][own:]:
                delattr(self.task, name)
            self._fresh()
            if not self._all.wait(self):
                break
