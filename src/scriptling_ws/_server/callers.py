"""Who is at the other end of a connection, and whether it may come in: its address, its pace.

Rules:

- An address counts once it is known whose it is: that of the socket as the connection is
  accepted; a proxy's client's by the PROXY header, or by the request's head (`proxies`). Until
  then a trusted proxy's connection is counted as nobody's.
- A proxy that names no client (a health check) is counted by its own address, at any pace.
- How fast an address may come is `max_connection_rate`. Who comes faster is told by 429 with
  Retry-After, once the request is there; but that costs the server a request, and under TLS a
  handshake. So only as many are told as may come: what is beyond that is closed as it is
  accepted, or after its PROXY header, which costs least. Behind a proxy that sends no PROXY
  header all are told: the head is read by then.
- A proxy that keeps its connections sends the requests of one client after those of another: each
  counts as that client's connection would, and between two of them it is nobody's.
- Where an address has too many connections, one that only waits for another request gives way.
- With `proxy_protocol`, whoever is no trusted proxy is closed as it is accepted.
- All of this is for the acceptor's thread alone.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from .._handshakes.head import Refused
from .._options import check_count
from .limits import address_group, too_many
from .proxies import Client, Proxies
from .proxy_protocol import BadProxyHeader, ProxyHeader
from .rate import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._network.transport import Transport
    from .limits import Limits, Place

__all__ = ["BURST", "Caller", "Callers", "TurnedAway"]

BURST: Final = 50
"""How many connections an address may open at once, by default."""

_NOBODY: Final = "unknown"  # in place of an address: all that cannot be told apart
_CROWDED: Final = "its address has too many connections; max_connections_per_address says how many"
_TOO_FAST: Final = (
    "its address opens connections too fast; max_connection_rate says how many a second"
)
_NO_PROXY: Final = (
    "it is none of the trusted_proxies, and with proxy_protocol=True no others may come"
)


class TurnedAway(Exception):  # not an error of this program: close the connection
    """A connection that is closed without an answer; the text says why, for the log."""


class Callers:
    """Decides on the connections of one server as they come."""

    def __init__(
        self,
        limits: Limits,
        proxies: Proxies | None = None,
        max_rate: float | None = None,
        burst: int = BURST,
    ) -> None:
        """Begin with nobody.

        Args:
            limits: How many may be there.
            proxies: Whose word counts; None for nobody's.
            max_rate: The most connections of an address a second, None for no limit.
            burst: How many of them may come at once.

        Raises:
            TypeError: the rate is no number, or the burst no int.
            ValueError: the rate is not above 0, or the burst below 1.
        """
        check_count("max_connection_burst", burst)
        rate = _checked_rate(max_rate)
        self.limits = limits
        self.proxies = Proxies() if proxies is None else proxies
        self._rate = None if rate is None else Rate(rate, burst)
        self._told = None if rate is None else Rate(rate, burst)
        # Closes a connection of an address, by its group, that only waits; False if there is none.
        self.give_way: Callable[[str], bool] = lambda _: False

    def welcome(self, address: str) -> Caller:
        """Count a connection that was accepted.

        Args:
            address: The socket's other end, as text.

        Raises:
            TurnedAway: close it.
        """
        if self.proxies.trust(address):
            place = self.limits.arrive(None)
            assert place is not None
            return Caller(self, place, address, by_proxy=True)
        if self.proxies.protocol:
            raise TurnedAway(_NO_PROXY)
        refusal = self.check_pace_early(address)
        place = self.limits.arrive(address)
        if place is None and self.give_way(address_group(address)):
            place = self.limits.arrive(address)
        if place is None:
            raise TurnedAway(_CROWDED)
        return Caller(self, place, address, False, refusal)

    def find_room(self, place: Place, address: str) -> bool:
        """Count a place under an address: whether that has room for it, or could make some."""
        if place.belong(address):
            return True
        return self.give_way(address_group(address)) and place.belong(address)

    def check_pace(self, address: str) -> Refused | None:
        """Count a connection of an address: None if it may come, else how to refuse it."""
        wait = self._rate.take(address_group(address)) if self._rate is not None else 0.0
        if not wait:
            return None
        text = "too many new connections from your address: come more slowly"
        return Refused(429, text, [("Retry-After", str(math.ceil(wait)))])

    def check_pace_early(self, address: str) -> Refused | None:
        """The same while a refusal would still cost something.

        Raises:
            TurnedAway: enough were told.
        """
        refusal = self.check_pace(address)
        if refusal is None or self._told is None:
            return None
        if self._told.take(address_group(address)):
            raise TurnedAway(_TOO_FAST)
        return refusal


class Caller:
    """One connection's other end.

    Attributes:
        place: Its place among the limits.
        address: Its address as text, as far as it is known; in the end the client's.
        header: What is to be read of the PROXY protocol before all else, None for nothing.
    """

    __slots__ = ("_by_proxy", "_callers", "_proxy", "_refusal", "address", "header", "place")

    def __init__(
        self,
        callers: Callers,
        place: Place,
        address: str,
        by_proxy: bool = False,
        refusal: Refused | None = None,
    ) -> None:
        """Begin with the socket's address; `by_proxy` if that is a trusted proxy's."""
        self._callers = callers
        self._by_proxy = by_proxy  # whether it is a trusted proxy that says who it is
        self._refusal = refusal
        self.place = place
        self.address = self._proxy = address
        self.header = ProxyHeader() if by_proxy and callers.proxies.protocol else None

    @property
    def has_a_say(self) -> bool:
        """Whether `identify` would do anything."""
        return self._by_proxy or self._refusal is not None

    def read_header(self, transport: Transport, buffer: bytearray) -> bool:
        """Read on in the PROXY header; `header` is None once it is complete.

        Args:
            transport: The socket, as it is without TLS. It gets the client's address.
            buffer: Scratch space.

        Returns:
            Whether there was something to read.

        Raises:
            TurnedAway: the header is malformed, or its client may not come.
            OSError: the proxy has left.
        """
        header = self.header
        assert header is not None
        data = transport.peek(header.wanted)
        if data is None:
            return False
        if not data:
            raise ConnectionResetError("the peer left before its PROXY header was complete")
        try:
            count = header.feed(data)
        except BadProxyHeader as error:
            raise TurnedAway(str(error)) from None
        transport.read_into(memoryview(buffer)[:count])
        if header.done:
            self.header = None
            if header.source is not None:
                transport.remote_addr = header.source
                self._take_source(header.source)
        return True

    def _take_source(self, source: str) -> None:
        callers = self._callers
        self.address = self._proxy = source
        self._by_proxy = callers.proxies.trust(source)  # a proxy behind a proxy
        if self._by_proxy:
            return
        self._refusal = callers.check_pace_early(source)
        if not callers.find_room(self.place, source):
            raise TurnedAway(_CROWDED)

    def identify(self, transport: Transport, headers: Mapping[str, str]) -> Client:
        """Take what the request's head says of the client, if that counts.

        Args:
            transport: What it has come by. It gets the client's address.
            headers: The request's, by names in lower case.

        Returns:
            What a trusted proxy says of its client; nothing, if none has sent the request.

        Raises:
            Refused: 429 or 503, with Retry-After: the client has come too fast, or has too much.
        """
        client = Client(self.address)
        if self._by_proxy:
            client = self._callers.proxies.client_of(self._proxy, headers)
            transport.remote_addr = self.address = client.address
            self._count(client)
        if self._refusal is not None:
            raise self._refusal
        return client

    def pause(self, transport: Transport) -> None:
        """The request is answered, and the connection waits for another one."""
        if self._by_proxy:
            transport.remote_addr = self.address = self._proxy
            self.place.pause()

    def _count(self, client: Client) -> None:
        """Count the connection under its client, as it is known from the head on."""
        callers = self._callers
        counted = client.address if client.known else _NOBODY
        if not (client.known and callers.proxies.trust(counted)):
            self._refusal = callers.check_pace(counted)
        if not callers.find_room(self.place, counted):
            self._refusal = too_many()


def _checked_rate(rate: object) -> float | None:
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, (int, float)):
        raise TypeError(
            "max_connection_rate has to be a number of connections a second, or None for no "
            f"limit, not {type(rate).__name__}"
        )
    if not 0 < rate < math.inf:
        raise ValueError(
            f"max_connection_rate has to be above 0, or None for no limit, not {rate!r}"
        )
    return float(rate)
