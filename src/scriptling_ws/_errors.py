"""Every exception that leaves this package.

Rules:

- One tree under WebSocketError. Each class that is raised is also the built-in that a
  caller of blocking code would write in an `except`: OSError, ConnectionError,
  TimeoutError, ValueError.
- A timeout, a closed connection and a refused one are never the same class.
- Nothing from h11, wsproto, zlib or ssl leaves bare; what caused an error is
  its `__cause__`. A ConnectError has its cause's `errno` and `strerror` too, as any
  OSError that a caller would look at.
- A wrong argument is a plain TypeError or ValueError, as anywhere in Python.

Violation alone stays inside: it becomes a close frame.
"""

from __future__ import annotations

import errno
import os
from typing import Any, Final

from ._codes import CloseCode

__all__ = [
    "ConnectError",
    "ConnectTimeout",
    "ConnectionClosed",
    "HandshakeError",
    "InvalidMessage",
    "InvalidURL",
    "ProtocolError",
    "ProxyError",
    "ReceiveTimeout",
    "RoomError",
    "SendTimeout",
    "Violation",
    "WebSocketError",
]


_NO_CLOSE_FRAME: Final = "no close frame"


class WebSocketError(Exception):
    """The base of every exception of this package."""


class InvalidURL(WebSocketError, ValueError):
    """A URL that `connect` cannot use; nothing was sent anywhere."""


class ConnectError(WebSocketError, OSError):
    """The connection could not be opened: name lookup, TCP, TLS or the upgrade.

    A failed TLS handshake is chained: `__cause__` is the `ssl` error.

    Attributes:
        errno: The number that the cause has, such as `errno.ECONNREFUSED`; of a failed
            lookup that of `socket.gaierror`, of failed TLS that of `ssl.SSLError`. None
            where the system reported no error.
        strerror: The system's text for it; None where errno is.
    """

    errno: int | None
    strerror: str | None

    def __init__(self, message: str, cause: BaseException | None = None) -> None:
        super().__init__(message)
        if isinstance(cause, OSError):
            self.errno = cause.errno
            self.strerror = cause.strerror

    def __str__(self) -> str:
        # OSError's own would be "[Errno 111] Connection refused": not where, nor what to do.
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        # OSError keeps these two outside of __dict__, and hands them on in `args` alone.
        numbers = {"errno": self.errno, "strerror": self.strerror}
        return type(self), self.args, {**self.__dict__, **numbers}

    def __setstate__(self, state: dict[str, Any] | None) -> None:
        for name, value in (state or {}).items():
            setattr(self, name, value)


class ConnectTimeout(ConnectError, TimeoutError):
    """The connection was not open when the timeout of `connect` ran out.

    Its errno is `errno.ETIMEDOUT`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message, OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)))


class ProxyError(ConnectError):
    """A proxy could not be reached, or did not open the way to the server.

    The server has seen nothing of it, so its answer (HandshakeError) is another thing: a 403 of
    the proxy says nothing about the server.

    Attributes:
        status: The HTTP status of the proxy's answer, such as 407 where it wants credentials;
            None if it gave none, and for SOCKS.
        headers: The headers of that answer, as those of a HandshakeError.
    """

    def __init__(
        self,
        message: str,
        cause: BaseException | None = None,
        *,
        status: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, cause)
        self.status = status
        self.headers: dict[str, str] = headers if headers is not None else {}


class HandshakeError(ConnectError):
    """The server answered, but not with a valid upgrade to WebSocket.

    Attributes:
        status: The HTTP status, or None if the answer was not HTTP.
        headers: The response's headers, names in lower case; of a header that
            came twice, the values are joined with ", ".
        body: The beginning of the response's body: what came of it within a second, at
            most 64 KiB.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers: dict[str, str] = headers if headers is not None else {}
        self.body = body


class ConnectionClosed(WebSocketError, ConnectionError):
    """A message was to be sent, or waited for by `recv`, on a connection that is closed or closing.

    Where the connection ended without a close frame, the text says what is known of it, and the
    `__cause__` is the error with which reading or sending failed, if one did.

    Attributes:
        code: Why it was closed, an RFC 6455 status code: 1005 if the close
            frame had none, 1006 if the connection ended without a close frame.
        reason: The text that came with the code, often empty.
    """

    def __init__(self, code: int, reason: str = "") -> None:
        # A peer's line end or terminal sequence has no business in a log.
        shown = reason if reason.isprintable() else ascii(reason)
        if code == CloseCode.ABNORMAL:
            shown = shown or _NO_CLOSE_FRAME
        super().__init__(_closed_text(code, shown))
        self.code: int = int(code)  # no member of an enum, which would be pickled as one
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        # Copying and pickling call the class with `args`, which is the text alone.
        return type(self), (self.code, self.reason), {**self.__dict__, "args": self.args}

    def __setstate__(self, state: dict[str, Any] | None) -> None:
        for name, value in (state or {}).items():
            setattr(self, name, value)


def _closed_text(code: int, said: str) -> str:
    return f"the connection is closed (code {code}{', ' if said else ''}{said})"


class SendTimeout(WebSocketError, TimeoutError):
    """A message could not be written within `send_timeout`.

    The peer does not read. If part of the message had left, the connection is dead;
    otherwise the connection stays usable.
    """


class ReceiveTimeout(WebSocketError, TimeoutError):
    """No message, or no more of one, has come within a timeout.

    Nothing is lost, and the connection stays usable.
    """


class RoomError(WebSocketError, ConnectionError):
    """A message could not be handed to what carries a room's messages between processes.

    It is a server such as Redis, which cannot be reached. No member gets the message; or, where
    the answer alone was lost, whether they do is not known.
    """


class InvalidMessage(WebSocketError, ValueError):
    """A message that `receive_json` cannot read: no JSON, or not as `loads` wants it.

    Its `__cause__` is what `loads` has raised. The connection stays open.

    Attributes:
        message: The message as `receive` would have returned it: it has been taken.
    """

    def __init__(self, text: str, message: str | bytes | list[int] = "") -> None:
        super().__init__(text)
        self.message = message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.message), self.__dict__


class ProtocolError(WebSocketError):
    """The peer broke RFC 6455 or one of this end's limits.

    Never raised by itself: it is the `__cause__` of the ConnectionClosed that
    a later `send` raises.

    Attributes:
        code: The status code with which this end closed the connection.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code: int = int(code)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, str(self)), self.__dict__


def without_close_frame(cut: str, cause: Exception | None) -> ConnectionClosed:
    """The error of a connection that has ended without a close frame.

    Args:
        cut: What of the peer's was not whole by then, a "message" or a "frame"; "" for nothing.
        cause: With what reading or sending has failed; None where the stream has just ended.
    """
    error = ConnectionClosed(CloseCode.ABNORMAL)
    said = f", in the middle of a {cut}" if cut else ""
    if cause is not None:
        said += f": {getattr(cause, 'strerror', None) or cause}"
    error.args = (_closed_text(error.code, _NO_CLOSE_FRAME + said),)
    error.__cause__ = cause
    return error


def forget_frames(error: BaseException | None) -> None:
    """Let go of the frames that an error has come through, and those that it was raised from.

    An error whose frames hold that error keeps all that they hold until the garbage collector
    comes. h11 makes such errors, and so does code that keeps an error to raise it later.
    """
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


class Violation(Exception):  # no error of this program
    """What the peer did wrong, and the status code for it.

    Where a limit of this end is the reason, the text names the option that raises it: the
    peer reads it in the close frame, which has room for 123 bytes.
    """

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code: int = int(code)

    @classmethod
    def too_large(cls, limit: int) -> Violation:
        """A message is over `max_message_size`."""
        return cls(CloseCode.TOO_LARGE, f"a message is over the {limit} bytes of max_message_size")

    @classmethod
    def no_memory(cls) -> Violation:
        """A message is within the limit, and this process cannot hold it."""
        return cls(CloseCode.TOO_LARGE, "there is no memory for the message")


# A traceback names an error as a program does, which cannot import from here.
for _public in [name for name in __all__ if name != "Violation"]:
    globals()[_public].__module__ = __package__
