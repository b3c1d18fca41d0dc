"""What is still to be written on one connection: the rest of a frame, and answers.

Rules:

- A frame that was begun is finished before another one. What is left of it is in `rest`, or for
  a moment in `tail`; should a signal handler's exception end a send, the next writer goes on
  from there.
- A handler can run at every call, so there is none between a write and the note of how much was
  written, nor between a piece of a frame and the note of it: `rest` is set on the
  channel, as a property's setter would be such a call.
- Answers (pongs, close frames) go between frames, in their order.
- A message that is sent in fragments (`outstream`) has the turn of all messages until its end.
  Between two of its fragments, `rest` is _BETWEEN, which keeps the channel's quick ways shut;
  answers go all the same.

Guarded by the lock of `outlet`; `answers` by the lock of `lifecycle`.
"""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING, Final

from .._wire.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .._kernel import Channel
    from .._network.contract import RLock
    from .._network.transport import Transport

__all__ = ["Rest", "Unsent"]

# What is left to send of a frame: `data[sent:]`, then the pieces of `more`; and whether it
# has to be sent, because part of it has left, or because it is an answer.
Rest = tuple["bytes | memoryview", int, "Iterable[memoryview]", bool]

_NOTHING: Final = ()
_BETWEEN: Final[Rest] = (b"", 0, _NOTHING, False)
"""What is left while a message in fragments is under way, and none of them is: nothing."""

_DUE: Final = 3  # the index in a Rest


class Unsent:
    """What is to be written, and its way into the transport. True while there is any.

    Attributes:
        answers: Control frames that wait for their turn, oldest first.
        tail: What is left of a frame, as the channel leaves it.
        taken: Bytes of messages that the transport has taken since it was set to 0.
        fragmented: Whether a message in fragments has the turn.
        tally: What has left, but for what the channel counts.
        moved: Whether `advance` has written anything since this was set to False.
    """

    __slots__ = (
        "_channel",
        "_transport",
        "answers",
        "fragmented",
        "moved",
        "tail",
        "taken",
        "tally",
    )

    def __init__(self, channel: Channel, transport: Transport, answers: list[bytes]) -> None:
        """Write to a transport, beside a channel; the protocol appends the answers."""
        self._channel = channel
        self._transport = transport
        self.answers = answers
        self.tail = channel.tail
        self.taken = 0
        self.fragmented = False
        self.moved = False
        self.tally = Tally()

    @property
    def rest(self) -> Rest | None:
        """What is left of the frame that is being written, None for none: the channel's."""
        rest: Rest | None = self._channel.rest
        return rest

    def __bool__(self) -> bool:
        if self.answers or self.tail:
            return True
        # What TLS has taken, and the socket has not; or what was begun.
        rest = self._channel.rest
        return self._transport.pending or (rest is not None and rest is not _BETWEEN)

    @property
    def begun(self) -> bool:
        """Whether something of a frame is left in `rest`."""
        rest = self._channel.rest
        return rest is not None and rest is not _BETWEEN

    def idle(self) -> None:
        """There is no frame that was begun."""
        self._channel.rest = _BETWEEN if self.fragmented else None

    def end_fragments(self) -> None:
        """No message in fragments has the turn any more. Holds the lock."""
        self.fragmented = False
        if self.rest is _BETWEEN:
            self.idle()

    @property
    def due(self) -> bool:
        """Whether what is left has to be sent, as part of it has left or it is an answer."""
        return self.rest is None or self.rest[_DUE]

    def begin(self, frame: bytes | Iterable[memoryview]) -> None:
        """Begin a frame, of which nothing has left so far."""
        if isinstance(frame, bytes):
            self._channel.rest = (frame, 0, _NOTHING, False)
        else:
            self._channel.rest = (b"", 0, frame, False)

    def resume(self) -> None:
        """Go on with what the kernel has left of a frame."""
        if self.tail:
            self._channel.rest = (self.tail[0], 0, _NOTHING, True)
            del self.tail[:]

    def take(self, lock: RLock) -> bool:
        """Whether something has to be written before a new frame: then it is in `rest`.

        Args:
            lock: What guards `answers`.
        """
        if self.tail:
            self.resume()
        rest = self._channel.rest
        if rest is not None:
            if rest[_DUE] or self._transport.uncounted:
                return True
            self.idle()  # a send was ended before it had begun
        if not self.answers:  # whoever adds one flushes after that
            return False
        with lock:
            if not self.answers:
                return False
            answer = self.answers[0]
            self._channel.rest = (answer, 0, _NOTHING, True)
            del self.answers[0]
        self.tally.control(answer[0] & 0x0F)
        self.tally.wire += len(answer)
        return True

    def write_answer(self) -> bool:
        """Write the one answer that waits, where nothing else does. Holds the lock.

        Returns:
            Whether it has left, to its last byte; if not, it goes on like any other.

        Raises:
            OSError: the connection is broken.
        """
        channel, answer = self._channel, self.answers[0]
        size = len(answer)
        # No call in these, so no signal handler runs between them.
        channel.rest = (answer, 0, _NOTHING, True)
        del self.answers[0]
        self.tally.frames += 1
        self.tally.wire += size
        count = self._transport.write(answer)
        left = count == size
        channel.rest = None if left else (answer, count, _NOTHING, True)
        self.taken += count
        self.moved = count > 0
        channel.note_went()
        return left and not self._transport.pending

    def advance(self) -> bool:
        """Write some of `rest` without waiting; False if that cannot be.

        Raises:
            OSError: the connection is broken.
        """
        assert self.rest is not None
        data, sent, more, due = self.rest
        if self._transport.uncounted:
            sent += self._transport.uncounted
            self._channel.rest = (data, sent, more, True)
            self._transport.uncounted = 0
        if sent < (size := len(data)):
            count = self._transport.write(memoryview(data)[sent:] if sent else data)
            if not count:
                return False
            if sent + count == size and more is _NOTHING:  # as mostly: it has left
                self._channel.rest = _BETWEEN if self.fragmented else None
            else:
                self._channel.rest = (data, sent + count, more, True)
            self.taken += count
            self.moved = True
            self._channel.note_went()
            return True
        for piece in more:
            self._channel.rest = (piece, 0, more, due)
            return True
        self.idle()
        return True

    def keep(self) -> None:
        """Copy what is left: from here on its owner may change it."""
        if self.rest is not None and (self.rest[_DUE] or self._transport.uncounted):
            data, sent, more, _ = self.rest
            left = memoryview(data)[sent + self._transport.uncounted :]
            # Each is copied before the next one is made: see Pieces.
            whole = b"".join((bytes(left), *map(bytes, copy(more))))
            self._channel.rest = (whole, 0, _NOTHING, True)
            self._transport.uncounted = 0

    def forget(self) -> None:
        """Nothing can be written any more: let go of what was begun."""
        self._channel.rest = None
        del self.tail[:]
