"""Compressed messages: inflated in any pieces as zlib does it at once, and within the limit.

The decompressor gets raw bytes, or what zlib made of messages, with a byte changed here and
there; a stream of frames with RSV1 goes through two protocols, at once and in pieces; and
what the compressor makes is inflated to what it was.
"""

from __future__ import annotations

import zlib
from typing import Any

import streams
from harness import Source, fuzz
from scriptling_ws._errors import Violation
from scriptling_ws._handshakes.terms import Terms
from scriptling_ws._wire.deflate import Compressor, Decompressor

SIZES = (300, 4095, 4096, 4097, 20_000, 70_000)
LIMITS = (2**20, 2**20, 0, 1, 300, 4096, 20_000)
FAULTS = {1007, 1009}
TAIL = b"\x00\x00\xff\xff"


def check(data: bytes) -> None:
    """A few messages of one direction."""
    source = Source(data)
    how = source.byte()
    bits, takeover, limit = 9 + source.byte() % 7, bool(how & 1), source.pick(LIMITS)
    plan = Source(source.take(source.byte() % 24))
    payloads = [source.payload(SIZES) for _ in range(how >> 1 & 3)]
    if how & 8:
        compressed = [bytes(each) for each in Compressor(bits, takeover).compress(payloads)]
        expected = [each if len(each) <= limit else 1009 for each in payloads]
        expected = expected[: expected.index(1009) + 1] if 1009 in expected else expected
    else:
        compressed = [damaged(each, bits, source) for each in payloads]
        expected = witness(compressed, bits, takeover, limit)
    found = inflate(compressed, bits, takeover, limit, plan)
    # A message that is both too long and no deflate may be refused for either.
    assert found == expected or (
        found[:-1] == expected[:-1] and {found[-1], expected[-1]} == FAULTS
    )
    frames(source, compressed, bits, takeover, limit, plan)


def damaged(payload: bytes, bits: int, source: Source) -> bytes:
    """The payload compressed by itself, or as it is, with up to three bytes changed."""
    how = source.byte()
    if how & 1:
        stream = zlib.compressobj(wbits=-bits, level=how >> 1 & 7)
        mode = zlib.Z_FINISH if how & 16 else zlib.Z_SYNC_FLUSH
        payload = (stream.compress(payload) + stream.flush(mode)).removesuffix(TAIL)
    made = bytearray(payload)
    for _ in range(how >> 6):
        if made:
            made[source.number() % len(made)] = source.byte()
    return bytes(made)


def witness(compressed: list[bytes], bits: int, takeover: bool, limit: int) -> list[Any]:
    """What zlib, given each message whole, makes of them: bytes, or the first one's code."""
    stream, found = None, []
    for payload in compressed:
        if not payload:
            return [*found, 1007]
        left, message = payload, b""
        for last in (False, True):
            left = TAIL if last and stream is not None else b"" if last else left
            while left:
                stream = stream or zlib.decompressobj(wbits=-bits)
                try:
                    message += stream.decompress(left, limit + 1 - len(message))
                except zlib.error:
                    return [*found, 1007]
                if len(message) > limit:
                    return [*found, 1009]
                left = stream.unconsumed_tail
                if stream.eof:
                    left, stream = stream.unused_data, None
        found.append(message)
        stream = stream if takeover else None
    return found


def inflate(
    compressed: list[bytes], bits: int, takeover: bool, limit: int, plan: Source
) -> list[Any]:
    """What the decompressor makes of the messages, in pieces."""
    decompressor, found = Decompressor(bits, takeover, limit), list[Any]()
    for payload in compressed:
        try:
            for piece in plan.chunks(payload):
                decompressor.feed(memoryview(piece))
                assert decompressor.size <= limit
                assert len(decompressor.data) <= limit + 64 * 1024
            found.append(bytes(memoryview(decompressor.finish())[: decompressor.size]))
        except Violation as error:
            return [*found, error.code]
        decompressor.forget()
    return found


def frames(
    source: Source, compressed: list[bytes], bits: int, takeover: bool, limit: int, plan: Source
) -> None:
    """The same messages in frames, some of them fragmented, with pings in between."""
    sent = []
    for payload in compressed:
        how = source.byte()
        cut = source.byte() % (len(payload) + 1)
        # Of a text that is both too long and not UTF-8, either may show first.
        first = 0x41 if how & 1 and limit == LIMITS[0] else 0x42
        if how & 2:
            sent += [
                streams.raw_frame(first, payload[:cut]),
                streams.raw_frame(0x89, b"p"),
                streams.raw_frame(0x80, payload[cut:]),
            ]
        else:
            sent.append(streams.raw_frame(0x80 | first, payload))
    terms = Terms(not takeover, False, bits, 15)
    options = (True, bool(bits & 1), limit or 1, 16, terms)
    stream = b"".join(sent)
    whole, parts = streams.protocol(*options), streams.protocol(*options)
    streams.feed(whole, stream)
    for chunk in plan.chunks(stream):
        streams.feed(parts, chunk)
    # Of a payload with two faults, which one shows first depends on the pieces: by its text
    # alone, for both have the same code.
    assert outline(whole) == outline(parts)


def outline(proto: streams.Protocol) -> tuple[Any, ...]:
    """What shows of a protocol, without the texts of errors."""
    answers = [(first, said[:2]) for item in proto.outbox for first, said in streams.strict(item)]
    return list(proto.ready), answers, proto.control.code, proto.ended


if __name__ == "__main__":
    fuzz(check)
