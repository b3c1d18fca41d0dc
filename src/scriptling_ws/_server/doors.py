"""The listening sockets of an acceptor, and its pauses.

Rules:

- Accepting never blocks, and one call accepts a batch at most: those who are in have their turn.
- Out of descriptors or memory, those who only wait for another request give way. Where there is
  none, it stops accepting for a moment: the listening socket stays readable, and asking again at
  once would spin.
"""

from __future__ import annotations

import errno
import logging
from typing import TYPE_CHECKING, Any, Final

from .._network.deadline import Deadline
from .._network.listen import accept
from .._network.waiting import READ
from .log import RareWarning

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Iterator

    from .._network.contract import Poller

__all__ = ["Doors"]

_logger = logging.getLogger("scriptling_ws.server")

_BATCH: Final = 64  # connections accepted before the others get their turn
_EXHAUSTED: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 1.0


class Doors:
    """Listening sockets in a poller, each registered with itself as its data.

    Attributes:
        resume: When accepting goes on; None while it is not paused.
    """

    def __init__(self, listeners: list[socket.socket], poller: Poller) -> None:
        """Take the listeners over, which are non-blocking; `open` begins to watch them."""
        self._listeners = listeners
        self._poller = poller
        self._pause = 0.0  # how long the last pause was, 0 while accepting works
        self._warning = RareWarning(_logger)
        self.resume: Deadline | None = None

    def open(self) -> None:
        """Watch the listeners, also after a pause."""
        self.resume = None
        for listener in self._listeners:
            self._poller.register(listener, READ, listener)

    def accept(
        self,
        listener: socket.socket,
        room: int,
        give_way: Callable[[], bool] = lambda: False,
    ) -> Iterator[tuple[socket.socket, Any]]:
        """Accept what waits at a listener: sockets and their addresses.

        Args:
            listener: One of the listeners.
            room: How many more peers there may be.
            give_way: Closes a connection that nobody needs; False if there is none.
        """
        if self.resume is not None:
            return  # paused by the listener before this one
        while room <= 0 and give_way():
            room += 1
        if room <= 0:
            self._rest("there are too many connections in their opening handshake, or leaving")
        for _ in range(min(_BATCH, room)):
            try:
                accepted = accept(listener)
            except BlockingIOError:
                return
            except MemoryError:
                self._rest("no memory")
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    if give_way():
                        continue
                    self._rest(str(error))
                else:  # what went wrong with a connection that waited: it is gone
                    _logger.debug("a connection was lost before it was accepted: %s", error)
                return
            self._pause = 0.0
            yield accepted

    def _rest(self, why: str) -> None:
        """Stop accepting for a moment, longer each time."""
        self._warning.give("accepting no connections for a moment: %s", why)
        self._pause = min(2 * self._pause, _LONGEST_PAUSE) or _FIRST_PAUSE
        self.resume = Deadline(self._pause)
        for listener in self._listeners:
            self._poller.unregister(listener)

    def look(self) -> None:
        """End the pause, if it is over."""
        if self.resume is not None and self.resume.passed():
            self.open()

    @property
    def are_closed(self) -> bool:
        """Whether they were closed."""
        return not self._listeners

    def close(self, watched: bool = True) -> None:
        """Close the listeners. Called again, it does nothing.

        Args:
            watched: Take them out of the poller too.
        """
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            if watched and self.resume is None:
                self._poller.unregister(listener)
            listener.close()
        self.resume = None
