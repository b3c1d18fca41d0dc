"""The thread that looks after quiet connections: one daemon for the whole process.

Rules:

- It is started by the first connection that wants to be looked after, and then waits for
  what is due next. A connection without keepalive costs nothing here.
- It never blocks on a connection: whatever it calls there does what can be done at once.
- It holds weak references: a connection that nobody wants any more can go.
- While a connection waits for an answer and nobody reads it, this thread waits for bytes
  on it too, so that the answer is not missed.
- A forked child starts with none: the connections are its parent's.

This file knows nothing of WebSocket.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import selectors
import socket
import threading
import weakref
from heapq import heapify, heappop, heappush
from itertools import count
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple
from typing import Protocol as Interface

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["NAME", "Next", "Watched", "start", "watch"]

NAME: Final = "scriptling-ws keepalive"
"""The thread's name."""

_LONGEST: Final = 3600.0  # seconds; a sleep of this length is just begun again
_FEW: Final = 64  # stale entries that are not worth sweeping
_logger = logging.getLogger("scriptling_ws.keepalive")
# poll, where there is one: select fails on descriptors from 1024 on.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


class Next(NamedTuple):
    """When a connection has to be looked at next.

    Attributes:
        moment: On the monotonic clock.
        readable: Also as soon as there is something to read.
    """

    moment: float
    readable: bool = False


class Watched(Interface):
    """What can be looked after."""

    def _look_after(self) -> Next | None:
        """Do what is due, without blocking; None when there is nothing more to look after."""

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""


class _Entry(NamedTuple):
    moment: float
    number: int  # so that entries of one moment can be compared
    watched: weakref.ref[Watched]


class _Service:
    def __init__(self) -> None:
        # An RLock: a signal handler may open a connection while its thread holds it.
        self._lock = threading.RLock()  # guards _entries, _waiting, _stale and starting
        self._entries: list[_Entry] = []  # a heap
        self._waiting: set[int] = set()  # numbers of those in it that were not taken out early
        self._stale = 0  # entries whose connection is closed, about
        self._numbers = count()
        self._thread: threading.Thread | None = None
        self._alarm: tuple[socket.socket, socket.socket] | None = None
        self._answers: dict[int, _Entry] = {}  # by descriptor: whom the thread listens for

    def start(self) -> None:
        with self._lock:
            if self._thread is not None:
                return
            if self._alarm is None:
                self._alarm = socket.socketpair()
                for end in self._alarm:
                    end.setblocking(False)
            self._thread = threading.Thread(target=self._run, name=NAME, daemon=True)
            try:
                self._thread.start()
            except (RuntimeError, MemoryError) as error:  # the next connection tries again
                self._thread = None
                raise OSError(errno.EAGAIN, f"no thread for keepalive: {error}") from error

    def watch(self, watched: Watched, moment: float) -> None:
        with self._lock:
            entry = self._push(watched, moment)
            first = self._entries[0] is entry
            self.start()
        if first:
            self._wake()

    def forget(self) -> None:
        """One of the connections is closed: its entry is swept with others."""
        with self._lock:
            self._stale += 1
            if self._stale > _FEW and self._stale > len(self._entries) // 2:
                self._entries = [
                    e for e in self._entries if e.number in self._waiting and _is_open(e)
                ]
                heapify(self._entries)
                self._waiting = {each.number for each in self._entries}
                self._stale = 0

    def _push(self, watched: Watched, moment: float) -> _Entry:
        entry = _Entry(moment, next(self._numbers), weakref.ref(watched))
        self._waiting.add(entry.number)
        heappush(self._entries, entry)
        return entry

    def _wake(self) -> None:
        assert self._alarm is not None
        with contextlib.suppress(OSError):  # full: it is awake already
            self._alarm[1].send(b"\0")

    # -- the thread ----------------------------------------------------------

    def _run(self) -> None:
        while True:
            for entry in self._sleep():
                try:
                    self._look_after(entry)
                except Exception:  # one connection must not end the others' keepalive
                    _logger.exception("a connection's keepalive has failed")

    def _sleep(self) -> Iterator[_Entry]:
        """Wait; then the entries that are due, or whose answer may have come."""
        assert self._alarm is not None
        with _Selector() as selector:
            selector.register(self._alarm[0], selectors.EVENT_READ)
            for descriptor in [*self._answers]:
                # One that was closed meanwhile, perhaps to be another file's by now:
                # that is found when it is looked at.
                with contextlib.suppress(ValueError, OSError):
                    selector.register(descriptor, selectors.EVENT_READ)
            events = selector.select(self._left())
        with contextlib.suppress(OSError):
            self._alarm[0].recv(4096)
        for key, _ in events:
            entry = self._answers.pop(key.fd, None)
            if entry is not None and self._take(entry):
                yield entry
        while (due := self._pop_due()) is not None:
            yield due

    def _left(self) -> float:
        with self._lock:
            if not self._entries:
                return _LONGEST
            return min(max(self._entries[0].moment - monotonic(), 0.0), _LONGEST)

    def _pop_due(self) -> _Entry | None:
        with self._lock:
            while self._entries and self._entries[0].moment <= monotonic():
                entry = heappop(self._entries)
                if self._take(entry):
                    return entry
            return None

    def _take(self, entry: _Entry) -> bool:
        """Whether the entry still waits: from here on it does not."""
        with self._lock:
            waits = entry.number in self._waiting
            self._waiting.discard(entry.number)
            return waits

    def _look_after(self, entry: _Entry) -> None:
        watched = entry.watched()
        due = watched._look_after() if watched is not None else None
        if watched is None or due is None:
            return
        with self._lock:
            entry = self._push(watched, due.moment)
        if due.readable and (descriptor := watched.fileno()) >= 0:
            self._answers[descriptor] = entry


def _is_open(entry: _Entry) -> bool:
    watched = entry.watched()
    return watched is not None and watched.fileno() >= 0


_service = _Service()


def watch(watched: Watched, moment: float) -> None:
    """Look after a connection from a moment on. Thread-safe; does not block.

    Raises:
        OSError: the thread cannot be started, for want of threads or descriptors.
    """
    _service.watch(watched, moment)


def forget() -> None:
    """Take note that a watched connection was closed. Thread-safe; does not block."""
    _service.forget()


def start() -> None:
    """Start the thread now, rather than with the first connection."""
    _service.start()


def _start_anew() -> None:
    global _service  # noqa: PLW0603  # the one there is
    _service = _Service()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_start_anew)
