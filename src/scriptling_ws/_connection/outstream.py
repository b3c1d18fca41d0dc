"""Sending a message whose parts come one after the other: what `send_stream` does.

Rules (RFC 6455 section 5.4; those about locks are in `link`):

- The message goes as fragments. From the first to the last it has the turn (`Unsent.fragmented`,
  `Writer.turn`): no other message may come between them. Between two of them no lock of the link's
  is held, however long the caller takes for the next part: answers go, and whoever reads does.
- Nothing is sent before a whole fragment is there; a source that fails before that changes nothing.
- A message that was begun cannot be taken back. If it cannot be finished, the connection is closed
  with 1011, so that the peer does not take what it has for all of it.
- send_timeout counts anew for each fragment, and does not count while the source is asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .._codes import CloseCode
from .._errors import SendTimeout
from .._network.deadline import Deadline
from .._network.locks import holding
from .._network.waiting import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .._wire.fragments import Fragments
    from .closer import Closer
    from .link import Link
    from .outlet import Outlet
    from .writer import Writer

__all__ = ["OutStream"]

_SEND: Final = 256  # what a fragment counts where tasks share a thread
_GIVEN_UP: Final = "a message in fragments was given up half-way"
_OTHERS: Final = "other threads' messages took all of send_timeout"


class OutStream:
    """Sends one message in fragments."""

    __slots__ = ("_closer", "_fragments", "_left", "_link", "_outlet", "_unsent", "_writer")

    def __init__(
        self, link: Link, outlet: Outlet, writer: Writer, closer: Closer, fragments: Fragments
    ) -> None:
        self._link = link
        self._unsent = link.unsent
        self._outlet = outlet
        self._writer = writer
        self._closer = closer
        self._fragments = fragments
        self._left = 0  # frames that have left

    def send(
        self,
        payloads: Iterator[tuple[bytes, bool]],
        progress: Callable[[int, int | None], object] | None,
        total: int | None,
    ) -> None:
        """Send the message.

        Args:
            payloads: The fragments' payloads, and whether each is the last.
            progress: As `Connection.send_stream` takes it.
            total: The bytes of all of them, None where that is not known.
        """
        first = next(payloads)  # before any message has to wait for this one

        def send() -> bool:
            self._writer.fragmenter = engine().identity()
            try:
                if self._unsent.fragmented:  # an exception has kept another one from its `_give_up`
                    self._give_up()
                self._send_all(first, payloads, progress, total)
            finally:
                self._writer.fragmenter = 0
            return True

        if not self._writer.with_turn(send, Deadline(self._link.send_timeout)):
            raise SendTimeout(_OTHERS)

    def _send_all(
        self,
        first: tuple[bytes, bool],
        payloads: Iterator[tuple[bytes, bool]],
        progress: Callable[[int, int | None], object] | None,
        total: int | None,
    ) -> None:
        payload, last = first
        sent = 0
        try:
            while True:
                self._send_one(payload, last)
                sent += len(payload)
                # The last fragment may be empty: all of it is told once, when that has left.
                if progress is not None and (last if sent == total else payload or not sent):
                    progress(sent, total)
                if last:
                    return
                payload, last = next(payloads)
        except BaseException:
            if self._spoilt(last):
                self._give_up()
            # Only now others may send.
            if self._unsent.fragmented:
                holding(self._outlet.lock, self._unsent.end_fragments, None)
            raise

    def _give_up(self) -> None:
        """Close the connection: the peer has half a message."""
        self._closer.start(CloseCode.INTERNAL_ERROR, _GIVEN_UP, discard=False)

    def _spoilt(self, last: bool) -> bool:
        """Whether the peer has a part of the message, and will not get the rest."""
        begun = self._unsent.begun and self._unsent.due  # then what is left of it goes
        whole = last and (begun or self._left == self._fragments.made)
        return bool((begun or self._left) and not whole and self._link.lifecycle.open)

    def _count(self) -> None:
        """Count the message, but for its frames."""
        tally, fragments = self._unsent.tally, self._fragments
        tally.messages += 1
        tally.payload += fragments.payload
        if fragments.deflated is not None:
            tally.original += fragments.payload
            tally.deflated += fragments.deflated

    def _send_one(self, payload: bytes, last: bool) -> None:
        """Send one fragment."""
        link, unsent = self._link, self._unsent
        engine().share(_SEND)
        deadline = Deadline(link.send_timeout)

        def send() -> bool:
            if not link.lifecycle.open:
                raise link.closed_error()
            unsent.fragmented = True
            frame = self._fragments.frame(payload, last=last)
            self._writer.go_on(frame, deadline)
            self._left += 1
            unsent.tally.frames += 1
            unsent.tally.wire += len(frame)
            if last:
                unsent.end_fragments()
                self._fragments.sent()
                self._count()
            return True

        if not holding(self._outlet.lock, send, deadline.left()):
            raise SendTimeout(_OTHERS)
        self._writer.look_after()
