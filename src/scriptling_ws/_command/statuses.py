"""What the exit status of `connect` says.

Rules:

- 0 is for an exchange that ended as it should: the server closed with 1000 or without a code, this
  end closed, or what --once waits for has come.
- 2 is the user's to put right, as argparse has it. 128 and more is a signal's number on top of
  that, as shells have it.
"""

from __future__ import annotations

from enum import IntEnum

from .._codes import CloseCode
from .._errors import (
    ConnectionClosed,
    HandshakeError,
    InvalidURL,
    ProxyError,
    WebSocketError,
)

__all__ = ["Status", "of_close", "of_error"]


class Status(IntEnum):
    """An exit status."""

    DONE = 0
    FILE = 1
    """A file, or the standard input or output, cannot be read or written."""
    USAGE = 2
    UNREACHABLE = 3
    """No connection: the name, TCP, TLS, or the proxy."""
    REFUSED = 4
    """The server, or a proxy, answered with another HTTP status than the upgrade's."""
    TIMEOUT = 5
    CLOSED = 6
    """The connection was closed with a code that tells of something else than success."""
    LOST = 7
    """The connection ended without a close frame."""
    INTERRUPTED = 130
    BROKEN_PIPE = 141


_AS_IT_SHOULD = (CloseCode.NORMAL, CloseCode.NO_STATUS)


def of_close(code: int | None) -> Status:
    """The status for a connection that the peer, or a broken rule, has closed with a code."""
    if code in _AS_IT_SHOULD:
        return Status.DONE
    return Status.LOST if code in (None, CloseCode.ABNORMAL) else Status.CLOSED


def of_error(error: Exception) -> Status:
    """The status for what `connect`, and the calls of a connection, raise."""
    if isinstance(error, ConnectionClosed):
        return of_close(error.code)
    if isinstance(error, HandshakeError):
        return Status.REFUSED
    if isinstance(error, ProxyError) and error.status is not None:
        return Status.REFUSED
    if isinstance(error, OSError) and not isinstance(error, WebSocketError):
        return Status.FILE
    if isinstance(error, TimeoutError):
        return Status.TIMEOUT
    if isinstance(error, (InvalidURL, TypeError, ValueError, ImportError)):
        return Status.USAGE
    return Status.UNREACHABLE
