"""The end of the server around the connections: they are told of it at once, with 1001.

Rules (RFC 6455 section 7.4.1):

- A worker that is told to end waits for its requests, and a WebSocket is one without an end. So
  a task of this process, one for all connections, notices the end and closes them.
- gunicorn's workers say so themselves (`alive`), for every reason that they have: a signal, a
  reload, `max_requests`. They are looked at, four times a second, while there are connections.
- Elsewhere SIGTERM is heard, and handed on to whoever has handled it, once the connections have
  closed, after half a second at the latest. Where that is nobody, the process ends by it, after a
  second at the latest. It is taken over with the first connection, not at import. Only the main
  thread can do that: if the connection is in another one, the interpreter is asked to have it
  done there, which it is soon.
- A program that simply ends (a reload of Werkzeug's, Ctrl-C) is heard by `atexit`.
- What has ended takes no more connections: 503.
- A forked child has none of them, and begins anew.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import signal
import sys
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

from .._codes import CloseCode
from .._handshakes.head import Refused
from .._network.alarm import Alarm
from .._network.deadline import FOREVER, Deadline
from .._network.fork import tell_after_fork
from .._network.waiting import READ, engine

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from .._network.contract import Task

__all__ = ["REASON", "Closing", "Ending", "Seat", "ending", "gunicorn_worker", "room_of"]

_logger = logging.getLogger("scriptling_ws.server")

REASON: Final = "the server is shutting down"
"""Why a connection is closed with 1001."""

_LOOK: Final = 0.25  # seconds between two looks at a worker
_GRACE: Final = 1.0  # seconds for the closing handshakes, where the process ends by a signal
_HAND_OVER: Final = 0.5  # the same, where somebody else hears the signal then
_STEP: Final = 0.02
_SOON: Final = [("Retry-After", "5")]
_FRAMES: Final = 100  # of a stack, in which a worker is looked for

_END: Final = 1


class Closing(Protocol):
    """What is told of the end."""

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call a function once it has closed."""

    def _begin_close(self, code: int, reason: str = "") -> None:
        """Start to close, without waiting."""


class Seat:
    """One of the places that there are: from before the upgrade until its handler has returned."""

    __slots__ = ("__weakref__", "_ending", "connection")

    def __init__(self, around: Ending) -> None:
        self._ending = around
        self.connection: Callable[[], Any] = _nobody

    def fill(self, connection: Closing, worker: Any = None) -> None:
        """The connection is open, and is to be told of the end.

        Args:
            connection: The connection.
            worker: gunicorn's worker, if it is one.
        """
        # One that a view has forgotten, and never closed, leaves too.
        self.connection = weakref.ref(connection, self._forget)
        self._ending._watch(connection, worker)

    @property
    def filled(self) -> bool:
        """Whether there has been a connection."""
        return self.connection is not _nobody

    def _forget(self, _: object) -> None:
        self.leave()

    def leave(self) -> None:
        """Give the place to another one. May be called again."""
        self._ending._leave(self)


def _nobody() -> None:
    """No connection yet."""


class Ending:
    """The connections of one process inside another server. Safe for any number of threads."""

    def __init__(self) -> None:
        self._engine = engine()
        # An RLock: a signal handler may interrupt its holder.
        self._lock = self._engine.rlock()  # guards all below
        self._seats: set[Seat] = set()
        self._worker: Any = None
        self._alarm: Alarm | None = None
        self._task: Task | None = None
        self._over = False
        self._previous: Any = None  # what has handled SIGTERM
        self._ended: weakref.WeakSet[Any] = weakref.WeakSet()  # those that were told
        self._owed = 0  # the signal by which the process is to end
        self._asked = False  # whether the main thread is about to take the signal over
        tell_after_fork(self)

    def _after_fork(self) -> None:
        global _ending  # noqa: PLW0603  # the process's own
        if self._alarm is not None:
            self._alarm.close()
        atexit.unregister(self._at_exit)
        if _ending is self:
            _ending = None

    @property
    def over(self) -> bool:
        """Whether the server ends."""
        return self._over or not getattr(self._worker, "alive", True)

    def take_seat(self, most: int | None, advice: str) -> Seat:
        """Make room for a connection, before it is accepted.

        Args:
            most: The most connections at a time, None for no limit.
            advice: What to do where there is room for none at all.

        Returns:
            Its seat, which somebody has to leave in the end.

        Raises:
            Refused: 503.
        """
        if self.over:
            raise Refused(503, REASON, _SOON)
        with self._lock:
            if most is not None and len(self._seats) >= most:
                text = "the server is full: try again later" if most > 0 else advice
                raise Refused(503, text, _SOON)
            seat = Seat(self)
            self._seats.add(seat)
        return seat

    def _watch(self, connection: Closing, worker: Any) -> None:
        """Close this one too when the server ends."""
        with self._lock:
            self._worker = worker or self._worker
            self._start()
            if self._alarm is not None:
                self._alarm.ring()
        if self._worker is None:
            self._hear()
        if self._over:  # pragma: no cover - a race with the end
            connection._begin_close(CloseCode.GOING_AWAY, REASON)

    def _leave(self, seat: Seat) -> None:
        with self._lock:
            self._seats.discard(seat)

    def _start(self) -> None:
        """Start the task, if it does not run. Holds the lock."""
        if self._alarm is not None:
            return
        try:
            self._alarm = Alarm()
            run = functools.partial(self._run, self._alarm)
            self._task = self._engine.spawn(run, "scriptling-ws ending")
        except (RuntimeError, MemoryError, OSError) as error:  # the next connection tries again
            _logger.debug("the end of the server may go unnoticed: %s", error)
            if self._alarm is not None:  # pragma: no branch - else there was no descriptor
                self._alarm.close()
            self._alarm = None
        else:
            atexit.register(self._at_exit)

    # -- signals -----------------------------------------------------------------

    def _hear(self) -> None:
        """Have SIGTERM heard, by the main thread."""
        with self._lock:
            if _handler() == self._on_signal or self._asked:
                return
            if self._engine.hears_signals():
                self._take_over()
            else:
                self._asked = _ask_main_thread()

    def _take_over(self) -> None:
        """Have SIGTERM heard: in the main thread."""
        self._asked = False
        handler = _handler()
        if handler in (None, signal.SIG_IGN, self._on_signal):  # None: not set from Python
            return
        self._previous = handler
        with contextlib.suppress(ValueError):  # a subinterpreter's main thread
            signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        """The first time have all closed, after which the signal is sent once more."""
        previous, alarm = self._previous, self._alarm
        if not (self._over or alarm is None):
            self._owed = number
            alarm.ring(_END)
        elif callable(previous):
            previous(number, frame)
        else:  # pragma: no cover - the process ends by it
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    # -- the task ------------------------------------------------------------------

    def _run(self, alarm: Alarm) -> None:
        while not self.over:
            looks = self._worker is not None and self._seats
            self._engine.wait(alarm, READ, Deadline(_LOOK) if looks else FOREVER)
            if _END in alarm.heard():
                break
        self._close_all()
        if self._owed:
            # uvicorn would say 1012 to all within a tenth of a second.
            self._await(_HAND_OVER if callable(self._previous) else _GRACE)
            os.kill(os.getpid(), self._owed)

    def _close_all(self) -> None:
        with self._lock:
            if self._over:
                return
            self._over = True
            seats = self._seats.copy()
        for seat in seats:
            connection = seat.connection()
            if connection is not None:
                self._ended.add(connection)
                connection._begin_close(CloseCode.GOING_AWAY, REASON)

    def _await(self, seconds: float) -> None:
        """Wait until those that were told of the end have closed."""
        deadline, ended = Deadline(seconds), list(self._ended)
        while not all(map(_is_settled, ended)) and not deadline.passed():
            self._engine.sleep(_STEP)
            deadline.waited(_STEP)

    def stop(self) -> None:
        """Let go of all that was taken over: for tests. Blocks until the task has ended."""
        global _ending  # noqa: PLW0603  # the one there is
        _ending = None
        atexit.unregister(self._at_exit)
        if _handler() == self._on_signal:
            signal.signal(signal.SIGTERM, self._previous)
        if self._alarm is not None and self._task is not None:
            self._alarm.ring(_END)
            self._task.join()
            self._alarm.close()

    def _at_exit(self) -> None:
        self._close_all()
        self._await(_GRACE)


def _is_settled(connection: Any) -> bool:
    """Whether its closing handshake is over, one way or another."""
    settled = getattr(connection, "_settled", None)  # of one that has no descriptor
    return bool(connection.fileno() < 0 if settled is None else settled())


_ending: Ending | None = None


def ending() -> Ending:
    """The process's own; made, if this is the first call."""
    global _ending  # noqa: PLW0603  # the one there is
    if _ending is None:
        _ending = Ending()
    return _ending


def _handler() -> Any:
    return signal.getsignal(signal.SIGTERM)


_thunk: Any = None  # for good: it must not be freed while the main thread is in it


def _ask_main_thread() -> bool:
    """Have the main thread call `_take_over` between two of its steps.

    Returns:
        Whether it will; not where the interpreter cannot be asked, as PyPy. Holds the lock.
    """
    global _thunk  # noqa: PLW0603  # made once
    try:
        import ctypes  # not needed before this

        add = ctypes.pythonapi.Py_AddPendingCall
    except (ImportError, AttributeError):  # pragma: no cover - PyPy alone
        return False
    if _thunk is None:
        _thunk = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p)(_in_main_thread)
    return bool(add(ctypes.cast(_thunk, ctypes.c_void_p), None) == 0)


def _in_main_thread(_: object) -> int:
    if _ending is not None:
        _ending._take_over()
    return 0


def gunicorn_worker() -> Any:
    """gunicorn's worker, below which the caller runs; None if there is none.

    It is nowhere in the environ. Its settings say how many threads it has, and `alive` whether
    it is to go on.
    """
    frame = sys._getframe(1)
    for _ in range(_FRAMES):
        own = frame.f_locals.get("self")
        if type(own).__module__.startswith("gunicorn.workers") and hasattr(own, "cfg"):
            return own
        if frame.f_back is None:
            break
        frame = frame.f_back
    return None


def room_of(worker: Any) -> int | None:
    """The WebSockets for which a worker of gunicorn has room; None where that is not known."""
    if worker is None:
        return None
    kind = type(worker).__name__
    if kind == "ThreadWorker":
        return int(worker.cfg.threads) - 1
    return int(worker.cfg.worker_connections) - 1 if hasattr(worker, "patch") else 0
