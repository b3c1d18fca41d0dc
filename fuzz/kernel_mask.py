"""Masking: both kernels alike, by RFC 6455 section 5.3, undone by doing it again, in any pieces."""

from __future__ import annotations

import array
from typing import Any

from harness import STRANGE, Source, fuzz, kernels, outcome, plain

# isort: split
from frames import xor

KERNELS = kernels()
SIZES = (127, 255, 256, 257, 767, 768, 769, 2047, 2048, 2111, 4099)
KEYS = (None, "abcd", b"", b"abc", b"abcde", bytearray(b"abcd"), 5)
OFFSETS = (0, 1, 2, 3, 4, 5, 255, 65_535, 2**31, 2**63 - 1)


def as_buffer(data: bytes, kind: int, shift: int) -> Any:
    """The bytes as a buffer of one of several kinds, some of which are refused."""
    if kind == 0:
        return bytearray(data)
    if kind == 1:
        return memoryview(bytearray(shift) + data)[shift:]  # at any alignment
    if kind == 2:
        return data
    if kind == 3:
        return array.array("B", data)
    if kind == 4:
        return memoryview(bytearray(data))[::2]
    if kind == 5:
        return array.array("H", data + data)
    if kind == 6:
        return memoryview(bytearray(data)).cast("b")
    if kind == 7:
        return memoryview(data + data).cast("B", (2, len(data))) if data else memoryview(data)
    return STRANGE[shift % len(STRANGE)]


def check(data: bytes) -> None:
    """One call of each function, in both kernels."""
    source = Source(data)
    kind, shift, how = source.byte() % 9, source.byte() % 32, source.byte()
    key = source.pick(KEYS) if how & 0xE0 == 0xE0 else (source.take(4) + b"\0\0\0\0")[:4]
    offset = source.pick(STRANGE) if how & 0x1C == 0x1C else source.pick(OFFSETS)
    payload = source.payload(SIZES)
    new, placed, into = [], [], []
    for kernel in KERNELS:
        buffer = as_buffer(payload, kind, shift)
        new.append(outcome(kernel.apply_mask, buffer, key, offset))
        result = outcome(kernel.mask_in_place, buffer, key, offset)
        placed.append((result, buffer if isinstance(buffer, int) else repr_of(buffer)))
        target = as_buffer(bytes(len(payload) + how % 3), how % 9, shift)
        result = outcome(kernel.mask_into, target, payload, key, offset)
        into.append((result, target if isinstance(target, int) else repr_of(target)))
        if new[-1][0] is bytes:
            check_meaning(kernel, payload, key, plain(offset), new[-1][1], kind, how)
    assert new.count(new[0]) == len(new), new
    assert placed.count(placed[0]) == len(placed), placed
    assert into.count(into[0]) == len(into), into


def repr_of(buffer: Any) -> Any:
    return buffer.tobytes() if isinstance(buffer, (memoryview, array.array)) else buffer


def check_meaning(
    kernel: Any, payload: bytes, key: bytes, offset: int, masked: bytes, kind: int, how: int
) -> None:
    if kind > 3:
        return
    assert kernel.apply_mask(masked, key, offset) == payload
    if len(payload) < 32:
        assert masked == xor(payload, key, offset)
    if offset < 2**62:
        cut = how % (len(payload) + 1)
        head = kernel.apply_mask(payload[:cut], key, offset)
        assert masked == head + kernel.apply_mask(payload[cut:], key, offset + cut)


if __name__ == "__main__":
    fuzz(check)
