"""What the targets that feed a Protocol share: streams of frames, states, a strict reader."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness import Source  # noqa: TC001  # it makes tests/support importable

# isort: split
from frames import raw_frame, xor
from scriptling_ws._wire.incoming import Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scriptling_ws._handshakes.terms import Terms

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
KEY = b"\x12\x34\xab\xcd"
SIZES = (125, 126, 127, 300, 2000, 4085, 4096, 5000, 65_536)
LIMITS = (2**24, 2**24, 2**24, None, 1, 125, 200, 5000)
FRAGMENTS = (131_072, 131_072, 131_072, 1, 2, 5)
FIRSTS = (0x81, 0x82, 0x01, 0x02, 0x00, 0x80, 0x00, 0x80, 0x89, 0x8A, 0x88)
CODES = (1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999, 0, 999, 1004, 1005, 1006, 1015, 5000)


def protocol(
    client: bool,
    as_list: bool = False,
    limit: int | None = 2**24,
    fragments: int = 131_072,
    deflate: Terms | None = None,
) -> Protocol:
    """An open connection's incoming side."""
    return Protocol(
        client=client,
        as_list=as_list,
        max_message_size=limit,
        max_fragments=fragments,
        deflate=deflate,
    )


def stream(source: Source, masked: bool) -> bytes:
    """What a peer sends: raw bytes, or frames that mostly are what they have to be."""
    if source.byte() & 7 == 7:
        return source.rest()
    parts = []
    while source and len(parts) < 40:
        first = source.byte()
        odd = first == 0xFF
        first = source.byte() if odd else FIRSTS[first % len(FIRSTS)]
        payload = source.payload(SIZES)
        if first == 0x88 and payload and not odd:
            payload = CODES[payload[0] % len(CODES)].to_bytes(2, "big") + payload[1:]
        mask = masked != (odd and bool(source.byte() & 1))
        parts.append(masked_frame(first, payload) if mask else raw_frame(first, payload))
    return b"".join(parts)


def masked_frame(first: int, payload: bytes) -> bytes:
    """A frame of a client's."""
    return raw_frame(first, payload, KEY)


def feed(proto: Protocol, data: bytes) -> None:
    """Feed bytes; an error that is put off comes out as if every message had been taken."""
    proto.feed_bytes(data)
    if proto.window.unfed is not None:
        proto.feed(proto.window.unfed)


def state(proto: Protocol) -> tuple[Any, ...]:
    """All that shows of a protocol; the masking keys of its answers are random."""
    control = proto.control
    error = control.error and (control.error.code, str(control.error))
    answers = [strict(item) for item in proto.outbox]
    return (
        *(list(proto.ready), list(map(type, proto.ready)), answers),
        *(control.code, control.reason, error, control.open, list(control.pongs), proto.ended),
    )


def strict(data: bytes, masked: bool | None = None) -> list[tuple[int, bytes]]:
    """Read frames, whole ones only, as strictly as RFC 6455 section 5 lets one."""
    return list(_strict(data, masked))


def _strict(data: bytes, masked: bool | None) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        first, second = data[at], data[at + 1]
        assert first in (0x81, 0x82, 0x88, 0x89, 0x8A), f"first byte {first:#x}"
        assert masked is None or masked == bool(second & 0x80), "masking"
        size, at = second & 0x7F, at + 2
        extended = {126: 2, 127: 8}.get(size, 0)
        if extended:
            assert first < CLOSE | 0x80, "a long control frame"
            size = int.from_bytes(data[at : at + extended], "big")
            assert size > (125 if extended == 2 else 65_535), "not the shortest form"
            at += extended
        key = data[at : at + 4] if second & 0x80 else b""
        at += len(key)
        payload = data[at : at + size]
        assert len(payload) == size, "cut short"
        at += size
        yield first, xor(payload, key) if key else payload
