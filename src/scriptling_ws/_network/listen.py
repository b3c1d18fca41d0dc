"""Listening sockets of TCP.

Rules:

- A name that has several addresses (`localhost`) is listened on at all of them,
  with one port. So are several hosts.
- Of a name's addresses those are left out that this machine has not, such as `::1` where IPv6 is
  off. Of several hosts none is: each was asked for.
- An IPv6 socket takes IPv6 alone, whatever the system's default is: `::` does not
  silently open the IPv4 addresses too.
- A port that is in use is an error everywhere. SO_REUSEADDR, which on POSIX lets a
  restarted server take its old port, would on Windows let two servers share it.
"""

from __future__ import annotations

import _socket
import contextlib
import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Final

from .authority import host_port
from .waiting import engine

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["BACKLOG", "accept", "check_hosts", "listen"]

BACKLOG: Final = 1024
"""Connections that the system completes while the acceptor is busy; it lowers the number to its
own limit."""

# With port 0 the kernel picks a port free at the first address; where it is
# taken at the second, another one is tried.
_ATTEMPTS: Final = 8
_ABSENT: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


_family_of: Final = _socket.socket.family.__get__
_type_of: Final = _socket.socket.type.__get__


def accept(listener: socket.socket) -> tuple[socket.socket, Any]:
    """Accept what waits at a listening socket: a socket that blocks or not, and its address.

    As `listener.accept()`, which makes members of two enums for each connection, and looks at the
    default timeout.

    Raises:
        OSError: as that does; BlockingIOError if nothing waits.
    """
    if type(listener) is not socket.socket or not isinstance(listener, _socket.socket):
        return listener.accept()  # a class of the program's, or gevent's
    number, address = listener._accept()  # type: ignore[attr-defined]
    accepted = socket.socket(_family_of(listener), _type_of(listener), listener.proto, number)
    return accepted, address


def check_hosts(host: object) -> list[str]:
    """The hosts that a caller names: one, or several.

    Raises:
        TypeError: it is no str, nor a list of str.
        ValueError: there is none, or one is empty.
    """
    hosts = [host] if isinstance(host, str) else _hosts(host)
    for each in hosts:
        if not isinstance(each, str):
            raise TypeError(f"host has to be a str, or a list of str, not {type(each).__name__}")
        if not each:
            raise ValueError("host is empty: write '127.0.0.1', or '0.0.0.0' to listen everywhere")
    if not hosts:
        raise ValueError("host is an empty list: write ['0.0.0.0', '::'] for both families")
    return hosts


def _hosts(host: object) -> list[Any]:
    if isinstance(host, bytes) or not hasattr(host, "__iter__"):
        raise TypeError(f"host has to be a str, or a list of str, not {type(host).__name__}")
    return list(host)


def listen(host: str | Iterable[str], port: int) -> list[socket.socket]:
    """Open the listening sockets of a server, in non-blocking mode. Blocks for the name lookup.

    Args:
        host: A name or an address of this machine, or several; "0.0.0.0" or "::" for all of a
            family.
        port: The port of all of them, 0 for any that is free.

    Raises:
        TypeError: an argument is of the wrong type.
        ValueError: a host is empty, or the port is not 0 to 65535.
        OSError: a host is not known or not this machine's, or the port is in use.
    """
    hosts = check_hosts(host)
    if isinstance(port, bool) or not isinstance(port, int):
        raise TypeError(f"port has to be an int, not {type(port).__name__}")
    if not 0 <= port <= 65535:
        raise ValueError(f"port has to be 0 to 65535, not {port}")
    found = {each: _look_up(each, port) for each in hosts}
    for attempt in range(_ATTEMPTS):
        try:
            return _open_all(found, port)
        except OSError as error:
            if port == 0 and error.errno == errno.EADDRINUSE and attempt + 1 < _ATTEMPTS:
                continue
            raise
    raise AssertionError  # pragma: no cover - the last attempt returns or raises


def _look_up(host: str, port: int) -> list[tuple[int, Any]]:
    kind, flags = socket.SOCK_STREAM, socket.AI_PASSIVE
    try:
        found = engine().blocking(lambda: socket.getaddrinfo(host, port, type=kind, flags=flags))
    except UnicodeError as error:
        raise ValueError(f"{host!r} is not a host name") from error
    except OSError as error:
        raise type(error)(
            error.errno, f"cannot find the host {host!r}: {error.strerror}"
        ) from error
    return list(dict.fromkeys((family, address) for family, _, _, _, address in found))


_ADVICE: dict[int | None, str] = {
    errno.EADDRINUSE: "; end the program that listens there, or choose another port"
}


def _open_all(found: dict[str, list[tuple[int, Any]]], port: int) -> list[socket.socket]:
    """Listen on all addresses of all hosts, with the port that the first one gets."""
    sockets: list[socket.socket] = []
    taken: set[tuple[int, Any]] = set()  # of hosts before: localhost beside 127.0.0.1
    with contextlib.ExitStack() as undo:
        for host, addresses in found.items():
            more = [each for each in addresses if each not in taken]
            taken.update(more)
            if addresses and not more:
                continue
            first = sockets[0].getsockname()[1] if sockets else port
            try:
                opened = _open_some(more, first)
            except OSError as error:
                why = f"{error.strerror}{_ADVICE.get(error.errno, '')}"
                raise type(error)(
                    error.errno, f"cannot listen on {host_port(host, port)}: {why}"
                ) from error
            for sock in opened:
                undo.callback(sock.close)
            sockets += opened
        undo.pop_all()
    return sockets


def _open_some(addresses: list[tuple[int, Any]], port: int) -> list[socket.socket]:
    """Listen on those of one host's addresses that this machine has: one of them at least."""
    sockets: list[socket.socket] = []
    absent = (errno.EADDRNOTAVAIL, "no address")  # not the error: it would hold this frame
    with contextlib.ExitStack() as undo:
        for family, address in addresses:
            try:
                sock = _open(family, (address[0], port, *address[2:]))
            except OSError as error:
                if error.errno not in _ABSENT:
                    raise
                absent = (error.errno, str(error.strerror))  # such as ::1 where IPv6 is off
                continue
            undo.callback(sock.close)
            sockets.append(sock)
            port = sock.getsockname()[1]
        if not sockets:
            raise OSError(*absent)
        undo.pop_all()
    return sockets


def _open(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "nt":  # pragma: no cover - Windows
            sock.setsockopt(socket.SOL_SOCKET, getattr(socket, "SO_EXCLUSIVEADDRUSE", -5), 1)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
