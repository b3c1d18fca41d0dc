"""Pings: whether the peer is still there, and how far away it is.

Rules (RFC 6455 sections 5.5.2, 5.5.3):

- A ping is answered by the pong with its payload, and so are the pings before it.
  A pong that nobody waits for changes nothing.
- Keepalive: ping_interval after the last ping another one. If nothing shows within
  ping_timeout that the peer lives (`_liveness` judges), the connection is closed with 1011.
- A thread that waits for a pong reads, if no other does; messages that come meanwhile are kept
  for `receive`.
- The keepalive thread never waits for a connection. Where another thread reads, that thread
  sees the pong; where none does, keepalive takes the control frames that stand in front and
  answers them: a peer's ping, and its close.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from . import _keepalive
from ._closing import Closing
from ._deadline import Deadline, check_timeout
from ._keys import next_key
from ._liveness import Facts, Liveness
from ._shared import LOOK

if TYPE_CHECKING:
    from ._protocol import Protocol
    from ._transport import Transport

__all__ = ["Pinging"]

_SLICE: Final = 0.02  # seconds after which it is asked again whether anybody reads
_SILENT: Final = 1011
_SELDOM: Final = 3600.0  # seconds between looks at a connection that has nothing due


class _Pong:
    """The answer that a ping waits for."""

    __slots__ = ("came", "seconds", "sent")

    def __init__(self) -> None:
        self.sent = monotonic()
        self.seconds: float | None = None
        self.came = threading.Event()


class Pinging(Closing):
    """A connection that can ask whether its peer is there.

    Attributes:
        latency: The seconds between the latest answered ping and its answer; None before
            the first.
    """

    __slots__ = (
        "_key",
        "_liveness",
        "_ping",
        "_ping_interval",
        "_ping_timeout",
        "_pings",
        "_watched",
        "latency",
    )

    def __init__(
        self,
        transport: Transport,
        protocol: Protocol,
        *,
        client: bool,
        send_timeout: float | None,
        close_timeout: float | None,
        max_backlog: int,
        ping_interval: float | None,
        ping_timeout: float | None,
        attended: bool,
    ) -> None:
        """Take over an open transport and its protocol."""
        super().__init__(
            transport,
            protocol,
            client=client,
            send_timeout=send_timeout,
            close_timeout=close_timeout,
            max_backlog=max_backlog,
        )
        self.latency: float | None = None
        self._pings: dict[bytes, _Pong] = {}  # those that wait; guarded by _state_lock
        self._liveness = Liveness(ping_timeout, monotonic())
        self._key: bytes | None = None  # the payload of keepalive's latest ping
        self._ping = b""  # the latest ping's frame
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        self._watched = False  # the keepalive thread looks after this connection
        if ping_interval is not None:
            self._watch(min(ping_interval, LOOK))
        elif attended:
            self._watch(LOOK)

    def _watch(self, seconds: float) -> None:
        """Have the connection looked after, first in so many seconds."""
        self._watched = True
        moment = monotonic() + seconds
        self._attended = _keepalive.watch(self, moment)
        self._look_due = not self._attended
        if not self._attended:
            self._alone = moment

    def _look_alone(self) -> None:
        if self._alone is not None and monotonic() >= self._alone:
            due = self._look_after()
            self._alone = None if due is None else due.moment

    def _closing_began(self) -> None:
        if not self._watched and not self._disposed:
            self._watch(LOOK)
        self._tell_closed()

    def ping(self, timeout: float | None = 30) -> float | None:
        """Send a ping, and wait for its answer.

        Blocks until the answer has come. Thread-safe; messages that come meanwhile stay
        ready for `receive`.

        Args:
            timeout: Seconds (default 30); 0 not to wait, None to wait for ever.

        Returns:
            How many seconds the answer took; None on timeout and when the connection is
            closed: `connected` tells which.

        Raises:
            TypeError: the timeout is no number.
            ValueError: the timeout is negative or NaN.
        """
        deadline = Deadline(check_timeout(timeout))
        pong = _Pong()
        key = self._send_ping(pong)
        if key is None:
            return None
        try:
            while not (pong.came.is_set() or deadline.passed() or self._closing):
                if self._protocol.ended:
                    break
                self._await_pong(pong, deadline)
        finally:
            self._pings.pop(key, None)
        return pong.seconds

    def _send_ping(self, pong: _Pong) -> bytes | None:
        """Send a ping as far as that goes at once; its payload, None if that cannot be."""
        key = next_key()
        with self._state_lock:
            frame = self._protocol.control.ping(key) if self._open else b""
            if not frame:
                return None
            self._pings[key] = pong
            self._ping = frame
            self._outbox.append(frame)
        self._flush()
        return key

    def _await_pong(self, pong: _Pong, deadline: Deadline) -> None:
        """Wait for a while, reading if nobody else does."""

        def read() -> None:
            self._transport.wait(True, self._unsent(), deadline.sooner(_SLICE), wakeable=True)
            self._read_ahead()

        wanted = not (self._lock_waiters or self._backlog_full())
        if not self._read_if_free(read, wanted=wanted):
            slice_ = deadline.sooner(_SLICE)
            if not pong.came.wait(left := slice_.left()):
                slice_.waited(left)

    def _note_pongs(self) -> None:
        now = monotonic()
        answered = self._protocol.control.pongs
        while answered:
            key = answered.popleft()
            if key not in self._pings:
                continue  # stray, or late
            for each in list(self._pings):  # oldest first  # pragma: no branch - key is in there
                pong = self._pings.pop(each, None)
                if pong is not None:  # else its ping has just timed out, in another thread
                    self.latency = pong.seconds = now - pong.sent
                    pong.came.set()
                if each == key:
                    break

    def _dispose(self) -> None:
        disposed = self._disposed
        super()._dispose()
        if self._watched and self._disposed and not disposed:
            _keepalive.forget()

    # -- keepalive -------------------------------------------------------------

    def _descriptor(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self._transport.fileno()

    def _is_free(self) -> bool:
        """Whether no thread reads at this moment."""
        return not self._reader

    def _look_after(self) -> _keepalive.Next | None:
        """What the keepalive thread calls when it is time, or when something has come."""
        if self._disposed:
            return None
        quiet = self._attend()
        if self._open and self._ping_interval is None:
            return _keepalive.Next(monotonic() + _SELDOM, readable=quiet, when_free=not quiet)
        if self._open and self._ping_interval is not None and self._judge(self._ping_interval):
            again = self._liveness.next_look(monotonic(), self._ping_interval)
            return _keepalive.Next(again, readable=quiet, when_free=not quiet)
        return self._see_off()

    def _attend(self) -> bool:
        """Take the control frames in front; whether nothing else is there, nor a reader."""
        quiet = False

        def read() -> None:
            nonlocal quiet
            quiet = not self._take_controls()
            if not quiet and (pulse := self._transport.pulse()) is not None and pulse.ended:
                # The end stands behind messages, and goes on showing once they are taken.
                while not (self._protocol.ended or self._backlog_full()) and self._read_ahead():
                    pass
            self._look_due = self._look_due or not quiet  # a ping may stand behind a message

        wanted = not (self._protocol.ended or self._lock_waiters)
        return self._read_if_free(read, wanted=wanted) and quiet

    def _judge(self, interval: float) -> bool:
        """Ask whether the peer lives, if it is time; False once the connection is over."""
        now, liveness = monotonic(), self._liveness
        heard = self._heard or self._transport.unread()
        facts = Facts(heard, self._moved, self._ping_has_left(), self._transport.pulse())
        self._moved = False
        if liveness.look(now, facts):
            self._give_up()
            return False
        waits = not liveness.answered and self._ping_timeout is not None
        if waits or now < liveness.asked + interval:
            return True
        return self._ask(now)

    def _ask(self, now: float) -> bool:
        """Send a ping; False if that cannot be, as the connection is over."""
        self._heard = self._moved = False
        self._liveness.ask(now, self._transport.pulse())
        self._pings.pop(self._key or b"", None)  # its peer lives, but does not answer
        self._key = self._send_ping(_Pong())
        return self._key is not None

    def _ping_has_left(self) -> bool:
        """Whether the latest ping is out of this process: it may wait behind a frame."""
        rest, ping = self._rest, self._ping
        begun = rest is not None and rest[0] is ping
        return not (self._transport.pending or begun or any(each is ping for each in self._outbox))

    def _give_up(self) -> None:
        """The peer is silent: end the connection, so that whoever is blocked in it returns."""
        text = f"no answer to a ping within ping_timeout ({self._ping_timeout:g} s)"
        with self._state_lock:
            frame = self._protocol.control.fail(_SILENT, text)
            if frame:  # pragma: no branch - else it was closed just now, by another thread
                self._outbox.append(frame)
            self._note_state()
        self._flush()
        self._transport.abort()
        self._tell_closed()
