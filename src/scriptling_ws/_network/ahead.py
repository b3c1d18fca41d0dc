"""Looking at what comes next under TLS, without taking it out of the socket.

Rules:

- To look at it, it has to be decrypted, and OpenSSL does that once. So what was decrypted is kept
  (`Session.ahead`), and its ciphertext left in the socket until all of it was read: a poll of the
  socket goes on showing that something is there.
- What OpenSSL has a copy of is owed to the socket (`_owed`), and taken out of it in the end.
- For the reader's thread, where no other of its calls goes on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from .transport import READ_AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .. import _kernel as kernel
    from .contract import RLock

__all__ = ["LookAhead"]

_AHEAD: Final = 4 * 1024  # what is taken in, of ciphertext and of what is in it


class LookAhead:
    """What one session has decrypted before it was asked for."""

    __slots__ = ("_lock", "_owed", "_session", "_sock")

    def __init__(self, session: kernel.Session, sock: Any, lock: RLock) -> None:
        """Begin with nothing.

        Args:
            session: What decrypts; it has what was decrypted.
            sock: The socket below it.
            lock: What guards OpenSSL.
        """
        self._session = session
        self._sock = sock
        self._lock = lock
        self._owed = 0  # bytes in the socket of which OpenSSL has a copy; 0 with nothing ahead

    def peek(
        self,
        size: int,
        peek: Callable[[int], bytes | None],
        decrypt: Callable[[bytearray], bool],
    ) -> bytes | None:
        """As `Transport.peek`, decrypted.

        Args:
            size: The most bytes.
            peek: Looks at the ciphertext.
            decrypt: Decrypts what OpenSSL has into a buffer; whether the stream ends there.
        """
        session = self._session
        if session.ahead is None and session.unread and self._look(decrypt):
            return b""
        if session.ahead is None:
            data = peek(_AHEAD)
            if not data:
                return data
            with self._lock:
                # Stored in the step in which it comes: see above TLSTransport.receive.
                for self._owed in map(session.incoming.write, (data,)):
                    session.unread = True
                    break
            session.barren += self._owed
            if self._look(decrypt):
                return b""
        return None if session.ahead is None else bytes(session.ahead[:size])

    def _look(self, decrypt: Callable[[bytearray], bool]) -> bool:
        """Decrypt what comes next, and keep it; whether the stream ends here."""
        session, room = self._session, bytearray(_AHEAD)
        try:
            ended = decrypt(room)
            count, session.decrypted = session.decrypted, 0
            session.ahead = memoryview(room)[:count] if count else None
        except BaseException:
            if session.decrypted:  # lost with the room
                session.decrypted, session.in_doubt = 0, True
            raise
        if session.ahead is None:
            self._repay()
        return ended

    def take(self, buffer: bytearray | memoryview) -> int:
        """Read what was decrypted."""
        session = self._session
        ahead = session.ahead
        assert ahead is not None
        count, rest = min(len(buffer), len(ahead)), ahead[len(buffer) :]
        buffer[:count] = ahead[:count]
        if not rest:
            self._repay()
        # No call from here on: a signal handler cannot come between taking and telling.
        session.ahead = rest if rest else None
        return count

    def _repay(self) -> None:
        """Take out of the socket what OpenSSL has a copy of."""
        try:
            for _ in map(self._sock.recv, (self._owed,), READ_AT_ONCE) if self._owed else ():
                self._owed = 0
                break
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            self._owed = 0  # reset: nothing lies there any more
