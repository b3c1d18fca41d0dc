"""One accepted socket, from its first byte to a complete request, and to an answer that was read.

Rules:

- A Peer never blocks: `advance` does what can be done at once and says what to
  wait for. Whoever calls it brings the deadlines.
- What one call does is bounded, however fast the peer is: others have their turn then.
- The stages are (the PROXY header), TLS, head, (body), and then either the request is handed
  over, or an answer is written and what still comes is drained. A page's answer comes back here
  to be written.
- Whether a request is taken is decided by its head: of a body that nobody wants, no byte is
  kept. A body that is wanted has a limit of its own, and a place among the others.
- Under TLS, no session is made before the peer's first byte shows that it speaks TLS. One that
  speaks HTTP is told so in HTTP.
- The drain (RFC 9112 section 9.6, "lingering close") is what lets the peer read the
  answer: closing a socket with unread bytes in it resets the connection, and
  the reset overtakes the answer. Under TLS it is not decrypted.
- What is held is bounded: a head's limits, `max_body_size`, a piece of an answer, and
  nothing while draining.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from .._handshakes.head import HeadReader, Refused, is_http_1_0, parse_request
from .._network.tls import TLSTransport
from .._network.transport import Transport, write_rest
from .._network.waiting import READ, WRITE
from .access import Asked
from .arrival import Arrival, PeerOptions, awaits_continue, body_length
from .delivery import Delivery
from .http import refusal
from .limits import BODY, REQUEST

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._handshakes.head import Request
    from .._network.deadline import Deadline
    from .arrival import Admit, Admitted
    from .callers import Caller
    from .limits import Place

__all__ = ["AGAIN", "CLOSE", "READY", "WRITTEN", "Peer"]

READY: Final = 4
"""The request is complete: take `arrival` over."""
CLOSE: Final = 8
"""It is over: close it."""
AGAIN: Final = 16
"""It has had its turn, and there is more to do at once."""
WRITTEN: Final = 32
"""The answer is written: from here on the peer has time to read it. Go on at once."""

_GO_ON: Final = 0
_NO_CHOICE: Final = PeerOptions()
_MAX_DRAIN: Final = 4 * 1024 * 1024
_TURN: Final = 256 * 1024  # bytes that one peer may send or take before others have their turn
_TLS_HANDSHAKE: Final = 0x16  # the first byte of a TLS record that starts a handshake
_HTTP = re.compile(rb"[A-Za-z\r\n]")  # the first byte of a request; of TLS none is a letter
_KEPT: Final = 256  # first bytes that are kept for the log
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class Peer:
    """The state machine for one socket; the acceptor thread's alone.

    Attributes:
        transport: The socket.
        place: Its place among the limits.
        deadline: When the peer has to be through.
        request: The request's head, once it came.
        events: What the acceptor's poller waits for, 0 if it does not watch the peer.
        admitted: What takes the complete request over, once its head was let in.
        answered: The answer's status, 0 if there is none.
        reason: Why it was refused, or is closed without an answer; for the log.
        since: When it was accepted, by `Figures.now`.
    """

    __slots__ = (
        "_admit",
        "_body",
        "_caller",
        "_delivery",
        "_drained",
        "_first",
        "_kind",
        "_missing",
        "_options",
        "_outgoing",
        "_reader",
        "_secure",
        "_step",
        "_version",
        "admitted",
        "answered",
        "deadline",
        "events",
        "place",
        "reason",
        "request",
        "since",
        "transport",
    )

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
            admit: Called with the transport, the head and the request; raises
                Refused, or returns what will take the arrival over.
            options: What holds for every peer.
            secure: Makes the same socket's transport under TLS; None for plain TCP.
            caller: Says whose address counts; None for the socket's own.
        """
        self.transport = transport
        self.place = place
        self.deadline = deadline
        self.request: Request | None = None
        self.events = 0
        self.admitted: Admitted | None = None
        self.answered = 0
        self.reason = ""
        self.since = 0.0
        self._admit = admit
        self._options = options
        self._secure = secure
        self._caller = caller
        self._version = ""
        self._reader: HeadReader | None = HeadReader(True, options.heads)
        self._first = b""
        self._body = bytearray()
        self._missing = 0
        self._kind: str | None = REQUEST
        self._outgoing = memoryview(b"")
        self._delivery: Delivery | None = None
        self._drained = 0
        # Functions, not methods: a reference to itself would keep the peer, and its buffers, until
        # the garbage collector comes.
        self._step = Peer._read_head if secure is None else Peer._listen
        if caller is not None and caller.header is not None:
            self._step = Peer._read_proxy_header

    @classmethod
    def to_deliver(cls, delivery: Delivery, place: Place) -> Peer:
        """A peer that gets a page's answer, or what is left of it."""
        delivery.begin()
        peer = cls(delivery.transport, place, delivery.deadline, _no_admission, _NO_CHOICE)
        peer._reader = None
        peer.answered = delivery.status
        peer._delivery = delivery
        peer._step = Peer._write
        return peer

    @property
    def arrival(self) -> Arrival:
        """The complete request, after READY."""
        assert self.request is not None
        length = len(self._body) - max(0, -self._missing)
        request = self.request
        if length:
            request = replace(request, body=bytes(self._body[:length]))
        # Without a body, all of what followed the head is the connection's.
        rest = bytes(self._body[length:])
        return Arrival(
            self.transport,
            self.place,
            request,
            rest,
            self.deadline,
            since=self.since,
            version=self._version,
        )

    def advance(self, buffer: bytearray) -> int:
        """Do what can be done at once, within bounds.

        Args:
            buffer: Scratch space to read into.

        Returns:
            READ or WRITE, what to wait for before the next call; or AGAIN, READY, WRITTEN
            or CLOSE.

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
        """Answer with a refusal; `advance` then writes it.

        Args:
            refused: What to answer.
            deadline: When the peer has to have taken it.
        """
        self.reason = refused.text
        self.answered = refused.status
        self.deadline = deadline
        self.place.answered()
        head_only = self.request is not None and self.request.method == "HEAD"
        self._delivery = Delivery(self.transport, refusal(refused), head_only=head_only)
        self._body, self._reader = bytearray(), None
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
        if not self._first:
            self.reason = "no request came"
            if self._step in (Peer._listen, Peer._shake):
                self.reason = "the TLS handshake took too long"
            elif self._step == Peer._read_proxy_header:
                self.reason = "the PROXY header took too long"
            return False
        self.refuse(Refused(408, "the request took too long"), deadline)
        return True

    @property
    def size(self) -> int:
        """The bytes of the answer's body."""
        return 0 if self._delivery is None else self._delivery.size

    def asked(self) -> Asked:
        """What was asked as far as it is known, for the log."""
        if self.request is None:
            return Asked.by_beginning(self._first)
        return Asked(self.request.method, self.request.path, self.request, self._version)

    def close(self) -> None:
        """Close the socket, and what belongs to it."""
        if self._delivery is not None:
            self._delivery.close()
        self.transport.close()
        self.place.leave()

    # -- the stages --------------------------------------------------------

    def _read_proxy_header(self, buffer: bytearray) -> int:
        """Read what a proxy says of its client, and no byte of what follows, which may be TLS."""
        assert self._caller is not None
        if not self._caller.read_header(self.transport, buffer):
            return READ
        if self._caller.header is None:
            self._step = Peer._read_head if self._secure is None else Peer._listen
        return _GO_ON

    def _listen(self, buffer: bytearray) -> int:
        """Wait for the first byte, which shows whether the peer speaks TLS."""
        first = self.transport.peek(1)
        if first is None:
            return READ
        if not first:
            raise ConnectionResetError("the peer left without a word")
        if _HTTP.match(first):
            self._note(self._read(buffer) or b"")
            raise Refused(400, "this port speaks TLS alone: use wss:// or https://")
        assert self._secure is not None
        address = self.transport.remote_addr
        self.transport = self._secure()
        self.transport.remote_addr = address
        self._step = Peer._shake
        return _GO_ON

    def _shake(self, buffer: bytearray) -> int:  # noqa: ARG002  # a stage's signature
        assert isinstance(self.transport, TLSTransport)
        if self.transport.handshake_step():
            self._step = Peer._read_head
            return _GO_ON
        return WRITE if self.transport.pending else READ

    def _read(self, buffer: bytearray) -> bytes | None:
        count = self.transport.read_into(buffer)
        if count == 0:
            raise ConnectionResetError("the peer left before its request was complete")
        return None if count is None else bytes(memoryview(buffer)[:count])

    def _note(self, data: bytes) -> None:
        """Keep the first bytes, for the log."""
        if len(self._first) < _KEPT:
            self._first += data[: _KEPT - len(self._first)]

    def _read_head(self, buffer: bytearray) -> int:
        data = self._read(buffer)
        if data is None:
            return READ
        if not self._first and data[0] == _TLS_HANDSHAKE:
            # It waits for an answer in TLS, not for a line end.
            raise Refused(400, "this port does not speak TLS: use ws:// or http://")
        self._note(data)
        assert self._reader is not None
        head = self._reader.feed(data)
        if head is None:
            return _GO_ON
        rest, self._reader = self._reader.rest, None
        self._take_head(head, rest)
        return _GO_ON

    def _take_head(self, head: bytes, rest: bytes) -> None:
        """Decide by the head whether the request may come in, and its body."""
        self.request = parse_request(head)
        self._version = "HTTP/1.0" if is_http_1_0(head) else "HTTP/1.1"
        self._identify(self.request)
        self.admitted = self._admit(self.transport, head, self.request)
        self._kind = self.admitted.kind
        length = body_length(self.request, self._options.max_body_size)
        waits = awaits_continue(head, self.request)
        self._missing = length - len(rest)
        self._step = Peer._read_body
        if self._missing > 0:
            self.place.enter(BODY)
            if waits:
                self._outgoing = memoryview(_CONTINUE)
                self._step = Peer._tell_to_go_on
        self._body += rest

    def _identify(self, request: Request) -> None:
        """Take what the head says of the client, if that counts, and whether it may come in."""
        secure = isinstance(self.transport, TLSTransport)
        if self._caller is not None:
            secure = self._caller.identify(self.transport, request.headers) or secure
        address = self.transport.remote_addr
        self.request = replace(request, remote_addr=address, secure=secure)

    def _tell_to_go_on(self, buffer: bytearray) -> int:  # noqa: ARG002  # a stage's signature
        self._outgoing, done = write_rest(self.transport, self._outgoing)
        if not done:
            return WRITE
        self._step = Peer._read_body
        return _GO_ON

    def _read_body(self, buffer: bytearray) -> int:
        if self._missing <= 0:
            if self._kind is not None:
                self.place.enter(self._kind)
            return READY
        data = self._read(buffer)
        if data is None:
            return READ
        self._body += data
        self._missing -= len(data)
        return _GO_ON

    def _write(self, buffer: bytearray) -> int:  # noqa: ARG002  # a stage's signature
        assert self._delivery is not None
        if not self._delivery.advance(_TURN):
            return WRITE
        self._delivery.close()
        self.place.answered()  # before the end of the stream tells the peer that it may come again
        self.transport.finish_writing()
        self._step = Peer._drain
        return WRITTEN

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
