"""The request and the response of an upgrade, as a connection shows them to its program.

Rules (RFC 9110 section 5):

- They are read from the bytes that were sent and received, when a program first asks: a connection
  whose program does not ask has two heads to keep, and no more.
- Both heads have been checked by then: lines end with CRLF, and none is folded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from .._fields import joined_headers
from .head import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .response import Response

__all__ = ["Exchange"]


class Exchange:
    """Both heads of a client's upgrade, and what they say."""

    __slots__ = ("_answered", "_request", "_response", "_secure", "_sent")

    def __init__(self, sent: bytes, answered: bytes, *, secure: bool) -> None:
        """Keep the two heads.

        Args:
            sent: The request's.
            answered: The response's.
            secure: Whether they went by TLS.
        """
        self._sent = sent
        self._answered = answered
        self._secure = secure
        self._request: Request | None = None
        self._response: Response | None = None

    @property
    def request(self) -> Request:
        """The request."""
        if self._request is None:
            first, *pairs = _lines(self._sent)
            method, target, _ = first[0].decode("ascii").split(" ")
            path, _, query = target.partition("?")
            self._request = Request(
                method=method,
                path=unquote(path),
                headers=joined_headers(pairs),
                query=dict(parse_qsl(query, keep_blank_values=True, errors="replace")),
                target=target,
                secure=self._secure,
            )
        return self._request

    @property
    def response(self) -> Response:
        """The response."""
        if self._response is None:
            from .response import Response  # where a program asks for it, and not before

            first, *pairs = _lines(self._answered)
            fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in pairs]
            status = int(first[0].split(b" ", 2)[1])
            self._response = Response(status, joined_headers(pairs), fields)
        return self._response


def _lines(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The first line, and nothing; then each field."""
    first, *rest = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
    yield first, b""
    for line in rest:
        name, _, value = line.partition(b":")
        yield name, value.strip(b" \t")
