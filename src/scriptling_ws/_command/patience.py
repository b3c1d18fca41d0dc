"""How long `connect` goes on receiving once its input has ended."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .feeding import Feeder

__all__ = ["Patience"]

_LOOK_AGAIN: Final = 0.1  # seconds between two looks at the input


class Patience:
    """The silence that ends it: counted from the input's end, or the last message after that."""

    def __init__(self, feeder: Feeder, seconds: float | None) -> None:
        """Have patience for so many seconds, None for ever."""
        self._feeder = feeder
        self._seconds = seconds
        self._heard = 0.0

    def heard(self) -> None:
        """Something has come."""
        self._heard = monotonic()

    def left(self) -> float | None:
        """For how many seconds to wait now.

        Raises:
            Exception: what has ended the input.
        """
        if self._feeder.error is not None:
            raise self._feeder.error
        ended = self._feeder.ended
        if ended is None:
            return _LOOK_AGAIN
        if self._seconds is None:
            return None
        return max(max(ended, self._heard) + self._seconds - monotonic(), 0.0)

    def over(self) -> bool:
        """Whether the silence has lasted as long as that."""
        return self.left() == 0
