"""From a host name to a connected TCP socket, within one deadline.

Rules:

- An address needs no lookup. That of a name has no timeout of its own anywhere, so it
  runs in a worker that is left behind if the deadline comes first. Where none can be
  started (an isolated subinterpreter, a program that ends, no threads left), it runs in
  the calling task, which it may keep beyond the deadline.
- An attempt is looked at once before it is waited for: on the loopback interface it has succeeded.
- Several addresses are tried as RFC 8305 ("Happy Eyeballs") says: in the
  resolver's order with the families interleaved, a new attempt every quarter of
  a second, the first that connects wins and the rest are closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any

from .._errors import ConnectError, ConnectTimeout, forget_frames
from .authority import host_port
from .waiting import WRITE, engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .deadline import Deadline
    from .waiting import Poller

__all__ = ["dial"]

_STAGGER = 0.25  # RFC 8305 section 5, "Connection Attempt Delay"
_IN_PROGRESS = {0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0)}

_Address = tuple[int, int, int, str, Any]


def dial(host: str, port: int, deadline: Deadline) -> socket.socket:
    """Open a TCP connection.

    Args:
        host: A name or an address.
        port: The port.
        deadline: When to give up.

    Returns:
        A connected socket; whether it blocks is for the caller to set.

    Raises:
        ConnectTimeout: the deadline came first.
        ConnectError: the name has no address, or no address took the connection;
            the last address's error is the cause.
    """
    where = host_port(host, port)
    addresses = _interleave(_literal(host, port) or _look_up(host, port, deadline))
    attempts = _Attempts()
    try:
        while True:
            if addresses:
                attempts.start(addresses.pop(0))
            sock = attempts.wait(deadline.sooner(_STAGGER) if addresses else deadline)
            if sock is not None:
                return sock
            if not addresses and not attempts.running:
                error = attempts.error
                raise ConnectError(f"cannot connect to {where}: {error}", error) from error
            if deadline.passed():
                raise ConnectTimeout(f"no connection to {where} within the timeout")
    finally:
        attempts.close()


def _literal(host: str, port: int) -> list[_Address]:
    """The address that `host` is, in the usual spelling; empty if it is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
    except OSError:
        return []
    return [(family, socket.SOCK_STREAM, 0, "", (host, port))]


def _look_up(host: str, port: int, deadline: Deadline) -> Sequence[_Address]:
    kind = socket.SOCK_STREAM
    with contextlib.suppress(OSError):  # an IPv6 zone, or IPv4 as one number
        return socket.getaddrinfo(host, port, type=kind, flags=socket.AI_NUMERICHOST)

    def ask() -> Sequence[_Address] | OSError | UnicodeError:
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


def _interleave(addresses: Sequence[_Address]) -> list[_Address]:
    """The families in turn, the resolver's first choice first."""
    if not addresses:
        return []
    first = addresses[0][0]
    preferred = [address for address in addresses if address[0] == first]
    others = [address for address in addresses if address[0] != first]
    pairs = chain.from_iterable(zip_longest(preferred, others))
    return [address for address in pairs if address is not None]


class _Attempts:
    """The connection attempts under way."""

    def __init__(self) -> None:
        self._poller: Poller | None = None
        self._begun: socket.socket | None = None  # not in the poller yet
        self.running: list[socket.socket] = []
        self.error: OSError | None = None

    def start(self, address: _Address) -> None:
        family, kind, protocol, _, sockaddr = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            forget_frames(error)  # they hold this object
            self.error = error
            return
        sock.setblocking(False)
        status = sock.connect_ex(sockaddr)
        if status not in _IN_PROGRESS:
            self.error = OSError(status, os.strerror(status))
            sock.close()
            return
        self.running.append(sock)
        self._begun = sock

    def wait(self, deadline: Deadline) -> socket.socket | None:
        """The first that connects by the deadline; None also when one has failed."""
        if not self.running:
            return None
        begun, self._begun = self._begun, None
        if begun is not None and _is_connected(begun):
            self.running.remove(begun)
            return begun
        if self._poller is None:
            self._poller = engine().poller()
        if begun is not None:
            self._poller.register(begun, WRITE, begun)
        left = deadline.left()
        events = self._poller.select(left)
        if not events:
            deadline.waited(left)
        for key, _ in events:
            sock: socket.socket = key.data
            self._poller.unregister(sock)
            self.running.remove(sock)
            status = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if not status:
                return sock
            self.error = OSError(status, os.strerror(status))
            sock.close()
        return None

    def close(self) -> None:
        for sock in self.running:
            sock.close()
        if self._poller is not None:
            self._poller.close()


def _is_connected(sock: socket.socket) -> bool:
    """Whether it is; if not, it may be under way or have failed."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True
