"""Synchronous WebSocket client and server, for plain blocking code.

    import scriptling_ws as ws

    with ws.connect("ws://127.0.0.1:8080/") as conn:
        conn.send("hello")
        print(conn.receive(timeout=5))

Each name is loaded when it is first used: `import scriptling_ws` alone costs next to
nothing, and a client never loads the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ._version import __version__

if TYPE_CHECKING:
    from ._client import connect
    from ._connection import Connection, is_binary, is_text
    from ._errors import (
        ConnectError,
        ConnectionClosed,
        ConnectTimeout,
        HandshakeError,
        InvalidURL,
        ProtocolError,
        SendTimeout,
        WebSocketError,
    )
    from ._options import ClientOptions, ConnectionOptions, RouteOptions, ServerOptions
    from ._routes import Routes
    from ._server import Server, serve

__all__ = [
    "ClientOptions",
    "ConnectError",
    "ConnectTimeout",
    "Connection",
    "ConnectionClosed",
    "ConnectionOptions",
    "HandshakeError",
    "InvalidURL",
    "ProtocolError",
    "RouteOptions",
    "Routes",
    "SendTimeout",
    "Server",
    "ServerOptions",
    "WebSocketError",
    "__version__",
    "connect",
    "is_binary",
    "is_text",
    "serve",
]

_HOMES: Final = {
    "connect": "_client",
    "Connection": "_connection",
    "is_binary": "_connection",
    "is_text": "_connection",
    "ClientOptions": "_options",
    "ConnectionOptions": "_options",
    "RouteOptions": "_options",
    "ServerOptions": "_options",
    "Routes": "_routes",
    "Server": "_server",
    "serve": "_server",
}


def __getattr__(name: str) -> object:
    """Load a public name (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # not needed before this

    value: object = getattr(import_module(f"{__name__}.{_HOMES.get(name, '_errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
