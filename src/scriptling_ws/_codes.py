"""The status codes of a closing handshake, by their names (RFC 6455 section 7.4.1, and IANA).

No I/O, and nothing of this package is imported here.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["CloseCode", "may_be_sent"]


class CloseCode(IntEnum):
    """Why a connection closed: `conn.close_code == CloseCode.GOING_AWAY`.

    Each is the int that it names, for `close` too, and prints as its number, before Python 3.11
    as well. Codes from 3000 to 4999 are applications' own, and have no names here.
    """

    __str__ = int.__repr__

    def __format__(self, spec: str) -> str:
        return int.__format__(self, spec)

    NORMAL = 1000
    GOING_AWAY = 1001
    PROTOCOL_ERROR = 1002
    UNSUPPORTED_DATA = 1003
    NO_STATUS = 1005
    """The close frame had no code: never sent."""
    ABNORMAL = 1006
    """There was no close frame: never sent."""
    INVALID_DATA = 1007
    POLICY_VIOLATION = 1008
    TOO_LARGE = 1009
    MANDATORY_EXTENSION = 1010
    INTERNAL_ERROR = 1011
    SERVICE_RESTART = 1012
    TRY_AGAIN_LATER = 1013
    BAD_GATEWAY = 1014


# What an endpoint finds out about the bytes that it was sent is not for callers to say.
_FOR_CALLERS: Final = frozenset(CloseCode) - {
    CloseCode.PROTOCOL_ERROR,
    CloseCode.NO_STATUS,
    CloseCode.ABNORMAL,
}


def may_be_sent(code: int) -> bool:
    """Whether a caller may give a close frame this code; 3000 to 4999 are everybody's."""
    return code in _FOR_CALLERS or 3000 <= code <= 4999
