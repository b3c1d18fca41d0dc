"""One connection of `connect`, as both ways of typing and the pipe use it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._wire.outgoing import check_close
from .binary_forms import as_bytes
from .documents import check_json
from .slash import Slash

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .screen import Screen

__all__ = ["Session"]


class Session:
    """A connection, and how lines become messages of it.

    Attributes:
        conn: The connection.
        screen: Where its messages are shown.
        closed_here: Whether this end has closed it, as it was told to.
    """

    def __init__(
        self, conn: Connection[bytes], screen: Screen, *, as_json: bool, binary: bool
    ) -> None:
        self.conn = conn
        self.screen = screen
        self.closed_here = False
        self._json = as_json
        self._binary = binary
        self._slash = Slash(conn, screen, self.close)

    def send(self, line: str) -> None:
        """Send a line as a message.

        Raises:
            ValueError: it is not what the arguments say lines are; nothing was sent.
            ConnectionClosed, SendTimeout: as those of a connection.
        """
        if self._binary:
            self.conn.send_binary(as_bytes(line, self.screen.form))
            return
        if self._json:
            check_json(line)
        self.conn.send(line)

    def typed(self, line: str) -> None:
        """Send a line that was typed, or carry out its command; what is wrong with it is said.

        Raises:
            ConnectionClosed, SendTimeout: as those of a connection.
        """
        try:
            if line.startswith("//"):
                self.send(line[1:])
            elif line.startswith("/"):
                self._slash.run(line)
            elif line:
                self.send(line)
        except (TypeError, ValueError) as error:
            self.screen.error(str(error))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close it, as this end was told to.

        Raises:
            ValueError, TypeError: as `Connection.close`.
        """
        check_close(code, reason)
        self.closed_here = True  # before the main task can see that it is closed
        self.conn.close(code, reason)
