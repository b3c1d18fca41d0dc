"""Outgoing frames: what a caller sends is what a peer reads, or an error and nothing is sent."""

from __future__ import annotations

import array
import json
from typing import Any

import streams
from harness import STRANGE, Source, fuzz, plain
from scriptling_ws._wire.outgoing import BATCH, PlainEncoder, check_close
from scriptling_ws._wire.pieces import Pieces

SIZES = (125, 126, 127, 300, 4096, 65_535, 65_536, BATCH, BATCH + 1, 2 * BATCH + 9)
VALUES: tuple[Any, ...] = (None, 1, -1.5, "\xe9", [], {}, True, float("nan"), "\ud800", b"x", {1})


def check(data: bytes) -> None:
    """One message, as a client's and as a server's; and one close."""
    source = Source(data)
    how = source.byte()
    message = as_message(source, how & 7)
    masked = bool(how & 8)
    try:
        frame = PlainEncoder(masked=masked).either(message)
    except (TypeError, ValueError):
        frame = None
    assert is_good(message) == (frame is not None)
    if frame is not None:
        sent = frame if isinstance(frame, bytes) else b"".join(map(bytes, frame))
        assert isinstance(frame, Pieces) <= (len(sent) > BATCH)
        receiver = streams.protocol(client=not masked, limit=None)
        streams.feed(receiver, sent)
        (found,) = receiver.ready
        assert found == expected(message)
        assert isinstance(found, str) == isinstance(message, (str, dict))
    close(source)


def as_message(source: Source, kind: int) -> Any:
    data = source.payload(SIZES)
    if kind == 0:
        return data.decode("utf-8", "surrogateescape" if source.byte() & 1 else "replace")
    if kind == 1:
        return {key: value(source, 0) for key in data.decode("latin-1")[:8]}
    if kind == 2:
        return list(data[:5000])
    if kind == 3:
        return bytearray(data)
    if kind == 4:
        return memoryview(data)[:: source.byte() % 3 + 1]
    if kind == 5:
        return array.array("B", data)
    if kind == 6:
        return [*data[:20], source.pick(STRANGE)]
    return data


def value(source: Source, depth: int) -> Any:
    """Something for a dict, which JSON may or may not be able to say."""
    kind = source.byte()
    if kind < 200 or depth > 3:
        return VALUES[kind % len(VALUES)]
    inner = [value(source, depth + 1) for _ in range(kind % 4)]
    return inner if kind & 4 else dict.fromkeys(map(str, range(len(inner))), inner)


def is_good(message: Any) -> bool:
    """Whether it has to be sendable."""
    try:
        expected(message)
    except (TypeError, ValueError):
        return False
    gaps = isinstance(message, memoryview) and message.nbytes and not message.c_contiguous
    flags = isinstance(message, list) and any(isinstance(item, bool) for item in message)
    return not (gaps or flags)


def expected(message: Any) -> Any:
    """What the peer has to read."""
    if isinstance(message, dict):
        text = json.dumps(message, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text.encode()
        return text
    if isinstance(message, str):
        message.encode()
        return message
    return bytes(map(plain, message)) if isinstance(message, list) else bytes(message)


def close(source: Source) -> None:
    """A code and a reason that `close` takes have to be ones that a peer takes."""
    code, reason = source.number(), source.rest()[:200].decode("utf-8", "surrogateescape")
    sender, receiver = streams.protocol(client=True), streams.protocol(client=False)
    try:
        check_close(code, reason)
    except ValueError:
        return
    streams.feed(receiver, sender.control.close(code, reason))
    assert receiver.control.error is None
    assert (receiver.control.code, receiver.control.reason) == (code, reason)


if __name__ == "__main__":
    fuzz(check)
