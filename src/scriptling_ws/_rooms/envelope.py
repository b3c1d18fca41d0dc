"""What goes from process to process for a message to a room, and how a loss of it is noticed.

Rules:

- An envelope names the process that has sent it, at random for each start of one; the message's
  number in that process and room; and the members that are not to get it, by numbers that mean
  something in that process alone.
- The numbers of one process come in order: one that was left out is a message that was missed, one
  that comes again is a message that came twice (it was published again after an error), and is
  not delivered again.
- It is read strictly, since others may publish on the same channel: what is no envelope is
  refused, and what it holds is checked as a peer's frame is.

Without I/O, and not thread-safe.
"""

from __future__ import annotations

import os
import struct
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from .._wire.opcodes import WHOLE_BINARY, WHOLE_TEXT
from .message import Message

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["Envelope", "History", "new_origin", "pack", "unpack"]

_HEAD: Final = struct.Struct("!2sB16sQI")  # mark, first byte, origin, sequence, how many excluded
_MARK: Final = b"r1"
_NUMBER: Final = 8  # bytes
_MOST_ORIGINS: Final = 1024  # processes that are remembered; those that were quiet longest go


class Envelope(NamedTuple):
    """A message, and where it comes from.

    Attributes:
        origin: The process.
        sequence: The message's number in it, from 1 on.
        excluded: The numbers of the origin's members that do not get it.
        message: The message.
    """

    origin: bytes
    sequence: int
    excluded: frozenset[int]
    message: Message


def new_origin() -> bytes:
    """A name for a process, which no other one has."""
    return os.urandom(16)


def pack(origin: bytes, sequence: int, excluded: Collection[int], message: Message) -> bytes:
    """Make an envelope's bytes."""
    head = _HEAD.pack(_MARK, message.first, origin, sequence, len(excluded))
    return b"".join((head, struct.pack(f"!{len(excluded)}Q", *excluded), message.payload))


def unpack(data: bytes) -> Envelope:
    """Read an envelope.

    Raises:
        ValueError: it is none.
    """
    try:
        mark, first, origin, sequence, count = _HEAD.unpack_from(data)
        start = _HEAD.size + count * _NUMBER
        excluded = struct.unpack(f"!{count}Q", data[_HEAD.size : start])
    except struct.error as error:
        raise ValueError("it is too short") from error
    payload = bytes(data[start:])
    if mark != _MARK or first not in (WHOLE_TEXT, WHOLE_BINARY):
        raise ValueError("it has another form")
    if first == WHOLE_TEXT:
        payload.decode("utf-8")  # a UnicodeDecodeError is a ValueError
    return Envelope(origin, sequence, frozenset(excluded), Message(first, payload))


class History:
    """The last number that has come of each process.

    Attributes:
        missed: How many messages have not come.
    """

    __slots__ = ("_last", "missed")

    def __init__(self) -> None:
        self._last: OrderedDict[bytes, int] = OrderedDict()
        self.missed = 0

    def is_new(self, origin: bytes, sequence: int) -> bool:
        """Take note of a number; whether it had not come before."""
        last = self._last.pop(origin, None)
        if last is not None and sequence <= last:
            self._last[origin] = last
            return False
        if last is not None:
            self.missed += sequence - last - 1
        elif len(self._last) >= _MOST_ORIGINS:
            self._last.popitem(last=False)
        self._last[origin] = sequence
        return True

    def forget(self) -> None:
        """Nobody has listened for a while, on purpose: what came meanwhile was not missed."""
        self._last.clear()
