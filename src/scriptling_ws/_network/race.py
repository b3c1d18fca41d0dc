"""From addresses to a connected TCP socket: the first that answers, within one deadline.

Rules (RFC 8305, "Happy Eyeballs"):

- The addresses are tried in the resolver's order, which has RFC 6724's rules in it, with the
  families interleaved (section 4): the resolver's first choice first, then one of the other family.
- A new attempt begins a quarter of a second after the last one, or as soon as one has failed
  (section 5). The first that connects wins, and the others are closed.
- One deadline for all of them. The error is that of the attempt that failed last.
- An attempt is looked at once before it is waited for: on the loopback interface it has succeeded.
- A socket has its options before it is bound, and is bound before it connects. Addresses of
  another family than the one that it is bound to are left out.

Section 3's two lookups at a time are the resolver's: `getaddrinfo` gives both families at once.
"""

from __future__ import annotations

import errno
import os
import socket
from itertools import chain, zip_longest
from typing import TYPE_CHECKING, Any, Final

from .._errors import ConnectError, ConnectTimeout, forget_frames
from .waiting import WRITE, engine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .contract import Poller
    from .deadline import Deadline

__all__ = ["IN_PROGRESS", "PLAIN", "Address", "SocketSettings", "race"]

_STAGGER = 0.25  # RFC 8305 section 5, "Connection Attempt Delay"

IN_PROGRESS: Final = frozenset(
    {0, errno.EINPROGRESS, errno.EWOULDBLOCK, getattr(errno, "WSAEWOULDBLOCK", 0)}
)
"""What `connect_ex` says of a TCP socket that does not block, where nothing is wrong."""

Address = tuple[int, int, int, str, Any]
"""An address as `getaddrinfo` gives it."""


class SocketSettings:
    """What a socket is given before it connects. It is not changed.

    Attributes:
        source: The address and the port that it is bound to; 0 for any port, None for neither.
        options: For `setsockopt`: level, name, value.
    """

    __slots__ = ("options", "source")

    def __init__(
        self,
        source: tuple[str, int] | None = None,
        options: tuple[tuple[int, int, int | bytes], ...] = (),
    ) -> None:
        self.source = source
        self.options = options

    @property
    def family(self) -> int | None:
        """The family of the source address; None where any will do."""
        if self.source is None or not self.source[0]:
            return None
        return socket.AF_INET6 if ":" in self.source[0] else socket.AF_INET

    def set_options(self, sock: socket.socket) -> None:
        """Set the options of a socket.

        Raises:
            ConnectError: the system refuses one of them.
        """
        for level, name, value in self.options:
            try:
                sock.setsockopt(level, name, value)
            except OSError as error:
                if error.errno is None:
                    raise  # a signal handler's, such as TimeoutError
                text = f"the system refuses the socket option ({level}, {name}, {value!r}): {error}"
                raise ConnectError(text, error) from error


PLAIN: Final = SocketSettings()
"""Nothing of all that."""


def race(
    addresses: Sequence[Address],
    where: str,
    deadline: Deadline,
    settings: SocketSettings = PLAIN,
) -> socket.socket:
    """Connect to one of several addresses.

    Args:
        addresses: Where to, the preferred one first.
        where: What they are the addresses of, for errors.
        deadline: When to give up.
        settings: What the socket is given first.

    Returns:
        A connected socket that does not block.

    Raises:
        ConnectTimeout: the deadline came first.
        ConnectError: no address took the connection; the last one's error is the cause.
    """
    family = settings.family
    if family is not None:
        addresses = [address for address in addresses if address[0] == family]
    waiting = _interleave(addresses)
    if not waiting:
        assert settings.source is not None
        text = f"cannot connect to {where} from {settings.source[0]}: it has no such address"
        raise ConnectError(text, OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT)))
    attempts = _Attempts(settings)
    try:
        while True:
            if waiting:
                attempts.start(waiting.pop(0))
            sock = attempts.wait(deadline.sooner(_STAGGER) if waiting else deadline)
            if sock is not None:
                return sock
            if not waiting and not attempts.running:
                error = attempts.error
                raise ConnectError(f"cannot connect to {where}: {error}", error) from error
            if deadline.passed():
                raise ConnectTimeout(f"no connection to {where} within the timeout")
    finally:
        attempts.close()


def _interleave(addresses: Sequence[Address]) -> list[Address]:
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

    def __init__(self, settings: SocketSettings) -> None:
        self._settings = settings
        self._poller: Poller | None = None
        self._begun: socket.socket | None = None  # not in the poller yet
        self.running: list[socket.socket] = []
        self.error: OSError | None = None

    def start(self, address: Address) -> None:
        family, kind, protocol, _, sockaddr = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            forget_frames(error)  # they hold this object
            self.error = error
            return
        sock.setblocking(False)
        if self._settings is not PLAIN and not self._prepare(sock):
            sock.close()
            return
        status = sock.connect_ex(sockaddr)
        if status not in IN_PROGRESS:
            self.error = OSError(status, os.strerror(status))
            sock.close()
            return
        self.running.append(sock)
        self._begun = sock

    def _prepare(self, sock: socket.socket) -> bool:
        """Give a socket its settings; whether it could be bound."""
        source = self._settings.source
        try:
            self._settings.set_options(sock)
            if source is not None:
                sock.bind(source)
        except OSError as error:
            if error.errno is None or isinstance(error, ConnectError):
                sock.close()
                raise  # a signal handler's, or an option's, which no other address would change
            forget_frames(error)
            assert source is not None
            text = f"{error.strerror} (source_address={source[0]!r}, port {source[1]})"
            self.error = OSError(error.errno, text)
            return False
        return True

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
