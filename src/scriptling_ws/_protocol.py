"""One connection's incoming side, without I/O: from received bytes to messages.

Rules (RFC 6455 sections 5 to 8):

- Mostly whole messages come and nothing else: the kernel receives and reads them in one
  step (`receive_run`). Otherwise bytes are received into `space()`, counted in
  `unfed`, and fed (`feed_run`); the rest of this file is what the kernel stops at: control
  frames, fragments, frames that are not complete yet, errors.
- What stays in the window between two calls is less than a header and a control
  frame, always at its front. An incomplete message is moved out of it: a large
  frame into a buffer of its announced size, received into directly; anything
  else into one growing bytearray.
- A length is checked against the limit before memory is taken for it.
- Text is checked as it arrives, so that an error shows at the first bad byte.
- After an error, a close frame or the end of the stream, bytes are dropped.
- An error behind messages that nobody has taken so far is put off once: who takes them
  can still answer, as if it had come a moment later (6.2: messages come in their order).
- What has to be sent in answer is put in `outbox`, in order.

Not thread-safe, and no clock, socket or lock in here: the connection has them.
"""

from __future__ import annotations

from codecs import utf_8_decode
from collections import deque
from itertools import starmap
from typing import TYPE_CHECKING, Final

from . import _frame
from ._control import CLOSE, PING, PONG, Control

if TYPE_CHECKING:
    from collections.abc import Callable

    from wsproto.connection import Connection as WSProtoConnection

__all__ = ["BINARY", "TEXT", "Message", "Protocol"]

Message = str | bytes | list[int]

CONTINUATION: Final = 0
TEXT: Final = 1
BINARY: Final = 2

_FIN: Final = 0x80
_RSV: Final = 0x70
_SMALLEST_WINDOW: Final = 4 * 1024
_LARGEST_WINDOW: Final = 256 * 1024
# A frame above this is received into its own buffer. Below it, the window takes
# several frames in one system call, which saves more than the copy costs.
_LARGE: Final = 128 * 1024
_MAX_OUTBOX: Final = 256
_NO_LIMIT: Final = 2**63 - 1
_ANY_NUMBER: Final = 2**31 - 1
_BAD_TEXT: Final = "a text message is not UTF-8"


class _Violation(Exception):  # turned into a close frame, never raised to a caller
    """What the peer did wrong, and the status code for it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class _Frame:
    """A frame that is not complete, whose payload goes on being received."""

    __slots__ = ("fin", "key", "left", "offset", "owner", "view")

    def __init__(self, fin: bool, length: int, key: bytes | None) -> None:
        self.fin = fin
        self.left = length  # bytes still to come
        self.offset = 0  # bytes that have come
        self.key = key
        # Only for a large frame that is a whole message: room for all of it.
        self.owner: bytes | bytearray | None = None
        self.view: memoryview | None = None

    def unmask(self, piece: memoryview) -> None:
        """Take note of a received piece, and unmask it where it lies."""
        if self.key is not None:
            _frame.mask_in_place(piece, self.key, self.offset)
        self.offset += len(piece)
        self.left -= len(piece)


class Protocol:
    """The incoming side of one connection, and what it has to answer.

    Attributes:
        ready: The messages that have come, oldest first.
        outbox: Control frames to send, oldest first.
        control: The control plane.
        ended: Whether no further message can come.
        plain: Whether a frame starts with the next byte, and goes to the window's front.
        unfed: How many bytes were received into `space()`, but not fed yet; None for none.
    """

    __slots__ = (
        "_as_list",
        "_checked",
        "_discarding",
        "_dropping",
        "_fragments",
        "_frame",
        "_have",
        "_into_frame",
        "_limit",
        "_masked",
        "_max_fragments",
        "_message",
        "_note",
        "_opcode",
        "_parsing",
        "_stopped",
        "_violation",
        "_window",
        "control",
        "ended",
        "outbox",
        "plain",
        "ready",
        "unfed",
    )

    def __init__(
        self,
        ws: WSProtoConnection,
        *,
        client: bool,
        as_list: bool,
        max_message_size: int | None,
        max_fragments: int,
    ) -> None:
        """Start with an open connection.

        Args:
            ws: wsproto's connection, after the opening handshake.
            client: Whether this end is the client: its peer does not mask.
            as_list: Whether binary messages come out as lists of ints, else bytes.
            max_message_size: The most bytes of payload in a message, None for no limit.
            max_fragments: The most frames in a message.
        """
        self.control = Control(ws)
        self.ready: deque[Message] = deque()
        self.outbox: deque[bytes] = deque()
        self.ended = False
        self.unfed: int | None = None
        self.plain = True
        self._discarding = False
        self._dropping = False
        self._masked = not client
        self._as_list = as_list
        self._limit = _NO_LIMIT if max_message_size is None else max_message_size
        self._max_fragments = max_fragments
        self._window = bytearray(_SMALLEST_WINDOW)
        self._have = 0  # received bytes at the window's front
        self._parsing = False  # inside feed_rest, or cut short in there, or put off
        self._violation: _Violation | None = None  # the one that was put off
        self._stopped: tuple[int, int, int] | None = None  # where the kernel left off, and why
        self._note: list[int] = []  # what receive_run has left to do: see the kernel
        self._frame: _Frame | None = None
        self._into_frame = False  # whether space() gave out the frame's own buffer
        self._opcode = CONTINUATION  # of the unfinished message, if there is one
        self._message = bytearray()  # what has come of it
        self._fragments = 0  # the frames it has
        self._checked = 0  # how far its text is known to be UTF-8

    # -- receiving ---------------------------------------------------------

    def space(self) -> bytearray | memoryview:
        """Where to receive into; valid until the next call of any method."""
        frame = self._frame
        if frame is not None and frame.view is not None and frame.left > _SMALLEST_WINDOW:
            self._into_frame = True
            return frame.view[frame.offset :]
        self._into_frame = False
        return memoryview(self._window)[self._have :] if self._have else self._window

    def receive_run(self, receive: Callable[[bytearray], int | None]) -> bool:
        """Receive once, if what comes is likely to be whole messages.

        Leaves the control plane alone, so that no lock is needed for that.

        Args:
            receive: As the kernel's receive_messages takes it.

        Returns:
            Whether messages came and nothing else. If not, receive into `space()` unless
            `unfed` says that it was done.

        Raises:
            OSError: what `receive` raises.
        """
        if not self.plain:
            return False
        note = self._note
        if _frame.receive_messages(
            receive, self._window, self._masked, self._as_list, self._limit, self.ready, note
        ):
            return True
        if note:
            self.plain = self._into_frame = False
            self.unfed = note[0]
            if len(note) > 1:
                self._stopped = (note[1], note[0], note[2])
            note.clear()
        return False

    def feed_run(self) -> bool:
        """Take in `unfed` bytes if they are whole messages and no more, as most are.

        Leaves the control plane alone, so that no lock is needed for that.

        Returns:
            Whether all was taken in. If not, call `feed_rest`.
        """
        if self.unfed is None or self._parsing or self._into_frame:
            return False
        if self._frame is not None or self._opcode != CONTINUATION or self.ended:
            return False
        if self._stopped is None:
            self.plain = False
            window, end = self._window, self._have + self.unfed
            messages: list[Message] = []
            arguments = (
                *(window, 0, end, self._masked, self._as_list, self._limit, _ANY_NUMBER),
                messages,
            )
            # Unpacked, as in Transport.read_into: what was read is noted in the same step.
            # No call in these lines, so no signal handler runs between them.
            ((position, why),) = starmap(_frame.read_messages, (arguments,))
            self._stopped = (position, end, why)
            if not self._discarding:
                self.ready += messages
        position, end, why = self._stopped
        if why != _frame.MORE:
            return False
        self._keep(position, end)
        self._note_plain()
        return True

    def feed_rest(self) -> None:
        """Take in what `feed_run` could not."""
        stopped, self._stopped = self._stopped, None
        if self._violation is not None:
            self.fail(self._violation.code, str(self._violation))
        elif self._parsing:
            # A signal handler's exception, or a MemoryError, has cut the last call
            # short: where in the stream this is cannot be known any more.
            self.fail(1011, "an exception interrupted the reading of a message")
        self._parsing = True
        count, self.unfed = self.unfed or 0, None
        try:
            if stopped is not None:
                self._resume(*stopped)
            elif self._into_frame and self._frame is not None:
                self._take_received(self._frame, count)
            elif not self.ended:
                self._read_window(0, self._have + count)
        except _Violation as violation:
            if self.ready:
                self._violation = violation
                self.unfed = 1  # so that the next call comes before more is received
                return
            self.fail(violation.code, str(violation))
        self._parsing = False
        self._note_plain()

    def _note_plain(self) -> None:
        """Whether the next bytes start a frame, at the window's front."""
        self.plain = not (
            self._have or self._discarding or self.ended or self._opcode or self._frame
        )

    def _resume(self, position: int, end: int, why: int) -> None:
        """Go on where the kernel stopped in `feed_run`."""
        if why == _frame.BAD_TEXT:
            raise _Violation(1007, _BAD_TEXT)
        self._read_window(position, end, run=False)

    def feed(self, count: int) -> None:
        """Take in `count` bytes that were received into the last `space()`."""
        self.unfed = count
        if not self.feed_run():
            self.feed_rest()

    def feed_bytes(self, data: bytes) -> None:
        """Take in bytes that were received elsewhere, such as those behind the handshake."""
        rest = memoryview(data)
        while rest and not self.ended and self._violation is None:
            space = memoryview(self.space())
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            self.feed(count)
            rest = rest[count:]

    def end(self) -> None:
        """The stream has ended: no byte will come any more."""
        self.control.end()
        self._stop()

    def relax(self) -> None:
        """Give back memory, before a long wait."""
        if len(self._window) > _SMALLEST_WINDOW and self._have < _SMALLEST_WINDOW:
            self._window = self._window[: self._have].ljust(_SMALLEST_WINDOW, b"\0")

    def discard(self, *, keep_ready: bool) -> None:
        """Drop the messages that still come, and unless `keep_ready` those that have."""
        self._discarding = True
        self.plain = False
        self._dropping = self._dropping or not keep_ready
        self.drop_late()

    def drop_late(self) -> None:
        """Drop the messages that `receive_run` has brought while `discard` was called."""
        if self._dropping:
            self.ready.clear()

    def drop_stale_pongs(self) -> None:
        """Of the pongs that could not be sent, keep the newest (RFC 6455 section 5.5.3)."""
        newest = next((item for item in reversed(self.outbox) if _is_pong(item)), None)
        kept = [item for item in self.outbox if item is newest or not _is_pong(item)]
        self.outbox.clear()
        self.outbox.extend(kept)

    # -- parsing -----------------------------------------------------------

    def _read_window(self, position: int, end: int, *, run: bool = True) -> None:
        """Parse the window from `position` to `end`; keep what is left at its front.

        Args:
            position: Where to start.
            end: Where the received bytes end.
            run: Whether a run of messages may start here; else the kernel has stopped here.
        """
        try:
            while not self.ended:
                if self._frame is not None:
                    position = self._continue_frame(self._frame, position, end)
                    if self._frame is not None:
                        break  # the window is used up
                if run and self._opcode == CONTINUATION:  # between messages
                    position, why = self._read_run(position, end)
                    if why == _frame.MORE:
                        break
                run = True
                after = self._read_special(position, end)
                if after is None:
                    break
                position = after
        finally:
            self._keep(position, end)

    def _read_run(self, position: int, end: int) -> tuple[int, int]:
        """Read the run of whole messages at `position`."""
        messages: list[Message] = []
        position, why = _frame.read_messages(
            self._window,
            position,
            end,
            self._masked,
            self._as_list,
            self._limit,
            _ANY_NUMBER,
            messages,
        )
        if not self._discarding:
            self.ready.extend(messages)
        if why == _frame.BAD_TEXT:
            raise _Violation(1007, _BAD_TEXT)
        return position, why

    def _read_special(self, position: int, end: int) -> int | None:
        """Read one frame that is not a whole message.

        Returns:
            Where the next frame starts, or `end` with `_frame` set; None if more
            bytes are needed first.
        """
        try:
            header = _frame.parse_header(self._window, position, end)
        except ValueError as error:
            raise _Violation(1002, str(error)) from error
        if header is None:
            return None
        first, length, payload, key = header
        self._check_header(first, length, key)
        opcode = first & 0x0F
        if opcode < CLOSE:
            self._begin_frame(opcode, bool(first & _FIN), length, key)
            assert self._frame is not None
            return self._continue_frame(self._frame, payload, end)
        if end - payload < length:
            return None
        data = bytes(self._window[payload : payload + length])
        self._take_control(opcode, _frame.apply_mask(data, key) if key else data, key)
        return payload + length

    def _check_header(self, first: int, length: int, key: bytes | None) -> None:
        opcode = first & 0x0F
        if first & _RSV:
            raise _Violation(1002, "a reserved bit is set")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise _Violation(1002, f"unknown opcode {opcode}")
        if (key is not None) is not self._masked:
            raise _Violation(1002, f"a frame is {'not ' if self._masked else ''}masked")
        if opcode >= CLOSE:
            if not first & _FIN or length > 125:
                raise _Violation(1002, "a control frame is fragmented or over 125 bytes")
            return
        if opcode == CONTINUATION and self._opcode == CONTINUATION:
            raise _Violation(1002, "a continuation without a message")
        if opcode != CONTINUATION and self._opcode != CONTINUATION:
            raise _Violation(1002, "a new message inside a fragmented one")
        if length > self._limit - len(self._message):
            raise _Violation(1009, f"a message is over the limit of {self._limit} bytes")

    def _take_control(self, opcode: int, payload: bytes, key: bytes | None) -> None:
        reply = self.control.receive(opcode, payload, key)
        if reply:
            if len(self.outbox) >= _MAX_OUTBOX:  # one window may hold 100,000 pings
                self.drop_stale_pongs()
            self.outbox.append(reply)
        if opcode == CLOSE or self.control.error is not None:
            self._stop()

    # -- messages of more than one piece -----------------------------------

    def _begin_frame(self, opcode: int, fin: bool, length: int, key: bytes | None) -> None:
        frame = _Frame(fin, length, key)
        if opcode != CONTINUATION:
            self._opcode = opcode
            if fin and length > _LARGE:
                try:
                    frame.owner, frame.view = _frame.allocate(length)
                except (MemoryError, OverflowError) as error:
                    raise _Violation(1009, "there is no memory for the message") from error
        self._fragments += 1
        if self._fragments > self._max_fragments:
            raise _Violation(1008, f"a message has more than {self._max_fragments} fragments")
        self._frame = frame

    def _continue_frame(self, frame: _Frame, position: int, end: int) -> int:
        """Take the frame's payload, as far as it is in the window; returns where that ends."""
        stop = min(position + frame.left, end)
        with memoryview(self._window) as window, window[position:stop] as piece:
            if frame.view is not None:
                room = frame.view[frame.offset : frame.offset + len(piece)]
                room[:] = piece
                self._take_large(frame, room)
                return stop
            frame.unmask(piece)
            self._message += piece
        if frame.left:
            self._check_text(self._message, len(self._message))
        else:
            self._frame = None
            if frame.fin:
                self._deliver(self._message)
            else:
                self._check_text(self._message, len(self._message))
        return stop

    def _take_received(self, frame: _Frame, count: int) -> None:
        """Take `count` bytes that were received into a large frame's own buffer."""
        assert frame.view is not None
        self._take_large(frame, frame.view[frame.offset : frame.offset + count])

    def _take_large(self, frame: _Frame, piece: memoryview) -> None:
        """Take a piece of a large frame that lies in the frame's own buffer."""
        frame.unmask(piece)
        assert frame.owner is not None
        assert frame.view is not None
        if frame.left:
            self._check_text(frame.view, frame.offset)
            return
        self._frame = None
        piece.release()
        if self._opcode == BINARY and not self._as_list:
            frame.view.release()
            self._deliver(_frame.seal(frame.owner))
        else:
            self._deliver(frame.view)

    def _check_text(self, data: bytearray | memoryview, end: int) -> None:
        """Check the text that has come so far, save for a character cut at its end."""
        if self._opcode != TEXT:
            return
        with memoryview(data) as whole, whole[self._checked : end] as part:
            try:
                _, used = utf_8_decode(part, "strict", False)
            except UnicodeDecodeError as error:
                raise _Violation(1007, _BAD_TEXT) from error
        self._checked += used

    def _deliver(self, payload: bytes | bytearray | memoryview) -> None:
        """A message is complete."""
        opcode = self._opcode
        self._forget_message()
        if self._discarding:
            return
        if opcode == TEXT:
            try:
                self.ready.append(str(payload, "utf-8"))
            except UnicodeDecodeError as error:
                raise _Violation(1007, _BAD_TEXT) from error
        elif self._as_list:
            self.ready.append(_frame.bytes_to_list(payload))
        else:
            self.ready.append(bytes(payload))  # no copy of what already is bytes

    def _forget_message(self) -> None:
        self._message = bytearray()
        self._opcode = CONTINUATION
        self._fragments = 0
        self._checked = 0

    # -- the window's end, and the connection's ------------------------------

    def _keep(self, position: int, end: int) -> None:
        """Move what was not parsed to the window's front, and fit the window's size."""
        window = self._window
        left = 0 if self.ended else end - position
        large = self._frame is not None and self._frame.view is not None
        if end == len(window) < _LARGEST_WINDOW and not (large or self.ended):
            # It was filled to the brim: more is waiting than it holds.
            larger = bytearray(4 * len(window))
            larger[:left] = window[position:end]
            self._window = larger
        elif position and left:
            window[:left] = window[position:end]
        # No call from the move to here: it is not done twice.
        self._have = left
        self._stopped = None
        self.unfed = None

    def fail(self, code: int, text: str) -> None:
        """Close the connection because of what the peer did.

        Args:
            code: The status code for the close frame.
            text: What was wrong, for the close frame and the error.
        """
        frame = self.control.fail(code, text)
        if frame:
            self.outbox.append(frame)
        self._stop()

    def _stop(self) -> None:
        """Nothing that comes from now on matters."""
        self.ended = True
        self._frame = None
        self._forget_message()
        self._window = bytearray(_SMALLEST_WINDOW)
        self._have = 0
        self._stopped = None
        self.unfed = None


def _is_pong(item: bytes) -> bool:
    return item[:1] == b"\x8a"
