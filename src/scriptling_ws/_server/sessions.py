"""The threads that answer: one for each connection and each page request.

Rules (RFC 6455 sections 7.1.1, 7.4.1):

- A thread is started before anything is answered: where none can be started, the
  peer still gets its 503, and the server lives.
- A page's thread ends as soon as its answer is made and what can be sent at once is sent: the
  acceptor writes the rest. (It stays for a file that only this thread can read.)
- Whatever a page's handler returns or raises, or its answer's file raises before anything was
  sent, is an answer: a 500 if need be, with the traceback in the log.
- A handler that returns closes its connection with 1000, one that raises with
  1011 (whatever it raises, SystemExit too), and the traceback goes to the log. A
  handler that is told by ConnectionClosed or SendTimeout that its own peer has left has
  not failed: that goes to the debug level.
- A shutdown closes every connection with 1001, gives the handlers a grace period, then
  ends the connections under them. A handler that takes no notice of that is left
  behind on its daemon thread: Python cannot end it.
- Nobody waits for a thread but `close`, and that until a deadline: after a handler has returned,
  its thread may still be busy for as long as the program likes (with what is in its
  `threading.local`).
"""

from __future__ import annotations

import contextlib
import logging
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, ClassVar, Final

from .._codes import CloseCode
from .._connection.connection import Connection
from .._errors import ConnectionClosed, SendTimeout
from .._handshakes.head import Refused
from .._handshakes.terms import Terms
from .._network.deadline import Deadline
from .._network.fork import tell_after_fork
from .._network.waiting import engine
from .delivery import BrokenOff, Delivery
from .figures import NO_FIGURES
from .http import http_date, refusal, to_response, write_all
from .limits import ANSWER, REQUEST, WEBSOCKET
from .log import RareWarning, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._handshakes.server import ServerUpgrade
    from .._network.transport import Transport
    from .._network.waiting import Task
    from .access import AccessLog
    from .arrival import Arrival
    from .figures import Figures
    from .http import Response
    from .limits import Place
    from .routes import PageRoute, Settings, WebSocketRoute

__all__ = ["AdmittedPage", "AdmittedUpgrade", "Session", "Sessions", "start_thread"]

_logger = logging.getLogger("scriptling_ws.server")

_REASON: Final = "the server is shutting down"
# What a handler gets, once its connection was ended under it, to clean up.
_LEAVE: Final = 2.0
# What a page's thread writes at most before the acceptor goes on, if the peer takes it at once.
_AT_ONCE: Final = 1024 * 1024


def start_thread(body: Callable[[], None], name: str) -> Task:
    """Start what a server runs beside itself.

    Raises:
        RuntimeError: the system has no thread left.
        MemoryError: likewise.
    """
    return engine().spawn(body, name)


class Session:
    """One thread and the socket that it answers."""

    __slots__ = ("connection", "place", "thread", "transport")

    def __init__(self, transport: Transport, place: Place) -> None:
        self.transport = transport
        self.place: Place | None = place  # None once another thread has it
        self.thread: Task | None = None
        self.connection: Connection[Any] | None = None

    @property
    def open(self) -> bool:
        """Whether it has a connection whose peer has not left."""
        return self.connection is not None and self.place is not None and not self.place.left

    def abort(self) -> None:
        """End the connection: whoever is blocked in it returns."""
        if self.connection is not None:
            self.connection._abort()
        else:
            self.transport.abort()

    def end(self) -> None:
        """End the connection and close its descriptor: for the session's own thread."""
        self.abort()
        if self.connection is not None:
            self.connection.close()
        else:
            self.transport.close()


class Sessions:
    """The sessions of one server. Safe for any number of threads.

    Attributes:
        access: The log of requests.
        figures: Told of what they do.
    """

    def __init__(self, access: AccessLog, figures: Figures = NO_FIGURES) -> None:
        self.access = access
        self.figures = figures
        self._warning = RareWarning(_logger)
        self._lock = engine().lock()  # guards _sessions, _closing and Session.connection
        self._sessions: set[Session] = set()
        self._closing = False
        # Threads at their very end: `close` waits for these too, so that no thread is left.
        self._finished: deque[Task] = deque()
        tell_after_fork(self)

    def _after_fork(self) -> None:
        """In a forked child, which has none of the threads."""
        self.figures = NO_FIGURES  # whose locks may be taken
        self._lock = engine().lock()
        self._sessions = set()
        self._finished.clear()

    @property
    def connections(self) -> list[Connection[Any]]:
        """The connections that are open; a handler runs for each."""
        # Without the lock, which an RLock would not replace: a signal handler that closes the
        # server here waits for threads that wait for it. A set's copy is made in one step.
        sessions = self._sessions.copy()
        return [s.connection for s in sessions if s.connection is not None and s.open]

    @property
    def running(self) -> bool:
        """Whether a connection or a page is being answered."""
        return bool(self._sessions)

    def start(self, arrival: Arrival, admitted: AdmittedUpgrade | AdmittedPage) -> None:
        """Answer a request on a thread of its own. Does not block.

        Args:
            arrival: The request; from now on its transport and its place are the session's.
            admitted: What answers it.

        Raises:
            Refused: 503; nothing was started, and all of the arrival is still the caller's.
        """
        self._forget_finished()
        session, address = Session(arrival.transport, arrival.place), arrival.transport.remote_addr
        with self._lock:
            if self._closing:
                raise Refused(503, "the server is shutting down")
            self._sessions.add(session)
        try:
            session.thread = start_thread(
                lambda: self._run(session, arrival, admitted), f"scriptling-ws {address}"
            )
        except (RuntimeError, MemoryError) as error:
            self._warning.give("refused %s: %s", address, error)
            with self._lock:
                self._sessions.discard(session)
            raise Refused(
                503, "the server has no thread left: try again later", [("Retry-After", "5")]
            ) from error

    def _run(
        self, session: Session, arrival: Arrival, admitted: AdmittedUpgrade | AdmittedPage
    ) -> None:
        session.thread = engine().current()  # it may get here before `start` does
        try:
            admitted.run(session, arrival)
        except BaseException:
            _logger.exception("the thread for %s failed", session.transport.remote_addr)
            session.end()
        finally:
            self._finished.append(engine().current())
            self._forget(session)

    def _forget(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)
        if session.place is not None:
            session.place.leave()

    def _forget_finished(self) -> None:
        """Let go of threads that have ended: of two at a time, since one was started."""
        for _ in range(min(2, len(self._finished))):
            with contextlib.suppress(IndexError):
                thread = self._finished.popleft()
                if thread.is_alive():
                    self._finished.append(thread)

    def attach(self, session: Session, connection: Connection[Any]) -> None:
        """The session's upgrade is through: from now on a shutdown says 1001 to it."""
        with self._lock:
            session.connection = connection
            closing = self._closing
        if closing:  # pragma: no cover - a race with `close`
            connection._begin_close(CloseCode.GOING_AWAY, _REASON)
        if session.place is not None:  # pragma: no branch - only a page's is handed on
            connection.on_close(session.place.leave_to_handler)

    def includes_this_thread(self) -> bool:
        """Whether the caller runs on one of the sessions' threads."""
        this = engine().current()
        sessions = self._sessions.copy()  # without the lock, as in `connections`
        return any(session.thread is this for session in sessions)

    def close(self, deadline: Deadline) -> None:
        """Close every connection and wait for the threads. Blocks; `start` must be over.

        Args:
            deadline: Until when the handlers have time before their connections are ended;
                then they have a moment more to leave.
        """
        with self._lock:
            self._closing = True
            sessions = list(self._sessions)
        for session in sessions:
            if session.connection is not None:
                session.connection._begin_close(CloseCode.GOING_AWAY, _REASON)
        self._join([session.thread for session in sessions], deadline)
        self._join(list(self._finished), deadline)
        with self._lock:
            late = [session for session in sessions if session in self._sessions]
        for session in late:
            session.abort()
        moment = Deadline(_LEAVE)
        self._join([session.thread for session in late], moment)
        ending = list(self._finished)
        self._join(ending, moment)
        for thread in {session.thread for session in late} | set(ending):
            if thread is not None and thread is not engine().current():
                self._tell_of(thread)

    def _tell_of(self, thread: Task) -> None:
        if thread.is_alive():
            _logger.warning(
                "the handler of %s takes no notice of the shutdown: its thread is left behind",
                thread.name.rpartition(" ")[2],
            )

    def _join(self, threads: Iterable[Task | None], deadline: Deadline) -> None:
        this = engine().current()
        for thread in threads:
            if thread is not None and thread is not this:
                left = deadline.left()
                thread.join(left)
                if thread.is_alive():
                    deadline.waited(left)


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
        deliver: Takes over an answer, or what is left of it, with its place.
        route: The page.
    """

    sessions: Sessions
    deliver: Callable[[Delivery, Place], None]
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
            self.deliver(delivery, place)
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
    try:
        return _delivery(arrival, to_response(route.handler(arrival.request))), ""
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
    return _delivery(arrival, response), reason


def _delivery(arrival: Arrival, response: Response) -> Delivery:
    """A response on its way to who has asked, who may then ask again."""
    return Delivery(
        arrival.transport,
        response,
        head_only=arrival.request.method == "HEAD",
        manner=arrival.manner,
        sequel=arrival.sequel,
    )
