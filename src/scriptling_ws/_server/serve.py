"""`serve`: a server that is the program, in this process or in several.

Rules:

- In one process it is a `Server` and the wait for a signal. With several, this process is their
  master (`master`), and each worker has a `Server` of its own on the same sockets.
- What is the workers' is done in the workers: a handler's name is resolved there, so that a
  reload imports its code anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from .._functions import check_runs
from .._network.deadline import check_timeout
from .._options import check_count
from .._unknown import check_names
from .announcing import announce
from .endpoints import LISTENING, Endpoints
from .master import RELOAD_TIMEOUT, serve_with_workers, wait_by_threads
from .metrics import shared
from .operations import time_to_end
from .server import Server
from .service import run_until_stopped
from .worker import Link, attend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Unpack

    from .._options import ServerOptions
    from .route_table import BytesHandler, Handler, ListHandler, Utf8Handler
    from .routes import Routes

__all__ = ["serve"]


@overload
def serve(
    handler: ListHandler | str | None = None,
    host: str | Iterable[str] = "127.0.0.1",
    port: int = 8080,
    *,
    ready: Callable[[Server], object] | None = None,
    processes: int | None = None,
    reload_timeout: float | None = 30,
    path: str | None = None,
    routes: Routes | None = None,
    binary_type: type[list[int]] = list,
    text_type: type[str] = str,
    **options: Unpack[ServerOptions],
) -> None: ...


@overload
def serve(
    handler: Utf8Handler | str | None = None,
    host: str | Iterable[str] = "127.0.0.1",
    port: int = 8080,
    *,
    ready: Callable[[Server], object] | None = None,
    processes: int | None = None,
    reload_timeout: float | None = 30,
    path: str | None = None,
    routes: Routes | None = None,
    binary_type: type[list[int]] = list,
    text_type: type[bytes],
    **options: Unpack[ServerOptions],
) -> None: ...


@overload
def serve(
    handler: BytesHandler | str | None = None,
    host: str | Iterable[str] = "127.0.0.1",
    port: int = 8080,
    *,
    ready: Callable[[Server], object] | None = None,
    processes: int | None = None,
    reload_timeout: float | None = 30,
    path: str | None = None,
    routes: Routes | None = None,
    binary_type: type[bytes],
    text_type: type[str] = str,
    **options: Unpack[ServerOptions],
) -> None: ...


def serve(
    handler: Handler | str | None = None,
    host: str | Iterable[str] = "127.0.0.1",
    port: int = 8080,
    *,
    ready: Callable[[Server], object] | None = None,
    processes: int | None = None,
    reload_timeout: float | None = RELOAD_TIMEOUT,
    **options: Any,
) -> None:
    """Serve until SIGINT (Ctrl-C), SIGTERM or SIGHUP arrives, then close every connection.

    A signal that is ignored stays so. Signals only arrive in the main thread: called in another
    one, it serves until the server that `ready` was given is closed. A second signal ends the
    program at once.

    One line says where it listens: on the log `scriptling_ws.server` at INFO, and where no logging
    is set up, on stderr. Set up logging, or give `ready`, to have it otherwise.

    With `processes` so many worker processes serve, each with a server of its own, and this one
    replaces those that fall. SIGHUP then reloads: new workers start, and once they serve, the
    old ones listen no more and let their connections go on for `reload_timeout`. No connection
    is refused meanwhile. What the workers read anew is what each of them imports: a handler that
    is given by its name is imported in each worker, so give it by name to have its code reloaded.
    A function, `routes` and an `ssl_context` are what they are in this process. Limits such as
    `max_connections` are each worker's own.

    Args:
        handler: A function, or its name as "library.function". It is called with each
            connection, on a thread of its own, and runs for the connection's life.
        host: A name or an address of this machine, or a list of several; "0.0.0.0" or "::" for
            every address of a family, which opens the server to the network.
        port: The port of all of these, 0 for any that is free.
        ready: Called with the server once it listens; in each worker, if there are some. It
            takes the place of the line on stderr.
        processes: How many worker processes serve; None (the default) for none but this one.
            Start no thread before. It needs `fork`, which Windows has not.
        reload_timeout: Seconds that connections go on after a reload before they are closed
            with 1001, None for no limit. Matters with `processes` alone.
        **options: As for `Server`.

    Raises:
        TypeError: an argument is of the wrong type, or an option is unknown.
        ValueError: an argument cannot be used, or there is nothing to serve.
        ImportError: the handler's name leads nowhere.
        OSError: the address is not this machine's, or in use; or there is no fork.
        RuntimeError: no worker could start (what went wrong there was written to stderr); or
            `processes` is used in another thread than the main one, or where gevent runs.
    """
    check_names("serve", options)
    if ready is not None and not callable(ready):
        raise TypeError(f"ready has to be a function of the server, not {type(ready).__name__}")
    check_runs(ready, "ready")
    if processes is not None:
        _serve_with(processes, reload_timeout, handler, host, port, ready, options)
        return

    def begun(server: Server) -> None:
        _tell(server.url, server.page_url, ready, options)
        if ready is not None:
            ready(server)

    run_until_stopped(Server(handler, host, port, **options), begun)


def _serve_with(
    processes: int,
    reload_timeout: float | None,
    handler: Handler | str | None,
    host: str | Iterable[str],
    port: int,
    ready: Callable[[Server], object] | None,
    options: dict[str, Any],
) -> None:
    """Serve with worker processes: see `serve`."""
    check_count("processes", processes, ", or None for this one alone")
    check_timeout(reload_timeout, "reload_timeout")
    ending = time_to_end(options)
    wait_by_threads()
    where = {name: options.pop(name) for name in LISTENING if name in options}
    endpoints = Endpoints.open(host, port, **where)
    secure = options.get("ssl_context") is not None
    url = endpoints.url(secure=secure)
    page_url = endpoints.page_url(secure=secure, root_path=options.get("root_path", ""))

    def body(link: Link) -> None:
        served: dict[str, Any] = {**options, "sock": endpoints}
        server = Server(handler, host, port, **served)
        attend(server, link, reload_timeout, ready and (lambda: ready(server)))

    with shared(options.get("metrics")) as left:
        status = serve_with_workers(
            endpoints,
            processes,
            body,
            shutdown_timeout=ending,
            reload_timeout=reload_timeout,
            announce=lambda: _tell(url, page_url, ready, options),
            left=left,
        )
    if status:
        raise RuntimeError(
            f"no worker could start: the first one ended with status {status}; stderr says why"
        )


def _tell(
    url: str, page_url: str, ready: Callable[[Server], object] | None, options: dict[str, Any]
) -> None:
    """Say where it listens; a browser's address, if there is a page."""
    routes: Routes | None = options.get("routes")
    pages = routes is not None and routes.table().has_pages
    announce(url, page_url if pages else "", shown=ready is None)
