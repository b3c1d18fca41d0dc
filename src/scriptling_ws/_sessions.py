"""The threads that answer: one for each connection and each page request.

Rules (RFC 6455 sections 7.1.1, 7.4.1):

- A thread is started before anything is answered: where none can be started, the
  peer still gets its 503, and the server lives.
- A handler that returns closes its connection with 1000, one that raises with
  1011 (whatever it raises, SystemExit too), and the traceback goes to the log. A
  handler that is told by ConnectionClosed or SendTimeout that its own peer has left has
  not failed: that goes to the debug level.
- A shutdown closes every connection with 1001, gives the handlers a grace period, then
  ends the connections under them. A handler that takes no notice of that is left
  behind on its daemon thread: Python cannot end it.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ._admission import address_group
from ._deadline import Deadline
from ._deflating import make_connection
from ._errors import ConnectionClosed, SendTimeout
from ._fork import tell_after_fork
from ._head import Refused
from ._http import http_date, refusal, to_response, write_all, write_response
from ._log import RareWarning, log_answer, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ._admission import Limits
    from ._connection import Connection
    from ._handshake_server import ServerUpgrade
    from ._http import Response
    from ._peer import Arrival
    from ._routes import PageRoute, Settings, WebSocketRoute
    from ._transport import Transport

__all__ = ["Session", "Sessions", "run_page", "run_websocket", "start_thread"]

_logger = logging.getLogger("scriptling_ws.server")
_access = logging.getLogger("scriptling_ws.access")

_GOING_AWAY: Final = 1001
_REASON: Final = "the server is shutting down"
# What a handler gets, once its connection was ended under it, to clean up.
_LEAVE: Final = 2.0


def start_thread(body: Callable[[], None], name: str) -> threading.Thread:
    """Start what a server runs beside itself: the seam for another way of doing so.

    Raises:
        RuntimeError: the system has no thread left.
    """
    thread = threading.Thread(target=body, name=name, daemon=True)
    thread.start()
    return thread


class Session:
    """One thread and the socket that it answers."""

    __slots__ = ("connection", "counted", "group", "thread", "transport", "websocket")

    def __init__(self, transport: Transport, websocket: bool) -> None:
        self.transport = transport
        self.websocket = websocket
        self.group = address_group(transport.remote_addr)
        self.thread: threading.Thread | None = None
        self.connection: Connection[Any] | None = None
        self.counted = True  # it has a place; not any more once its peer has left

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
    """The sessions of one server. Safe for any number of threads."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._warning = RareWarning(_logger)
        self._lock = threading.Lock()  # guards _sessions, _closing and Session.connection
        self._sessions: set[Session] = set()
        self._closing = False
        # Threads at their very end. Joining them here, not in their sessions'
        # registry, is what makes "no thread is left" exact.
        self._finished: deque[threading.Thread] = deque()
        tell_after_fork(self)

    def _after_fork(self) -> None:
        """In a forked child, which has none of the threads."""
        self._lock = threading.Lock()
        self._sessions = set()
        self._finished.clear()

    @property
    def connections(self) -> list[Connection[Any]]:
        """The connections that are open; a handler runs for each."""
        # Without the lock, which an RLock would not replace: a signal handler that closes the
        # server here waits for threads that wait for it. A set's copy is made in one step.
        sessions = self._sessions.copy()
        return [s.connection for s in sessions if s.connection is not None and s.counted]

    def start(
        self, transport: Transport, *, websocket: bool, body: Callable[[Session], None]
    ) -> None:
        """Run `body` on a thread of its own; the transport is then its. Does not block.

        Args:
            transport: The connection; its peer is what the limits count.
            websocket: Whether it is a WebSocket, or a page request.
            body: What to run.

        Raises:
            Refused: 503; nothing was started, and the transport is still the caller's.
        """
        self._reap()
        session = Session(transport, websocket)
        self._limits.enter(websocket, session.group)
        with self._lock:
            self._sessions.add(session)
        try:
            session.thread = start_thread(
                lambda: self._run(session, body), f"scriptling-ws {transport.remote_addr}"
            )
        except (RuntimeError, MemoryError) as error:
            self._warning.give("refused %s: %s", transport.remote_addr, error)
            self._forget(session)
            raise Refused(
                503, "the server has no thread left: try again later", [("Retry-After", "5")]
            ) from error

    def _run(self, session: Session, body: Callable[[Session], None]) -> None:
        session.thread = threading.current_thread()  # it may get here before `start` does
        try:
            body(session)
        except BaseException:
            _logger.exception("the thread for %s failed", session.transport.remote_addr)
            session.end()
        finally:
            self._finished.append(threading.current_thread())
            self._forget(session)

    def _forget(self, session: Session) -> None:
        with self._lock:
            self._sessions.discard(session)
        self._give_up_place(session)

    def _give_up_place(self, session: Session) -> None:
        """Another connection may come: this one is over, though its handler may go on."""
        with self._lock:
            counted, session.counted = session.counted, False
        if counted:
            self._limits.leave(session.websocket, session.group)

    def _reap(self) -> None:
        """Let go of the threads that have ended."""
        with contextlib.suppress(IndexError):
            while True:
                self._finished.popleft().join()

    def attach(self, session: Session, connection: Connection[Any]) -> None:
        """The session's upgrade is through: from now on a shutdown says 1001 to it."""
        with self._lock:
            session.connection = connection
            closing = self._closing
        if closing:  # pragma: no cover - a race with `close`
            connection._begin_close(_GOING_AWAY, _REASON)
        connection.on_close(lambda: self._give_up_place(session))

    def includes_this_thread(self) -> bool:
        """Whether the caller runs on one of the sessions' threads."""
        this = threading.current_thread()
        sessions = self._sessions.copy()  # without the lock, as in `connections`
        return any(session.thread is this for session in sessions)

    def close(self, grace: float | None) -> None:
        """Close every connection and wait for the threads. Blocks; `start` must be over.

        Args:
            grace: Seconds that the handlers have before their connections are ended.
        """
        with self._lock:
            self._closing = True
            sessions = list(self._sessions)
        for session in sessions:
            if session.connection is not None:
                session.connection._begin_close(_GOING_AWAY, _REASON)
        self._join(sessions, Deadline(grace))
        with self._lock:
            late = [session for session in sessions if session in self._sessions]
        for session in late:
            session.abort()
        self._join(late, Deadline(_LEAVE))
        self._reap()
        this = threading.current_thread()
        for session in late:
            if session.thread is not this and session.thread and session.thread.is_alive():
                _logger.warning(
                    "the handler of %s takes no notice of the shutdown: its thread is left behind",
                    session.transport.remote_addr,
                )

    def _join(self, sessions: Iterable[Session], deadline: Deadline) -> None:
        this = threading.current_thread()
        for session in sessions:
            if session.thread is not None and session.thread is not this:
                left = deadline.left()
                session.thread.join(left)
                if session.thread.is_alive():
                    deadline.waited(left)


def run_websocket(
    sessions: Sessions,
    session: Session,
    arrival: Arrival,
    upgrade: ServerUpgrade,
    route: WebSocketRoute,
    settings: Settings,
) -> None:
    """Accept an upgrade and run its handler: the body of a connection's thread."""
    subprotocol = settings.choose_subprotocol(upgrade.subprotocols)
    transport = arrival.transport
    date = [("Date", http_date())]
    answer = upgrade.accept(subprotocol, date, deflate=settings.connection.deflate)
    try:
        write_all(transport, answer, arrival.deadline)
    except OSError as error:
        _logger.debug("%s left before it was accepted: %s", transport.remote_addr, error)
        session.end()
        return
    connection = make_connection(
        transport,
        upgrade.connection,
        client=False,
        options=settings.connection,
        received=arrival.rest,
        subprotocol=subprotocol,
        request=arrival.request,
        deflate=upgrade.deflate,
        attended=True,
    )
    sessions.attach(session, connection)
    log_answer(transport.remote_addr, "GET", arrival.request.path, 101)
    path = shown(arrival.request.path)
    since = monotonic()
    code = 1011
    try:
        route.handler(connection)
        code = 1000
    except (ConnectionClosed, SendTimeout) as error:
        if connection.close_code is None:  # it is another connection that has closed
            _logger.exception("the handler of %s failed for %s", path, transport.remote_addr)
        else:
            _logger.debug("the handler of %s ended by: %s", path, shown(str(error)))
    except BaseException:
        _logger.exception("the handler of %s failed for %s", path, transport.remote_addr)
    finally:
        connection.close(code)
        _access.info(
            "%s %s closed, code %s, after %.3f s",
            transport.remote_addr,
            path,
            connection.close_code,
            monotonic() - since,
        )


def run_page(
    session: Session,
    arrival: Arrival,
    route: PageRoute,
    timeout: float | None,
    linger: Callable[[Transport], None],
) -> None:
    """Run a page's handler and write its response: the body of a page request's thread."""
    request, address = arrival.request, arrival.transport.remote_addr
    response, reason = _page(arrival, route)
    log_answer(address, request.method, request.path, response.status, reason)
    try:
        write_response(
            arrival.transport, response, head_only=request.method == "HEAD", timeout=timeout
        )
    except OSError as error:
        _logger.debug("the response to %s was not sent: %s", address, error)
        session.end()
    else:
        linger(arrival.transport)


def _page(arrival: Arrival, route: PageRoute) -> tuple[Response, str]:
    """A page's response, and for the log the reason if it is a refusal."""
    try:
        return to_response(route.handler(arrival.request)), ""
    except Refused as refused:
        return refusal(refused), refused.text
    except BaseException:
        _logger.exception(
            "the page %s failed for %s",
            shown(arrival.request.path),
            arrival.transport.remote_addr,
        )
        failed = Refused(500, "the server's page handler failed; its log says why")
        return refusal(failed), "the page handler failed"
