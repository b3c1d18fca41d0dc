"""A server's side of the opening handshake, without I/O.

Rules (RFC 6455 section 4.2):

- wsproto judges the upgrade. It is shown a head of the upgrade's own fields, without what follows
  the request, which its server side loses. A list in several lines is one line there (RFC 9110
  section 5.3): of Connection it looks at the last alone.
- Most clients send the same fields but for the key, which wsproto does not look into, and which
  is checked here. So its verdict on these fields is kept, and asked for once.
- The answer has the form that wsproto gives it, with its token; a test holds the two together.
- This file refuses beforehand, with the status that fits, what wsproto lets through (bodies,
  a header doubled that must not be, a key that is not 16 bytes) or answers less exactly.
- `Content-Length: 0` is no body: charging stations send it.
- Compression is agreed on in `terms`, and wsproto knows of none.
- Whatever goes wrong inside h11 or wsproto leaves as Refused.
"""

from __future__ import annotations

import base64
import binascii
from binascii import b2a_base64
from functools import lru_cache
from hashlib import sha1
from typing import TYPE_CHECKING, Final

from wsproto import ConnectionType, WSConnection
from wsproto import events as wsevents

from .._fields import count_header
from .alike import USUAL_KEY
from .head import FOREIGN_ERRORS, PROXY_HINT, Refused, Request, is_http_1_0
from .terms import Terms, agree

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["WEBSOCKET_METHODS", "ServerUpgrade", "wants_upgrade"]

WEBSOCKET_METHODS: Final = "GET, OPTIONS"
"""What the path of a WebSocket answers, as Allow says it."""

# The answer, up to the token.
_GUID: Final = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_ACCEPTED: Final = (
    "HTTP/1.1 101 Switching Protocols\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)
_SOME_KEY: Final = "AAAAAAAAAAAAAAAAAAAAAA=="
# What wsproto is shown of every upgrade: some key, and of Upgrade, that it names websocket. Not
# the Host: wsproto would refuse names that IDNA 2003 does not know, and `parse_request` has
# checked it.
_SHOWN: Final = (
    "GET / HTTP/1.1",
    "host: localhost",
    "upgrade: websocket",
    f"sec-websocket-key: {_SOME_KEY}",
)
# And what of each.
_JUDGED: Final = (
    "connection",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
)
# And what is looked at beside the key.
_SEEN: Final = ("upgrade", "content-length", "transfer-encoding", *_JUDGED)
_VERDICTS: Final = 64  # that are kept
_LONGEST: Final = 512  # characters in all of what one is kept for


def wants_upgrade(request: Request) -> bool:
    """Whether a request asks for an upgrade to WebSocket, perhaps one that is malformed.

    Any other upgrade is an offer that a server may leave (RFC 9110 section 7.8), such as h2c.
    """
    return "sec-websocket-key" in request.headers or _names(request, "upgrade", "websocket")


class ServerUpgrade:
    """A server's side of one upgrade.

    Attributes:
        subprotocols: What the client offers, in its order of preference.
        deflate: The terms of compression, once `accept` was called; None for none.
    """

    def __init__(self, head: bytes, request: Request) -> None:
        """Check an upgrade request.

        Raises:
            Refused: 405, 426, 505 or 400, with the headers that go with it.
        """
        usual = _usual_subprotocols(head, request)
        self.subprotocols = _checked(head, request) if usual is None else usual
        self._key = request.headers["sec-websocket-key"]
        self._extensions = request.headers.get("sec-websocket-extensions", "")
        self.deflate: Terms | None = None

    def accept(
        self,
        subprotocol: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        deflate: Terms | None = None,
    ) -> bytes:
        """The response that accepts the upgrade.

        Args:
            subprotocol: One of `subprotocols`, or None.
            headers: More headers for the response; they are sent as they are.
            deflate: What this end wants of permessage-deflate, None to do without.
        """
        assert subprotocol is None or subprotocol in self.subprotocols
        answer = f"{_ACCEPTED}{_token(self._key)}\r\n"
        if subprotocol is not None:
            answer += f"Sec-WebSocket-Protocol: {subprotocol}\r\n"
        for name, value in headers:
            answer += f"{name}: {value}\r\n"
        agreed = None if deflate is None else agree(self._extensions, deflate)
        if agreed is not None:
            terms, self.deflate = agreed
            answer += f"Sec-WebSocket-Extensions: {terms}\r\n"
        return f"{answer}\r\n".encode("latin-1")


def _token(key: str) -> str:
    """As wsproto's `generate_accept_token`, to which a test holds it."""
    digest = sha1((key + _GUID).encode("ascii"), usedforsecurity=False).digest()
    return b2a_base64(digest, newline=False).decode("ascii")


def _checked(head: bytes, request: Request) -> list[str]:
    """Check an upgrade; what the client offers.

    Raises:
        Refused: as `ServerUpgrade`.
    """
    if request.method != "GET":
        raise Refused(405, "a WebSocket starts with GET", [("Allow", WEBSOCKET_METHODS)])
    if not wants_upgrade(request):
        raise Refused(
            426,
            "this is a WebSocket endpoint: connect with a WebSocket client",
            [("Upgrade", "websocket"), ("Connection", "Upgrade")],
        )
    if is_http_1_0(head):
        raise Refused(505, f"a WebSocket needs HTTP/1.1, and this is HTTP/1.0: {PROXY_HINT}")
    _check_upgrade(head, request)
    return _subprotocols(request)


def _usual_subprotocols(head: bytes, request: Request) -> list[str] | None:
    """What the client offers, where the same fields may have come before; None where not.

    Raises:
        Refused: as `ServerUpgrade`.
    """
    headers = request.headers
    key = headers.get("sec-websocket-key", "")
    if request.method != "GET" or not USUAL_KEY.fullmatch(key) or is_http_1_0(head):
        return None
    values = tuple(map(headers.get, _SEEN))
    if sum(map(len, filter(None, values))) > _LONGEST:
        return None
    return list(_right(values))


@lru_cache(maxsize=_VERDICTS)
def _right(values: tuple[str | None, ...]) -> tuple[str, ...]:
    """The subprotocols of an upgrade with these values of _SEEN, whose key is right.

    Raises:
        Refused: as `ServerUpgrade`.
    """
    fields = zip(_SEEN, values, strict=True)
    headers = {name: value for name, value in fields if value is not None}
    headers["sec-websocket-key"] = _SOME_KEY
    _check_upgrade(b"", Request("GET", "/", headers))
    return _verdict(values[-len(_JUDGED) :])


def _check_upgrade(head: bytes, request: Request) -> None:
    headers = request.headers
    version = headers.get("sec-websocket-version")
    if version != "13":
        raise Refused(
            400 if version is None else 426,
            "Sec-WebSocket-Version has to be 13",
            [("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"), ("Connection", "Upgrade")],
        )
    if not _names(request, "upgrade", "websocket"):
        raise Refused(400, f"Upgrade has to name websocket; {PROXY_HINT}")
    if not _names(request, "connection", "upgrade"):
        raise Refused(400, f"Connection has to name Upgrade; {PROXY_HINT}")
    # h11 has joined equal lengths, and refused what is no number.
    if headers.get("content-length", "0").strip("0") or "transfer-encoding" in headers:
        raise Refused(400, "an upgrade request has no body")
    for name in ("sec-websocket-key", "sec-websocket-version"):
        # Values of several lines are joined by a comma.
        if "," in headers.get(name, "") and count_header(head.lower(), name.encode()) > 1:
            raise Refused(400, f"more than one {name} header")
    try:
        key = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 16:
        raise Refused(400, "Sec-WebSocket-Key has to be 16 bytes in base64")


def _names(request: Request, name: str, wanted: str) -> bool:
    """Whether a header's list has an element, given in lower case."""
    value = request.headers.get(name, "").lower()
    # Blanks and tabs alone: str.strip() takes \xa0 for a blank, too.
    return value == wanted or wanted in [token.strip(" \t") for token in value.split(",")]


def _subprotocols(request: Request) -> list[str]:
    """What the client offers, if wsproto takes the upgrade.

    Raises:
        Refused: it does not.
    """
    values = tuple(map(request.headers.get, _JUDGED))
    short = sum(map(len, filter(None, values))) <= _LONGEST
    return list((_verdict if short else _verdict.__wrapped__)(values))


@lru_cache(maxsize=_VERDICTS)
def _verdict(values: tuple[str | None, ...]) -> tuple[str, ...]:
    """The subprotocols, as wsproto reads them, of an upgrade with these values of _JUDGED."""
    rows = [
        f"{name}: {value}" for name, value in zip(_JUDGED, values, strict=True) if value is not None
    ]
    ws = WSConnection(ConnectionType.SERVER)
    try:
        ws.receive_data("\r\n".join([*_SHOWN, *rows, "", ""]).encode("latin-1"))
        (event,) = ws.events()
    except FOREIGN_ERRORS as error:
        raise Refused(400, "the upgrade is malformed") from error
    assert isinstance(event, wsevents.Request)
    return tuple(name for name in event.subprotocols if name)
