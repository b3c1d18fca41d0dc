"""Frames out of the kernel: both alike, and what was encoded is what is decoded."""

from __future__ import annotations

from typing import Any

from harness import INT64_MAX, STRANGE, Source, fuzz, kernels, outcome, plain

# isort: split
from frames import header

KERNELS = kernels()
SIZES = (124, 125, 126, 127, 255, 256, 767, 768, 769, 2048, 2049, 65_535, 65_536)
LENGTHS = (0, 1, 125, 126, 127, 65_535, 65_536, 2**31, 2**32, INT64_MAX)
KEYS: tuple[Any, ...] = (None, "abcd", b"", b"abc", b"abcde", 5)


def check(data: bytes) -> None:
    """One header and one frame, in both kernels."""
    source = Source(data)
    how = source.byte()
    first = source.pick(STRANGE) if how & 0x1C == 0x1C else source.byte()
    length = source.pick(STRANGE) if how & 0x1C == 0x18 else source.pick(LENGTHS)
    key = source.pick(KEYS) if how & 0xC0 == 0xC0 else (source.take(4) + b"\0\0\0\0")[:4]
    payload = as_payload(source, how & 3)
    headers = [outcome(kernel.encode_header, first, length, key) for kernel in KERNELS]
    assert headers.count(headers[0]) == len(headers), headers
    if headers[0][0] is bytes:
        assert headers[0][1] == header(plain(first), plain(length), key)
    frames = [outcome(kernel.encode_frame, first, payload, key) for kernel in KERNELS]
    assert frames.count(frames[0]) == len(frames), frames
    if frames[0][0] is bytes:
        check_meaning(frames[0][1], first, payload, key)


def as_payload(source: Source, kind: int) -> Any:
    data = source.payload(SIZES)
    if kind == 0:
        return data
    if kind == 1:
        return data.decode("utf-8", "surrogateescape")
    if kind == 2:
        return list(data) if source.byte() & 1 else tuple(data)
    return source.pick((bytearray(data), memoryview(data), memoryview(data)[::2], *STRANGE))


def check_meaning(frame: bytes, first: int, payload: Any, key: bytes | None) -> None:
    expected = payload.encode() if isinstance(payload, str) else bytes(payload)
    for kernel in KERNELS:
        parsed = kernel.parse_header(frame, 0, len(frame))
        assert parsed is not None
        assert parsed[:2] == (plain(first), len(expected))
        assert parsed[3] == key
        found = frame[parsed[2] :]
        assert (found if key is None else kernel.apply_mask(found, key)) == expected


if __name__ == "__main__":
    fuzz(check)
