"""Timeouts as callers give them, and the moments that they stand for.

Rules:

- A timeout is in seconds, counted once for the whole of a call, however many
  steps the call takes: it is turned into a Deadline at the call's start (by a `receive` of
  more than a second, after its first nap).
- None waits for ever; 0 does not wait; a negative one or NaN is a ValueError.
- The clock is monotonic: setting the wall clock changes nothing.
- A wait that has timed out is counted too (`waited`): a call ends in time even where the clock
  stands still, as in a test that has patched it.
"""

from __future__ import annotations

import math
from time import monotonic

__all__ = ["FOREVER", "Deadline", "bounded", "check_timeout"]

# The longest wait that every operating system call takes (poll counts
# milliseconds in a C int). A longer one waits in turns, or for 24 days.
_LONGEST = 2_000_000.0

_NUMBERS = (int, float)


def check_timeout(timeout: object, name: str = "timeout") -> float | None:
    """Check a timeout that came from a caller.

    Args:
        timeout: Seconds, or None to wait for ever.
        name: The argument's name, for the error.

    Returns:
        The seconds, or None for ever (infinity too).

    Raises:
        TypeError: it is not a number.
        ValueError: it is negative or NaN.
    """
    if timeout is None:
        return None
    if type(timeout) in _NUMBERS and 0 <= timeout <= _LONGEST:  # type: ignore[operator]
        return timeout  # type: ignore[return-value]  # what nearly every caller gives
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise TypeError(
            f"{name} has to be a number of seconds, or None to wait for ever, "
            f"not {type(timeout).__name__}"
        )
    try:
        seconds = float(timeout)
    except OverflowError:  # an int with more digits than a float can count
        seconds = math.inf if timeout > 0 else -math.inf
    if not seconds >= 0:  # written so that NaN fails too
        raise ValueError(f"{name} has to be 0 or more, or None to wait for ever, not {seconds!r}")
    return None if seconds == math.inf else seconds


def bounded(seconds: float | None) -> float | None:
    """A timeout that was checked before, as `check_timeout` returns it."""
    return None if seconds == math.inf else seconds


class Deadline:
    """The moment at which a call has to be over."""

    __slots__ = ("_left", "_moment", "_whole")

    def __init__(self, timeout: float | None) -> None:
        """Count from now.

        Args:
            timeout: Seconds, already checked; None for a deadline that never comes.
        """
        self._moment = None if timeout is None else monotonic() + timeout
        self._left = timeout or 0.0  # less what `waited` was told; the clock has no part in it
        self._whole: Deadline | None = None  # the deadline of which this one is a part

    def left(self) -> float | None:
        """The seconds that are left, 0.0 when it has passed, None for ever."""
        if self._moment is None:
            return None
        return max(min(self._moment - monotonic(), self._left, _LONGEST), 0.0)

    def passed(self) -> bool:
        """Whether it has passed."""
        return self._moment is not None and (self._left <= 0 or monotonic() >= self._moment)

    def waited(self, seconds: float | None) -> None:
        """Take note that a wait of so many seconds, at most `left()`, has timed out."""
        deadline: Deadline | None = self
        while deadline is not None and seconds is not None:
            deadline._left -= seconds
            deadline = deadline._whole

    def sooner(self, timeout: float | None) -> Deadline:
        """The earlier of this deadline and one `timeout` seconds from now."""
        if timeout is None or (self._moment is not None and self._moment <= monotonic() + timeout):
            return self
        other = Deadline(timeout)
        other._whole = self
        return other


FOREVER = Deadline(None)
