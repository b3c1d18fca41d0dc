"""A host and its port, as URLs and the Host header write them (RFC 3986 section 3.2).

Rules:

- A host is a name, an IPv4 address, or an IPv6 address in brackets.
- A name is of letters, digits, `-`, `_` and `.`, as DNS and the names of machines and
  containers are. RFC 3986 allows more, which no name in use has. A name outside ASCII is
  here in its xn-- form.
- A user, a zone of an IPv6 address, and a port that cannot be connected to are refused.
- What comes out can be compared: lower case, and an IPv6 address in its shortest form.
"""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Final

__all__ = [
    "DEFAULT_PORTS",
    "SCHEME",
    "has_whole_labels",
    "host_of",
    "host_port",
    "parse_authority",
    "plain_address",
]

DEFAULT_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
"""The port of each scheme where a URL names none."""

SCHEME: Final = r"[A-Za-z][A-Za-z0-9+.-]*"
"""The scheme of a URL (RFC 3986 section 3.1), as an expression."""

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::([0-9]{0,5}))?")
_LONGEST_NAME: Final = 253  # RFC 1035, without the dot at the end
_LONGEST_LABEL: Final = 63


def host_port(host: str, port: int) -> str:
    """A host or an address, without brackets, and its port: `127.0.0.1:80`, `[::1]:80`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def plain_address(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int | None = None
) -> str:
    """An address as text: `192.0.2.1:80`, `[2001:db8::1]:80`; without a port that is not known.

    An IPv4 address that stands in an IPv6 one (`::ffff:192.0.2.1`) is the IPv4 address.

    Args:
        address: The address.
        port: The port; None or 0 if it is not known.
    """
    host = str(address)
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
        host = f"[{address.compressed}]" if mapped is None else str(mapped)
    return f"{host}:{port}" if port else host


def host_of(address: str) -> str:
    """The host of an address as text, without brackets and without the port that it may have."""
    host, colon, _ = address.rpartition(":")
    return (host if colon and not address.endswith("]") else address).strip("[]")


@lru_cache(maxsize=64)  # most requests name the same
def parse_authority(text: str) -> tuple[str, int | None]:
    """The host and port of `host` or `host:port`.

    Args:
        text: What a URL or a Host header names.

    Returns:
        The host in lower case, an IPv6 address in its brackets; and the port, None if
        there is none.

    Raises:
        ValueError: no host name or address is written so, or no port.
    """
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise ValueError("the host is malformed")
    host, port = found[1].lower(), int(found[2]) if found[2] else None
    if port is not None and not 1 <= port <= 65535:
        raise ValueError("the port has to be 1 to 65535")
    if host.startswith("["):
        return f"[{ipaddress.IPv6Address(host[1:-1]).compressed}]", port
    if len(host.removesuffix(".")) > _LONGEST_NAME or not has_whole_labels(host):
        raise ValueError("the host is malformed")
    return host, port


def has_whole_labels(name: str) -> bool:
    """Whether no label of a host name is empty, or longer than DNS has it; a dot may end it."""
    labels = name.removesuffix(".").split(".")
    return all(0 < len(label) <= _LONGEST_LABEL for label in labels)
