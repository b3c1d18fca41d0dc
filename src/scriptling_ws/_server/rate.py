"""How fast something may come, by key: a token bucket for each, in bounded memory.

Rules:

- A bucket holds `burst` tokens and gets `per_second` of them back; what comes takes one. What is
  refused takes none: who comes twice as fast as allowed gets in every other time.
- A bucket is one number, the moment at which it is full again (that of the "generic cell rate
  algorithm"). A full bucket is not kept.
- Keys are peers' to choose (addresses): MOST of them are kept, and the one that was used longest
  ago gives way. Its peer has a full bucket then, as one with so many addresses has anyway.
- For one thread at a time.
"""

from __future__ import annotations

from collections import OrderedDict
from time import monotonic
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MOST", "Rate"]

MOST: Final = 16_384  # pragma: no mutate - just a bound
"""The most keys that are kept."""

_TINY: Final = 1e-6  # seconds by which sums of floats may be off; pragma: no mutate


class Rate:
    """A token bucket for each key."""

    __slots__ = ("_clock", "_full", "_interval", "_slack")

    def __init__(
        self, per_second: float, burst: int, clock: Callable[[], float] = monotonic
    ) -> None:
        """Begin with full buckets.

        Args:
            per_second: The tokens that come back each second, above 0.
            burst: The tokens that a bucket holds, at least 1.
            clock: What tells the time, in seconds.
        """
        self._clock = clock
        self._interval = 1 / per_second
        self._slack = (burst - 1) * self._interval
        self._full: OrderedDict[str, float] = OrderedDict()  # the key used last at the end

    def __len__(self) -> int:
        """How many keys are kept."""
        return len(self._full)

    def take(self, key: str) -> float:
        """Take a token.

        Returns:
            0.0 if there was one; else the seconds until there is one.
        """
        now = self._clock()
        full = max(self._full.pop(key, now), now)
        self._forget(now)
        wait = full - now - self._slack
        if wait > _TINY:
            self._full[key] = full
            return wait
        self._full[key] = full + self._interval
        return 0.0

    def _forget(self, now: float) -> None:
        """Let go of two keys at most, since one comes at a time: full buckets, and the eldest."""
        for _ in range(2):
            eldest = next(iter(self._full), None)
            if eldest is None or (self._full[eldest] > now and len(self._full) < MOST):
                return
            del self._full[eldest]
