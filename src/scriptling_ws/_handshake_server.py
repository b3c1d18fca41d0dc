"""A server's side of the opening handshake, without I/O.

Rules (RFC 6455 section 4.2):

- wsproto checks the upgrade and builds the answer, and is given the head alone: its server
  side loses bytes that follow the request.
- This file refuses beforehand, with the status that fits, what wsproto lets through (bodies,
  a header doubled that must not be, a key that is not 16 bytes) or answers less exactly.
- Compression is agreed on in `_terms`, and wsproto knows of none.
- Whatever goes wrong inside h11 or wsproto leaves as Refused.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from wsproto import ConnectionType, WSConnection
from wsproto import events as wsevents

from ._head import FOREIGN_ERRORS, Refused, Request, count_header
from ._terms import Terms, agree

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wsproto.connection import Connection as WSProtoConnection

__all__ = ["ServerUpgrade", "wants_upgrade"]


def wants_upgrade(request: Request) -> bool:
    """Whether a request asks for an upgrade of any kind."""
    return "upgrade" in request.headers or "sec-websocket-key" in request.headers


class ServerUpgrade:
    """A server's side of one upgrade.

    Attributes:
        subprotocols: What the client offers, in its order of preference.
        connection: wsproto's connection, once `accept` was called.
        deflate: The terms of compression, once `accept` was called; None for none.
    """

    def __init__(self, head: bytes, request: Request) -> None:
        """Check an upgrade request.

        Raises:
            Refused: 405, 426 or 400, with the headers that go with it.
        """
        if request.method != "GET":
            raise Refused(405, "a WebSocket starts with GET", [("Allow", "GET")])
        if not wants_upgrade(request):
            raise Refused(
                426,
                "this is a WebSocket endpoint: connect with a WebSocket client",
                [("Upgrade", "websocket"), ("Connection", "Upgrade")],
            )
        _check_upgrade(head, request)
        self._ws = WSConnection(ConnectionType.SERVER)
        try:
            self._ws.receive_data(head)
            (event,) = self._ws.events()
        except FOREIGN_ERRORS as error:
            raise Refused(400, f"the upgrade is malformed: {error}") from error
        assert isinstance(event, wsevents.Request)
        self.subprotocols = event.subprotocols
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
            headers: More headers for the response.
            deflate: What this end wants of permessage-deflate, None to do without.
        """
        extra = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
        agreed = None if deflate is None else agree(self._extensions, deflate)
        if agreed is not None:
            answer, self.deflate = agreed
            extra.append((b"Sec-WebSocket-Extensions", answer.encode("ascii")))
        return self._ws.send(
            wsevents.AcceptConnection(subprotocol=subprotocol, extra_headers=extra)
        )

    @property
    def connection(self) -> WSProtoConnection:
        """wsproto's connection; only after `accept`."""
        connection = self._ws.connection
        assert connection is not None
        return connection


def _check_upgrade(head: bytes, request: Request) -> None:
    headers = request.headers
    version = headers.get("sec-websocket-version")
    if version != "13":
        raise Refused(
            400 if version is None else 426,
            "Sec-WebSocket-Version has to be 13",
            [("Sec-WebSocket-Version", "13"), ("Upgrade", "websocket"), ("Connection", "Upgrade")],
        )
    if headers.get("upgrade", "").lower() != "websocket":
        raise Refused(400, "Upgrade has to be websocket")
    # Blanks and tabs alone: str.strip() takes \xa0 for a blank, too.
    tokens = [token.strip(" \t").lower() for token in headers.get("connection", "").split(",")]
    if "upgrade" not in tokens:
        raise Refused(400, "Connection has to name Upgrade")
    if "content-length" in headers or "transfer-encoding" in headers:
        raise Refused(400, "an upgrade request has no body")
    lower = head.lower()
    for name in (b"connection", b"sec-websocket-key", b"sec-websocket-version"):
        # wsproto looks at the last of several Connection headers only.
        if count_header(lower, name) > 1:
            raise Refused(400, f"more than one {name.decode('ascii')} header")
    try:
        key = base64.b64decode(headers.get("sec-websocket-key", ""), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != 16:
        raise Refused(400, "Sec-WebSocket-Key has to be 16 bytes in base64")
