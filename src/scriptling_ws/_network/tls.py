"""Byte streams under TLS: a Transport whose bytes are encrypted on the way.

Rules:

- OpenSSL works on memory buffers under a lock of its own, and the socket is read and
  written outside that lock: a reader that sleeps holds up no writer, which one SSLSocket
  between two threads does not promise.
- What a channel needs too is in the kernel's Session. There it encrypts and decrypts in one step
  what is usual, and notes what is not: `_decrypt` and `flush` go on from each of its states.
- What comes is decrypted by as many records as the reader's buffer holds, and received on
  while more is there; what is sent is encrypted a few records at a time, so that a message
  adds little to the memory.
- Nothing is left in OpenSSL that could be decrypted when the reader is told that nothing is
  there: no poll of the socket would show it.
- What was decrypted by `peek` is kept, and its ciphertext left in the socket: see `ahead`.
- A peer can send records without data for as long as it likes (requests for renegotiation,
  updates of keys, empty records). A step of the handshake takes in so many pieces and then comes
  back to its deadline; and more than _BARREN bytes without data end the connection.
- Once this end has said close_notify, OpenSSL may refuse what still comes. That is no error, nor
  the end: it is received and dropped (`Session.draining`), so that the peer is not reset while it
  reads. The reader gets as many zeros: bytes that no key has vouched for are nobody's to see.
- The end of the stream is the end, with or without close_notify: WebSocket has a
  close of its own.
"""

# ruff: noqa: B007 - a `for` that stores one result: see above read_into

from __future__ import annotations

import contextlib
import errno
import ssl
import sys
from copy import copy
from typing import TYPE_CHECKING, Any, Final

from .. import _kernel as kernel
from .ahead import LookAhead
from .encrypted import ENOUGH, NO_CONTROL, SLICE, Encrypted
from .locks import turns
from .transport import READ_AT_ONCE, SEND_AT_ONCE, WHOLE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from .deadline import Deadline

__all__ = ["TLSTransport"]

_READ: Final = 8 * 16_384  # OpenSSL's buffer keeps four thirds of that for the connection's life
_IDLE: Final = 4 * 1024
_TURNS: Final = 16  # pieces that one handshake step takes in; pragma: no mutate - just a bound
_BARREN: Final = 256 * 1024  # bytes of ciphertext in which there has to be some data
_RECORD: Final = 18 * 1024  # the longest record (RFC 5246 section 6.2.3), about
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


class TLSTransport(Encrypted):
    """TLS over a connected socket: the session is its own."""

    __slots__ = (
        "_ahead",
        "_finished",
        "_in",
        "_out",
        "_tls",
        "_tls_lock",
        "_turns",
        "session",
    )

    session: kernel.Session

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
        self._tls_lock = self._engine.rlock()  # guards _tls, _in, _out and `session.answering`
        self._turns = turns(self._tls_lock)
        self.session = kernel.Session(
            # The C object behind it: the methods of SSLObject are Python code, in which a signal
            # handler that raises would lose what was read or written.
            getattr(self._tls, "_sslobj", self._tls),
            self._in,
            self._out,
            self._tls_lock,
            least=_IDLE,
            most=_READ,
            want_read=ssl.SSLWantReadError,
            error=ssl.SSLError,
        )
        # These are the reader's, as most of the session is:
        self._finished = False  # this end has said close_notify
        self._ahead: LookAhead | None = None  # what `peek` has made, once it was called

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
            self.session.received = super().read_into(self.session.cipher)
            if self.session.received is None:
                return False
            with self._tls_lock:
                self.session.take_in(self.session.received)
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

    def read_into(self, buffer: bytearray | memoryview, nap: bool = False) -> int | None:
        """Receive and decrypt what is there: as many records as the buffer holds, or a MiB."""
        session, turn = self.session, False
        if session.ahead is not None:
            assert self._ahead is not None
            return self._ahead.take(buffer)
        while True:
            if session.draining:
                return self._drain(buffer, nap)
            if session.unread:
                ended = self._decrypt(buffer)
                more = session.more and session.decrypted < min(len(buffer), ENOUGH)
                turn = self._gives_way() and not ended
                if ended or turn or (session.decrypted and not more):
                    break
            cipher = session.cipher
            try:
                if nap and not session.more:
                    for session.received in map(self._recv_into, (cipher,)):
                        break
                else:
                    for session.received in map(self._recv_into, (cipher,), WHOLE, READ_AT_ONCE):
                        break
            except OSError as error:
                expected = self._is_expected(error)
                if session.decrypted and not session.unread:
                    break
                if not expected:
                    return None
                continue
            session.unread = True
        count, session.decrypted = session.decrypted, 0
        return None if turn and not count else count

    def _gives_way(self) -> bool:
        """Whether it is the others' turn, where tasks share a thread: no data comes for some time.

        A poll of the socket shows what is still there.
        """
        return self.parking is not None and self.session.barren > _RECORD

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
        expected, self.session.more = self.session.more, False
        blocks = isinstance(error, BlockingIOError)
        if error.errno is None or not (expected or blocks):
            raise error
        if not blocks:
            self.note_failure(error)
        return expected

    def peer_certificate(self) -> dict[str, Any] | None:
        """What the other end's certificate says; None without one, or where none is checked."""
        if self._tls.context.verify_mode == ssl.CERT_NONE:
            return None
        with self._tls_lock:
            return self._tls.getpeercert() or None

    def peek(self, size: int) -> bytes | None:
        """As of a bare socket, decrypted; only where no other of the reader's calls goes on."""
        session = self.session
        if session.draining:
            raw = super().peek(size)
            return raw and bytes(len(raw))
        if session.decrypted:  # a signal handler has cut a read short: that is the reader's
            return NO_CONTROL
        if self._ahead is None:
            self._ahead = LookAhead(session, self._sock, self._tls_lock)
        return self._ahead.peek(size, super().peek, self._decrypt)

    def unread(self) -> bool:
        """As of a bare socket."""
        return self.session.ahead is not None or super().unread()

    def keeps(self) -> bool:
        """As of a bare socket."""
        session = self.session
        return bool(
            session.unread
            or session.decrypted
            or session.received is not None
            or session.ahead is not None
            or session.in_doubt
            or session.fault is not None
            or session.read_error is not None
        )

    def _decrypt(self, buffer: bytearray | memoryview) -> bool:
        """Decrypt into the buffer, after what is in there; whether the stream ends here."""
        session = self.session
        if session.in_doubt or session.read_error is not None:
            self._fail()
            return False
        got = False
        try:
            for got in self._turns:
                break
            return self._go_on(buffer)
        except ssl.SSLWantReadError:  # half a record, or one that carries no data
            session.in_doubt = session.unread = False
            if session.barren > _BARREN:
                text = f"the peer sends over {_BARREN} bytes of TLS records without data"
                session.read_error = ssl.SSLError(errno.EPROTO, text)
        except (ssl.SSLEOFError, ssl.SSLZeroReturnError) as error:
            _forget_errors()
            if isinstance(error, ssl.SSLEOFError):
                self.note_failure(error)  # if WebSocket's own close is missing too, this is why
            session.fault, session.in_doubt, session.more = None, False, False
            session.draining = self._finished and not self._in.eof
            return not (session.decrypted or session.draining)
        except ssl.SSLError as error:
            _forget_errors()
            session.in_doubt = session.more = False
            session.draining = self._finished
            if not session.draining:
                session.read_error = copy(error)  # without the traceback, which holds its callers
            session.fault = None
        finally:
            if self._out.pending:  # an answer of TLS itself, such as to a key update
                session.answering = self.pending = True
            if got:  # pragma: no branch - else a signal handler has raised
                self._tls_lock.release()
        if session.read_error is not None:
            self._fail()
        return False

    def _go_on(self, buffer: bytearray | memoryview) -> bool:
        """Decrypt, from where the last call or the channel has left it. Holds _tls_lock."""
        session = self.session
        if session.fault is not None:
            raise session.fault
        if session.received is not None:
            session.take_in(session.received)
        return session.read_records(buffer)

    def _fail(self) -> None:
        """Raise why nothing more can be read, once what came before it was told."""
        session = self.session
        if session.read_error is None:
            text = "a signal handler interrupted the decryption"
            session.read_error = ssl.SSLError(errno.EINTR, text)
        session.more = False
        if not session.decrypted:
            raise copy(session.read_error)

    def wait(self, read: bool, write: bool, deadline: Deadline, wakeable: bool = False) -> None:
        """As of a bare socket; an idle connection keeps no large buffer."""
        if read:
            self.session.relax()
        super().wait(read, write, deadline, wakeable)

    def write(self, data: bytes | memoryview) -> int:
        """Encrypt and send as much as is bounded by a slice."""
        if self.pending and not self.flush():
            return 0
        piece = data if len(data) <= SLICE else memoryview(data)[:SLICE]
        size = len(piece)
        got = False
        taken, before = 0, -1
        try:
            try:
                for got in self._turns:
                    break
                before = self._out.pending
                self.session.ssl.write(piece)  # all of it or nothing: this goes to memory
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
        session = self.session
        session.answering = False
        self.pending = True
        for session.unsent in map(self._out.read, _ALL):
            break

    def _push(self) -> bool:
        """Send what was drawn, as far as it can be; whether nothing is left of it."""
        session = self.session
        unsent = session.unsent
        try:
            for count in map(self._send, (unsent,), SEND_AT_ONCE):
                break
        except BlockingIOError:
            return False
        session.unsent = unsent[count:]
        if session.unsent:
            return False
        # In this order, so that what a reader's thread sets meanwhile stays.
        self.pending = False
        if session.answering:
            self.pending = True
        return True

    def flush(self) -> bool:
        """Send the ciphertext that is waiting; whether nothing is left of it."""
        session = self.session
        while True:
            if not session.unsent:
                with self._tls_lock:
                    self._draw()
                    self.pending = bool(session.unsent)
                if not session.unsent:
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
