"""Header fields: what a caller may add, what a peer has sent, and what of them is shown.

Rules (RFC 9110 section 5):

- A field that a caller adds is checked, and goes on as a plain str: what a subclass of str says
  of itself when it is formatted was not checked.
- Where an object with fields is shown, the values that may be secret are hidden: credentials,
  cookies, and all that is not known to be none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

__all__ = [
    "JOINTS",
    "LONGEST",
    "TCHAR",
    "TOKEN",
    "check_header",
    "count_header",
    "joined_headers",
    "shown",
    "shown_headers",
    "shown_target",
]

LONGEST: Final = 200
"""The most characters that are shown of a peer's text."""

TCHAR: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""One character of a token (RFC 9110 section 5.6.2), as an expression."""

TOKEN = re.compile(f"{TCHAR}+")
"""What may be the name of a header or a subprotocol."""

_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # what Latin-1 has but control characters
JOINTS: Final = {"cookie": "; "}
"""What a field's lines are joined by, if not by ", "."""

# What anybody may see. Any other may hold a secret: programs name theirs as they like.
_PUBLIC: Final = frozenset(
    {
        "accept",
        "accept-encoding",
        "accept-language",
        "allow",
        "cache-control",
        "connection",
        "content-length",
        "content-type",
        "date",
        "host",
        "origin",
        "sec-websocket-extensions",
        "sec-websocket-version",
        "upgrade",
        "user-agent",
        "vary",
    }
)


def check_header(
    name: object, value: object, reserved: Container[str], maker: str
) -> tuple[str, str]:
    """Check a header that a caller adds to a request or a response.

    Args:
        name: Its name.
        value: Its value.
        reserved: The names, in lower case, of those that `maker` makes itself.
        maker: Who that is, for the error.

    Returns:
        The two as plain str.

    Raises:
        TypeError: one of the two is no str.
        ValueError: HTTP does not allow it, or it is reserved.
    """
    if not isinstance(name, str) or not isinstance(value, str):
        raise TypeError(
            f"header {name!r}: name and value have to be str, "
            f"not {type(name).__name__} and {type(value).__name__}"
        )
    # A member of an enum that is a str too is formatted as its name.
    name, value = str.__str__(name), str.__str__(value)
    if not TOKEN.fullmatch(name):
        raise ValueError(f"{name!r} is not a header name")
    if name.lower() in reserved:
        raise ValueError(f"the header {name!r} is made by {maker} itself: leave it out")
    if not _VALUE.fullmatch(value):
        raise ValueError(
            f"the value of header {name!r} has a character that HTTP does not allow "
            "(a line end, a control character, or one outside Latin-1)"
        )
    return name, value


def joined_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Headers by name in lower case; of one that came twice, the values joined.

    They are joined by ", " (RFC 9110 section 5.3), cookies by "; ", as a browser joins
    them itself (RFC 6265 section 5.4; so do HTTP/2's servers, RFC 9113 section 8.2.3).
    """
    result: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("ascii").lower(), raw_value.decode("latin-1")
        if name in result:
            value = JOINTS.get(name, ", ").join((result[name], value))
        result[name] = value
    return result


def count_header(head: bytes, name: bytes) -> int:
    """How often a header stands in a head without folded lines, both in lower case."""
    return head.count(b"\r\n" + name + b":")


def shown(text: str) -> str:
    """Text of a peer for a line of the log: in quotes, in ASCII with escapes, cut where long."""
    return ascii(text) if len(text) <= LONGEST else f"{text[:LONGEST]!a}..."


def shown_headers(headers: Iterable[tuple[str, str]]) -> str:
    """Headers for a repr: of those that may hold a secret the names alone."""
    shown = (
        f"{name!r}: {value!r}" if name.lower() in _PUBLIC else f"{name!r}: ..."
        for name, value in headers
    )
    return "{" + ", ".join(shown) + "}"


def shown_target(target: str) -> str:
    """A request's target for a repr: without the query, which may hold a token."""
    path, mark, _ = target.partition("?")
    return repr(f"{path}?..." if mark else path)
