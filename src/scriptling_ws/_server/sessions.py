"""The threads that answer: one for each connection and each page request.

Rules (RFC 6455 section 7.1.1):

- A thread is started before anything is answered: where none can be started, the
  peer still gets its 503, and the server lives. What it does then is in `admitted`.
- A shutdown closes every connection with 1001, gives the handlers a grace period, then
  ends the connections under them. A handler that goes on is left
  behind on its daemon thread: Python cannot end it.
- Nobody waits for a thread but `close`, and that until a deadline: after a handler has returned,
  its thread may still be busy for as long as the program likes (with what is in its
  `threading.local`). Else it may run the next one: see `handler_threads`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final, Protocol

from .._codes import CloseCode
from .._fields import shown
from .._handshakes.head import Refused
from .._network.deadline import Deadline
from .._network.fork import tell_after_fork
from .._network.waiting import engine
from .delivery import BrokenOff, Delivery
from .figures import NO_FIGURES
from .handler_threads import HandlerThreads
from .limits import ANSWER, REQUEST
from .log import RareWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .._connection.connection import Connection
    from .._network.contract import Task
    from .._network.transport import Transport
    from .access import AccessLog
    from .arrival import Arrival
    from .figures import Figures
    from .limits import Place
    from .response import Response

__all__ = ["Handling", "Session", "Sessions", "delivery_of", "start_thread"]

_logger = logging.getLogger("scriptling_ws.server")

_REASON: Final = "the server is shutting down"
# What a handler gets, once its connection was ended under it, to clean up.
_LEAVE: Final = 2.0
# What a thread writes of an answer at most before the acceptor goes on, if the peer takes it.
_AT_ONCE: Final = 1024 * 1024


class Handling(Protocol):
    """A connection's handler, to be called, and what comes after that."""

    @property
    def handler(self) -> Callable[[Any], object]:
        """The handler."""

    @property
    def connection(self) -> Connection[Any, Any]:
        """What it is given."""

    def returned(self, result: object) -> None:
        """The handler has returned this; an error if that says that it has not run."""

    def failed(self, error: BaseException) -> None:
        """The handler has raised this: tell of it."""

    def end(self) -> None:
        """End the connection."""


class Runs(Protocol):
    """What a session's thread does."""

    def run(self, session: Session, arrival: Arrival) -> Handling | None:
        """Answer a request, to the end; or to the point where its handler is to be called."""


def start_thread(body: Callable[[], None], name: str) -> Task:
    """Start what a server runs beside itself.

    Raises:
        RuntimeError: the system has no thread left.
        MemoryError: likewise.
    """
    return engine().spawn(body, name)


class Session:
    """One thread and the socket that it answers."""

    __slots__ = ("_all", "_work", "connection", "place", "thread", "transport")

    def __init__(self, arrival: Arrival, admitted: Runs, all_: Sessions) -> None:
        self._all = all_
        self.transport: Transport = arrival.transport
        self.place: Place | None = arrival.place  # None once another thread has it
        self.thread: Task | None = None
        self.connection: Connection[Any, Any] | None = None
        self._work: tuple[Arrival, Runs] | None = (arrival, admitted)

    def run(self) -> None:
        """The body of its thread.

        It calls the handler itself. Each frame between the two would cost memory for as long as
        the handler runs, and with gevent also time at each switch, which looks at every frame.
        Nor is what only the opening needs kept for so long.
        """
        self.thread = engine().current()  # it may get here before `Sessions.start` does
        try:
            assert self._work is not None
            (arrival, admitted), self._work = self._work, None
            handling = admitted.run(self, arrival)
            del arrival, admitted
            if handling is not None:
                try:
                    handling.returned(handling.handler(handling.connection))
                except BaseException as error:  # noqa: BLE001  # told of by `failed`
                    handling.failed(error)
                finally:
                    handling.end()
        except BaseException:
            self.end()  # before the log, whose handlers may raise as well
            _logger.exception("the thread for %s failed", self.transport.remote_addr)
        finally:
            self._all.finish(self)

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
        deliver: Takes over answers, or what is left of them; set before the first request.
    """

    deliver: Callable[[Delivery, Place], None]

    def __init__(self, access: AccessLog, figures: Figures = NO_FIGURES) -> None:
        self.access = access
        self.figures = figures
        self._warning = RareWarning(_logger)
        self._lock = engine().lock()  # guards _sessions, _closing and Session.connection
        self._sessions: set[Session] = set()
        self._closing = False
        # `close` waits for those at their very end too, so that no thread is left.
        self._threads = HandlerThreads()
        tell_after_fork(self)

    def _after_fork(self) -> None:
        """In a forked child, which has none of the threads."""
        self.figures = NO_FIGURES  # whose locks may be taken
        self._lock = engine().lock()
        self._sessions = set()
        self._threads = HandlerThreads()

    @property
    def connections(self) -> list[Connection[Any, Any]]:
        """The connections that are open; a handler runs for each."""
        # Without the lock, which an RLock would not replace: a signal handler that closes the
        # server here waits for threads that wait for it. A set's copy is made in one step.
        sessions = self._sessions.copy()
        return [s.connection for s in sessions if s.connection is not None and s.open]

    @property
    def running(self) -> bool:
        """Whether a connection or a page is being answered."""
        return bool(self._sessions)

    def start(self, arrival: Arrival, admitted: Runs) -> None:
        """Answer a request on a thread of its own. Does not block.

        Args:
            arrival: The request; from now on its transport and its place are the session's.
            admitted: What answers it.

        Raises:
            Refused: 503; nothing was started, and all of the arrival is still the caller's.
        """
        session, address = Session(arrival, admitted, self), arrival.transport.remote_addr
        with self._lock:
            if self._closing:
                raise Refused(503, "the server is shutting down")
            self._sessions.add(session)
        try:
            session.thread = self._threads.start(
                session.run, f"scriptling-ws {address}", start_thread
            )
        except (RuntimeError, MemoryError) as error:
            self._warning.give("refused %s: %s", address, error)
            with self._lock:
                self._sessions.discard(session)
            raise Refused(
                503, "the server has no thread left: try again later", [("Retry-After", "5")]
            ) from error

    def finish(self, session: Session) -> None:
        """A session's thread is at its end."""
        self._threads.leave()
        if session.place is not None:
            session.place.leave()  # before: where none is running, all places are free
        with self._lock:
            self._sessions.discard(session)

    def attach(self, session: Session, connection: Connection[Any, Any]) -> None:
        """The session's upgrade is through: from now on a shutdown says 1001 to it."""
        with self._lock:
            session.connection = connection
            closing = self._closing
        if closing:  # pragma: no cover - a race with `close`
            connection._begin_close(CloseCode.GOING_AWAY, _REASON)
        if session.place is not None:  # pragma: no branch - only a page's is handed on
            connection.on_close(session.place.leave_to_handler)

    def answer(self, session: Session, arrival: Arrival, delivery: Delivery) -> None:
        """Send a request's answer, or have the acceptor do so: for the session's own thread.

        Blocks where the answer can be written by this thread alone, or takes too much memory to
        wait without one. What goes wrong with the peer or a file has a line in the log.
        """
        place, address = arrival.place, arrival.transport.remote_addr
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
                path = shown(arrival.request.path)
                _logger.warning(
                    "the answer of %s to %s was broken off: %s", path, address, error, exc_info=True
                )
            elif isinstance(error, OSError):
                _logger.debug("the response to %s was not sent: %s", address, error)
            else:
                raise

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
        self._threads.dismiss()
        for session in sessions:
            if session.connection is not None:
                session.connection._begin_close(CloseCode.GOING_AWAY, _REASON)
        self._join([session.thread for session in sessions], deadline)
        self._join(self._threads.ending(), deadline)
        with self._lock:
            late = [session for session in sessions if session in self._sessions]
        for session in late:
            session.abort()
        moment = Deadline(_LEAVE)
        self._join([session.thread for session in late], moment)
        ending = self._threads.ending()
        self._join(ending, moment)
        for thread in {session.thread for session in late} | set(ending):
            if thread is not None and thread is not engine().current():
                self._tell_of(thread)

    def _tell_of(self, thread: Task) -> None:
        if thread.is_alive():
            _logger.warning(
                "the handler of %s goes on after the shutdown: its thread is left behind",
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


def delivery_of(arrival: Arrival, response: Response) -> Delivery:
    """A response on its way to who has asked, who may then ask again.

    Raises:
        Exception: what `Delivery` does.
    """
    return Delivery(
        arrival.transport,
        response,
        head_only=arrival.request.method == "HEAD",
        manner=arrival.manner,
        sequel=arrival.sequel,
    )
