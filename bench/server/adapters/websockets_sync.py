"""websockets.sync: two threads for each connection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as listening

if TYPE_CHECKING:
    from collections.abc import Callable


def echo(client: ServerConnection) -> None:
    for message in client:
        client.send(message)


def serve(announce: Callable[[int], None]) -> None:
    """Serve."""
    with listening(
        echo, "127.0.0.1", 0, compression=None, max_size=None, ping_interval=None
    ) as server:
        announce(server.socket.getsockname()[1])
        server.serve_forever()
