"""What has become of a room's messages, as figures."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["RoomStats"]


class RoomStats(NamedTuple):
    """What has become of a room's messages, in this process.

    Attributes:
        members: How many connections are in it.
        sent: How many messages were handed out.
        queued: How many wait for members that do not read, of all members together.
        dropped: How many were not delivered because a member's queue was full, likewise.
        failed: How many could not be handed to the backend; `send` has raised RoomError for each.
        gaps: How often the backend was away.
        missed: How many messages of other processes are known not to have come.
    """

    members: int
    sent: int
    queued: int
    dropped: int
    failed: int
    gaps: int
    missed: int
