"""Control frames and the closing handshake: the part of a connection that wsproto keeps.

Rules (RFC 6455 sections 5.5, 7):

- Every control frame goes through wsproto, byte for byte, and every one that
  is sent comes out of it. Its `state` is the connection's state.
- Most close frames are alike. What they lead to is asked of wsproto once (`_verdict`), and kept:
  its connection in the end, which nothing changes any more, is then that of all who close so.
- A ping is answered while the connection is open, a close frame always, once.
- The first close frame, either way, says why the connection closed.
- After a protocol error wsproto's parser is dead: nothing more is fed to it.
- Close code 1014 is valid (IANA), but wsproto answers it with 1002; it is shown 1013
  in its place.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import h11
from wsproto import ConnectionType
from wsproto import events as wsevents
from wsproto.connection import Connection as WSProtoConnection
from wsproto.connection import ConnectionState
from wsproto.utilities import ProtocolError as WSProtocolError

from .. import _kernel as kernel
from .._codes import CloseCode
from .._errors import ProtocolError
from .opcodes import CLOSE, FIN

__all__ = ["Control"]

_MAX_PONGS: Final = 16
_BAD_GATEWAY: Final = CloseCode.BAD_GATEWAY.to_bytes(2, "big")
_STAND_IN: Final = CloseCode.TRY_AGAIN_LATER
_STAND_IN_BYTES: Final = _STAND_IN.to_bytes(2, "big")
_VERDICTS: Final = 64  # that are kept
_SHORT: Final = 32  # bytes of a close frame's payload for which one is
_A_KEY: Final = bytes(4)  # of a frame whose payload is what counts


class Control:
    """The control plane of one open connection.

    Not thread-safe: the connection's state lock guards it.

    Attributes:
        code: Why the connection closed; None while it is open.
        reason: The text that came with the code.
        error: What the peer did wrong, if that is why.
        pongs: Payloads of the latest pongs that came, for whoever waits for them to take out.
    """

    __slots__ = ("_client", "_ws", "code", "error", "pongs", "reason")

    def __init__(self, client: bool) -> None:
        """Begin with an open connection; `client`: this end is the client."""
        self._client = client
        self._ws: WSProtoConnection | None = None  # made for the first frame that needs it
        self.code: int | None = None
        self.reason: str = ""
        self.error: ProtocolError | None = None
        self.pongs: list[bytes] = []  # no deque, which takes 700 bytes from the beginning

    @property
    def open(self) -> bool:
        """Whether messages may be sent: no close frame has gone either way."""
        return self._ws is None or self._ws.state is ConnectionState.OPEN

    @property
    def done(self) -> bool:
        """Whether the closing handshake is complete, or the stream has ended."""
        return self._ws is not None and self._ws.state is ConnectionState.CLOSED

    @property
    def _asked(self) -> WSProtoConnection:
        """wsproto's connection. Most have no control frame but a close frame of a usual kind."""
        if self._ws is None:
            kind = ConnectionType.CLIENT if self._client else ConnectionType.SERVER
            self._ws = WSProtoConnection(kind)
        return self._ws

    def _ended(self, code: int, reason: str) -> None:
        if self.code is None:
            self.code, self.reason = int(code), reason

    def receive(self, opcode: int, payload: bytes, key: bytes | None) -> bytes:
        """Take in one whole, valid control frame.

        Args:
            opcode: CLOSE, PING or PONG.
            payload: Up to 125 bytes, not masked.
            key: The key with which it was masked, or None.

        Returns:
            The frame to answer with, b"" for none.
        """
        if opcode == CLOSE and len(payload) <= _SHORT:
            state = ConnectionState.OPEN if self._ws is None else self._ws.state
            verdict = _verdict(self._client, state, payload)
            if verdict is not None:
                self._ws = verdict.ws
                self._ended(verdict.code, verdict.reason)
                return verdict.reply
        return self._receive(opcode, payload, key)

    def receive_usual(self, payload: bytes) -> bytes | None:
        """Take in the payload of a close frame, if it is one of a usual kind while this is open.

        Returns:
            The frame to answer with; None if `receive` has to be asked, and nothing has changed.
        """
        if self._ws is not None or self.code is not None or len(payload) > _SHORT:
            return None
        verdict = _verdict(self._client, ConnectionState.OPEN, payload)
        if verdict is None:
            return None
        self._ws, self.code, self.reason, reply = verdict
        return reply

    def _receive(self, opcode: int, payload: bytes, key: bytes | None) -> bytes:
        """As receive, by this connection's own wsproto."""
        substitute = opcode == CLOSE and payload[:2] == _BAD_GATEWAY
        shown = _STAND_IN_BYTES + payload[2:] if substitute else payload
        reply = b""
        try:
            ws = self._asked
            ws.receive_data(kernel.encode_frame(FIN | opcode, shown, key))
            for event in ws.events():
                if isinstance(event, wsevents.Ping) and self.open:
                    reply += ws.send(event.response())
                elif isinstance(event, wsevents.Pong):
                    self.pongs.append(bytes(event.payload))
                    del self.pongs[:-_MAX_PONGS]  # stray ones must not pile up
                elif isinstance(event, wsevents.CloseConnection):
                    code = int(event.code)
                    if substitute and code == _STAND_IN:
                        code = CloseCode.BAD_GATEWAY
                    reply += self._closed(code, event.reason or "")
        except (WSProtocolError, h11.ProtocolError, ValueError) as error:
            reply += self.fail(CloseCode.PROTOCOL_ERROR, str(error))
        return reply

    def _closed(self, code: int, reason: str) -> bytes:
        """A close frame came, or wsproto reports a bad one as if it had."""
        if self._asked.state is ConnectionState.REMOTE_CLOSING:
            self._ended(code, reason)
            return self._close_frame(code, reason)
        if not self.done:
            return self.fail(code, reason)
        return b""

    def _close_frame(self, code: int, reason: str) -> bytes:
        event = (
            wsevents.CloseConnection(code=code, reason=reason)
            if code != CloseCode.NO_STATUS
            else wsevents.CloseConnection(code=None)  # type: ignore[arg-type]  # an empty payload
        )
        return bytes(self._asked.send(event))

    def close(self, code: int, reason: str) -> bytes:
        """The frame that starts the closing handshake; b"" if one has gone either way."""
        if not self.open:
            return b""
        self._ended(code, reason)
        return self._close_frame(code, reason)

    def fail(self, code: int, text: str) -> bytes:
        """The close frame for a peer that broke the protocol or a limit; b"" if it is late."""
        if self.error is None:
            self.error = ProtocolError(code, text)
        return self.close(code, text)

    def ping(self, payload: bytes) -> bytes:
        """A ping frame; b"" unless the connection is open."""
        return bytes(self._asked.send(wsevents.Ping(payload=payload))) if self.open else b""

    def end(self) -> None:
        """The stream has ended."""
        if not self.done:
            self._ended(CloseCode.ABNORMAL, "")
            self._asked.receive_data(None)


class _Verdict(NamedTuple):
    """What a close frame leads to.

    Attributes:
        ws: wsproto's connection, closed.
        code: The code of the frame.
        reason: The text in it.
        reply: The frame to answer with, b"" for none.
    """

    ws: WSProtoConnection
    code: int
    reason: str
    reply: bytes


@lru_cache(maxsize=_VERDICTS)
def _verdict(client: bool, state: ConnectionState, payload: bytes) -> _Verdict | None:
    """What a close frame with this payload leads to, where that is always the same.

    Args:
        client: Whether this end is the client.
        state: That of its connection.
        payload: The frame's.

    Returns:
        None where the connection's own wsproto has to be asked: about a malformed frame, and where
        a client answers, which masks each frame with another key.
    """
    control = Control(client)
    if state is ConnectionState.LOCAL_CLOSING:
        control.close(CloseCode.NORMAL, "")
    elif client or state is not ConnectionState.OPEN:
        return None
    reply = control._receive(CLOSE, payload, None if client else _A_KEY)
    if control.error is not None or not control.done or control.code is None:
        return None
    return _Verdict(control._asked, control.code, control.reason, reply)
