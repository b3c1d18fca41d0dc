"""One request on a connection, from its first byte to its last.

Rules (RFC 9112):

- Nothing here blocks: `advance` does what can be done at once and says what to wait for.
- Whether a request is taken is decided by its head: of a body that nobody wants, no byte is
  kept. A body that is wanted has a limit of its own, and a place among the others.
- Where one request ends and the next begins is never in doubt: a body has one Content-Length and
  no other coding (`arrival`), and a request that is refused is the connection's last (section
  11.2, request smuggling).
- What is held is bounded: a head's limits, `max_body_size`, and one buffer of what has come after
  the request.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from .._handshakes.alike import keep, like_one_before
from .._handshakes.head import HeadReader, Refused, is_http_1_0, parse_request
from .._handshakes.request import note, revised
from .._network.tls import TLSTransport
from .._network.transport import write_rest
from .._network.waiting import READ, WRITE
from .access import Asked
from .admission import NO_SUCH_HOST
from .arrival import Arrival, PeerOptions, awaits_continue, body_length
from .limits import BODY, REQUEST
from .persistence import persists

if TYPE_CHECKING:
    from .._handshakes.head import Request
    from .._network.deadline import Deadline
    from .._network.transport import Transport
    from .arrival import Admit, Admitted
    from .callers import Caller
    from .limits import Place

__all__ = ["COMPLETE", "HEARD", "Reading", "Rest"]

COMPLETE: Final = 4
"""The request is complete: take `arrival` over."""
HEARD: Final = 256
"""How many first bytes are kept for the log."""

_GO_ON: Final = 0
_TLS_HANDSHAKE: Final = 0x16  # the first byte of a TLS record that starts a handshake
_NOTHING: Final = memoryview(b"")
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


@dataclass(slots=True)
class Rest:
    """What a connection goes on with after a page's answer; a `persistence.Sequel`.

    It never changes. (Not frozen: that would store each of these by a call.)

    Attributes:
        admit: As for the request before.
        options: Likewise.
        caller: Likewise.
        data: What has come after that request.
        count: How many requests there were.
    """

    admit: Admit
    options: PeerOptions
    caller: Caller | None = None
    data: bytes = b""
    count: int = 0

    @property
    def timeout(self) -> float | None:
        """As `Sequel.timeout`."""
        keep_alive = self.options.keep_alive
        return keep_alive.timeout if keep_alive.allows(self.count) else None


class Reading:
    """The state machine for one request; the acceptor thread's alone.

    Attributes:
        request: The request's head, once it came.
        admitted: What takes the complete request over, once its head was let in.
        heard: The first bytes, for the log.
    """

    __slots__ = (
        "_body",
        "_early",
        "_kind",
        "_missing",
        "_outgoing",
        "_persists",
        "_place",
        "_reader",
        "_rest",
        "_step",
        "_transport",
        "_version",
        "admitted",
        "heard",
        "request",
    )

    def __init__(self, transport: Transport, place: Place, rest: Rest) -> None:
        """Begin at the first byte.

        Args:
            transport: Where it comes from.
            place: The connection's place among the limits.
            rest: What there is of it already, and what holds for it.
        """
        self.request: Request | None = None
        self.admitted: Admitted | None = None
        self.heard = b""
        self._transport = transport
        self._place = place
        self._rest = rest
        self._early = rest.data
        self._reader: HeadReader | None = None  # of a head that is not like one before
        self._version = ""
        self._kind: str | None = REQUEST
        self._persists = False
        self._body = bytearray()
        self._missing = 0
        self._outgoing = _NOTHING
        # A function, not a method: a reference to itself would keep it, and its buffers, until
        # the garbage collector comes.
        self._step = Reading._read_head

    def forget(self) -> None:
        """Let go of what was read: the request is refused, and nothing more of it is wanted."""
        self._body, self._early = bytearray(), b""
        self._reader = None

    def arrival(self, deadline: Deadline, since: float) -> Arrival:
        """The complete request.

        Args:
            deadline: When the opening handshake has to be over.
            since: When it began, by `Figures.now`.
        """
        assert self.request is not None
        request, rest, data = self.request, self._rest, b""
        if self._body:
            length = len(self._body) - max(0, -self._missing)
            if length:
                request = revised(request, body=bytes(self._body[:length]))
            # Without a body, all of what followed the head is the connection's.
            data = bytes(self._body[length:])
        return Arrival(
            self._transport,
            self._place,
            request,
            data,
            deadline,
            since,
            self._version,
            rest.options.headers,
            replace(rest, data=data, count=rest.count + 1) if self._persists else None,
        )

    def asked(self) -> Asked:
        """What was asked as far as it is known, for the log."""
        if self.request is None:
            return Asked.by_beginning(self.heard)
        return Asked.of(self.request, self._version)

    def advance(self, buffer: bytearray) -> int:
        """Take one step, within bounds.

        Args:
            buffer: Scratch space to read into.

        Returns:
            READ or WRITE, what to wait for before the next call; COMPLETE; or 0 if there is
            more to do at once.

        Raises:
            Refused: what the request is to be answered with.
            TurnedAway: it is to be closed without an answer.
            OSError: the connection is broken.
        """
        return self._step(self, buffer)

    def _read(self, buffer: bytearray) -> bytes | None:
        if self._early:
            data, self._early = self._early, b""
            return data
        count = self._transport.read_into(buffer)
        if count == 0:
            raise ConnectionResetError("the peer left before its request was complete")
        return None if count is None else bytes(memoryview(buffer)[:count])

    def _read_head(self, buffer: bytearray) -> int:
        data = self._read(buffer)
        if data is None:
            return READ
        reader, limits = self._reader, self._rest.options.heads
        if reader is None:
            if data[0] == _TLS_HANDSHAKE:
                # It waits for an answer in TLS, not for a line end.
                raise Refused(400, "this port does not speak TLS: use ws:// or http://")
            request = like_one_before(data, limits)
            if request is not None:
                self._take_head(data, request, b"")
                return _GO_ON if self._missing > 0 else self._read_body(buffer)
            reader = self._reader = HeadReader(True, limits)
        if len(self.heard) < HEARD:
            self.heard += data[: HEARD - len(self.heard)]
        head = reader.feed(data)
        if head is not None:
            rest, reader.rest = reader.rest, b""
            request = parse_request(head)
            if head == data:
                keep(head, request)
            self._take_head(head, request, rest)
        return _GO_ON

    def _take_head(self, head: bytes, request: Request, rest: bytes) -> None:
        """Decide by the head whether the request may come in, and its body."""
        self.request = request
        self._version = "HTTP/1.0" if is_http_1_0(head) else "HTTP/1.1"
        request = self._identify(request)
        self.admitted = self._rest.admit(head, request)
        self._kind = self.admitted.kind
        self._persists = self._kind == REQUEST and persists(head, request)
        length = body_length(request, self._rest.options.max_body_size)
        waits = awaits_continue(head, request)
        self._missing = length - len(rest)
        self._step = Reading._read_body
        if self._missing > 0:
            self._place.enter(BODY)
            if waits:
                self._outgoing = memoryview(_CONTINUE)
                self._step = Reading._tell_to_go_on
        if rest:
            self._body += rest

    def _identify(self, request: Request) -> Request:
        """Take what the head says of the client, if that counts, and whether it may come in."""
        secure, root_path = isinstance(self._transport, TLSTransport), ""
        headers = request.headers
        if self._rest.caller is not None and self._rest.caller.has_a_say:
            client = self._rest.caller.identify(self._transport, headers)
            secure, root_path = client.secure or secure, client.root_path
            if client.host and client.host != headers.get("host"):
                if not self._rest.options.allows_host(headers.get("host")):
                    raise Refused(400, NO_SUCH_HOST)
                headers = {**headers, "host": client.host}
        address = self._transport.remote_addr
        note(request, headers=headers, remote_addr=address, secure=secure, root_path=root_path)
        if isinstance(self._transport, TLSTransport):
            note(request, peer_certificate=self._transport.peer_certificate())
        request = self.request = self._rest.options.root_path.enter(request)
        return request

    def _tell_to_go_on(self, buffer: bytearray) -> int:  # noqa: ARG002  # a stage's signature
        self._outgoing, done = write_rest(self._transport, self._outgoing)
        if not done:
            return WRITE
        self._step = Reading._read_body
        return _GO_ON

    def _read_body(self, buffer: bytearray) -> int:
        if self._missing <= 0:
            if self._kind is not None:
                self._place.enter(self._kind)
            return COMPLETE
        data = self._read(buffer)
        if data is None:
            return READ
        self._body += data
        self._missing -= len(data)
        return _GO_ON
