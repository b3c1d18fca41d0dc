"""The figures of this process's rooms, for `metrics`: how many, how large, and what they lost.

Rules:

- No room's name is a label: a program may make a name of what its peers say.
- The rooms are asked as the page is read. Those of a process that has no room cost nothing: their
  module is looked for, and not imported.
- A room that ends between two looks takes with it what it has lost since the first.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakKeyDictionary

from .._network.waiting import engine

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RoomFigures"]

_REGISTRY: Final = "scriptling_ws._rooms.registry"


def _rooms() -> list[Any]:
    """The rooms that there are."""
    registry = sys.modules.get(_REGISTRY)
    return [] if registry is None else registry.rooms()


class RoomFigures:
    """Counts of the rooms of one process. Safe for any number of threads."""

    def __init__(self, gauge: Callable[..., Any], counter: Callable[[str, str], Any]) -> None:
        """Begin.

        Args:
            gauge: Makes a gauge of a name, its text, and how several processes' come together.
            counter: Makes a counter of a name and its text.
        """
        self._lock = engine().lock()  # guards _told
        self._told: WeakKeyDictionary[Any, tuple[int, int]] = WeakKeyDictionary()
        self._number = gauge("rooms", "Rooms that have members")
        self._members = gauge("room_members", "Members of all rooms together")
        self._largest = gauge("room_members_most", "Members of the largest room", "livemax")
        self._queued = gauge("room_queued_messages", "Messages that wait for slow members")
        self._lost = (
            counter("room_dropped_messages", "Messages that members were too slow for"),
            counter("room_missed_messages", "Messages of other processes that did not come"),
        )

    def refresh(self) -> None:
        """Ask the rooms."""
        rooms = _rooms()
        stats = [room.stats() for room in rooms]
        members = [each.members for each in stats]
        self._number.set(sum(map(bool, members)))
        self._members.set(sum(members))
        self._largest.set(max(members, default=0))
        self._queued.set(sum(each.queued for each in stats))
        with self._lock:
            for room, each in zip(rooms, stats, strict=True):
                now = each.dropped, each.missed
                for lost, old, new in zip(
                    self._lost, self._told.get(room, (0, 0)), now, strict=True
                ):
                    if new > old:
                        lost.inc(new - old)
                self._told[room] = now
