"""The proxies in front of a server: which are trusted, and what is believed of their clients.

Rules:

- Nothing that a peer says of its address counts unless the socket's own address is one of
  `trusted_proxies`. By default none is.
- Of the hops in a header the rightmost that is no trusted proxy is the client: only proxies that
  are trusted have written what stands to the right of it. If all are trusted, it is the first.
- One header is read, the one that the server was told of: a proxy passes the other one on as the
  client has sent it.
- What cannot be read is not believed, and logged rarely. Its sender is nobody that is known: the
  nearest proxy's address is shown, and all such are counted as one.
- What the client spoke to the proxy (X-Forwarded-Proto, `proto` of Forwarded) is that of the same
  hop. It says whether a request is `secure`.
"""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from .._network.authority import host_of
from .._options import check_strings
from .forwarded import Hop, read_forwarded, read_x_forwarded_for
from .log import RareWarning

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

__all__ = ["Client", "Proxies"]

_logger = logging.getLogger("scriptling_ws.server")

_UNIX: Final = "unix"
_READERS: Final[Mapping[str, Callable[[str], list[Hop] | None]]] = {
    "x-forwarded-for": read_x_forwarded_for,
    "forwarded": read_forwarded,
}
_SCHEME: Final = "x-forwarded-proto"


class Client(NamedTuple):
    """Who a request is from, as far as trusted proxies say.

    Attributes:
        address: The address as text; a trusted proxy's, if nothing is said behind it.
        secure: Whether the client has spoken TLS to the proxy that it came to.
        known: False if something was said that could not be read.
    """

    address: str
    secure: bool = False
    known: bool = True


class Proxies:
    """The trusted proxies of one server. Safe for any number of threads."""

    __slots__ = ("_header", "_networks", "_read", "_unix", "_warning", "protocol")

    def __init__(
        self, trusted: object = (), protocol: bool = False, header: str = "x-forwarded-for"
    ) -> None:
        """Check what a caller gives.

        Args:
            trusted: A list of addresses and networks, such as `10.0.0.0/8`, and "unix" for
                whoever comes by a Unix socket.
            protocol: Whether each of their connections begins with a header of the PROXY protocol.
            header: Where they name the client: "x-forwarded-for" or "forwarded".

        Raises:
            TypeError: one of them is of the wrong type.
            ValueError: an entry is no address and no network; the header is another one; or
                the PROXY protocol is wanted of nobody.
        """
        entries = check_strings(trusted, "trusted_proxies", "127.0.0.1")
        if not isinstance(protocol, bool):
            raise TypeError(f"proxy_protocol has to be True or False, not {protocol!r}")
        if header not in _READERS:
            raise ValueError(
                f"forwarded_header has to be 'x-forwarded-for' or 'forwarded', not {header!r}"
            )
        if protocol and not entries:
            raise ValueError(
                "proxy_protocol=True believes the first bytes of a connection: name the proxies "
                "that may send them, such as trusted_proxies=['127.0.0.1']"
            )
        self.protocol = protocol
        self._header = header
        self._read = _READERS[header]
        self._unix = _UNIX in entries
        self._networks = [_network(entry) for entry in entries if entry != _UNIX]
        self._warning = RareWarning(_logger)

    def trust(self, address: str) -> bool:
        """Whether an address is a trusted proxy's.

        Args:
            address: As text, with a port or without; of a Unix socket its path, or nothing.
        """
        if not self._networks and not self._unix:
            return False
        try:
            found = ipaddress.ip_address(host_of(address))
        except ValueError:
            return self._unix
        mapped = getattr(found, "ipv4_mapped", None)
        return any((mapped or found) in network for network in self._networks)

    def client_of(self, proxy: str, headers: Mapping[str, str]) -> Client:
        """Who a request is from that has come by a trusted proxy.

        Args:
            proxy: The proxy's address.
            headers: The request's headers, by names in lower case.
        """
        schemes = [part.strip(" \t").lower() for part in headers.get(_SCHEME, "").split(",")]
        value = headers.get(self._header)
        if value is None:
            return Client(proxy, schemes[-1] == "https")
        hops = self._read(value)
        if hops is None:
            return self._unknown(proxy)
        address, back, hop = proxy, 0, Hop(proxy)
        for back, hop in enumerate(reversed(hops)):  # noqa: B007 - where it stands is asked below
            if hop.address is None:
                return self._unknown(address)
            address = hop.address
            if not self.trust(address):
                break
        scheme = hop.scheme
        if self._read is read_x_forwarded_for:
            # A list beside the other one, or the word of the proxy that has ended the TLS.
            scheme = schemes[-1 - back] if back < len(schemes) else schemes[0]
        return Client(address, scheme == "https")

    def _unknown(self, address: str) -> Client:
        self._warning.give(
            "ignored what the trusted proxy %s says of its client: its %s header is malformed, or "
            "names no address",
            address,
            self._header,
        )
        return Client(address, known=False)


def _network(entry: str) -> Network:
    try:
        network = ipaddress.ip_network(entry)
    except ValueError as error:
        raise ValueError(
            f"trusted_proxies has {entry!r}: write an address such as '127.0.0.1', a network such "
            f"as '10.0.0.0/8', or 'unix' ({error})"
        ) from None
    return network
