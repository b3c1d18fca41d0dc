"""Connections that go on after an answer, with another request: which, how long, how many.

Rules (RFC 9112 sections 9.3, 9.5 and 9.6):

- A connection of HTTP/1.1 goes on unless its client says `close`; one of HTTP/1.0 never does.
- It ends with an answer that could leave it out of step: one that refuses a request before all of
  it has come, and one that breaks off.
- It waits for `keep_alive_timeout`, without a thread and without a place among the requests, and
  has `max_keep_alive_requests`, after which the client comes anew (and, behind a balancer,
  perhaps to another server).
- One that waits gives way: to a client that comes while there are too few descriptors, or from the
  same address while that has too many; and to the end of the server.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final
from typing import Protocol as Interface

from .._handshakes.head import is_http_1_0
from .._network.deadline import check_timeout
from .._options import check_count

if TYPE_CHECKING:
    from .._handshakes.head import Request

__all__ = ["KeepAlive", "Sequel", "most_kept", "persists"]

_FEW: Final = 64
_MANY: Final = 16_384


class KeepAlive:
    """How the connections of one server go on.

    Attributes:
        timeout: Seconds that one waits for its next request; 0 for none that goes on.
        ended: Whether the server ends, so that no connection goes on.
    """

    __slots__ = ("_most", "ended", "timeout")

    def __init__(self, timeout: float = 75, most: int = 1000) -> None:
        """Check what a caller gives.

        Args:
            timeout: Seconds to wait for the next request, 0 to close after each answer.
            most: The most requests of a connection.

        Raises:
            TypeError: one of them is of the wrong type.
            ValueError: one of them is out of its range.
        """
        seconds = check_timeout(timeout, "keep_alive_timeout")
        if seconds is None:
            raise ValueError(
                "keep_alive_timeout has to be a number of seconds, or 0 to close after each answer"
            )
        check_count("max_keep_alive_requests", most)
        self.timeout = seconds
        self._most = most
        self.ended = False

    def allows(self, count: int) -> bool:
        """Whether a connection may have one more request than `count`."""
        return not self.ended and self.timeout > 0 and count < self._most


class Sequel(Interface):
    """How one connection goes on after an answer; who reads its next request knows the rest."""

    @property
    def timeout(self) -> float | None:
        """Seconds that it waits for that; None if it is to end, as the server does by now."""


def persists(head: bytes, request: Request) -> bool:
    """Whether the client of a request leaves its connection open (RFC 9112 section 9.3).

    Args:
        head: The request's head, as it came.
        request: The same, parsed.
    """
    if is_http_1_0(head):
        return False
    options = request.headers.get("connection", "").lower().split(",")
    return all(option.strip(" \t") != "close" for option in options)


def most_kept(capacity: int) -> int:
    """How many connections may wait for a request: a quarter of what can be open, as they give way.

    Args:
        capacity: How many the poller takes.
    """
    most = min(capacity, _MANY)
    if sys.platform != "win32":  # pragma: no branch - not on Windows
        import resource  # there is none elsewhere

        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY:
            most = min(most, soft)
    return max(_FEW, most // 4)
