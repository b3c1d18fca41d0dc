"""The kernel's parsers: both alike on all bytes, in one go and one message at a time.

What lies behind the returned position is untouched (_wsframe.pyi), and nothing is
read outside of start and end.
"""

from __future__ import annotations

from typing import Any

from harness import INT64_MAX, STRANGE, Source, fuzz, kernels, outcome, plain

KERNELS = kernels()
SIZES = (125, 126, 127, 300, 767, 768, 769, 1500, 2047, 2048, 2049, 2111, 65_536)
LIMITS = (2**20, 2**20, 2**20, INT64_MAX, 0, 1, 5, 125, 126, 65_535)
FIRSTS = (0x81, 0x82, 0x81, 0x82, 0x81, 0x82, 0x01, 0x80, 0x88, 0xC1)
KEY = b"\x12\x34\xab\xcd"
BAD_TEXT, FULL = 2, 3


def check(data: bytes) -> None:
    """One window, read in both kernels."""
    source = Source(data)
    how = source.byte()
    masked, as_list, as_utf8 = bool(how & 1), bool(how & 2), bool(how & 16)
    limit = source.pick(STRANGE if how & 0xE0 == 0xE0 else LIMITS)
    before, after = source.byte() % 32, source.byte() % 16
    window = bytes(before) + stream(source, masked, raw=bool(how & 4))
    end = max(len(window) - after, 0)
    start = min(before, end)
    if how & 0xE0 == 0xC0:
        start, end = source.pick(STRANGE), source.pick(STRANGE)
    for at in range(min(before, 3) if how & 0xC0 == 0xC0 else 1):
        headers = [outcome(kernel.parse_header, window, at, end) for kernel in KERNELS]
        assert headers.count(headers[0]) == len(headers), headers
    checked = [outcome(kernel.check_utf8, window, start, end) for kernel in KERNELS]
    assert checked.count(checked[0]) == len(checked), checked
    options = (masked, as_list, limit, INT64_MAX)
    results = [read(kernel, window, start, end, *options, as_utf8=as_utf8) for kernel in KERNELS]
    assert results.count(results[0]) == len(results), results
    if how & 8 and results[0][0][0] is tuple:
        check_single(window, plain(start), plain(end), options[:3], as_utf8, results[0])


def stream(source: Source, masked: bool, raw: bool) -> bytes:
    """A window's content: raw bytes, or frames that are mostly good."""
    if raw:
        return source.rest()
    parts = []
    while source and len(parts) < 8:
        first = source.pick(FIRSTS)
        payload = source.payload(SIZES)
        mask = masked != (source.byte() == 255)
        parts.append(KERNELS[0].encode_frame(first, payload, KEY if mask else None))
    return b"".join(parts)


def read(
    kernel: Any, window: bytes, start: Any, end: Any, *options: Any, as_utf8: bool
) -> tuple[Any, ...]:
    """A call's outcome, the messages with their types, and what is left of the window."""
    place = bytearray(window)
    out: list[Any] = []
    result = outcome(kernel.read_messages, place, start, end, *options, out, as_utf8)
    left = b""
    if result[0] is tuple:
        position, why, size = result[1]
        assert 0 <= size <= position
        assert plain(start) <= position <= plain(end)
        left = bytes(place[plain(end) if why == BAD_TEXT else position :])
        assert left == window[len(window) - len(left) :]
        assert place[: plain(start)] == window[: plain(start)]
    return result, out, [type(message) for message in out], left


def check_single(
    window: bytes, start: int, end: int, options: tuple[Any, ...], as_utf8: bool, whole: Any
) -> None:
    """One message at a time has to come to the same."""
    for kernel in KERNELS:
        place, out = bytearray(window), list[Any]()
        position, why, size = start, FULL, 0
        while why == FULL:
            position, why, more = kernel.read_messages(
                place, position, end, *options, 1, out, as_utf8
            )
            size += more
        assert ((position, why, size), out) == (whole[0][1], whole[1])


if __name__ == "__main__":
    fuzz(check)
