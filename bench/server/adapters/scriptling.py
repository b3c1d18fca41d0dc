"""scriptling-ws: a handler as the README has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import scriptling_ws as ws

if TYPE_CHECKING:
    from collections.abc import Callable


def echo(client: ws.Connection[bytes]) -> None:
    for message in client:
        client.send_binary(message)


def serve(announce: Callable[[int], None]) -> None:
    """Serve with a thread for each connection."""
    ws.serve(
        echo,
        port=0,
        binary_type=bytes,
        ping_interval=None,
        ready=lambda server: announce(server.port),
    )
