"""Where the command's server is reached: one line on the standard output."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..runtime import http

if TYPE_CHECKING:
    from .._server.server import Server

__all__ = ["announce", "say_where"]


def announce(server: Server) -> None:
    """Let the setup script have the server, and say where it listens."""
    http.server = server
    say_where(server.url, server.page_url if http.table().has_pages else "")


def say_where(url: str, page_url: str) -> None:
    """Print where a server listens.

    Args:
        url: The URL of its WebSockets.
        page_url: That of its pages, to be opened in a browser; "" for none.
    """
    browser = f"in a browser {page_url}; " if page_url else ""
    with contextlib.suppress(OSError):  # nobody reads it: no reason not to serve
        print(f"scriptling-ws: listening on {url} ({browser}Ctrl-C ends it)", flush=True)
