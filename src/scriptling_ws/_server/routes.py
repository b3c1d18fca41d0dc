"""Routes: which handler answers which path.

Rules:

- A handler is checked when it is registered (`handlers`). Nothing from a request chooses
  an import.
- Paths are compared whole, percent-decoded, without the query; there are no
  patterns, and what looks like one is refused (`_handshakes.paths`). One path may have a
  WebSocket and a page, but not two of one kind.
- A path that has a handler goes before a directory; of directories, the longest path does.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, overload

from .._handshakes.paths import check_path
from .._options import Options, check_names, check_subprotocols
from .admission import Origins
from .handlers import check_handler
from .static import StaticFiles

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from typing_extensions import Unpack

    from .._connection.connection import Connection
    from .._handshakes.head import Request
    from .._options import RouteOptions
    from .response import Headers

    # By binary_type; a plain Connection receives lists.
    ListHandler = Callable[[Connection], object]
    BytesHandler = Callable[[Connection[bytes]], object]
    Handler = Callable[[Connection[Any]], object]
    Page = Callable[[Request], object]

__all__ = [
    "PageRoute",
    "RouteTable",
    "Routes",
    "Settings",
    "WebSocketRoute",
]

_Function = TypeVar("_Function", bound="Callable[..., object]")
_ListHandler = TypeVar("_ListHandler", bound="ListHandler")
_BytesHandler = TypeVar("_BytesHandler", bound="BytesHandler")


@dataclass(frozen=True)
class Settings:
    """How the connections of one route behave.

    Attributes:
        origins: Which origins may connect.
        subprotocols: The subprotocols that the route speaks, the preferred one first.
        connection: What every connection of the route is made with.
    """

    origins: Origins = field(default_factory=Origins)
    subprotocols: tuple[str, ...] = ()
    connection: Options = field(default_factory=Options)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """Check the options that a caller gave; `check_names` has seen their names.

        Raises:
            TypeError: an option is of the wrong type.
            ValueError: an option's value cannot be used.
        """
        rest = dict(options)
        origins = Origins(rest.pop("origins", None))
        subprotocols = tuple(check_subprotocols(rest.pop("subprotocols", ())))
        return cls(origins, subprotocols, Options(**rest))

    @staticmethod
    def keep(options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with lists in place of iterators, which could be read only once."""
        return {
            name: list(value) if isinstance(value, Iterator) else value
            for name, value in options.items()
        }

    def choose_subprotocol(self, offered: list[str]) -> str | None:
        """The first of this route's subprotocols that the client offers, None for none."""
        return next((name for name in self.subprotocols if name in offered), None)


@dataclass(frozen=True)
class WebSocketRoute:
    """A path, its handler and the options that it was registered with."""

    path: str
    handler: Handler
    options: Mapping[str, Any]


@dataclass(frozen=True)
class PageRoute:
    """A path (or, for a directory, all below it) and what answers it."""

    path: str
    handler: Page


class RouteTable:
    """The routes of one server, fixed."""

    def __init__(
        self,
        websockets: Mapping[str, WebSocketRoute],
        pages: Mapping[str, PageRoute],
        mounts: Mapping[str, PageRoute],
        fallback: WebSocketRoute | None = None,
    ) -> None:
        self._websockets = dict(websockets)
        self._pages = dict(pages)
        self._mounts = sorted(mounts.values(), key=lambda mount: -len(mount.path))
        self._fallback = fallback

    def with_page(self, page: PageRoute, option: str) -> RouteTable:
        """The same routes and one page more, which is the server's own.

        Args:
            page: The page.
            option: The option that says where it is.

        Raises:
            ValueError: there is a page at its path.
        """
        if page.path in self._pages:
            raise ValueError(
                f"the path {page.path!r} already has a page: give another one, {option}='/...'"
            )
        pages = {**self._pages, page.path: page}
        mounts = {mount.path: mount for mount in self._mounts}
        return RouteTable(self._websockets, pages, mounts, self._fallback)

    def __bool__(self) -> bool:
        """Whether there is any route."""
        return bool(self._websockets or self._pages or self._mounts or self._fallback)

    @property
    def websockets(self) -> list[WebSocketRoute]:
        """Every WebSocket route, the one for any path included."""
        fallback = [self._fallback] if self._fallback else []
        return [*self._websockets.values(), *fallback]

    @property
    def has_pages(self) -> bool:
        """Whether there is something for a browser to open."""
        return bool(self._pages or self._mounts)

    @property
    def directories(self) -> list[StaticFiles]:
        """The directories that are served."""
        return [mount.handler for mount in self._mounts if isinstance(mount.handler, StaticFiles)]

    def websocket(self, path: str) -> WebSocketRoute | None:
        """The WebSocket route of a path."""
        return self._websockets.get(path, self._fallback)

    def page(self, path: str) -> PageRoute | None:
        """The page of a path, or the directory that it is in."""
        if path in self._pages:
            return self._pages[path]
        if path in self._websockets:
            return None
        for mount in self._mounts:
            if path == mount.path or path.startswith(mount.path.rstrip("/") + "/"):
                return mount
        return None


class Routes:
    """A table of routes to register in; `Server(routes=...)` serves it.

    A server takes the routes that there are when it is made; what is registered
    later is for later servers. Register from one thread.
    """

    def __init__(self) -> None:
        self._websockets: dict[str, WebSocketRoute] = {}
        self._pages: dict[str, PageRoute] = {}
        self._mounts: dict[str, PageRoute] = {}

    @overload
    def websocket(
        self,
        path: str,
        handler: None = None,
        *,
        binary_type: type[list[int]] = list,
        **options: Unpack[RouteOptions],
    ) -> Callable[[_ListHandler], _ListHandler]: ...

    @overload
    def websocket(
        self,
        path: str,
        handler: None = None,
        *,
        binary_type: type[bytes],
        **options: Unpack[RouteOptions],
    ) -> Callable[[_BytesHandler], _BytesHandler]: ...

    @overload
    def websocket(
        self,
        path: str,
        handler: str | ListHandler,
        *,
        binary_type: type[list[int]] = list,
        **options: Unpack[RouteOptions],
    ) -> None: ...

    @overload
    def websocket(
        self,
        path: str,
        handler: str | BytesHandler,
        *,
        binary_type: type[bytes],
        **options: Unpack[RouteOptions],
    ) -> None: ...

    def websocket(
        self, path: str, handler: str | Handler | None = None, **options: Any
    ) -> Callable[[_Function], _Function] | None:
        """Register a WebSocket endpoint.

        Args:
            path: The path, such as "/chat".
            handler: A function, or its name as "library.function". It is called with
                the connection, on a thread of its own, and runs for the connection's
                life; the connection is closed when it returns. Leave it out to use
                the call as a decorator.
            **options: For this path's connections: `binary_type` (`list`, the default,
                or `bytes`), and what `RouteOptions` describes, such as `origins`,
                `subprotocols` and `compression`. The server's are for those left out.

        Returns:
            None, or the decorator.

        Raises:
            TypeError: an argument is of the wrong type, or an option is unknown.
            ValueError: the path is malformed or taken, the name is malformed or in
                the standard library, or an option's value cannot be used.
            ImportError: the name leads nowhere.
        """
        self._check_free(self._websockets, path, "a WebSocket")
        check_names("websocket", options)
        options = Settings.keep(options)
        Settings.of(options)

        def register(function: _Function) -> _Function:
            self._check_free(self._websockets, path, "a WebSocket")
            self._websockets[path] = WebSocketRoute(path, check_handler(function), options)
            return function

        if handler is None:
            return register
        register(check_handler(handler))
        return None

    @overload
    def get(self, path: str, handler: None = None) -> Callable[[_Function], _Function]: ...

    @overload
    def get(self, path: str, handler: str | Page) -> None: ...

    def get(
        self, path: str, handler: str | Page | None = None
    ) -> Callable[[_Function], _Function] | None:
        """Register a page, which answers GET and HEAD.

        Args:
            path: The path, such as "/status".
            handler: A function, or its name as "library.function". It is called with
                the request (`method`, `path`, `headers`, `query`, `body`) on a thread
                of its own, and returns html(...), json(...) or text(...), or a str, dict,
                list or bytes. Leave it out to use the call as a decorator.

        Returns:
            None, or the decorator.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: the path is malformed or taken, the name malformed or in the
                standard library.
            ImportError: the name leads nowhere.
        """
        self._check_free(self._pages, path, "a page")

        def register(function: _Function) -> _Function:
            self._check_free(self._pages, path, "a page")
            self._pages[path] = PageRoute(path, check_handler(function, "request"))
            return function

        if handler is None:
            return register
        register(check_handler(handler, "request"))
        return None

    def static(
        self,
        path: str,
        directory: str | os.PathLike[str],
        headers: Headers = None,
        *,
        fallback: str | None = None,
    ) -> None:
        """Serve a directory's files, index.html where a directory is asked for.

        Nothing outside the directory is served, nor what starts with a dot. Browsers ask each time
        whether a file has changed, and get it again only then; give `Cache-Control` for files
        whose names change with them. Where `app.js.br`, `.zst` or `.gz` stands beside
        `app.js`, and is no older, it goes out compressed.

        Args:
            path: The path below which the files are, such as "/assets", or "/".
            directory: The directory; a relative one is looked up now, from the
                current directory.
            headers: More headers for each file, such as `{"Cache-Control": "max-age=3600"}`.
            fallback: For a single-page application, the file that is the page of every path
                without a file, such as "index.html". It is sent to browsers that go to a
                page; a script or an image that is missing is 404 as ever.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: the path is malformed or taken, there is no such directory or fallback,
                or a header cannot be sent.
        """
        prefix = check_path(path).rstrip("/") or "/"
        self._check_free(self._mounts, prefix, "a directory")
        self._mounts[prefix] = PageRoute(prefix, StaticFiles(prefix, directory, headers, fallback))

    def table(self) -> RouteTable:
        """The routes as they are now."""
        return RouteTable(self._websockets, self._pages, self._mounts)

    def clear(self) -> None:
        """Forget every route."""
        self._websockets.clear()
        self._pages.clear()
        self._mounts.clear()

    @staticmethod
    def _check_free(routes: Mapping[str, object], path: str, what: str) -> None:
        if check_path(path) in routes:
            raise ValueError(f"the path {path!r} already has {what}")
