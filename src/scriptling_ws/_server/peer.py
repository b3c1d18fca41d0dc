"""One accepted socket, from its first byte to a complete request, and to an answer that was read.

Rules:

- A Peer never blocks: `advance` does what can be done at once and says what to
  wait for. Whoever calls it brings the deadlines.
- What one call does is bounded, however fast the peer is: others have their turn then.
- The stages are the greeting (a PROXY header, TLS), the reading of a request, and then either that
  is handed over, or an answer is written. A page's answer comes back here to be written.
- After an answer the connection goes on (`persistence`): it waits for the next request, of
  which some may be there already. Or it ends: what still comes is drained.
- The drain (RFC 9112 section 9.6, "lingering close") is what lets the peer read the
  answer: closing a socket with unread bytes in it resets the connection, and
  the reset overtakes the answer. Under TLS it is not decrypted.
- What is held is bounded: what a request has (`reading`), a piece of an answer, one buffer of what
  has come after a request, and nothing while draining.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from .._handshakes.head import Refused
from .._network.tls import TLSTransport
from .._network.transport import Transport
from .._network.waiting import READ, WRITE
from .access import Asked
from .arrival import PeerOptions
from .delivery import Delivery
from .greeting import Greeting
from .http import Manner
from .persistence import KeepAlive
from .reading import COMPLETE, HEARD, Reading, Rest
from .response import refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._handshakes.head import Request
    from .._network.deadline import Deadline
    from .arrival import Admit, Admitted, Arrival
    from .callers import Caller
    from .limits import Place

__all__ = ["AGAIN", "ASKING", "CLOSE", "KEPT", "READY", "WRITTEN", "Peer"]

READY: Final = COMPLETE
"""The request is complete: take `arrival` over."""
CLOSE: Final = 8
"""It is over: close it."""
AGAIN: Final = 16
"""It has had its turn, and there is more to do at once."""
WRITTEN: Final = 32
"""The answer is written: from here on the peer has time to read it. Go on at once."""
KEPT: Final = 64
"""The answer is written: from here on the peer has time to ask again. Go on at once."""
ASKING: Final = 128
"""Another request begins: from here on the peer has time to complete it. Go on at once."""

_GO_ON: Final = 0
_MAX_DRAIN: Final = 4 * 1024 * 1024
_TURN: Final = 256 * 1024  # bytes that one peer may send or take before others have their turn


class Peer:
    """The state machine for one socket; the acceptor thread's alone.

    Attributes:
        transport: The socket.
        place: Its place among the limits.
        deadline: When the peer has to be through.
        events: What the acceptor's poller waits for, 0 if it does not watch the peer.
        answered: The answer's status, 0 if there is none.
        reason: Why it was refused, or is closed without an answer; for the log.
        since: When it was accepted, or a later request has begun, by `Figures.now`.
    """

    __slots__ = (
        "_delivery",
        "_drained",
        "_greeting",
        "_reading",
        "_rest",
        "_step",
        "answered",
        "deadline",
        "events",
        "place",
        "reason",
        "since",
        "transport",
    )
    _delivery: Delivery | None
    _greeting: Greeting | None
    _reading: Reading | None
    _step: Callable[[Peer, bytearray], int]

    def __init__(
        self,
        transport: Transport,
        place: Place,
        deadline: Deadline,
        admit: Admit,
        options: PeerOptions,
        secure: Callable[[], TLSTransport] | None = None,
        caller: Caller | None = None,
    ) -> None:
        """Begin at the first byte.

        Args:
            transport: A connected socket, as it is without TLS.
            place: Its place among the limits.
            deadline: When the request has to be complete.
            admit: Called with the head and the request; raises
                Refused, or returns what will take the arrival over.
            options: What holds for every peer.
            secure: Makes the same socket's transport under TLS; None for plain TCP.
            caller: Says whose address counts; None for the socket's own.
        """
        self._set_up(transport, place, deadline, Rest(admit, options, caller))
        self._step = Peer._read
        if secure is not None or (caller is not None and caller.header is not None):
            self._greeting = Greeting(transport, secure, caller)
            self._step = Peer._greet
        else:
            self._reading = Reading(transport, place, self._rest)

    def _set_up(self, transport: Transport, place: Place, deadline: Deadline, rest: Rest) -> None:
        self.transport = transport
        self.place = place
        self.deadline = deadline
        self.events = 0
        self.answered = 0
        self.reason = ""
        self.since = 0.0
        self._rest = rest
        self._greeting = None
        self._reading = None
        self._delivery = None
        self._drained = 0
        # A function, not a method: a reference to itself would keep the peer until the garbage
        # collector comes.
        self._step = Peer._write

    @classmethod
    def to_deliver(cls, delivery: Delivery, place: Place) -> Peer:
        """A peer that gets a page's answer, or what is left of it, and perhaps asks again."""
        delivery.begin()
        sequel = delivery.sequel
        rest = sequel if isinstance(sequel, Rest) else _END
        peer = cls.__new__(cls)
        peer._set_up(delivery.transport, place, delivery.deadline, rest)
        peer.answered = delivery.status
        peer._delivery = delivery
        return peer

    @property
    def request(self) -> Request | None:
        """The request's head, once it came."""
        return None if self._reading is None else self._reading.request

    @property
    def admitted(self) -> Admitted:
        """What takes the complete request over, after READY."""
        assert self._reading is not None
        assert self._reading.admitted is not None
        return self._reading.admitted

    @property
    def arrival(self) -> Arrival:
        """The complete request, after READY."""
        assert self._reading is not None
        return self._reading.arrival(self.deadline, self.since)

    def advance(self, buffer: bytearray) -> int:
        """Do what can be done at once, within bounds.

        Args:
            buffer: Scratch space to read into.

        Returns:
            READ or WRITE, what to wait for before the next call; or AGAIN, READY, WRITTEN,
            KEPT, ASKING or CLOSE.

        Raises:
            Refused: answer it with `refuse`.
            BrokenOff: the answer's file failed.
            OSError: the connection is broken.
        """
        for _ in range(_TURN // len(buffer)):
            result = self._step(self, buffer)
            if result != _GO_ON:
                return result
        return AGAIN

    def refuse(self, refused: Refused, deadline: Deadline) -> None:
        """Answer with a refusal, which ends the connection; `advance` then writes it.

        Args:
            refused: What to answer.
            deadline: When the peer has to have taken it.
        """
        self.reason = refused.text
        self.answered = refused.status
        self.deadline = deadline
        self.place.answered()
        self._delivery = Delivery(
            self.transport,
            refusal(refused),
            head_only=self.request is not None and self.request.method == "HEAD",
            manner=Manner(headers=self._rest.options.headers),
        )
        if self._reading is not None:
            self._reading.forget()
        self._rest = _END
        self._step = Peer._write

    def renew(self) -> bool:
        """A page's answer has passed its deadline: whether the peer takes it fast enough."""
        if self._delivery is None or not self._delivery.renew():
            return False
        self.deadline = self._delivery.deadline
        return True

    def expire(self, deadline: Deadline) -> bool:
        """The deadline has passed.

        Returns:
            Whether the peer gets an answer (408) and a new deadline; else close it.
            One that has not said a word, or not in TLS, has nothing to be answered.
        """
        if self.answered:
            return False
        if self._greeting is not None:
            self.reason = self._greeting.reason
            return False
        if not self._heard:
            self.reason = "no request came"
            return False
        self.refuse(Refused(408, "the request took too long"), deadline)
        return True

    @property
    def size(self) -> int:
        """The bytes of the answer's body."""
        return 0 if self._delivery is None else self._delivery.size

    @property
    def _heard(self) -> bytes:
        if self._reading is not None:
            return self._reading.heard
        return b"" if self._greeting is None else self._greeting.heard[:HEARD]

    def asked(self) -> Asked:
        """What was asked as far as it is known, for the log."""
        if self._reading is None:
            return Asked.by_beginning(self._heard)
        return self._reading.asked()

    def finish(self) -> None:
        """End the connection, as far as it is this end's: what still comes is drained."""
        self.transport.finish_writing()
        self._step = Peer._drain

    def close(self) -> None:
        """Close the socket, and what belongs to it."""
        if self._delivery is not None:
            self._delivery.close()
        self.transport.close()
        self.place.leave()

    # -- the stages --------------------------------------------------------

    def _greet(self, buffer: bytearray) -> int:
        greeting = self._greeting
        assert greeting is not None
        wanted = greeting.advance(buffer)
        self.transport = greeting.transport
        if greeting.done:
            self._greeting = None
            self._reading = Reading(self.transport, self.place, self._rest)
            self._step = Peer._read
        return wanted

    def _read(self, buffer: bytearray) -> int:
        assert self._reading is not None
        return self._reading.advance(buffer)

    def _write(self, buffer: bytearray) -> int:  # noqa: ARG002  # a stage's signature
        assert self._delivery is not None
        if not self._delivery.advance(_TURN):
            return WRITE
        self._delivery.close()
        self.place.answered()  # before the end of the stream tells the peer that it may come again
        if self._rest.timeout is None:
            self.finish()
            return WRITTEN
        if self._rest.caller is not None:
            self._rest.caller.pause(self.transport)
        self._delivery, self.answered = None, 0
        self._step = Peer._wait
        return KEPT

    def _wait(self, buffer: bytearray) -> int:
        """Wait for another request, of which some may be there already."""
        rest = self._rest
        if not rest.data:
            count = self.transport.read_into(buffer)
            if count is None:
                return READ
            if not count:
                return CLOSE
            rest = replace(rest, data=bytes(memoryview(buffer)[:count]))
        self._rest = replace(rest, data=b"")
        self._reading = Reading(self.transport, self.place, rest)
        self._step = Peer._read
        return ASKING

    def _drain(self, buffer: bytearray) -> int:
        if isinstance(self.transport, TLSTransport):
            # As it comes: nobody looks at it, and decrypting takes time and memory.
            count = Transport.read_into(self.transport, buffer)
        else:
            count = self.transport.read_into(buffer)
        if count is None:
            return READ
        self._drained += count
        return CLOSE if count == 0 or self._drained > _MAX_DRAIN else _GO_ON


def _no_admission(*_: object) -> Admitted:
    raise AssertionError  # pragma: no cover - an answered peer makes no request


_END: Final = Rest(_no_admission, PeerOptions(keep_alive=KeepAlive(0)))  # of a connection that ends
