"""What ends the command from outside: signals, and an output that nobody reads."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ends_by_signals", "silence_stdout"]


@contextlib.contextmanager
def ends_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise SystemExit, with the status that shells have for them."""
    before: dict[signal.Signals, Any] = {}

    def end(number: int, _frame: object) -> NoReturn:
        sys.exit(128 + number)

    try:
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                before[number] = signal.signal(number, end)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def silence_stdout() -> None:
    """Let what is left in the standard output's buffer go nowhere: its reader has gone."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, sys.stdout.fileno())
        finally:
            os.close(nowhere)
