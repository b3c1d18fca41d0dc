"""What comes in: each request is decided about by its head.

Rules (RFC 6455 section 4.2; RFC 9110 for the statuses; the Fetch standard for CORS):

- Before this are what is TLS, a request and its peer's rate (400, 414, 431, 505, 429): see `peer`,
  `callers`.
- The checks of an upgrade come in this order, and the first that fails answers:
  path (404), method (405), is it an upgrade (426, 400), origin (403), host (400), room (503), a
  thread (503), `authorize` (401, 403 or what it says; 500 if it fails, 503 if it takes too long),
  the program's choice of a subprotocol (500). Then its handler is called.
- A page's: path (404), method (405), origin of what may change something (403), host (400), its
  body's length (411, 413), room (503), a thread (503), `authorize`. Then its handler is called.
- OPTIONS, which health checks send, gets the methods of a path, that of a WebSocket too; and a
  browser's preflight what `cors=` of the route says. Nobody is asked to authorize that.
- Data from a request goes to the log in ASCII with escapes, never as it came. An Origin
  that is refused has a warning with the entry that would allow it.
- All of it up to the thread runs on the acceptor's, so nothing here may block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._handshakes.head import Refused, Request
from .._handshakes.server import ServerUpgrade, wants_upgrade
from .admission import Hosts
from .admitted import AdmittedPage, AdmittedUpgrade
from .cors import ASKED_METHOD
from .provenance import Provenance
from .response import Response
from .route_table import PageRoute
from .settings import PageSettings, Settings, keep

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from .arrival import Admitted
    from .decisions import Decisions
    from .operations import Operations
    from .route_table import RouteTable, WebSocketRoute

__all__ = ["Entrance"]


class Entrance:
    """Decides which requests of one server may come in, and what answers them."""

    def __init__(
        self,
        table: RouteTable,
        options: Mapping[str, Any],
        allowed_hosts: Iterable[str] | None,
        operations: Operations,
        decisions: Decisions,
    ) -> None:
        """Check what a caller gave; `Server` describes it.

        Args:
            table: The server's routes.
            options: For every route, unless it says otherwise.
            allowed_hosts: The names under which the server may be addressed.
            operations: Answers health checks.
            decisions: Answers all else.

        Raises:
            TypeError: an option is of the wrong type.
            ValueError: an option's value cannot be used.
            ImportError: the name of a function leads nowhere.
        """
        options = keep(options)
        Settings.of(options)  # so that a wrong one fails without a route too
        self._table = table
        self._websockets = {
            route: Settings.of({**options, **route.options}) for route in table.websockets
        }
        self._pages = {
            route: PageSettings.of({**options, **route.options}) for route in table.pages
        }
        self._hosts = Hosts(allowed_hosts)
        self._operations = operations
        self._decisions = decisions
        self._provenance = Provenance()

    def listen_on(self, hosts: Iterable[str], addresses: Collection[str]) -> None:
        """As `Hosts.listen_on`: before the first request."""
        self._hosts.listen_on(hosts, addresses)

    def allows_host(self, host: str | None) -> bool:
        """Whether a request may come by a Host header; None if it has none."""
        return self._hosts.allow(host)

    def admit(self, head: bytes, request: Request) -> Admitted:
        """Decide about a request.

        Args:
            head: Its head, as it came.
            request: The same, parsed.

        Raises:
            Refused: it may not come in.
        """
        found = self._table.websocket(request.path)
        if wants_upgrade(request):
            if found is not None:
                return self._admit_websocket(*found, head, request)
        else:
            check = self._operations.check(request, self._decisions.sessions.deliver)
            if check is not None:
                return check
        page = self._table.page(request.path, request.method)
        if page is not None:
            return self._admit_page(*page, request)
        methods = self._table.methods(request.path)
        if found is not None and not methods and request.method != "OPTIONS":
            return self._admit_websocket(*found, head, request)  # which says what it is
        if found is not None and "GET" not in methods:
            if request.method == "GET":
                return self._admit_websocket(*found, head, request)
            methods.insert(0, "GET")
        return self._admit_other_method(methods, request)

    def _admit_websocket(
        self,
        route: WebSocketRoute,
        params: dict[str, str],
        head: bytes,
        request: Request,
    ) -> AdmittedUpgrade:
        upgrade = ServerUpgrade(head, request)
        settings = self._websockets[route]
        self._provenance.check_upgrade(request, settings.origins)
        self._provenance.check_host(request, self._hosts)
        request.params.update(params)
        return AdmittedUpgrade(self._decisions, route, settings, upgrade)

    def _admit_page(
        self, route: PageRoute, params: dict[str, str], request: Request
    ) -> AdmittedPage:
        if "sec-websocket-key" in request.headers:
            raise Refused(404, "there is a page at this path, but no WebSocket")
        settings = self._pages[route]
        if not settings.cors.allows(request):
            origin = request.headers["origin"]
            asked = f"a {request.method} of"
            advice = settings.cors.advice(origin)
            self._provenance.warn_of_origin(request, asked, origin, advice)
            raise Refused(403, "this origin may not change anything here")
        self._provenance.check_host(request, self._hosts)
        request.params.update(params)
        headers = settings.cors.headers(request)
        return AdmittedPage(self._decisions, route, settings.authorize, headers)

    def _admit_other_method(self, methods: list[str], request: Request) -> AdmittedPage:
        """Answer OPTIONS of a path, and refuse what nothing there answers.

        Args:
            methods: What is answered there; none if there is nothing.
            request: What asks for another.
        """
        if not methods:
            raise Refused(404, "there is nothing at this path")
        allow = ", ".join([*methods, "OPTIONS"])
        if request.method != "OPTIONS":
            if "sec-websocket-key" in request.headers:
                raise Refused(404, "there is a page at this path, but no WebSocket")
            raise Refused(405, f"this page answers {allow}", [("Allow", allow)])
        self._provenance.check_host(request, self._hosts)
        more = self._preflight(request) if ASKED_METHOD in request.headers else ()
        answer = Response(204, content_type="", headers=(("Allow", allow), *more))
        return AdmittedPage(self._decisions, PageRoute("", lambda _: answer))

    def _preflight(self, request: Request) -> tuple[tuple[str, str], ...]:
        """What the route says to a browser that asks by OPTIONS."""
        page = self._table.page(request.path, request.headers[ASKED_METHOD])
        if page is None:
            return ()
        return self._pages[page[0]].cors.preflight(request)
