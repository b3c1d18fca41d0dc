"""Requests about which the program decides: those under way, and until when.

Rules:

- The program's function runs on the request's thread, which then answers: a refusal, or by going
  on. No other thread is started for it, and none waits for it.
- It has `handshake_timeout` seconds. If these are over first, the acceptor answers with 503, and
  the thread, which Python cannot end, is left to itself: what it decides then is dropped. The place
  among the limits stays taken until it returns, so that those left behind are bounded as well.
- Which of the two answers is decided by one step: who takes the decision out of those under way.
- As the server closes, upgrades that are not decided yet get a 503 at once; pages go on for as long
  as the others have.
- A WebSocket's client that leaves meanwhile is noticed once it is decided: no handler is called for
  it. Of a page's client that is not known: one that writes no more may still read the answer.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from .._handshakes.head import Refused
from .._network.deadline import Deadline
from .._network.fork import tell_after_fork
from .._network.waiting import engine
from .authorization import FAILED, LATE, ask
from .limits import WEBSOCKET
from .response import refusal
from .sessions import delivery_of

if TYPE_CHECKING:
    from .._handshakes.head import Request
    from .._network.transport import Transport
    from .arrival import Arrival
    from .authorization import Verdict
    from .delivery import Delivery
    from .response import Response
    from .sessions import Handling, Session, Sessions

__all__ = ["Decisions"]

_logger = logging.getLogger("scriptling_ws.server")

_RETRY: Final = [("Retry-After", "5")]


class Decided(Protocol):
    """A request that comes in if it is decided so."""

    @property
    def kind(self) -> str | None:
        """As of `Admitted`."""

    def decide(self, request: Request) -> Verdict:
        """Ask the program. Blocks."""

    def run(self, session: Session, arrival: Arrival, verdict: Verdict) -> Handling | None:
        """Go on, as `Runs.run`: the request has come in."""

    def refusal(self, response: Response) -> Response:
        """The response if it has not, with what its route adds."""


class Decisions:
    """Those of one server that are under way. Safe for any number of threads.

    Attributes:
        sessions: What runs the threads.
    """

    def __init__(self, sessions: Sessions, timeout: float | None) -> None:
        """Have none.

        Args:
            sessions: What runs the threads.
            timeout: The seconds for each, None for no limit.
        """
        self.sessions = sessions
        self._timeout = timeout
        self._lock = engine().lock()  # guards _open
        self._open: dict[_Decision, None] = {}  # in the order of their deadlines
        tell_after_fork(self)

    def _after_fork(self) -> None:
        """In a forked child, which has none of the threads."""
        self._lock, self._open = engine().lock(), {}

    def start(self, arrival: Arrival, decided: Decided) -> None:
        """Have a request decided about, on a thread of its own. Does not block.

        Args:
            arrival: The request; as for `Sessions.start`.
            decided: What it is.

        Raises:
            Refused: as `Sessions.start`.
        """
        decision = _Decision(self, arrival, decided, Deadline(self._timeout))
        with self._lock:
            self._open[decision] = None
        try:
            self.sessions.start(arrival, decision)
        except BaseException:
            self.take(decision)
            raise

    def take(self, decision: _Decision) -> bool:
        """Whether it is for the caller to answer: it is for the first."""
        with self._lock:
            return self._open.pop(decision, self) is None

    # -- for the acceptor's thread -----------------------------------------

    @property
    def deadline(self) -> Deadline | None:
        """The next one that passes; None if there is none."""
        decision = self._next()
        return None if decision is None else decision.deadline

    def _next(self) -> _Decision | None:
        if not self._open:  # as most often
            return None
        with self._lock:
            return next(iter(self._open), None)

    def expire(self) -> None:
        """Answer those whose time is over. Does not block."""
        while (decision := self._next()) is not None and decision.deadline.passed():
            if self.take(decision):
                decision.refuse(LATE)

    def leave(self) -> None:
        """The server closes: refuse the upgrades that are not decided yet. Does not block."""
        with self._lock:
            decisions = [each for each in self._open if each.decided.kind == WEBSOCKET]
        for decision in decisions:
            if self.take(decision):
                decision.refuse("the server is shutting down")


class _Decision:
    """One of them, and what its thread does."""

    __slots__ = ("_all", "_arrival", "deadline", "decided")

    def __init__(
        self, all_: Decisions, arrival: Arrival, decided: Decided, deadline: Deadline
    ) -> None:
        self._all = all_
        self._arrival = arrival
        self.decided = decided
        self.deadline = deadline

    def run(self, session: Session, arrival: Arrival) -> Handling | None:
        """Have it decided, and answer; as `Runs.run`."""
        try:
            verdict = ask(self.decided.decide, arrival.request)
        except BaseException:  # a handler of the log raises, or a gevent.Timeout comes late
            if self._all.take(self):
                raise
            return None  # the transport is the acceptor's, as below
        address = arrival.transport.remote_addr
        if not self._all.take(self):
            # The transport is the acceptor's; the place is left as this thread ends.
            _logger.debug("the decision about %s came too late", address)
        elif verdict.response is not None:
            self._refuse(session, arrival, verdict.response, verdict.reason)
        elif self.decided.kind == WEBSOCKET and _has_left(arrival.transport):
            _logger.debug("%s left before authorize had decided", address)
            session.end()
        else:
            return self.decided.run(session, arrival, verdict)
        return None

    def _refuse(self, session: Session, arrival: Arrival, response: Response, reason: str) -> None:
        sessions = self._all.sessions
        try:
            delivery = self._delivery(arrival, response)
        except BaseException:  # its file's, perhaps
            _logger.exception("the refusal of %s cannot be sent", arrival.transport.remote_addr)
            failed = Refused(
                500, "the server failed to decide about this request; its log says why"
            )
            delivery, reason = self._delivery(arrival, refusal(failed)), FAILED
        self._tell(delivery, reason)
        sessions.answer(session, arrival, delivery)

    def refuse(self, reason: str) -> None:
        """Answer in place of the thread: on the acceptor's. Does not block."""
        arrival = self._arrival
        try:
            delivery = self._delivery(arrival, refusal(Refused(503, reason, _RETRY)), last=True)
            self._tell(delivery, reason)
            self._all.sessions.deliver(delivery, arrival.place.beside())
        except Exception:
            _logger.exception("the refusal of %s failed", arrival.transport.remote_addr)
            arrival.transport.close()

    def _delivery(self, arrival: Arrival, response: Response, *, last: bool = False) -> Delivery:
        """A refusal on its way; the last answer if a thread still has the transport."""
        if last:
            arrival = replace(arrival, sequel=None)
        return delivery_of(arrival, self.decided.refusal(response))

    def _tell(self, delivery: Delivery, reason: str) -> None:
        """Have it in the log and among the figures."""
        arrival, sessions = self._arrival, self._all.sessions
        sessions.access.answered(
            arrival.transport, arrival.asked, delivery.status, size=delivery.size, reason=reason
        )
        sessions.figures.refused(delivery.status, reason)


def _has_left(transport: Transport) -> bool:
    """Whether the client has, as far as one sees without waiting."""
    try:
        return transport.peek(1) == b""
    except OSError:
        return True
