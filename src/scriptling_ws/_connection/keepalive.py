"""The thread that looks after quiet connections: one daemon for the whole process.

Rules:

- It is started by the first connection that wants to be looked after, and then waits for
  what is due next. A connection that wants nothing costs nothing here.
- It never blocks on a connection: whatever it calls there does what can be done at once.
- It holds weak references: a connection that nobody wants any more can go.
- While nobody reads a connection, this thread waits for bytes on it too, so that the peer's ping
  or close is answered. Whether anybody reads is asked once a second (`_SWEEP`): to be told of it
  would cost something for each message.
- No exception ends the thread. Where none can be started, `watch` says so, and the connection
  is looked after by the calls that are made on it.
- A forked child starts with none: the connections are its parent's.

This file knows nothing of WebSocket.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections import deque
from heapq import heapify, heappop, heappush
from itertools import count
from math import ceil
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple
from typing import Protocol as Interface

from .._network.alarm import Alarm
from .._network.waiting import READ, engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._network.contract import Engine, Key

__all__ = ["FIRST", "NAME", "Next", "Watched", "forget", "start", "watch", "welcome"]

FIRST: Final = 1.0
"""Seconds after which a newcomer is looked after: see `welcome`."""

NAME: Final = "scriptling-ws keepalive"
"""The thread's name."""

_LONGEST: Final = 3600.0  # seconds; a sleep of this length is just begun again
_PAUSE: Final = 0.1  # seconds after which the thread goes on that an exception has struck
_AFTER_FAILURE: Final = 10.0  # seconds after which a connection is looked after that has failed
_GRID: Final = 8  # moments in a second: those due at about one time are looked after in one turn
_SOON: Final = 0.5  # seconds; what is due sooner than that has a moment of its own
_FEW: Final = 64  # stale entries that are not worth sweeping
_SWEEP: Final = 1.0  # seconds between two questions to a connection whether anybody reads it
_logger = logging.getLogger("scriptling_ws.keepalive")


class Next(NamedTuple):
    """When a connection has to be looked at next.

    Attributes:
        moment: On the monotonic clock.
        readable: Also as soon as there is something to read.
        when_free: Also once nobody reads it: see `is_free`.
    """

    moment: float
    readable: bool = False
    when_free: bool = False


class Watched(Interface):
    """What can be looked after."""

    def look_after(self) -> Next | None:
        """Do what is due, without blocking; None when there is nothing more to look after."""

    def is_free(self) -> bool:
        """Whether no thread reads at this moment."""

    def descriptor(self) -> int:
        """The descriptor, -1 once closed."""


class _Entry(NamedTuple):
    moment: float
    number: int  # so that entries of one moment can be compared
    watched: weakref.ref[Watched]


_make: Final[Callable[..., _Entry]] = tuple.__new__


class _Service:
    def __init__(self) -> None:
        self._engine = engine()
        # An RLock: a signal handler may open a connection while its thread holds it.
        self._lock = self._engine.rlock()  # guards _entries, _waiting, _stale and starting
        self._entries: list[_Entry] = []  # a heap
        self._waiting: set[int] = set()  # numbers of those in it that were not taken out early
        self._stale = 0  # entries whose connection is closed, about
        self._numbers = count()
        # In the order in which they came, who are first looked after FIRST seconds after that.
        self._newcomers: deque[tuple[float, weakref.ref[Watched]]] = deque()
        self._unaware = True  # the thread has looked for newcomers, and found none
        self._started = False
        self._alarm: Alarm | None = None
        # The thread's own: by their entries' numbers, whom it listens for and who is being read.
        self._poller = self._engine.poller()
        self._most = self._engine.capacity(self._poller)
        self._descriptors: dict[int, int] = {}
        self._read: dict[int, _Entry] = {}
        self._next_sweep = 0.0
        self._at: _Entry | None = None  # the one that is being looked after

    def start(self) -> bool:
        """Start the thread if it does not run; False if the interpreter gives none."""
        with self._lock:
            if self._started:
                return True
            if self._alarm is None:
                self._alarm = Alarm()
            self._started = True  # before: a signal handler may come here once more
            try:
                self._engine.spawn(self._run, NAME)
            except (RuntimeError, MemoryError) as error:  # the next connection tries again
                self._started = False
                _logger.debug("no thread for keepalive: %s", error)
                return False
            return True

    def watch(self, watched: Watched, moment: float) -> bool:
        with self._lock:
            if not self._started and not self.start():
                return False
            entry = self._push(watched, moment)
            first = self._entries[0] is entry
        if first:
            self._wake()
        return True

    def welcome(self, watched: Watched, moment: float) -> bool:
        # No lock, and no place in the heap: most are gone before their time.
        if not self._started and not self.start():
            return False
        self._newcomers.append((moment + FIRST, weakref.ref(watched)))
        if self._unaware:  # asked after that: the thread says so before it looks for newcomers
            self._wake()
        return True

    def _take_in(self) -> None:
        """Give newcomers whose time has come a place in the heap, where it is the first."""
        newcomers, now = self._newcomers, monotonic()
        while newcomers and newcomers[0][0] <= now:
            watched = newcomers[0][1]()
            if watched is not None:
                with self._lock:
                    self._push(watched, now)
            newcomers.popleft()  # last, so that an exception forgets nobody

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
        if moment > monotonic() + _SOON:
            moment = _gridded(moment)
        # Not by a call of the class: that is Python code.
        entry = _make(_Entry, (moment, next(self._numbers), weakref.ref(watched)))
        self._waiting.add(entry.number)
        heappush(self._entries, entry)
        return entry

    def _wake(self) -> None:
        assert self._alarm is not None
        self._alarm.ring()

    # -- the thread ----------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                for entry in self._sleep():
                    self._at = entry
                    self._look_after(entry)
                    self._at = None
            except Exception:  # no memory, perhaps
                _logger.exception("keepalive has failed, and begins anew")
                self._begin_anew()

    def _sleep(self) -> Iterator[_Entry]:
        """Wait; then the entries that are due, or have something to read, or nobody reads."""
        for key in self._select():
            if key.data is not None:
                self._silence(key.data)
                if self._take(key.data):
                    yield key.data
        if self._read and monotonic() >= self._next_sweep:
            self._next_sweep = monotonic() + _SWEEP
            for entry in [e for e in self._read.values() if _is_free(e)]:
                del self._read[entry.number]
                if self._take(entry):
                    yield entry
        self._take_in()
        while (due := self._pop_due()) is not None:
            yield due

    def _select(self) -> list[Key]:
        assert self._alarm is not None
        if self._alarm.fileno() not in self._poller.get_map():
            self._poller.register(self._alarm, READ)
        try:
            events = self._poller.select(self._left())
        except (OSError, ValueError):  # select(), of a descriptor that was closed meanwhile
            return [*self._poller.get_map().values()]
        self._alarm.heard()
        return [key for key, _ in events]

    def _begin_anew(self) -> None:
        """After an exception: listen for nobody, and look after all that wait, in a moment."""
        self._engine.sleep(_PAUSE)
        self._poller = self._engine.poller()
        self._descriptors.clear()
        self._read.clear()
        with self._lock:
            if self._at is not None:
                self._waiting.add(self._at.number)
                self._entries.append(self._at)
                self._at = None
            self._entries = [entry._replace(moment=monotonic()) for entry in self._entries]
            heapify(self._entries)

    def _left(self) -> float:
        now = monotonic()
        left = self._next_sweep - now if self._read else _LONGEST
        self._unaware = True
        if self._newcomers:
            self._unaware = False
            left = min(left, _gridded(self._newcomers[0][0]) - now)
        with self._lock:
            if self._entries:
                left = min(left, self._entries[0].moment - now)
        return min(max(left, 0.0), _LONGEST)

    def _pop_due(self) -> _Entry | None:
        with self._lock:
            now = monotonic()
            while self._entries and self._entries[0].moment <= now:
                entry = heappop(self._entries)
                number = entry.number
                if number in self._waiting:
                    self._waiting.discard(number)
                    known = number in self._descriptors or number in self._read
                    if known or entry.watched() is not None:  # else it was a short connection
                        return entry
            return None

    def _take(self, entry: _Entry) -> bool:
        """Whether the entry still waits: from here on it does not."""
        with self._lock:
            waits = entry.number in self._waiting
            self._waiting.discard(entry.number)
            return waits

    def _look_after(self, entry: _Entry) -> None:
        self._silence(entry)
        self._read.pop(entry.number, None)
        watched = entry.watched()
        if watched is None:
            return
        try:
            due = watched.look_after()
        except Exception:  # one connection must not end the others' keepalive
            _logger.exception("a connection's keepalive has failed")
            due = Next(monotonic() + _AFTER_FAILURE)
        if due is None:
            return
        with self._lock:
            entry = self._push(watched, due.moment)
        if due.readable:
            self._listen(entry, watched.descriptor())
        if due.when_free:
            self._read[entry.number] = entry

    def _listen(self, entry: _Entry, descriptor: int) -> None:
        """Look after it as soon as there is something to read."""
        if descriptor < 0 or len(self._descriptors) >= self._most:
            return  # it waits for its time
        if descriptor in self._poller.get_map():  # of a connection that was closed meanwhile
            self._silence(self._poller.get_key(descriptor).data)
        self._poller.register(descriptor, READ, entry)
        self._descriptors[entry.number] = descriptor

    def _silence(self, entry: _Entry) -> None:
        """Listen for it no more."""
        descriptor = self._descriptors.pop(entry.number, None)
        if descriptor is not None:
            self._poller.unregister(descriptor)


def _gridded(moment: float) -> float:
    return ceil(moment * _GRID) / _GRID


def _is_free(entry: _Entry) -> bool:
    watched = entry.watched()
    return watched is None or watched.is_free()


def _is_open(entry: _Entry) -> bool:
    watched = entry.watched()
    return watched is not None and watched.descriptor() >= 0


_services: dict[Engine, _Service] = {}  # one for each engine; made at the first use


def _service() -> _Service:
    service = _services.get(engine())
    # setdefault: of two threads that come here first, both get the same one.
    return service or _services.setdefault(engine(), _Service())


def watch(watched: Watched, moment: float) -> bool:
    """Look after a connection from a moment on. Thread-safe; does not block.

    Returns:
        False if there is no thread for it, as in a subinterpreter or while the interpreter
        ends: then nothing was noted.

    Raises:
        OSError: there are too few descriptors.
    """
    return _service().watch(watched, moment)


def welcome(watched: Watched, moment: float) -> bool:
    """As `watch`, but from FIRST seconds after a moment on, which is the present."""
    return _service().welcome(watched, moment)


def forget() -> None:
    """Take note that one that was looked after is closed. Thread-safe; does not block."""
    _service().forget()


def start() -> bool:
    """Start the thread now, rather than with the first connection; whether it runs."""
    return _service().start()


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_services.clear)
