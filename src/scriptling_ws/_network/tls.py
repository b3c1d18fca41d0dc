"""Byte streams under TLS: a Transport whose bytes are encrypted on the way.

Rules:

- OpenSSL works on memory buffers under a lock of its own, and the socket is read and
  written outside that lock: a reader that sleeps holds up no writer, which one SSLSocket
  between two threads does not promise.
- What comes is decrypted by as many records as the reader's buffer holds, and received on
  while more is there; what is sent is encrypted a few records at a time, so that a message
  adds little to the memory.
- Nothing is left in OpenSSL that could be decrypted when the reader is told that nothing is
  there: no poll of the socket would show it.
- What was decrypted by `peek` is kept, and its ciphertext left in the socket until all of it
  was read (`_ahead`, `_owed`): a poll of the socket goes on showing that something is there.
- A peer can send records without data for as long as it likes (requests for renegotiation,
  updates of keys, empty records). A step of the handshake takes in so many pieces and then comes
  back to its deadline; and more than _BARREN bytes without data end the connection.
- Once this end has said close_notify, OpenSSL may refuse what still comes. That is no error, nor
  the end: it is received and dropped (`_draining`), so that the peer is not reset while it
  reads. The reader gets as many zeros: bytes that no key has vouched for are nobody's to see.
- The end of the stream is the end, with or without close_notify: WebSocket has a
  close of its own.
"""

# ruff: noqa: B007, B020 - a `for` that stores one result: see above read_into

from __future__ import annotations

import contextlib
import errno
import ssl
import sys
from copy import copy
from typing import TYPE_CHECKING, Any, Final

from .locks import turns
from .transport import _READ_AT_ONCE, _SEND_AT_ONCE, _WHOLE, Transport

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from .deadline import Deadline

__all__ = ["TLSTransport", "check_context"]

# One TLS record holds 16 KiB of data. Handing OpenSSL four of them at a time
# bounds what a message adds to the memory while it is sent.
_SLICE: Final = 4 * 16_384
_NO_CONTROL: Final = b"\x00"  # in place of bytes that are not to be looked at: no control frame
_READ: Final = 8 * 16_384  # OpenSSL's buffer keeps four thirds of that for the connection's life
_IDLE: Final = 4 * 1024
_AHEAD: Final = 4 * 1024  # what `peek` takes in, of ciphertext and of what is in it
_RECORD: Final = 16_384  # less than this of ciphertext may be half of a record
_TURNS: Final = 16  # pieces that one handshake step takes in; pragma: no mutate - just a bound
_BARREN: Final = 256 * 1024  # bytes of ciphertext in which there has to be some data
_ENOUGH: Final = 1024 * 1024  # what one call of read_into goes on to receive, about
_MOST: Final = 2**30  # more than OpenSSL reads at once
_ALL: Final = (-1,)  # MemoryBIO.read's argument, as `map` takes it


def _forget_errors() -> None:
    """Empty OpenSSL's queue of errors, which is the thread's, after an error of one connection.

    CPython does so itself. PyPy leaves them there, and the next read of any connection on the same
    thread would take them for its own. A write to a MemoryBIO at its end fails, and empties it.
    """
    if sys.implementation.name == "pypy":  # pragma: no cover - PyPy alone
        ended = ssl.MemoryBIO()
        ended.write_eof()
        with contextlib.suppress(ssl.SSLError):
            ended.write(b"")


def check_context(context: object, *, server_side: bool) -> None:
    """Check TLS settings that a caller gives, by what they can do.

    Their class says nothing: programs replace `ssl.SSLContext` at any time, as
    `truststore.inject_into_ssl()` does, and contexts of both classes are there then.

    Args:
        context: The settings.
        server_side: Which side they are for.

    Raises:
        TypeError: no TLS session can be made of it.
        ValueError: it is for the other side, which every handshake would fail by.
    """
    if isinstance(context, type) or not callable(getattr(context, "wrap_bio", None)):
        raise TypeError(
            "ssl_context has to be an ssl.SSLContext, or another object with its wrap_bio, "
            f"not {type(context).__name__}"
        )
    protocol = getattr(context, "protocol", None)
    if server_side and protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError(
            "ssl_context is a client's: make it with ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) "
            "and load_cert_chain"
        )
    if not server_side and protocol == ssl.PROTOCOL_TLS_SERVER:
        raise ValueError(
            "ssl_context is a server's: make it with ssl.create_default_context(), and "
            "load_verify_locations for an authority of your own"
        )


class TLSTransport(Transport):
    """TLS over a connected socket.

    OpenSSL works on memory buffers under a lock of its own, and the socket is
    read and written outside that lock: a reader that sleeps holds up no writer.
    """

    __slots__ = (
        "_ahead",
        "_answering",
        "_barren",
        "_cipher",
        "_decrypted",
        "_draining",
        "_finished",
        "_in",
        "_in_doubt",
        "_more",
        "_out",
        "_owed",
        "_read_error",
        "_received",
        "_session",
        "_tls",
        "_tls_lock",
        "_turns",
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
        self.descriptor = None  # what goes by it is ciphertext
        self._in = ssl.MemoryBIO()
        self._out = ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=server_side, server_hostname=server_hostname
        )
        # The C object behind it: the methods of SSLObject are Python code, in which a signal
        # handler that raises would lose what was read or written.
        self._session: Any = getattr(self._tls, "_sslobj", self._tls)
        self._tls_lock = self._engine.rlock()  # guards _tls, _in, _out and _answering
        self._turns = turns(self._tls_lock)
        self._answering = False  # OpenSSL has written something of its own into _out
        self._unsent: bytes = b""  # ciphertext taken out of _out; the writer's
        # These are the reader's:
        self._cipher = memoryview(bytearray(_IDLE))  # ciphertext as it is received
        self._received: int | None = None  # bytes in _cipher that are not in _in yet
        self._decrypted = 0  # bytes in the reader's buffer that it was not told of yet
        self._in_doubt = False  # a signal handler may have cost bytes that were decrypted
        self._more = False  # there is more to receive: the last time has filled _cipher
        self._unread = True  # there may be more to decrypt
        self._read_error: ssl.SSLError | None = None  # nothing more can be
        self._barren = 0  # bytes of ciphertext since the last one with data
        self._finished = False  # this end has said close_notify
        self._draining = False  # what comes is not decrypted any more
        self._ahead: memoryview | None = None  # what `peek` has decrypted
        self._owed = 0  # bytes in the socket of which OpenSSL has a copy; 0 without _ahead

    def handshake_step(self) -> bool:
        """Do what can be done of the TLS handshake at once, within bounds.

        Returns:
            True when the session is open. False: call again once the socket is readable,
            or writable if `pending`.

        Raises:
            OSError: it failed; an `ssl.SSLError` says why, and the peer was told.
        """
        for _ in range(_TURNS):
            try:
                with self._tls_lock:
                    self._tls.do_handshake()
                return self.flush()
            except ssl.SSLWantReadError:
                self.flush()
            except ssl.SSLError:
                _forget_errors()
                with contextlib.suppress(OSError):  # the alert, if it can be sent
                    self.flush()
                raise
            self._received = super().read_into(self._cipher)
            if self._received is None:
                return False
            with self._tls_lock:
                self._take_in(self._received)
        return False

    # Below, `for result in map(function, ...): break` stores a result in the step in which it
    # comes, as the unpacking in Transport.read_into does, but in half the time: a signal handler
    # that raises makes nothing forgotten. `for got in self._turns: break` takes the lock so,
    # in half the time of `with`.

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
        """Receive and decrypt what is there: as many records as the buffer holds, or a MiB."""
        if self._ahead is not None:
            return self._take_ahead(buffer)
        while True:
            if self._draining:
                return self._drain(buffer, nap)
            if self._unread:
                ended = self._decrypt(buffer)
                more = self._more and self._decrypted < min(len(buffer), _ENOUGH)
                if ended or (self._decrypted and not more):
                    break
            try:
                if nap and not self._more:
                    for self._received in map(self._recv_into, (self._cipher,)):
                        break
                else:
                    for self._received in map(
                        self._recv_into, (self._cipher,), _WHOLE, _READ_AT_ONCE
                    ):
                        break
            except OSError as error:
                expected = self._is_expected(error)
                if self._decrypted and not self._unread:
                    break
                if not expected:
                    return None
                continue
            self._unread = True
        count, self._decrypted = self._decrypted, 0
        return count

    def _drain(self, buffer: bytearray | memoryview, nap: bool) -> int | None:
        """Receive what is not decrypted any more, and put zeros in its place."""
        count = super().read_into(buffer, nap)
        buffer[: count or 0] = bytes(count or 0)
        return count

    def _is_expected(self, error: OSError) -> bool:
        """Whether the error of a receive ends a call that has more to do; raise it if it matters.

        One that breaks the connection while `read_into` reads on is left to the next call, which
        finds the stream at its end: what came before it is good.
        """
        expected, self._more = self._more, False
        if error.errno is None or not (expected or isinstance(error, BlockingIOError)):
            raise error
        return expected

    def peek(self, size: int) -> bytes | None:
        """As of a bare socket, decrypted; only where no other of the reader's calls goes on."""
        if self._draining:
            raw = super().peek(size)
            return raw and bytes(len(raw))
        if self._decrypted:  # a signal handler has cut a read short: what is there is the reader's
            return _NO_CONTROL
        if self._ahead is None and self._unread and self._look_ahead():
            return b""
        if self._ahead is None:
            data = super().peek(_AHEAD)
            if not data:
                return data
            with self._tls_lock:
                for self._owed in map(self._in.write, (data,)):
                    self._unread = True
                    break
            self._barren += self._owed
            if self._look_ahead():
                return b""
        return None if self._ahead is None else bytes(self._ahead[:size])

    def _look_ahead(self) -> bool:
        """Decrypt what comes next, and keep it; whether the stream ends here."""
        room = bytearray(_AHEAD)
        try:
            ended = self._decrypt(room)
            count, self._decrypted = self._decrypted, 0
            self._ahead = memoryview(room)[:count] if count else None
        except BaseException:
            if self._decrypted:  # lost with the room
                self._decrypted, self._in_doubt = 0, True
            raise
        if self._ahead is None:
            self._repay()
        return ended

    def _take_ahead(self, buffer: bytearray | memoryview) -> int:
        """Read what `peek` has decrypted."""
        assert self._ahead is not None
        count, rest = min(len(buffer), len(self._ahead)), self._ahead[len(buffer) :]
        buffer[:count] = self._ahead[:count]
        if not rest:
            self._repay()
        # No call from here on: a signal handler cannot come between taking and telling.
        self._ahead = rest if rest else None
        return count

    def _repay(self) -> None:
        """Take out of the socket what OpenSSL has a copy of."""
        try:
            for _ in map(self._sock.recv, (self._owed,), _READ_AT_ONCE) if self._owed else ():
                self._owed = 0
                break
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            self._owed = 0  # reset: nothing lies there any more

    def unread(self) -> bool:
        """As of a bare socket."""
        return self._ahead is not None or super().unread()

    def _decrypt(self, buffer: bytearray | memoryview) -> bool:
        """Decrypt into the buffer, after what is in there; whether the stream ends here."""
        if self._in_doubt or self._read_error is not None:
            self._fail()
            return False
        got = False
        try:
            for got in self._turns:
                break
            if self._received is not None:
                self._take_in(self._received)
            return self._read_records(buffer)
        except ssl.SSLWantReadError:  # half a record, or one that carries no data
            self._in_doubt = self._unread = False
            if self._barren > _BARREN:
                text = f"the peer sends over {_BARREN} bytes of TLS records without data"
                self._read_error = ssl.SSLError(errno.EPROTO, text)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
            _forget_errors()
            self._in_doubt = self._more = False
            self._draining = self._finished and not self._in.eof
            return not (self._decrypted or self._draining)
        except ssl.SSLError as error:
            _forget_errors()
            self._in_doubt = self._more = False
            self._draining = self._finished
            if not self._draining:
                self._read_error = copy(error)  # without the traceback, which holds its callers
        finally:
            if self._out.pending:  # an answer of TLS itself, such as to a key update
                self._answering = self.pending = True
            if got:  # pragma: no branch - else a signal handler has raised
                self._tls_lock.release()
        if self._read_error is not None:
            self._fail()
        return False

    def _fail(self) -> None:
        """Raise why nothing more can be read, once what came before it was told."""
        if self._read_error is None:
            text = "a signal handler interrupted the decryption"
            self._read_error = ssl.SSLError(errno.EINTR, text)
        self._more = False
        if not self._decrypted:
            raise copy(self._read_error)

    def _take_in(self, received: int) -> None:
        """Hand the ciphertext that was received to OpenSSL. Holds _tls_lock."""
        if received:
            for _ in map(self._in.write, (self._cipher[:received],)):
                self._received = None
                break
            self._barren += received
            self._more = received == len(self._cipher)
            if self._more and received < _READ:
                self._cipher = memoryview(bytearray(_READ))
        else:
            self._in.write_eof()
            self._received = None
            self._more = False

    def _read_records(self, buffer: bytearray | memoryview) -> bool:
        """Decrypt all records that fit; whether the stream ends here. Holds _tls_lock."""
        view: memoryview | None = None
        rest = memoryview(buffer)[self._decrypted :] if self._decrypted else buffer
        while True:
            # `read` itself runs signal handlers, its work done but not counted: should
            # one raise, how much was read is not known.
            self._in_doubt = True
            count = self._session.read(_MOST, rest)
            self._decrypted += count
            self._in_doubt = False
            self._barren = 0
            if not count:  # close_notify
                self._more = False
                return not self._decrypted
            # Asked first, because an exception costs more than a small record.
            left, full = self._in.pending, count == len(rest)
            if not left and not (full and self._session.pending()):
                self._unread = self._in.eof
                return False
            if full or (left < _RECORD and self._more):  # pragma: no mutate - it saves time alone
                return False  # no room; or most likely half a record, of which more is there
            view = view or memoryview(buffer)
            rest = view[self._decrypted :]

    def wait(self, read: bool, write: bool, deadline: Deadline, wakeable: bool = False) -> None:
        """As of a bare socket; an idle connection keeps no large buffer."""
        if read and len(self._cipher) > _IDLE and self._received is None:
            self._cipher = memoryview(bytearray(_IDLE))
        super().wait(read, write, deadline, wakeable)

    def write(self, data: bytes | memoryview) -> int:
        """Encrypt and send as much as is bounded by a slice."""
        if self.pending and not self.flush():
            return 0
        piece = data if len(data) <= _SLICE else memoryview(data)[:_SLICE]
        size = len(piece)
        got = False
        taken, before = 0, -1
        try:
            try:
                for got in self._turns:
                    break
                before = self._out.pending
                self._session.write(piece)  # all of it or nothing: this goes to memory
                taken = size
                self._draw()
            finally:
                if got:  # pragma: no branch - else a signal handler has raised
                    self._tls_lock.release()
            self._push()
        except ssl.SSLWantReadError as error:
            text = "the peer renegotiates TLS: not supported"
            raise ConnectionAbortedError(errno.ECONNABORTED, text) from error
        except BaseException as error:
            if isinstance(error, ssl.SSLError):
                _forget_errors()
            # A signal handler's, perhaps run by `write` itself, its work done but not noted.
            self.uncounted = taken or (size if self._out.pending > before >= 0 else 0)
            raise
        return size

    def _draw(self) -> None:
        """Take all ciphertext out of OpenSSL. Holds _tls_lock, with nothing unsent."""
        self._answering = False
        self.pending = True
        for self._unsent in map(self._out.read, _ALL):
            break

    def _push(self) -> bool:
        """Send what was drawn, as far as it can be; whether nothing is left of it."""
        try:
            for count in map(self._send, (self._unsent,), _SEND_AT_ONCE):
                break
        except BlockingIOError:
            return False
        self._unsent = self._unsent[count:]
        if self._unsent:
            return False
        # In this order, so that what a reader's thread sets meanwhile stays.
        self.pending = False
        if self._answering:
            self.pending = True
        return True

    def flush(self) -> bool:
        """Send the ciphertext that is waiting; whether nothing is left of it."""
        while True:
            if not self._unsent:
                with self._tls_lock:
                    self._draw()
                    self.pending = bool(self._unsent)
                if not self._unsent:
                    return True
            if not self._push():
                return False

    def finish_writing(self) -> None:
        """Send close_notify, as far as it can be sent at once, then end the stream."""
        self._finished = True
        # SSLWantReadError is an OSError: the peer's own close_notify is not waited for.
        with contextlib.suppress(OSError), self._tls_lock:
            self._tls.unwrap()
        _forget_errors()
        with contextlib.suppress(OSError):
            self.flush()
        super().finish_writing()
