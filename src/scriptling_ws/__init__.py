"""Synchronous WebSocket client and server, for plain blocking code.

    import scriptling_ws as ws

    with ws.connect("ws://127.0.0.1:8080/") as conn:
        conn.send("hello")
        print(conn.receive(timeout=5))

Each name is loaded when it is first used: `import scriptling_ws` alone costs next to
nothing, and a client never loads the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from types import ModuleType

    from ._client.connect import connect
    from ._client.reconnecting import Reconnecting, reconnecting
    from ._codes import CloseCode
    from ._connection.connection import Connection, is_binary, is_text
    from ._connection.instream import MessageStream
    from ._connection.pairing import pair
    from ._connection.readiness import wait
    from ._connection.stats import ConnectionStats
    from ._errors import (
        ConnectError,
        ConnectionClosed,
        ConnectTimeout,
        HandshakeError,
        InvalidMessage,
        InvalidURL,
        ProtocolError,
        ProxyError,
        ReceiveTimeout,
        RoomError,
        SendTimeout,
        WebSocketError,
    )
    from ._options import (
        ClientOptions,
        ConnectionOptions,
        PageOptions,
        PairOptions,
        ReconnectingOptions,
        RouteOptions,
        ServerOptions,
    )
    from ._rooms.registry import room
    from ._rooms.room import Room
    from ._rooms.stats import RoomStats
    from ._server.credentials import basic_auth, bearer_auth
    from ._server.routes import Routes
    from ._server.serve import serve
    from ._server.server import Server

__all__ = [
    "ClientOptions",
    "CloseCode",
    "ConnectError",
    "ConnectTimeout",
    "Connection",
    "ConnectionClosed",
    "ConnectionOptions",
    "ConnectionStats",
    "HandshakeError",
    "InvalidMessage",
    "InvalidURL",
    "MessageStream",
    "PageOptions",
    "PairOptions",
    "ProtocolError",
    "ProxyError",
    "ReceiveTimeout",
    "Reconnecting",
    "ReconnectingOptions",
    "Room",
    "RoomError",
    "RoomStats",
    "RouteOptions",
    "Routes",
    "SendTimeout",
    "Server",
    "ServerOptions",
    "WebSocketError",
    "__version__",
    "basic_auth",
    "bearer_auth",
    "connect",
    "is_binary",
    "is_text",
    "pair",
    "reconnecting",
    "room",
    "serve",
    "wait",
]


def _home(name: str) -> ModuleType:
    """The module that a public name is from.

    Each is imported in words of its own, which is what bundlers (PyInstaller, Nuitka) find.
    """
    if name in ("connect", "Reconnecting", "reconnecting"):
        return _home_of_clients(name)
    if name in ("Connection", "ConnectionStats", "MessageStream", "is_binary", "is_text"):
        return _home_of_connections(name)
    if name in ("pair", "wait"):
        return _home_of_several(name)
    if name == "CloseCode":
        from . import _codes

        return _codes
    if name.endswith("Options"):
        from . import _options

        return _options
    if name in ("Room", "RoomStats", "room"):
        return _home_of_rooms(name)
    if name in ("basic_auth", "bearer_auth"):
        from ._server import credentials as _credentials

        return _credentials
    if name == "Routes":
        from ._server import routes as _routes

        return _routes
    if name == "Server":
        from ._server import server as _server

        return _server
    if name == "serve":
        from ._server import serve as _serve

        return _serve
    from . import _errors

    return _errors


def _home_of_rooms(name: str) -> ModuleType:
    """As `_home`, for rooms."""
    if name == "room":
        from ._rooms import registry as _registry

        return _registry
    if name == "Room":
        from ._rooms import room as _room

        return _room
    from ._rooms import stats as _stats

    return _stats


def _home_of_clients(name: str) -> ModuleType:
    """As `_home`, for what connects."""
    if name == "connect":
        from ._client import connect as _client

        return _client
    from ._client import reconnecting as _reconnecting

    return _reconnecting


def _home_of_connections(name: str) -> ModuleType:
    """As `_home`, for a connection."""
    if name == "ConnectionStats":
        from ._connection import stats as _stats

        return _stats
    if name == "MessageStream":
        from ._connection import instream as _instream

        return _instream
    from ._connection import connection as _connection

    return _connection


def _home_of_several(name: str) -> ModuleType:
    """As `_home`, for what has several connections."""
    if name == "pair":
        from ._connection import pairing as _pairing

        return _pairing
    from ._connection import readiness as _readiness

    return _readiness


def __getattr__(name: str) -> object:
    """Load a public name (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(_home(name), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
