"""The kernel's two functions around a socket's method: both alike, and no byte unaccounted for.

Whatever the method does - bytes, nothing, the end, an error, a count that cannot be -
what it has brought is in `ready` or in `note`, and what it did not take in `rest`.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import streams
from harness import INT64_MAX, STRANGE, Source, fuzz, kernels

KERNELS = kernels()
ROOMS = (4096, 4096, 64, 10, 2, 1, 0)
LIMITS = (2**20, 2**20, INT64_MAX, 125, 0)


class Signal(BaseException):
    """What a signal handler raises."""


ERRORS = (BlockingIOError(), ConnectionResetError(104, "reset"), Signal(), MemoryError())


def check(data: bytes) -> None:
    """One call of each function, in both kernels."""
    source = Source(data)
    how, what = source.byte(), source.byte()
    room, limit, noted = source.pick(ROOMS), source.pick(LIMITS), source.byte() == 255
    masked, as_list = bool(how & 1), bool(how & 2)
    arriving = streams.stream(source, masked)[:room]
    received = [
        receive(kernel, arriving, what, room, noted, masked, as_list, limit) for kernel in KERNELS
    ]
    assert received.count(received[0]) == len(received), received
    sent = [send(kernel, arriving, what) for kernel in KERNELS]
    assert sent.count(sent[0]) == len(sent), sent


def result(what: int, count: int) -> Any:
    """What the socket's method returns or raises: mostly how many bytes it had."""
    if what < 192:
        return count
    if what < 200:
        return None
    if what < 224:
        raise ERRORS[what % len(ERRORS)]
    value = STRANGE[what % len(STRANGE)]
    return int.__add__(value, 0) if isinstance(value, int) else value


def receive(
    kernel: Any, data: bytes, what: int, room: int, noted: bool, *options: Any
) -> tuple[Any, ...]:
    window, ready, note = bytearray(room), deque(["before"]), [7] if noted else []
    calls = 0

    def method(buffer: bytearray) -> Any:
        nonlocal calls
        calls += 1
        assert buffer is window
        buffer[: len(data)] = data
        return result(what, len(data))

    came = outcome(kernel.receive_messages, method, window, *options, ready, note)
    assert calls == (not noted)
    messages = list(ready)[1:]
    if came[0] is bool and not noted and what < 192:
        at = note[1] if note else len(data)
        check_account(data, came[1], at, note, room)
    return came, messages, list(map(type, messages)), note


def check_account(data: bytes, came: bool, at: int, note: list[int], room: int) -> None:
    assert came == (0 < len(data) < room and at == len(data))
    assert not note or note[0] == len(data)
    assert at <= len(data)


def send(kernel: Any, frame: bytes, what: int) -> tuple[Any, ...]:
    rest: list[bytes] = []
    taken = what % (len(frame) + 1) if what & 1 else len(frame)
    whole = outcome(kernel.send_frame, lambda _data, _flags: result(what, taken), frame, 64, rest)
    if whole[0] is bool and what < 192:
        assert whole[1] == (taken == len(frame))
        assert rest == ([frame[taken:]] if 0 < taken < len(frame) else [])
    return whole, rest


def outcome(function: Any, *arguments: Any) -> tuple[Any, ...]:
    """As harness.outcome, but what the socket's method raises comes out, too."""
    try:
        return type(value := function(*arguments)), value
    except (Exception, Signal) as error:
        return type(error), str(error)


if __name__ == "__main__":
    fuzz(check)
