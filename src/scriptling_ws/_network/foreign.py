"""Sockets that another server has accepted, taken over while that server goes on holding them.

Rules:

- The connection has a duplicate of the server's descriptor. The server may look at its own, and
  close it, whenever it likes: the stream ends when both are closed, or when one of them says so.
- So a connection that has ended shuts the stream down both ways before it lets go of it: what the
  server then writes (the response of a view that has returned) goes nowhere.
- TLS stays with the SSLSocket that the server has made: OpenSSL can be asked nothing else about an
  open session. From here on it waits for nothing, and a lock keeps its reader and its writers
  apart, as OpenSSL allows one call at a time. The kernel's channel goes by the methods in here.
- What OpenSSL could not write whole it wants to be given again, the same bytes: they are kept.
- `peek` has to decrypt, and keeps what it has got (`_ahead`): a poll of the descriptor does not
  show it, so `wait` looks there first. A caller who polls `Connection.fileno()` may miss it.
- What a signal handler has cut short inside of OpenSSL is in doubt, and ends the connection.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final

from .encrypted import ENOUGH, NO_CONTROL, SLICE, Encrypted
from .transport import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from .deadline import Deadline

__all__ = ["ForeignTLSTransport", "adopt"]

_AHEAD: Final = 4 * 1024  # what `peek` decrypts


def adopt(sock: Any) -> Transport:
    """Take over a connected socket that another server holds, under TLS or not.

    Args:
        sock: A socket, an `ssl.SSLSocket` with an open session, or gevent's of either kind.

    Raises:
        OSError: it is not connected any more, or no descriptor is left.
    """
    twin = socket.fromfd(sock.fileno(), sock.family, sock.type)
    try:
        return ForeignTLSTransport(twin, sock) if hasattr(sock, "pending") else Transport(twin)
    except BaseException:
        twin.close()
        raise


class ForeignTLSTransport(Encrypted):
    """TLS by a session that somebody else has opened on the same connection."""

    __slots__ = (
        "_ahead",
        "_decrypted",
        "_finished",
        "_in_doubt",
        "_kept",
        "_stalled",
        "_tls",
        "_tls_lock",
        "_tls_socket",
    )

    def __init__(self, sock: socket.socket, tls_socket: Any) -> None:
        """Take over an open session.

        Args:
            sock: A duplicate of its descriptor, as a bare socket.
            tls_socket: The `ssl.SSLSocket`, or gevent's.
        """
        super().__init__(sock)
        if self._descriptor is not None:  # the channel would move ciphertext by it
            self._descriptor.forget()
        self._descriptor = self.descriptor = None
        tls_socket.settimeout(0.0)
        self._tls_socket = tls_socket
        # The C object behind it: its own methods are Python code.
        self._tls = getattr(tls_socket, "_sslobj", None) or tls_socket
        self._tls_lock = self._engine.rlock()  # guards the session
        # These are the reader's:
        self._ahead = bytearray()
        self._decrypted = 0  # bytes that are in the reader's buffer already
        self._stalled = False  # it has something to write before more can be read
        self._finished = False  # this end has said close_notify
        # The writer's:
        self._kept = b""
        self._in_doubt: set[str] = set()  # what was cut short: "reading", "writing"

    def _prepare(self, native: bool) -> bool:  # noqa: ARG002  # it never naps
        """Set the socket's options: OpenSSL is asked, not the system."""
        return super()._prepare(False)

    @property
    def receive(self) -> Callable[[bytearray], int | None]:
        """As `read_into`."""
        return self.read_into

    # -- reading -------------------------------------------------------------

    def read_into(self, buffer: bytearray | memoryview, nap: bool = False) -> int | None:  # noqa: ARG002
        """Decrypt what is there: as many records as the buffer holds, or a MiB."""
        if self._ahead:
            count = min(len(buffer), len(self._ahead))
            buffer[:count] = self._ahead[:count]
            self._ahead = self._ahead[count:]
            return count
        ended = False
        try:
            with memoryview(buffer) as view:
                while self._decrypted < min(len(view), ENOUGH) and not ended:
                    ended = not self._decrypt(view)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            self._stalled = isinstance(error, ssl.SSLWantWriteError)
            if not self._decrypted:
                return None
        except OSError as error:
            if error.errno is None and not isinstance(error, ssl.SSLError):
                raise  # a signal handler's, such as TimeoutError
            if not self._decrypted:
                return self._failed(error, buffer)
        count, self._decrypted = self._decrypted, 0
        return count

    def _decrypt(self, view: memoryview) -> int:
        """Decrypt a record behind what is there already; 0 at the end of the stream."""
        if "reading" in self._in_doubt:
            raise ssl.SSLError(errno.EINTR, "a signal handler interrupted the decryption")
        rest = view[self._decrypted :]
        with self._tls_lock:
            self._in_doubt.add("reading")
            try:
                count: int = self._tls.read(len(rest), rest)
                self._decrypted += count
            except OSError as error:
                if isinstance(error, ssl.SSLError) or error.errno is not None:
                    self._in_doubt.discard("reading")
                raise
            self._in_doubt.discard("reading")
        self._stalled = False
        return count

    def _failed(self, error: OSError, buffer: bytearray | memoryview) -> int | None:
        """What a read comes to that OpenSSL has refused."""
        if isinstance(error, ssl.SSLZeroReturnError):
            return 0
        if isinstance(error, ssl.SSLEOFError):
            self.note_failure(error)  # as in `tls`
            return 0
        if not self._finished:
            raise error
        # After close_notify OpenSSL may refuse what still comes: it is dropped, as in `tls`.
        count = super().read_into(buffer)
        buffer[: count or 0] = bytes(count or 0)
        return count

    def peek(self, size: int) -> bytes | None:
        """As of a bare socket, decrypted; only where no other of the reader's calls goes on."""
        if self._decrypted:  # a signal handler has cut a read short: that is the reader's
            return NO_CONTROL
        if not self._ahead:
            room = bytearray(_AHEAD)
            count = self.read_into(room)
            if not count:
                return None if count is None else b""
            self._ahead = room[:count]
        return bytes(self._ahead[:size])

    def _has_some(self) -> bool:
        """Whether something is decrypted, or can be without the socket."""
        if self._ahead or self._decrypted:
            return True
        with self._tls_lock:
            return bool(self._tls.pending())

    def unread(self) -> bool:
        """As of a bare socket."""
        return self._has_some() or super().unread()

    def wait(self, read: bool, write: bool, deadline: Deadline, wakeable: bool = False) -> None:
        """As of a bare socket; returns at once where something is decrypted already."""
        if not (read and self._has_some()):
            super().wait(read, write or (read and self._stalled), deadline, wakeable)

    # -- writing ---------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> int:
        """Encrypt and send as much as is bounded by a slice."""
        if self.pending and not self.flush():
            return 0
        piece = bytes(data[:SLICE])
        try:
            return self._encrypt(piece)
        except ssl.SSLWantWriteError:
            self._kept = piece
            self.pending = True
            return len(piece)

    def flush(self) -> bool:
        """Send what OpenSSL was given and could not write; whether nothing is left of it."""
        try:
            while self._kept:
                self._kept = self._kept[self._encrypt(self._kept) :]
        except ssl.SSLWantWriteError:
            return False
        self.pending = False
        return True

    def _encrypt(self, piece: bytes) -> int:
        """Have OpenSSL write some bytes; how many it has."""
        if "writing" in self._in_doubt:
            raise ssl.SSLError(errno.EINTR, "a signal handler interrupted the encryption")
        with self._tls_lock:
            self._in_doubt.add("writing")
            try:
                count: int = self._tls.write(piece)
            except ssl.SSLWantReadError as error:  # pragma: no cover - no TLS 1.3 does
                text = "the peer renegotiates TLS: not supported"
                raise ConnectionAbortedError(errno.ECONNABORTED, text) from error
            except OSError as error:
                if isinstance(error, ssl.SSLError) or error.errno is not None:
                    self._in_doubt.discard("writing")
                raise
            self._in_doubt.discard("writing")
        return count

    # -- the end -----------------------------------------------------------------

    def finish_writing(self) -> None:
        """Send close_notify, as far as it can be sent at once, then end the stream."""
        self._finished = True
        # SSLWantReadError is an OSError: the peer's own close_notify is not waited for.
        with contextlib.suppress(OSError, ValueError), self._tls_lock:
            getattr(self._tls, "shutdown" if self._tls is not self._tls_socket else "unwrap")()
        super().finish_writing()

    def close(self) -> None:
        """As of a bare socket; the server's SSLSocket is a bare one from here on."""
        super().close()
        with contextlib.suppress(OSError, ValueError):
            # Else what the server writes would fail in OpenSSL, and not as a broken pipe, which
            # every server takes for a client that has left.
            self._tls_socket.shutdown(socket.SHUT_RDWR)
