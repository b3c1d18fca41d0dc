"""The routes of one server, fixed: what answers which path.

Rules:

- Paths are compared percent-decoded, without the query; the most specific route goes first
  (`path_tree`). A path may have a WebSocket and pages, one for each method.
- A path that is a WebSocket's own, without parameters, is no file's, and no page's but its own.
- A handler of any path answers where no route does, after them all.
- HEAD is answered as GET is, without the body (RFC 9110 section 9.3.2).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from .._handshakes.paths import check_pattern
from .path_tree import PathTree
from .static import StaticFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .._connection.connection import Connection
    from .._handshakes.head import Request

    # By binary_type and text_type; a plain Connection receives lists and str.
    ListHandler = Callable[[Connection], object]
    BytesHandler = Callable[[Connection[bytes]], object]
    Utf8Handler = Callable[[Connection[list[int], bytes]], object]
    Handler = Callable[[Connection[Any, Any]], object]
    Page = Callable[[Request], object]

__all__ = ["METHODS", "PageRoute", "RouteTable", "WebSocketRoute"]

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
"""Those that a page may answer, beside OPTIONS; in the order in which Allow has them."""


@dataclass(frozen=True, eq=False)
class WebSocketRoute:
    """A path, its handler and the options that it was registered with."""

    path: str
    handler: Handler
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class PageRoute:
    """A path (or, for a directory, all below it), what answers it, and its options."""

    path: str
    handler: Page
    options: Mapping[str, Any] = field(default_factory=dict)


_Pages = dict[str, PageRoute]  # of one path, by method
_Params = dict[str, str]


class RouteTable:
    """The routes of one server. Any number of threads may look up in it."""

    def __init__(
        self,
        websockets: Mapping[str, WebSocketRoute],
        pages: Mapping[str, Mapping[str, PageRoute]],
        mounts: Mapping[str, PageRoute],
        fallback: WebSocketRoute | None = None,
    ) -> None:
        """Fix them.

        Args:
            websockets: The WebSockets, by the shape of their paths.
            pages: The pages likewise, of each path by method.
            mounts: The directories, by their paths.
            fallback: The WebSocket of any other path.
        """
        self._given = (dict(websockets), {key: dict(of) for key, of in pages.items()}, dict(mounts))
        self._fallback = fallback
        self._websockets: PathTree[WebSocketRoute] = PathTree()
        self._pages: PathTree[_Pages] = PathTree()
        for route in websockets.values():
            self._websockets.add(check_pattern(route.path), route)
        for of_path in pages.values():
            path = next(iter(of_path.values())).path
            self._pages.add(check_pattern(path), dict(of_path))
        for mount in mounts.values():
            self._pages.add_below(mount.path, {"GET": mount})

    def with_page(self, page: PageRoute, option: str) -> RouteTable:
        """The same routes and one page more, which is the server's own.

        Args:
            page: The page, without parameters.
            option: The option that says where it is.

        Raises:
            ValueError: there is a page at its path.
        """
        websockets, pages, mounts = self._given
        if page.path in pages:
            raise ValueError(
                f"the path {page.path!r} already has a page: give another one, {option}='/...'"
            )
        return RouteTable(websockets, {**pages, page.path: {"GET": page}}, mounts, self._fallback)

    def with_fallback(self, route: WebSocketRoute) -> RouteTable:
        """The same routes, and a WebSocket for any other path."""
        return RouteTable(*self._given, route)

    def __bool__(self) -> bool:
        """Whether there is any route."""
        return any(self._given) or self._fallback is not None

    @property
    def websockets(self) -> list[WebSocketRoute]:
        """Every WebSocket route, the one for any path included."""
        fallback = [self._fallback] if self._fallback else []
        return [*self._given[0].values(), *fallback]

    @property
    def pages(self) -> list[PageRoute]:
        """Every page, and every directory."""
        _, pages, mounts = self._given
        return [
            *(page for of_path in pages.values() for page in of_path.values()),
            *mounts.values(),
        ]

    @property
    def has_pages(self) -> bool:
        """Whether there is something for a browser to open."""
        _, pages, mounts = self._given
        return bool(pages or mounts)

    @property
    def directories(self) -> list[StaticFiles]:
        """The directories that are served."""
        mounts = self._given[2].values()
        return [mount.handler for mount in mounts if isinstance(mount.handler, StaticFiles)]

    def websocket(self, path: str) -> tuple[WebSocketRoute, _Params] | None:
        """The WebSocket route of a path, and its parameters there."""
        route = self._websockets.whole(path)
        if route is not None:
            return route, {}
        found = next(self._websockets.matches(path), None)
        if found is None and self._fallback is not None:
            return self._fallback, {}
        return found

    def page(self, path: str, method: str) -> tuple[PageRoute, _Params] | None:
        """What answers a method at a path, and the parameters there; a page, or a directory."""
        wanted = "GET" if method == "HEAD" else method
        for pages, params in self._pages_at(path):
            if wanted in pages:
                return pages[wanted], params
        return None

    def methods(self, path: str) -> list[str]:
        """The methods that the pages at a path answer; none where there is no page."""
        found = {method for pages, _ in self._pages_at(path) for method in pages}
        if "GET" in found:
            found.add("HEAD")
        return [method for method in METHODS if method in found]

    def _pages_at(self, path: str) -> Iterator[tuple[_Pages, _Params]]:
        if self._websockets.whole(path) is None:
            return self._pages.matches(path)
        own = self._pages.whole(path)
        return iter(() if own is None else ((own, {}),))
