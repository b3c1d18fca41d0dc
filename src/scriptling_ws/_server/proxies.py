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
- What the client spoke to the proxy (X-Forwarded-Proto, `proto` of Forwarded), and the host that it
  asked for (X-Forwarded-Host, `host`), are those of the same hop. They say whether a request is
  `secure`, and what its Host header is from then on; `allowed_hosts` is asked about that one.
- The Host header that came has to be allowed as well: a stranger's page in a browser on a trusted
  machine can write what it likes into a header, but not into that one (DNS rebinding).
- X-Forwarded-Prefix is what a proxy has taken off the path: one path, not a list. It stands in
  redirects, so anything else than a plain path is ignored (`root_path`).
"""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING, Final, NamedTuple

from .._network.authority import host_of, parse_authority
from .._options import check_strings
from .forwarded import Hop, read_forwarded, read_x_forwarded_for
from .log import RareWarning
from .root_path import is_root_path

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
_HOST: Final = "x-forwarded-host"
_PREFIX: Final = "x-forwarded-prefix"
_MAPPED: Final = 96  # bits before the IPv4 address in an IPv6 one


class Client(NamedTuple):
    """Who a request is from, as far as trusted proxies say.

    Attributes:
        address: The address as text; a trusted proxy's, if nothing is said behind it.
        secure: Whether the client has spoken TLS to the proxy that it came to.
        known: False if something was said that could not be read.
        host: The Host header that it has sent to the proxy; "" if that is not said.
        root_path: What the proxy has taken off the path; "" for nothing.
    """

    address: str
    secure: bool = False
    known: bool = True
    host: str = ""
    root_path: str = ""


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
        prefix = headers.get(_PREFIX, "").rstrip("/")
        root_path = prefix if is_root_path(prefix) else ""
        schemes, hosts = _list(headers.get(_SCHEME)), _list(headers.get(_HOST))
        if self._read is not read_x_forwarded_for:
            schemes = hosts = [""]  # these are as the client has sent them
        value = headers.get(self._header)
        if value is None:
            scheme, host = _at(schemes, 0), _at(hosts, 0)
            return Client(proxy, scheme.lower() == "https", host=_host(host), root_path=root_path)
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
        scheme, host = hop.scheme, hop.host
        if self._read is read_x_forwarded_for:
            scheme, host = _at(schemes, back), _at(hosts, back)
        return Client(address, scheme.lower() == "https", host=_host(host), root_path=root_path)

    def _unknown(self, address: str) -> Client:
        self._warning.give(
            "ignored what the trusted proxy %s says of its client: its %s header is malformed, or "
            "names no address",
            address,
            self._header,
        )
        return Client(address, known=False)


def _network(entry: str) -> Network:
    """A network; IPv4 where it is written within IPv6, as addresses are compared so."""
    try:
        network = ipaddress.ip_network(entry)
    except ValueError as error:
        raise ValueError(
            f"trusted_proxies has {entry!r}: write an address such as '127.0.0.1', a network such "
            f"as '10.0.0.0/8', or 'unix' ({error})"
        ) from None
    mapped = getattr(network.network_address, "ipv4_mapped", None)
    if mapped is None or network.prefixlen < _MAPPED:
        return network
    return ipaddress.ip_network(f"{mapped}/{network.prefixlen - _MAPPED}")


def _list(value: str | None) -> list[str]:
    """The entries of a header; one, which is empty, where it is not there."""
    return [part.strip(" \t") for part in (value or "").split(",")]


def _at(entries: list[str], back: int) -> str:
    """The entry of a hop, counted from the last one.

    A list beside the list of addresses; or, where it is shorter, the word of the proxy that the
    client came to.
    """
    return entries[-1 - back] if back < len(entries) else entries[0]


def _host(text: str) -> str:
    """A Host header as a proxy says it; "" if it is none."""
    try:
        parse_authority(text)
    except ValueError:
        return ""
    return text
