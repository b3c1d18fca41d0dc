"""What those ask of a server who run it: its health, its figures, and an end that nobody notices.

Rules:

- The end begins with the health page saying 503. With `drain_timeout` the server then goes on for
  so long: balancers see it, and send no more, before anything is refused.
- A page of these is an answer of the server's own: its path is taken for no page of a program's.
- Who runs a server is told of a handler that keeps all others waiting, where one can.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from .._handshakes.paths import check_path
from .._network.deadline import check_timeout
from .._network.waiting import engine
from .figures import NO_FIGURES
from .health import AdmittedCheck, Health
from .log import RareWarning
from .metrics import Metrics
from .route_table import PageRoute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._handshakes.head import Request
    from .._network.contract import Closeable
    from .delivery import Delivery
    from .figures import Figures
    from .limits import Place
    from .route_table import RouteTable

__all__ = ["SHUTDOWN_TIMEOUT", "Operations", "time_to_end"]

_logger = logging.getLogger("scriptling_ws.server")

SHUTDOWN_TIMEOUT: Final = 5
"""Seconds for a server's close, where nobody has said."""


class Operations:
    """The health, the figures and the drain of one server.

    Attributes:
        figures: What is counted.
    """

    def __init__(
        self, health: str | bool | None, metrics: str | bool | None, drain_timeout: float
    ) -> None:
        """Check what a caller gave; `Server` describes it.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: an argument cannot be used.
            ImportError, RuntimeError: as `Metrics`.
        """
        health, metrics = _path("health", health), _path("metrics", metrics)
        seconds = check_timeout(drain_timeout, "drain_timeout")
        if seconds is None:
            raise ValueError(
                "drain_timeout has to be a number of seconds, as `close` waits so long"
            )
        if health is not None and health == metrics:
            raise ValueError(
                f"health and metrics are both at {health!r}: give them paths of their own"
            )
        self._drain_timeout = seconds
        self._health = None if health is None else Health(health)
        self._metrics = None if metrics is None else Metrics(metrics)
        self.figures: Figures = self._metrics or NO_FIGURES
        self._delays = RareWarning(_logger)
        self._watch: Closeable | None = None

    @property
    def paths(self) -> list[str]:
        """Where the pages of these are."""
        return [page.path for page in (self._health, self._metrics) if page is not None]

    def add_pages(self, table: RouteTable) -> RouteTable:
        """The routes, and beside them the pages of these.

        Raises:
            ValueError: the program has a page at one of their paths.
        """
        for name, page in (("health", self._health), ("metrics", self._metrics)):
            if page is not None:
                table = table.with_page(PageRoute(page.path, page.answer), name)
        return table

    def check(
        self, request: Request, deliver: Callable[[Delivery, Place], None]
    ) -> AdmittedCheck | None:
        """What answers a health check; None if the request is none."""
        if self._health is None or not self._health.is_asked(request):
            return None
        return AdmittedCheck(self._health, deliver)

    def drain(self) -> None:
        """Go on serving while balancers find out that this server closes.

        Blocks for `drain_timeout`, at the first call alone: that may have been cut short.
        """
        seconds, self._drain_timeout = self._drain_timeout, 0
        if self._health is not None:
            self._health.serving = False
        if seconds:
            engine().sleep(seconds)

    def watch(self) -> None:
        """Look out for handlers that keep all others waiting, until `end`."""
        self._watch = engine().watch(self._warn_of_delay)

    def _warn_of_delay(self, seconds: float, name: str) -> None:
        """Say once in a while that a handler has kept all the others waiting."""
        self._delays.give(
            "nothing else could run for %.2f s%s: a handler that computes, or waits by calls that "
            "gevent has not patched, holds up all others",
            seconds,
            f"; the last to run was {name!r}" if name else "",
        )

    def end(self) -> None:
        """Do no more of it. Blocks for a moment at most."""
        self.figures.stop()
        if self._watch is not None:
            self._watch.close()


def time_to_end(options: Mapping[str, Any]) -> float | None:
    """The seconds that a server with these options takes to end, at the longest; None for ever.

    Raises:
        TypeError: a timeout is no number.
        ValueError: a timeout is negative or NaN.
    """
    closing = check_timeout(options.get("shutdown_timeout", SHUTDOWN_TIMEOUT), "shutdown_timeout")
    draining = check_timeout(options.get("drain_timeout", 0), "drain_timeout")
    return None if closing is None or draining is None else closing + draining


def _path(name: str, value: object) -> str | None:
    """Where a page of the server's own is; None for nowhere.

    Args:
        name: The option's name, also that of its default: health is at "/healthz".
        value: Its value.
    """
    if value is None or value is False:
        return None
    if value is True:
        return {"health": "/healthz", "metrics": "/metrics"}[name]
    if not isinstance(value, str):
        raise TypeError(f"{name} has to be a path, True or None, not {type(value).__name__}")
    return check_path(value)
