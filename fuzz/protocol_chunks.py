"""The protocol: fed in any pieces, a stream comes to the same as fed at once.

And whatever comes: no exception, answers that are frames, one close frame at most and
nothing behind it.
"""

from __future__ import annotations

from typing import Any

import streams
from harness import Source, fuzz


def check(data: bytes) -> None:
    """One stream, at once and in pieces."""
    source = Source(data)
    how = source.byte()
    client, as_list = bool(how & 1), bool(how & 2)
    limit, fragments = source.pick(streams.LIMITS), source.pick(streams.FRAGMENTS)
    plan = Source(source.take(source.byte() % 24))
    stream = streams.stream(source, masked=not client)
    relax, end = bool(how & 4), bool(how & 8)
    compare((client, as_list, limit, fragments), stream, plan.chunks(stream), relax, end)


def compare(options: Any, stream: bytes, chunks: list[bytes], relax: bool, end: bool) -> None:
    """Feed one protocol the whole and another one the chunks.

    Args:
        options: What `streams.protocol` takes.
        stream: The bytes.
        chunks: The same, in pieces.
        relax: Give back memory after every piece.
        end: End the stream after it.
    """
    whole, parts = streams.protocol(*options), streams.protocol(*options)
    streams.feed(whole, stream)
    for chunk in chunks:
        streams.feed(parts, chunk)
        if relax:
            parts.relax()
    if end:
        whole.end()
        parts.end()
    assert streams.state(whole) == streams.state(parts)
    check_answers(whole, client=options[0])


def check_answers(proto: streams.Protocol, client: bool) -> None:
    answers = streams.strict(b"".join(proto.outbox), masked=client)
    closes = [at for at, (first, _) in enumerate(answers) if first == 0x88]
    assert closes in ([], [len(answers) - 1]), answers
    assert bool(closes) <= proto.ended
    assert (proto.control.code is None) == proto.control.open


if __name__ == "__main__":
    fuzz(check)
