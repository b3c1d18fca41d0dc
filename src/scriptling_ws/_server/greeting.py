"""What comes before HTTP on a connection: a PROXY header, and a TLS handshake.

Rules:

- Nothing here blocks: `advance` does what can be done at once and says what to wait for.
- Of the PROXY header no byte more is read than belongs to it: what follows may be TLS.
- No TLS session is made before the peer's first byte shows that it speaks TLS. One that speaks
  HTTP is told so in HTTP.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from .._handshakes.head import Refused
from .._network.waiting import READ, WRITE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._network.tls import TLSTransport
    from .._network.transport import Transport
    from .callers import Caller

__all__ = ["Greeting"]

_HTTP = re.compile(rb"[A-Za-z\r\n]")  # the first byte of a request; of TLS none is a letter
_GO_ON: Final = 0


class Greeting:
    """The beginning of one connection; the acceptor thread's alone.

    Attributes:
        transport: The socket; under TLS another transport from the peer's first byte on.
        heard: What was read of HTTP where there has to be TLS, for the log.
        done: Whether it is over, and HTTP begins.
    """

    __slots__ = ("_caller", "_secure", "_shaking", "done", "heard", "transport")

    def __init__(
        self,
        transport: Transport,
        secure: Callable[[], TLSTransport] | None,
        caller: Caller | None,
    ) -> None:
        """Begin at the first byte; see `Peer`."""
        self.transport = transport
        self.heard = b""
        self._secure = secure
        self._caller = caller if caller is not None and caller.header is not None else None
        self._shaking: TLSTransport | None = None
        self.done = secure is None and self._caller is None

    @property
    def reason(self) -> str:
        """What has taken too long, where the time is over."""
        if self._caller is not None:
            return "the PROXY header took too long"
        return "the TLS handshake took too long"

    def advance(self, buffer: bytearray) -> int:
        """Take one step, within bounds.

        Args:
            buffer: Scratch space to read into.

        Returns:
            READ or WRITE, what to wait for before the next call; 0 if there is more to do at
            once, or it is done.

        Raises:
            Refused: the peer speaks HTTP, and not TLS.
            TurnedAway: the PROXY header is malformed, or its client may not come.
            OSError: the connection is broken.
        """
        if self._caller is not None:
            return self._read_proxy_header(self._caller, buffer)
        if self._shaking is None:
            return self._listen(buffer)
        if self._shaking.handshake_step():
            self.done = True
            return _GO_ON
        return WRITE if self._shaking.pending else READ

    def _read_proxy_header(self, caller: Caller, buffer: bytearray) -> int:
        if not caller.read_header(self.transport, buffer):
            return READ
        if caller.header is None:
            self._caller = None
            self.done = self._secure is None
        return _GO_ON

    def _listen(self, buffer: bytearray) -> int:
        """Wait for the first byte, which shows whether the peer speaks TLS."""
        first = self.transport.peek(1)
        if first is None:
            return READ
        if not first:
            raise ConnectionResetError("the peer left before it had sent anything")
        if _HTTP.match(first):
            count = self.transport.read_into(buffer) or 0
            self.heard = bytes(memoryview(buffer)[:count])
            raise Refused(400, "this port speaks TLS alone: use wss:// or https://")
        assert self._secure is not None
        address = self.transport.remote_addr
        self.transport = self._shaking = self._secure()
        self.transport.remote_addr = address
        return _GO_ON
