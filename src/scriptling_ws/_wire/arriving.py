"""The message that comes in more than one piece, and where it goes.

Rules (RFC 6455 section 5.4, RFC 7692 section 6):

- Its first frame says whether it is compressed, and so what puts it together: an `Assembly` or an
  `Inflation`. There is one message at a time, so one of the two is at work.
- A length is checked against the limit before memory is taken for it.
- A whole message goes where all others do (`Unreceived.queue`). Of one that is streamed each piece
  is given out, or dropped once nobody streams it any more.

The headers were checked before anything gets here. No I/O, and not thread-safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._errors import Violation
from .assembly import Assembly
from .inflation import Inflation
from .opcodes import BINARY, COMPRESSED, CONTINUATION, FIN

if TYPE_CHECKING:
    from .._handshakes.terms import Terms
    from .unreceived import Unreceived

__all__ = ["Arriving"]


class Arriving:
    """The message that is coming in on one connection, if there is one.

    Attributes:
        assembly: What puts it together: the one that is at work, or was last.
        inflates: Whether a message may be compressed.
        inflated: How many bytes of messages have come compressed.
    """

    __slots__ = (
        "_inflation",
        "_limit",
        "_uncompressed",
        "_unreceived",
        "assembly",
        "inflated",
        "inflates",
    )

    def __init__(
        self,
        unreceived: Unreceived,
        masked: bool,
        limit: int,
        max_fragments: int,
        deflate: Terms | None,
    ) -> None:
        """Start without a message.

        Args:
            unreceived: Where messages go.
            masked: Whether frames are masked.
            limit: The most bytes in a message.
            max_fragments: The most frames in a message.
            deflate: The terms of compression, None for none.
        """
        self._unreceived = unreceived
        self._limit = limit
        self._uncompressed = Assembly(masked, limit, max_fragments)
        self._inflation: Inflation | None = None
        if deflate is not None:
            self._inflation = Inflation(
                deflate, masked=masked, limit=limit, max_fragments=max_fragments
            )
        self.assembly = self._uncompressed
        self.inflates = deflate is not None
        self.inflated = 0

    def begin(self, first: int, length: int, key: bytes | None) -> None:
        """Begin a data frame, and its message if it is the first one of it."""
        opcode, unreceived = first & 0x0F, self._unreceived
        if opcode != CONTINUATION:
            compressed = first & COMPRESSED and self._inflation
            self.assembly = compressed or self._uncompressed
        if length > self.assembly.left:
            raise Violation.too_large(self._limit)
        fin = bool(first & FIN)
        sought = unreceived.streamed if opcode != CONTINUATION and unreceived.sought() else None
        if sought is not None and sought.target is not None:
            fits = opcode == BINARY and fin and length <= len(sought.target)
            sought = sought if fits and self.assembly is self._uncompressed else None
        self.assembly.piecemeal = self.assembly.piecemeal or sought is not None
        self.assembly.begin(opcode, fin, length, key)
        if sought is not None:
            sought.begin(self.assembly)

    def deliver(self) -> None:
        """Put the message where it belongs: what has come of one that is streamed, others whole."""
        assembly, unreceived = self.assembly, self._unreceived
        if assembly.piecemeal:
            self._hand_over()
            return
        if not assembly.complete:
            return
        if assembly is self._inflation:
            self.inflated += assembly.size
        if unreceived.discarding:
            assembly.forget()
        else:
            as_list, as_utf8 = unreceived.kinds()
            counts = assembly.counts()
            unreceived.queue().append(assembly.finish(as_list=as_list, as_utf8=as_utf8))
            unreceived.tally.assembled(*counts)

    def _hand_over(self) -> None:
        """Give out what has come of the message that is streamed."""
        assembly, unreceived = self.assembly, self._unreceived
        message = unreceived.streamed
        if message is not None and message.target is not None and not assembly.dropped:
            if assembly.complete:
                unreceived.tally.assembled(*assembly.counts())
                assembly.forget()
                message.done = True
            return
        piece, complete = assembly.drain(as_utf8=unreceived.as_utf8), assembly.complete
        if assembly is self._inflation:
            self.inflated += len(piece)
        wanted = not (assembly.dropped or unreceived.discarding)
        if complete:
            unreceived.tally.assembled(*assembly.counts())
            assembly.forget()
        if wanted and message is not None:  # pragma: no branch - else it would be dropped
            message.add(piece)
            message.done = complete

    def leave(self, unnoted: int) -> None:
        """Nobody streams the message any more: what is left of it is dropped, or put together.

        Args:
            unnoted: Bytes that have come into a streamer's own buffer, and were not taken in.

        Raises:
            Violation: there is no memory for what goes on in a room of its own.
        """
        message, assembly = self._unreceived.streamed, self.assembly
        self._unreceived.streamed = None
        if not assembly.piecemeal or assembly.dropped:
            return
        if assembly.frame is None and message is not None and message.target is not None:
            assembly.forget()  # cut short at its end: `feed_rest` ends the connection
        elif message is not None and message.target is not None:
            assembly.piecemeal = False
            assembly.move_out(unnoted)
        else:
            assembly.dropped = True

    def end(self) -> None:
        """No message comes any more: let go of what was kept for it."""
        self.assembly = self._uncompressed
        if self.assembly.opcode != CONTINUATION:
            self.assembly.forget()
        self._inflation = None
        self.inflates = False
