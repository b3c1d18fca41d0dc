"""What a connection knows of the rooms that it is in: how to leave them all when it closes.

Rules:

- A connection has one guest, from its first `join` on, which is told of the close once: joining and
  leaving again and again leaves nothing behind.
- The guest holds the rooms only while the connection is in them, and does not hold the connection:
  one that nobody wants any more, and that is in no room, is freed at once.

No lock: each step is one of a dict's.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from .._connection.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Guest", "check_guest", "guest_of"]


class Guest:
    """The rooms of one connection."""

    __slots__ = ("_leave",)

    def __init__(self) -> None:
        self._leave: dict[object, Callable[[], object]] = {}

    def joined(self, room: object, leave: Callable[[], object]) -> None:
        """It is in a room; what to call once it closes."""
        self._leave[room] = leave

    def left(self, room: object) -> None:
        """It is not in a room any more."""
        self._leave.pop(room, None)

    def leave_all(self) -> None:
        """Leave all rooms: the connection closes."""
        with contextlib.suppress(KeyError):  # once there is none
            while True:
                self._leave.popitem()[1]()


def check_guest(call: str, client: object) -> None:
    """Refuse what is no connection.

    Raises:
        TypeError: so it is.
    """
    if not isinstance(client, Connection):
        kind = type(client).__name__
        raise TypeError(f"{call}() takes a connection, such as a handler's client, not {kind}")


def guest_of(connection: Connection[Any, Any]) -> Guest:
    """A connection's guest, the same at each call. Thread-safe."""
    fresh = Guest()
    # One step: of two threads that come here first, both get the same one.
    guest: Guest = vars(connection).setdefault("_guest", fresh)
    if guest is fresh:
        connection.on_close(guest.leave_all)
    return guest
