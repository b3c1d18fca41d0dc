"""What a server answers in place of an upgrade, as a client reads and reports it, without I/O.

Rules (RFC 6455 section 4.1, RFC 9110 section 15):

- Of the body the beginning is enough: it may have no end. A body that is broken changes nothing, as
  the status is known.
- The error says what the status means for a WebSocket, and what to do about it.
- Where it leads to is shown without a password and without a query, which may be a token.
"""

from __future__ import annotations

import re
from typing import Final

import h11

from .._errors import HandshakeError, forget_frames
from .._fields import joined_headers, shown_target
from .head import FOREIGN_ERRORS

__all__ = ["REDIRECTS", "Rejection"]

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""The statuses by which a server sends a client to another URL (RFC 9110 section 15.4)."""

_MAX_BODY: Final = 64 * 1024
_ADVICE: Final = {
    **dict.fromkeys(
        REDIRECTS,
        "it redirects, which is not followed: connect to that URL, or give max_redirects",
    ),
    400: "it does not take the request as it is: .body may say why",
    401: "it wants credentials: pass headers={'Authorization': ...}",
    403: "it forbids this client, perhaps for its Origin or credentials",
    404: "there is nothing at this path",
    414: "the URL is too long for it",
    426: "it wants another protocol or WebSocket version",
    429: "it gets more requests than it takes: try again later",
    431: "a header is too long for it, or all of them are",
    500: "it has failed itself: its log may say why",
    502: "a proxy in front of it cannot reach it",
    503: "it is overloaded: try again later",
    504: "a proxy in front of it had no answer in time",
}
_USER = re.compile(r"//[^/?#]*@")


class Rejection:
    """An answer that refuses an upgrade.

    It is what the error is made of, not the error: that would hold its frames, and they this.
    """

    __slots__ = ("_body", "_headers", "_status")

    def __init__(self, event: h11.Response) -> None:
        """Begin with the head, as h11 has read it."""
        self._status = event.status_code
        self._headers = joined_headers((bytes(name), bytes(value)) for name, value in event.headers)
        self._body = bytearray()

    @property
    def redirects(self) -> bool:
        """Whether it leads to another URL."""
        return self._status in REDIRECTS and "location" in self._headers

    def collect(self, http: h11.Connection, data: bytes, more: bool = False) -> bool:
        """Take in some of the body.

        Args:
            http: What reads it.
            data: The bytes; b"" for the end of the stream, unless more are to come.
            more: Whether they are.

        Returns:
            Whether the body is complete, or as much of it as is wanted.
        """
        done = not data and not more
        try:
            if data or done:
                http.receive_data(data)
            while isinstance(event := http.next_event(), h11.Data):
                self._body += event.data
            done = done or isinstance(event, h11.EndOfMessage)
        except FOREIGN_ERRORS as error:
            forget_frames(error)
            done = True
        return done or len(self._body) >= _MAX_BODY

    def error(self) -> HandshakeError:
        """What to raise for it, with the body as far as it has come."""
        status, headers = self._status, self._headers
        advice = _ADVICE.get(status, "it may not be a WebSocket endpoint")
        where = ""
        if "location" in headers:
            location, _, _ = _USER.sub("//", headers["location"]).partition("#")
            where = f" (Location: {shown_target(location)})"
        text = f"the server answered with HTTP status {status}: {advice}{where}"
        return HandshakeError(text, status, headers, bytes(self._body[:_MAX_BODY]))
