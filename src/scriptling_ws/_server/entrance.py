"""What comes in: each request is decided about by its head.

Rules (RFC 6455 section 4.2; RFC 9110 for the statuses):

- The checks of an upgrade come in this order, and the first that fails answers:
  path (404), method (405), is it an upgrade (426, 400), origin (403), host (400), room (503).
- A page's: path (404), method (405), host (400), room (503).
- OPTIONS, which health checks send, gets the methods of a path, that of a WebSocket too.
- Data from a request goes to the log in ASCII with escapes, never as it came. An Origin
  that is refused has a warning with the entry that would allow it.
- All of it runs on the acceptor's thread, so nothing here may block.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from .._handshakes.head import Refused, Request
from .._handshakes.server import WEBSOCKET_METHODS, ServerUpgrade, wants_upgrade
from .admission import Hosts, Origins
from .admitted import AdmittedPage, AdmittedUpgrade
from .http import Response
from .log import RareWarnings, shown
from .routes import PageRoute, RouteTable, Settings, WebSocketRoute

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .._network.transport import Transport
    from .arrival import Admitted
    from .operations import Operations
    from .sessions import Sessions


__all__ = ["Entrance"]

_logger = logging.getLogger("scriptling_ws.server")

_PAGE_METHODS: Final = "GET, HEAD, OPTIONS"


class Entrance:
    """Decides which requests of one server may come in, and what answers them."""

    def __init__(
        self,
        table: RouteTable,
        options: Mapping[str, Any],
        allowed_hosts: Iterable[str] | None,
        operations: Operations,
        sessions: Sessions,
    ) -> None:
        """Check what a caller gave; `Server` describes it.

        Args:
            table: The server's routes.
            options: For every WebSocket, unless its route says otherwise.
            allowed_hosts: The names under which the server may be addressed.
            operations: Answers health checks.
            sessions: Answers all else.

        Raises:
            TypeError: an option is of the wrong type.
            ValueError: an option's value cannot be used.
        """
        options = Settings.keep(options)
        Settings.of(options)  # so that a wrong one fails without a route too
        self._table = table
        self._settings = {
            route.path: Settings.of({**options, **route.options}) for route in table.websockets
        }
        self._hosts = Hosts(allowed_hosts)
        self._operations = operations
        self._sessions = sessions
        self._host_warnings = RareWarnings(_logger)
        self._origin_warnings = RareWarnings(_logger)

    def listen_on(self, hosts: Iterable[str], addresses: Collection[str]) -> None:
        """As `Hosts.listen_on`: before the first request."""
        self._hosts.listen_on(hosts, addresses)

    def admit(self, transport: Transport, head: bytes, request: Request) -> Admitted:
        """Decide about a request.

        Args:
            transport: What it has come by.
            head: Its head, as it came.
            request: The same, parsed.

        Raises:
            Refused: it may not come in.
        """
        route = self._table.websocket(request.path)
        page = self._table.page(request.path)
        upgrading = wants_upgrade(request)
        check = None if upgrading else self._operations.check(request, self._sessions.deliver)
        if check is not None:
            return check
        if request.method == "OPTIONS" and not upgrading and (route or page):
            page = _methods_page(_PAGE_METHODS if page else WEBSOCKET_METHODS)
        elif route is not None and (page is None or upgrading):
            return self._admit_websocket(route, transport, head, request)
        elif page is None:
            raise Refused(404, "there is nothing at this path")
        elif "sec-websocket-key" in request.headers:
            raise Refused(404, "there is a page at this path, but no WebSocket")
        elif request.method not in ("GET", "HEAD"):
            raise Refused(405, f"this page answers {_PAGE_METHODS}", [("Allow", _PAGE_METHODS)])
        self._check_host(transport, request)
        return AdmittedPage(self._sessions, page)

    def _admit_websocket(
        self, route: WebSocketRoute, transport: Transport, head: bytes, request: Request
    ) -> AdmittedUpgrade:
        upgrade = ServerUpgrade(head, request)
        settings = self._settings[route.path]
        origin, host = request.headers.get("origin"), request.headers["host"]
        if origin is not None and not settings.origins.allow(origin, host, secure=request.secure):
            self._warn_of_origin(transport, request, origin, settings.origins)
            raise Refused(403, "this origin may not connect")
        self._check_host(transport, request)
        return AdmittedUpgrade(self._sessions, route, settings, upgrade)

    def _check_host(self, transport: Transport, request: Request) -> None:
        """Refuse a request by a name that is not this server's, and say how to allow it."""
        host = request.headers.get("host")
        if host is None or self._hosts.allow(host):
            return
        self._host_warnings.give(
            shown(host),
            "refused %s: a request for %s by the name %s in its Host header; %s",
            transport.remote_addr,
            shown(request.path),
            shown(host),
            Hosts.advice(host),
        )
        raise Refused(400, "this server does not go by the name in the Host header")

    def _warn_of_origin(
        self, transport: Transport, request: Request, origin: str, origins: Origins
    ) -> None:
        """Say once in a while, for each origin, how to allow it."""
        self._origin_warnings.give(
            shown(origin),
            "refused %s: an upgrade of %s from the origin %s; %s",
            transport.remote_addr,
            shown(request.path),
            shown(origin),
            origins.advice(origin),
        )


def _methods_page(methods: str) -> PageRoute:
    """What answers OPTIONS."""
    answer = Response(204, content_type="", headers=(("Allow", methods),))
    return PageRoute("", lambda _: answer)
