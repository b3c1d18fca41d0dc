"""The command: which of its forms is meant.

The first argument says it: a subcommand's name; a WebSocket URL anywhere, or a browser's in the
first place, is `connect`, which says what is wrong with one; all else is a server's. What a form
alone needs is imported for it alone.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable  # noqa: TC003 - of a variable
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

_SCHEMES: Final = ("ws://", "wss://", "ws+unix://", "wss+unix://")
_OTHERS: Final = ("http://", "https://")


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
    if not arguments:
        from .overview import main as overview

        return overview()
    call = _FORMS.get(arguments[0])
    if call is not None:
        return call(arguments[1:])
    if arguments[0].lower().startswith(_OTHERS) or any(map(_is_url, arguments)):
        return _connect(arguments)
    from .server import main as serve

    return serve(arguments)


def _is_url(argument: str) -> bool:
    return argument.lower().startswith(_SCHEMES)


def _connect(arguments: list[str]) -> int:
    from .connect import main as connect

    return connect(arguments)


def _demo(arguments: list[str]) -> int:
    argparse.ArgumentParser(
        prog="scriptling-ws demo",
        description="Start a server on a free port and show the library's calls at work.",
    ).parse_args(arguments)
    from . import demo

    return demo.main() or 0


def _examples(arguments: list[str]) -> int:
    from .examples import main as examples

    return examples(arguments)


def _completion(arguments: list[str]) -> int:
    from .completion import main as completion

    return completion(arguments)


_FORMS: Final[dict[str, Callable[[list[str]], int]]] = {
    "connect": _connect,
    "completion": _completion,
    "demo": _demo,
    "examples": _examples,
}
