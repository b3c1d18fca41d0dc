"""Waiting with threads: the default engine. What each call promises is said in `contract`.

Rules:

- Imported when an engine is first asked for, so that it sees what a program has patched by then,
  as gevent does.
- Calls that are made for each message are the interpreter's own functions, without Python code
  around them.
- A wait for one descriptor costs no descriptor, and no object of `selectors`.
- Locks are the kernel's, which a channel takes without a call, unless a program has patched
  `threading`: then a lock that blocks its thread would block all that run on it.
"""

from __future__ import annotations

import select
import selectors
import threading
import time
from math import ceil
from typing import TYPE_CHECKING, Any, Final, TypeVar

from .. import _kernel as kernel
from .alarm import Waker

if TYPE_CHECKING:
    from collections.abc import Callable

    from .deadline import Deadline

__all__ = ["Threads"]

_T = TypeVar("_T")

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
_LOOK_UP: Final = 1.0  # seconds for which the main thread sleeps at a time: see `Engine.wait`
_FEW: Final = 400  # select() takes 512 descriptors on Windows
_MANY: Final = 65_536  # elsewhere the number of descriptors decides
# poll, where there is one: select fails on descriptors from 1024 on, and epoll
# costs a descriptor and three system calls for a single wait.
_Selector: Final = getattr(selectors, "PollSelector", selectors.SelectSelector)


class _Select:
    """`select`, called as `poll` is, with the events of `selectors`: for Windows."""

    __slots__ = ("_reading", "_writing")

    def __init__(self) -> None:
        self._reading: list[Any] = []
        self._writing: list[Any] = []

    def register(self, fileobj: Any, events: int) -> None:
        if events & _READ:
            self._reading.append(fileobj)
        if events & _WRITE:
            self._writing.append(fileobj)

    def poll(self, milliseconds: float | None) -> bool:
        seconds = None if milliseconds is None else milliseconds / 1000
        # The third: where a connection fails, Windows shows that there alone.
        return any(select.select(self._reading, self._writing, self._writing, seconds))


_Poll: Final = getattr(select, "poll", _Select)
# From the events of `selectors`, by their numbers, to those of `poll`.
_EVENTS: Final = tuple(
    (getattr(select, "POLLIN", _READ) if events & _READ else 0)
    | (getattr(select, "POLLOUT", _WRITE) if events & _WRITE else 0)
    for events in (0, _READ, _WRITE, _READ | _WRITE)
)


# The interpreter's own lock, where nobody has put another in its place.
_NATIVE: Final = type(threading.Lock()).__module__ == "_thread"
_REUSED: Final = kernel.forget_locals is not None and _NATIVE  # else a thread is not used again
_new_lock: Final[Callable[[], Any]] = (
    kernel.Lock if kernel.Lock is not None and _NATIVE else threading.Lock
)


# `threading.RLock` is a function in Python, which only chooses.
_new_rlock: Final[Callable[[], Any]] = type(threading.RLock()) if _NATIVE else threading.RLock


class Threads:
    """Each task is a thread, and what blocks, blocks its thread."""

    __slots__ = ()

    name: Final = "threads"
    naps: Final = True
    lock = staticmethod(_new_lock)
    rlock = staticmethod(_new_rlock)
    event = staticmethod(threading.Event)
    identity = staticmethod(threading.get_ident)
    current = staticmethod(threading.current_thread)
    sleep = staticmethod(time.sleep)
    waker = staticmethod(Waker)
    fresh = staticmethod(kernel.forget_locals) if _REUSED else None

    def parking(self, sock: object, /) -> None:
        """A thread waits by itself."""

    def share(self, weight: int, /) -> None:
        """A thread keeps no other from running."""

    def hears_signals(self) -> bool:
        """Whether this is the main thread: Python runs signal handlers in no other."""
        return threading.current_thread() is threading.main_thread()

    def spawn(self, body: Callable[[], object], name: str) -> threading.Thread:
        """Start a daemon thread."""
        thread = threading.Thread(target=body, name=name, daemon=True)
        thread.start()
        return thread

    def wait(self, fileobj: Any, events: int, deadline: Deadline, waker: Any = None) -> None:
        """Wait in `poll`; see `Engine.wait`."""
        if threading.current_thread() is threading.main_thread():
            deadline = deadline.sooner(_LOOK_UP)
        poll = _Poll()
        poll.register(fileobj, _EVENTS[events])
        if waker is not None:
            poll.register(waker, _EVENTS[_READ])
        seconds = deadline.left()
        if not poll.poll(None if seconds is None else ceil(seconds * 1000)):
            deadline.waited(seconds)

    def poller(self, *, many: bool = False) -> selectors.BaseSelector:
        """The best selector there is for many descriptors; else `poll`, which needs none itself."""
        selector: selectors.BaseSelector = selectors.DefaultSelector() if many else _Selector()
        return selector

    def capacity(self, poller: Any, /) -> int:
        """Some hundred for select(), else as good as any number."""
        return _FEW if isinstance(poller, selectors.SelectSelector) else _MANY

    def in_worker(self, function: Callable[[], _T], seconds: float | None, name: str) -> _T | None:
        """Call it on a daemon thread."""
        results: list[_T] = []

        def run() -> None:
            results.append(function())

        try:
            thread = self.spawn(run, name)
        except (RuntimeError, MemoryError):
            run()
        else:
            thread.join(seconds)
        return results[0] if results else None

    def blocking(self, function: Callable[[], _T]) -> _T:
        """Call it here: other threads go on."""
        return function()

    def watch(self, tell: Callable[[float, str], object]) -> None:
        """A thread holds up no other."""
