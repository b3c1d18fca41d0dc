"""Where a server listens: a host and a port, a Unix socket, or sockets that it is given.

Rules:

- One of the three: `unix` and `sock` take the place of `host` and `port`, and exclude each other.
- Sockets that are given have to listen, and be streams. They are the server's from then on,
  which closes them.
- What other places need to know is here too: the address and the URL that are shown, and the hosts
  under whose names requests come.
- With several processes one master opens them, and each worker serves them.
"""

from __future__ import annotations

import errno
import os
import socket
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from .._network.addresses import address_text
from .._network.listen import check_hosts, listen
from .._network.unix import OWN_USER, UnixFile, listen_unix
from . import systemd

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["LISTENING", "Endpoints", "from_descriptors"]

LISTENING: Final = ("sock", "unix", "unix_mode", "unix_owner")
"""The options that say where to listen, beside host and port."""

_UNIX: Final = getattr(socket, "AF_UNIX", None)
_LISTENS: Final[int] = getattr(socket, "SO_ACCEPTCONN", 0)


class Endpoints:
    """Listening sockets, non-blocking, and what is said of them.

    Attributes:
        sockets: The sockets.
        hosts: The names and addresses that the caller has given; none for others' sockets.
        addresses: The IP addresses that are listened on.
        port: The port of the first, 0 for a Unix socket.
        address: The first as text: `127.0.0.1:8080`, `unix:/run/app.sock`.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        hosts: Iterable[str] = (),
        file: UnixFile | None = None,
    ) -> None:
        """Take the sockets over.

        Args:
            sockets: One at least.
            hosts: The names and addresses that they were opened for.
            file: What is to be removed in the end.
        """
        self.sockets = sockets
        self.hosts = tuple(hosts)
        self._file = file
        names = [sock.getsockname() for sock in sockets if sock.family != _UNIX]
        self.addresses: list[str] = [name[0] for name in names]
        first = sockets[0].getsockname()
        self.port: int = first[1] if isinstance(first, tuple) else 0
        self.address: str = address_text(first)
        self._path = "" if isinstance(first, tuple) else first

    @classmethod
    def open(
        cls,
        host: str | Iterable[str],
        port: int,
        *,
        sock: Any = None,
        unix: str | os.PathLike[str] | None = None,
        unix_mode: int = OWN_USER,
        unix_owner: str | None = None,
    ) -> Endpoints:
        """Listen where a caller wants it. Blocks for the lookup of names. See `Server`.

        Raises:
            TypeError: an argument is of the wrong type.
            ValueError: an argument cannot be used, or two exclude each other.
            OSError: it cannot be listened there.
        """
        if unix is None and (unix_mode != OWN_USER or unix_owner is not None):
            raise ValueError("unix_mode and unix_owner are a Unix socket's: give unix= its path")
        if isinstance(sock, Endpoints):
            return sock  # a worker's, which its master has opened
        if sock is not None:
            if unix is not None:
                raise ValueError("sock and unix exclude each other: sock=[...] takes several")
            return cls(_passed() if sock == "systemd" else _given(sock))
        if unix is not None:
            listener, file = listen_unix(unix, unix_mode, unix_owner)
            return cls([listener], file=file)
        hosts = check_hosts(host)
        return cls(listen(hosts, port), hosts)

    def url(self, *, secure: bool) -> str:
        """The first address as a URL: `ws://127.0.0.1:8080`, `ws+unix:///run/app.sock`."""
        scheme = "wss" if secure else "ws"
        if self.port:
            return f"{scheme}://{self.address}"
        return f"{scheme}+unix://{quote(os.fsencode(self._path))}"

    def page_url(self, *, secure: bool, root_path: str) -> str:
        """What a browser on this machine opens: `http://127.0.0.1:8080/`; "" for a Unix socket."""
        if not self.port:
            return ""
        scheme = "https" if secure else "http"
        host, _, port = self.address.rpartition(":")
        if host in ("0.0.0.0", "[::]"):  # noqa: S104 - every address, and none to go to
            host = "localhost"
        return f"{scheme}://{host}:{port}{root_path}/"

    def remove(self) -> None:
        """Remove the file of a Unix socket, if it is this process's. May be called again."""
        if self._file is not None:
            self._file.remove()

    def close(self) -> None:
        """Close the sockets, and remove the file. May be called again."""
        self.remove()
        for sock in self.sockets:
            sock.close()


def from_descriptors(numbers: Iterable[int]) -> list[socket.socket]:
    """Sockets that this process was started with, which are not passed on to its children.

    Raises:
        OSError: one of the numbers is no descriptor of a socket.
    """
    sockets: list[socket.socket] = []
    try:
        for number in numbers:
            try:
                sock = socket.socket(fileno=number)
            except OSError as error:
                text = f"descriptor {number} is no socket: {error.strerror}"
                raise OSError(error.errno, text) from error
            sock.set_inheritable(False)
            sockets.append(sock)
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _passed() -> list[socket.socket]:
    numbers = systemd.passed()
    if not numbers:
        raise OSError(
            errno.ENOENT,
            "systemd has passed no socket (LISTEN_FDS): start the service by its .socket unit",
        )
    return _given(from_descriptors(numbers))


def _given(sock: Any) -> list[socket.socket]:
    """Check the sockets that a caller gives, one or several."""
    sockets = [sock] if isinstance(sock, socket.socket) else _several(sock)
    for each in sockets:
        if not isinstance(each, socket.socket):
            raise TypeError(f"sock has to hold sockets, not {type(each).__name__}")
        _check(each)
    if not sockets:
        raise ValueError("sock is empty: give one listening socket at least")
    for each in sockets:
        each.setblocking(False)
    return sockets


def _several(sock: Any) -> list[Any]:
    if isinstance(sock, (str, bytes)) or not hasattr(sock, "__iter__"):
        what = repr(sock) if isinstance(sock, str) else type(sock).__name__
        raise TypeError(
            f"sock has to be a listening socket, a list of these, or 'systemd', not {what}"
        )
    return list(sock)


def _check(sock: socket.socket) -> None:
    known = {socket.AF_INET, socket.AF_INET6, _UNIX}
    if sock.family not in known or sock.type != socket.SOCK_STREAM:
        raise ValueError(f"{sock!r} is no stream socket of TCP or of the Unix family")
    if _LISTENS and not sock.getsockopt(socket.SOL_SOCKET, _LISTENS):
        raise ValueError(f"{sock!r} does not listen: call its listen() before")
