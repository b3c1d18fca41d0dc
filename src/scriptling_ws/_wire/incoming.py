"""One connection's incoming side, without I/O: from received bytes to messages.

Rules (RFC 6455 sections 5 to 8):

- Mostly whole messages come and nothing else: the kernel's channel receives and reads them in
  one step. Otherwise bytes are received into `space()`, counted in `window.unfed`, and fed
  (`feed_run`); the rest of this file is what the kernel stops at: control frames (`control`),
  fragments and frames that are not complete yet (`arriving`), errors.
- What stays in the window between two calls is less than a header and a control
  frame, always at its front. An incomplete message is moved out of it (`assembly`).
- Text is checked as it arrives, so that an error shows at the first bad byte.
- After an error, a close frame or the end of the stream, bytes are dropped.
- An error behind messages that nobody has taken so far is put off once: who takes them
  can still answer, as if it had come a moment later (6.2: messages come in their order).
- What has to be sent in answer is put in `outbox`, in order.
- Messages go to `unreceived`, or one of them to the call that streams it.

Not thread-safe, and no clock, socket or lock in here: the connection has them.
"""

from __future__ import annotations

from collections import deque
from itertools import starmap
from typing import TYPE_CHECKING, Any, Final

from .. import _kernel as kernel
from .._codes import CloseCode
from .._errors import Violation
from .arriving import Arriving
from .assembly import NOT_UTF_8, Message
from .control import Control
from .headers import check_header, lone_close, messages_alone, whole_controls
from .opcodes import CLOSE, CONTINUATION
from .outbox import add_answer, drop_stale_pongs
from .space import SMALLEST, Space
from .unreceived import Unreceived

if TYPE_CHECKING:
    from .._handshakes.terms import Terms
    from .piecemeal import Piecemeal

__all__ = ["Message", "Protocol"]

_NO_LIMIT: Final = 2**63 - 1
_ANY_NUMBER: Final = 2**31 - 1


class Protocol:
    """The incoming side of one connection, and what it has to answer.

    Attributes:
        ready: The messages that can be received, oldest first: those of `unreceived`.
        unreceived: All messages that have come, and that nobody has received yet.
        outbox: Control frames to send, oldest first.
        control: The control plane.
        ended: Whether no further message can come.
        window: What was received into, by a channel or into `space()`: see the kernel.
    """

    __slots__ = (
        "_arriving",
        "_limit",
        "_masked",
        "_max_pending_pongs",
        "_parsing",
        "_space",
        "_violation",
        "control",
        "ended",
        "outbox",
        "ready",
        "unreceived",
        "window",
    )

    def __init__(
        self,
        *,
        client: bool,
        as_list: bool,
        max_message_size: int | None,
        max_fragments: int,
        max_pending_pongs: int = 1,
        deflate: Terms | None = None,
        as_utf8: bool = False,
    ) -> None:
        """Start with an open connection.

        Args:
            client: Whether this end is the client: its peer does not mask.
            as_list: Whether binary messages come out as lists of ints, else bytes.
            max_message_size: The most bytes of payload in a message, None for no limit.
            max_fragments: The most frames in a message.
            max_pending_pongs: The most answers to pings that `drop_stale_pongs` keeps.
            deflate: The terms of compression, None for none.
            as_utf8: Whether text messages come out as bytes, else str. Not without `as_list`.
        """
        self.control: Control = Control(client)
        self.ready: deque[Message] = deque()
        self.outbox: list[bytes] = []  # mostly empty: no deque, which takes 700 bytes at once
        self.ended: bool = False
        self._masked = not client
        self._max_pending_pongs = max_pending_pongs
        self._limit = _NO_LIMIT if max_message_size is None else max_message_size
        self.window = kernel.Window(
            SMALLEST, self._masked, as_list, self._limit, self.ready, as_utf8
        )
        self.unreceived = Unreceived(self.ready, self.window, as_list, as_utf8)
        # By places, as in `_connection`: see there.
        self._arriving = Arriving(
            self.unreceived, self._masked, self._limit, max_fragments, deflate
        )
        self._space = Space(self.window, deflate is not None)
        self._parsing = False  # inside feed_rest, or cut short in there, or put off
        self._violation: Violation | None = None  # the one that was put off

    # -- receiving ---------------------------------------------------------

    def space(self) -> bytearray | memoryview:
        """Where to receive into; valid until the next call of any method."""
        return self._space.give(self._arriving.assembly)

    def feed_run(self) -> bool:
        """Take in `unfed` bytes if they are whole messages and no more, as most are.

        Leaves the control plane alone, so that no lock is needed for that.

        Returns:
            Whether all was taken in. If not, call `feed_rest`.
        """
        if self.window.unfed is None or self._parsing or self._space.into_frame:
            return False
        unreceived = self.unreceived
        streamed = unreceived.streamed  # another thread may leave it meanwhile
        if streamed is not None and streamed.target is not None:
            return False
        if self._arriving.assembly.opcode != CONTINUATION or self.ended:
            return False
        if self.window.stopped is None:
            self.window.plain = False
            end, queue = self._space.have + self.window.unfed, unreceived.queue()
            messages: list[Message] = []
            arguments = self._run(0, end, messages)
            # Unpacked, as in Transport.read_into: what was read is noted in the same step.
            # No call in these lines, so no signal handler runs between them.
            ((position, why, size),) = starmap(kernel.read_messages, (arguments,))
            self.window.stopped = (position, end, why)
            if not unreceived.discarding:
                queue += messages  # type: ignore[operator]  # in place, whichever it is
                unreceived.tally.whole(len(messages), size)
        position, end, why = self.window.stopped
        if why != kernel.MORE:
            return False
        self._space.keep(position, end)
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
            elif self._space.into_frame and not self.ended:
                self._arriving.assembly.take_direct(count)
                self._arriving.deliver()
            elif not self.ended:
                self._read_window(0, self._space.have + count)
        except Violation as violation:
            if self.ready or self.unreceived.held:
                self._violation = violation
                self.window.unfed = 1  # so that the next call comes before more is received
                return
            self.fail(violation.code, str(violation))
        self._parsing = False
        self._note_plain()

    def feed_close(self) -> bool:
        """Take in the client's close frame, if it is all that has come, and of a usual kind.

        In place of `feed_rest`, where nothing is under way that it would have to end.

        Returns:
            Whether it was; if not, nothing has changed.
        """
        unreceived = self.unreceived
        busy = self._parsing or self.ended or self._space.into_frame or self._violation is not None
        busy = busy or unreceived.holding or unreceived.discarding or not self._masked
        if busy or self._arriving.assembly.opcode != CONTINUATION or unreceived.streamed:
            return False
        payload = lone_close(self.window)
        if payload is None:
            return False
        self._parsing = True  # as in `feed_rest`
        reply = self.control.receive_usual(payload)
        if reply is not None:
            unreceived.tally.frames += 1
            self.outbox.append(reply)
            self._stop()
        self._parsing = False
        return reply is not None

    def _note_plain(self) -> None:
        """Whether the next bytes start a frame, at the window's front."""
        unreceived = self.unreceived
        begun = self._space.have or self._arriving.assembly.opcode
        busy = begun or unreceived.discarding or self.ended
        if not (busy or unreceived.holding or self._parsing):
            self._space.into_frame = False
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
        if self.ended or self.unreceived.discarding:
            return len(ahead)
        inside = self._arriving.assembly.frame is not None
        if self.window.unfed is not None or self._parsing or inside:
            return 0
        data = bytes(self.window.data[: self._space.have]) + ahead
        return max(whole_controls(data) - self._space.have, 0)

    def messages_alone(self, ahead: bytes) -> bool:
        """Whether messages are all that is in the bytes that come next; False too if unknown."""
        inside = self._arriving.assembly.frame is not None
        if self.window.unfed is not None or self._parsing or inside:
            return False
        return messages_alone(bytes(self.window.data[: self._space.have]) + ahead)

    def feed(self, count: int) -> None:
        """Take in `count` bytes that were received into the last `space()`."""
        self.window.unfed = count
        if not self.feed_run():
            self.feed_rest()

    def feed_bytes(self, data: bytes) -> None:
        """Take in bytes that were received elsewhere, such as those behind the handshake."""
        rest = memoryview(data)
        self.unreceived.tally.wire += len(data)
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

    @property
    def inflated(self) -> int:
        """How many bytes of messages have come compressed."""
        return self._arriving.inflated

    @property
    def partial(self) -> int:
        """How many bytes have come of a message that is not whole."""
        return self._arriving.assembly.size

    @property
    def unfinished(self) -> str:
        """What has begun and is not whole: "message", or "frame" if it may be none; else ""."""
        if self._arriving.assembly.opcode != CONTINUATION:
            return "message"
        return "frame" if self._space.have else ""

    def relax(self) -> None:
        """Give back memory, before a long wait."""
        self._space.relax()

    def hold_no_more(self) -> None:
        """Make what comes ready again, once nothing is held. Not while another thread feeds."""
        if not self.unreceived.held:
            self.unreceived.holding = False
            self._note_plain()

    # -- streaming ---------------------------------------------------------

    def seek(self, message: Piecemeal) -> None:
        """Begin the message that is streamed, and has not begun, if it has come, or some of it.

        As `Unreceived.stream`, for callers that hold the lock of what becomes ready, and read.
        """
        unreceived, assembly = self.unreceived, self._arriving.assembly
        busy = self.window.unfed is not None or self._parsing or self.ended or assembly.dropped
        if unreceived.held:
            unreceived.stream_held(message)
        elif message.target is None and assembly.opcode != CONTINUATION and not busy:
            message.begin(assembly)
            self._parsing = True  # as in `feed_rest`: what was cut short ends the connection
            self._arriving.deliver()
            self._parsing = False

    def stream_no_more(self) -> None:
        """What is left of the message that was streamed is dropped as it comes. As `seek`."""
        unnoted = self.window.unfed or 0 if self._space.into_frame else 0
        try:
            self._arriving.leave(unnoted)
        except Violation as violation:
            self.fail(violation.code, str(violation))

    # -- parsing -----------------------------------------------------------

    def _read_window(self, position: int, end: int, *, run: bool = True) -> None:
        """Parse the window from `position` to `end`; keep what is left at its front.

        Args:
            position: Where to start.
            end: Where the received bytes end.
            run: Whether a run of messages may start here; else the kernel has stopped here.
        """
        arriving, unreceived = self._arriving, self.unreceived
        try:
            while not self.ended:
                if arriving.assembly.opcode != CONTINUATION:
                    position = arriving.assembly.take(self.window.data, position, end)
                    arriving.deliver()
                    if arriving.assembly.frame is not None:
                        break  # the window is used up
                streamed = unreceived.streamed
                direct = streamed is not None and streamed.target is not None
                if (
                    run
                    and not (direct and unreceived.sought())
                    and arriving.assembly.opcode == CONTINUATION
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
            large = arriving.assembly.view is not None
            self._space.keep(position, end, large=large, wanted=not self.ended)

    def _read_run(self, position: int, end: int) -> tuple[int, int]:
        """Read the run of whole messages at `position`."""
        messages: list[Message] = []
        unreceived = self.unreceived
        position, why, size = kernel.read_messages(*self._run(position, end, messages))
        if not unreceived.discarding:
            unreceived.queue().extend(messages)
            unreceived.tally.whole(len(messages), size)
        if why == kernel.BAD_TEXT:
            raise Violation(CloseCode.INVALID_DATA, NOT_UTF_8)
        return position, why

    def _run(self, start: int, end: int, messages: list[Message]) -> tuple[Any, ...]:
        """The arguments of the kernel's `read_messages`."""
        as_list, as_utf8 = self.unreceived.kinds()
        return (
            *(self.window.data, start, end, self._masked),
            *(as_list, self._limit, _ANY_NUMBER, messages, as_utf8),
        )

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
        check_header(
            first,
            length,
            key is not None,
            from_client=self._masked,
            inside=self._arriving.assembly.opcode != CONTINUATION,
            inflates=self._arriving.inflates,
        )
        opcode = first & 0x0F
        if opcode < CLOSE:
            self._arriving.begin(first, length, key)
            return payload
        if end - payload < length:
            return None
        data = bytes(self.window.data[payload : payload + length])
        self._take_control(opcode, kernel.apply_mask(data, key) if key else data, key)
        return payload + length

    def _take_control(self, opcode: int, payload: bytes, key: bytes | None) -> None:
        self.unreceived.tally.control(opcode)
        reply = self.control.receive(opcode, payload, key)
        if reply:
            add_answer(self.outbox, reply, self._max_pending_pongs)
        if opcode == CLOSE or self.control.error is not None:
            self._stop()

    def drop_stale_pongs(self) -> None:
        """Of the pongs that could not be sent, keep the newest."""
        drop_stale_pongs(self.outbox, self._max_pending_pongs)

    # -- the end -------------------------------------------------------------

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
        if not self.ended:
            self.ended = True
            self.window.plain = False
            self._arriving.end()
        self._space.forget()
