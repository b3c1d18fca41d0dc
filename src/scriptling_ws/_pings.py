"""Pings: whether the peer is still there, and how far away it is.

Rules (RFC 6455 sections 5.5.2, 5.5.3):

- A ping is answered by the pong with its payload, and so are the pings before it.
  A pong that nobody waits for changes nothing.
- Keepalive: ping_interval after the last ping another one. If nothing at all comes
  within ping_timeout, the connection is closed with 1011: whatever comes shows that the
  peer lives, a pong may be stuck behind a large message.
- Who waits for a pong reads, if nobody else does; messages that come meanwhile are kept
  for `receive`.
- The keepalive thread never waits for a connection: where another thread reads, that sees
  the pong.
"""

from __future__ import annotations

import threading
from time import monotonic
from typing import TYPE_CHECKING, Final

from . import _keepalive
from ._closing import Closing
from ._deadline import Deadline, check_timeout
from ._keys import next_key

if TYPE_CHECKING:
    from ._protocol import Protocol
    from ._transport import Transport

__all__ = ["Pinging"]

_SLICE: Final = 0.02  # seconds after which it is asked again whether anybody reads
_SILENT: Final = 1011


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

    __slots__ = ("_asked", "_key", "_ping_interval", "_ping_timeout", "_pings", "latency")

    def __init__(
        self,
        transport: Transport,
        protocol: Protocol,
        *,
        client: bool,
        send_timeout: float | None,
        close_timeout: float | None,
        ping_interval: float | None,
        ping_timeout: float | None,
    ) -> None:
        """Take over an open transport and its protocol."""
        super().__init__(
            transport,
            protocol,
            client=client,
            send_timeout=send_timeout,
            close_timeout=close_timeout,
        )
        self.latency: float | None = None
        self._pings: dict[bytes, _Pong] = {}  # those that wait; guarded by _state_lock
        self._asked: float | None = None  # when keepalive sent the ping that it waits for
        self._key: bytes | None = None  # that ping's payload
        self._ping_interval = ping_interval
        self._ping_timeout = ping_timeout
        if ping_interval is not None:
            _keepalive.watch(self, monotonic() + ping_interval)

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
            pong.came.wait(deadline.sooner(_SLICE).left())

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
        if self._ping_interval is not None and self._disposed and not disposed:
            _keepalive.forget()

    # -- keepalive -------------------------------------------------------------

    def _look_after(self) -> _keepalive.Next | None:
        """What the keepalive thread calls when it is time, or when an answer may have come."""
        if not self._open or self._disposed or self._ping_interval is None:
            return None
        if self._asked is None:
            return self._ask()
        listening = not self._heard and self._listen()
        again = self._asked + self._ping_interval
        late = again if self._ping_timeout is None else self._asked + self._ping_timeout
        now = monotonic()
        if self._heard:
            return self._ask() if now >= again else _keepalive.Next(again)
        if now < late:
            return _keepalive.Next(again if now < again < late else late, readable=listening)
        if self._ping_timeout is None:
            return self._ask()
        self._give_up()
        return None

    def _ask(self) -> _keepalive.Next | None:
        """Send a ping, and come back when it is time for the next, or too late for an answer."""
        assert self._ping_interval is not None
        self._heard = False
        self._asked = monotonic()
        self._pings.pop(self._key or b"", None)  # its peer lives, but does not answer
        self._key = self._send_ping(_Pong())
        if self._key is None:
            return None
        wait = min(self._ping_interval, self._ping_timeout or self._ping_interval)
        return _keepalive.Next(self._asked + wait, readable=not self._recv_lock.locked())

    def _listen(self) -> bool:
        """Read once without waiting; False if another thread reads."""
        if self._backlog_full():
            self._heard = True  # there was more than anybody takes
            return True
        return self._read_if_free(self._read_ahead)

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
