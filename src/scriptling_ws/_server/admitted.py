"""Requests that were let in: what their threads do, from the answer to its end.

Rules (RFC 6455 sections 7.1.1, 7.4.1):

- Where a program has a say in whether a request comes in, it is asked first (`decisions`); no
  handler is called before. Where it has none, nothing is done for that.
- A page's thread ends as soon as its answer is made and what can be sent at once is sent: the
  acceptor writes the rest. (It stays for a file that only this thread can read.)
- Whatever a page's handler returns or raises, or its answer's file raises before anything was
  sent, is an answer: a 500 if need be, with the traceback in the log.
- A handler that returns closes its connection with 1000, one that raises with
  1011 (whatever it raises, SystemExit too), and the traceback goes to the log. A
  handler that is told by ConnectionClosed or SendTimeout that its own peer has left has
  not failed: that goes to the debug level.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final

from .._codes import CloseCode
from .._connection.connection import Connection
from .._fields import shown
from .._functions import check_handled
from .._handshakes.head import Refused
from .._handshakes.terms import Terms
from .access import Asked
from .authorization import Verdict, verdict_of
from .dates import http_date
from .http import write_all
from .limits import REQUEST, WEBSOCKET
from .log import log_failure
from .response import refusal, to_response
from .sessions import delivery_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._handshakes.head import Request
    from .._handshakes.server import ServerUpgrade
    from .._network.transport import Transport
    from .arrival import Arrival
    from .authorization import Authorize
    from .decisions import Decisions
    from .delivery import Delivery
    from .response import Response
    from .route_table import PageRoute, WebSocketRoute
    from .sessions import Handling, Session, Sessions
    from .settings import Settings

__all__ = ["AdmittedPage", "AdmittedUpgrade"]

_logger = logging.getLogger("scriptling_ws.server")

_Headers = tuple[tuple[str, str], ...]
_NOTHING_SAID: Final = Verdict()
_LISTS: Final = frozenset({"set-cookie", "vary"})  # headers that may come several times


@dataclass(slots=True)
class AdmittedUpgrade:
    """An upgrade that may come in: it gets a connection, and its route's handler a thread.

    It never changes. (Not frozen: that would store each of these by a call.)

    Attributes:
        decisions: What has the program decide about it, if the route says so.
        route: Whose handler is called.
        settings: What the connection is made with.
        upgrade: What it asked for, and how that is answered.
    """

    decisions: Decisions
    route: WebSocketRoute
    settings: Settings
    upgrade: ServerUpgrade
    kind: ClassVar[str | None] = WEBSOCKET

    def start(self, arrival: Arrival) -> None:
        """As `Admitted.start`."""
        if self.settings.asks:
            self.decisions.start(arrival, self)
        else:
            self.decisions.sessions.start(arrival, self)

    def decide(self, request: Request) -> Verdict:
        """As `Decided.decide`."""
        return self.settings.decide(request, self.upgrade.subprotocols)

    def refusal(self, response: Response) -> Response:
        """As `Decided.refusal`."""
        return response

    def run(
        self, session: Session, arrival: Arrival, verdict: Verdict | None = None
    ) -> Handling | None:
        """Accept the upgrade: what is done first by the connection's thread."""
        if verdict is None:
            verdict = _NOTHING_SAID
            if self.settings.subprotocols:
                chosen = self.settings.choose_subprotocol(self.upgrade.subprotocols)
                verdict = Verdict(subprotocol=chosen)
        transport = arrival.transport
        headers = [("Date", http_date()), *verdict.headers]
        answer = self.upgrade.accept(
            verdict.subprotocol, headers, deflate=Terms.wanted(self.settings.connection)
        )
        try:
            write_all(transport, answer, arrival.deadline)
        except OSError as error:
            _logger.debug("%s left before it was accepted: %s", transport.remote_addr, error)
            session.end()
            return None
        connection = Connection(
            transport,
            client=False,
            options=self.settings.connection,
            received=arrival.rest,
            subprotocol=verdict.subprotocol,
            request=arrival.request,
            deflate=self.upgrade.deflate,
            attended=True,
        )
        sessions = self.decisions.sessions
        sessions.attach(session, connection)
        if sessions.access.wanted:
            sessions.access.opened(transport, arrival.asked)
        sessions.figures.opened(connection, arrival.since)
        return _Handling(connection, self.route, sessions, transport, arrival)


class _Handling:
    """A connection's handler, to be called by its thread, and what comes after that."""

    __slots__ = (
        "_called",
        "_code",
        "_request",
        "_route",
        "_sessions",
        "_since",
        "_transport",
        "_version",
        "connection",
    )

    def __init__(
        self,
        connection: Connection[Any, Any],
        route: WebSocketRoute,
        sessions: Sessions,
        transport: Transport,
        arrival: Arrival,
    ) -> None:
        self.connection = connection
        self._route = route
        self._sessions = sessions
        self._transport = transport
        self._request = arrival.request
        self._version = arrival.version
        self._called = sessions.figures.now()
        self._since = monotonic()
        self._code = CloseCode.INTERNAL_ERROR

    @property
    def handler(self) -> Callable[[Any], object]:
        """The route's."""
        return self._route.handler

    def returned(self, result: object) -> None:
        """As `Handling.returned`."""
        check_handled(result)
        self._code = CloseCode.NORMAL

    def failed(self, error: BaseException) -> None:
        """As `Handling.failed`."""
        address, code = self._transport.remote_addr, self.connection.close_code
        log_failure(address, self._request.path, error, code)

    def end(self) -> None:
        """As `Handling.end`."""
        connection, sessions = self.connection, self._sessions
        connection._close(self._code)
        if sessions.access.wanted:
            seconds = monotonic() - self._since
            asked = Asked.of(self._request, self._version)
            sessions.access.closed(self._transport, asked, connection.close_code, seconds)
        sessions.figures.closed(connection, self._route.path, self._called)


@dataclass(frozen=True)
class AdmittedPage:
    """A page's request that may come in: its handler gets a thread until it has answered.

    Attributes:
        decisions: What has the program decide about it, if the route says so.
        route: The page.
        authorize: The program's function for that.
        headers: What its answer has to say beside what the handler returns.
    """

    decisions: Decisions
    route: PageRoute
    authorize: Authorize | None = None
    headers: _Headers = ()
    kind: ClassVar[str | None] = REQUEST

    def start(self, arrival: Arrival) -> None:
        """As `Admitted.start`."""
        if self.authorize is None:
            self.decisions.sessions.start(arrival, self)
        else:
            self.decisions.start(arrival, self)

    def decide(self, request: Request) -> Verdict:
        """As `Decided.decide`."""
        assert self.authorize is not None
        return verdict_of(self.authorize(request))

    def refusal(self, response: Response) -> Response:
        """As `Decided.refusal`."""
        return _with_headers(response, self.headers)

    def run(self, session: Session, arrival: Arrival, verdict: Verdict = _NOTHING_SAID) -> None:
        """Run the page's handler and send its answer: the body of the request's thread."""
        sessions = self.decisions.sessions
        called = sessions.figures.now()
        since = monotonic()
        delivery, reason = _answer(arrival, self.route, (*verdict.headers, *self.headers))
        sessions.figures.page(self.route.path, delivery.status, called)
        sessions.access.answered(
            arrival.transport,
            arrival.asked,
            delivery.status,
            size=delivery.size,
            reason=reason,
            seconds=monotonic() - since,
        )
        sessions.answer(session, arrival, delivery)


def _answer(arrival: Arrival, route: PageRoute, more: _Headers) -> tuple[Delivery, str]:
    """A page's answer, and for the log the reason if it is a refusal."""
    try:
        response = _with_headers(to_response(route.handler(arrival.request)), more)
        return delivery_of(arrival, response), ""
    except Refused as refused:
        response, reason = refusal(refused), refused.text
    except BaseException:
        _logger.exception(
            "the page %s failed for %s",
            shown(arrival.request.path),
            arrival.transport.remote_addr,
        )
        failed = Refused(500, "the server's page handler failed; its log says why")
        response, reason = refusal(failed), "the page handler failed"
    return delivery_of(arrival, _with_headers(response, more)), reason


def _with_headers(response: Response, more: _Headers) -> Response:
    """A response with more headers, save those that it has itself and that there is one of."""
    if not more:
        return response
    own = {name.lower() for name, _ in response.headers}
    added = [(name, value) for name, value in more if name.lower() not in own - _LISTS]
    return replace(response, headers=(*response.headers, *added))
