"""The command: which of its forms is meant.

The first argument says it: a subcommand's name; a WebSocket URL anywhere in front of a setup script
is `connect`; all else is a server's. What a form alone needs is imported for it alone.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: The command's arguments, those of the process by default.

    Returns:
        The exit status.

    Raises:
        SystemExit: after --help and --version, and with 2 for what the user can
            put right; the setup script may raise its own.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments and arguments[0] == "demo":
        return _demo(arguments[1:])
    from .server import main as serve

    return serve(arguments)


def _demo(arguments: list[str]) -> int:
    argparse.ArgumentParser(
        prog="scriptling-ws demo",
        description="Start a server on a free port and show the library's calls at work.",
    ).parse_args(arguments)
    from . import demo

    return demo.main() or 0
