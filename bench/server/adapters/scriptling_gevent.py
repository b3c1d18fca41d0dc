"""scriptling-ws on gevent: the same handler, each on a greenlet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import scriptling_ws as ws

from .scriptling import echo

if TYPE_CHECKING:
    from collections.abc import Callable


def serve(announce: Callable[[int], None]) -> None:
    """Serve with a greenlet for each connection."""
    ws.serve(
        echo,
        port=0,
        engine="gevent",
        binary_type=bytes,
        ping_interval=None,
        ready=lambda server: announce(server.port),
    )
