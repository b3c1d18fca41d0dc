"""What carries rooms' messages from process to process, and where there has to be such a thing.

Rules:

- A room knows of its carrier what is here, and a carrier of its rooms: neither imports the other.
- A process that is one of several refuses a room without a carrier: its members would hear those of
  their own process alone, and nobody would be told.
"""

from __future__ import annotations

from typing import Protocol

__all__ = ["Carried", "Carrier", "only_with_backend", "refuse_alone"]


class Carried(Protocol):
    """A room, to what carries its messages."""

    @property
    def name(self) -> str:
        """Its name, by which rooms of several processes are one."""

    def __len__(self) -> int:
        """How many members it has in this process."""

    def deliver(self, data: bytes, /) -> None:
        """An envelope has come.

        Raises:
            ValueError: it is none.
        """

    def listens_anew(self) -> None:
        """Envelopes begin to come, after a time in which none were wanted."""

    def tell_gap(self, seconds: float, /) -> None:
        """The carrier was away for so long, and is back: messages may have been missed."""


class Carrier(Protocol):
    """What carries messages, to a room."""

    @property
    def origin(self) -> bytes:
        """This process's name; another one in a forked child."""

    def attend(self, room: Carried, /) -> None:
        """Bring a room what is sent to it while it has members, from now on.

        Raises:
            RoomError: that cannot be, as no task can be started.
        """

    def publish(self, room: Carried, data: bytes, /) -> None:
        """Bring an envelope to all rooms of the name.

        Raises:
            RoomError: the carrier cannot be reached.
        """


_several = False


def only_with_backend() -> None:
    """From now on rooms without a backend are refused: this process is one of several."""
    global _several  # noqa: PLW0603  # it is never taken back
    _several = True


def refuse_alone(name: str, backend: object) -> None:
    """Refuse a room that would be another one in each process.

    Raises:
        RuntimeError: so it is.
    """
    if _several and backend is None:
        raise RuntimeError(
            f"the room {name!r} would be another one in each process: give it a backend, such as "
            f'room({name!r}, backend="redis://127.0.0.1"), or serve with one process'
        )
