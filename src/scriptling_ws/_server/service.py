"""A server as what its program does: until a signal says otherwise.

Rules:

- SIGINT, SIGTERM and SIGHUP end it, unless SIGHUP is for something else, or they are ignored.
- Under systemd (Type=notify) it is told when the server serves, when it reloads, and when it ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from . import systemd
from .signals import StopSignal

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["run_until_stopped"]


class Serving(Protocol):
    """What is asked of a server."""

    url: str

    def close(self) -> None:
        """End it."""

    def _call_when_closed(self, callback: Callable[[], None]) -> None:
        """Call it once the server has closed."""


_Server = TypeVar("_Server", bound=Serving)


def run_until_stopped(
    server: _Server,
    ready: Callable[[_Server], object] | None,
    renew: Callable[[_Server], object] | None = None,
) -> None:
    """Wait until a signal arrives or the server is closed, then close it. Blocks.

    Args:
        server: It listens already.
        ready: Called before.
        renew: What SIGHUP is for, in place of the end.
    """
    state = f"listening on {server.url}"

    def reload() -> None:
        assert renew is not None
        systemd.notify_reloading()
        renew(server)
        systemd.notify_ready(state)

    try:
        with StopSignal(None if renew is None else reload) as stop:
            server._call_when_closed(stop.set)
            if ready is not None:
                ready(server)
            systemd.notify_ready(state)
            stop.wait()
            systemd.notify_stopping()
    finally:
        server.close()
