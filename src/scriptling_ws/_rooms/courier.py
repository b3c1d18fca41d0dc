"""What sends on to members that did not read: one daemon task for the process, while there are any.

Rules:

- It is started for the first member that stalls, waits until the system takes bytes for one of
  those that do, and ends once none has been there for a moment. A room whose members all read
  has no such task.
- It never waits for one member, nor for a sender that has a member's connection in hand: it comes
  back to that one after a pause, which doubles.
- No exception ends it: a member that raises is given up.
- Where no task can be started, `take` says so, and a member is sent on to with its next message.
- A forked child starts with none: the connections are its parent's.

`_Watch` is the task's own; the arrivals are shared. Nothing is called with the lock held.
"""

from __future__ import annotations

import logging
import os
from enum import Enum
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from .._network.alarm import Alarm
from .._network.waiting import READ, WRITE, engine

if TYPE_CHECKING:
    from .._network.contract import Engine

__all__ = ["NAME", "Progress", "Stalled", "take"]

NAME: Final = "scriptling-ws rooms"
"""The task's name."""

_LINGER: Final = 0.1  # seconds without a member after which it ends
_SWEEP: Final = 1.0  # seconds after which it looks for those whose descriptor is closed
_PAUSE: Final = 0.005  # seconds before it comes back to a member that could not be sent to
_LONGEST: Final = 0.1  # the same, after many such pauses
_logger: Final = logging.getLogger("scriptling_ws.rooms")


class Progress(Enum):
    """What became of sending on."""

    DONE = 1
    """Nothing is left."""
    MOVED = 2
    """There is more, once the system takes it."""
    STUCK = 3
    """Nothing could be sent, though the system may take it: another sender is inside."""


class Stalled(Protocol):
    """What can be sent on to."""

    @property
    def gone(self) -> bool:
        """Whether it is to be sent nothing more."""

    def fileno(self) -> int:
        """The descriptor, -1 once closed."""

    def pump(self) -> Progress:
        """Send on what goes without waiting."""

    def give_up(self) -> None:
        """End it, without waiting."""


class _Courier:
    """The task, and those that have come to it."""

    def __init__(self) -> None:
        self._engine = engine()
        # An RLock: a signal handler may send to a room while its thread holds it.
        self._lock = self._engine.rlock()  # guards the two below
        self._arrived: list[Stalled] = []
        self._alarm: Alarm | None = None  # while the task runs

    def take(self, member: Stalled) -> bool:
        with self._lock:
            if self._alarm is None and not self._start():
                return False
            assert self._alarm is not None
            if not self._arrived:
                self._alarm.ring()
            self._arrived.append(member)
            return True

    def _start(self) -> bool:
        """Start the task; False if there can be none now. Holds the lock."""
        try:
            alarm = Alarm()
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            _logger.debug("no descriptor for the rooms' task: %s", error)
            return False
        try:
            self._engine.spawn(partial(self._run, alarm), NAME)
        except (RuntimeError, MemoryError) as error:
            alarm.close()
            _logger.debug("no task for the rooms: %s", error)
            return False
        self._alarm = alarm
        return True

    def _run(self, alarm: Alarm) -> None:
        watch = _Watch(self._engine, alarm)
        while not (watch.empty and self._is_over()):
            try:
                self._turn(watch)
            except Exception:  # no memory, perhaps
                _logger.exception("the rooms' task has failed, and begins anew")
                self._engine.sleep(_LONGEST)
                with self._lock:
                    self._arrived += watch.members()
                watch.close()
                watch = _Watch(self._engine, alarm)
        watch.close()
        alarm.close()

    def _turn(self, watch: _Watch) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
        for member in arrived:
            if member.gone:
                watch.visit(member)
            else:
                watch.listen(member)
        for member in watch.wait():
            watch.visit(member)

    def _is_over(self) -> bool:
        """Whether nobody has come; then the next one starts another task."""
        with self._lock:
            if self._arrived:
                return False
            self._alarm = None
            return True


class _Watch:
    """Those that the task waits for.

    Attributes:
        empty: Whether there was none when it waited last, for a moment.
    """

    def __init__(self, engine_: Engine, alarm: Alarm) -> None:
        self._alarm = alarm
        self._poller = engine_.poller()
        self._poller.register(alarm, READ, ())
        self._most = engine_.capacity(self._poller) - 1
        # Those that are polled: a connection in several rooms is several of them.
        self._descriptors: dict[Stalled, int] = {}
        self._polled: dict[int, list[Stalled]] = {}
        self._late: dict[Stalled, float] = {}  # when to come back to the others
        self._pauses: dict[Stalled, float] = {}
        self._next_sweep = monotonic() + _SWEEP
        self.empty = False

    def close(self) -> None:
        """Let go of the poller."""
        self._poller.close()

    def members(self) -> list[Stalled]:
        """All that it waits for."""
        return [*self._descriptors, *self._late]

    def wait(self) -> list[Stalled]:
        """Wait; then those to which something can be sent now, perhaps."""
        alone = not (self._descriptors or self._late)
        try:
            events = self._poller.select(_LINGER if alone else self._left())
        except (OSError, ValueError):  # select(), of a descriptor that was closed meanwhile
            events = [(key, READ) for key in self._poller.get_map().values()]
        self._alarm.heard()
        self.empty = alone and not events
        ready = [member for key, _ in events for member in key.data]
        return ready + self._take_late() + self._take_closed()

    def _take_late(self) -> list[Stalled]:
        """Poll those again whose pause is over; those for which the poller has no room."""
        now = monotonic()
        due = [member for member, moment in self._late.items() if moment <= now]
        return [member for member in due if not self.listen(member)]

    def _take_closed(self) -> list[Stalled]:
        """Now and then, those whose descriptor is closed: a poller may not say so."""
        now = monotonic()
        if now < self._next_sweep:
            return []
        self._next_sweep = now + _SWEEP
        return [member for member in self._descriptors if member.fileno() < 0]

    def _left(self) -> float:
        until = min(self._late.values(), default=self._next_sweep)
        return max(min(until, self._next_sweep) - monotonic(), 0.0)

    def visit(self, member: Stalled) -> None:
        """Send on to a member, and see when to do so again."""
        try:
            progress = member.pump()
        except Exception:  # one member must not end the others' task
            _logger.exception("sending on to a member of a room has failed")
            member.give_up()
            progress = Progress.DONE
        if progress is Progress.STUCK:
            self._come_back(member)
            return
        self._pauses.pop(member, None)
        self._late.pop(member, None)
        if progress is Progress.DONE:
            self._silence(member)
        else:
            self.listen(member)

    def _come_back(self, member: Stalled) -> None:
        """See to it after a pause."""
        self._silence(member)
        pause = self._pauses[member] = min(2 * self._pauses.get(member, _PAUSE / 2), _LONGEST)
        self._late[member] = monotonic() + pause

    def listen(self, member: Stalled) -> bool:
        """See to it as soon as the system takes bytes for it; False if that cannot be polled."""
        if member in self._descriptors:
            return True
        descriptor = member.fileno()
        members = self._polled.get(descriptor)
        if members is not None:  # perhaps of one that was closed meanwhile: it is visited too
            members.append(member)
        elif descriptor < 0 or len(self._polled) >= self._most:
            self._late[member] = 0.0
            return False
        else:
            members = self._polled[descriptor] = [member]
            self._poller.register(descriptor, WRITE, members)
        self._descriptors[member] = descriptor
        self._late.pop(member, None)
        return True

    def _silence(self, member: Stalled) -> None:
        """Wait for it no more."""
        descriptor = self._descriptors.pop(member, None)
        if descriptor is None:
            return
        members = self._polled[descriptor]
        members.remove(member)
        if not members:
            del self._polled[descriptor]
            self._poller.unregister(descriptor)


_couriers: dict[Engine, _Courier] = {}  # one for each engine; made at the first use


def take(member: Stalled) -> bool:
    """Send on to a member, until nothing is left. Thread-safe; does not block.

    Returns:
        False if there is no task for that, as in a subinterpreter or with too few descriptors:
        then nothing was noted.
    """
    courier = _couriers.get(engine())
    # setdefault: of two threads that come here first, both get the same one.
    courier = courier or _couriers.setdefault(engine(), _Courier())
    return courier.take(member)


if hasattr(os, "register_at_fork"):  # pragma: no branch - not on Windows
    os.register_at_fork(after_in_child=_couriers.clear)
