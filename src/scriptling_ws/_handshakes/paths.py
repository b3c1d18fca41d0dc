"""Paths: which of them a request may have, and which a route.

Rules (RFC 3986 sections 3.3 and 6.2.2):

- A proxy in front decides by a path who may come in, and passes it on as it came. What it
  decided has to hold for the path that a route, a file or a handler is found by. So a request
  has nothing here where the two could differ: a dot segment, encoded or not, which one of the
  two resolves; an encoded separator, which one of the two decodes; a backslash, which browsers
  and Windows take for a slash; a NUL, which ends a string in C.
- All else is compared as it is, percent-decoded once: repeated slashes are not merged, case
  counts, and `;` begins nothing. What a proxy refuses for one of these has no route here.
- A route's path is one that a request can have. It has nothing in it that looks like a pattern,
  as there are none.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote

__all__ = ["Hidden", "check_path", "decoded_path"]

_DOTS: Final = (".", "..")
_AMBIGUOUS = re.compile(r"[/\\\0]")  # in one decoded segment
_NO_PATH = re.compile(r"[\x00-\x1f\x7f?#\\\ud800-\udfff]")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_PATTERN = re.compile(r"[{}<>*]|/:")


class Hidden(ValueError):
    """A request's path that leads nowhere, whatever routes there are."""


def decoded_path(raw: str) -> str:
    """A request's path, percent-decoded.

    Args:
        raw: The path as it came, without the query.

    Raises:
        Hidden: a proxy in front may have taken it for another path.
        ValueError: it is not UTF-8.
    """
    if "%" not in raw and "." not in raw and not _AMBIGUOUS.search(raw.replace("/", "")):
        return raw  # as most are
    segments = []
    for segment in raw.split("/"):
        try:
            decoded = unquote(segment, errors="strict")
        except UnicodeDecodeError as error:
            raise ValueError("the path is not UTF-8") from error
        if decoded in _DOTS:
            raise Hidden("there is nothing at a path with '.' or '..' in it: resolve it first")
        if _AMBIGUOUS.search(decoded):
            raise Hidden("there is nothing at a path with an encoded '/', a '\\' or a NUL in it")
        segments.append(decoded)
    return "/".join(segments)


def check_path(path: object) -> str:
    """Check the path of a route.

    Raises:
        TypeError: it is no str.
        ValueError: no request can have it, or it looks like a pattern.
    """
    if not isinstance(path, str):
        raise TypeError(f"the path has to be a str, not {type(path).__name__}")
    if not path.startswith("/"):
        raise ValueError(f"the path {path!r} has to start with '/'")
    if found := _NO_PATH.search(path):
        raise ValueError(
            f"the path {path!r} has {found[0]!r} in it: write it without query, fragment, "
            "backslashes and control characters"
        )
    if _ENCODED.search(path):
        raise ValueError(
            f"the path {path!r} is percent-encoded: write the characters themselves, "
            "requests are decoded before they are compared"
        )
    if found := _PATTERN.search(path):
        raise ValueError(
            f"the path {path!r} has {found[0]!r} in it, and there are no patterns: register each "
            "path, or take what varies from the query (request.query)"
        )
    if "//" in path or not {*path.split("/")}.isdisjoint(_DOTS):
        raise ValueError(
            f"the path {path!r} has an empty segment, '.' or '..' in it: write it as browsers "
            "send it, resolved"
        )
    return path
