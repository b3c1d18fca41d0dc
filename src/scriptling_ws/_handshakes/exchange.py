"""The request and the response of an upgrade, as a connection shows them to its program.

Rules (RFC 9110 section 5):

- They are read from the bytes that were sent and received, when a program first asks: a connection
  whose program does not ask has two heads to keep, and no more.
- A field that came several times is kept so: Set-Cookie cannot be joined (section 5.3).
- Both heads have been checked by then: lines end with CRLF, and none is folded.
- No `repr` shows what may be secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from .._fields import joined_headers, shown_headers
from .head import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Exchange", "Response"]


@dataclass(frozen=True, repr=False)
class Response:
    """The server's response to an upgrade, as a client's `conn.response` shows it.

    Its `repr` has no secret: of most headers the names alone.

    Attributes:
        status: 101.
        headers: Names in lower case; of a header that came twice, the values joined by ", ".
        fields: All fields in their order, names and values as they came.
    """

    status: int
    headers: dict[str, str]
    fields: list[tuple[str, str]]

    def header_list(self, name: str) -> list[str]:
        """All values of a header, in their order; empty if it is not there.

        `conn.response.header_list("Set-Cookie")` has each cookie by itself.

        Args:
            name: The header's name, in any case.
        """
        wanted = name.lower()
        return [value for each, value in self.fields if each.lower() == wanted]

    def __repr__(self) -> str:
        return f"Response(status={self.status}, headers={shown_headers(self.fields)})"


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
