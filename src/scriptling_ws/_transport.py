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
import os
import selectors
import socket
import ssl
import struct
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Final

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

    __slots__ = ("_other", "_read")

    def __init__(self) -> None:
        self._other: int | None = None
        if hasattr(os, "eventfd"):
            self._read: int | socket.socket = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        else:
            self._read, other = socket.socketpair()
            self._other = other.detach()

    def fileno(self) -> int:
        return self._read if isinstance(self._read, int) else self._read.fileno()

    def set(self) -> None:
        if self._other is None:
            os.eventfd_write(self.fileno(), 1)
        else:
            with socket.socket(fileno=self._other) as other:
                other.shutdown(socket.SHUT_RDWR)
                self._other = None

    def close(self) -> None:
        if isinstance(self._read, int):
            if self._read >= 0:
                os.close(self._read)
                self._read = -1
            return
        self._read.close()
        if self._other is not None:
            socket.socket(fileno=self._other).close()
            self._other = None

    __del__ = close


class Transport:
    """A connected TCP (or Unix) stream socket.

    Attributes:
        local_addr: This end's address as text.
        remote_addr: The peer's address as text.
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
        "remote_addr",
    )

    def __init__(self, sock: socket.socket) -> None:
        """Take over a connected socket: from here on only this object touches it."""
        self._sock = sock
        self._recv_into = sock.recv_into
        self._send = sock.send
        self._wake_lock = threading.Lock()  # guards _waker and _woken
        self._waker: _Waker | None = None
        self._woken = False
        self._prepare()
        self.local_addr = address_text(sock.getsockname())
        self.remote_addr = address_text(sock.getpeername())

    # Whether bytes that `write` has taken are still to be written: a bare socket keeps
    # none. An attribute, because it is asked for with every message.
    pending: ClassVar[bool] = False

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
                    if self._woken:
                        return
                    if self._waker is None:
                        self._waker = _Waker()
                selector.register(self._waker, selectors.EVENT_READ)
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


class TLSTransport(Transport):
    """TLS over a connected socket.

    OpenSSL works on memory buffers under a lock of its own, and the socket is
    read and written outside that lock: a reader that sleeps holds up no writer.
    """

    __slots__ = ("_in", "_out", "_tls", "_tls_lock", "_unsent")

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
        self._tls_lock = threading.Lock()  # guards _tls, _in and _out
        self._unsent = memoryview(b"")  # ciphertext taken out of _out; the writer's

    @property
    def pending(self) -> bool:  # type: ignore[override]
        """Whether bytes that `write` has taken, or TLS made, are still to be written."""
        return bool(self._unsent) or self._out.pending > 0

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
            if not self._receive(nap=False):
                return False

    def read_into(self, buffer: bytearray | memoryview, nap: bool = False) -> int | None:
        """Receive and decrypt what is there: as many records as the buffer holds."""
        while True:
            with self._tls_lock:
                count = self._decrypt(memoryview(buffer))
            if count is not None:
                return count
            if not self._receive(nap):
                return None

    def _receive(self, nap: bool) -> bool:
        """Move ciphertext from the socket into _in; whether there was any (or the end)."""
        try:
            (data,) = map(self._sock.recv, (_TLS_READ,), (0,) if nap else _AT_ONCE)
        except BlockingIOError:
            return False
        with self._tls_lock:
            if data:
                self._in.write(data)
            else:
                self._in.write_eof()
        return True

    def _decrypt(self, view: memoryview) -> int | None:
        done = 0
        try:
            # Asked first, because an exception costs more than a small record.
            while done < len(view) and (self._in.pending or self._in.eof or self._tls.pending()):
                count: int = self._tls.read(len(view) - done, view[done:])  # type: ignore[assignment]
                if not count:
                    return done  # close_notify; 0 if nothing came before it
                done += count
        except ssl.SSLWantReadError:
            pass  # half a record, or one that carries no data
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            return done  # the end, with or without close_notify; WebSocket has its own
        return done or None

    def write(self, data: bytes | memoryview) -> int:
        """Encrypt and send as much as is bounded by a slice."""
        if not self.flush():
            return 0
        piece = data if len(data) <= _TLS_SLICE else memoryview(data)[:_TLS_SLICE]
        try:
            with self._tls_lock:
                count = self._tls.write(piece)
        except ssl.SSLWantReadError as error:
            raise ConnectionAbortedError("the peer renegotiates TLS: not supported") from error
        self.flush()
        return count

    def flush(self) -> bool:
        """Send the ciphertext that is waiting; whether nothing is left of it."""
        while True:
            if not self._unsent:
                with self._tls_lock:
                    self._unsent = memoryview(self._out.read())
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
