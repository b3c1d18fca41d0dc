"""How many may be here at a time: connections, requests, and what one address has of both.

Rules:

- A connection is counted from the moment that it is accepted until its descriptor is closed:
  it has a `Place`, which goes with it from thread to thread.
- `max_connections_per_address` bounds what an address has under way: WebSockets, requests, and
  answers that it has not taken yet. Beside these it may have SPARE connections that ask for
  nothing yet, or no more: a browser opens some in advance, and a refusal has to be read. What
  is beyond that is closed as it is accepted, so that an address cannot use up the descriptors.
- A request is counted before its body is read, so that `max_requests` bounds the memory for
  bodies. Bodies are counted apart from the requests that run: who sends a body slowly
  keeps out nobody who sends none.
- An answer that its peer takes slowly needs no thread, and is no request any more. What such
  answers hold in memory is bounded for all of them together; a file is not in memory.
- All clients of a Unix socket are one address: they are of this machine, and most often a proxy.
- A place is counted under an address: its socket's, or what a trusted proxy says of its client
  (`callers`). Until that is known it is nobody's, and no limit of an address holds for it.
- A WebSocket whose peer has left gives its place to another one, though its handler may go on.
  Handlers that do are bounded too: by max_connections once more, as each has a thread.
- Whatever is full answers 503 with Retry-After; no limit makes a client wait in a queue.
"""

from __future__ import annotations

import ipaddress
from typing import Final

from .._handshakes.head import Refused
from .._network.authority import host_of
from .._network.fork import tell_after_fork
from .._network.waiting import engine
from .._options import check_count

__all__ = [
    "ANSWER",
    "BODY",
    "REQUEST",
    "SPARE",
    "WEBSOCKET",
    "Limits",
    "Place",
    "address_group",
    "too_many",
]

WEBSOCKET: Final = "websocket"
"""A WebSocket connection, from its request on."""
REQUEST: Final = "request"
"""A page's request, while its handler runs."""
BODY: Final = "body"
"""A page's request whose body is still to come."""
ANSWER: Final = "answer"
"""A page's answer that its peer has not taken yet."""

SPARE: Final = 8
"""The connections that an address may have beside those that its limit counts."""

_MOST_HELD: Final = 64 * 1024 * 1024  # bytes of answers in memory that wait for their peers
_RETRY: Final = [("Retry-After", "5")]


def address_group(address: str) -> str:
    """The key under which an address is counted.

    An IPv6 client owns a whole /64, so the /64 is what is counted; an IPv4 address
    that an IPv6 socket shows as ::ffff:a.b.c.d is counted as a.b.c.d.

    Args:
        address: A client's address as text: `127.0.0.1:80`, `[::1]:80`, or without a port; that
            of a Unix socket is one for all, as a peer may choose its path.
    """
    if address.startswith("unix:"):
        return "unix"
    host = host_of(address)
    if ":" not in host:
        return host
    try:
        parsed = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return "unix"  # a path
    if parsed.ipv4_mapped is not None:
        return str(parsed.ipv4_mapped)
    return parsed.packed[:8].hex()


class Limits:
    """The limits of one server, and what is counted. Safe for any number of threads."""

    def __init__(
        self,
        max_connections: int | None,
        max_connections_per_address: int | None,
        max_requests: int,
    ) -> None:
        """Count from zero.

        Args:
            max_connections: The most WebSocket connections, None for no limit.
            max_connections_per_address: The most connections, page requests and answers
                of one client address together, None for no limit.
            max_requests: The most page requests; and as many may have a body on its way.

        Raises:
            TypeError: one of them is not an int.
            ValueError: one of them is below 1.
        """
        check_count("max_requests", max_requests)
        if max_connections is not None:
            check_count("max_connections", max_connections)
        if max_connections_per_address is not None:
            check_count("max_connections_per_address", max_connections_per_address)
        self._most = {WEBSOCKET: max_connections, REQUEST: max_requests, BODY: max_requests}
        self._most_per_address = max_connections_per_address
        # An RLock: a signal handler that closes a connection may interrupt its holder.
        self._lock = engine().rlock()  # guards all below, and the places
        # No Counters, whose changes are Python code.
        self._counts = dict.fromkeys((WEBSOCKET, REQUEST, BODY, ANSWER), 0)
        # By address, None for those of which it is not known yet: all that were accepted, and
        # those that are counted as something.
        self._sockets: dict[str | None, int] = {}
        self._busy: dict[str | None, int] = {}
        self._held = 0
        self._handlers_left = 0  # handlers that go on without their peers
        tell_after_fork(self)

    def _after_fork(self) -> None:
        self._lock = engine().rlock()

    def arrive(self, address: str | None) -> Place | None:
        """Count a connection that was accepted.

        Args:
            address: Its peer's address as text; None if it is not known yet: then call
                `Place.belong` once it is, before it enters.

        Returns:
            Its place; None if its address has too many already: close it.
        """
        place, most = Place(self), self._most_per_address
        group = None if address is None else address_group(address)
        with self._lock:
            others = self._sockets.get(group, 0)
            if group is not None and most is not None and others >= most + SPARE:
                return None
            _count_up(self._sockets, group)
            place.group = group
        return place

    def _belong(self, place: Place, address: str) -> bool:
        group, most = address_group(address), self._most_per_address
        with self._lock:
            others = self._sockets.get(group, 0)
            if most is not None and others >= most + SPARE:
                return False
            _count_down(self._sockets, place.group)
            _count_up(self._sockets, group)
            place.group = group
        return True

    def _pause(self, place: Place) -> None:
        with self._lock:
            _count_down(self._sockets, place.group)
            _count_up(self._sockets, None)
            place.group = None

    def _enter(self, place: Place, kind: str) -> None:
        most = self._most[kind]
        with self._lock:
            if most is not None and self._counts[kind] >= most:
                raise Refused(503, "the server is full: try again later", _RETRY)
            if kind == WEBSOCKET and most is not None and self._handlers_left >= most:
                raise Refused(503, "the server is busy with clients that have left", _RETRY)
            if self._most_per_address is not None:
                others = self._busy.get(place.group, 0) - (place.kind is not None)
                if others >= self._most_per_address:
                    raise too_many()
            self._put(place, kind)

    def _stay(self, place: Place, kind: str, size: int) -> bool:
        with self._lock:
            if size and self._held + size > _MOST_HELD:
                return False
            self._put(place, kind)
            place.held = size
            self._held += size
            return True

    def _answered(self, place: Place) -> None:
        with self._lock:
            self._put(place, None)

    def _leave(self, place: Place, handler: bool) -> None:
        with self._lock:
            if place.kind is not None or place.held:
                self._put(place, None)
            if not place.left:
                place.left = True
                _count_down(self._sockets, place.group)
            self._handlers_left += handler - place.handler
            place.handler = handler

    def _put(self, place: Place, kind: str | None) -> None:
        """Count a place as something else. Holds _lock."""
        if place.kind is not None:
            self._counts[place.kind] -= 1
            _count_down(self._busy, place.group)
        if place.held:
            self._held -= place.held
            place.held = 0
        place.kind = None
        if kind is not None and not place.left:
            place.kind = kind
            self._counts[kind] += 1
            _count_up(self._busy, place.group)


class Place:
    """One accepted connection among the limits. Whoever has it calls `leave` in the end.

    Attributes:
        group: Its peer's `address_group`; None until that is known.
        kind: What it is counted as, None for nothing but a connection.
        held: The bytes that its answer has in memory.
        left: Whether it has left.
        handler: Whether it has left, and its handler goes on.
    """

    __slots__ = ("_limits", "group", "handler", "held", "kind", "left")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.group: str | None = None
        self.kind: str | None = None
        self.held = 0
        self.left = False
        self.handler = False

    def belong(self, address: str) -> bool:
        """Be counted under an address, as text: for a place that is nobody's so far.

        Returns:
            Whether that has room for one more; if not, nothing has changed.
        """
        return self._limits._belong(self, address)

    def pause(self) -> None:
        """Be counted as nobody's: a proxy's connection, between the requests of two clients."""
        self._limits._pause(self)

    def enter(self, kind: str) -> None:
        """Be counted as a WEBSOCKET, a BODY or a REQUEST.

        Raises:
            Refused: 503, a limit is reached; nothing has changed.
        """
        self._limits._enter(self, kind)

    def stay(self, kind: str, size: int = 0) -> bool:
        """Be counted as a REQUEST or an ANSWER again, whatever the limits for their number say.

        Args:
            kind: Which of the two.
            size: The bytes that it holds in memory.

        Returns:
            Whether there is room for so many bytes; if not, nothing has changed.
        """
        return self._limits._stay(self, kind, size)

    def answered(self) -> None:
        """Be counted as nothing but a connection: its request was answered, or refused."""
        self._limits._answered(self)

    def beside(self) -> Place:
        """Another place, for the same connection's socket, where a thread keeps this one."""
        place = self._limits.arrive(None)
        assert place is not None  # as no address is full
        return place

    def leave(self) -> None:
        """The connection is closed, and its handler has returned. It may be called again."""
        self._limits._leave(self, False)

    def leave_to_handler(self) -> None:
        """The connection closes, but its handler goes on: call `leave` when it has returned."""
        self._limits._leave(self, True)


def too_many() -> Refused:
    """How a request is refused whose address has too much under way."""
    return Refused(503, "too many connections from your address", _RETRY)


# No call in these two, so no signal handler that counts as well runs between their steps.


def _count_up(counts: dict[str | None, int], key: str | None) -> None:
    try:
        counts[key] += 1
    except KeyError:
        counts[key] = 1


def _count_down(counts: dict[str | None, int], key: str | None) -> None:
    left = counts[key] - 1
    if left:
        counts[key] = left
    else:
        del counts[key]  # or every address ever seen would stay
