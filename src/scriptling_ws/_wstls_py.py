"""A TLS session between two memory buffers, in pure Python: what its transport keeps of it.

The contract is `_wsframe.pyi`, as for `_wsframe_py`. No channel goes by this one: the channel in
Python calls the transport's methods, which do all that the compiled kernel does in one step.

Rules:

- `for result in map(function, ...): break` stores a result in the step in which it comes: a signal
  handler that raises makes nothing forgotten.
"""

from __future__ import annotations

from typing import Any, Final

__all__ = ["Session"]

_MOST: Final = 2**30  # more than OpenSSL reads at once
_RECORD: Final = 16_384  # less than this of ciphertext may be half of a record


class Session:
    """A TLS session between two memory buffers; see the contract."""

    __slots__ = (
        "_least",
        "_most",
        "ahead",
        "answering",
        "barren",
        "cipher",
        "decrypted",
        "draining",
        "fault",
        "in_doubt",
        "incoming",
        "lock",
        "more",
        "outgoing",
        "read_error",
        "received",
        "ssl",
        "unread",
        "unsent",
    )

    def __init__(
        self,
        ssl: Any,
        incoming: Any,
        outgoing: Any,
        lock: Any,
        *,
        least: int,
        most: int,
        want_read: type[Exception],  # noqa: ARG002 - what a channel would catch
        error: type[Exception],  # noqa: ARG002
    ) -> None:
        """Share what OpenSSL works on."""
        self.ssl = ssl
        self.incoming = incoming
        self.outgoing = outgoing
        self.lock = lock
        self._least = least
        self._most = most
        self.cipher = bytearray(least)
        self.received: int | None = None
        self.decrypted = 0
        self.barren = 0
        self.in_doubt = False
        self.more = False
        self.unread = True
        self.draining = False
        self.fault: Any = None
        self.read_error: Any = None
        self.ahead: memoryview | None = None
        self.unsent = b""
        self.answering = False

    def take_in(self, received: int, /) -> None:
        """Hand the ciphertext that was received to OpenSSL. Holds the lock."""
        if received:
            for _ in map(self.incoming.write, (memoryview(self.cipher)[:received],)):
                self.received = None
                break
            self.barren += received
            self.more = received == len(self.cipher)
            if self.more and received < self._most:
                self.cipher = bytearray(self._most)
        else:
            self.incoming.write_eof()
            self.received = None
            self.more = False

    def read_records(self, buffer: bytearray | memoryview, /) -> bool:
        """Decrypt all records that fit; whether the stream ends here. Holds the lock."""
        view: memoryview | None = None
        rest = memoryview(buffer)[self.decrypted :] if self.decrypted else buffer
        while True:
            # `read` itself runs signal handlers, its work done but not counted: should
            # one raise, how much was read is not known.
            self.in_doubt = True
            count = self.ssl.read(_MOST, rest)
            self.decrypted += count
            self.in_doubt = False
            self.barren = 0
            if not count:  # close_notify
                self.more = False
                return not self.decrypted
            # Asked first, because an exception costs more than a small record.
            left, full = self.incoming.pending, count == len(rest)
            if not left and not (full and self.ssl.pending()):
                self.unread = self.incoming.eof
                return False
            if full or (left < _RECORD and self.more):  # pragma: no mutate - it saves time alone
                return False  # no room; or most likely half a record, of which more is there
            view = view or memoryview(buffer)
            rest = view[self.decrypted :]

    def relax(self) -> None:
        """Let go of a large buffer, if nothing is in it."""
        if len(self.cipher) > self._least and self.received is None:
            self.cipher = bytearray(self._least)
