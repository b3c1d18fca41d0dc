"""One connection's incoming side, without I/O: from received bytes to messages.

Rules (RFC 6455 sections 5 to 8):

- Mostly whole messages come and nothing else: the kernel's channel receives and reads them in
  one step. Otherwise bytes are received into `space()`, counted in `window.unfed`, and fed
  (`feed_run`); the rest of this file is what the kernel stops at: control frames, fragments,
  frames that are not complete yet, errors.
- What stays in the window between two calls is less than a header and a control
  frame, always at its front. An incomplete message is moved out of it (`assembly`).
- A length is checked against the limit before memory is taken for it.
- Text is checked as it arrives, so that an error shows at the first bad byte.
- After an error, a close frame or the end of the stream, bytes are dropped.
- An error behind messages that nobody has taken so far is put off once: who takes them
  can still answer, as if it had come a moment later (6.2: messages come in their order).
- What has to be sent in answer is put in `outbox`, in order.
- Messages that nobody has asked for yet are held as they came (`hold`), and become lists of ints,
  which take eight times as much memory, when they are received (`release`).
- While somebody streams (`streamed`), one message is given out as it comes, and those that come
  behind it are held.

Not thread-safe, and no clock, socket or lock in here: the connection has them.
"""

from __future__ import annotations

import contextlib
from collections import deque
from itertools import repeat, starmap
from typing import TYPE_CHECKING, Any, Final

from .. import _kernel as kernel
from .._codes import CloseCode
from .._errors import Violation
from .assembly import NOT_UTF_8, Assembly, Message
from .control import Control
from .inflation import Inflation
from .opcodes import (
    BINARY,
    CLOSE,
    COMPRESSED,
    CONTINUATION,
    FIN,
    MOST_CONTROL,
    PING,
    PONG,
    RESERVED,
    TEXT,
)

if TYPE_CHECKING:
    from wsproto.connection import Connection as WSProtoConnection

    from .._handshakes.terms import Terms
    from .piecemeal import Piecemeal

__all__ = ["Message", "Protocol"]

_WHOLE_PONG: Final = bytes([FIN | PONG])
_SMALLEST_WINDOW: Final = 1024  # an idle connection keeps it
_WORTHWHILE: Final = 4 * 1024  # bytes of a large frame that are received into its own room
_LARGEST_WINDOW: Final = 256 * 1024
_BURST: Final = 256  # answers, beside those that may be pending, between two attempts to send
# What is in the window may become a thousand times as much, and all of it has to go somewhere.
_LARGEST_DEFLATED: Final = 8 * 1024
_AT_A_TIME: Final = 64 * 1024  # bytes that are held, of which lists are made at a time
_NO_LIMIT: Final = 2**63 - 1
_ANY_NUMBER: Final = 2**31 - 1


class Protocol:
    """The incoming side of one connection, and what it has to answer.

    Attributes:
        ready: The messages that have come, oldest first.
        held: Those that have come behind them while `holding`, binary ones as bytes.
        holding: Whether what comes is held.
        outbox: Control frames to send, oldest first.
        control: The control plane.
        ended: Whether no further message can come.
        inflated: How many bytes of messages have come compressed.
        received: How many messages have come, but for those that the window counts.
        streamed: The message that is given out as it comes, None for none: see `stream`.
        window: What was received into, by a channel or into `space()`: see the kernel.
    """

    __slots__ = (
        "_as_list",
        "_assembly",
        "_discarding",
        "_dropping",
        "_have",
        "_inflation",
        "_into_frame",
        "_largest_window",
        "_limit",
        "_masked",
        "_max_pending_pongs",
        "_parsing",
        "_uncompressed",
        "_violation",
        "control",
        "ended",
        "held",
        "holding",
        "inflated",
        "outbox",
        "ready",
        "received",
        "streamed",
        "window",
    )

    def __init__(
        self,
        ws: WSProtoConnection,
        *,
        client: bool,
        as_list: bool,
        max_message_size: int | None,
        max_fragments: int,
        max_pending_pongs: int = 1,
        deflate: Terms | None = None,
    ) -> None:
        """Start with an open connection.

        Args:
            ws: wsproto's connection, after the opening handshake.
            client: Whether this end is the client: its peer does not mask.
            as_list: Whether binary messages come out as lists of ints, else bytes.
            max_message_size: The most bytes of payload in a message, None for no limit.
            max_fragments: The most frames in a message.
            max_pending_pongs: The most answers to pings that `drop_stale_pongs` keeps.
            deflate: The terms of compression, None for none.
        """
        self.control: Control = Control(ws)
        self.ready: deque[Message] = deque()
        self.held: list[Message] = []
        self.holding = False
        self.outbox: deque[bytes] = deque()
        self.ended: bool = False
        self.inflated: int = 0
        self.received: int = 0
        self.streamed: Piecemeal | None = None
        self._discarding = False
        self._dropping = False
        self._masked = not client
        self._as_list = as_list
        self._limit = _NO_LIMIT if max_message_size is None else max_message_size
        options: dict[str, Any] = {
            "masked": self._masked,
            "limit": self._limit,
            "max_fragments": max_fragments,
        }
        self._uncompressed = Assembly(**options)
        self._inflation = None if deflate is None else Inflation(deflate, **options)
        self._assembly = self._uncompressed  # the one of the two that is at work, or was last
        self._largest_window = _LARGEST_WINDOW if deflate is None else _LARGEST_DEFLATED
        self._max_pending_pongs = max_pending_pongs
        self.window = kernel.Window(
            _SMALLEST_WINDOW, self._masked, as_list, self._limit, self.ready
        )
        self._have = 0  # received bytes at the window's front
        self._parsing = False  # inside feed_rest, or cut short in there, or put off
        self._violation: Violation | None = None  # the one that was put off
        self._into_frame = False  # whether space() gave out a large frame's own room

    # -- receiving ---------------------------------------------------------

    def space(self) -> bytearray | memoryview:
        """Where to receive into; valid until the next call of any method."""
        view, size = self._assembly.view, self._assembly.size
        if view is not None and len(view) - size > _WORTHWHILE:
            self._into_frame = True
            return view[size:]
        self._into_frame = False
        return memoryview(self.window.data)[self._have :] if self._have else self.window.data

    def feed_run(self) -> bool:
        """Take in `unfed` bytes if they are whole messages and no more, as most are.

        Leaves the control plane alone, so that no lock is needed for that.

        Returns:
            Whether all was taken in. If not, call `feed_rest`.
        """
        if self.window.unfed is None or self._parsing or self._into_frame:
            return False
        streamed = self.streamed  # another thread may leave it meanwhile
        if streamed is not None and streamed.target is not None:
            return False
        if self._assembly.opcode != CONTINUATION or self.ended:
            return False
        if self.window.stopped is None:
            self.window.plain = False
            window, end = self.window.data, self._have + self.window.unfed
            as_list, queue = self._as_list and not self.holding, self._queue()
            messages: list[Message] = []
            arguments = (
                *(window, 0, end, self._masked, as_list, self._limit, _ANY_NUMBER),
                messages,
            )
            # Unpacked, as in Transport.read_into: what was read is noted in the same step.
            # No call in these lines, so no signal handler runs between them.
            ((position, why),) = starmap(kernel.read_messages, (arguments,))
            self.window.stopped = (position, end, why)
            if not self._discarding:
                queue += messages  # type: ignore[operator]  # in place, whichever it is
                self.received += len(messages)
        position, end, why = self.window.stopped
        if why != kernel.MORE:
            return False
        self._keep(position, end)
        self._note_plain()
        return True

    def feed_rest(self) -> None:
        """Take in what `feed_run` could not."""
        stopped, self.window.stopped = self.window.stopped, None
        if self._violation is not None:
            self.fail(self._violation.code, str(self._violation))
        elif self._parsing:
            # A signal handler's exception, or a MemoryError, has cut the last call
            # short: where in the stream this is cannot be known any more.
            self.fail(CloseCode.INTERNAL_ERROR, "an exception interrupted the reading of a message")
        self._parsing = True
        count, self.window.unfed = self.window.unfed or 0, None
        try:
            if stopped is not None:
                self._resume(*stopped)
            elif self._into_frame and not self.ended:
                self._assembly.take_direct(count)
                self._deliver()
            elif not self.ended:
                self._read_window(0, self._have + count)
        except Violation as violation:
            if self.ready or self.held:
                self._violation = violation
                self.window.unfed = 1  # so that the next call comes before more is received
                return
            self.fail(violation.code, str(violation))
        self._parsing = False
        self._note_plain()

    def _note_plain(self) -> None:
        """Whether the next bytes start a frame, at the window's front."""
        busy = self._have or self._discarding or self.ended or self._assembly.opcode
        if not (busy or self.holding or self._parsing):
            self._into_frame = False
            self.window.plain = True
        else:
            self.window.plain = False

    def _resume(self, position: int, end: int, why: int) -> None:
        """Go on where the kernel stopped in `feed_run`."""
        if why == kernel.BAD_TEXT:
            raise Violation(CloseCode.INVALID_DATA, NOT_UTF_8)
        self._read_window(position, end, run=False)

    def controls(self, ahead: bytes) -> int:
        """How many of the bytes that come next are no part of a message that is wanted.

        Whole control frames, that is; what breaks the protocol; and everything once no
        message can come any more.

        Args:
            ahead: The first of those bytes.
        """
        if self.ended or self._discarding:
            return len(ahead)
        if self.window.unfed is not None or self._parsing or self._assembly.frame is not None:
            return 0
        data, at = bytes(self.window.data[: self._have]) + ahead, 0
        try:
            while (header := kernel.parse_header(data, at, len(data))) is not None:
                first, length, payload, _ = header
                if first & 0x0F < CLOSE or (
                    length <= MOST_CONTROL and payload + length > len(data)
                ):
                    break
                at = payload + length
        except ValueError:
            at = len(data)
        return max(min(at, len(data)) - self._have, 0)

    def feed(self, count: int) -> None:
        """Take in `count` bytes that were received into the last `space()`."""
        self.window.unfed = count
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
        if len(self.window.data) > _SMALLEST_WINDOW and self._have < _SMALLEST_WINDOW:
            self.window.data = self.window.data[: self._have].ljust(_SMALLEST_WINDOW, b"\0")

    def discard(self, *, keep_ready: bool) -> None:
        """Drop the messages that still come, and unless `keep_ready` those that have."""
        self._discarding = True
        self.window.plain = False
        self._dropping = self._dropping or not keep_ready
        self.drop_late()

    def drop_late(self) -> None:
        """Drop the messages that were brought while `discard` was called."""
        if self._dropping:
            self.ready.clear()
            self.held.clear()

    def hold(self) -> None:
        """From here on keep binary messages as they come, if they are to be lists."""
        if self._as_list and not self.holding:
            self.window.plain = False
            self.holding = True

    def release(self) -> None:
        """Make ready some of what is held, unless something is: what is held comes behind it.

        May be called while another thread feeds, by one thread at a time.
        """
        if self.ready or self.streamed is not None:
            return
        made: list[Message] = []
        size = 0
        for message in self.held:
            listed = self._as_list and isinstance(message, bytes)
            made.append(kernel.bytes_to_list(message) if listed else message)  # type: ignore[arg-type]
            size += len(message)
            if size >= _AT_A_TIME:
                break
        count, ready = len(made), self.ready
        # No call in these two, so no signal handler runs between them.
        ready += made
        del self.held[:count]
        self.drop_late()  # a signal handler may have closed since they were made

    def hold_no_more(self) -> None:
        """Make what comes ready again, once nothing is held. May not be called as `release` may."""
        if not self.held:
            self.holding = False
            self._note_plain()

    # -- streaming ---------------------------------------------------------

    def stream(self, message: Piecemeal) -> None:
        """Give out the next message as it comes; until `stream_no_more` none becomes ready.

        Like what follows for callers that hold the lock of what becomes ready, and read.
        """
        self.window.plain = False
        self.holding = True
        self.streamed = message
        # What is ready goes before what is held. `extend` keeps what it has got when its source
        # raises, and no call is in the line after it: no signal handler's exception loses any.
        held = self.held
        count = len(held)
        try:
            with contextlib.suppress(IndexError):
                held.extend(starmap(self.ready.popleft, repeat(())))
        finally:
            held[:] = held[count:] + held[:count]

    def seek(self) -> None:
        """Begin the message that is to be streamed, if it has come, or some of it."""
        message, assembly = self.streamed, self._assembly
        if message is None or message.text is not None:
            return
        busy = self.window.unfed is not None or self._parsing or self.ended or assembly.dropped
        if self.held:
            message.whole(self.held[0])
            del self.held[0]
        elif message.target is None and assembly.opcode != CONTINUATION and not busy:
            message.begin(assembly)
            self._parsing = True  # as in `feed_rest`: what was cut short ends the connection
            self._deliver()
            self._parsing = False

    def _sought(self) -> bool:
        """Whether the next message that begins is the one that is streamed."""
        return self.streamed is not None and self.streamed.text is None and not self.held

    def stream_no_more(self) -> None:
        """What is left of the message that was streamed is dropped as it comes."""
        message, assembly = self.streamed, self._assembly
        self.streamed = None
        if not assembly.piecemeal or assembly.dropped:
            return
        if assembly.frame is None and message is not None and message.target is not None:
            assembly.forget()  # cut short at its end: `feed_rest` ends the connection
        elif message is not None and message.target is not None:
            assembly.piecemeal = False
            try:
                assembly.move_out(self.window.unfed or 0 if self._into_frame else 0)
            except Violation as violation:
                self.fail(violation.code, str(violation))
        else:
            assembly.dropped = True

    def _hand_over(self) -> None:
        """Give out what has come of the message that is streamed."""
        assembly, message = self._assembly, self.streamed
        if message is not None and message.target is not None and not assembly.dropped:
            if assembly.complete:
                assembly.forget()
                self.received += 1
                message.done = True
            return
        piece, complete = assembly.drain(), assembly.complete
        if assembly is self._inflation:
            self.inflated += len(piece)
        wanted = not (assembly.dropped or self._discarding)
        if complete:
            assembly.forget()
            self.received += 1
        if wanted and message is not None:  # pragma: no branch - else it would be dropped
            message.add(piece)
            message.done = complete

    def _queue(self) -> deque[Message] | list[Message]:
        """Where messages go as they come."""
        return self.held if self.holding else self.ready

    def drop_stale_pongs(self) -> None:
        """Of the pongs that could not be sent, keep the newest (RFC 6455 section 5.5.3)."""
        stale = sum(map(_is_pong, self.outbox)) - self._max_pending_pongs
        for item in list(self.outbox) if stale > 0 else ():
            self.outbox.popleft()
            if stale > 0 and _is_pong(item):
                stale -= 1
            else:
                self.outbox.append(item)

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
                if self._assembly.opcode != CONTINUATION:
                    position = self._assembly.take(self.window.data, position, end)
                    self._deliver()
                    if self._assembly.frame is not None:
                        break  # the window is used up
                direct = self.streamed is not None and self.streamed.target is not None
                if (
                    run
                    and not (direct and self._sought())
                    and self._assembly.opcode == CONTINUATION
                ):
                    # between messages
                    position, why = self._read_run(position, end)
                    if why == kernel.MORE:
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
        position, why = kernel.read_messages(
            self.window.data,
            position,
            end,
            self._masked,
            self._as_list and not self.holding,
            self._limit,
            _ANY_NUMBER,
            messages,
        )
        if not self._discarding:
            self._queue().extend(messages)
            self.received += len(messages)
        if why == kernel.BAD_TEXT:
            raise Violation(CloseCode.INVALID_DATA, NOT_UTF_8)
        return position, why

    def _read_special(self, position: int, end: int) -> int | None:
        """Read one control frame, or the header of a frame that is not a whole message.

        Returns:
            Where that ends; None if more bytes are needed first.
        """
        try:
            header = kernel.parse_header(self.window.data, position, end)
        except ValueError as error:
            raise Violation(CloseCode.PROTOCOL_ERROR, str(error)) from error
        if header is None:
            return None
        first, length, payload, key = header
        self._check_header(first, length, key)
        opcode = first & 0x0F
        if opcode < CLOSE:
            self._begin(first, length, key)
            return payload
        if end - payload < length:
            return None
        data = bytes(self.window.data[payload : payload + length])
        self._take_control(opcode, kernel.apply_mask(data, key) if key else data, key)
        return payload + length

    def _check_header(self, first: int, length: int, key: bytes | None) -> None:
        opcode = first & 0x0F
        if first & RESERVED and not self._may_be_compressed(first):
            raise Violation(CloseCode.PROTOCOL_ERROR, "a reserved bit is set")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise Violation(CloseCode.PROTOCOL_ERROR, f"unknown opcode {opcode}")
        if (key is not None) is not self._masked:
            raise Violation(
                CloseCode.PROTOCOL_ERROR, f"a frame is {'not ' if self._masked else ''}masked"
            )
        if opcode >= CLOSE:
            if not first & FIN or length > MOST_CONTROL:
                raise Violation(
                    CloseCode.PROTOCOL_ERROR, "a control frame is fragmented or over 125 bytes"
                )
            return
        if opcode == CONTINUATION and self._assembly.opcode == CONTINUATION:
            raise Violation(CloseCode.PROTOCOL_ERROR, "a continuation without a message")
        if opcode != CONTINUATION and self._assembly.opcode != CONTINUATION:
            raise Violation(CloseCode.PROTOCOL_ERROR, "a new message inside a fragmented one")

    def _may_be_compressed(self, first: int) -> bool:
        """Whether reserved bits are right as they are: on a message's first frame, RSV1 alone."""
        message = first & 0x0F in (TEXT, BINARY)
        return first & RESERVED == COMPRESSED and message and self._inflation is not None

    def _begin(self, first: int, length: int, key: bytes | None) -> None:
        """Begin a data frame, and its message if it is the first one of it."""
        opcode = first & 0x0F
        if opcode != CONTINUATION:
            compressed = first & COMPRESSED and self._inflation
            self._assembly = compressed or self._uncompressed
        if length > self._assembly.left:
            raise Violation.too_large(self._limit)
        fin = bool(first & FIN)
        sought = self.streamed if opcode != CONTINUATION and self._sought() else None
        if sought is not None and sought.target is not None:
            fits = opcode == BINARY and fin and length <= len(sought.target)
            sought = sought if fits and self._assembly is self._uncompressed else None
        self._assembly.piecemeal = self._assembly.piecemeal or sought is not None
        self._assembly.begin(opcode, fin, length, key)
        if sought is not None:
            sought.begin(self._assembly)

    def _deliver(self) -> None:
        """Put the message of more than one piece where it belongs, if it is complete."""
        if self._assembly.piecemeal:
            self._hand_over()
            return
        if not self._assembly.complete:
            return
        if self._assembly is self._inflation:
            self.inflated += self._assembly.size
        if self._discarding:
            self._assembly.forget()
        else:
            as_list = self._as_list and not self.holding
            self._queue().append(self._assembly.finish(as_list=as_list))
            self.received += 1

    def _take_control(self, opcode: int, payload: bytes, key: bytes | None) -> None:
        reply = self.control.receive(opcode, payload, key)
        if reply:
            if len(self.outbox) >= _BURST + self._max_pending_pongs:
                # One window may hold 100,000 pings.
                self.drop_stale_pongs()
            self.outbox.append(reply)
        if opcode == CLOSE or self.control.error is not None:
            self._stop()

    # -- the window's end, and the connection's ------------------------------

    def _keep(self, position: int, end: int) -> None:
        """Move what was not parsed to the window's front, and fit the window's size."""
        window = self.window.data
        left = 0 if self.ended else end - position
        large = self._assembly.view is not None
        if end == len(window) < self._largest_window and not (large or self.ended):
            # It was filled to the brim: more is waiting than it holds.
            larger = bytearray(min(4 * len(window), self._largest_window))
            larger[:left] = window[position:end]
            self.window.data = larger
        elif position and left:
            window[:left] = window[position:end]
        # No call from the move to here: it is not done twice.
        self._have = left
        self.window.stopped = None
        self.window.unfed = None

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
        self.window.plain = False
        self._assembly = self._uncompressed
        self._assembly.forget()
        self._inflation = None
        self.window.data = bytearray(_SMALLEST_WINDOW)
        self._have = 0
        self.window.stopped = None
        self.window.unfed = None


def _is_pong(item: bytes) -> bool:
    return item[:1] == _WHOLE_PONG
