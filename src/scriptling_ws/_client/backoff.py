"""When to try again, and whether: the pace of `reconnecting`.

Rules (RFC 6455 section 7.2.3, RFC 9110 section 10.2.3):

- The n-th wait in a row is drawn from 0 up to `first_delay` doubled n times, `max_delay` at most:
  clients that have lost the same server come back at different moments, and ever more rarely.
- Retry-After is obeyed, for an hour or max_delay at most, with up to `first_delay` on top of it.
- No try begins after the budget of time, so that a wait that would last longer is not begun.
- A failure is final where another try would say the same: what the server (or a proxy) says of this
  request, a certificate that is not trusted, a URL that is none.

No I/O and no waiting in here.
"""

from __future__ import annotations

import random
import re
import ssl
from dataclasses import dataclass
from time import time
from typing import Final

from .._errors import ConnectError, HandshakeError, InvalidURL, ProxyError
from .._network.deadline import Deadline, check_timeout
from .._options import check_count

__all__ = ["Budget", "Pace", "is_final", "retry_after"]

_MOST_DOUBLED: Final = 64  # a float holds that, whatever the first delay
_AN_HOUR: Final = 3600.0
_SECONDS: Final = re.compile(r"[0-9]+")
# What the next moment may change: 408, 425 and 429 say so, and the 5xx are the server's own.
_PASSING: Final = (408, 425, 429)
_OWN: Final = range(500, 600)


@dataclass(frozen=True)
class Budget:
    """How long to go on, checked; `reconnecting` describes each."""

    first_delay: float = 1.0
    max_delay: float = 60.0
    min_uptime: float = 5.0
    max_tries: int | None = None
    max_time: float | None = None

    def __post_init__(self) -> None:
        """Check all of it.

        Raises:
            TypeError: something is of the wrong type.
            ValueError: something is out of its range.
        """
        for name in ("first_delay", "max_delay", "min_uptime"):
            value = getattr(self, name)
            if value is None:
                raise TypeError(f"{name} has to be a number of seconds, not None")
            if check_timeout(value, name) is None:
                raise ValueError(f"{name} has to be finite, not {value!r}")
        if self.max_tries is not None:
            check_count("max_tries", self.max_tries, ", or None for no limit")
        check_timeout(self.max_time, "max_time")


class Pace:
    """The tries of one loop.

    Attributes:
        failures: How many have failed since the last connection that has lasted.
    """

    __slots__ = ("_budget", "_deadline", "failures")

    def __init__(self, budget: Budget) -> None:
        """Begin with the first try: the time counts from now."""
        self._budget = budget
        self.failures = 0
        self._deadline = Deadline(check_timeout(budget.max_time))

    def lasted(self, seconds: float) -> bool:
        """A connection has ended after so many seconds; if it has lasted, all counts anew."""
        if seconds < self._budget.min_uptime:
            self.failures += 1
            return False
        self.failures = 0
        self._deadline = Deadline(check_timeout(self._budget.max_time))
        return True

    def failed(self) -> None:
        """A try has failed."""
        self.failures += 1

    def delay(self, error: Exception) -> float | None:
        """How many seconds to wait before the next try; None if the budget is spent.

        Args:
            error: Why there has to be another one.
        """
        budget, left = self._budget, self._deadline.left()
        if left == 0 or (budget.max_tries is not None and self.failures >= budget.max_tries):
            return None
        told = retry_after(error)
        if told is not None:
            wait = min(told, max(_AN_HOUR, budget.max_delay)) + _up_to(budget.first_delay)
        else:
            doubled = 2.0 ** min(max(self.failures - 1, 0), _MOST_DOUBLED)
            wait = _up_to(min(budget.first_delay * doubled, budget.max_delay))
        return None if left is not None and wait >= left else wait


def _up_to(seconds: float) -> float:
    return random.uniform(0, seconds)  # noqa: S311 - nobody gains by knowing it


def retry_after(error: Exception) -> float | None:
    """The seconds that a refusal's Retry-After asks to wait; None if it has none that is valid."""
    if not isinstance(error, (HandshakeError, ProxyError)):
        return None
    text = error.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(text):
        return float(text)
    if not text:
        return None
    from email.utils import mktime_tz, parsedate_tz  # for a date alone

    try:
        date = parsedate_tz(text)
        return None if date is None else max(mktime_tz(date) - time(), 0.0)
    except (ValueError, OverflowError):  # a day that no month has
        return None


def is_final(error: Exception) -> bool:
    """Whether another try would fail the same way."""
    if isinstance(error, InvalidURL):
        return True
    status = error.status if isinstance(error, (HandshakeError, ProxyError)) else None
    if status is not None:
        return status not in _PASSING and status not in _OWN
    # The server's certificate, or that of a proxy.
    return isinstance(error, ConnectError) and isinstance(
        error.__cause__, ssl.SSLCertVerificationError
    )
