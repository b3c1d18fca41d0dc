"""What a way of waiting has to provide: an engine, and what it makes.

Rules:

- A lock, an event or a poller is used with the engine that made it.
- Whatever an engine waits for, an exception out of a signal handler may end the wait. What is
  taken by then is taken: locks are acquired in the way of `locks`.

The ways there are: `threads`, `greenlets`; and one of the tests. `waiting` has the choice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any

    from .deadline import Deadline

__all__ = [
    "Closeable",
    "Descriptor",
    "Engine",
    "Event",
    "Key",
    "Lock",
    "Parking",
    "Poller",
    "RLock",
    "Task",
    "Waker",
]

_T = TypeVar("_T")


class RLock(Protocol):
    """A lock that the task that holds it may take again, and has to release as often."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take it, within so many seconds if it is asked to wait; -1 for ever."""

    def release(self) -> None:
        """Let go of it once. Never waits."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None: ...


class Lock(RLock, Protocol):
    """A lock that is taken once, and may be released by another task."""

    def locked(self) -> bool:
        """Whether it is taken, by whichever task."""


class Event(Protocol):
    """What is waited for until it is set."""

    def set(self) -> None:
        """Let those go on that wait, from now on."""

    def is_set(self) -> bool:
        """Whether it was set."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for so many seconds, None for ever; whether it was."""


class Task(Protocol):
    """What runs beside the others, such as a thread."""

    @property
    def name(self) -> str:
        """The name that it was started with."""

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, for so many seconds, None for ever."""

    def is_alive(self) -> bool:
        """Whether it has not ended."""


class Descriptor(Protocol):
    """What has a descriptor that can be waited for."""

    def fileno(self) -> int:
        """The descriptor."""


class Waker(Descriptor, Protocol):
    """A descriptor that is readable from the first `set` on, for ever."""

    def set(self) -> None:
        """Make it readable. From any task; never waits."""

    def close(self) -> None:
        """Close the descriptor. May be called again."""


class Parking(Protocol):
    """Where the one task that receives on a socket waits, while others run on its thread."""

    def park(self, until: float, wakeable: bool, /) -> bool:
        """Wait until something may have come; what it is, the caller finds out.

        Args:
            until: Until when, on the clock of time.monotonic; infinity for ever.
            wakeable: Return too when `wake` is or has been called.

        Returns:
            Whether that time has come.
        """

    def wake(self) -> None:
        """Have every wakeable `park` return, now and from now on. From any task or thread."""

    def rest(self) -> None:
        """Let the other tasks run."""

    def close(self) -> None:
        """Let go of the descriptor, which is about to be closed. May be called again."""


class Closeable(Protocol):
    """What is ended by `close`."""

    def close(self) -> None:
        """End it."""


class Key(Protocol):
    """What a poller knows of a descriptor."""

    @property
    def data(self) -> Any:
        """What it was registered with."""


class Poller(Protocol):
    """Waits for many descriptors, which are registered once: what is used of `selectors`."""

    def register(self, fileobj: int | Descriptor, events: int, data: Any = None) -> Key:
        """Wait for these events of a descriptor too, from now on."""

    def modify(self, fileobj: int | Descriptor, events: int, data: Any = None) -> Key:
        """Wait for other events of a descriptor that is registered."""

    def unregister(self, fileobj: int | Descriptor) -> Key:
        """Wait for it no more."""

    def select(self, timeout: float | None = None) -> list[tuple[Any, int]]:
        """Wait until something has come, for so many seconds; keys, and their events."""

    def get_key(self, fileobj: int | Descriptor) -> Key:
        """What is known of a descriptor that is registered."""

    def get_map(self) -> Mapping[Any, Any]:
        """Keys by descriptors."""

    def close(self) -> None:
        """Let go of what the system keeps for it."""


class Engine(Protocol):
    """A way of waiting.

    Attributes:
        name: By which `choose` knows it.
        naps: Whether a task may sleep in a system call for a moment, as in `recv` on a blocking
            socket, and the others go on meanwhile.
        fresh: Makes the task that calls as a new one: drops what it has in a `threading.local`.
            None where a task is not to be used again.
    """

    @property
    def name(self) -> str: ...

    @property
    def naps(self) -> bool: ...

    @property
    def fresh(self) -> Callable[[], object] | None: ...

    def parking(self, sock: Descriptor, /) -> Parking | None:
        """Make the place where a task waits to receive; None where `wait` is as good."""

    def lock(self) -> Lock:
        """Make a lock."""

    def rlock(self) -> RLock:
        """Make a lock that its holder may take again: a signal handler that interrupts it."""

    def event(self) -> Event:
        """Make an event, which is not set."""

    def identity(self) -> int:
        """A number that no other running task has; never 0."""

    def current(self) -> Task:
        """The task that calls, also one that was not started here."""

    def hears_signals(self) -> bool:
        """Whether the task that calls is the one that signal handlers interrupt."""

    def spawn(self, body: Callable[[], object], name: str) -> Task:
        """Start a task. The program ends without waiting for it.

        Args:
            body: What it runs; an exception of it is reported as the engine reports them.
            name: Its name, which others may bear too.

        Raises:
            RuntimeError: none can be started, as in a subinterpreter or at the program's end.
            MemoryError: likewise.
        """

    def sleep(self, seconds: float, /) -> None:
        """Let so many seconds pass."""

    def waker(self) -> Waker:
        """Make what ends a `wait`.

        Raises:
            OSError: no descriptor is left.
        """

    def share(self, weight: int, /) -> None:
        """Count what the task is about to do without waiting.

        Where tasks share a thread, the others run before that if enough was done since they
        could. So what ends this, such as a timeout of the task's own, comes before it is done.

        Args:
            weight: What it counts: a message one, a read or a slow send some more.
        """

    def wait(
        self, fileobj: Descriptor, events: int, deadline: Deadline, waker: Waker | None = None
    ) -> None:
        """Sleep until something may have changed; the caller finds out what, if anything.

        It may return early, and does where signals are heard: a signal that arrives just before
        the system call, or in another thread, does not interrupt that. Its handler, which may
        close what is waited for, runs once it has returned.

        Args:
            fileobj: Whose events to wait for.
            events: READ, WRITE, or both.
            deadline: Return then at the latest; it is told of a wait that has timed out.
            waker: Return too when this is or has been set.
        """

    def poller(self, *, many: bool = False) -> Poller:
        """Make a poller.

        Args:
            many: It is for thousands of descriptors, each closed only after `unregister`. It may
                cost a descriptor itself.

        Raises:
            OSError: no descriptor is left.
        """

    def capacity(self, poller: Any, /) -> int:
        """How many descriptors a poller takes, about."""

    def in_worker(self, function: Callable[[], _T], seconds: float | None, name: str) -> _T | None:
        """Call a function that cannot be interrupted, and leave it behind if it takes too long.

        Where nothing can be started beside the caller, it is called here, for as long as it takes.

        Args:
            function: Called without arguments; is not to raise.
            seconds: How long to wait for it, None for ever.
            name: The worker's name.

        Returns:
            What it has returned; None if it has not in time.
        """

    def blocking(self, function: Callable[[], _T]) -> _T:
        """Call a function that a disk or a name server may delay, and that has no deadline.

        Returns:
            What it returns; what it raises, this raises.
        """

    def watch(self, tell: Callable[[float, str], object]) -> Closeable | None:
        """Tell of tasks that keep the others from running, where one can.

        Args:
            tell: Called in the midst of what else runs, with the seconds for which nothing else
                could, and the name of the task that was let run last, as far as that is known;
                has to return at once.

        Returns:
            What ends it; None where no task can hold up others.
        """
