"""Byte streams under TLS: a Transport whose bytes are encrypted on the way.

Rules:

- OpenSSL works on memory buffers under a lock of its own, and the socket is read and
  written outside that lock: a reader that sleeps holds up no writer, which one SSLSocket
  between two threads does not promise.
- What comes is decrypted by as many records as the reader's buffer holds; what is sent is
  encrypted a few records at a time, so that a message adds little to the memory.
- The end of the stream is the end, with or without close_notify: WebSocket has a
  close of its own.
"""

from __future__ import annotations

import contextlib
import errno
import ssl
import threading
from typing import TYPE_CHECKING, Any, Final

from ._transport import Transport

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ._deadline import Deadline

__all__ = ["TLSTransport"]

# One TLS record holds 16 KiB of data. Handing OpenSSL four of them at a time
# bounds what a message adds to the memory while it is sent.
_SLICE: Final = 4 * 16_384
_READ: Final = 4 * 16_384
_IDLE: Final = 4 * 1024


class TLSTransport(Transport):
    """TLS over a connected socket.

    OpenSSL works on memory buffers under a lock of its own, and the socket is
    read and written outside that lock: a reader that sleeps holds up no writer.
    """

    __slots__ = (
        "_cipher",
        "_decrypted",
        "_in",
        "_in_doubt",
        "_out",
        "_read_error",
        "_received",
        "_session",
        "_tls",
        "_tls_lock",
        "_unread",
        "_unsent",
    )

    def __init__(
        self,
        sock: socket.socket,
        context: ssl.SSLContext,
        *,
        server_side: bool,
        server_hostname: str | None = None,
    ) -> None:
        """Take over a connected socket; `handshake_step` then opens the TLS session.

        Args:
            sock: The connected socket.
            context: The TLS settings.
            server_side: Which side of the handshake this is.
            server_hostname: The name that the certificate has to be for.
        """
        super().__init__(sock)
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=server_side, server_hostname=server_hostname
        )
        # The C object behind it: the methods of SSLObject are Python code, in which a signal
        # handler that raises would lose what was read or written.
        self._session: Any = getattr(self._tls, "_sslobj", self._tls)
        self._tls_lock = threading.RLock()  # guards _tls, _in, _out and pending
        self._unsent: bytes = b""  # ciphertext taken out of _out; the writer's
        # These are the reader's:
        self._cipher = bytearray(_IDLE)  # ciphertext as it is received
        self._received: int | None = None  # bytes in _cipher that are not in _in yet
        self._decrypted = 0  # bytes in the reader's buffer that it was not told of yet
        self._in_doubt = False  # a signal handler may have cost bytes that were decrypted
        self._unread = True  # there may be more to decrypt
        self._read_error: ssl.SSLError | None = None  # nothing more can be

    def handshake_step(self) -> bool:
        """Do what can be done of the TLS handshake at once.

        Returns:
            True when the session is open. False: call again once the socket is readable,
            or writable if `pending`.

        Raises:
            OSError: it failed; an `ssl.SSLError` says why, and the peer was told.
        """
        while True:
            try:
                with self._tls_lock:
                    self._tls.do_handshake()
                return self.flush()
            except ssl.SSLWantReadError:
                self.flush()
            except ssl.SSLError:
                with contextlib.suppress(OSError):  # the alert, if it can be sent
                    self.flush()
                raise
            self._received = super().read_into(self._cipher)
            if self._received is None:
                return False
            with self._tls_lock:
                self._take_in()

    # Below, `(count,) = map(function, ...)` stores a result in the step in which it comes,
    # as in Transport.read_into: a signal handler that raises makes nothing forgotten.

    @property
    def receive(self) -> Callable[[bytearray], int | None]:
        """As `read_into` with a nap."""
        return self._read_napping

    def _read_napping(self, buffer: bytearray) -> int | None:
        return self.read_into(buffer, nap=True)

    @property
    def send(self) -> Callable[[bytes, int], int]:
        """As `write`; flags are of no use here."""
        return self._send_ignoring

    def _send_ignoring(self, data: bytes, _flags: int) -> int:
        return self.write(data)

    def read_into(self, buffer: bytearray | memoryview, nap: bool = False) -> int | None:
        """Receive and decrypt what is there: as many records as the buffer holds."""
        if self._in_doubt and self._read_error is None:
            text = "a signal handler interrupted the decryption"
            self._read_error = ssl.SSLError(errno.EINTR, text)
        while True:
            ended = False
            if self._read_error is None and (self._unread or self._received is not None):
                with self._tls_lock:
                    ended = self._decrypt(buffer)
            count, self._decrypted = self._decrypted, 0
            if count or ended:
                return count
            if self._read_error is not None:
                raise self._read_error
            self._received = super().read_into(self._cipher, nap)
            if self._received is None:
                return None

    def _decrypt(self, buffer: bytearray | memoryview) -> bool:
        """Decrypt into the buffer, after what is in there; whether the stream ends here.

        Holds _tls_lock.
        """
        room = len(buffer)
        try:
            self._take_in()
            while self._decrypted < room:
                done = self._decrypted
                rest = memoryview(buffer)[done:] if done else buffer
                # `read` itself runs signal handlers, its work done but not counted: should
                # one raise, how much was read is not known.
                self._in_doubt = True
                (count,) = map(self._session.read, (room - done,), (rest,))
                self._decrypted += count
                self._in_doubt = False
                if not count:  # close_notify
                    return not done
                # Asked first, because an exception costs more than a small record.
                if not (self._in.pending or self._session.pending()):
                    self._unread = self._in.eof
                    break
        except ssl.SSLWantReadError:  # half a record, or one that carries no data
            self._in_doubt = False
            self._unread = False
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            # The end, with or without close_notify: WebSocket has a close of its own.
            self._in_doubt = False
            return not self._decrypted
        except ssl.SSLError as error:
            self._in_doubt = False
            self._read_error = error
            self._unread = False
        if self._out.pending:
            self.pending = True  # an answer of TLS itself, such as to a key update
        return False

    def _take_in(self) -> None:
        """Hand the ciphertext that was received to OpenSSL. Holds _tls_lock."""
        received = self._received
        if received:
            (_,) = map(self._in.write, (memoryview(self._cipher)[:received],))
            self._received = None
            self._unread = True
            if received == len(self._cipher) < _READ:
                self._cipher = bytearray(_READ)
        elif received == 0:
            self._in.write_eof()
            self._received = None
            self._unread = True

    def wait(self, read: bool, write: bool, deadline: Deadline, wakeable: bool = False) -> None:
        """As of a bare socket; an idle connection keeps no large buffer."""
        if read and len(self._cipher) > _IDLE and self._received is None:
            self._cipher = bytearray(_IDLE)
        super().wait(read, write, deadline, wakeable)

    def write(self, data: bytes | memoryview) -> int:
        """Encrypt and send as much as is bounded by a slice."""
        if self.pending and not self.flush():
            return 0
        piece = data if len(data) <= _SLICE else memoryview(data)[:_SLICE]
        size = len(piece)
        count: int = 0
        before = 0
        try:
            with self._tls_lock:
                before = self._out.pending
                (count,) = map(self._session.write, (piece,))
            self.flush()
        except ssl.SSLWantReadError as error:
            text = "the peer renegotiates TLS: not supported"
            raise ConnectionAbortedError(errno.ECONNABORTED, text) from error
        except BaseException:
            # A signal handler's, perhaps run by `write` itself, its work done but not counted.
            self.uncounted = count or (size if self._out.pending > before else 0)
            raise
        return count

    def flush(self) -> bool:
        """Send the ciphertext that is waiting; whether nothing is left of it."""
        while True:
            if not self._unsent:
                with self._tls_lock:
                    (self._unsent,) = map(self._out.read, (-1,))
                    self.pending = bool(self._unsent)
                if not self._unsent:
                    return True
            count = super().write(self._unsent)
            if not count:
                return False
            self._unsent = self._unsent[count:]

    def finish_writing(self) -> None:
        """Send close_notify, as far as it can be sent at once, then end the stream."""
        # SSLWantReadError is an OSError: the peer's own close_notify is not waited for.
        with contextlib.suppress(OSError), self._tls_lock:
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self.flush()
        super().finish_writing()
