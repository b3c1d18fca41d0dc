"""Ranges: the part of a representation that a client asks for.

Rules (RFC 9110 section 14):

- One range of bytes is answered with that part (206). Several at once, another unit, and what is
  malformed are answered with the whole, as a server may: nobody needs them, and many small or
  overlapping ones cost more than the whole.
- A range that begins behind the end cannot be satisfied (416); one that ends there is cut.
- The last bytes of an empty file can be asked for (section 14.1.2), but no Content-Range can say
  where they are: that is answered with the whole, too.
"""

from __future__ import annotations

import re
from typing import Final

from .._handshakes.refused import Refused

__all__ = ["wanted_range"]

_RANGE = re.compile(r"bytes[ \t]*=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE | re.ASCII)
_DIGITS: Final = 19  # of a number that is taken as it is: what has more is behind any end


def wanted_range(value: str, size: int) -> tuple[int, int] | None:
    """The part that a Range header asks for.

    Args:
        value: The header.
        size: The bytes that there are.

    Returns:
        Where it begins and how many bytes it has; None for the whole.

    Raises:
        Refused: 416, there is nothing where it begins.
    """
    found = _RANGE.fullmatch(value)
    if found is None or not (found[1] or found[2]):
        return None
    first, last = _number(found[1]), _number(found[2])
    if first is None:
        assert last is not None
        if last and not size:
            return None
        start, end = max(0, size - last), size  # the last bytes
    else:
        if last is not None and last < first:
            return None
        start, end = first, size if last is None else min(last + 1, size)
    if start >= size:
        raise Refused(
            416,
            f"this file has {size} bytes: ask for a range within them",
            [("Content-Range", f"bytes */{size}"), ("Accept-Ranges", "bytes")],
        )
    return start, end - start


def _number(digits: str) -> int | None:
    """A number of any length; None for none."""
    if not digits:
        return None
    digits = digits.lstrip("0")
    return int(digits or "0") if len(digits) < _DIGITS else 10**_DIGITS
