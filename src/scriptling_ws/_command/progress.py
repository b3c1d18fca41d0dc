"""How far a file is, as one line on a terminal."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Bar"]

_AGAIN: Final = 0.1  # seconds between two looks of it
_WIDTH: Final = 24
_UNITS: Final = ("bytes", "kB", "MB", "GB", "TB", "PB")


class Bar:
    """A bar on the standard error: called with the bytes that are done, and how many there are."""

    def __init__(self, word: str, free: Callable[[], bool] = lambda: True) -> None:
        """Make one that is shown where the standard error is a terminal.

        Args:
            word: What is done, such as "sent".
            free: Whether the line is free for it: there may be another bar.
        """
        self._word = word
        self._free = free
        self._wanted = sys.stderr.isatty()
        self._began: float | None = None
        self._next = 0.0
        self._last: tuple[int, int | None] = 0, None

    def __call__(self, done: int, total: int | None) -> None:
        """Show it, ten times a second at most."""
        now = monotonic()
        if self._began is None:
            self._began = now
        self._last = done, total
        if self._wanted and now >= self._next and self._free():
            self._next = now + _AGAIN
            self._draw()

    def finish(self) -> None:
        """Show the end of it, and leave the line. Anew for what comes next."""
        if self._wanted and self._began is not None and self._free():
            self._draw()
            sys.stderr.write("\n")
            sys.stderr.flush()
        self._began, self._next = None, 0.0

    def _draw(self) -> None:
        done, total = self._last
        seconds = monotonic() - (self._began or 0.0)
        rate = done / seconds if seconds > 0.05 else 0.0
        line = f"{self._word} {sized(done)}"
        if total:
            share = min(done / total, 1.0)
            full = int(share * _WIDTH)
            line = (
                f"{self._word} [{'#' * full}{'.' * (_WIDTH - full)}] {share:4.0%} "
                f"{sized(done)} of {sized(total)}"
            )
        if rate:
            line += f", {sized(rate)}/s"
            if total and done < total:
                line += f", {clock((total - done) / rate)} left"
        sys.stderr.write(f"\r{line}\x1b[K")
        sys.stderr.flush()


def sized(number: float) -> str:
    """A number of bytes, in decimal units: 12.3 MB."""
    unit = 0
    while number >= 1000 and unit < len(_UNITS) - 1:
        number, unit = number / 1000, unit + 1
    return f"{number:.0f} {_UNITS[0]}" if unit == 0 else f"{number:.1f} {_UNITS[unit]}"


def clock(seconds: float) -> str:
    """A time in minutes and seconds, or hours: 2:05, 1:02:05."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
