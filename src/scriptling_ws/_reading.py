"""Reading from one connection: once, until a deadline, and on behalf of others.

Rules (those about locks are in `_shared`):

- How many bytes came is noted in the step in which the system call returns: a signal
  handler that raises loses none of them.
- What was read may have to be answered at once: see `_writing`, which is given the word.
- A thread that reads for others (a blocked sender, `ping`, now and then `send`) lets
  max_backlog pile up, and then leaves it to `receive`.
- Keepalive takes no message out of the socket, only control frames that stand in front
  (`_take_controls`): the caller may be waiting on the descriptor.
- A connection for which there is no keepalive thread (`_alone`) is looked after by its reader.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Final

from ._shared import Shared
from ._transport import NAP

if TYPE_CHECKING:
    from ._deadline import Deadline

__all__ = ["LOOK_AGAIN", "Reading"]

LOOK_AGAIN: Final = 0.1
"""Seconds after which whoever waits asks again what the other threads do."""

_AHEAD: Final = 4096  # bytes in which control frames are looked for
_TURNS: Final = 16  # so often at a time: a peer can send pings without end
_MESSAGE_OVERHEAD: Final = 64  # what a small message costs beside its bytes, about


class Reading(Shared, ABC):
    """A connection that can be read from."""

    __slots__ = ()

    @abstractmethod
    def _unsent(self) -> bool:
        """Whether something is to be sent that no sender has in hand."""

    @abstractmethod
    def _flush(self) -> None:
        """Send what is in the outbox, as far as that goes without waiting."""

    @abstractmethod
    def _closing_began(self) -> None:
        """The peer has closed or left: tell it, and see to the end if no call comes."""

    @abstractmethod
    def _look_alone(self) -> None:
        """Do what is due where no thread looks after the connection."""

    def _read_some(self, nap: bool, most: int | None = None) -> int | None:
        """Receive once and parse. Holds _recv_lock.

        Args:
            nap: Let the kernel sleep for a moment if nothing is there.
            most: How many bytes to receive at the most, None for what there is.

        Returns:
            How many bytes came, 0 at the end of the stream, None if nothing was there.
        """
        protocol = self._protocol
        if protocol.unfed is None:
            # The count is stored before anything else can happen: should a signal
            # handler raise, the next call goes on from there.
            try:
                space = protocol.space() if most is None else memoryview(protocol.space())[:most]
                protocol.unfed = self._transport.read_into(space, nap)
            except OSError as error:
                if error.errno is None:
                    raise  # a signal handler's, such as TimeoutError
                protocol.unfed = 0  # reset, timed out, unreachable: the peer is gone
            if protocol.unfed is None:
                return None
        count = protocol.unfed
        self._heard = True
        if not (count and protocol.feed_run()):
            with self._state_lock:
                if count:
                    protocol.feed_rest()
                    if protocol.control.pongs:
                        self._note_pongs()
                else:
                    self._eof = True
                    protocol.unfed = None
                    protocol.end()
                self._note_state()
        if self._outbox or self._transport.pending or self._rest is not None or self._tail:
            self._flush()
        if protocol.ended:
            self._closing_began()
        return count

    def _take_controls(self) -> bool:
        """Take the control frames that come next. Holds _recv_lock.

        Returns:
            Whether a message, or a part of a frame, lies there for the one who receives.
        """
        protocol = self._protocol
        for _ in range(_TURNS):
            count = None
            if protocol.unfed is None:
                try:
                    ahead = self._transport.peek(_AHEAD)
                except OSError as error:
                    if error.errno is None:
                        raise  # a signal handler's, such as TimeoutError
                    ahead = b""  # _read_some meets it again
                if ahead is None:
                    return False
                count = protocol.controls(ahead) or None
                if ahead and not count:
                    return True
            self._read_some(False, count)
            if protocol.ended:
                return False
        return False  # not all of them were taken: the descriptor goes on being readable

    def _read_run(self) -> bool:
        """Receive once if whole messages are likely; whether they came. Holds _recv_lock."""
        try:
            came = self._protocol.receive_run(self._receive_into)
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            return False  # _read_some meets it again
        self._heard = self._heard or came
        if self._outbox or self._transport.pending or self._rest is not None or self._tail:
            self._flush()
        return came and not self._closing

    def _read(self, deadline: Deadline, wakeable: bool, nap: bool = True) -> int | None:
        """Receive once, waiting for it. Holds _recv_lock.

        Args:
            deadline: Until when.
            wakeable: Return when somebody begins to close.
            nap: Sleep in `recv` first, and only then where `wake` is heard.

        Returns:
            As _read_some; None if the deadline came, or somebody began to close,
            before anything did.
        """
        left = deadline.left()
        nap = nap and (left is None or left > NAP) and not self._unsent()
        while (count := self._read_some(nap)) is None:
            if deadline.passed() or (wakeable and self._closing):
                self._flush()  # what the system may take by now
                return None
            if left is None or left > 1:
                self._protocol.relax()
            write = self._unsent()
            self._transport.wait(True, write, self._until(deadline, write), wakeable)
            if write:
                self._flush()
            if self._alone is not None:
                self._look_alone()
            nap = False
        return count

    def _until(self, deadline: Deadline, write: bool) -> Deadline:
        """The deadline, or the moment at which something else is due before.

        A peer that takes no answers is given up, or this thread looks after the connection.
        """
        left = self._stalled.left() if write and self._stalled is not None else None
        if left is not None:
            deadline = deadline.sooner(max(left, LOOK_AGAIN))
        if self._alone is not None:
            deadline = deadline.sooner(max(self._alone - monotonic(), 0.0))
        return deadline

    def _read_ahead(self) -> bool:
        """Receive once for others, and count it; False if nothing was there. Holds _recv_lock."""
        before, inflated = len(self._ready), self._protocol.inflated
        count = self._read_some(nap=False)
        more = len(self._ready) - before  # less what was taken meanwhile
        size = (count or 0) + self._protocol.inflated - inflated
        self._backlog += size * self._weight + _MESSAGE_OVERHEAD * max(more, 0)
        return count is not None

    def _backlog_full(self) -> bool:
        """Whether as many messages as may lie unread do."""
        if self._backlog >= self._max_backlog:  # perhaps some were taken since: count
            # Without the GIL the copy fails where a message is taken meanwhile: full for now.
            with contextlib.suppress(RuntimeError):
                waiting = self._ready.copy()
                weight = self._weight  # of an item of a list
                size = sum(len(m) * (weight if isinstance(m, list) else 1) for m in waiting)
                self._backlog = size + _MESSAGE_OVERHEAD * len(waiting)
        return self._backlog >= self._max_backlog
