"""From a host name to a connected socket, within one deadline.

Rules:

- An address needs no lookup. That of a name has no timeout of its own anywhere, so it
  runs in a worker that is left behind if the deadline comes first. Where none can be
  started (an isolated subinterpreter, a program that ends, no threads left), it runs in
  the calling task, which it may keep beyond the deadline.
- Several addresses of a name race each other: see `race`.
- A Unix socket connects at once or not at all (unix(7)). If its server's queue is full, nothing
  tells when there is a place in it, so it is asked again every hundredth of a second.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Final

from .._errors import ConnectError, ConnectTimeout, forget_frames
from .authority import host_port
from .race import PLAIN, race
from .waiting import engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .deadline import Deadline
    from .race import Address, SocketSettings

__all__ = ["dial", "dial_unix", "look_up"]

_TOO_LONG: Final = "path too long"  # what Python says of a Unix socket's, without a number
_PAUSE: Final = 0.01  # seconds, until a Unix socket with a full queue is asked again


def dial(
    host: str, port: int, deadline: Deadline, settings: SocketSettings = PLAIN
) -> socket.socket:
    """Open a TCP connection.

    Args:
        host: A name or an address.
        port: The port.
        deadline: When to give up.
        settings: What the socket is given before it connects.

    Returns:
        A connected socket; whether it blocks is for the caller to set.

    Raises:
        ConnectTimeout: the deadline came first.
        ConnectError: the name has no address, or no address took the connection;
            the last address's error is the cause.
    """
    addresses = look_up(host, port, deadline)
    return race(addresses, host_port(host, port), deadline, settings)


def dial_unix(path: str, deadline: Deadline, settings: SocketSettings = PLAIN) -> socket.socket:
    """Connect to a Unix socket.

    Args:
        path: Its file.
        deadline: When to give up.
        settings: Of which the options count.

    Returns:
        A connected socket that does not block.

    Raises:
        ConnectTimeout: the server's queue was full until the deadline.
        ConnectError: nobody listens there, or there are no such sockets here.
    """
    family: int = getattr(socket, "AF_UNIX", -1)
    where = f"unix:{path}"
    if family < 0:
        text = f"cannot connect to {where}: this system has no Unix sockets (in Python)"
        raise ConnectError(text, OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT)))
    sock: socket.socket | None = None
    try:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        settings.set_options(sock)
        while True:
            try:
                sock.connect(path)
                return sock
            except BlockingIOError as error:
                if deadline.passed():
                    text = f"no connection to {where} within the timeout: its queue is full"
                    raise ConnectTimeout(text) from error
            left = deadline.sooner(_PAUSE).left() or 0.0
            engine().sleep(left)
            deadline.waited(left)
    except BaseException as error:
        if sock is not None:
            sock.close()
        if not isinstance(error, OSError):
            raise
        told = error.errno is None and _TOO_LONG not in str(error)  # a signal handler's
        if told or isinstance(error, ConnectError):
            raise
        text = f"cannot connect to {where}: {error.strerror or error}"
        raise ConnectError(text, error) from error


def look_up(host: str, port: int, deadline: Deadline) -> Sequence[Address]:
    """The addresses of a host, the resolver's first choice first; one at least.

    Raises:
        ConnectTimeout: there was no answer by the deadline.
        ConnectError: the name has no address.
    """
    return _literal(host, port) or _ask(host, port, deadline)


def _literal(host: str, port: int) -> list[Address]:
    """The address that `host` is, in the usual spelling; empty if it is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except OSError:
        return []
    return [(family, socket.SOCK_STREAM, 0, "", (host, port))]


def _ask(host: str, port: int, deadline: Deadline) -> Sequence[Address]:
    kind = socket.SOCK_STREAM
    with contextlib.suppress(OSError):  # an IPv6 zone, or IPv4 as one number
        return socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)

    def ask() -> Sequence[Address] | OSError | UnicodeError:
        try:
            return socket.getaddrinfo(host, port, type=kind)
        except (OSError, UnicodeError) as error:
            forget_frames(error)  # they would hold this frame, and it the error
            return error

    found = engine().in_worker(ask, deadline.left(), "scriptling-ws-lookup")
    if found is None:
        raise ConnectTimeout(f"no answer to the lookup of {host!r} within the timeout")
    if isinstance(found, Exception):
        raise ConnectError(f"cannot find {host!r}: {found}", found) from found
    if not found:
        text = "it has no address"
        raise ConnectError(
            f"cannot find {host!r}: {text}", socket.gaierror(socket.EAI_NONAME, text)
        )
    return found
