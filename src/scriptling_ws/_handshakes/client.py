"""A client's side of the opening handshake, without I/O.

Rules (RFC 6455 section 4.1):

- wsproto builds the upgrade and checks the answer. Of an upgrade's answer it is given the
  head alone; of a rejection the body too, since h11 knows where that ends.
- This file refuses beforehand what wsproto lets through: other HTTP versions, bodies,
  a doubled Sec-WebSocket-Accept.
- A field that is a list may come in several lines, and have empty elements (RFC 9110
  sections 5.3 and 5.6.1). wsproto looks at the last line only, so it is given one.
- Of a rejection's body the beginning is enough: it may have no end.
- Interim responses (RFC 9110 section 15.2), for wsproto rejections, are skipped: a bounded number.
- Compression is agreed on in `terms`, and wsproto knows of none.
- Whatever goes wrong inside h11 or wsproto leaves as HandshakeError.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from wsproto import ConnectionType, WSConnection
from wsproto import events as wsevents

from .._errors import HandshakeError, forget_frames
from .._fields import check_header, count_header, joined_headers
from .._options import DEFAULT_HEADS, check_subprotocols
from .._version import __version__
from .head import FOREIGN_ERRORS, HeadReader, Refused
from .terms import DeflateOffer, Terms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from wsproto.connection import Connection as WSProtoConnection

    from .._options import HeadLimits
    from .url import URL

__all__ = ["ClientHandshake"]

_MAX_BODY: Final = 64 * 1024
_MAX_INTERIM: Final = 16
_STATUS_LINE = re.compile(rb"HTTP/(\d\.\d) ([1-9]\d\d)(?: [^\r\n]*)?\r\n")
_LISTS: Final = (
    b"connection",
    b"sec-websocket-extensions",
    b"sec-websocket-protocol",
    b"upgrade",
)
_RESERVED_HEADERS = {
    "connection",
    "content-length",
    "host",
    "sec-websocket-accept",
    "sec-websocket-extensions",
    "sec-websocket-key",
    "sec-websocket-protocol",
    "sec-websocket-version",
    "transfer-encoding",
    "upgrade",
}


class ClientHandshake:
    """A client's side of one upgrade.

    Feed what the server sends to `receive` until it returns True, then take
    `connection`, `subprotocol` and `rest`.

    Attributes:
        request: The bytes to send.
        subprotocol: What the server chose, or None.
        rest: The bytes that came after the server's head.
    """

    def __init__(
        self,
        url: URL,
        headers: Mapping[str, str],
        subprotocols: Iterable[str] = (),
        limits: HeadLimits = DEFAULT_HEADS,
        *,
        deflate: Terms | None = None,
    ) -> None:
        """Check the arguments and make the request; nothing is sent yet.

        Args:
            url: Where to connect to.
            headers: More headers for the request.
            subprotocols: Those to offer, the preferred one first.
            limits: How long the answer's head may be.
            deflate: What this end wants of permessage-deflate, None to do without.

        Raises:
            TypeError: headers or subprotocols are of the wrong type.
            ValueError: one of them cannot be sent.
        """
        extra = _check_headers(headers)
        names = {name.lower() for name, _ in extra}
        if url.credentials is not None and b"authorization" not in names:
            extra.append((b"Authorization", url.credentials.encode("ascii")))
        if b"user-agent" not in names:
            extra.append((b"User-Agent", f"scriptling-ws/{__version__}".encode("ascii")))
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._offer = None if deflate is None else DeflateOffer(deflate)
        self.request = self._ws.send(
            wsevents.Request(
                host=url.host_header,
                target=url.target,
                subprotocols=check_subprotocols(subprotocols),
                extensions=[] if self._offer is None else [self._offer],
                extra_headers=extra,
            )
        )
        self._limits = limits
        self._reader: HeadReader | None = HeadReader(False, limits)
        self._start = b""  # the first bytes, until it is clear that they are HTTP
        self._interim = 0
        # What the error is made of, not the error: that would hold its frames, and they this.
        self._rejection: tuple[str, int, dict[str, str]] | None = None
        self._body = bytearray()  # of the rejection
        self.subprotocol: str | None = None
        self.rest = b""

    @property
    def connection(self) -> WSProtoConnection:
        """wsproto's connection; only after `receive` has returned True."""
        connection = self._ws.connection
        assert connection is not None
        return connection

    @property
    def refused(self) -> bool:
        """Whether the server has refused: only the refusal's body is still to come."""
        return self._rejection is not None

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
            self._collect_body(data)
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
                self._collect_body(rest, more=True)
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
            self.rest = rest
            return True
        if status < 200:
            self._interim += 1
            if self._interim > _MAX_INTERIM:
                raise HandshakeError(f"more than {_MAX_INTERIM} interim responses", status)
            self._start = b""
            return False
        try:
            self._ws.receive_data(head)
        except FOREIGN_ERRORS as error:
            forget_frames(error)
            raise HandshakeError("the server's answer is not valid HTTP", status) from error
        # The first event alone: of an empty body the end has come too, for _collect_body.
        event = next(self._ws.events())
        assert isinstance(event, wsevents.RejectConnection)
        self._rejection = _rejection(event)
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
            self._ws.receive_data(_with_lists_joined(head))
            (event,) = self._ws.events()
        except FOREIGN_ERRORS as error:
            forget_frames(error)
            raise invalid(str(error), error) from error
        if not isinstance(event, wsevents.AcceptConnection):  # pragma: no cover - see _head
            raise invalid("it is incomplete")
        self.subprotocol = event.subprotocol

    def _collect_body(self, data: bytes, more: bool = False) -> None:
        """Add to a rejection's body; raise the rejection once it is complete."""
        done = not data and not more
        try:
            if data or done:
                self._ws.receive_data(data or None)
            for event in self._ws.events():
                if isinstance(event, wsevents.RejectData):  # pragma: no branch - no other comes
                    self._body += event.data
                    done = done or event.body_finished
        except FOREIGN_ERRORS as error:
            forget_frames(error)
            done = True  # the status is known; a broken body changes nothing
        if done or len(self._body) >= _MAX_BODY:
            self.give_up()

    def give_up(self) -> None:
        """Raise the rejection, if there is one: no more of its body can be had."""
        if self._rejection is not None:
            raise HandshakeError(*self._rejection, bytes(self._body[:_MAX_BODY]))


def _check_headers(headers: object) -> list[tuple[bytes, bytes]]:
    """The headers that a caller adds, checked and as wsproto takes them."""
    if not hasattr(headers, "items"):
        raise TypeError("headers has to be a dict, such as {'Authorization': 'Bearer ...'}")
    result = []
    for name, value in headers.items():
        name, value = check_header(name, value, _RESERVED_HEADERS, "connect()")  # noqa: PLW2901
        result.append((name.encode("ascii"), value.strip(" \t").encode("latin-1")))
    return result


def _is_plain(lower: bytes) -> bool:
    """Whether a head, in lower case, has two lists alone and one element in each, as most have."""
    return (
        b"\r\nupgrade: websocket\r\n" in lower
        and b"\r\nconnection: upgrade\r\n" in lower
        and not any(count_header(lower, name) > 1 for name in (b"upgrade", b"connection"))
        and b"\r\nsec-websocket-protocol:" not in lower
        and b"\r\nsec-websocket-extensions:" not in lower
    )


def _with_lists_joined(head: bytes) -> bytes:
    """The head with each list in one line; one without an element is left out."""
    if _is_plain(head.lower()):
        return head
    lines: list[bytes] = []
    lists: dict[bytes, list[bytes]] = {}
    for line in head[:-4].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if (lower := name.lower()) in _LISTS:
            lists.setdefault(lower, []).append(value)
        else:
            lines.append(line)
    for name, values in lists.items():
        if name == b"sec-websocket-extensions":  # a comma may stand in quotes
            elements = [value.strip(b" \t,") for value in values]
        else:
            parts = [part.strip(b" \t") for value in values for part in value.split(b",")]
            if name != b"sec-websocket-protocol":  # its names alone have a case
                parts = [part.lower() for part in parts]
            elements = list(dict.fromkeys(parts))  # the same one again changes nothing
        if any(elements):
            lines.append(name + b": " + b", ".join(filter(None, elements)))
    return b"\r\n".join([*lines, b"", b""])


def _raw_headers(head: bytes) -> dict[str, str]:
    lines = (line.partition(b":") for line in head.split(b"\r\n")[1:] if b":" in line)
    pairs = ((name, value.strip()) for name, _, value in lines if name.isascii())
    return joined_headers(pairs)


_ADVICE = {
    301: "it redirects, which is not followed: connect to that URL",
    401: "it wants credentials: pass headers={'Authorization': ...}",
    403: "it forbids this client, perhaps for its Origin or credentials",
    404: "there is nothing at this path",
    414: "the URL is too long for it",
    426: "it wants another protocol or WebSocket version",
    431: "a header is too long for it, or all of them are",
    503: "it is overloaded: try again later",
}
_ADVICE.update(dict.fromkeys((302, 303, 307, 308), _ADVICE[301]))


def _rejection(event: wsevents.RejectConnection) -> tuple[str, int, dict[str, str]]:
    """A HandshakeError's text, status and headers."""
    status = event.status_code
    advice = _ADVICE.get(status, "it may not be a WebSocket endpoint")
    headers = joined_headers((bytes(name), bytes(value)) for name, value in event.headers)
    where = f" (Location: {headers['location']!r})" if "location" in headers else ""
    return f"the server answered with HTTP status {status}: {advice}{where}", status, headers
