"""What `/stats` shows of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .progress import clock, sized

if TYPE_CHECKING:
    from .._connection.connection import Connection
    from .._connection.stats import ConnectionStats

__all__ = ["figures_of"]


def figures_of(conn: Connection[Any]) -> list[str]:
    """Lines about a connection: between whom it is, and what has moved on it so far."""
    stats = conn.stats()
    agreed = "" if conn.subprotocol is None else f", subprotocol {conn.subprotocol}"
    received = _moved(stats.messages_received, stats.bytes_received)
    sent = _moved(stats.messages_sent, stats.bytes_sent)
    pings = f"  pings sent {stats.pings_sent:,}, answered {stats.pongs_received:,}"
    quiet = f"  quiet for {stats.seconds_since_received:.1f} s"
    lines = [
        f"  {conn.local_addr} to {conn.remote_addr}{agreed}, open for {clock(stats.seconds_open)}",
        f"  received {received}, {_framed(stats.frames_received, stats.wire_received)}",
        f"  sent {sent}, {_framed(stats.frames_sent, stats.wire_sent)}",
        f"{pings}; received {stats.pings_received:,}, answered {stats.pongs_sent:,}",
        f"{quiet}, sent nothing for {stats.seconds_since_sent:.1f} s",
    ]
    return [*lines, *_optional(stats)]


def _moved(messages: int, size: int) -> str:
    return f"{messages:,} message{'' if messages == 1 else 's'} of {sized(size)}"


def _framed(frames: int, size: int) -> str:
    return f"{frames:,} frame{'' if frames == 1 else 's'} of {sized(size)}"


def _optional(stats: ConnectionStats) -> list[str]:
    """What there is only after a ping was answered, or with compression."""
    lines = []
    least, mean, latest = stats.latency_least, stats.latency_mean, stats.latency
    if latest is not None and least is not None and mean is not None:
        lines.append(
            f"  answers to pings took {latest * 1000:.1f} ms, {least * 1000:.1f} at least, "
            f"{mean * 1000:.1f} on average"
        )
    ratios = [
        f"{ratio:.1f} of what was {word}"
        for word, ratio in (
            ("received", stats.compression_received),
            ("sent", stats.compression_sent),
        )
        if ratio is not None
    ]
    if ratios:
        lines.append(f"  compression by a factor of {', '.join(ratios)}")
    return lines
