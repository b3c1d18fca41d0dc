"""Pages: which handler answers which method at which path, and the directories.

Rules:

- A handler is checked when it is registered (`handlers`). Nothing from a request chooses an import.
- A path may have parameters (`_handshakes.paths`); `path_tree` says which route goes first. Two
  routes that no request can tell apart are an error, by whatever names they have their parameters.
- `get` answers HEAD too; OPTIONS is answered for every path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, overload

from .._handshakes.paths import check_path, check_pattern
from .._unknown import check_names
from .handlers import check_handler
from .path_tree import shape
from .route_table import PageRoute
from .settings import PageSettings, keep
from .static import StaticFiles

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Mapping

    from typing_extensions import Unpack

    from .._options import PageOptions
    from .response import Headers
    from .route_table import Page

__all__ = ["PageRoutes", "check_free"]

_Function = TypeVar("_Function", bound="Callable[..., object]")


class PageRoutes:
    """A table of pages to register in; `Routes` has the WebSockets beside them."""

    def __init__(self) -> None:
        self._pages: dict[str, dict[str, PageRoute]] = {}
        self._mounts: dict[str, PageRoute] = {}

    @overload
    def get(
        self, path: str, handler: None = None, **options: Unpack[PageOptions]
    ) -> Callable[[_Function], _Function]: ...

    @overload
    def get(self, path: str, handler: str | Page, **options: Unpack[PageOptions]) -> None: ...

    def get(
        self, path: str, handler: str | Page | None = None, **options: Any
    ) -> Callable[[_Function], _Function] | None:
        """Register a page, which answers GET and HEAD.

        Args:
            path: The path, such as "/status"; or with parameters, such as "/room/{name}" or
                "/files/{rest:path}", which are in `request.params`.
            handler: A function, or its name as "library.function". It is called with
                the request (`method`, `path`, `headers`, `query`, `body`) on a thread
                of its own, and returns html(...), json(...) or text(...), or a str, dict,
                list or bytes. Leave it out to use the call as a decorator.
            **options: What `PageOptions` describes: `authorize` and `cors`.

        Returns:
            None, or the decorator.

        Raises:
            TypeError: an argument is of the wrong type, or an option is unknown.
            ValueError: the path is malformed or taken, the name malformed or in the
                standard library, or an option's value cannot be used.
            ImportError: the name leads nowhere.
        """
        return self._register("GET", path, handler, options)

    @overload
    def post(
        self, path: str, handler: None = None, **options: Unpack[PageOptions]
    ) -> Callable[[_Function], _Function]: ...

    @overload
    def post(self, path: str, handler: str | Page, **options: Unpack[PageOptions]) -> None: ...

    def post(
        self, path: str, handler: str | Page | None = None, **options: Any
    ) -> Callable[[_Function], _Function] | None:
        """Register what answers POST at a path; all else as for `get`.

        A request from a page of another origin is refused unless `cors` has that: a browser sends
        any page's form to any server, with the user's cookies. Programs send no Origin, and pass.
        The same holds for `put`, `patch` and `delete`.
        """
        return self._register("POST", path, handler, options)

    @overload
    def put(
        self, path: str, handler: None = None, **options: Unpack[PageOptions]
    ) -> Callable[[_Function], _Function]: ...

    @overload
    def put(self, path: str, handler: str | Page, **options: Unpack[PageOptions]) -> None: ...

    def put(
        self, path: str, handler: str | Page | None = None, **options: Any
    ) -> Callable[[_Function], _Function] | None:
        """Register what answers PUT at a path; as for `post`."""
        return self._register("PUT", path, handler, options)

    @overload
    def patch(
        self, path: str, handler: None = None, **options: Unpack[PageOptions]
    ) -> Callable[[_Function], _Function]: ...

    @overload
    def patch(self, path: str, handler: str | Page, **options: Unpack[PageOptions]) -> None: ...

    def patch(
        self, path: str, handler: str | Page | None = None, **options: Any
    ) -> Callable[[_Function], _Function] | None:
        """Register what answers PATCH at a path; as for `post`."""
        return self._register("PATCH", path, handler, options)

    @overload
    def delete(
        self, path: str, handler: None = None, **options: Unpack[PageOptions]
    ) -> Callable[[_Function], _Function]: ...

    @overload
    def delete(self, path: str, handler: str | Page, **options: Unpack[PageOptions]) -> None: ...

    def delete(
        self, path: str, handler: str | Page | None = None, **options: Any
    ) -> Callable[[_Function], _Function] | None:
        """Register what answers DELETE at a path; as for `post`."""
        return self._register("DELETE", path, handler, options)

    def static(
        self,
        path: str,
        directory: str | os.PathLike[str],
        headers: Headers = None,
        *,
        fallback: str | None = None,
        **options: Unpack[PageOptions],
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
            **options: What `PageOptions` describes: `authorize` and `cors`.

        Raises:
            TypeError: an argument is of the wrong type, or an option is unknown.
            ValueError: the path is malformed or taken, there is no such directory or fallback,
                or a header cannot be sent.
        """
        prefix = check_path(path).rstrip("/") or "/"
        if prefix in self._mounts:
            raise ValueError(f"the path {prefix!r} already has a directory")
        given = _checked("static", options)
        files = StaticFiles(prefix, directory, headers, fallback)
        self._mounts[prefix] = PageRoute(prefix, files, given)

    def _register(
        self, method: str, path: str, handler: str | Page | None, options: Mapping[str, Any]
    ) -> Callable[[_Function], _Function] | None:
        given = _checked(method.lower(), options)
        key = shape(check_pattern(path))
        what = "a page" if method == "GET" else f"a page for {method}"

        def check() -> None:
            of_path = self._pages.get(key, {})
            check_free(of_path, method, path, what)
            for other in of_path.values():
                if other.path != path:
                    raise ValueError(
                        f"the path {path!r} is that of {other.path!r}, which has other names for "
                        "its parameters: name them alike"
                    )

        def register(function: _Function) -> _Function:
            check()
            route = PageRoute(path, check_handler(function, "request"), given)
            self._pages.setdefault(key, {})[method] = route
            return function

        check()
        if handler is None:
            return register
        register(check_handler(handler, "request"))
        return None


def check_free(routes: Mapping[str, PageRoute | object], key: str, path: str, what: str) -> None:
    """Refuse to have two of a kind at one path.

    Raises:
        ValueError: there is one.
    """
    if key in routes:
        raise ValueError(f"the path {path!r} already has {what}")


def _checked(call: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a page, checked."""
    check_names(call, options)
    given = keep(options)
    PageSettings.of(given)
    return given
