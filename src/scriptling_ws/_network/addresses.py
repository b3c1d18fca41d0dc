"""Addresses of sockets, as log lines and `remote_addr` write them."""

from __future__ import annotations

import os
from typing import Any

from .authority import host_port

__all__ = ["address_text"]


def address_text(address: Any) -> str:
    """A socket address as text: `127.0.0.1:80`, `[::1]:80`, `unix:/run/app.sock`.

    A Unix socket that has no name is `unix:`, as the clients of one are; `@` is for an abstract
    name. A peer may choose its name: it is in ASCII, with escapes.
    """
    if isinstance(address, tuple):
        return host_port(str(address[0]), address[1])  # of VSOCK it is two numbers
    path = os.fsdecode(address or "")
    if path.startswith("\0"):
        path = "@" + path[1:]
    return "unix:" + path.encode("unicode_escape").decode("ascii")
