"""The protocol: fed in any pieces, a stream comes to the same as fed at once.

And whatever comes: no exception, answers that are frames, one close frame at most and
nothing behind it, and no more in memory than the limit and what is constant.
"""

from __future__ import annotations

import streams
from harness import Source, fuzz

KEPT = 256 * 1024 + 64 * 1024  # a window, and what else there is of a fixed size


def check(data: bytes) -> None:
    """One stream, at once and in pieces."""
    source = Source(data)
    how = source.byte()
    client, as_list = bool(how & 1), bool(how & 2)
    limit, fragments = source.pick(streams.LIMITS), source.pick(streams.FRAGMENTS)
    plan = Source(source.take(source.byte() % 24))
    stream = streams.stream(source, masked=not client)
    whole = streams.protocol(client, as_list, limit, fragments)
    parts = streams.protocol(client, as_list, limit, fragments)
    streams.feed(whole, stream)
    for chunk in plan.chunks(stream):
        streams.feed(parts, chunk)
        if how & 4:
            parts.relax()
        held = len(parts._window) + len(parts._message)
        assert limit is None or held <= limit + KEPT, held
    if how & 8:
        whole.end()
        parts.end()
    assert streams.state(whole) == streams.state(parts)
    check_answers(whole, client)


def check_answers(proto: streams.Protocol, client: bool) -> None:
    answers = streams.strict(b"".join(proto.outbox), masked=client)
    closes = [at for at, (first, _) in enumerate(answers) if first == 0x88]
    assert closes in ([], [len(answers) - 1]), answers
    assert bool(closes) <= proto.ended
    assert (proto.control.code is None) == proto.control.open


if __name__ == "__main__":
    fuzz(check)
