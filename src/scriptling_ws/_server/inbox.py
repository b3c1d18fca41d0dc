"""What other threads have for the acceptor's: answers to deliver, and a word to look up.

Rules:

- From any thread, and never waiting for the acceptor's: the lock is held for a moment alone.
- What is put in once the acceptor has ended is let go of here, by the thread that brings it. So no
  answer is lost between the two, with its socket and its place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._network.alarm import Alarm
from .._network.waiting import engine

if TYPE_CHECKING:
    from .delivery import Delivery
    from .limits import Place

__all__ = ["Inbox", "let_go"]


class Inbox:
    """What is handed over to one acceptor's thread."""

    def __init__(self) -> None:
        """Begin with nothing.

        Raises:
            OSError: there are too few descriptors.
        """
        self._alarm = Alarm()
        self._lock = engine().lock()  # guards _items, and _ended as it is set
        self._items: list[tuple[Delivery, Place]] = []
        self._ended = False

    def after_fork(self) -> None:
        """In a forked child: what is in here is the parent's."""
        self._lock, self._items = engine().lock(), []

    def __len__(self) -> int:
        return len(self._items)

    def fileno(self) -> int:
        """The descriptor to wait for: readable once the acceptor is to look up."""
        return self._alarm.fileno()

    def ring(self) -> None:
        """Have the acceptor look up. Also from a signal handler."""
        self._alarm.ring()

    def put(self, delivery: Delivery, place: Place) -> None:
        """Hand over an answer, or what is left of it, with its transport and its place."""
        with self._lock:
            if not self._ended:
                self._items.append((delivery, place))
                self._alarm.ring()
                return
        let_go(delivery, place)

    def take(self) -> list[tuple[Delivery, Place]]:
        """Take out all there is. For the acceptor's thread."""
        while self._alarm.heard():
            pass
        with self._lock:
            items, self._items = self._items, []
        return items

    def end(self) -> list[tuple[Delivery, Place]]:
        """Take nothing more, and take out what is left."""
        with self._lock:
            self._ended = True
            items, self._items = self._items, []
        return items

    def close(self) -> None:
        """Close the descriptors. May be called again."""
        self._alarm.close()


def let_go(delivery: Delivery, place: Place) -> None:
    """Close an answer that nobody will deliver, and its connection."""
    delivery.close()
    delivery.transport.close()
    place.leave()
