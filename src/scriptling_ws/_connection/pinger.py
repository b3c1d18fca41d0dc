"""Pings: whether the peer is still there, and how far away it is.

Rules (RFC 6455 sections 5.5.2, 5.5.3; those about locks are in `link`):

- Keepalive: ping_interval after the last ping another one. If nothing shows within
  ping_timeout that the peer lives (`liveness` judges), the connection is closed with 1011.
- A thread that waits for a pong reads, if no other does; messages that come meanwhile are kept
  for `receive`.
- The keepalive thread never waits for a connection. Where another thread reads, that thread
  sees the pong; where none does, keepalive takes the control frames that stand in front and
  answers them: a peer's ping, and its close. Where the caller has taken no message from one look to
  the next, such as a handler that is at work, it reads what stands before them too (see `Intake`).
- Once the peer has closed, the keepalive thread sees the connection off, watched before or not.

No lock of its own: the pings that wait are guarded by the lifecycle's, the rest is the keepalive
thread's (or the reader's, where there is no such thread).
"""

from __future__ import annotations

import weakref
from time import monotonic
from typing import TYPE_CHECKING, Final

from .._codes import CloseCode
from .._kernel import next_key
from .._network.deadline import Deadline, check_timeout
from . import keepalive
from .keepalive import Next
from .link import LOOK, LOOK_AGAIN
from .liveness import Facts, Liveness
from .pings import Ping

if TYPE_CHECKING:
    from collections.abc import Callable

    from .closer import Closer
    from .intake import Intake
    from .link import Link
    from .outlet import Outlet
    from .writer import Writer

__all__ = ["Pinger"]

_SLICE: Final = 0.02  # seconds after which it is asked again whether anybody reads
_SELDOM: Final = 3600.0  # seconds between looks at a connection that has nothing due


def _weakly(pinger: Pinger, method: Callable[[Pinger], object]) -> Callable[[], object]:
    """A method that is called while its object lives: what it is given to is the object's part.

    A reference back would make a cycle, and keep a connection that nobody wants until the
    garbage collector comes. (A WeakMethod is made by Python code, for each connection.)
    """
    reference = weakref.ref(pinger)

    def call() -> object:
        found = reference()
        return None if found is None else method(found)

    return call


class Pinger:
    """Asks whether the peer of one connection is there; what the keepalive thread knows of it."""

    __slots__ = (
        "__weakref__",
        "_closer",
        "_intake",
        "_key",
        "_lifecycle",
        "_link",
        "_liveness",
        "_outlet",
        "_ping",
        "_ping_interval",
        "_ping_timeout",
        "_taken",
        "_transport",
        "_writer",
    )

    def __init__(
        self,
        link: Link,
        outlet: Outlet,
        intake: Intake,
        closer: Closer,
        writer: Writer,
        ping_interval: float | None,
        ping_timeout: float | None,
        attended: bool,
    ) -> None:
        """Look after an open connection, by pings if there is an interval.

        Args:
            link: The link.
            outlet: Its outlet.
            intake: Its intake.
            closer: What sees it off.
            writer: What is told who looks at what has come.
            ping_interval: Seconds between two pings, None for none.
            ping_timeout: Seconds that the peer has to show that it lives, None for ever.
            attended: Whether a peer that leaves is noticed without pings too.
        """
        self._link = link
        self._lifecycle = link.lifecycle
        self._transport = link.transport
        self._outlet = outlet
        self._intake = intake
        self._closer = closer
        self._writer = writer
        self._liveness = Liveness(ping_timeout, link.opened)
        self._key: bytes | None = None  # the payload of keepalive's latest ping
        self._ping = b""  # the latest ping's frame
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._taken = 0  # by the caller, as of the last look at messages that lie unread
        self._lifecycle.at_end = weakref.ref(self)
        if ping_interval is not None and ping_interval < keepalive.FIRST:
            moment = link.opened + ping_interval
            self._note_watched(keepalive.watch(self, moment), moment)
        elif ping_interval is not None or attended:
            opened = link.opened
            self._note_watched(keepalive.welcome(self, opened), opened + keepalive.FIRST)

    def _note_watched(self, attended: bool, moment: float) -> None:
        """The connection is to be looked after from a moment on, by the thread if `attended`."""
        self._link.watched = True
        self._writer.attended = attended
        self._link.channel.look_due = not attended
        if not attended:
            self._intake.look_after = _weakly(self, Pinger._look_after_alone)
            self._intake.alone = moment

    def watch_the_end(self) -> None:
        """No message can come any more: whether a call comes or not, the end will."""
        if not (self._link.watched or self._lifecycle.disposed):
            moment = monotonic() + LOOK
            self._note_watched(keepalive.watch(self, moment), moment)

    def _look_after_alone(self) -> None:
        due = self.look_after()
        self._intake.alone = None if due is None else due.moment

    # -- ping ------------------------------------------------------------------

    def ping(self, timeout: float | None) -> float | None:
        """As `Connection.ping`."""
        deadline = Deadline(check_timeout(timeout))
        ping = Ping()
        payload = self._send(ping)
        if payload is None:
            return None
        lifecycle, protocol = self._lifecycle, self._link.protocol
        try:
            while not (ping.came.is_set() or deadline.passed() or lifecycle.closing):
                if protocol.ended:
                    break
                self._await(ping, deadline)
        finally:
            self._link.pings.drop(payload)
        return ping.seconds

    def _send(self, ping: Ping) -> bytes | None:
        """Send a ping as far as that goes at once; its payload, None if that cannot be."""
        payload, link = next_key(), self._link
        with self._lifecycle.lock:
            frame = link.protocol.control.ping(payload) if self._lifecycle.open else b""
            if not frame:
                return None
            link.pings.add(payload, ping)
            self._ping = frame
            link.protocol.outbox.append(frame)
        self._intake.answer()
        return payload

    def _await(self, ping: Ping, deadline: Deadline) -> None:
        """Wait for a while, reading if nobody else does."""
        intake = self._intake

        def read() -> None:
            intake.await_ahead(deadline.sooner(_SLICE), write=self._outlet.waits())

        if not intake.if_free(read, wanted=not (intake.waiters or intake.full())):
            slice_ = deadline.sooner(_SLICE)
            if not ping.came.wait(left := slice_.left()):
                slice_.waited(left)

    # -- keepalive -------------------------------------------------------------

    def descriptor(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self._transport.fileno()

    def is_free(self) -> bool:
        """Whether no thread reads at this moment."""
        return not self._link.channel.reader

    def look_after(self) -> Next | None:
        """What the keepalive thread calls when it is time, or when something has come."""
        if self._lifecycle.disposed:
            return None
        self._link.looked_after = True
        quiet, interval = self._attend(), self._ping_interval
        if self._lifecycle.open and interval is None:
            return Next(monotonic() + _SELDOM, readable=quiet, when_free=not quiet)
        if self._lifecycle.open and interval is not None and self._judge(interval):
            again = self._liveness.next_look(monotonic(), interval)
            return Next(again, readable=quiet, when_free=not quiet)
        return self._see_off()

    def _see_off(self) -> Next | None:
        """As far towards the end as that goes without waiting; None once it is over."""
        free = self._closer.see_off()
        if self._lifecycle.disposed:
            return None
        close_by = self._lifecycle.close_by
        left = close_by.left() if close_by is not None else None
        wait = LOOK if left is None else max(min(left, LOOK), LOOK_AGAIN)
        return Next(monotonic() + wait, readable=free)

    def _attend(self) -> bool:
        """Answer what nobody reads; whether nothing else is there, nor a reader."""
        quiet, intake, channel = False, self._intake, self._link.channel

        def read() -> None:
            nonlocal quiet
            quiet = not intake.take_controls() or self._read_behind()
            channel.look_due = channel.look_due or not quiet  # a ping may stand behind a message

        wanted = not (self._link.protocol.ended or intake.waiters)
        return intake.if_free(read, wanted=wanted) and quiet

    def _read_behind(self) -> bool:
        """Read the messages that lie there, if it is time; whether that is all. Holds the lock."""
        intake, pulse = self._intake, self._transport.pulse()
        if pulse is not None and pulse.ended:
            # The end stands behind messages, and goes on showing once they are taken.
            intake.read_all()
            return False
        before, self._taken = self._taken, intake.taken()
        return not intake.polled and self._taken == before and intake.read_behind()

    def _judge(self, interval: float) -> bool:
        """Ask whether the peer lives, if it is time; False once the connection is over."""
        now, liveness, unsent = monotonic(), self._liveness, self._link.unsent
        heard = self._link.channel.heard or self._transport.unread()
        facts = Facts(heard, unsent.moved, self._ping_has_left(), self._transport.pulse())
        unsent.moved = False
        if liveness.look(now, facts):
            self._give_up()
            return False
        waits = not liveness.answered and self._ping_timeout is not None
        if waits or now < liveness.asked + interval:
            return True
        return self._ask(now)

    def _ask(self, now: float) -> bool:
        """Send a ping; False if that cannot be, as the connection is over."""
        self._link.channel.heard = self._link.unsent.moved = False
        self._liveness.ask(now, self._transport.pulse())
        self._link.pings.drop(self._key or b"")  # its peer lives, but does not answer
        self._key = self._send(Ping())
        return self._key is not None

    def _ping_has_left(self) -> bool:
        """Whether the latest ping is out of this process: it may wait behind a frame."""
        unsent, ping = self._link.unsent, self._ping
        rest = unsent.rest
        begun = rest is not None and rest[0] is ping
        with self._lifecycle.lock:  # a deque that changes meanwhile ends the loop with an error
            waits = any(each is ping for each in unsent.answers)
        return not (self._transport.pending or begun or waits)

    def _give_up(self) -> None:
        """The peer is silent: end the connection, so that blocked calls return."""
        text = f"no answer to a ping within ping_timeout ({self._ping_timeout:g} s)"
        link = self._link
        with self._lifecycle.lock:
            frame = link.protocol.control.fail(CloseCode.INTERNAL_ERROR, text)
            if frame:  # pragma: no branch - else it was closed just now, by another thread
                link.protocol.outbox.append(frame)
            link.note()
        self._intake.answer()
        self._transport.abort()
        self._lifecycle.tell()
