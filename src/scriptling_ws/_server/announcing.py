"""Where a server listens, told once: the line that a program's user looks for.

Rules:

- It is a line of the log `scriptling_ws.server`, at INFO: what a program does with that is its own.
- A program that has set up no logging would not see it. There it is written to stderr as it is,
  unless the program announces it by itself (`ready=`): never to stdout, which is the program's.
"""

from __future__ import annotations

import contextlib
import logging
import sys

__all__ = ["announce", "listening"]

_logger = logging.getLogger("scriptling_ws.server")


def listening(url: str, page_url: str) -> str:
    """Where a server listens, in words.

    Args:
        url: The URL of its WebSockets.
        page_url: That of its pages, to be opened in a browser; "" for none.
    """
    browser = f"in a browser {page_url}; " if page_url else ""
    return f"listening on {url} ({browser}Ctrl-C ends it)"


def announce(url: str, page_url: str, *, shown: bool) -> None:
    """Tell where a server listens.

    Args:
        url: As `listening` takes it.
        page_url: Likewise.
        shown: Whether it is written to stderr where no logging is set up.
    """
    text = listening(url, page_url)
    _logger.info(text)
    if shown and not _logger.hasHandlers() and sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # nobody reads it: no reason not to serve
            print(f"scriptling_ws: {text}", file=sys.stderr, flush=True)
