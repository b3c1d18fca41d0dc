"""What proxies write into a request's head of the client: X-Forwarded-For and Forwarded.

Rules (RFC 7239; X-Forwarded-For has none, but the use of nginx, HAProxy and clouds), without I/O:

- A header is a list of hops, the client first; each proxy adds the one that has come to it. Only
  the end of it was written by a proxy that is known: who reads it goes from the right.
- An address has a port or none. An IPv6 address may be in brackets, and has no zone. What is
  none ("unknown", `_hidden`, anything else) is a hop without an address.
- X-Forwarded-For is split at its commas, and what is in each part does not matter to the others.
- Forwarded has quoted strings, in which a client can hide what follows: one that is malformed
  anywhere has no hop at all.
- Both are read in linear time, of X-Forwarded-For the last hops alone: a client may send many.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

from .._fields import TCHAR
from .._network.authority import plain_address

__all__ = ["Hop", "read_forwarded", "read_x_forwarded_for"]

# Bounds, which may as well be others.
_MOST: Final = 32  # hops of X-Forwarded-For; what is left of them is one more; pragma: no mutate
_LONGEST: Final = 4096  # characters of a Forwarded header; pragma: no mutate
_LONGEST_NODE: Final = 64  # characters of an address with its port; pragma: no mutate
_NODE = re.compile(
    r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+))(?::(?:(?P<port>[0-9]{1,5})|_[\w.-]+))?"
    r"|(?P<bare>[0-9A-Fa-f:.]+)",
    re.ASCII,
)
_PAIR = re.compile(rf'({TCHAR}+)=(?:({TCHAR}+)|"((?:[^"\\]|\\.)*)")')
_BLANK: Final = " \t"


class Hop(NamedTuple):
    """One client of a proxy.

    Attributes:
        address: Its address as text, with a port if it is known; None if it has none.
        scheme: What it spoke: "http" or "https"; "" if that is not said.
        host: The Host header that it sent; "" if that is not said.
    """

    address: str | None
    scheme: str = ""
    host: str = ""


def read_x_forwarded_for(value: str) -> list[Hop]:
    """The hops of X-Forwarded-For, the client first.

    Args:
        value: The header; of several lines, joined by commas.
    """
    parts = [part.strip(_BLANK) for part in value.rsplit(",", _MOST)]
    return [Hop(_address(part.strip('"'))) for part in parts if part]


def read_forwarded(value: str) -> list[Hop] | None:
    """The hops of Forwarded, the client first.

    Args:
        value: The header; of several lines, joined by commas.

    Returns:
        The hops; None if the header is malformed, or too long.
    """
    if len(value) > _LONGEST:
        return None
    hops: list[Hop] = []
    fields: dict[str, str] = {}
    at = 0
    while True:
        at = _skip_blanks(value, at)
        found = _PAIR.match(value, at)
        if found is not None:
            name = found[1].lower()
            if name in fields:
                return None
            fields[name] = found[2] or re.sub(r"\\(.)", r"\1", found[3] or "")
            at = _skip_blanks(value, found.end())
        mark = value[at : at + 1]
        if mark not in ("", ",", ";"):
            return None
        if mark != ";" and fields:
            scheme, host = fields.get("proto", "").lower(), fields.get("host", "")
            hops.append(Hop(_address(fields.get("for", "")), scheme, host))
            fields = {}
        if not mark:
            return hops
        at += 1


def _skip_blanks(value: str, at: int) -> int:
    while at < len(value) and value[at] in _BLANK:
        at += 1
    return at


def _address(node: str) -> str | None:
    """The address of a node, None if it has none."""
    found = _NODE.fullmatch(node) if len(node) <= _LONGEST_NODE else None
    if found is None:
        return None
    port = int(found["port"] or 0)
    try:
        address = ipaddress.ip_address(found["six"] or found["four"] or found["bare"])
    except ValueError:
        return None
    if port > 65535 or (found["six"] and address.version == 4):
        return None
    return plain_address(address, port)
