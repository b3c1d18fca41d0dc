"""One step of writing at a time: what is unsent goes into the transport, and nothing waits.

Rules (those about locks are in `link`):

- `lock` guards writing: whole frames, one after the other; the transport's write side.
- A thread that gets the lock at once sends the answers; otherwise the lock's holder sends them,
  after its frame.
- A peer that takes no answers for send_timeout is given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._errors import SendTimeout
from .._network.deadline import Deadline
from .._network.locks import holding

if TYPE_CHECKING:
    from .._network.contract import Lock
    from .link import Link

__all__ = ["Outlet"]

_NO_ANSWERS: Final = "the peer does not read: no answer to its pings was sent within send_timeout"


class Outlet:
    """What sends the answers of one connection, and the lock under which all is sent.

    Attributes:
        stalled: Until when answers wait for the peer to read, None while none do.
        finished: Whether this end has ended its stream.
    """

    __slots__ = ("_channel", "_link", "_unsent", "finished", "stalled")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel = link.channel
        self._unsent = link.unsent
        self.finished = False
        self.stalled: Deadline | None = None

    @property
    def lock(self) -> Lock:
        """What guards writing; another one in a forked child."""
        return self._channel.writing

    def waits(self) -> bool:
        """Whether something is to be sent that no sender has in hand.

        A sender that has the lock sends the answers too, once its frame is out: who waits for the
        socket to be writable meanwhile would only spin.
        """
        return bool(self._unsent) and not self.lock.locked()

    def flush(self) -> None:
        """Send what is unsent, as far as that goes without waiting."""
        while self.waits() and holding(self.lock, self._flush):
            # More may have come; a thread that holds the lock comes here after its frame.
            if self.finished:
                return
        link = self._link
        if self._unsent.answers:
            with link.lifecycle.lock:
                link.protocol.drop_stale_pongs()
                if link.send_error is not None:
                    self._unsent.answers.clear()
        if link.protocol.ended and not self.finished:
            # A reader may have found the lock taken when it was this end's turn.
            self.finish()

    def _flush(self) -> bool:
        """As flush; whether nothing is left. Holds the lock."""
        link, unsent = self._link, self._unsent
        try:
            while link.send_error is None and unsent.take(link.lifecycle.lock):
                if not unsent.advance():
                    return self._note_stall()
                self.stalled = None
            if link.send_error is not None or not link.transport.flush():
                return self._note_stall()
            self.stalled = None
            if link.protocol.ended and self._its_turn() and not unsent:
                self._finish()
            return True
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            self._fail(error)
            return False

    def _note_stall(self) -> bool:
        """The peer takes no answers: after send_timeout, give it up. Holds the lock."""
        link = self._link
        if self.stalled is None:
            self.stalled = Deadline(link.send_timeout)
        elif self.stalled.passed() and link.send_error is None:
            link.transport.abort()
            self._fail(SendTimeout(_NO_ANSWERS))
        return False

    def _fail(self, error: OSError) -> None:
        self._link.send_failed(error)
        self._link.lifecycle.tell()

    def finish(self) -> bool:
        """End the outgoing stream once the last frame has left, if it is this end's turn.

        Returns:
            False if it is, but could not be done now.
        """
        if not self._its_turn():
            return True
        return not self._unsent and bool(holding(self.lock, self._finish))

    def _its_turn(self) -> bool:
        # A server ends the stream first (RFC 6455 section 7.1.1), and so does the end
        # that fails the connection; otherwise a client waits for the server.
        link = self._link
        its_turn = not link.client or link.protocol.control.error is not None
        return its_turn and not self.finished and link.send_error is None

    def _finish(self) -> bool:
        self.finished = True
        self._link.transport.finish_writing()
        return True
