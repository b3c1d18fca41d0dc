"""What is counted of a server: in here nothing, for one that nobody asks.

Rules:

- A server tells its figures of what happens once for a connection or a request, never of a message:
  what moves on a connection is counted by the connection itself (`Connection.stats`).
- Whoever tells them pays a call that does nothing here; `metrics` has those that count.
- No call of these blocks, raises, or calls back: the acceptor's thread is among the callers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from .._connection.connection import Connection

__all__ = ["NO_FIGURES", "Figures"]


class Figures:
    """Counts nothing."""

    def now(self) -> float:
        """The time, on the monotonic clock, for a later call; 0 where nothing is counted."""
        return 0.0

    def refused(self, status: int | str, reason: str) -> None:
        """A request was refused, or its connection closed without an answer.

        Args:
            status: The status; "-" where nothing was answered.
            reason: Why, as the log has it.
        """

    def opened(self, connection: Connection[Any, Any], since: float) -> None:
        """An upgrade is through, and its handler is about to be called.

        Args:
            connection: The connection.
            since: What `now` said when it was accepted.
        """

    def closed(self, connection: Connection[Any, Any], route: str, since: float) -> None:
        """A connection is closed, and its handler has returned.

        Args:
            connection: The connection, which was `opened`.
            route: Its route's path, "" for the one for any path.
            since: What `now` said before the handler was called.
        """

    def page(self, route: str, status: int, since: float) -> None:
        """A page's handler has made its answer.

        Args:
            route: Its route's path.
            status: The answer's status.
            since: What `now` said before the handler was called.
        """

    def start(self) -> None:
        """Do from now on what is to be done beside the server.

        Raises:
            RuntimeError, MemoryError: no task can be started for it.
        """

    def stop(self) -> None:
        """Do no more of it. Blocks for a moment at most."""


NO_FIGURES: Final = Figures()
"""The one that all servers without metrics share."""
