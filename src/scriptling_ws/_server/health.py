"""The page by which load balancers see whether to send more: 200 while the server serves, else 503.

Rules:

- It is answered by the acceptor, at once: without a thread, and without a place among the requests,
  so that a server that is full of work is not taken for one that is gone. An acceptor that hangs
  does not answer.
- GET, HEAD and OPTIONS, the checks that balancers send, tell the same.
- It answers to any name in a Host header: balancers ask by an address. There is nothing in it that
  a stranger's page did not know from being answered.
- A balancer asks every second or so: its lines are on the log's debug level.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final

from .delivery import Delivery
from .response import Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._handshakes.head import Request
    from .arrival import Arrival
    from .limits import Place

__all__ = ["AdmittedCheck", "Health"]

_logger = logging.getLogger("scriptling_ws.server")

_METHODS: Final = ("GET", "HEAD", "OPTIONS")


class Health:
    """Whether a server serves, and the page that tells it.

    Attributes:
        path: The page's path.
        serving: Whether more may be sent; set to False once, as the server begins to close.
    """

    def __init__(self, path: str) -> None:
        """Serve."""
        self.path = path
        self.serving = True

    def is_asked(self, request: Request) -> bool:
        """Whether a request is a check."""
        return request.path == self.path and request.method in _METHODS

    def answer(self, request: Request | None = None) -> Response:  # noqa: ARG002  # as a page's
        """What a check gets."""
        status, text = (200, "serving\n") if self.serving else (503, "closing\n")
        return Response(status, text, headers={"Cache-Control": "no-store"})


@dataclass(frozen=True)
class AdmittedCheck:
    """A check, which is answered without a thread.

    Attributes:
        health: What it asks for.
        deliver: Takes over the answer with its place.
    """

    health: Health
    deliver: Callable[[Delivery, Place], None]
    kind: ClassVar[str | None] = None

    def start(self, arrival: Arrival) -> None:
        """As `Admitted.start`."""
        head_only = arrival.request.method == "HEAD"
        answer, manner = self.health.answer(), arrival.manner
        delivery = Delivery(arrival.transport, answer, head_only=head_only, manner=manner)
        address = arrival.transport.remote_addr
        _logger.debug("%s has checked the server's health: %d", address, delivery.status)
        arrival.place.answered()
        self.deliver(delivery, arrival.place)
