"""TLS inside of TLS: a session with a server, through a tunnel that is encrypted itself.

That is `wss://` through a proxy of `https://` (RFC 9110 section 9.3.6, over RFC 8446).

Rules:

- The inner transport takes the outer one for its socket: `_Tunnel` has the methods of a socket that
  a transport calls, and each does what the outer transport does without waiting.
- Both sleep on the same descriptor. The inner one is told that nothing is there only when the outer
  one has nothing left that could be decrypted, so a poll of the descriptor misses nothing.
- What the outer transport has taken and not sent yet is `pending` of the inner one too, as are
  answers of TLS that reading has brought about: whoever flushes the one flushes the other.
- The kernel's channel goes by the methods of the inner transport: around them there is no
  descriptor whose bytes are those of the inner session.
"""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING, Any

from .tls import TLSTransport

if TYPE_CHECKING:
    import ssl

    from .deadline import Deadline

__all__ = ["TLSInTLS"]


class _Tunnel:
    """A transport under TLS, with the methods of a socket."""

    def __init__(self, outer: TLSTransport) -> None:
        self._outer = outer
        self._sock = outer._sock
        self.family = self._sock.family
        self.fileno = self._sock.fileno
        self.setsockopt = self._sock.setsockopt
        self.getsockopt = self._sock.getsockopt
        self.getsockname = self._sock.getsockname
        self.getpeername = self._sock.getpeername
        self.close = outer.close

    def setblocking(self, flag: bool, /) -> None:
        """It does not block, whatever the socket does."""

    def recv_into(self, buffer: bytearray | memoryview, _size: int = 0, _flags: int = 0) -> int:
        # No call behind it, as in LookAhead.take: no signal handler comes in between.
        count = self._outer.read_into(buffer)
        if count is None:
            raise BlockingIOError(errno.EWOULDBLOCK, "nothing is there")
        return count

    def recv(self, size: int, flags: int = 0) -> bytes:
        if flags & socket.MSG_PEEK:
            data = self._outer.peek(size)
            if data is None:
                raise BlockingIOError(errno.EWOULDBLOCK, "nothing is there")
            return data
        buffer = bytearray(size)
        return bytes(memoryview(buffer)[: self.recv_into(buffer)])

    def send(self, data: bytes | memoryview, _flags: int = 0) -> int:
        count = self._outer.write(data)
        if not count:
            raise BlockingIOError(errno.EWOULDBLOCK, "there is no room")
        return count

    def shutdown(self, how: int) -> None:
        if how == socket.SHUT_WR:
            self._outer.finish_writing()
        else:
            self._outer.abort()


class TLSInTLS(TLSTransport):
    """TLS over a transport that is under TLS itself."""

    __slots__ = ("_outer",)

    def __init__(
        self, outer: TLSTransport, context: ssl.SSLContext, *, server_hostname: str | None
    ) -> None:
        """Take over an open transport; `handshake_step` then opens the inner session.

        Args:
            outer: The transport, whose handshake is over.
            context: The inner session's settings.
            server_hostname: The name that the inner certificate has to be for.
        """
        self._outer = outer
        tunnel: Any = _Tunnel(outer)
        super().__init__(tunnel, context, server_side=False, server_hostname=server_hostname)
        if self._descriptor is not None:  # the engine's own way to wait, by the descriptor
            self._descriptor.forget()
            self._descriptor = self.descriptor = None

    def read_into(self, buffer: bytearray | memoryview, nap: bool = False) -> int | None:
        """As of a session over a socket."""
        try:
            return super().read_into(buffer, nap)
        finally:
            if self._outer.pending:  # an answer of the outer session
                self.pending = True

    def unread(self) -> bool:
        """Whether something lies unread, of either session."""
        return self.session.ahead is not None or self._outer.unread()

    def keeps(self) -> bool:
        """As of a session over a socket; of the outer session too."""
        return super().keeps() or self._outer.keeps()

    def wait(self, read: bool, write: bool, deadline: Deadline, wakeable: bool = False) -> None:
        """As of a session over a socket."""
        if read:
            self._outer.session.relax()
        super().wait(read, write, deadline, wakeable)

    def _push(self) -> bool:
        return super()._push() and self._flush_outer()

    def flush(self) -> bool:
        """Send what is waiting in either session; whether nothing is left of it."""
        return super().flush() and self._flush_outer()

    def _flush_outer(self) -> bool:
        if self._outer.flush():
            return True
        self.pending = True
        return False
