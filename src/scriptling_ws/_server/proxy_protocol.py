"""The PROXY protocol: what a proxy says of its client, before the client's own first byte.

Rules (HAProxy's proxy-protocol.txt, versions 1 and 2), without I/O:

- A header is there, whole and exact, or the connection is to be dropped. Nothing is guessed:
  whether one is to come is the server's setting.
- Not a byte behind the header is taken: what follows may be a TLS handshake.
- A line of version 1 has 107 bytes at the most, and ends with CRLF. A header of version 2 says
  its length; beyond LONGEST it is refused. What it has behind the addresses is skipped.
- The command LOCAL (a proxy's own health check) and unknown families stand for the socket's own
  address. So does a Unix socket's: it has no address that one could count by.
- An address is that of a client, in plain form: an IPv4 address that came as ::ffff:a.b.c.d is
  a.b.c.d. A client's port 0 is no port.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from .._network.authority import plain_address

__all__ = ["LONGEST", "SIGNATURE", "BadProxyHeader", "ProxyHeader"]

SIGNATURE: Final = b"\r\n\r\n\0\r\nQUIT\n"
"""What a header of version 2 starts with."""

LONGEST: Final = 4096
"""The most bytes of a header of version 2."""

_WORD: Final = b"PROXY "
_LONGEST_LINE: Final = 107
_FIXED: Final = 16  # bytes of version 2 before the addresses
_PORT: Final = rb"(0|[1-9][0-9]{0,4})"
_LINE = re.compile(rb"PROXY TCP([46]) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) %b %b\r\n" % (_PORT, _PORT))
_UNKNOWN = re.compile(rb"PROXY UNKNOWN(?: [^\r\n]*)?\r\n")
_LOCAL, _PROXY = 0, 1
_SIZES: Final = {0: 0, 1: 12, 2: 36, 3: 216}  # of the addresses, by family
_PROTOCOLS: Final = (0, 1, 2)  # unknown, stream, datagram (HTTP/3 at the proxy)


class BadProxyHeader(ValueError):
    """What came is no header of the PROXY protocol: drop the connection."""


class ProxyHeader:
    """Reads one header.

    Attributes:
        done: Whether it is complete.
        source: The client's address as text, such as `192.0.2.1:5000`; None where the socket's
            own address counts.
    """

    __slots__ = ("_held", "done", "source")

    def __init__(self) -> None:
        self._held = bytearray()
        self.done = False
        self.source: str | None = None

    @property
    def wanted(self) -> int:
        """How many bytes to look at next; `feed` says how many of them to take."""
        if self._held.startswith(_WORD):
            return _LONGEST_LINE - len(self._held)
        size = self._size()
        return (_LONGEST_LINE if size is None else size) - len(self._held)

    def feed(self, data: bytes) -> int:
        """Add bytes that came next, at least one; not after `done`.

        Returns:
            How many of them belong to the header, at least one.

        Raises:
            BadProxyHeader: it is malformed, or no header at all.
        """
        before = len(self._held)
        self._held += data
        end = self._end()
        if end is None:
            return len(data)
        del self._held[end:]
        header, self._held = bytes(self._held), bytearray()
        self.source = _read_line(header) if header.startswith(_WORD) else _read_binary(header)
        self.done = True
        return end - before

    def _end(self) -> int | None:
        """Where the header ends, None if that is still to come."""
        held, start = self._held, bytes(self._held[: len(SIGNATURE)])
        if _WORD.startswith(start[: len(_WORD)]):
            end = held.find(b"\r\n", 0, _LONGEST_LINE)
            if end < 0 and len(held) >= _LONGEST_LINE:
                raise BadProxyHeader(f"the PROXY line has more than {_LONGEST_LINE} bytes")
            return end + 2 if end >= 0 else None
        if not SIGNATURE.startswith(start):
            raise BadProxyHeader(
                "no PROXY header came: have the proxy send one (HAProxy: send-proxy-v2; nginx: "
                "proxy_protocol on), or leave proxy_protocol=True out"
            )
        size = self._size()
        return size if size is not None and len(held) >= size else None

    def _size(self) -> int | None:
        """The bytes of a header of version 2, None if they are not known yet."""
        held = self._held
        if len(held) < _FIXED:
            return None
        size = _FIXED + int.from_bytes(held[14:16], "big")
        if held[12] >> 4 != 2:
            raise BadProxyHeader(f"the PROXY protocol has no version {held[12] >> 4}")
        if size > LONGEST:
            raise BadProxyHeader(f"the PROXY header has {size} bytes, more than the {LONGEST}")
        return size


def _read_line(line: bytes) -> str | None:
    """The source of a header of version 1."""
    if _UNKNOWN.fullmatch(line):
        return None
    found = _LINE.fullmatch(line)
    if found is None:
        raise BadProxyHeader("the PROXY line is malformed")
    kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address]
    kind = ipaddress.IPv4Address if found[1] == b"4" else ipaddress.IPv6Address
    try:
        source, _ = (kind(found[at].decode("ascii")) for at in (2, 3))
    except ValueError as error:
        raise BadProxyHeader("the PROXY line has a malformed address") from error
    ports = [int(found[at]) for at in (4, 5)]
    if max(ports) > 65535:
        raise BadProxyHeader("the PROXY line has a malformed port")
    return plain_address(source, ports[0])


def _read_binary(header: bytes) -> str | None:
    """The source of a header of version 2."""
    command, family, protocol = header[12] & 15, header[13] >> 4, header[13] & 15
    if command == _LOCAL:
        return None
    if command != _PROXY:
        raise BadProxyHeader(f"the PROXY header has the unknown command {command}")
    if family not in _SIZES or protocol not in _PROTOCOLS:
        raise BadProxyHeader("the PROXY header has an unknown family or protocol")
    if len(header) < _FIXED + _SIZES[family]:
        raise BadProxyHeader("the PROXY header is too short for its addresses")
    if protocol == 0 or family not in (1, 2):
        return None
    length = 4 if family == 1 else 16
    source = ipaddress.ip_address(header[_FIXED : _FIXED + length])
    at = _FIXED + 2 * length
    return plain_address(source, int.from_bytes(header[at : at + 2], "big"))
