"""One step of reading at a time, waiting for it, and reading on behalf of others.

Rules (those about locks are in `link`):

- `lock` guards reading: the transport's read side and the protocol's window. One thread reads at
  a time.
- How many bytes came is noted in the step in which the system call returns: a signal
  handler that raises loses none of them.
- What was read may have to be answered at once: `Outlet.flush`.
- A thread that reads for others (a blocked sender, `ping`, now and then `send`) lets
  max_backlog pile up, and then leaves it to `receive`. What it reads stays bytes until then.
- Who looks at a connection that nobody reads takes the control frames that stand in front
  (`take_controls`). A ping may stand behind messages too: those are read for the caller, unless it
  has asked for the descriptor, on which it may be waiting, or nothing stands behind them.
- Keepalive reads no more than BEHIND for a caller that does not receive: it does so for every
  connection, and unasked.
- A connection for which there is no keepalive thread (`alone`) is looked after by its reader.
"""

from __future__ import annotations

import contextlib
from time import monotonic
from typing import TYPE_CHECKING, Final

from .._network.deadline import Deadline
from .._network.locks import holding
from .._network.transport import NAP
from .link import LOOK_AGAIN

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._network.contract import Lock
    from .link import Link
    from .outlet import Outlet

__all__ = ["A_READ", "BEHIND", "OVERTIME", "Intake"]

OVERTIME: Final = 0.05
"""Seconds for which a receiver reads on after its timeout, where something is there."""

BEHIND: Final = 1024 * 1024
"""Bytes of messages that keepalive lets lie unread, to see what is behind them."""

A_READ: Final = 32
"""What a read counts where tasks share a thread, and a message one: see `Engine.share`."""

_AHEAD: Final = 4096  # bytes in which control frames are looked for
_PIECE: Final = 16 * 1024  # bytes that keepalive receives at a time: they may inflate to 16 MiB
_TURNS: Final = 16  # so often at a time: a peer can send pings without end
_MESSAGE_OVERHEAD: Final = 64  # what a small message costs beside its bytes, about
_ITEM: Final = 8  # bytes of an item of a list: a pointer
_LEAVE: Final = 1.0  # seconds that a sender gets to leave a connection that was ended


class Intake:
    """The way into one connection.

    Attributes:
        waiters: How many receivers wait for the lock; guarded by the lifecycle's lock.
        polled: Whether the caller has asked for the descriptor, perhaps to wait on it.
        look_after: What it calls then.
        leave_by: Until when `dispose` waits for a sender.
    """

    __slots__ = (
        "_alone",
        "_backlog",
        "_channel",
        "_identity",
        "_lifecycle",
        "_link",
        "_max_backlog",
        "_outlet",
        "_protocol",
        "_ready",
        "_transport",
        "_unsent",
        "leave_by",
        "look_after",
        "polled",
        "waiters",
    )

    def __init__(self, link: Link, outlet: Outlet, max_backlog: int) -> None:
        """Read from a link; answer by an outlet.

        Args:
            link: The link.
            outlet: What sends answers.
            max_backlog: The bytes of messages that may lie unread before reading on behalf of
                others stops.
        """
        self._link = link
        self._channel = link.channel
        self._lifecycle = link.lifecycle
        self._outlet = outlet
        self._protocol = link.protocol
        self._ready = link.protocol.ready
        self._transport = link.transport
        self._unsent = link.unsent
        self._max_backlog = max_backlog
        self._backlog = 0  # bytes that were read for a caller that does not, at most
        self._identity = link.ways.identity
        self._alone: float | None = None
        self.waiters = 0
        self.polled = False
        self.look_after: Callable[[], object] | None = None
        self.leave_by: Deadline | None = None

    @property
    def lock(self) -> Lock:
        """What guards reading; another one in a forked child."""
        return self._channel.reading

    @property
    def alone(self) -> float | None:
        """When the reader is to look after the connection, as there is no thread for that.

        None where there is one.
        """
        return self._alone

    @alone.setter
    def alone(self, moment: float | None) -> None:
        self._alone = moment
        self._channel.alone = moment is not None

    # -- once, without waiting ---------------------------------------------

    def begin(self, received: bytes) -> None:
        """Take in what has come with the opening handshake. Holds no lock: nobody reads yet."""
        with self._lifecycle.lock:
            self._protocol.feed_bytes(received)
            self._link.note()
        self.answer()

    def read_some(self, nap: bool, most: int | None = None) -> int | None:
        """Receive once and parse. Holds the lock.

        Args:
            nap: Let the kernel sleep for a moment if nothing is there.
            most: How many bytes to receive at the most, None for what there is.

        Returns:
            How many bytes came, 0 at the end of the stream, None if nothing was there.
        """
        protocol, link = self._protocol, self._link
        if protocol.window.unfed is None:
            # The count is stored before anything else can happen: should a signal
            # handler raise, the next call goes on from there.
            try:
                space = protocol.space() if most is None else memoryview(protocol.space())[:most]
                protocol.window.unfed = self._transport.read_into(space, nap)
            except OSError as error:
                if error.errno is None:
                    raise  # a signal handler's, such as TimeoutError
                self._transport.note_failure(error)
                protocol.window.unfed = 0  # reset, timed out, unreachable: the peer is gone
            if protocol.window.unfed is None:
                return None
            protocol.unreceived.tally.wire += protocol.window.unfed
            self._channel.note_came()
        count = protocol.window.unfed
        self._channel.heard = True
        if not (count and protocol.feed_run()):
            with self._lifecycle.lock:
                if count:
                    protocol.feed_rest()
                    if protocol.control.pongs:
                        link.pings.answer(protocol.control.pongs)
                else:
                    link.end_of_stream()
                link.note()
        if self._unsent:
            self._outlet.flush()
        if protocol.ended:
            self._lifecycle.tell()
        return count

    def take_controls(self) -> bool:
        """Take the control frames that come next. Holds the lock.

        Returns:
            Whether a message, or a part of a frame, lies there for the one who receives.
        """
        protocol = self._protocol
        for _ in range(_TURNS):
            count = None
            if protocol.window.unfed is None:
                try:
                    ahead = self._transport.peek(_AHEAD)
                except OSError as error:
                    if error.errno is None:
                        raise  # a signal handler's, such as TimeoutError
                    self._transport.note_failure(error)
                    ahead = b""  # read_some meets it again, or the end
                if ahead is None:
                    return False
                count = protocol.controls(ahead) or None
                if ahead and not count:
                    return True
            self.read_some(False, count)
            if protocol.ended:
                return False
        return False  # not all of them were taken: the descriptor goes on being readable

    # -- waiting -------------------------------------------------------------

    def read(self, deadline: Deadline, wakeable: bool, nap: bool = True) -> int | None:
        """Receive once, waiting for it. Holds the lock.

        Args:
            deadline: Until when.
            wakeable: Return when somebody begins to close.
            nap: Sleep in `recv` first, and only then where `wake` is heard.

        Returns:
            As read_some; None if the deadline came, or somebody began to close,
            before anything did.
        """
        left = deadline.left()
        nap = nap and (left is None or left > NAP) and not self._outlet.waits()
        while (count := self.read_some(nap)) is None:
            if deadline.passed() or (wakeable and self._lifecycle.closing):
                self._outlet.flush()  # what the system may take by now
                return None
            if left is None or left > 1:
                self._protocol.relax()
            write = self._outlet.waits()
            self._transport.wait(True, write, self._until(deadline, write), wakeable)
            if write:
                self._outlet.flush()
            if self.alone is not None:
                self.tend()
            nap = False
        return count

    def _until(self, deadline: Deadline, write: bool) -> Deadline:
        """The deadline, or the moment at which something else is due before.

        A peer that takes no answers is given up, or this thread looks after the connection.
        """
        stalled = self._outlet.stalled
        left = stalled.left() if write and stalled is not None else None
        if left is not None:
            deadline = deadline.sooner(max(left, LOOK_AGAIN))
        if self.alone is not None:
            deadline = deadline.sooner(max(self.alone - monotonic(), 0.0))
        return deadline

    def tend(self) -> None:
        """Look after the connection, if that is due and there is no thread for it."""
        if self.alone is not None and monotonic() >= self.alone and self.look_after is not None:
            self.look_after()

    def flush(self) -> None:
        """Send what is unsent, as far as that goes: who receives does so for all."""
        if self._unsent:
            self._outlet.flush()

    # -- for others ------------------------------------------------------------

    def read_ahead(self, most: int | None = None) -> bool:
        """Receive once for others, and count it; False if nothing was there. Holds the lock.

        Args:
            most: How many bytes to receive at the most, None for what there is.
        """
        protocol = self._protocol
        held = protocol.unreceived.held
        protocol.unreceived.hold()
        before, inflated = len(self._ready) + len(held), protocol.inflated
        count = self.read_some(False, most)
        more = len(self._ready) + len(held) - before  # less what was taken meanwhile
        size = (count or 0) + protocol.inflated - inflated
        self._backlog += size + _MESSAGE_OVERHEAD * max(more, 0)
        return count is not None

    def await_ahead(self, deadline: Deadline, *, write: bool) -> None:
        """Wait for something, and receive it for others. Holds the lock.

        Args:
            deadline: Until when.
            write: Whether room to write is waited for too.
        """
        # What TLS has, and the last read had no room for, is not in the socket any more.
        if not self._transport.keeps():
            self._transport.wait(True, write, deadline, wakeable=True)
        self.read_ahead()

    def full(self, most: int | None = None) -> bool:
        """Whether as many messages as may lie unread do: `most` bytes, or max_backlog.

        With `most` a message that is not whole counts too. Without it does not: two ends that both
        send large ones go on.
        """
        bound = self._max_backlog if most is None else min(most, self._max_backlog)
        if self._backlog >= bound:  # perhaps some were taken since: count
            # Without the GIL the copy fails where a message is taken meanwhile: full for now.
            with contextlib.suppress(RuntimeError):
                waiting = [*self._ready.copy(), *self._protocol.unreceived.held]
                size = sum(len(m) * (_ITEM if isinstance(m, list) else 1) for m in waiting)
                streamed = self._protocol.unreceived.streamed
                size += 0 if streamed is None else streamed.size
                size += 0 if most is None else self._protocol.partial
                self._backlog = size + _MESSAGE_OVERHEAD * len(waiting)
        return self._backlog >= bound

    def read_all(self) -> None:
        """Receive for others all that is there, and may lie unread. Holds the lock."""
        while not (self._protocol.ended or self.full()):
            if not self.read_ahead():
                break

    def read_behind(self) -> bool:
        """Receive for the caller what a ping may stand behind, up to BEHIND. Holds the lock.

        Returns:
            Whether nothing is left. Where a look shows that messages are all there is, they are
            left: a caller that asks for the descriptor later sees them all the same.
        """
        if self.full(BEHIND):
            return False
        ahead = self._transport.peek_all(_AHEAD)
        if ahead and self._protocol.messages_alone(ahead):
            return False
        while not (self._protocol.ended or self.full(BEHIND)):
            if not self.read_ahead(_PIECE):
                return True
        return False

    def taken(self) -> int:
        """How many messages the caller has taken so far, about. Holds the lock."""
        window, unreceived = self._protocol.window, self._protocol.unreceived
        come = window.received + unreceived.tally.messages
        return come - len(self._ready) - len(unreceived.held)

    def read_meanwhile(self, deadline: Deadline) -> bool:
        """Wait until something can be written, and read what comes. Holds the outlet's lock.

        Returns:
            False, at once, if nothing may be read, or another thread does.
        """

        def read() -> bool:
            self._channel.reader = self._identity()
            self.await_ahead(deadline, write=True)
            self._channel.reader = 0
            return True

        wanted = not (
            self.waiters or self._lifecycle.closing or self._protocol.ended or self.full()
        )
        return bool(holding(self.lock, read, wanted=wanted))

    def if_free(self, read: Callable[[], object], *, wanted: bool = True) -> bool:
        """Call `read` holding the lock, if no other thread does; whether that was so."""

        def call() -> bool:
            if not self._lifecycle.disposed:  # perhaps since the caller has looked
                self._channel.reader = self._identity()
                read()
                self._channel.reader = 0
            if self._channel.orphaned:
                self.dispose()
            return True

        return bool(holding(self.lock, call, wanted=wanted))

    # -- the end ---------------------------------------------------------------

    def answer(self) -> None:
        """Send what is unsent; if that fails, read why. Does not wait, and holds no lock."""
        before = self._link.send_error
        self._outlet.flush()
        if self._link.send_error is not before:
            # The close frame that says why may lie unread; messages before it stay ready.
            self.if_free(self.read_all)

    def dispose(self) -> None:
        """Close the descriptor, once a sender has left it. Holds the lock."""
        link = self._link
        if self._lifecycle.disposed:
            return
        if not (link.eof and self._outlet.finished):
            link.transport.abort()  # so that a blocked sender leaves; and the peer hears of it
        if holding(self._outlet.lock, link.dispose):
            return
        self._channel.orphaned = True  # if it does not in time, it closes the descriptor itself
        # One second for all calls: in a signal handler, the sender may be this very thread.
        self.leave_by = self.leave_by or Deadline(_LEAVE)
        holding(self._outlet.lock, link.dispose, self.leave_by.left())
