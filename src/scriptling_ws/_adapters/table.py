"""The WebSockets that an adapter answers, by their paths, each with its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .._server.routes import Routes
from .._server.settings import Settings, keep

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._server.route_table import WebSocketRoute

__all__ = ["Found", "Table"]


class Found(NamedTuple):
    """A route for a path.

    Attributes:
        route: The route.
        params: The parameters of the path.
        settings: What holds for its connections.
    """

    route: WebSocketRoute
    params: Mapping[str, str]
    settings: Settings


class Table:
    """The WebSockets of some routes as they are now."""

    def __init__(
        self, application: object, routes: object, kind: str, options: dict[str, Any]
    ) -> None:
        """Take what a middleware is given.

        Args:
            application: The application behind it.
            routes: The routes.
            kind: What it has to be: "a WSGI", "an ASGI".
            options: For every connection, unless its route says otherwise.

        Raises:
            TypeError: an argument is of the wrong type, or an option is unknown.
            ValueError: an option cannot be used, or there is no route.
        """
        if not callable(application):
            raise TypeError(
                f"application has to be {kind} application, not {type(application).__name__}"
            )
        if not isinstance(routes, Routes):
            raise TypeError(f"routes has to be a Routes, not {type(routes).__name__}")
        own = keep(options)
        Settings.of(own)  # so that a wrong one fails without a route too
        self._table = routes.table()
        if not self._table.websockets:
            raise ValueError("the routes have no WebSocket: register one, then make the Middleware")
        self._settings = {
            route: Settings.of({**own, **route.options}) for route in self._table.websockets
        }

    def find(self, path: str) -> Found | None:
        """The route of a path, None if it has none."""
        found = self._table.websocket(path)
        return None if found is None else Found(*found, self._settings[found[0]])
