"""Byte streams: a socket that never blocks for longer than asked.

Rules:

- `read_into` and `write` do what can be done at once; `wait` is the one place that
  sleeps (except for a nap, see below). How it sleeps is the engine's: see `waiting`.
- One thread reads at a time and one writes: the caller's locks see to that. A
  reader and a writer at the same time are fine.
- A read error that means "the peer is gone" is an OSError like any other; the
  caller knows what to make of it. A socket tells it once: `failure` keeps it.
- The descriptor is closed by `close` alone, which the caller calls when no
  other thread can be inside a method; `abort` makes the others return first.

How a read sleeps: where the system has SO_RCVTIMEO and MSG_DONTWAIT the socket
is a blocking one, and `read_into(..., nap=True)` lets the kernel sleep in `recv`
for up to NAP. On a busy connection that is one system call a read, where asking
first (poll, then recv) takes two. A quiet connection leaves `recv` after NAP and
sleeps in `wait`, where `wake` reaches it. A socket that waits by other means than the
system's (gevent's) does not know SO_RCVTIMEO: it does not block, and does not nap. Nor does any
under an engine that naps not. Where tasks share a thread, the one that receives waits at the
connection's `parking`.

Whether a peer lives is told by what the kernel counts (`pulse`) and by what lies in its
buffers (`unread`, `peek`): asking takes nothing out of them.

This file knows nothing of WebSocket.
"""

from __future__ import annotations

import _socket
import contextlib
import math
import socket
import struct
import sys
import time
from copy import copy
from typing import TYPE_CHECKING, Any, Final

from .. import _kernel as kernel
from .addresses import address_text
from .fork import tell_after_fork
from .pulse import has_pulse, pulse_of, taken_pulse
from .waiting import READ, WRITE, engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._wsframe import Descriptor
    from .contract import Parking, Waker
    from .deadline import Deadline
    from .pulse import Pulse

__all__ = [
    "NAP",
    "READ_AT_ONCE",
    "SEND_AT_ONCE",
    "SEND_FLAGS",
    "WHOLE",
    "Transport",
    "write_rest",
]

NAP: Final = 0.01
"""How long, in seconds, a read may sleep where `wake` does not reach it."""

# The flag with which a blocking socket does only what it can do at once.
_DONTWAIT: Final[int] = getattr(socket, "MSG_DONTWAIT", 0)

SEND_FLAGS: Final[int] = _DONTWAIT | getattr(socket, "MSG_NOSIGNAL", 0)
"""The same for sending, and a peer that has left is an error even where the program has set
SIGPIPE to SIG_DFL, as scripts in a pipe do."""

# The arguments of the socket's methods, as `map` takes them: flags, and a size.
READ_AT_ONCE: Final = (_DONTWAIT,)
SEND_AT_ONCE: Final = (SEND_FLAGS,)
WHOLE: Final = (0,)  # as much as the buffer holds

# What is larger than this is received in pieces of it: the other end goes on meanwhile.
_PIECE: Final = 128 * 1024
_PEEK: Final = _DONTWAIT | socket.MSG_PEEK
_CAN_NAP: Final = bool(_DONTWAIT) and hasattr(socket, "SO_RCVTIMEO") and sys.platform != "win32"
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
# As a number: the property of `socket.socket` makes an enum's member of it each time.
_family_of: Final[Callable[[Any], int]] = _socket.socket.family.__get__
_UNWOKEN: Final = 0.1  # seconds for which a wait sleeps that no descriptor is left to wake
# Linux's second number of SO_RCVTIMEO, by which programs of 32 bits tell seconds of 64.
_OF_64_BITS: Final = 66
_TIMEVAL: Final = (
    "@qq"
    if getattr(socket, "SO_RCVTIMEO", 0) == _OF_64_BITS and struct.calcsize("@l") == 4
    else "@ll"
)
_NAP_TIMEVAL: Final = struct.pack(_TIMEVAL, 0, int(NAP * 1_000_000))


class Transport:
    """A connected TCP (or Unix) stream socket.

    Attributes:
        local_addr: This end's address as text.
        peer_addr: The other end's address as text.
        remote_addr: The same; or the client's, where a proxy is the other end and says so.
        descriptor: What the kernel's channel moves bytes by, around the methods in here; None
            where it has to go by `receive` and `send`.
        session: What the channel encrypts and decrypts by; None for a bare socket.
        naps: Whether the socket sleeps in `recv` for up to NAP.
        parking: Where the task that receives waits; None where that is the engine's `wait`.
        pending: Whether bytes that `write` has taken are still to be written; a bare
            socket keeps none.
        uncounted: Bytes that `write` had taken when a signal handler raised in it.
    """

    __slots__ = (
        "__weakref__",
        "_descriptor",
        "_engine",
        "_failure",
        "_internet",
        "_recv_into",
        "_send",
        "_sock",
        "_wake_lock",
        "_waker",
        "_woken",
        "descriptor",
        "local_addr",
        "naps",
        "parking",
        "peer_addr",
        "pending",
        "remote_addr",
        "uncounted",
    )

    send_flags: Final = SEND_FLAGS
    session: kernel.Session | None = None

    def __init__(self, sock: socket.socket, peer_addr: str | None = None) -> None:
        """Take over a connected socket: from here on only this object touches it.

        Args:
            sock: The socket.
            peer_addr: The other end's address as text, where that is known.
        """
        self._sock = sock
        self._recv_into = sock.recv_into
        self._send = sock.send
        self._engine = engine()
        # RLocks: a signal handler that closes the connection may interrupt their holder.
        self._wake_lock = self._engine.rlock()  # guards _waker and _woken
        self._waker: Waker | None = None
        self._woken = False
        self.pending: bool = False
        self.uncounted: int = 0
        self._failure: OSError | None = None
        native = _CAN_NAP and self._engine.naps and isinstance(sock, _socket.socket)
        self.parking: Parking | None = self._engine.parking(sock)
        self.naps: bool = self._prepare(native)
        direct = native or (_CAN_NAP and self.parking is not None)
        self._descriptor = kernel.descriptor_of(sock) if direct else None
        self.descriptor: Descriptor | None = self._descriptor
        self.local_addr: str = address_text(sock.getsockname())
        self.peer_addr: str = address_text(sock.getpeername()) if peer_addr is None else peer_addr
        self.remote_addr: str = self.peer_addr
        tell_after_fork(self)

    def _after_fork(self) -> None:
        """In a forked child: close its copies of the descriptors, and nothing more."""
        self._wake_lock = self._engine.rlock()
        self.close()

    def _prepare(self, native: bool) -> bool:
        """Set the socket's options; whether it naps."""
        sock, naps = self._sock, native
        family = _family_of(sock) if isinstance(sock, _socket.socket) else sock.family
        self._internet = family in _INTERNET
        if self._internet:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if naps:
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _NAP_TIMEVAL)
            except OSError:
                naps = False
        sock.setblocking(naps)
        return naps

    @property
    def receive(self) -> Callable[[bytearray], int | None]:
        """As `read_into` with a nap, but may raise BlockingIOError for None."""
        return self._recv_into

    @property
    def send(self) -> Callable[[bytes, int], int]:
        """As `write`, with SEND_FLAGS, but may raise BlockingIOError for 0."""
        return self._send

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
            if self._descriptor is not None and len(buffer) > _PIECE:
                (received,) = map(
                    kernel.receive_on, (self._descriptor,), (buffer,), (_PIECE,), (nap,)
                )
                return received
            if nap:
                (count,) = map(self._recv_into, (buffer,))
            else:
                (count,) = map(self._recv_into, (buffer,), WHOLE, READ_AT_ONCE)
        except BlockingIOError:
            return None
        return count

    def peek(self, size: int) -> bytes | None:
        """What comes next, which stays there for `read_into` and for a poll of the socket.

        Returns:
            Up to `size` bytes, b"" at the end of the stream, None if nothing is there.

        Raises:
            OSError: the connection is broken.
        """
        try:
            return self._sock.recv(size, _PEEK)
        except BlockingIOError:
            return None

    def peek_all(self, most: int) -> bytes | None:
        """As `peek`: all that has come; None if that is `most` bytes or more, or cannot be seen."""
        try:
            data = self.peek(most)
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            self.note_failure(error)
            return None
        return data if data is not None and len(data) < most else None

    def note_failure(self, error: OSError) -> None:
        """Keep why reading has failed: a socket tells that once, and then that the stream ends."""
        if self._failure is None:
            self._failure = copy(error)  # without the traceback, which holds its callers

    @property
    def failure(self) -> OSError | None:
        """Why reading has failed, the first time; None if it has not."""
        return self._failure

    def unread(self) -> bool:
        """Whether something lies unread: bytes, the end of the stream, or an error.

        Unlike the other methods that read, it may be called while a reader is inside one.
        """
        try:
            return Transport.peek(self, 1) is not None
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            self.note_failure(error)
            return True

    def keeps(self) -> bool:
        """Whether bytes were received, and not read: no poll of the socket would show them.

        It takes nothing and asks nobody. True where there may be some: a bare socket keeps none.
        """
        return False

    def pulse(self) -> Pulse | None:
        """What the kernel has counted on this connection; None where it does not tell."""
        return pulse_of(self._sock)

    def taken_pulse(self) -> bytes:
        """The same for `pulse.read_pulse`: most are never looked at."""
        return taken_pulse(self._sock)

    def has_pulse(self) -> bool:
        """Whether `pulse` tells something while the connection is open."""
        return self._internet and has_pulse(self._sock)

    def write(self, data: bytes | memoryview) -> int:
        """Send what the kernel takes at once.

        Returns:
            How many bytes it took, 0 if none. With `pending` set they are
            taken, but not all of them sent: see `flush`.

        Raises:
            OSError: the connection is broken.
        """
        try:
            (count,) = map(self._send, (data,), SEND_AT_ONCE)  # unpacked: as in read_into
        except BlockingIOError:
            return 0
        return count

    def flush(self) -> bool:
        """Send what `write` has taken and kept; whether nothing is left of it."""
        return True

    def wait(self, read: bool, write: bool, deadline: Deadline, wakeable: bool = False) -> None:
        """Sleep until something may have changed; the caller finds out what, if anything.

        Args:
            read: Return when bytes (or the end) can be read.
            write: Return when bytes can be written.
            deadline: Return then at the latest.
            wakeable: Return when `wake` is or has been called; in a moment, called or not,
                if no descriptor is left for that.
        """
        if self.parking is not None and not write:
            self._park(self.parking, deadline, wakeable)
            return
        waker = None
        if wakeable:
            waker = self._get_waker()
            if self._woken:
                return
            if waker is None:
                deadline = deadline.sooner(_UNWOKEN)
        events = (READ if read else 0) | (WRITE if write else 0)
        self._engine.wait(self._sock, events, deadline, waker)

    def _park(self, parking: Parking, deadline: Deadline, wakeable: bool) -> None:
        left = deadline.left()
        if parking.park(math.inf if left is None else time.monotonic() + left, wakeable):
            deadline.waited(left)

    def _get_waker(self) -> Waker | None:
        """What `wake` makes readable; None if it cannot be made now."""
        with self._wake_lock:
            if self._waker is None:
                try:
                    self._waker = self._engine.waker()
                except OSError as error:
                    if error.errno is None:
                        raise  # a signal handler's, such as TimeoutError
            return self._waker

    def waker_number(self) -> int:
        """The descriptor that `wake` makes readable; -1 if none is left for that."""
        waker = self._get_waker()
        return -1 if waker is None else waker.fileno()

    def wake(self) -> None:
        """Make every wakeable `wait` return, now and from now on."""
        with self._wake_lock:
            self._woken = True
            if self._waker is not None:
                self._waker.set()
        if self.parking is not None:
            self.parking.wake()

    def finish_writing(self) -> None:
        """Tell the peer that nothing more will come."""
        try:  # noqa: SIM105 - `suppress` is Python code, and this is done for each connection
            self._sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def abort(self) -> None:
        """End the connection both ways at once: calls that read, write or wait return."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def detach(self) -> socket.socket:
        """Give the socket back, open: for another transport. Nothing of it was read ahead here."""
        if self._descriptor is not None:
            self._descriptor.forget()
        if self.parking is not None:
            self.parking.close()
        return self._sock

    def close(self) -> None:
        """Close the descriptors. No other thread may be inside a method, nor in the channel."""
        if self._descriptor is not None:
            self._descriptor.forget()  # before the number can be another file's
        if self.parking is not None:
            self.parking.close()  # likewise
        self._sock.close()
        with self._wake_lock:
            self._woken = True
            waker, self._waker = self._waker, None
            if waker is not None:
                waker.close()

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self._sock.fileno()


def write_rest(transport: Transport, rest: memoryview) -> tuple[memoryview, bool]:
    """Send as much of some bytes as goes without waiting.

    Returns:
        What is left of them, and whether all have left the transport too, which may keep some.
        If not, call again with the rest once it is writable.

    Raises:
        OSError: the connection is broken.
    """
    while rest:
        count = transport.write(rest)
        if not count:
            return rest, False
        rest = rest[count:]
    return rest, transport.flush()
