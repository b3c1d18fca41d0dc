"""Byte streams: a TCP socket, bare or under TLS, that never blocks for longer than asked.

Rules:

- `read_into` and `write` do what can be done at once; `wait` is the one place
  that sleeps, and the seam for another way of sleeping.
- One thread reads at a time and one writes: the caller's locks see to that. A
  reader and a writer at the same time are fine, TLS included.
- A read error that means "the peer is gone" is an OSError like any other; the
  caller knows what to make of it.
- The descriptor is closed by `close` alone, which the caller calls when no
  other thread can be inside a method; `abort` makes the others return first.

How a read sleeps: where the system has SO_RCVTIMEO and MSG_DONTWAIT the socket
is a blocking one, and `read_into(..., nap=True)` lets the kernel sleep in `recv`
for up to NAP. On a busy connection that is one system call a read, where asking
first (poll, then recv) takes two. A quiet connection leaves `recv` after NAP and
sleeps in `wait`, where `wake` reaches it.

This file knows nothing of WebSocket.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import ssl
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ._deadline import Deadline

__all__ = ["NAP", "TLSTransport", "Transport", "address_text"]

NAP: Final = 0.01
"""How long, in seconds, a read may sleep where `wake` does not reach it."""

_DONTWAIT: Final[int] = getattr(socket, "MSG_DONTWAIT", 0)
_AT_ONCE: Final = (_DONTWAIT,)  # the flags, as `map` takes them
_WHOLE: Final = (0,)  # as much as the buffer holds
_CAN_NAP: Final = bool(_DONTWAIT) and hasattr(socket, "SO_RCVTIMEO") and sys.platform != "win32"
# poll, where there is one: select fails on descriptors from 1024 on, and epoll
# costs a descriptor and three system calls for a single wait.
_Selector = getattr(selectors, "PollSelector", selectors.SelectSelector)


def address_text(address: Any) -> str:
    """A socket address as text: `127.0.0.1:80`, `[::1]:80`, or a Unix path."""
    if isinstance(address, tuple):
        host, port = address[0], address[1]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return os.fsdecode(address) if address else ""


class _Waker:
    """A descriptor that is readable from the first `set` on, for ever."""

    __slots__ = ("_event", "_pair")

    def __init__(self) -> None:
        self._event = -1
        self._pair: tuple[socket.socket, ...] = ()
        if hasattr(os, "eventfd"):
            # Unpacked, as in read_into: not to be lost should a signal handler raise.
            (self._event,) = map(os.eventfd, (0,), (os.EFD_CLOEXEC | os.EFD_NONBLOCK,))
        else:
            self._pair = socket.socketpair()

    def fileno(self) -> int:
        return self._pair[0].fileno() if self._pair else self._event

    def set(self) -> None:
        if self._pair:
            self._pair[1].close()  # what is readable is the end of the stream
        else:
            os.eventfd_write(self._event, 1)

    def close(self) -> None:
        for sock in self._pair:
            sock.close()
        if self._event >= 0:
            os.close(self._event)
            self._event = -1

    __del__ = close


class Transport:
    """A connected TCP (or Unix) stream socket.

    Attributes:
        local_addr: This end's address as text.
        remote_addr: The peer's address as text.
        pending: Whether bytes that `write` has taken are still to be written; a bare
            socket keeps none.
        uncounted: Bytes that `write` had taken when a signal handler raised in it.
    """

    __slots__ = (
        "__weakref__",
        "_recv_into",
        "_send",
        "_sock",
        "_wake_lock",
        "_waker",
        "_woken",
        "local_addr",
        "pending",
        "remote_addr",
        "uncounted",
    )

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket: from here on only this object touches it."""
        self._sock = sock
        self._recv_into = sock.recv_into
        self._send = sock.send
        # RLocks: a signal handler that closes the connection may interrupt their holder.
        self._wake_lock = threading.RLock()  # guards _waker and _woken
        self._waker: _Waker | None = None
        self._woken = False
        self.pending = False
        self.uncounted = 0
        self._prepare()
        self.local_addr = address_text(sock.getsockname())
        self.remote_addr = address_text(sock.getpeername())

    def _prepare(self) -> None:
        sock = self._sock
        if sock.family != getattr(socket, "AF_UNIX", None):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        if _CAN_NAP:
            nap = struct.pack("@ll", 0, int(NAP * 1_000_000))
            with contextlib.suppress(OSError):  # then it stays non-blocking, and never naps
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, nap)
                sock.setblocking(True)

    def read_into(self, buffer: bytearray | memoryview, nap: bool = False) -> int | None:
        """Receive what is there into a buffer, which must not be empty.

        Args:
            buffer: Where to; filled from its start.
            nap: Sleep for up to NAP if nothing is there.

        Returns:
            The number of bytes, 0 at the end of the stream, None if nothing is there.

        Raises:
            OSError: the connection is broken.
        """
        try:
            # Unpacking stores the count in the same step in which it arrives: a
            # signal handler that raises runs before or after, never in between,
            # so that no byte is taken from the kernel and forgotten.
            if nap:
                (count,) = map(self._recv_into, (buffer,))
            else:
                (count,) = map(self._recv_into, (buffer,), _WHOLE, _AT_ONCE)
        except BlockingIOError:
            return None
        return count

    def write(self, data: bytes | memoryview) -> int:
        """Send what the kernel takes at once.

        Returns:
            How many bytes it took, 0 if none. With `pending` set they are
            taken, but not all of them sent: see `flush`.

        Raises:
            OSError: the connection is broken.
        """
        try:
            (count,) = map(self._send, (data,), _AT_ONCE)  # unpacked: as in read_into
        except BlockingIOError:
            return 0
        return count

    def flush(self) -> bool:
        """Send what `write` has taken and kept; whether nothing is left of it."""
        return True

    def wait(self, read: bool, write: bool, deadline: Deadline, wakeable: bool = False) -> None:
        """Sleep until something may have changed; the caller finds out what.

        Args:
            read: Return when bytes (or the end) can be read.
            write: Return when bytes can be written.
            deadline: Return then at the latest.
            wakeable: Return when `wake` is or has been called.
        """
        events = (selectors.EVENT_READ if read else 0) | (selectors.EVENT_WRITE if write else 0)
        with _Selector() as selector:
            selector.register(self._sock, events)
            if wakeable:
                with self._wake_lock:
                    if self._waker is None:
                        self._waker = _Waker()
                selector.register(self._waker, selectors.EVENT_READ)
                if self._woken:
                    return
            selector.select(deadline.left())

    def wake(self) -> None:
        """Make every wakeable `wait` return, now and from now on."""
        with self._wake_lock:
            self._woken = True
            if self._waker is not None:
                self._waker.set()

    def finish_writing(self) -> None:
        """Tell the peer that nothing more will come."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """End the connection both ways at once: whoever reads, writes or waits returns."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the descriptors. No other thread may be inside a method."""
        self._sock.close()
        with self._wake_lock:
            self._woken = True
            if self._waker is not None:
                self._waker.close()
                self._waker = None

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self._sock.fileno()


# One TLS record holds 16 KiB of data. Handing OpenSSL four of them at a time
# bounds what a message adds to the memory while it is sent.
_TLS_SLICE: Final = 4 * 16_384
_TLS_READ: Final = 4 * 16_384
_TLS_IDLE: Final = 4 * 1024


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
        self._cipher = bytearray(_TLS_IDLE)  # ciphertext as it is received
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
            if received == len(self._cipher) < _TLS_READ:
                self._cipher = bytearray(_TLS_READ)
        elif received == 0:
            self._in.write_eof()
            self._received = None
            self._unread = True

    def wait(self, read: bool, write: bool, deadline: Deadline, wakeable: bool = False) -> None:
        """As of a bare socket; an idle connection keeps no large buffer."""
        if read and len(self._cipher) > _TLS_IDLE and self._received is None:
            self._cipher = bytearray(_TLS_IDLE)
        super().wait(read, write, deadline, wakeable)

    def write(self, data: bytes | memoryview) -> int:
        """Encrypt and send as much as is bounded by a slice."""
        if self.pending and not self.flush():
            return 0
        piece = data if len(data) <= _TLS_SLICE else memoryview(data)[:_TLS_SLICE]
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
