"""Content codings: which of several compressed forms a client takes.

Rules (RFC 9110 section 12.5.3):

- A client takes what its Accept-Encoding names with a weight above 0; "*" stands for all that are
  not named. Without the header, or where it is malformed, it gets what is not compressed.
- What is not compressed is always there, though a client may say that it does not take it: that
  is better than no answer.
- Of equal weight the smaller form goes first, as this server orders them.
"""

from __future__ import annotations

import re
from typing import Final

from .._fields import TCHAR

__all__ = ["CODINGS", "accepted"]

CODINGS: Final = {"br": ".br", "zstd": ".zst", "gzip": ".gz"}
"""The codings, the smallest form first, and how the names of their files end."""

_ENTRY = re.compile(
    rf"[ \t]*({TCHAR}+)[ \t]*(?:;[ \t]*q=(0(?:\.[0-9]{{0,3}})?|1(?:\.0{{0,3}})?)[ \t]*)?(?:,|$)",
    re.IGNORECASE,
)
_LONGEST: Final = 1024


def accepted(value: str | None) -> list[str]:
    """The codings that a client takes, the one to try first in front.

    Args:
        value: Its Accept-Encoding; None if it has none.
    """
    if value is None or len(value) > _LONGEST:
        return []
    weights: dict[str, float] = {}
    at = 0
    while at < len(value):
        found = _ENTRY.match(value, at)
        if found is None:
            return []
        name = found[1].lower()
        weights["gzip" if name == "x-gzip" else name] = float(found[2] or 1)
        at = found.end()
    others = weights.get("*", 0.0)
    taken = {name: weights.get(name, others) for name in CODINGS}
    least = weights.get("identity", 0.0)
    names = [name for name, weight in taken.items() if weight > 0 and weight >= least]
    return sorted(names, key=lambda name: -taken[name])  # a stable order
