"""Where the command's server is reached: one line on the standard output."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from .._server.announcing import listening
from ..runtime import http

if TYPE_CHECKING:
    from .._server.server import Server

__all__ = ["announce", "say_where"]


def announce(server: Server) -> None:
    """Let the setup script have the server, and say where it listens."""
    http.server = server
    say_where(server.url, server.page_url if http.table().has_pages else "")


def say_where(url: str, page_url: str) -> None:
    """Print where a server listens: see `listening`."""
    with contextlib.suppress(OSError):  # nobody reads it: no reason not to serve
        print(f"scriptling-ws: {listening(url, page_url)}", flush=True)
