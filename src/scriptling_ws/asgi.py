"""WebSockets with blocking handlers inside of an ASGI server: uvicorn, hypercorn.

    from scriptling_ws import Routes, asgi

    routes = Routes()

    @routes.websocket("/echo")
    def echo(client):
        for message in client:
            client.send(message)

    application = asgi.Middleware(application, routes)

Rules (the ASGI specification, "WebSocket"):

- A handler is the blocking function that it is everywhere, with a thread of its own; the event
  loop waits for none. What it is given is `asgi.Client`, which has the calls of `Connection`.
- The server has read the upgrade, and speaks WebSocket: message sizes, compression, pings and
  timeouts are its options. Origin and host are checked here, as on the native server.
- A refusal has its status where the server takes one ("websocket.http.response"), else it is 403.
- When the server ends, every connection is closed with 1001 at once (`_adapters.ending`).
"""

from __future__ import annotations

import contextlib
import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ._adapters.ending import REASON, ending
from ._adapters.events import Client, Posted, close_event
from ._adapters.gate import Gate
from ._adapters.running import decide, log_refusal, run_handler
from ._adapters.table import Table
from ._codes import CloseCode
from ._connection.stats import MessageStats
from ._handshakes.head import Refused, parse_request
from ._network.authority import host_port
from ._network.loops import Cancelled, Mailbox, in_a_loop, together
from ._network.waiting import engine
from ._options import check_count
from ._server.authorization import Verdict
from ._server.response import refusal
from ._unknown import check_names

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from typing_extensions import Unpack

    from ._adapters.ending import Seat
    from ._adapters.table import Found
    from ._handshakes.head import Request
    from ._options import RouteOptions
    from ._server.response import Response
    from ._server.route_table import WebSocketRoute
    from ._server.routes import Routes
    from ._server.settings import Settings

    Scope = Mapping[str, Any]
    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]
    Application = Callable[[Any, Any, Any], Awaitable[Any]]

__all__ = ["Client", "MessageStats", "Middleware"]

_logger = logging.getLogger("scriptling_ws.server")

_BROKEN = re.compile(rb"[\r\n\0]")


class Middleware:
    """Answers the WebSockets of a table of routes; all else goes to the application."""

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
            application: The ASGI application; pages of the table are not served.
            routes: The WebSockets, by their paths. Those that there are now count.
            allowed_hosts: As `Server` takes it. By default any, but where the server listens on a
                loopback address names of this machine alone: behind a proxy of the same machine,
                name what it passes on as Host.
            max_connections: The most WebSockets of this process at a time, each of which has a
                thread; None for no limit.
            binary_type: What binary messages are received as, unless a route says otherwise:
                `list` (of ints) or `bytes`.
            text_type: What text messages are received as, likewise: `str`, or with lists `bytes`.
            **options: For every connection, unless its route says otherwise: what `RouteOptions`
                describes. Of these `compression`, `ping_interval` and
                their like are the server's, and have no effect.

        Raises:
            TypeError: an argument is of the wrong type, or an option is unknown.
            ValueError: an argument cannot be used, or there is no route.
        """
        check_names("Middleware", options)
        if max_connections is not None:
            check_count("max_connections", max_connections)
        own = {"binary_type": binary_type, "text_type": text_type, **options}
        self._table = Table(application, routes, "an ASGI", own)
        self._application = application
        self._gate = Gate(allowed_hosts)
        self._most = max_connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a scope: see the ASGI specification."""
        found = self._table.find(_path(scope)) if scope["type"] == "websocket" else None
        if found is None:
            await self._application(scope, receive, send)
            return
        if not in_a_loop():
            raise RuntimeError(
                "scriptling_ws.asgi needs asyncio: run the server with its asyncio loop"
            )
        if (await receive())["type"] != "websocket.connect":
            return  # the client has left already
        request: Request | None = None
        try:
            request = _request(scope)
            request.params.update(found.params)
            self._gate.check_caller(request, found.settings, _address(scope.get("server")))
            seat = ending().take_seat(self._most, "")
        except Refused as refused:
            log_refusal(request, refused)
            await _refuse(refusal(refused), scope, send)
            return
        try:
            offered = list(scope.get("subprotocols") or ())
            verdict = await _decide(request, found.settings, offered)
            if verdict.response is None:
                server = _Server(scope, receive, send)
                await _run(found, request, seat, verdict, server)
            else:
                log_refusal(request, Refused(verdict.response.status, verdict.reason))
                await _refuse(verdict.response, scope, send)
        finally:
            if not seat.filled:  # else it is the handler's
                seat.leave()


class _Server(NamedTuple):
    """What an ASGI server gives an application for one connection."""

    scope: Scope
    receive: Receive
    send: Send


async def _run(
    found: Found, request: Request, seat: Seat, verdict: Verdict, server: _Server
) -> None:
    """Accept, and move the events between the server and the handler's thread."""
    headers = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in verdict.headers]
    accepted = {
        "type": "websocket.accept",
        "subprotocol": verdict.subprotocol,
        "headers": headers,
    }
    if not await _tell(server.send, accepted):
        return
    outbox: Mailbox[Posted | None] = Mailbox()
    room: Mailbox[None] = Mailbox()
    given_up: Mailbox[None] = Mailbox()
    client = Client(
        outbox.put,
        lambda: given_up.put(None),
        found.settings.connection,
        request,
        subprotocol=verdict.subprotocol,
        local_addr=_address(server.scope.get("server")),
    )
    seat.fill(client)
    try:
        _start(found.route, client, request, outbox, seat)
        await together(
            _write(outbox, room, server.send),
            _read(client, room, server.receive),
            given_up.take(),
        )
    except Cancelled:  # as hypercorn's workers do, once their graceful_timeout is over
        client._left(CloseCode.GOING_AWAY, REASON)
        with contextlib.suppress(Exception):
            await server.send(close_event(CloseCode.GOING_AWAY, REASON))
        raise
    finally:
        client._left(CloseCode.ABNORMAL)
        for posted in filter(None, outbox.rest()):
            posted.settle(ConnectionAbortedError("the ASGI server has ended the connection"))


def _start(
    route: WebSocketRoute,
    client: Client,
    request: Request,
    outbox: Mailbox[Posted | None],
    seat: Seat,
) -> None:
    """Run the handler on a thread of its own; None is put once it has ended."""

    def body() -> None:
        try:
            run_handler(route.handler, client, request)
        finally:
            seat.leave()
            outbox.put(None)

    try:
        engine().spawn(body, f"scriptling-ws {client.remote_addr}")
    except (RuntimeError, MemoryError):  # the system has no thread left
        seat.leave()
        client._begin_close(CloseCode.TRY_AGAIN_LATER, "the server has no thread left")
        outbox.put(None)


async def _write(outbox: Mailbox[Posted | None], room: Mailbox[None], send: Send) -> None:
    """Hand on what the handler sends, until it has ended."""
    while (posted := await outbox.take()) is not None:
        if posted.event is None:
            room.put(None)
            continue
        try:
            await send(posted.event)
        except Exception as error:  # noqa: BLE001  # whatever the server raises: it is over
            posted.settle(error)
        except BaseException as error:
            posted.settle(error)
            raise
        else:
            posted.settle()


async def _read(client: Client, room: Mailbox[None], receive: Receive) -> None:
    """Hand on what comes, until the connection is over."""
    try:
        while (event := await receive())["type"] != "websocket.disconnect":
            text = event.get("text")
            if not client._feed(event["bytes"] if text is None else text):
                await room.take()
    except Exception:
        _logger.exception("receiving from the ASGI server failed")
        client._left(CloseCode.ABNORMAL)
    else:
        client._left(event.get("code") or CloseCode.NO_STATUS, event.get("reason") or "")


async def _tell(send: Send, event: dict[str, Any]) -> bool:
    """Hand a part of the answer to the server; whether the client is still there."""
    try:
        await send(event)
    except OSError as error:  # what the specification asks for
        _logger.debug("a client left before it was accepted: %s", error)
        return False
    return True


async def _decide(request: Request, settings: Settings, offered: list[str]) -> Verdict:
    """As `decide`, on a thread of its own where the program has a say."""
    if not settings.asks:
        return decide(request, settings, offered)
    outcome: Mailbox[Verdict] = Mailbox()
    try:
        engine().spawn(
            lambda: outcome.put(decide(request, settings, offered)),
            f"scriptling-ws {request.remote_addr}",
        )
    except (RuntimeError, MemoryError):
        text = "the server has no thread left: try again later"
        return Verdict(response=refusal(Refused(503, text)), reason=text)
    return await outcome.take()


async def _refuse(response: Response, scope: Scope, send: Send) -> None:
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await _tell(send, {"type": "websocket.close", "code": CloseCode.POLICY_VIOLATION})
        return
    headers = [
        (b"content-type", response.content_type.encode("latin-1")),
        (b"content-length", str(len(response.body)).encode("ascii")),
        *((n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in response.headers),
    ]
    start = {"type": "websocket.http.response.start", "status": response.status, "headers": headers}
    if await _tell(send, start):
        await _tell(send, {"type": "websocket.http.response.body", "body": response.body})


def _path(scope: Scope) -> str:
    """The path behind the place where the application is mounted."""
    path, root = str(scope["path"]), str(scope.get("root_path") or "").rstrip("/")
    return (path.removeprefix(root) or "/") if f"{path}/".startswith(f"{root}/") else path


def _request(scope: Scope) -> Request:
    """The request, read as the native server reads one.

    Raises:
        Refused: it is malformed, or its path leads nowhere.
    """
    raw: bytes = scope.get("raw_path") or scope["path"].encode("utf-8", "replace")
    query: bytes = scope.get("query_string") or b""
    target = raw.partition(b"?")[0] + (b"?" + query if query else b"")
    rows = [b"GET " + target + b" HTTP/1.1", *(n + b": " + v for n, v in scope["headers"])]
    if any(map(_BROKEN.search, rows)):
        raise Refused(400, "a header has a line end in it")
    request = parse_request(b"\r\n".join([*rows, b"", b""]))
    address = _address(scope.get("client")) or "unix:"
    secure = scope.get("scheme") in ("https", "wss")
    return replace(request, path=_path(scope), remote_addr=address, secure=secure)


def _address(pair: Any) -> str:
    """An address of the scope as text, "" if it does not say."""
    if not pair:
        return ""
    host, port = pair[0], pair[1] if len(pair) > 1 else None
    if port is None:
        return f"unix:{host}" if str(host).startswith("/") else str(host)
    return host_port(str(host), int(port))
