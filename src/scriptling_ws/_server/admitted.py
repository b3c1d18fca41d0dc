"""Requests that were let in: what their threads do, from the answer to its end.

Rules (RFC 6455 sections 7.1.1, 7.4.1):

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
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, ClassVar, Final

from .._codes import CloseCode
from .._connection.connection import Connection
from .._errors import ConnectionClosed, SendTimeout
from .._handshakes.head import Refused
from .._handshakes.terms import Terms
from .delivery import BrokenOff, Delivery
from .http import http_date, refusal, to_response, write_all
from .limits import ANSWER, REQUEST, WEBSOCKET
from .log import shown

if TYPE_CHECKING:
    from .._handshakes.server import ServerUpgrade
    from .arrival import Arrival
    from .routes import PageRoute, Settings, WebSocketRoute
    from .sessions import Session, Sessions

__all__ = ["AdmittedPage", "AdmittedUpgrade"]

_logger = logging.getLogger("scriptling_ws.server")

# What a page's thread writes at most before the acceptor goes on, if the peer takes it at once.
_AT_ONCE: Final = 1024 * 1024


@dataclass(frozen=True)
class AdmittedUpgrade:
    """An upgrade that may come in: it gets a connection, and its route's handler a thread.

    Attributes:
        sessions: What runs the thread.
        route: Whose handler is called.
        settings: What the connection is made with.
        upgrade: What it asked for, and how that is answered.
    """

    sessions: Sessions
    route: WebSocketRoute
    settings: Settings
    upgrade: ServerUpgrade
    kind: ClassVar[str | None] = WEBSOCKET

    def start(self, arrival: Arrival) -> None:
        """As `Admitted.start`."""
        self.sessions.start(arrival, self)

    def run(self, session: Session, arrival: Arrival) -> None:
        """Accept the upgrade and run its handler: the body of the connection's thread."""
        subprotocol = self.settings.choose_subprotocol(self.upgrade.subprotocols)
        transport = arrival.transport
        date = [("Date", http_date())]
        answer = self.upgrade.accept(
            subprotocol, date, deflate=Terms.wanted(self.settings.connection)
        )
        try:
            write_all(transport, answer, arrival.deadline)
        except OSError as error:
            _logger.debug("%s left before it was accepted: %s", transport.remote_addr, error)
            session.end()
            return
        connection = Connection(
            transport,
            self.upgrade.connection,
            client=False,
            options=self.settings.connection,
            received=arrival.rest,
            subprotocol=subprotocol,
            request=arrival.request,
            deflate=self.upgrade.deflate,
            attended=True,
        )
        self.sessions.attach(session, connection)
        asked = arrival.asked
        self.sessions.access.opened(transport, asked)
        self.sessions.figures.opened(connection, arrival.since)
        called = self.sessions.figures.now()
        path = shown(arrival.request.path)
        since = monotonic()
        code = CloseCode.INTERNAL_ERROR
        try:
            self.route.handler(connection)
            code = CloseCode.NORMAL
        except (ConnectionClosed, SendTimeout) as error:
            if connection.close_code is None:  # it is another connection that has closed
                _logger.exception("the handler of %s failed for %s", path, transport.remote_addr)
            else:
                _logger.debug("the handler of %s ended by: %s", path, shown(str(error)))
        except BaseException:
            _logger.exception("the handler of %s failed for %s", path, transport.remote_addr)
        finally:
            connection.close(code)
            seconds = monotonic() - since
            self.sessions.access.closed(transport, asked, connection.close_code, seconds)
            self.sessions.figures.closed(connection, self.route.path, called)


@dataclass(frozen=True)
class AdmittedPage:
    """A page's request that may come in: its handler gets a thread until it has answered.

    Attributes:
        sessions: What runs the thread.
        route: The page.
    """

    sessions: Sessions
    route: PageRoute
    kind: ClassVar[str | None] = REQUEST

    def start(self, arrival: Arrival) -> None:
        """As `Admitted.start`."""
        self.sessions.start(arrival, self)

    def run(self, session: Session, arrival: Arrival) -> None:
        """Run the page's handler and send its answer: the body of the request's thread."""
        called = self.sessions.figures.now()
        since = monotonic()
        delivery, reason = _answer(arrival, self.route)
        self.sessions.figures.page(self.route.path, delivery.status, called)
        request, place, address = arrival.request, arrival.place, arrival.transport.remote_addr
        self.sessions.access.answered(
            arrival.transport,
            arrival.asked,
            delivery.status,
            size=delivery.size,
            reason=reason,
            seconds=monotonic() - since,
        )
        try:
            if delivery.portable:
                place.answered()
                if not delivery.advance(_AT_ONCE) and not place.stay(ANSWER, delivery.held):
                    place.stay(REQUEST)  # it takes too much memory to wait without a thread
                    delivery.write()
            else:
                delivery.write()
                delivery.close()  # here, as that may be the program's code
            self.sessions.deliver(delivery, place)
            session.place = None
        except BaseException as error:
            delivery.close()
            session.end()
            if isinstance(error, BrokenOff):
                path = shown(request.path)
                _logger.warning(
                    "the answer of %s to %s was broken off: %s", path, address, error, exc_info=True
                )
            elif isinstance(error, OSError):
                _logger.debug("the response to %s was not sent: %s", address, error)
            else:
                raise


def _answer(arrival: Arrival, route: PageRoute) -> tuple[Delivery, str]:
    """A page's answer, and for the log the reason if it is a refusal."""
    transport, head_only = arrival.transport, arrival.request.method == "HEAD"
    try:
        response = to_response(route.handler(arrival.request))
        return Delivery(transport, response, head_only=head_only), ""
    except Refused as refused:
        response, reason = refusal(refused), refused.text
    except BaseException:
        _logger.exception(
            "the page %s failed for %s", shown(arrival.request.path), transport.remote_addr
        )
        failed = Refused(500, "the server's page handler failed; its log says why")
        response, reason = refusal(failed), "the page handler failed"
    return Delivery(transport, response, head_only=head_only), reason
