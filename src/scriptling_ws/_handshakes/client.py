"""A client's side of the opening handshake, without I/O.

Rules (RFC 6455 section 4.1):

- h11 builds the upgrade, in the form that wsproto gives it, and reads the answer: of an upgrade
  the head alone, and that only where it is not a plain one (`plain`); of a rejection the body too,
  since it knows where that ends.
- wsproto judges the upgrade by the answer's own fields. Whether the token is the key's is asked of
  it for each answer; its verdict on the rest is kept, as most servers answer the same.
- A request is kept too, but for its key, so that its parts are checked once; not one with
  additions of the caller (`additions`) or credentials, which may be secret.
- This file refuses beforehand what wsproto lets through: other HTTP versions, bodies,
  a doubled Sec-WebSocket-Accept.
- A field that is a list may come in several lines, and have empty elements (RFC 9110
  sections 5.3 and 5.6.1). wsproto looks at the last line only, so it is given one.
- Interim responses (RFC 9110 section 15.2), for wsproto rejections, are skipped: a bounded number.
- Compression is agreed on in `terms`, and wsproto knows of none.
- Whatever goes wrong inside h11 or wsproto leaves as HandshakeError.
"""

from __future__ import annotations

import re
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final

import h11
from wsproto import ConnectionType, WSConnection
from wsproto import events as wsevents
from wsproto.utilities import generate_accept_token, generate_nonce

from .._errors import HandshakeError, forget_frames
from .._fields import count_header, joined_headers
from .._options import DEFAULT_HEADS, check_subprotocols
from .._version import __version__
from .additions import Additions
from .head import FOREIGN_ERRORS, HeadReader, Refused
from .plain import plain_answer
from .rejection import Rejection
from .terms import DeflateOffer, Terms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from .._options import HeadLimits
    from .url import URL

__all__ = ["ClientHandshake"]

_MAX_INTERIM: Final = 16
_STATUS_LINE = re.compile(rb"HTTP/(\d\.\d) ([1-9]\d\d)(?: [^\r\n]*)?\r\n")
_KEY: Final = b"\r\nSec-WebSocket-Key: "
_NO_KEY: Final = b"AAAAAAAAAAAAAAAAAAAAAA=="  # where the key of a connection comes
_ANSWERED: Final = b"HTTP/1.1 101 Switching Protocols"
_ACCEPT: Final = b"sec-websocket-accept"
_PROTOCOL: Final = b"sec-websocket-protocol"
_EXTENSIONS: Final = b"sec-websocket-extensions"
_LISTS: Final = (b"connection", b"upgrade", _PROTOCOL, _EXTENSIONS)  # what else wsproto looks at
_USER_AGENT: Final = f"scriptling-ws/{__version__}".encode("ascii")
_REQUESTS: Final = 16  # that are kept
_VERDICTS: Final = 64
_LONGEST: Final = 1024  # bytes of what one is kept for


class ClientHandshake:
    """A client's side of one upgrade.

    Feed what the server sends to `receive` until it returns True, then take
    `subprotocol` and `rest`.

    Attributes:
        request: The bytes to send.
        subprotocol: What the server chose, or None.
        answer: The server's head, once `receive` has returned True.
        rest: The bytes that came after it.
    """

    def __init__(
        self,
        url: URL,
        headers: Additions | Mapping[str, str],
        subprotocols: Iterable[str] = (),
        limits: HeadLimits = DEFAULT_HEADS,
        *,
        deflate: Terms | None = None,
    ) -> None:
        """Check the arguments and make the request; nothing is sent yet.

        Args:
            url: Where to connect to.
            headers: What the caller adds to the request; if not checked yet, headers alone.
            subprotocols: Those to offer, the preferred one first.
            limits: How long the answer's head may be.
            deflate: What this end wants of permessage-deflate, None to do without.

        Raises:
            TypeError: headers or subprotocols are of the wrong type.
            ValueError: one of them cannot be sent.
        """
        more = headers if isinstance(headers, Additions) else Additions.checked(headers)
        extra = list(more.fields)
        secret = bool(extra) or not (url.credentials is None and more.host is None)
        if url.credentials is not None and b"authorization" not in more.names:
            extra.append((b"Authorization", url.credentials.encode("ascii")))
        if b"user-agent" not in more.names and not more.anonymous:
            extra.append((b"User-Agent", _USER_AGENT))
        host = url.host_header.encode("ascii") if more.host is None else more.host
        self._offer = None if deflate is None else DeflateOffer(deflate)
        self._subprotocols = tuple(check_subprotocols(subprotocols))
        parts = host, url.target, self._subprotocols, deflate
        make = _request.__wrapped__ if secret or len(url.target) > _LONGEST else _request
        self._key = generate_nonce()
        self._event, request = make(*parts, tuple(extra))
        self.request: bytes = request.replace(_KEY + _NO_KEY, _KEY + self._key, 1)
        self._limits = limits
        self._reader: HeadReader | None = HeadReader(False, limits)
        self._start = b""  # the first bytes, until it is clear that they are HTTP
        self._interim = 0
        self._rejection: Rejection | None = None
        self.subprotocol: str | None = None
        self.answer = b""
        self.rest = b""

    @cached_property
    def _http(self) -> h11.Connection:
        """h11, once it has to read an answer; it has sent the request."""
        http = h11.Connection(h11.CLIENT)
        http.send(self._event)
        return http

    @property
    def refused(self) -> bool:
        """Whether the server has refused: only the refusal's body is still to come."""
        return self._rejection is not None

    @property
    def redirects(self) -> bool:
        """Whether that refusal leads to another URL."""
        return self._rejection is not None and self._rejection.redirects

    @property
    def deflate(self) -> Terms | None:
        """The terms of compression, None for none; only after `receive` has returned True."""
        return None if self._offer is None else self._offer.terms

    def receive(self, data: bytes) -> bool:
        """Take in what the server sent.

        Args:
            data: The bytes; b"" for the end of the stream.

        Returns:
            Whether the connection is open.

        Raises:
            HandshakeError: the server refused, or its answer is not valid.
        """
        if self._rejection is not None:
            self._collect(self._rejection, data)
            return False
        if not data:
            raise HandshakeError("the server closed the connection without an answer")
        while True:
            assert self._reader is not None
            self._check_start(data)
            try:
                head = self._reader.feed(data)
            except Refused as error:
                raise HandshakeError(f"the server's answer is not valid: {error.text}") from None
            if head is None:
                return False
            rest, self._reader = self._reader.rest, None
            if self._take_head(head, rest):
                return True
            if self._rejection is not None:
                self._collect(self._rejection, rest, more=True)
                return False
            self._reader, data = HeadReader(False, self._limits), rest

    def _check_start(self, data: bytes) -> None:
        """Refuse what is no HTTP before waiting for a blank line that never comes."""
        if len(self._start) < 5:
            self._start = (self._start + data)[:5]
            if not b"HTTP/".startswith(self._start):
                raise HandshakeError(
                    "the server's answer is not HTTP: is this the right port, "
                    "and ws:// or wss:// as it should be?"
                )

    def _take_head(self, head: bytes, rest: bytes) -> bool:
        """Whether a complete head opens the connection; else interim or a rejection."""
        line = _STATUS_LINE.match(head)
        if line is None:
            raise HandshakeError("the server's answer is not valid: malformed status line")
        status = int(line[2])
        if status == 101:
            self._accept(head, line[1])
            self.answer, self.rest = head, rest
            return True
        if status < 200:
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise HandshakeError(f"more than {_MAX_INTERIM} interim responses", status)
            self._start = b""
            return False
        try:
            self._http.receive_data(head)
            event = self._http.next_event()
        except FOREIGN_ERRORS as error:
            forget_frames(error)
            raise HandshakeError("the server's answer is not valid HTTP", status) from error
        assert isinstance(event, h11.Response)
        self._rejection = Rejection(event)
        return False

    def _accept(self, head: bytes, version: bytes) -> None:
        def invalid(text: str, cause: Exception | None = None) -> HandshakeError:
            error = HandshakeError(
                f"the server's upgrade is not valid: {text}", 101, _raw_headers(head)
            )
            error.__cause__ = cause
            return error

        if version != b"1.1":
            raise invalid(f"HTTP/{version.decode('ascii')} instead of HTTP/1.1")
        lower = head.lower()
        if count_header(lower, b"content-length") or count_header(lower, b"transfer-encoding"):
            raise invalid("it announces a body")
        if count_header(lower, b"sec-websocket-accept") > 1:
            raise invalid("more than one Sec-WebSocket-Accept header")
        try:
            fields = plain_answer(head) or self._by_h11(head)
        except FOREIGN_ERRORS as error:
            forget_frames(error)
            raise invalid("Bad HTTP message", error) from error
        try:
            self.subprotocol = self._judge(fields)
        except FOREIGN_ERRORS as error:
            forget_frames(error)
            raise invalid(str(error), error) from error

    def _by_h11(self, head: bytes) -> list[tuple[bytes, bytes]]:
        """As `plain_answer`, of every head; raises what h11 does."""
        self._http.receive_data(head)
        event = self._http.next_event()
        assert isinstance(event, h11.InformationalResponse)
        return list(event.headers.raw_items())

    def _judge(self, fields: list[tuple[bytes, bytes]]) -> str | None:
        """The subprotocol that wsproto finds in an answer; raises what it raises."""
        found: dict[bytes, list[bytes]] = {}
        for raw_name, value in fields:
            found.setdefault(raw_name.lower(), []).append(value)
        lists = tuple(_joined(name, found[name]) if name in found else b"" for name in _LISTS)
        right = found.get(_ACCEPT) == [generate_accept_token(self._key)]
        if self._offer is None and sum(map(len, lists)) <= _LONGEST:
            return _verdict(self._subprotocols, None, lists, right)
        return _verdict.__wrapped__(self._subprotocols, self._offer, lists, right)

    def _collect(self, rejection: Rejection, data: bytes, more: bool = False) -> None:
        """Take in a rejection's body, and raise the rejection once that is complete."""
        if rejection.collect(self._http, data, more):
            raise rejection.error()

    def give_up(self) -> None:
        """Raise the rejection, if there is one: no more of its body can be had."""
        if self._rejection is not None:
            raise self._rejection.error()


@lru_cache(maxsize=_REQUESTS)
def _request(
    host: bytes,
    target: str,
    subprotocols: tuple[str, ...],
    deflate: Terms | None,
    extra: tuple[tuple[bytes, bytes], ...],
) -> tuple[h11.Request, bytes]:
    """The request for an upgrade, with _NO_KEY for the key; and its bytes, as h11 writes it."""
    headers = [
        (b"Host", host),
        (b"Upgrade", b"websocket"),
        (b"Connection", b"Upgrade"),
        (b"Sec-WebSocket-Key", _NO_KEY),
        (b"Sec-WebSocket-Version", b"13"),
    ]
    if subprotocols:
        headers.append((b"Sec-WebSocket-Protocol", ", ".join(subprotocols).encode("ascii")))
    if deflate is not None:
        offer = DeflateOffer(deflate)
        headers.append(
            (b"Sec-WebSocket-Extensions", f"{offer.name}; {offer.offer()}".encode("ascii"))
        )
    event = h11.Request(method=b"GET", target=target.encode("ascii"), headers=[*headers, *extra])
    written = h11.Connection(h11.CLIENT).send(event)
    assert written is not None
    return event, written


@lru_cache(maxsize=_VERDICTS)
def _verdict(
    subprotocols: tuple[str, ...],
    offer: DeflateOffer | None,
    lists: tuple[bytes, ...],
    right: bool,
) -> str | None:
    """What wsproto says of an upgrade's answer: the subprotocol that was agreed on.

    Args:
        subprotocols: Those that were offered.
        offer: What was offered of compression; it is told the answer.
        lists: The values of _LISTS.
        right: Whether the answer has the token that belongs to the key.
    """
    ws = WSConnection(ConnectionType.CLIENT)
    request = ws.send(
        wsevents.Request(
            host="localhost",
            target="/",
            subprotocols=list(subprotocols),
            extensions=[] if offer is None else [offer],
        )
    )
    rows = [b"%b: %b" % row for row in zip(_LISTS, lists, strict=True) if row[1]]
    if right:
        key = request.partition(_KEY)[2].partition(b"\r\n")[0]
        rows.append(b"%b: %b" % (_ACCEPT, generate_accept_token(key)))
    ws.receive_data(b"\r\n".join([_ANSWERED, *rows, b"", b""]))
    (event,) = ws.events()
    assert isinstance(event, wsevents.AcceptConnection)
    return event.subprotocol


def _joined(name: bytes, values: list[bytes]) -> bytes:
    """A list's lines in one, without its empty elements."""
    if name == _EXTENSIONS:  # a comma may stand in quotes
        elements = [value.strip(b" \t,") for value in values]
    else:
        elements = [part.strip(b" \t") for value in values for part in value.split(b",")]
        if name != _PROTOCOL:  # its names alone have a case
            elements = [element.lower() for element in elements]
        elements = list(dict.fromkeys(elements))  # the same one again changes nothing
    return b", ".join(filter(None, elements))


def _raw_headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:] if b":" in line)
    pairs = ((name, value.strip()) for name, _, value in lines if name.isascii())
    return joined_headers(pairs)
