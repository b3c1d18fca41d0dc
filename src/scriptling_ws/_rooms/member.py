"""One connection in one room: its messages, at once where they can be, else from a bounded queue.

Rules:

- `send` is the channel's own method and the member is its writer part: a message that the system
  takes costs one call, and no lock but the connection's, which is only tried.
- Nothing here waits, for the peer or for another sender. What cannot be sent at once is queued,
  and so is all that comes after it: a room's messages keep their order. `stalled` says so; then
  the courier sends on (`courier`).
- What the connection's own callers send goes in its own turn, between two of the room's messages,
  and may overtake those that are queued.
- A frame that has begun is finished by the next writer, as any other: see `_connection.unsent`.
- The queue has a bound in messages and one in bytes; a single message is queued whatever its size.
  Beyond that the policy decides, and each message that the member does not get is counted.
- Nothing is called with this file's lock held: a callback for the connection's end may come back
  to the room.

Locks: `_lock` guards the queue and what is counted. It is taken after the room's turn and after the
connection's lock for writing, and nothing is called with it held.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from .._codes import CloseCode
from .._network.waiting import engine
from .._options import check_count
from . import courier
from .courier import Progress
from .message import MASKED, PLAIN

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .message import Form

__all__ = ["Limits", "Member", "Policy"]

Policy = Literal["close", "drop_oldest", "drop_newest"]
"""What becomes of a member whose queue is full, or of its messages."""

_AT_ONCE: Final = 16  # messages of one queue that are sent before another one has its turn
_TOO_SLOW: Final = "too slow for the room's messages"


@dataclass(frozen=True)
class Limits:
    """How much is kept for a member that does not read, and what is done then.

    Attributes:
        queue: The most messages.
        queue_bytes: The most bytes of their frames.
        policy: What is done with one more.
    """

    queue: int = 256
    queue_bytes: int = 1024 * 1024
    policy: Policy = "close"

    def __post_init__(self) -> None:
        """Check them.

        Raises:
            TypeError: a bound is no int.
            ValueError: a bound is below 1, or there is no such policy.
        """
        check_count("queue", self.queue)
        check_count("queue_bytes", self.queue_bytes)
        if self.policy not in get_args(Policy):
            names = ", ".join(map(repr, get_args(Policy)))
            raise ValueError(f"policy has to be one of {names}, not {self.policy!r}")


def _form(connection: Connection[Any, Any]) -> Form:
    """The form in which a connection takes messages: see `message`."""
    if connection._link.client:
        return MASKED
    return connection._encoder.alone or PLAIN


class Member:
    """A connection in a room. What the kernel's channel sends a room's frames by.

    Attributes:
        connection: The connection.
        number: What no other member of this process has.
        form: How it takes messages.
        send: Sends a frame at once, if that can be done: the channel's.
        stalled: Whether something is queued, or part of a frame: then nothing is sent at once.
        gone: Whether it has left the room.
        dropped: How many messages it did not get because its queue was full.
    """

    __slots__ = (
        "_bytes",
        "_channel",
        "_hand",
        "_limits",
        "_link",
        "_lock",
        "_orphan",
        "_outlet",
        "_queue",
        "_writer",
        "connection",
        "dropped",
        "form",
        "gone",
        "number",
        "send",
        "stalled",
    )

    def __init__(self, connection: Connection[Any, Any], number: int, limits: Limits) -> None:
        self.connection = connection
        self.number = number
        self.form = _form(connection)
        self._link = connection._link
        self._channel = connection._channel
        self._outlet = connection._outlet
        self._writer = connection._writer
        self._limits = limits
        self.send = self._channel.send
        self.stalled = False
        self.gone = False
        self.dropped = 0
        self._lock = engine().lock()
        # Frames, and how many bytes their messages have, before compression.
        self._queue: deque[tuple[bytes, int]] = deque()
        self._bytes = 0  # in the queue, the frame in hand included
        self._hand = 0  # how many frames are out of the queue to be sent: 0 or 1
        self._orphan = False  # whether there is no courier for it

    @property
    def queued(self) -> int:
        """How many messages wait for the peer to read."""
        return len(self._queue) + self._hand

    def fileno(self) -> int:
        """The socket's descriptor, -1 once closed."""
        return self._link.transport.fileno()

    def leave(self) -> None:
        """It has left the room: what is queued is not sent any more. Does not wait."""
        self.gone = True
        was, self.stalled = self.stalled, True  # a message that is on its way finds no way
        if was:
            courier.take(self)  # which lets go of it

    def give_up(self) -> None:
        """What nobody expected has come up: end the connection rather than spoil its stream."""
        self.connection._abort()

    # -- the room's --------------------------------------------------------

    def keep(self, frame: bytes, payload: int) -> None:
        """Queue a frame that could not be sent at once, or do with it as the policy says.

        Args:
            frame: The frame.
            payload: How many bytes its message has, before compression.
        """
        with self._lock:
            if self.gone or not self._channel.open:
                return  # the connection is over, and no member for much longer
            may_stay = self._admit(frame, payload)
        if not may_stay:
            self.connection._begin_close(CloseCode.TRY_AGAIN_LATER, _TOO_SLOW)
        else:
            self._stall()

    def _admit(self, frame: bytes, payload: int) -> bool:
        """Queue it, or not; False to close the connection. Holds the lock."""
        policy = self._limits.policy
        while self._is_full(frame):
            if policy == "drop_newest":
                self.dropped += 1
                return True
            if policy == "close":
                self.dropped += len(self._queue) + 1
                self._clear()
                self.gone = True
                return False
            if not self._queue:  # all that it has is the frame in hand, which goes first
                break
            self._bytes -= len(self._queue.popleft()[0])
            self.dropped += 1
        self._queue.append((frame, payload))
        self._bytes += len(frame)
        return True

    def _is_full(self, frame: bytes) -> bool:
        """Whether there is no room for a frame; there is for any one frame. Holds the lock."""
        if not self.queued:
            return False
        limits = self._limits
        return self.queued >= limits.queue or self._bytes + len(frame) > limits.queue_bytes

    def _clear(self) -> None:
        self._queue.clear()
        self._bytes = 0

    def _stall(self) -> None:
        """Have what is left sent on, by a courier or else by the next message."""
        if not self.stalled or self._orphan:
            self.stalled = True
            self._orphan = not courier.take(self)
            if self._orphan:
                self.pump()

    # -- the channel's: see WriterPart ---------------------------------------

    def go_on(self, frame: bytes | None, /) -> bool:
        """The system does not take all of a frame; None: it has begun one. Holds its lock."""
        if frame is None and not self._hand:
            self.stalled = True
            self._orphan = not courier.take(self)
        return frame is None  # else it was not sent, which `send` then says

    def broke(self, frame: bytes, error: BaseException, /) -> bool:
        """Sending has raised; whether that is dealt with. Holds the connection's lock.

        Nobody is told by an exception, as a caller of `send` is: the connection is over, and so
        the member leaves.
        """
        if isinstance(error, OSError) and error.errno is not None:
            self._link.send_failed(error)
            self._link.lifecycle.tell()
            return True
        return self._writer.broke(frame, error)

    def look_after(self) -> None:
        """Send answers, or look at what has come: as after any other send."""
        self._writer.look_after()

    # -- the courier's ---------------------------------------------------------

    def pump(self) -> Progress:
        """Send on what goes without waiting; one task at a time."""
        self._outlet.flush()
        for _ in range(_AT_ONCE):
            if self._link.unsent and self._channel.open:
                return Progress.STUCK if self._outlet.lock.locked() else Progress.MOVED
            first = self._take_out()
            if first is None:
                return Progress.DONE
            if not self._send_on(*first):
                return Progress.STUCK
        return Progress.MOVED

    def _take_out(self) -> tuple[bytes, int] | None:
        """The next frame, which is in hand from here on; None once there is none: no stall more."""
        with self._lock:
            if self.gone or not self._channel.open:
                self._clear()
            if not self._queue:
                self.stalled = self.gone
                self._orphan = False
                return None
            self._hand = 1
            return self._queue.popleft()

    def _send_on(self, frame: bytes, payload: int) -> bool:
        """Send the frame in hand; whether it has begun. Else it is the first again."""
        went = False
        try:
            went = self.send(frame, self, 1, payload)
        finally:
            with self._lock:
                self._hand = 0
                if went:
                    self._bytes -= len(frame)
                elif len(self._queue) < self._limits.queue:
                    self._queue.appendleft((frame, payload))
                else:  # others came meanwhile, and this one is the oldest
                    self._bytes -= len(frame)
                    self.dropped += 1
        return went
