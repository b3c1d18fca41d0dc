"""Dates of HTTP (RFC 9110 section 5.6.7): in English and GMT, whatever the locale and the zone."""

from __future__ import annotations

from email.utils import formatdate
from functools import lru_cache
from time import time

__all__ = ["http_date"]


def http_date(second: int | None = None) -> str:
    """A time, as a header has it.

    Args:
        second: The time in seconds since 1970; None for now.
    """
    return _imf_fixdate(int(time()) if second is None else second)


@lru_cache(maxsize=64)  # the same for all answers of a second, and for all of a file
def _imf_fixdate(second: int) -> str:
    return formatdate(second, usegmt=True)
