"""The response to an upgrade, as a client's program is shown it.

Rules (RFC 9110 section 5):

- A field that came several times is kept so: Set-Cookie cannot be joined (section 5.3).
- No `repr` shows what may be secret.
"""

from __future__ import annotations

from dataclasses import dataclass

from .._fields import shown_headers

__all__ = ["Response"]


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
