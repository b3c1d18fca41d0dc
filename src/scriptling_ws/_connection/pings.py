"""The pings that wait for their answers (RFC 6455 sections 5.5.2, 5.5.3).

Rules:

- A ping is answered by the pong with its payload, and so are the pings before it.
- A pong that nobody waits for changes nothing.

Guarded by the lock of `lifecycle`; `drop` and `latency` need none. Nothing here waits; the
sender of a ping may wait for its `came`.
"""

from __future__ import annotations

from time import monotonic

from .._network.waiting import engine

__all__ = ["Ping", "Pings"]


class Ping:
    """A ping that was sent now.

    Attributes:
        came: Set once its answer has come.
        seconds: How long that took; None before.
        sent: When it was sent.
    """

    __slots__ = ("came", "seconds", "sent")

    def __init__(self) -> None:
        self.sent = monotonic()
        self.seconds: float | None = None
        self.came = engine().event()


class Pings:
    """Those of one connection.

    Attributes:
        latency: The seconds between the latest answered ping and its answer; None before the
            first.
        least: The least that there was; None before the first.
        answered: How many pings were answered.
        total: The seconds that these took together.
        waiting: Those without an answer, by their payloads, oldest first.
    """

    __slots__ = ("answered", "latency", "least", "total", "waiting")

    def __init__(self) -> None:
        self.waiting: dict[bytes, Ping] = {}
        self.latency: float | None = None
        self.least: float | None = None
        self.answered = 0
        self.total = 0.0

    def add(self, payload: bytes, ping: Ping) -> None:
        """A ping goes out with this payload."""
        self.waiting[payload] = ping

    def drop(self, payload: bytes) -> None:
        """Nobody waits for the answer to this one any more."""
        self.waiting.pop(payload, None)

    def answer(self, pongs: list[bytes]) -> None:
        """Pongs have come: take them out, and tell who waits for them."""
        now = monotonic()
        while pongs:
            payload = pongs.pop(0)
            if payload not in self.waiting:
                continue  # stray, or late
            for each in list(self.waiting):  # oldest first  # pragma: no branch - it is in there
                ping = self.waiting.pop(each, None)
                if ping is not None:  # else it has just timed out, in another thread
                    ping.seconds = now - ping.sent
                    self._count(ping.seconds)
                    ping.came.set()
                if each == payload:
                    break

    def _count(self, seconds: float) -> None:
        """A ping was answered after so many seconds."""
        self.latency = seconds
        self.least = seconds if self.least is None else min(self.least, seconds)
        self.total += seconds
        self.answered += 1
