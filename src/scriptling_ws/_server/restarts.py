"""When a worker process that has fallen is started again.

Rules:

- One that has run for a while is replaced at once. One that falls soon after its start, again and
  again, is replaced ever more slowly: it would fail again, and starting it costs a processor.
- Each place among the workers has a pace of its own: one that fails slows down no other.
"""

from __future__ import annotations

from time import monotonic
from typing import Final

__all__ = ["Pace"]

_STEADY: Final = 10.0  # seconds after which a worker has not fallen soon
_FIRST: Final = 0.1
_LONGEST: Final = 30.0
_MOST: Final = 16  # falls that are counted: the pause does not grow any more long before


class Pace:
    """The pace of one place among the workers."""

    __slots__ = ("_falls", "_since")

    def __init__(self) -> None:
        self._falls = 0
        self._since = monotonic()

    def start(self) -> None:
        """Take note that a worker starts."""
        self._since = monotonic()

    def fall(self) -> float:
        """Take note that it has fallen; the seconds until another one may start."""
        if monotonic() - self._since >= _STEADY:
            self._falls = 0
            return 0.0
        self._falls = min(self._falls + 1, _MOST)
        return min(_FIRST * 2.0 ** (self._falls - 1), _LONGEST)
