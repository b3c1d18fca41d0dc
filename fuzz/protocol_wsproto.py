"""The protocol and wsproto's parser: what both accept, both read the same way.

Known differences: wsproto waits for a whole frame of any length, where this one refuses at
the header; it refuses a frame at its second byte, where this one waits for the whole header;
and it refuses close code 1014.
"""

from __future__ import annotations

from typing import Any

from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

import streams
from harness import Source, fuzz


def check(data: bytes) -> None:
    """One stream, in both."""
    source = Source(data)
    client = bool(source.byte() & 1)
    compare(client, streams.stream(source, masked=not client))


def compare(client: bool, stream: bytes) -> None:
    """Read a stream with both."""
    proto = streams.protocol(client)
    streams.feed(proto, stream)
    messages, close, error = witness(client, stream)
    control = proto.control
    assert messages == list(proto.ready)
    if close is not None:
        code, reason = close
        assert (control.code, control.reason) == (int(code), reason or "")
        assert control.error is None
    if error is not None and not is_bad_gateway(error, control.code):
        streams.feed(proto, bytes(14))  # the rest of a header
        assert control.error is not None, f"only wsproto refuses this: {error}"
        assert control.error.code in (error.code, 1009), str(error)
    if control.code is None:
        assert close is None


def is_bad_gateway(error: ParseFailed, code: int | None) -> bool:
    """Whether wsproto refused 1014 itself, whose reason may be bad UTF-8 (1007) besides."""
    return str(error) == "CLOSE with unknown reserved code" and code in (1014, 1007)


def witness(client: bool, stream: bytes) -> tuple[list[Any], Any, ParseFailed | None]:
    """What wsproto reads: the messages, the close frame's code and reason, its error."""
    parser = FrameProtocol(client=client, extensions=[])
    parser.receive_bytes(stream)
    messages: list[Any] = []
    parts: list[Any] = []
    try:
        for frame in parser.received_frames():
            if frame.opcode is Opcode.CLOSE:
                return messages, frame.payload, None
            if frame.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONTINUATION):
                continue
            parts.append(frame.payload)
            if frame.message_finished:
                whole = parts[0][:0].join(parts)
                messages.append(whole if isinstance(whole, str) else bytes(whole))
                parts = []
    except ParseFailed as error:
        return messages, None, error
    return messages, None, None


if __name__ == "__main__":
    fuzz(check)
