"""A response on its way to its peer, by steps that do not block.

Rules:

- Nothing of it is a thread's own: its request's thread makes it and writes what can be written
  at once; the acceptor writes the rest, so that a peer that reads slowly costs a descriptor and
  a piece of memory, not a thread.
- The beginning of a file is read before the head leaves: a file that cannot be read is a 500.
- The acceptor reads only what cannot wait for anybody: a regular file, or bytes in memory, and
  only by the file types of `io` themselves, so that no code of the program runs there. A disk
  may make it wait, for one piece of PIECE bytes; servers that serve files by one thread do the
  same. Any other file (a pipe, a file with a `read` of its own) is read, and its response
  written, by the request's own thread (`portable` is False).
- A file that others may still use is read by position (pread): a child that is forked meanwhile
  finds no lock of it taken.
- A peer has to take LEAST bytes in each PERIOD, or the rest, or it is given up. What
  its kernel has acknowledged counts, where that is known: this end's kernel may take nothing
  for minutes, and then much.
- The file is closed in every case.
"""

from __future__ import annotations

import functools
import io
import logging
import os
import stat
from typing import TYPE_CHECKING, Any, Final

from .._network.deadline import Deadline
from .._network.transport import write_rest
from .._network.waiting import engine
from .http import Manner, render

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._network.transport import Transport
    from .persistence import Sequel
    from .response import Response

__all__ = ["LEAST", "PERIOD", "PIECE", "TOO_SLOW", "BrokenOff", "Delivery"]

PIECE: Final = 64 * 1024
"""How much of a file or a body is read, and kept in memory, at a time."""

PERIOD: Final = 60.0
"""The seconds in which a peer has to take LEAST bytes of a response."""

LEAST: Final = 64 * 1024
"""The bytes that a peer has to take in each PERIOD, unless fewer are left."""

TOO_SLOW: Final = f"the peer takes less than {LEAST} bytes in {PERIOD:.0f} s"
"""Why a peer is given up, for the log."""

_PLAIN: Final = Manner()

_logger = logging.getLogger("scriptling_ws.server")

_pread: Final[Callable[[int, int, int], bytes] | None] = getattr(os, "pread", None)
_FILES: Final = (io.BufferedReader, io.BufferedRandom)


class BrokenOff(Exception):  # what is wrong with a response of which some has left
    """A response's file failed, or became shorter: its peer cannot be told but by the end."""


class Delivery:
    """One response and where it goes. One thread at a time has it.

    Attributes:
        transport: Where it goes.
        status: The response's status.
        portable: Whether any thread may write it, the acceptor's too.
        held: The bytes that it holds in memory, unless they are few.
        size: The bytes of its body.
        deadline: When its peer has to have taken LEAST bytes; see `begin`.
        sequel: How the connection goes on after it; None if it ends.
    """

    __slots__ = (
        "_acknowledged",
        "_before",
        "_file",
        "_left",
        "_outgoing",
        "_read",
        "_taken",
        "deadline",
        "held",
        "portable",
        "sequel",
        "size",
        "status",
        "transport",
    )

    def __init__(
        self,
        transport: Transport,
        response: Response,
        *,
        head_only: bool,
        manner: Manner = _PLAIN,
        sequel: Sequel | None = None,
    ) -> None:
        """Get ready to write; reads the beginning of a file, which may block.

        Args:
            transport: Where to.
            response: The response; its file is closed if this raises, and by `close`.
            head_only: Leave the body out, as the answer to HEAD does.
            manner: How it goes out.
            sequel: How the connection goes on after it; None if it ends.

        Raises:
            BrokenOff: the file has nothing, or not what a file has.
            Exception: what the file raises.
        """
        self.transport = transport
        self.status = response.status
        self.deadline = Deadline(PERIOD)
        self._file = response.file
        self._taken = self._before = self._acknowledged = 0
        self._left = 0
        self.portable = True
        self.held = 0
        try:
            keep = None if sequel is None else sequel.timeout
            self.sequel = None if keep is None else sequel
            head = render(response, head_only=True, keep=keep, manner=manner)
            self._outgoing = memoryview(head)
            if not head_only:
                self._open(response)
            self.size = self._left
            if self._left:
                self._outgoing = memoryview(b"".join((head, self._next_piece())))
            else:
                self.close()  # here, as that may be the program's code
        except BaseException:
            self.close()
            raise

    def _open(self, response: Response) -> None:
        file: Any = response.file
        if file is None:
            file, left = io.BytesIO(response.body), len(response.body)
        else:
            left = response.length
        if not left:
            return
        read = _reader(file)
        self.portable = read is not None
        self._read: Callable[[int], bytes] = read or file.read
        self._left = left
        if type(file) is io.BytesIO and left > PIECE:
            self.held = left

    def _next_piece(self) -> memoryview:
        piece = memoryview(self._read(min(self._left, PIECE))).cast("B")[: self._left]
        if not piece:
            # The length was announced: all that is left is to break off.
            raise BrokenOff("its file is shorter than was announced")
        self._left -= len(piece)
        return piece

    def begin(self) -> None:
        """Begin a period: from now on the peer has PERIOD seconds for LEAST bytes."""
        self.deadline = Deadline(PERIOD)
        self._before = self._taken
        pulse = self.transport.pulse()
        self._acknowledged = 0 if pulse is None else pulse.acknowledged

    def renew(self) -> bool:
        """The deadline has passed: begin another period if the peer has taken enough in this."""
        pulse = self.transport.pulse()
        taken = self._taken - self._before
        if pulse is not None:
            taken = max(taken, pulse.acknowledged - self._acknowledged)
        if taken < LEAST:
            return False
        self.begin()
        return True

    def advance(self, most: int) -> bool:
        """Write what can be written at once, but no more than about `most` bytes.

        Returns:
            Whether all of it has left. If not, call again once the transport is writable.

        Raises:
            BrokenOff: the file failed, or became shorter.
            OSError: the connection is broken.
        """
        while most > 0:
            size = len(self._outgoing)
            self._outgoing, done = write_rest(self.transport, self._outgoing)
            count = size - len(self._outgoing)
            self._taken += count
            most -= count
            if self._outgoing or not self._left:
                return done
            try:
                self._outgoing = self._next_piece()
            except BrokenOff:
                raise
            except Exception as error:
                raise BrokenOff(f"its file cannot be read: {error}") from error
            if not self.portable:
                self.begin()  # the time that the file has taken is not the peer's
        return False

    def write(self) -> None:
        """Write all of it. Blocks: for the thread of the request.

        Raises:
            TimeoutError: the peer takes less than it has to.
            BrokenOff: the file failed, or became shorter.
            OSError: the connection is broken.
        """
        self.begin()
        while not self.advance(PIECE):
            if self.deadline.passed() and not self.renew():
                raise TimeoutError(TOO_SLOW)
            self.transport.wait(read=False, write=True, deadline=self.deadline)

    def close(self) -> None:
        """Close the file. Called again, it does nothing."""
        file, self._file = self._file, None
        self._left = 0
        if file is not None:
            try:
                file.close()
            except Exception:
                _logger.warning("the file of a response could not be closed", exc_info=True)


class _ByPosition:
    """Reads a regular file from where it stands, without moving it."""

    __slots__ = ("_file", "_position")

    def __init__(self, file: io.FileIO, position: int) -> None:
        self._file = file
        self._position = position

    def read(self, size: int) -> bytes:
        assert _pread is not None
        # Asked for the number each time: once the program has closed the file, it is another's.
        read = functools.partial(_pread, self._file.fileno(), size, self._position)
        data = engine().blocking(read)
        self._position += len(data)
        return data


def _reader(file: Any) -> Callable[[int], bytes] | None:
    """How any thread may read a file; None where that could wait, or run the program's code."""
    if type(file) is io.BytesIO:
        return file.read
    raw = file.raw if type(file) in _FILES else file
    if type(raw) is not io.FileIO or not stat.S_ISREG(os.fstat(raw.fileno()).st_mode):
        return None
    if _pread is None:  # pragma: no cover - Windows, which has no fork either
        return lambda size: engine().blocking(lambda: bytes(file.read(size)))
    file.flush()  # what was written into a BufferedRandom
    return _ByPosition(raw, file.tell()).read
