"""A session on a channel: it comes to the same by a descriptor, by methods and in pure Python.

Whatever comes and whatever is called: results, errors, messages, notes in the window, calls of the
writer, and the frames on the wire (but for the keys). Each frame on the wire is whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streams
from harness import STRANGE, Source, fuzz, kernels

# isort: split
from channels import FREE_THREADED, WAYS, Session, Way

if TYPE_CHECKING:
    from collections.abc import Iterator

CHANNELS = [Way.named(name) for name in (WAYS if len(kernels()) > 1 else ["pure"])]
ROOMS = (4096, 4096, 65_536, 125, 64, 10, 2)
LIMITS = (2**20, 2**20, 2**63 - 1, 125, 0)
SIZES = (125, 126, 300, 4095, 4096, 4097, 65_535, 65_536, 2**18, 2**18 + 1)
TIMEOUTS = (0, 2.0, None, 2, 0.25, *STRANGE)
FLAGS = ("open", "closing", "orphaned", "alone", "compresses", "look_due", "heard")
KINDS = (bytes, list, tuple, bytes if FREE_THREADED else bytearray)


def check(data: bytes) -> None:
    """One session, on a channel of each way."""
    source = Source(data)
    how = source.byte()
    options = {
        "masks": bool(how & 1),
        "masked": bool(how & 2),
        "as_list": bool(how & 4),
        "as_utf8": bool(how & 16),
        "fills": bool(how & 8),
        "room": source.pick(ROOMS),
        "limit": source.pick(LIMITS),
    }
    planned = list(steps(source, bool(how & 2)))
    came = [session(way, options, planned) for way in CHANNELS]
    for way, each in zip(CHANNELS, came, strict=True):
        for step, one, other in zip(planned, each, came[0], strict=True):
            assert one == other, (way.name, str(step)[:500], one, other)


def session(way: Way, options: dict[str, Any], planned: list[tuple[Any, ...]]) -> list[Any]:
    with Session(way, **options) as each:
        return [each.step(*step) for step in planned]


def steps(source: Source, masked: bool) -> Iterator[tuple[Any, ...]]:
    """Up to sixteen calls; what comes is the rest of the input, in pieces."""
    calls = [(source.byte(), source.byte(), source.byte()) for _ in range(source.byte() % 17)]
    payloads = [source.payload(SIZES) for _ in range(source.byte() % 5)] or [b"payload"]
    arriving = streams.stream(source, masked)
    for what, first, second in calls:
        payload = payloads[first % len(payloads)]
        kind = what % 8
        if kind < 2:
            size = first << 8 | second if kind else second
            piece, arriving = arriving[:size], arriving[size:]
            yield "arrive", piece
        elif kind < 4:
            yield "receive", TIMEOUTS[first % (4 if kind == 2 else len(TIMEOUTS))]
        elif kind == 4:
            if second & 2:
                yield "send_utf8", KINDS[3 * (second & 1)](payload)
                continue
            errors = "surrogateescape" if second & 1 else "replace"
            yield "send_text", payload if second == 255 else payload.decode("utf-8", errors)
        elif kind == 5:
            items: Any = KINDS[second % len(KINDS)](payload)
            if second >= 240 and isinstance(items, (list, tuple)):
                items = [*items, STRANGE[second % len(STRANGE)]]
            yield "send_binary", items
        elif kind == 6:
            yield "send_frame", 0x80 | second & 0x7F, payload
        else:
            yield special(first)


def special(first: int) -> tuple[Any, ...]:
    names = ("answer", "rest", "finish")
    at = first % (len(FLAGS) + len(names))
    return ("turn", FLAGS[at]) if at < len(FLAGS) else (names[at - len(FLAGS)],)


if __name__ == "__main__":
    fuzz(check)
