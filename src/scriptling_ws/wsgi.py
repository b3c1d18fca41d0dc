"""WebSockets inside of a WSGI application: Flask, Bottle, Django and their like.

    from scriptling_ws import Routes, wsgi

    routes = Routes()

    @routes.websocket("/echo")
    def echo(client):
        for message in client:
            client.send(message)

    application = wsgi.Middleware(application, routes)

Or in a view, which has the framework's own session, login and path:

    @app.get("/echo", websocket=True)  # Flask's word for it; others need none
    def echo():
        with wsgi.accept(request.environ) as client:
            for message in client:
                client.send(message)
        return ""

Rules:

- It works where the server lets an application have the socket: gunicorn (gthread and gevent),
  Werkzeug's server, gevent's pywsgi, Django's `runserver`. Any other gets a clear refusal, 501.
- What an upgrade has to be, and the checks of origin and host, are the native server's.
- A connection keeps the thread or greenlet that the server has given the request, until the
  handler or the view returns. Where the number of these is known (gunicorn's), one of them stays
  free for other requests: what comes beyond is refused with 503.
- When the server ends, every connection is closed with 1001 at once (`_adapters.ending`).
- What the server makes of the request afterwards reaches nobody: see `_network.foreign`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, overload

from ._adapters.door import Answered, Door
from ._adapters.environ import path_of, wants_websocket
from ._adapters.running import run_handler
from ._adapters.table import Table
from ._errors import HandshakeError
from ._server.response import phrase
from ._server.settings import Settings
from ._unknown import check_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from typing_extensions import Unpack

    from ._connection.connection import Connection
    from ._options import RouteOptions
    from ._server.response import Response
    from ._server.routes import Routes

    Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

__all__ = ["Middleware", "accept"]

_logger = logging.getLogger("scriptling_ws.server")

# What stands between two servers, and is no application's to say (PEP 3333).
_HOP_BY_HOP: Final = ("connection", "upgrade")


class Middleware:
    """Answers the WebSockets of a table of routes; all else goes to the application.

    Safe for any number of threads. A call blocks for the connection's life.
    """

    def __init__(
        self,
        application: Application,
        routes: Routes,
        *,
        allowed_hosts: Iterable[str] | None = None,
        max_connections: int | None = None,
        binary_type: type[list[int]] | type[bytes] = list,
        text_type: type[str] | type[bytes] = str,
        **options: Unpack[RouteOptions],
    ) -> None:
        """Put WebSockets before an application.

        Args:
            application: The application, such as `app.wsgi_app`. It is asked for every request
                but the upgrades to the routes' paths; pages of the table are not served.
            routes: The WebSockets, by their paths within the application. Those that there are
                now count.
            allowed_hosts: As `Server` takes it. By default any, but where the server listens on a
                loopback address names of this machine alone: behind a proxy of the same machine,
                name what it passes on as Host.
            max_connections: The most WebSockets of this process at a time. By default one less
                than gunicorn's worker has threads or greenlets; no limit elsewhere.
            binary_type: What binary messages are received as, unless a route says otherwise:
                `list` (of ints) or `bytes`.
            text_type: What text messages are received as, likewise: `str`, or with lists `bytes`.
            **options: For every connection, unless its route says otherwise: what `RouteOptions`
                describes.

        Raises:
            TypeError: an argument is of the wrong type, or an option is unknown.
            ValueError: an argument cannot be used, or there is no route.
        """
        check_names("Middleware", options)
        own = {"binary_type": binary_type, "text_type": text_type, **options}
        self._table = Table(application, routes, "a WSGI", own)
        self._application = application
        self._door = Door(allowed_hosts, max_connections)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request: see PEP 3333."""
        path = path_of(environ) if wants_websocket(environ) else None
        found = None if path is None else self._table.find(path)
        if found is None:
            return self._application(environ, start_response)
        try:
            client, seat = self._door.open(environ, found.settings, found.params)
        except Answered as answered:
            start_response(*_head(answered.response))
            return [answered.response.body]
        except OSError as error:
            _logger.debug("a client left before it was accepted: %s", error)
            return _nothing(start_response)
        assert client.request is not None
        try:
            run_handler(found.route.handler, client, client.request)
        finally:
            seat.leave()
        return _nothing(start_response)


@overload
def accept(
    environ: Mapping[str, Any],
    *,
    allowed_hosts: Iterable[str] | None = None,
    max_connections: int | None = None,
    binary_type: type[list[int]] = list,
    text_type: type[str] = str,
    **options: Unpack[RouteOptions],
) -> Connection: ...


@overload
def accept(
    environ: Mapping[str, Any],
    *,
    allowed_hosts: Iterable[str] | None = None,
    max_connections: int | None = None,
    binary_type: type[list[int]] = list,
    text_type: type[bytes],
    **options: Unpack[RouteOptions],
) -> Connection[list[int], bytes]: ...


@overload
def accept(
    environ: Mapping[str, Any],
    *,
    allowed_hosts: Iterable[str] | None = None,
    max_connections: int | None = None,
    binary_type: type[bytes],
    text_type: type[str] = str,
    **options: Unpack[RouteOptions],
) -> Connection[bytes]: ...


def accept(
    environ: Mapping[str, Any],
    *,
    allowed_hosts: Iterable[str] | None = None,
    max_connections: int | None = None,
    **options: Any,
) -> Connection[Any, Any]:
    """Accept an upgrade to WebSocket in a view of a WSGI framework.

    Use the connection in a `with`, in the view's own thread: it has to be closed when the view
    returns. What the view returns then reaches nobody. Blocks until the answer is written.

    Args:
        environ: The request's WSGI environ: `request.environ` in Flask, Bottle and Django.
        allowed_hosts: As `Middleware` takes it.
        max_connections: As `Middleware` takes it.
        **options: For the connection: `binary_type`, `text_type`, and what `RouteOptions`
            describes, such as `origins` and `subprotocols`.

    Returns:
        The open connection.

    Raises:
        HandshakeError: it is no upgrade, or may not come in: `status`, `headers` and `body` are
            what the view is to answer with. Its status is 501 where the server lets no
            application have its socket, 503 where there is no thread to spare.
        ConnectError: the client has left.
        TypeError: an argument is of the wrong type, or an option is unknown.
        ValueError: an option's value cannot be used.
    """
    check_names("accept", options)
    settings = Settings.of(options)
    door = Door(allowed_hosts, max_connections)
    try:
        client, seat = door.open(environ, settings)
    except Answered as answered:
        response = answered.response
        headers = {name.lower(): value for name, value in _fields(response)}
        text = f"no WebSocket was opened: {response.status} {answered.reason}"
        raise HandshakeError(text, response.status, headers, response.body) from answered
    except OSError as error:
        from ._errors import ConnectError

        raise ConnectError(f"the client left before it was accepted: {error}", error) from error
    client.on_close(seat.leave)  # nothing says when the view returns
    return client


def _fields(response: Response) -> list[tuple[str, str]]:
    return [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        *((n, v) for n, v in response.headers if n.lower() not in _HOP_BY_HOP),
    ]


def _head(response: Response) -> tuple[str, list[tuple[str, str]]]:
    return f"{response.status} {phrase(response.status)}", _fields(response)


def _nothing(start_response: Callable[..., Any]) -> Iterable[bytes]:
    """What a server makes of it is for its log: nobody is there to read it."""
    start_response("101 Switching Protocols", [])
    return []
