"""A message that does not come in one piece: fragments, and frames cut by the window's end.

Rules (RFC 6455 sections 5.4, 8.1):

- All of the message goes into one room (see _wsframe.pyi), straight from the window, and
  the room becomes the message: no second copy of it is made, nor are its pieces kept.
- A large frame that is a whole message gets a room of its announced size, which is
  received into directly; any other message's room grows with what has come.
- Fragments that lie complete in the window are read by the kernel, in runs. It makes the
  checks that the protocol makes of a frame's header, and leaves to the protocol what
  does not pass them.
- Text is checked as it arrives, save for a character that is cut at its end.
- A message that somebody streams is taken out again as it comes (`drain`): the room holds what
  has come since. The limits are on the whole of it all the same.

Lengths and limits were checked before anything gets here. No I/O, and not thread-safe.
"""

from __future__ import annotations

from codecs import utf_8_decode
from typing import Final

from .. import _kernel as kernel
from .._codes import CloseCode
from .._errors import Violation
from .opcodes import BINARY, CONTINUATION, TEXT

__all__ = [
    "NOT_UTF_8",
    "Assembly",
    "Frame",
    "Message",
]

Message = str | bytes | list[int]

NOT_UTF_8: Final = "a text message is not UTF-8"

# A frame above this is received into its own room. Below it, the window takes
# several frames in one system call, which saves more than the copy costs.
_LARGE: Final = 128 * 1024


class Frame:
    """A frame that is not complete, whose payload goes on being received."""

    __slots__ = ("fin", "key", "left", "offset")

    def __init__(self, fin: bool, length: int, key: bytes | None) -> None:
        self.fin = fin
        self.key = key
        self.left = length  # bytes still to come
        self.offset = 0  # bytes that have come


class Assembly:
    """The message that is being put together, if there is one.

    Attributes:
        opcode: The message's, TEXT or BINARY; CONTINUATION while there is none.
        frame: The frame of it that is not complete; None between two.
        size: How many bytes of it have come.
        complete: Whether that is all, for `finish`.
        view: Of a large frame's room, which is received into directly from `size` on.
        piecemeal: Whether it is taken out as it comes.
        dropped: Whether what is taken out is of no use any more.
    """

    __slots__ = (
        "_checked",
        "_drained",
        "_fragments",
        "_limit",
        "_masked",
        "_max_fragments",
        "_room",
        "complete",
        "dropped",
        "frame",
        "opcode",
        "piecemeal",
        "size",
        "view",
    )

    def __init__(self, masked: bool, limit: int, max_fragments: int) -> None:
        """Start without a message.

        Args:
            masked: Whether frames are masked.
            limit: The most bytes in a message.
            max_fragments: The most frames in a message.
        """
        self._masked = masked
        self._limit = limit
        self._max_fragments = max_fragments
        self.forget()

    def forget(self) -> None:
        """There is no message any more."""
        self.opcode = CONTINUATION
        self.frame: Frame | None = None
        self.size = 0
        self.complete = False
        self._room: list[bytes | bytearray] = []
        self.view: memoryview | None = None
        self._fragments = 0
        self._checked = 0  # how far its text is known to be UTF-8
        self._drained = 0  # bytes of it that were taken out
        self.piecemeal = self.dropped = False

    def begin(self, opcode: int, fin: bool, length: int, key: bytes | None) -> None:
        """Begin a frame of it; with another opcode than CONTINUATION, begin the message."""
        if opcode != CONTINUATION:
            self.opcode = opcode
            if fin and length > _LARGE and not self.piecemeal:
                self._reserve(length)
        self._fragments += 1
        if self._fragments > self._max_fragments:
            most = f"the {self._max_fragments} fragments of max_fragments"
            raise Violation(CloseCode.POLICY_VIOLATION, f"a message has more than {most}")
        self.frame = Frame(fin, length, key)

    def _reserve(self, size: int) -> None:
        """Get room for a whole message."""
        try:
            owner, self.view = kernel.allocate(size)
        except (MemoryError, OverflowError) as error:
            raise Violation.no_memory() from error
        self._room.append(owner)

    def counts(self) -> tuple[int, int, int | None]:
        """Of what has come of it: the frames, the bytes, and those while they were compressed.

        The last is None where they were not.
        """
        return self._fragments, self._drained + self.size, None

    @property
    def left(self) -> int:
        """How many bytes of payload the message may still have."""
        return self._limit - self._drained - self.size

    def take_direct(self, count: int) -> None:
        """Take `count` bytes that were received into `view`."""
        assert self.frame is not None
        self._note_direct(self.frame, count)
        self._check_text()

    def take(self, window: bytearray, position: int, end: int) -> int:
        """Take what lies at the window's front: the frame's payload, and whole fragments.

        Returns:
            Where what was taken ends: at `end`, or at a frame that the kernel leaves alone.
        """
        try:
            if self.frame is not None:
                position = self._take_payload(self.frame, window, position, end)
            if self.frame is None and not self.complete:
                position = self._take_fragments(window, position, end)
        except MemoryError as error:
            raise Violation.no_memory() from error
        self._check_text()
        return position

    def _take_payload(self, frame: Frame, window: bytearray, position: int, end: int) -> int:
        """Take the frame's payload, as far as it is in the window; returns where that ends."""
        stop = min(position + frame.left, end)
        count = stop - position
        if self.view is not None:
            with memoryview(window) as whole, whole[position:stop] as piece:
                self.view[self.size : self.size + count] = piece
            self._note_direct(frame, count)
        else:
            key, offset = frame.key, frame.offset
            kernel.read_payload(window, position, stop, key, offset, self._room, self.size)
            self._advance(frame, count)
        return stop

    def _note_direct(self, frame: Frame, count: int) -> None:
        """So many bytes more of a large frame lie in its room, masked as they came."""
        assert self.view is not None
        if frame.key is not None:
            with self.view[self.size : self.size + count] as piece:
                kernel.mask_in_place(piece, frame.key, frame.offset)
        self._advance(frame, count)

    def _advance(self, frame: Frame, count: int) -> None:
        """So many bytes of the frame's payload are in the room."""
        self.size += count
        frame.offset += count
        frame.left -= count
        if not frame.left:
            self.frame = None
            self.complete = frame.fin

    def _take_fragments(self, window: bytearray, position: int, end: int) -> int:
        """Take the run of whole fragments at `position`; returns where it ends."""
        position, self.size, count, self.complete = kernel.read_fragments(
            window,
            position,
            end,
            self._masked,
            self._limit - self._drained - self.size,
            self._max_fragments - self._fragments,
            self._room,
            self.size,
        )
        self._fragments += count
        return position

    @property
    def announced(self) -> int | None:
        """How many bytes the whole message has, if its only frame has said so."""
        frame = self.frame
        if frame is None or not frame.fin or self._fragments > 1:
            return None
        return frame.offset + frame.left

    def receive_into(self, room: memoryview) -> None:
        """Its only frame, which has begun, is received into the room."""
        self.view = room
        self._room = []

    def move_out(self, unnoted: int) -> None:
        """It goes on in a room of its own, with what has come in the one that was given.

        Args:
            unnoted: Bytes that have come there since, and were not taken in.
        """
        assert self.view is not None
        assert self.frame is not None
        given, count = self.view, self.size + unnoted
        self._reserve(self.size + self.frame.left)
        self.view[:count] = given[:count]
        given.release()

    def open_up(self) -> None:
        """From here on it is taken out as it comes."""
        if self.view is not None:
            room = bytearray(self.view[: self.size])
            self.view.release()
            self.view = None
            self._room = [room]
        self.piecemeal = True

    def drain(self, *, as_utf8: bool) -> bytes | str:
        """Take out what has come: of a text that goes on, as far as its characters are whole.

        Args:
            as_utf8: Whether text comes out as bytes, else str.
        """
        text = self.opcode == TEXT
        if text and as_utf8 and self.complete:
            self._check(more=False)
        count = self._checked if text and not self.complete else self.size
        piece = self._cut(count)
        self._drained += count
        self.size -= count
        self._checked = 0
        if not text or as_utf8:
            return piece
        try:
            return utf_8_decode(piece, "strict", True)[0]
        except UnicodeDecodeError as error:
            raise Violation(CloseCode.INVALID_DATA, NOT_UTF_8) from error

    def _cut(self, count: int) -> bytes:
        """The first so many bytes of the room, which keeps the others."""
        if count == self.size:
            return kernel.seal_room(self._room, count)
        with memoryview(self._room[0]) as room:
            piece, left = bytes(room[:count]), bytearray(room[count : self.size])
        self._room = [left]
        return piece

    def _check_text(self) -> None:
        """Check the text that has come so far; `finish` looks at a whole message."""
        if self.opcode != TEXT or self.complete or self._checked == self.size:
            return
        self._check(more=True)

    def _check(self, *, more: bool) -> None:
        """Check the text in the room; the end of its last character may still come."""
        if self._checked == self.size:
            return
        self._checked, cut = kernel.check_utf8(self._room[0], self._checked, self.size)
        if self._checked < self.size and not (cut and more):
            raise Violation(CloseCode.INVALID_DATA, NOT_UTF_8)

    def finish(self, *, as_list: bool, as_utf8: bool = False) -> Message:
        """The complete message; there is none any more.

        Args:
            as_list: Whether a binary message comes out as a list of ints, else bytes.
            as_utf8: Whether a text comes out as bytes, else str.
        """
        if self.opcode == TEXT and as_utf8:
            self._check(more=False)
        opcode, room, size = self.opcode, self._room, self.size
        if self.view is not None:
            self.view.release()
        self.forget()
        if (opcode == BINARY and not as_list) or (opcode == TEXT and as_utf8):
            return kernel.seal_room(room, size)
        with memoryview(room[0] if room else b"") as whole, whole[:size] as payload:
            if opcode == BINARY:
                return kernel.bytes_to_list(payload)
            try:
                return utf_8_decode(payload, "strict", True)[0]  # PyPy's str() takes surrogates
            except UnicodeDecodeError as error:
                raise Violation(CloseCode.INVALID_DATA, NOT_UTF_8) from error
