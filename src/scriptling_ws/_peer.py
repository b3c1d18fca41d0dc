"""One accepted socket, from its first byte to a complete request or a refusal that was read.

Rules:

- A Peer never blocks: `advance` does what can be done at once and says what to
  wait for. Whoever calls it brings the deadlines.
- The stages are TLS, head, (body), and then either the request is handed over, or
  an answer is written and what still comes is drained.
- The drain (RFC 9112 section 9.6, "lingering close") is what lets the peer read the
  answer: closing a socket with unread bytes in it resets the connection, and
  the reset overtakes the answer.
- What is held is bounded: a head's limits, MAX_BODY, and nothing while draining.
"""

from __future__ import annotations

import re
import selectors
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ._head import HeadReader, Refused, Request, parse_request
from ._http import Response, refusal, render
from ._options import HeadLimits
from ._tls import TLSTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._deadline import Deadline
    from ._transport import Transport

    Start = Callable[["Arrival"], None]
    Admit = Callable[[Transport, bytes, Request], Start]

__all__ = ["CLOSE", "MAX_BODY", "READ", "READY", "WRITE", "Arrival", "Peer"]

READ: Final = selectors.EVENT_READ
WRITE: Final = selectors.EVENT_WRITE
READY: Final = 4
"""The request is complete: take `arrival` over."""
CLOSE: Final = 8
"""It is over: close the transport."""

MAX_BODY: Final = 1024 * 1024
"""The most bytes that the body of a page's request may have."""

_GO_ON: Final = 0
_NO_CHOICE: Final = HeadLimits()
_MAX_DRAIN: Final = 4 * 1024 * 1024
_TLS_HANDSHAKE: Final = 0x16  # the first byte of a TLS record that starts a handshake
_KEPT: Final = 256  # first bytes that are kept for the log
# Method and path, as far as they came; of a whole URL neither the user nor the host.
_FIRST_WORDS = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}) (?:[A-Za-z][A-Za-z0-9+.-]*://[^/?#\s]*)?(/[^?#\s]*|\*)"
)


@dataclass(frozen=True)
class Arrival:
    """A complete request and the transport that it came on.

    Attributes:
        transport: Whoever takes the arrival over closes it.
        request: The request, its body included.
        rest: What came after it.
        deadline: When the opening handshake has to be over.
    """

    transport: Transport
    request: Request
    rest: bytes
    deadline: Deadline


class Peer:
    """The handshake's state machine for one socket; the acceptor thread's alone.

    Attributes:
        transport: The socket.
        deadline: When the peer has to be through.
        request: The request's head, once it came.
        events: What the acceptor's selector waits for, 0 if it does not watch the peer.
        start: What takes the complete request over.
        answered: The status of the refusal, 0 if none was made.
        reason: Why it was refused, or is closed without an answer; for the log.
    """

    __slots__ = (
        "_admit",
        "_body",
        "_drained",
        "_first",
        "_missing",
        "_outgoing",
        "_reader",
        "_step",
        "answered",
        "deadline",
        "events",
        "reason",
        "request",
        "start",
        "transport",
    )

    def __init__(
        self,
        transport: Transport,
        deadline: Deadline,
        admit: Admit,
        limits: HeadLimits = _NO_CHOICE,
    ) -> None:
        """Begin at the first byte.

        Args:
            transport: A connected socket.
            deadline: When the request has to be complete.
            admit: Called with the transport, the head and the request; raises
                Refused, or returns what will take the arrival over.
            limits: How long the request's head may be.
        """
        self.transport = transport
        self.deadline = deadline
        self.request: Request | None = None
        self.events = 0
        self.start: Start | None = None
        self.answered = 0
        self.reason = ""
        self._admit = admit
        self._reader = HeadReader(True, limits)
        self._first = b""
        self._body = bytearray()
        self._missing = 0
        self._outgoing = memoryview(b"")
        self._drained = 0
        # Functions, not methods: a reference to itself would keep the peer, and its buffers, until
        # the garbage collector comes.
        self._step = Peer._shake if isinstance(transport, TLSTransport) else Peer._read_head

    @classmethod
    def to_drain(cls, transport: Transport, deadline: Deadline) -> Peer:
        """A peer to which an answer was already written."""
        peer = cls(transport, deadline, _no_admission)
        peer._step = Peer._write
        return peer

    @property
    def arrival(self) -> Arrival:
        """The complete request, after READY."""
        assert self.request is not None
        length = len(self._body) - max(0, -self._missing)
        request = replace(self.request, body=bytes(self._body[:length]))
        # Without a body, all of what followed the head is the connection's.
        rest = bytes(self._body[length:])
        return Arrival(self.transport, request, rest, self.deadline)

    def advance(self, buffer: bytearray) -> int:
        """Do what can be done at once.

        Args:
            buffer: Scratch space to read into.

        Returns:
            READ or WRITE, what to wait for before the next call; READY or CLOSE.

        Raises:
            Refused: answer it with `refuse`.
            OSError: the connection is broken.
        """
        while True:
            result = self._step(self, buffer)
            if result != _GO_ON:
                return result

    def refuse(self, refused: Refused, deadline: Deadline) -> None:
        """Answer with a refusal; `advance` then writes it.

        Args:
            refused: What to answer.
            deadline: When the peer has to have read it.
        """
        self.reason = refused.text
        self._answer(refusal(refused), deadline)

    def _answer(self, response: Response, deadline: Deadline) -> None:
        self.answered = response.status
        self.deadline = deadline
        head_only = self.request is not None and self.request.method == "HEAD"
        self._outgoing = memoryview(render(response, head_only=head_only))
        self._body = bytearray()
        self._step = Peer._write

    def expire(self, deadline: Deadline) -> bool:
        """The deadline has passed.

        Returns:
            Whether the peer gets an answer (408) and a new deadline; else close it.
            One that has not said a word, or not in TLS, has nothing to be answered.
        """
        if self.answered:
            return False
        if not self._first:
            shaking = self._step is Peer._shake
            self.reason = "the TLS handshake took too long" if shaking else "no request came"
            return False
        self.refuse(Refused(408, "the request took too long"), deadline)
        return True

    def first_words(self) -> tuple[str, str]:
        """The request's method and path as far as they are known, for the log; else "-"."""
        if self.request is not None:
            return self.request.method, self.request.path
        found = _FIRST_WORDS.match(self._first)
        if found is None:
            return "-", "-"
        method, path = found.groups()
        return method.decode("ascii"), path.decode("latin-1")

    # -- the stages --------------------------------------------------------

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

    def _read_head(self, buffer: bytearray) -> int:
        data = self._read(buffer)
        if data is None:
            return READ
        if not self._first and data[0] == _TLS_HANDSHAKE:
            # It waits for an answer in TLS, not for a line end.
            raise Refused(400, "this port does not speak TLS: use ws:// or http://")
        if len(self._first) < _KEPT:
            self._first += data[: _KEPT - len(self._first)]
        head = self._reader.feed(data)
        if head is None:
            return _GO_ON
        self.request = parse_request(head)
        self.start = self._admit(self.transport, head, self.request)
        self._body += self._reader.rest
        self._missing = _body_length(self.request) - len(self._body)
        self._step = Peer._read_body
        return _GO_ON

    def _read_body(self, buffer: bytearray) -> int:
        if self._missing <= 0:
            return READY
        data = self._read(buffer)
        if data is None:
            return READ
        self._body += data
        self._missing -= len(data)
        return _GO_ON

    def _write(self, buffer: bytearray) -> int:  # noqa: ARG002  # a stage's signature
        while self._outgoing:
            count = self.transport.write(self._outgoing)
            if not count:
                return WRITE
            self._outgoing = self._outgoing[count:]
        if not self.transport.flush():
            return WRITE
        self.transport.finish_writing()
        self._step = Peer._drain
        return _GO_ON

    def _drain(self, buffer: bytearray) -> int:
        count = self.transport.read_into(buffer)
        if count is None:
            return READ
        self._drained += count
        return CLOSE if count == 0 or self._drained > _MAX_DRAIN else _GO_ON


def _no_admission(*_: object) -> Start:
    raise AssertionError  # pragma: no cover - an answered peer makes no request


def _body_length(request: Request) -> int:
    if "transfer-encoding" in request.headers:
        raise Refused(411, "send the body with a Content-Length")
    announced = request.headers.get("content-length", "0")
    if not (announced.isascii() and announced.isdigit()):  # pragma: no cover - h11 has refused it
        raise Refused(400, "Content-Length is malformed")
    length = int(announced) if len(announced) < 20 else MAX_BODY + 1
    if length > MAX_BODY:
        raise Refused(413, f"the body may have {MAX_BODY} bytes")
    return length
