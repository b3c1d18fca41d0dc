"""What a caller adds to the request for an upgrade: headers, cookies, who asks.

Rules (RFC 6455 section 4.1, RFC 9110, RFC 6265 section 4.2):

- All of it is checked before anything is sent; the fields of the upgrade itself are not a caller's.
- Headers come as a dict, or as pairs, of which a name may have several. Those that HTTP knows once
  are given once: in `headers`, or by the option that is for them.
- A Host header may differ from the address, as it does behind a tunnel or for a virtual host.
- What is meant for one origin (`elsewhere` leaves it out) goes to no other: Authorization, Cookie,
  Host. Any other header goes wherever a redirect leads.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .._fields import TOKEN, check_header
from .._network.authority import parse_authority

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["Additions"]

_MADE_HERE: Final = {
    "connection",
    "content-length",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "transfer-encoding",
    "upgrade",
}
_NO_HEADERS: Final = (
    "headers has to be a dict, such as {'Authorization': 'Bearer ...'}, or a list of pairs"
)
_ONCE: Final = {b"authorization", b"cookie", b"host", b"origin", b"user-agent"}
_OF_ONE_ORIGIN: Final = {b"authorization", b"cookie", b"proxy-authorization"}
# What browsers send, and programs set: more than RFC 6265 has for servers, who may not set it.
_COOKIE = re.compile(r"[\x20-\x3a\x3c-\x7e]*")


class Additions:
    """The fields that a caller adds, checked. It is not changed.

    Attributes:
        fields: Names and values, without Host.
        names: The names, in lower case.
        host: The value of the Host header; None for that of the URL.
        anonymous: Whether there is to be no User-Agent.

    Without a `repr`: it may be secret.
    """

    __slots__ = ("anonymous", "fields", "host", "names")

    def __init__(
        self,
        fields: tuple[tuple[bytes, bytes], ...] = (),
        host: bytes | None = None,
        *,
        anonymous: bool = False,
    ) -> None:
        self.fields = fields
        self.names = frozenset(name.lower() for name, _ in fields)
        self.host = host
        self.anonymous = anonymous

    def elsewhere(self) -> Additions:
        """What of it may go to another origin than it was meant for."""
        return Additions(
            tuple(field for field in self.fields if field[0].lower() not in _OF_ONE_ORIGIN),
            anonymous=self.anonymous,
        )

    @classmethod
    def checked(
        cls,
        headers: object,
        *,
        cookies: Mapping[str, str] | None = None,
        origin: str | None = None,
        user_agent: str | None = None,
    ) -> Additions:
        """Check what a caller gives.

        Args:
            headers: A dict, or pairs of names and values; None for none.
            cookies: Cookies by their names.
            origin: The Origin header.
            user_agent: The User-Agent header; "" for none at all.

        Raises:
            TypeError: something is of the wrong type.
            ValueError: something cannot be sent, or is there twice.
        """
        if headers is None and cookies is None and origin is None and user_agent is None:
            return NOTHING
        fields = [_encoded(*pair) for pair in _pairs(headers)]
        if cookies is not None:
            fields += _cookie_field(cookies)
        for name, value in (("Origin", origin), ("User-Agent", user_agent)):
            if value is not None and not (value == "" and name == "User-Agent"):
                fields.append(_encoded(name, value))
        names = [name.lower() for name, _ in fields]
        for once in _ONCE.intersection(names):
            if names.count(once) > 1:
                raise ValueError(
                    f"the header {once.decode('ascii')!r} is there twice: give it once, "
                    "in headers or by its own option"
                )
        host = None
        if b"host" in names:
            _, host = fields.pop(names.index(b"host"))
            _check_host(host)
        return cls(tuple(fields), host, anonymous=user_agent == "")


NOTHING: Final = Additions()
"""Where a caller adds nothing."""


def _pairs(headers: object) -> Iterable[tuple[object, object]]:
    if headers is None:
        return ()
    if hasattr(headers, "items"):
        return headers.items()  # type: ignore[no-any-return]
    if isinstance(headers, (str, bytes)) or not hasattr(headers, "__iter__"):
        raise TypeError(_NO_HEADERS)
    pairs = list(headers)
    for pair in pairs:
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise TypeError(_NO_HEADERS)
    return [(name, value) for name, value in pairs]


def _encoded(name: object, value: object) -> tuple[bytes, bytes]:
    """A field as it is sent."""
    name, value = check_header(name, value, _MADE_HERE, "connect()")
    return name.encode("ascii"), value.strip(" \t").encode("latin-1")


def _cookie_field(cookies: object) -> list[tuple[bytes, bytes]]:
    """The one Cookie header (RFC 6265 section 5.4)."""
    if not hasattr(cookies, "items"):
        raise TypeError("cookies has to be a dict, such as {'session': '...'}")
    texts = []
    for name, value in cookies.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise TypeError(
                f"cookie {name!r}: name and value have to be str, "
                f"not {type(name).__name__} and {type(value).__name__}"
            )
        name, value = str.__str__(name), str.__str__(value)  # noqa: PLW2901 - see check_header
        if not TOKEN.fullmatch(name):
            raise ValueError(f"{name!r} is not the name of a cookie")
        if not _COOKIE.fullmatch(value):
            raise ValueError(
                f"the value of cookie {name!r} has a character that a cookie cannot have "
                "(a semicolon, a control character, or one outside ASCII): percent-encode it"
            )
        texts.append(f"{name}={value}")
    return [(b"Cookie", "; ".join(texts).encode("ascii"))] if texts else []


def _check_host(host: bytes) -> None:
    try:
        parse_authority(host.decode("latin-1"))
    except ValueError:
        raise ValueError(
            "the Host header has to be a host name or an address, with a port or without"
        ) from None
