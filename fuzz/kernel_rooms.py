"""Rooms, in which the kernels put a message together: both alike, and equal to plain bytes.

A room's owner grows where it lies: so an object that somebody else holds, too, must not
change, and nothing may be read or written beside what is used.
"""

from __future__ import annotations

from typing import Any

import streams
from harness import INT64_MAX, STRANGE, Source, fuzz, kernels, outcome

KERNELS = kernels()
SIZES = (125, 126, 300, 767, 768, 2048, 4099, 65_536)
FIRSTS = (0x00, 0x00, 0x00, 0x00, 0x80, 0x40, 0x81, 0x89)
LIMITS = (2**20, 2**20, 2**20, INT64_MAX, 0, 1, 126, 300)
KEYS = (None, b"\x12\x34\xab\xcd", b"\0\0\0\0", b"abc", "abcd")
OWNERS: tuple[Any, ...] = (b"", b"x", b"shared", bytearray(b"array"), b"ab" * 500, "text", 5, None)


class Pair:
    """The same room in every kernel, and what has to be in it."""

    def __init__(self) -> None:
        self.rooms: list[list[Any]] = [[] for _ in KERNELS]
        self.used = 0
        self.content = b""

    def call(self, name: str, *arguments: Any, used: Any = ...) -> tuple[Any, ...]:
        """Call a function in every kernel: the outcome, which has to be the same."""
        used = self.used if used is ... else used
        results = [
            outcome(getattr(kernel, name), *arguments, room, used)
            for kernel, room in zip(KERNELS, self.rooms, strict=True)
        ]
        # How much larger than what is used a room is, which a text may say, is their own affair.
        shown = [(kind, str(value).partition(": it")[0]) for kind, value in results]
        assert shown.count(shown[0]) == len(shown), results
        return results[0]

    def check(self) -> None:
        """The used part of every room has to be what was put in."""
        assert len(self.content) == self.used
        for room in self.rooms:
            assert len(room) <= 1
            if room:
                assert len(room[0]) >= self.used
                assert room[0][: self.used] == self.content

    def fill(self, owner: Any) -> None:
        """Start with an owner that somebody else holds, too."""
        self.rooms = [[bytearray(owner) if type(owner) is bytearray else owner] for _ in KERNELS]
        known = isinstance(owner, (bytes, bytearray))
        self.content = bytes(owner) if known else b""
        self.used = len(self.content)


def check(data: bytes) -> None:
    """A series of calls on one room."""
    source, pair = Source(data), Pair()
    held = [bytes(owner) for owner in OWNERS if isinstance(owner, bytes)]
    for _ in range(8):
        if not source:
            break
        act(source, pair)
        pair.check()
    assert [owner for owner in OWNERS if isinstance(owner, bytes)] == held
    finish(pair)


def act(source: Source, pair: Pair) -> None:
    what = source.byte()
    if what < 100:
        fragments(source, pair, masked=bool(what & 1))
    elif what < 180:
        payload(source, pair)
    elif what < 200:
        finish(pair)
    elif what < 220:
        allocate(pair, source.number() % 300)
    elif what < 240:
        owner = OWNERS[what % len(OWNERS)]
        pair.fill(owner)
        if not isinstance(owner, (bytes, bytearray)):
            assert pair.call("seal_room")[0] is TypeError
            pair.rooms = [[] for _ in KERNELS]
    else:
        strange(source, pair, what)


def fragments(source: Source, pair: Pair, masked: bool) -> None:
    parts, payloads = [], []
    for _ in range(source.byte() % 6):
        first, body = source.pick(FIRSTS), source.payload(SIZES)
        make = streams.masked_frame if masked != (source.byte() == 255) else streams.raw_frame
        parts.append(make(first, body))
        payloads.append(body)
    before, after = source.byte() % 16, source.byte() % 8
    window = bytearray(bytes(before) + b"".join(parts))
    original = bytes(window)
    end = max(len(window) - after, before)
    limit, most = source.pick(LIMITS), source.byte() % 8
    kind, result = pair.call("read_fragments", window, before, end, masked, limit, most)
    assert kind is tuple, result
    position, used, count, ended = result
    assert window == original
    assert count <= most
    assert before <= position <= end
    added = b"".join(payloads[:count])
    assert position == before + sum(map(len, parts[:count]))
    assert len(added) <= limit
    assert ended == bool(count and parts[count - 1][0] == 0x80)
    pair.content += added
    pair.used = used


def payload(source: Source, pair: Pair) -> None:
    key, offset = source.pick(KEYS), source.pick((0, 1, 2, 3, 5, 2**40))
    body = source.payload(SIZES)
    start = min(source.byte() % 8, len(body))
    window = bytearray(body)
    kind, result = pair.call("read_payload", window, start, len(body), key, offset)
    assert window == body
    if kind is int:
        turned = key[offset & 3 :] + key[: offset & 3] if key else b"\0\0\0\0"
        pair.content += streams.xor(body[start:], turned)
        pair.used = result


def allocate(pair: Pair, size: int) -> None:
    """A room of an announced size, filled through its view."""
    content = bytes(at & 255 for at in range(size))
    for kernel, room in zip(KERNELS, pair.rooms, strict=True):
        owner, view = kernel.allocate(size)
        view[:] = content
        view.release()
        room[:] = [owner]
        del owner
    pair.content, pair.used = content, size


def strange(source: Source, pair: Pair, what: int) -> None:
    """Arguments that are refused, and change nothing."""
    value = source.pick(STRANGE)
    if what < 245:
        if not (isinstance(value, int) and 0 <= int.__add__(value, 0) < 2**20):
            assert pair.call("seal_room", used=value)[0] in (TypeError, ValueError)
    elif what < 250:
        result = pair.call("read_payload", bytearray(b"abc"), value, value, None, 0)
        if result[0] is int:
            pair.content += b"abc"[int.__add__(value, 0) : int.__add__(value, 0)]
    else:
        for room in pair.rooms:
            room.append(b"two")
            room.append(b"three")
        assert pair.call("read_fragments", bytearray(9), 0, 9, False, 9, 9)[0] is ValueError
        for room in pair.rooms:
            del room[-2:]


def finish(pair: Pair) -> None:
    """Seal: the rooms are empty then, and the bytes are what was put in."""
    kind, result = pair.call("seal_room")
    assert kind is bytes
    assert result == pair.content
    assert all(room == [] for room in pair.rooms)
    pair.content, pair.used = b"", 0


if __name__ == "__main__":
    fuzz(check)
