"""Control frames and the closing handshake, from both sides, against a model (RFC 6455 5.5, 7).

The model: a ping is answered while the connection is open; the first close frame, either
way, decides code and reason; one close frame leaves, and nothing after it.
"""

from __future__ import annotations

import struct

import streams
from harness import Source, fuzz

CODES = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999)
BAD_CODES = (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2999, 5000, 65_535)
OUR_CODES = (1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999)
NOT_UTF8 = b"\xff\xc0\xaf\xed\xa0\x80"


class Model:
    """What a connection's control plane has to come to."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, bytes]] = []
        self.code: int | None = None
        self.reason = ""
        self.failed = False
        self.ended = False

    def close(self, code: int, reason: bytes, said: bytes | None = None) -> None:
        """The first close frame; `said` is what ours has to carry, None for anything."""
        if self.code is None:
            self.code, self.reason = code, reason.decode()
            self.sent.append((0x88, struct.pack("!H", code) + reason if said is None else said))

    def peer_closes(self, payload: bytes) -> None:
        """A close frame came."""
        if len(payload) == 0:
            self.close(1005, b"", b"")
        elif len(payload) == 1 or not is_valid(int.from_bytes(payload[:2], "big")):
            self.fail(1002)
        elif not is_utf8(payload[2:]):
            self.fail(1007)
        else:
            self.close(int.from_bytes(payload[:2], "big"), payload[2:], payload)
        self.ended = True

    def fail(self, code: int) -> None:
        """The peer broke the protocol; the text is this end's affair."""
        if self.code is None:
            self.failed = True
            self.code = code
            self.sent.append((0x88, struct.pack("!H", code)))


def is_valid(code: int) -> bool:
    return code in CODES or 3000 <= code <= 4999


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def check(data: bytes) -> None:
    """A series of control frames, calls of `close` and `ping`, and an end."""
    source = Source(data)
    client = bool(source.byte() & 1)
    proto, model = streams.protocol(client), Model()
    sent: list[tuple[int, bytes]] = []
    while source:
        act(source, proto, model, client)
        sent += streams.strict(b"".join(proto.outbox), masked=client)
        proto.outbox.clear()
        assert proto.control.code == model.code
        assert proto.ended == model.ended
        assert proto.control.open == (model.code is None)
    if model.failed:  # the text of our own error is not the model's to know
        first, said = sent.pop()
        expected = model.sent.pop()
        assert (first, said[:2]) == expected
        assert said[2:].decode() == proto.control.reason == str(proto.control.error)
    else:
        assert proto.control.reason == model.reason
    assert sent == model.sent
    assert not proto.ready


def act(source: Source, proto: streams.Protocol, model: Model, client: bool) -> None:
    what, payload = source.byte() % 8, source.take(source.byte() % 126)
    make = streams.raw_frame if client else streams.masked_frame
    if what == 6:
        code = OUR_CODES[len(payload) % len(OUR_CODES)]
        frame = proto.control.close(code, "bye")
        if frame:
            proto.outbox.append(frame)
        model.close(code, b"bye")
        return
    if what == 7:
        proto.end()
        if model.code is None:
            model.code = 1006
        model.ended = True
        return
    if what == 5:
        frame = proto.control.ping(payload)
        if frame:
            proto.outbox.append(frame)
        if model.code is None:
            model.sent.append((0x89, payload))
        return
    if what in (3, 4):
        payload = close_payload(source, payload)
    first = (0x89, 0x8A, 0x89, 0x88, 0x88)[what]
    streams.feed(proto, make(first, payload))
    if model.ended:
        return
    if first == 0x88:
        model.peer_closes(payload)
    elif first == 0x89 and model.code is None:
        model.sent.append((0x8A, payload))


def close_payload(source: Source, text: bytes) -> bytes:
    """A close frame's payload: good, bad, empty, too short, not UTF-8."""
    kind, text = source.byte() % 8, text[:123].decode("utf-8", "ignore").encode()
    if kind == 0:
        return b""
    if kind == 1:
        return b"\x03"
    if kind == 2:
        return struct.pack("!H", source.pick(BAD_CODES)) + text
    if kind == 3:
        return struct.pack("!H", source.pick(CODES)) + (NOT_UTF8 + text)[:123]
    return struct.pack("!H", source.pick(CODES)) + text


if __name__ == "__main__":
    fuzz(check)
