"""Routes: the table in which a program registers what answers which path.

Rules:

- A handler is checked when it is registered (`handlers`). Nothing from a request chooses
  an import.
- One path may have a WebSocket and pages, but not two of one kind (`page_routes`).
- A server takes the routes that there are when it is made (`route_table`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from .._handshakes.paths import check_pattern
from .._unknown import check_names
from .handlers import check_handler
from .page_routes import PageRoutes, check_free
from .path_tree import shape
from .route_table import RouteTable, WebSocketRoute
from .settings import Settings, keep

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Unpack

    from .._options import RouteOptions
    from .route_table import BytesHandler, Handler, ListHandler, Utf8Handler

__all__ = ["Routes", "make_table"]

_Function = TypeVar("_Function", bound="Callable[..., object]")
_ListHandler = TypeVar("_ListHandler", bound="ListHandler")
_Utf8Handler = TypeVar("_Utf8Handler", bound="Utf8Handler")
_BytesHandler = TypeVar("_BytesHandler", bound="BytesHandler")


class Routes(PageRoutes):
    """A table of routes to register in; `Server(routes=...)` serves it.

    A server takes the routes that there are when it is made; what is registered
    later is for later servers. Register from one thread.
    """

    def __init__(self) -> None:
        super().__init__()
        self._websockets: dict[str, WebSocketRoute] = {}

    @overload
    def websocket(
        self,
        path: str,
        handler: None = None,
        *,
        binary_type: type[list[int]] = list,
        text_type: type[str] = str,
        **options: Unpack[RouteOptions],
    ) -> Callable[[_ListHandler], _ListHandler]: ...

    @overload
    def websocket(
        self,
        path: str,
        handler: None = None,
        *,
        binary_type: type[list[int]] = list,
        text_type: type[bytes],
        **options: Unpack[RouteOptions],
    ) -> Callable[[_Utf8Handler], _Utf8Handler]: ...

    @overload
    def websocket(
        self,
        path: str,
        handler: None = None,
        *,
        binary_type: type[bytes],
        text_type: type[str] = str,
        **options: Unpack[RouteOptions],
    ) -> Callable[[_BytesHandler], _BytesHandler]: ...

    @overload
    def websocket(
        self,
        path: str,
        handler: str | ListHandler,
        *,
        binary_type: type[list[int]] = list,
        text_type: type[str] = str,
        **options: Unpack[RouteOptions],
    ) -> None: ...

    @overload
    def websocket(
        self,
        path: str,
        handler: str | Utf8Handler,
        *,
        binary_type: type[list[int]] = list,
        text_type: type[bytes],
        **options: Unpack[RouteOptions],
    ) -> None: ...

    @overload
    def websocket(
        self,
        path: str,
        handler: str | BytesHandler,
        *,
        binary_type: type[bytes],
        text_type: type[str] = str,
        **options: Unpack[RouteOptions],
    ) -> None: ...

    def websocket(
        self, path: str, handler: str | Handler | None = None, **options: Any
    ) -> Callable[[_Function], _Function] | None:
        """Register a WebSocket endpoint.

        Args:
            path: The path, such as "/chat"; or with parameters, such as "/room/{name}" or
                "/files/{rest:path}", which are in `client.request.params`.
            handler: A function, or its name as "library.function". It is called with
                the connection, on a thread of its own, and runs for the connection's
                life; the connection is closed when it returns. Leave it out to use
                the call as a decorator.
            **options: For this path's connections: `binary_type` (`list`, the default,
                or `bytes`), `text_type` (`str`, the default, or, with lists, `bytes`), and what
                `RouteOptions` describes, such as `origins`, `subprotocols`, `authorize` and
                `compression`. The server's are for those left out.

        Returns:
            None, or the decorator.

        Raises:
            TypeError: an argument is of the wrong type, or an option is unknown.
            ValueError: the path is malformed or taken, the name is malformed or in
                the standard library, or an option's value cannot be used.
            ImportError: the name leads nowhere.
        """
        key = shape(check_pattern(path))
        check_free(self._websockets, key, path, "a WebSocket")
        check_names("websocket", options)
        options = keep(options)
        Settings.of(options)

        def register(function: _Function) -> _Function:
            check_free(self._websockets, key, path, "a WebSocket")
            self._websockets[key] = WebSocketRoute(path, check_handler(function), options)
            return function

        if handler is None:
            return register
        register(check_handler(handler))
        return None

    def table(self) -> RouteTable:
        """The routes as they are now."""
        return RouteTable(self._websockets, self._pages, self._mounts)

    def clear(self) -> None:
        """Forget every route."""
        self._websockets.clear()
        self._pages.clear()
        self._mounts.clear()


def make_table(
    handler: Handler | str | None, path: str | None, routes: Routes | None
) -> RouteTable:
    """The routes of a server; `Server` describes the arguments.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: an argument cannot be used, or there is nothing to serve.
        ImportError: the handler's name leads nowhere.
    """
    if isinstance(handler, Routes):
        raise TypeError("the table of routes is given by its name: routes=...")
    if routes is not None and not isinstance(routes, Routes):
        raise TypeError(f"routes has to be a Routes, not {type(routes).__name__}")
    if path is not None and handler is None:
        raise ValueError("path is given without a handler: pass the handler, or leave path out")
    if path is not None and routes is not None:
        raise ValueError("path and routes exclude each other: register the handler there")
    if handler is None and routes is None:
        raise ValueError("there is nothing to serve: pass a handler, or routes=")
    table = (Routes() if routes is None else routes).table()
    if handler is None:
        if not table:
            raise ValueError("there is nothing to serve: the routes are empty")
        return table
    if path is None:
        return table.with_fallback(WebSocketRoute("", check_handler(handler)))
    own = Routes()
    own.websocket(path, handler)
    return own.table()
