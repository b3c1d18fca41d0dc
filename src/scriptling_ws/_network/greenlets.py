"""Waiting with gevent: all tasks are greenlets, which share a thread and its event loop.

What each call promises is said in `contract`.

Rules:

- Imported when this engine is chosen: gevent is an extra, and costs nobody else a thing.
- A task that receives waits at its connection's `Parking`: one watcher of the descriptor for the
  connection's life, whose callback switches straight to the task. Nothing is started and stopped
  for a wait, no timer either (see there).
- What may block the thread goes to gevent's thread pool: lookups of names and the disk. What a
  handler calls beside this package is its own: it lets the others run if gevent has patched it.
- A callback of the loop runs in the hub, which waits for nobody. What may fail in one is caught
  there.
- Locks are the kernel's: taken without a call if they are free, else waited for as greenlets do.
"""

from __future__ import annotations

import functools
import math
import selectors
import threading
import time
from types import MethodType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import gevent
from gevent.event import Event
from gevent.hub import MAIN_THREAD_IDENT, Waiter
from gevent.lock import BoundedSemaphore, RLock, Semaphore
from gevent.monkey import get_original, is_module_patched, patch_all
from gevent.resolver.blocking import Resolver
from gevent.selectors import GeventSelector
from greenlet import getcurrent, greenlet

from .. import _kernel as kernel
from .alarm import Waker

if TYPE_CHECKING:
    from collections.abc import Callable

    from .deadline import Deadline

__all__ = ["Greenlets", "patch"]

_T = TypeVar("_T")

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE  # by chance libev's numbers too
_MANY: Final = 65_536  # descriptors in a poller
# A turn of the loop. With 0 gevent runs fifty tasks that rest, and looks at neither the clock nor
# the sockets meanwhile.
_TURN: Final = 1e-6
_LOOK: Final = 0.005  # seconds between two looks at a task of another thread
_BEAT: Final = 0.05  # seconds between two looks at how late the loop is
_HELD: Final = 0.1  # seconds for which a task may keep the others from running, untold
_get_ident: Final = get_original("_thread", "get_ident")
# The main thread's; `threading` has that of its greenlet once gevent has patched it.
_main_thread: Final = (
    MAIN_THREAD_IDENT if is_module_patched("threading") else threading.main_thread().ident
)


def _forever(timeout: float) -> float | None:
    """A timeout as `threading` has it, -1 for ever, as gevent has it."""
    return None if timeout == -1 else timeout


class _Lock(BoundedSemaphore):  # type: ignore[misc]  # gevent has no types
    """A lock for the pure kernel, which has none itself."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        return bool(super().acquire(blocking, _forever(timeout)))

    def release(self) -> int:
        try:
            return int(super().release())
        except ValueError as error:
            raise RuntimeError("release unlocked lock") from error


class _RLock(RLock):  # type: ignore[misc]
    """A lock of its holder's for the pure kernel, with the timeouts of `threading`."""

    __slots__ = ()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        return bool(super().acquire(blocking, _forever(timeout)))


class _Task(gevent.Greenlet):  # type: ignore[misc]
    """A greenlet with what is asked of a thread."""

    # Where it was started gevent would keep for as long as it runs: that is always the same place.
    spawning_stack_limit = 0

    def __init__(self, body: Callable[[], object], name: str) -> None:
        if isinstance(body, MethodType):  # as most are; its call would cost C stack that is kept
            if kernel.on_kept_stack is None:
                super().__init__(body.__func__, body.__self__)
            else:
                super().__init__(kernel.on_kept_stack, body.__func__, body.__self__)
        else:
            super().__init__(body)
        self.name = name

    def is_alive(self) -> bool:
        """Whether it has not ended."""
        return not self.ready()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended; from another thread, which cannot be switched to, by looking."""
        if gevent.get_hub() is self.parent:
            super().join(timeout)
            return
        end = math.inf if timeout is None else time.monotonic() + timeout
        while not self.ready() and (left := end - time.monotonic()) > 0:
            gevent.sleep(min(left, _LOOK))


def _for_the_pool(function: Callable[[], _T]) -> Callable[[], _T]:
    """What a thread of the pool is to call: there a patched lookup blocks.

    Else it would use a pool of its thread's own, for which a forked child of the process waits.
    """

    def call() -> _T:
        hub = gevent.get_hub()
        if not isinstance(hub.resolver, Resolver):
            hub.resolver = Resolver()
        return function()

    return call


def _rest() -> None:
    gevent.sleep(_TURN)


def _identity() -> int:
    """The greenlet's number."""
    return id(getcurrent())


def _share(weight: int, /) -> None:
    """As `Engine.share`."""
    kernel.share(weight, _rest)


def _end(hub: Any, *watchers: Any) -> None:
    """Stop watchers in the thread of their loop, which no other may touch while that lives."""

    def end() -> None:
        for watcher in watchers:
            watcher.stop()
            watcher.close()

    if hub.loop is None:
        return  # it was destroyed, and they with it
    if hub.dead or hub.thread_ident == _get_ident():
        end()
    else:
        hub.loop.run_callback_threadsafe(end)


class Parking(kernel.Place):
    """Where the one task that receives on a socket waits.

    The watcher goes on watching when the task has left. If something comes while nobody waits, it
    is stopped until somebody does: it would fire in each turn of the loop.

    The timer is started for the first wait that has an end, and left as it is if a later wait ends
    after that: when it fires too early for the wait of that time, it is set for the rest. So of a
    thousand receives with a timeout of 30 s one or two start a timer.
    """

    __slots__ = ("__weakref__", "_fileno", "_timer")

    def __init__(self, fileno: int) -> None:
        # greenlet's own, not the hub's: what that does first is nothing for a task, but two calls.
        super().__init__(gevent.get_hub, getcurrent, greenlet.switch)
        self._fileno = fileno
        self._timer: Any = None

    def wake(self) -> None:
        """As `contract.Parking.wake`."""
        self.woken = True
        hub = self.hub
        if hub is not None and self.task is not None and hub.loop is not None:
            hub.loop.run_callback_threadsafe(self._on_wake)

    def rest(self) -> None:
        """As `contract.Parking.rest`."""
        _rest()

    def close(self) -> None:
        """As `contract.Parking.close`."""
        self.woken = True
        self._let_go()

    def move(self, hub: Any, /) -> None:
        """Wait in another thread than before, whose loop is another one."""
        self._let_go()
        self.hub = hub
        self.watcher = hub.loop.io(self._fileno, _READ)

    def set_timer(self, until: float, /) -> None:
        """Have the timer fire then, and not when it would have."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
        self.fires = until
        self._timer = self.hub.loop.timer(max(until - time.monotonic(), 0.0))
        self._timer.start(self._on_time, update=True)

    def _let_go(self) -> None:
        watcher, self.watcher, self.watching = self.watcher, None, False
        timer, self._timer, self.fires = self._timer, None, math.inf
        hub, self.hub = self.hub, None
        if hub is not None:
            _end(hub, *(each for each in (watcher, timer) if each is not None))

    # -- callbacks of the loop: they run in the hub ------------------------

    def _on_time(self) -> None:
        self.fires = math.inf
        if self.task is None or self.until == math.inf:
            return  # the next wait that has an end sets it again
        if self.until > time.monotonic():
            self.set_timer(self.until)
        else:
            self.late = True
            self.task.switch()

    def _on_wake(self) -> None:
        if self.task is not None and self.wakeable:
            self.task.switch()


class _Beat:
    """Tells of tasks that keep the others from running."""

    def __init__(self, tell: Callable[[float, str], object]) -> None:
        self._tell = tell
        self._last = time.monotonic()
        self._hub = gevent.get_hub()
        self._timer = self._hub.loop.timer(_BEAT, _BEAT, ref=False)
        self._timer.start(self._look, update=True)

    def _look(self) -> None:
        now = time.monotonic()
        held, self._last = now - self._last - _BEAT, now
        if held > _HELD:
            self._tell(held, getattr(kernel.last_resumed(), "name", ""))

    def close(self) -> None:
        """Tell no more."""
        _end(self._hub, self._timer)


_new_lock: Final[Callable[[], Any]] = (
    _Lock if kernel.Lock is None else functools.partial(kernel.Lock, Semaphore)
)
_new_rlock: Final[Callable[[], Any]] = (
    _RLock if kernel.RLock is None else functools.partial(kernel.RLock, Semaphore, getcurrent)
)


def patch() -> None:
    """Have gevent put its own in place of what blocks in the standard library, for good."""
    patch_all()


class Greenlets:
    """Each task is a greenlet, and one that waits lets the others run."""

    __slots__ = ()

    name: Final = "gevent"
    naps: Final = False
    fresh: Final = None
    lock = staticmethod(_new_lock)
    rlock = staticmethod(_new_rlock)
    event = staticmethod(Event)
    # Functions, not methods: each part of a connection that has one would make an object of it.
    identity = staticmethod(_identity)
    share = staticmethod(_share)
    current = staticmethod(getcurrent)
    sleep = staticmethod(gevent.sleep)
    waker = staticmethod(Waker)

    def parking(self, sock: Any, /) -> Parking:
        """Make a place to wait at."""
        return Parking(sock.fileno())

    def hears_signals(self) -> bool:
        """Whether this is a greenlet of the main thread: Python runs signal handlers there."""
        return bool(_get_ident() == _main_thread)

    def spawn(self, body: Callable[[], object], name: str) -> _Task:
        """Start a greenlet, which begins once this one waits."""
        task = _Task(body, name)
        task.start()
        return task

    def wait(self, fileobj: Any, events: int, deadline: Deadline, waker: Any = None) -> None:
        """Wait in the loop; see `Engine.wait`."""
        hub, seconds = gevent.get_hub(), deadline.left()
        waiter, loop = Waiter(hub), hub.loop
        watchers = [loop.io(fileobj.fileno(), events)]
        if waker is not None:
            watchers.append(loop.io(waker.fileno(), _READ))
        try:
            for watcher in watchers:
                watcher.start(waiter.switch, True)
            if seconds is not None:
                watchers.append(loop.timer(seconds))
                watchers[-1].start(waiter.switch, False, update=True)
            if not waiter.get():
                deadline.waited(seconds)
        finally:
            for watcher in watchers:
                watcher.stop()
                watcher.close()

    def poller(self, *, many: bool = False) -> GeventSelector:  # noqa: ARG002 - one is as good
        """gevent's own, over the same loop."""
        return GeventSelector()

    def capacity(self, poller: object, /) -> int:  # noqa: ARG002 - the contract's
        """As good as any number."""
        return _MANY

    def in_worker(self, function: Callable[[], _T], seconds: float | None, name: str) -> _T | None:  # noqa: ARG002
        """Call it on a thread of gevent's pool."""
        result = gevent.get_hub().threadpool.spawn(_for_the_pool(function))
        result.wait(seconds)
        value: _T | None = result.value if result.successful() else None
        return value

    def blocking(self, function: Callable[[], _T]) -> _T:
        """Call it on a thread of gevent's pool: the other greenlets go on."""
        result: _T = gevent.get_hub().threadpool.apply(_for_the_pool(function))
        return result

    def watch(self, tell: Callable[[float, str], object]) -> _Beat:
        """As `Engine.watch`."""
        return _Beat(tell)
