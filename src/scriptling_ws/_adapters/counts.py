"""What has moved on a connection whose frames the server around has: messages alone."""

from __future__ import annotations

from time import monotonic

from .._connection.stats import MessageStats
from .._network.waiting import engine

__all__ = ["Counts"]


class Counts:
    """The messages of one connection. Thread-safe."""

    __slots__ = ("_came", "_ended", "_lock", "_opened", "_received", "_sent", "_went")

    def __init__(self) -> None:
        self._opened = self._came = self._went = monotonic()
        self._ended: float | None = None
        self._received = self._sent = (0, 0)  # messages, and their bytes
        self._lock = engine().lock()  # guards all of these: several threads may send

    def received(self, message: str | bytes) -> None:
        """A message has come."""
        size = _size(message)
        with self._lock:
            self._received = (self._received[0] + 1, self._received[1] + size)
            self._came = monotonic()

    def sent(self, message: str | bytes) -> None:
        """A message was sent."""
        size = _size(message)
        with self._lock:
            self._sent = (self._sent[0] + 1, self._sent[1] + size)
            self._went = monotonic()

    def end(self) -> None:
        """The connection is over."""
        self._ended = monotonic()

    def stats(self) -> MessageStats:
        """The figures of this moment."""
        with self._lock:
            now, ended = monotonic(), self._ended
            return MessageStats(
                messages_received=self._received[0],
                messages_sent=self._sent[0],
                bytes_received=self._received[1],
                bytes_sent=self._sent[1],
                seconds_open=(now if ended is None else ended) - self._opened,
                seconds_since_received=now - self._came,
                seconds_since_sent=now - self._went,
            )


def _size(message: str | bytes) -> int:
    """The bytes of a message: of a text in UTF-8."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode("utf-8", "replace"))
