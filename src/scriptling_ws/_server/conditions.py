"""Requests with conditions: whether a client has what it asks for already.

Rules (RFC 9110 section 13):

- What a representation is known by (`Validators`) is its ETag and its Last-Modified. Both go
  out with it, and with the answer that it has not changed (304).
- The conditions are looked at in the order of section 13.2.2; of each pair the ETag's goes first,
  and where it is there the date does not count. A date that is malformed does not count either.
- If-Match and If-Range compare strongly, If-None-Match weakly (section 8.8.3.2).
- A file that was changed within the second before has a weak ETag: it may change once more
  without a difference in its time (section 8.8.1).
"""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from .._handshakes.refused import Refused

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

__all__ = ["Validators", "allows_range", "is_unchanged"]

_TAG = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_LISTED = re.compile(rf"[ \t]*({_TAG.pattern})[ \t]*(?:,|$)")
# All that a client of today sends; the two older forms are not needed to be understood right.
_DATE = re.compile(r"[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT", re.ASCII)
_MOMENT: Final = 1.0


class Validators(NamedTuple):
    """What a representation is known by.

    Attributes:
        etag: Its ETag, in quotes.
        modified: When it was changed, in whole seconds since 1970.
    """

    etag: str
    modified: int

    @classmethod
    def of(cls, info: os.stat_result, now: float, coding: str = "") -> Validators:
        """A file's.

        Args:
            info: What the system says of it.
            now: The time.
            coding: What it is compressed by, "" for nothing.
        """
        kind = f"-{coding}" if coding else ""
        etag = f'"{info.st_mtime_ns:x}-{info.st_size:x}{kind}"'
        if now - info.st_mtime < _MOMENT:
            etag = f"W/{etag}"
        # No later than the answer itself (RFC 9110 section 8.8.2.1).
        return cls(etag, max(0, int(min(info.st_mtime, now))))


def is_unchanged(headers: Mapping[str, str], validators: Validators) -> bool:
    """Whether the client of a GET or HEAD has the representation: answer 304.

    Args:
        headers: The request's, by names in lower case.
        validators: The representation's.

    Raises:
        Refused: 412, it was to be answered only if it is another one than this.
    """
    if (tags := headers.get("if-match")) is not None:
        if not _lists(tags, validators.etag, strong=True):
            raise Refused(412, "If-Match names another version of this file")
    elif _is_later(validators.modified, headers.get("if-unmodified-since")):
        raise Refused(412, "this file has changed since If-Unmodified-Since")
    if (tags := headers.get("if-none-match")) is not None:
        return _lists(tags, validators.etag, strong=False)
    since = _read_date(headers.get("if-modified-since"))
    return since is not None and validators.modified <= since


def allows_range(headers: Mapping[str, str], validators: Validators) -> bool:
    """Whether a range may be sent, or the whole because it is another one than the client has."""
    condition = headers.get("if-range")
    if condition is None:
        return True
    if condition.endswith('"'):
        return _lists(condition, validators.etag, strong=True)
    # A date is strong only if the file has not changed just now, as an ETag is (section 8.8.2.2).
    return _read_date(condition) == validators.modified and not validators.etag.startswith("W/")


def _lists(tags: str, etag: str, *, strong: bool) -> bool:
    """Whether a list of ETags has one; "*" has any."""
    if tags.strip(" \t") == "*":
        return True
    if strong and etag.startswith("W/"):
        return False
    wanted, at = etag.removeprefix("W/"), 0
    while (found := _LISTED.match(tags, at)) is not None and at < len(tags):
        at = found.end()
        tag = found[1]
        if tag == wanted or (not strong and tag.removeprefix("W/") == wanted):
            return True
    return False


def _is_later(modified: int, text: str | None) -> bool:
    since = _read_date(text)
    return since is not None and modified > since


def _read_date(text: str | None) -> int | None:
    """A date in seconds since 1970; None if there is none, or it is malformed."""
    if text is None or not _DATE.fullmatch(text):
        return None
    try:
        return int(parsedate_to_datetime(text).timestamp())
    except (ValueError, OverflowError):
        return None
