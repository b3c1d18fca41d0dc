"""A request that is refused: the answer that its peer gets."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Refused"]


class Refused(Exception):  # not an error of this program: an answer to a request
    """A request that gets an HTTP status instead of an upgrade.

    Attributes:
        status: The status.
        text: What the peer may do about it, for the response's body.
        headers: Headers that the response has to have.
    """

    def __init__(self, status: int, text: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(f"{status} {text}")
        self.status = status
        self.text = text
        self.headers = list(headers)
