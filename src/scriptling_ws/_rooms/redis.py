"""Rooms whose messages go by Redis (or Valkey) from process to process.

Rules:

- One task and one subscription for the process, while a room has members; and one connection to
  publish with. A room's channel is `scriptling-ws:room:NAME`. Channels are those of the whole
  server, whatever the number of the database.
- What a room's first member waits for is that the channel is subscribed to. A channel of the
  process's own wakes the task for that; by the same it hears, where nothing else is said, that the
  server is there.
- Redis keeps nothing for a subscriber that is not there. While it is away nothing is kept here
  either: to publish raises, for a moment without another try, so that senders are not held up one
  after the other. The task tries again, with a growing pause and a random part of it.
- What was missed is not pretended to have come: once it is back, each room is told for how long it
  was away, and by their numbers the rooms count what has not come (`envelope`).
- A call into redis-py may wait for the network. Where a program has patched `socket`, it waits as
  all of that program does; elsewhere the engine is asked to let others go on.
- An address may hold a password: texts show the host alone.

Locks: `_line` guards publishing, and is held while that waits; `_lock` guards the rest.
"""

from __future__ import annotations

import _socket
import contextlib
import logging
import random
import socket
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from .._errors import RoomError
from .._network.fork import tell_after_fork
from .._network.waiting import engine
from .envelope import new_origin

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._network.contract import Event
    from .carrier import Carried

__all__ = ["Redis"]

_PREFIX: Final = "scriptling-ws:room:"
_OWN: Final = "scriptling-ws:process:"
_TIMEOUT: Final = 5.0  # seconds for the server to answer
_TURN: Final = 1.0  # seconds after which the task looks for rooms without members
_QUIET: Final = 10.0  # seconds of silence after which it asks whether the server is there
_AT_ONCE: Final = 256  # messages that are taken before the task looks around
_MOMENT: Final = 0.5  # seconds for which nothing is published after it has failed
_FIRST_PAUSE: Final = 0.1  # seconds before the second try to connect
_LONGEST_PAUSE: Final = 5.0
_NEEDED: Final = 'a room with a backend needs redis-py: pip install "scriptling-ws[redis]"'
_logger: Final = logging.getLogger("scriptling_ws.rooms")

_T = TypeVar("_T")


def _call(function: Callable[[], _T]) -> _T:
    """Call into redis-py, which may wait; others go on meanwhile."""
    if issubclass(socket.socket, _socket.socket):
        return engine().blocking(function)
    return function()  # the program's own sockets, which wait as its tasks do


def _shown(address: str) -> str:
    """An address for texts, without its credentials."""
    parts = urlsplit(address)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.hostname}{port}" if parts.hostname else parts.path


class _Pause:
    """The growing pauses between tries to connect."""

    def __init__(self) -> None:
        self._next = _FIRST_PAUSE

    def reset(self) -> None:
        self._next = _FIRST_PAUSE

    def seconds(self) -> float:
        """The next one: of many processes, not all come back at once."""
        pause, self._next = self._next, min(2 * self._next, _LONGEST_PAUSE)
        return pause * random.uniform(0.5, 1.0)  # noqa: S311 - no secret


class Redis:
    """A Redis server, as what carries the rooms of this process.

    Attributes:
        origin: This process's name for the others.
    """

    def __init__(self, address: str) -> None:
        """Does not connect.

        Raises:
            ImportError: there is no redis-py.
            ValueError: the URL is malformed.
        """
        try:
            import redis
        except ImportError as error:
            raise ImportError(_NEEDED) from error
        self._redis: Any = redis
        # Valkey's own schemes are redis-py's under another name.
        self._address = address.replace("valkey", "redis", 1) if address[0] == "v" else address
        self._errors: tuple[type[Exception], ...] = (redis.RedisError, OSError)
        self.shown = _shown(address)
        self._begin()
        tell_after_fork(self)

    def _begin(self) -> None:
        """Start with no connection, and no rooms."""
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        self._client: Any = self._redis.Redis.from_url(
            self._address,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
            socket_keepalive=True,
            retry=Retry(NoBackoff(), 1),  # the one: a connection that a restart has left behind
        )
        self.origin = new_origin()
        self._own = _OWN + self.origin.hex()
        self._line = engine().rlock()  # guards the next
        self._refuse_until = 0.0
        self._lock = engine().rlock()  # guards all of these
        self._rooms: dict[str, Carried] = {}  # those with members, by their channels
        self._ready: dict[str, Event] = {}  # set where the channel is subscribed to
        self._since: dict[str, float] = {}  # from when on what was sent to a room may be missing
        self._running = False
        self._away = False
        self._pause = _Pause()  # the task's own, as the next two
        self._heard = 0.0
        self._asked = 0.0

    _after_fork = _begin

    # -- the rooms' ------------------------------------------------------------

    def attend(self, room: Carried) -> None:
        """Bring the room what is sent to it while it has members: see `Carrier`."""
        channel = _PREFIX + room.name
        with self._lock:
            if not len(room):
                self._rooms.pop(channel, None)  # the task lets go of the channel in its next turn
                return
            self._rooms[channel] = room
            ready = self._ready.setdefault(channel, engine().event())
            if self._away:
                self._since.setdefault(channel, monotonic())
            started = self._start()
            if ready.is_set() or self._away:
                return
        if not started:
            with contextlib.suppress(*self._errors):
                self._wake()
        ready.wait(_TIMEOUT)

    def publish(self, room: Carried, data: bytes) -> None:
        """Bring an envelope to all rooms of the name: see `Carrier`."""
        with self._line:
            if monotonic() < self._refuse_until:
                raise self._refusal(room, "it was away a moment ago")
            try:
                _call(partial(self._client.publish, _PREFIX + room.name, data))
            except self._errors as error:
                if type(error) is TimeoutError and error.errno is None:
                    raise  # a signal handler's
                self._refuse_until = monotonic() + _MOMENT
                raise self._refusal(room, str(error)) from error

    def _refusal(self, room: Carried, why: str) -> RoomError:
        return RoomError(
            f"the room {room.name!r} has not got the message: Redis at {self.shown} cannot be "
            f"reached ({why}). Send it again once it is back, if it still matters"
        )

    def _wake(self) -> None:
        """Have the task look around."""
        with self._line:
            _call(partial(self._client.publish, self._own, b""))

    # -- the task --------------------------------------------------------------

    def _start(self) -> bool:
        """Start the task, if it does not run; whether it was started. Holds the lock."""
        if self._running:
            return False
        try:
            engine().spawn(self._run, f"scriptling-ws rooms by {self.shown}")
        except (RuntimeError, MemoryError) as error:
            raise RoomError(f"no thread can be started to hear Redis at {self.shown}") from error
        self._running = True
        return True

    def _run(self) -> None:
        while self._is_needed():
            try:
                self._serve()
            except Exception as error:
                if not isinstance(error, self._errors):
                    _logger.exception("the rooms' task for Redis has failed, and begins anew")
                self._lost(error)
                engine().sleep(self._pause.seconds())

    def _is_needed(self) -> bool:
        """Whether a room has members; else the next one that has starts another task."""
        with self._lock:
            if not self._rooms:
                self._ready.clear()
                self._since.clear()
                self._running = self._away = False
            return self._running

    def _serve(self) -> None:
        """Connect, and bring the rooms what comes, while there are any.

        Raises:
            Exception: the server is away, or has refused something.
        """
        subscription = self._client.pubsub()
        try:
            self._heard = self._asked = monotonic()
            _call(partial(subscription.subscribe, self._own))
            channels: set[str] = set()
            while self._goes_on():
                channels = self._adjust(subscription, channels)
                for message in _call(partial(_some, subscription)):
                    self._take(message)
                self._feel_the_pulse()
        finally:
            subscription.close()

    def _goes_on(self) -> bool:
        """Whether rooms have members; if not, no channel is subscribed to from here on."""
        with self._lock:
            if not self._rooms:
                self._ready.clear()  # who joins before the task looks again waits for the next time
            return bool(self._rooms)

    def _adjust(self, subscription: Any, channels: set[str]) -> set[str]:
        """Subscribe to the channels of the rooms that have members, and to no others."""
        with self._lock:
            wanted = set(self._rooms)
            for channel in channels - wanted:
                self._ready.pop(channel, None)
        if wanted - channels:
            _call(partial(subscription.subscribe, *(wanted - channels)))
        if channels - wanted:
            _call(partial(subscription.unsubscribe, *(channels - wanted)))
        return wanted

    def _take(self, message: dict[str, Any]) -> None:
        """Something has come: that a channel is subscribed to, or a message."""
        self._heard = monotonic()
        channel, data = message["channel"].decode(), message["data"]
        if message["type"] == "subscribe":
            self._subscribed(channel)
        elif message["type"] == "message" and channel != self._own:
            with self._lock:
                room = self._rooms.get(channel)
            if room is not None:
                try:
                    room.deliver(data)
                except ValueError as error:
                    _logger.warning("no message has come for room %r: %s", room.name, error)

    def _subscribed(self, channel: str) -> None:
        """From here on what is sent to a channel comes."""
        with self._lock:
            if channel == self._own:
                back, self._away = self._away, False
                room, since = None, None
            else:
                back, room = False, self._rooms.get(channel)
                since = self._since.pop(channel, None)
                if room is not None:  # else it has left meanwhile, and the channel is let go of
                    self._ready.setdefault(channel, engine().event()).set()
        if channel == self._own:
            self._pause.reset()
            self._refuse_until = 0.0  # what a room is told of the gap with goes at once
        if back:
            _logger.warning("Redis at %s is back: rooms may have missed messages", self.shown)
        if room is not None and since is None:
            room.listens_anew()
        elif room is not None and since is not None:
            room.tell_gap(monotonic() - since)

    def _feel_the_pulse(self) -> None:
        """After a silence, ask whether the server is there: it answers by what the task hears."""
        now = monotonic()
        if now - self._heard > 2 * _QUIET:
            raise self._redis.TimeoutError(f"nothing has come for {2 * _QUIET:g} s")
        if now - max(self._heard, self._asked) > _QUIET:
            self._asked = now
            self._wake()

    def _lost(self, error: Exception) -> None:
        """The server is away: `join` waits for it no more, and each room has a gap from here on."""
        now = monotonic()
        with self._lock:
            before, self._away = self._away, True
            for ready in self._ready.values():
                ready.set()
            self._ready.clear()
            for channel in self._rooms:
                self._since.setdefault(channel, now)
        if not before:
            _logger.warning(
                "Redis at %s is away (%s): rooms get nothing until it is back", self.shown, error
            )


def _some(subscription: Any) -> list[dict[str, Any]]:
    """Wait for a moment; what has come by then, in its order."""
    found: list[dict[str, Any]] = []
    message = subscription.get_message(timeout=_TURN)
    while message is not None:
        found.append(message)
        message = subscription.get_message(timeout=0.0) if len(found) < _AT_ONCE else None
    return found
