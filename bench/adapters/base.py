"""What an adapter does: each workload's loop, in the library's own best words.

The loop is inside the adapter because a call through a layer of ours would cost as much
as receiving a small message does in a compiled library.  Every adapter's loop does the
same work: messages are `str` or `bytes` objects (or lists, where the workload says so),
each bound to a name in plain Python code, or passed to a callback where that is what the
library's documentation recommends.

The far end's side of the workloads is described at the top of far_end.c.
"""

from __future__ import annotations

import json
import ssl
from dataclasses import dataclass
from typing import Any, Protocol

BATCH = 256
"""Messages in one call of send_many, and at most in one of receive_many."""

TIMEOUT = 30.0

# json.dumps with separators makes a new encoder in each call; this is faster, and what
# a program does that cares.
to_json = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


@dataclass(frozen=True)
class Endpoint:
    """What to connect to, and how."""

    url: str
    authority: str | None = None  # for wss: the PEM file to trust
    as_list: bool = False  # binary messages are wanted as lists of ints

    def tls(self) -> ssl.SSLContext | None:
        """What to connect with; None for ws."""
        if not self.url.startswith("wss:"):
            return None
        return ssl.create_default_context(cafile=self.authority)


class Adapter(Protocol):
    """One connection of one library.

    Not every library has every method: one that is missing is a workload that the
    library is not measured in.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        """Connect."""

    def close(self) -> None:
        """Close the connection."""

    @classmethod
    def connect_and_close(cls, endpoint: Endpoint, count: int) -> None:
        """Open a connection and close it, with its handshake, `count` times."""

    def echo(self, message: str | bytes, count: int) -> Any:
        """Send a message and receive its echo, `count` times; returns the last."""

    def echo_list(self, values: list[int], count: int) -> list[int]:
        """The same with a list of ints both ways."""

    def echo_dict(self, value: dict[str, Any], count: int) -> str:
        """The same with a dict that is sent as compact JSON; the echo is a str."""

    def receive(self, count: int) -> Any:
        """Ask for `count` messages and receive them one by one; returns the last."""

    def receive_iterating(self, count: int) -> Any:
        """The same with the library's iterator."""

    def receive_many(self, count: int) -> Any:
        """The same in batches."""

    def send(self, message: bytes, count: int) -> str:
        """Send a message `count` times, then ask for the far end's account of it."""

    def send_many(self, message: bytes, count: int) -> str:
        """The same in batches."""
