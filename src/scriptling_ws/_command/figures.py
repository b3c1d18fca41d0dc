"""What `/stats` shows of a connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._connection.connection import Connection

__all__ = ["figures_of"]


def figures_of(conn: Connection[Any]) -> list[str]:
    """Lines about a connection: between whom, and what its pings took."""
    latency = conn.latency
    lines = [f"  {conn.local_addr} to {conn.remote_addr}"]
    if conn.subprotocol is not None:
        lines.append(f"  subprotocol {conn.subprotocol}")
    if latency is not None:
        lines.append(f"  latest ping {latency * 1000:.1f} ms")
    return lines
