"""Paths: which of them a request may have, and which a route.

Rules (RFC 3986 sections 3.3 and 6.2.2):

- A proxy in front decides by a path who may come in, and passes it on as it came. What it
  decided has to hold for the path that a route, a file or a handler is found by. So a request
  has nothing here where the two could differ: a dot segment, encoded or not, which one of the
  two resolves; an encoded separator, which one of the two decodes; a backslash, which browsers
  and Windows take for a slash; a NUL, which ends a string in C.
- All else is compared as it is, percent-decoded once: repeated slashes are not merged, case
  counts, and `;` begins nothing. What a proxy refuses for one of these has no route here.
- A route's path is one that a request can have, or has parameters: `{name}` for one whole segment,
  or `{name:path}` for all that is left. There are no other patterns, and what looks like one is
  refused.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple
from urllib.parse import unquote

__all__ = ["Hidden", "Parameter", "check_path", "check_pattern", "decoded_path"]

_DOTS: Final = (".", "..")
_AMBIGUOUS = re.compile(r"[/\\\0]")  # in one decoded segment
_NO_PATH = re.compile(r"[\x00-\x1f\x7f?#\\\ud800-\udfff]")
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")
_PATTERN = re.compile(r"[{}<>*]|/:")
_AS_WRITTEN: Final = (
    "which is no pattern here: write a parameter as {name}, and all that is left as {name:path}"
)
_PARAMETER = re.compile(r"\{(\w+)(:path)?\}")


class Hidden(ValueError):
    """A request's path that leads nowhere, whatever routes there are."""


class Parameter(NamedTuple):
    """A segment of a route's path that may be anything.

    Attributes:
        name: Under which a request has what stands there.
        rest: Whether it is all that is left of the path, its slashes too.
    """

    name: str
    rest: bool


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
    """Check the path of a route that has no parameters.

    Raises:
        TypeError: it is no str.
        ValueError: no request can have it, or it looks like a pattern.
    """
    return _checked(path, "and there are no parameters here: write the whole path")


def check_pattern(path: object) -> tuple[str | Parameter, ...]:
    """Check the path of a route that may have parameters.

    Returns:
        Its segments: what stands between its slashes, in their order.

    Raises:
        TypeError: it is no str.
        ValueError: no request can have it, or it is malformed.
    """
    if not isinstance(path, str) or not {"{", "}"} & {*path}:
        text = _checked(path, _AS_WRITTEN)
        return tuple(text[1:].split("/"))
    parts = [_parameter(path, part) for part in path.split("/")]
    plain = "/".join("p" if isinstance(part, Parameter) else part for part in parts)
    _checked(plain, _AS_WRITTEN, path)
    names = [part.name for part in parts if isinstance(part, Parameter)]
    if len({*names}) < len(names):
        raise ValueError(f"the path {path!r} has two parameters of one name: rename one")
    if any(isinstance(part, Parameter) and part.rest for part in parts[:-1]):
        raise ValueError(f"the path {path!r} goes on behind a {{name:path}}, which takes all")
    return tuple(parts[1:])


def _parameter(path: str, part: str) -> str | Parameter:
    """A segment of a pattern."""
    if not {"{", "}"} & {*part}:
        return part
    found = _PARAMETER.fullmatch(part)
    if found is None or not found[1].isidentifier():
        raise ValueError(
            f"the path {path!r} has {part!r} in it, which is no parameter: write a whole "
            "segment as {name}, or the rest of the path as {name:path}"
        )
    return Parameter(found[1], found[2] is not None)


def _checked(path: object, advice: str, whole: str | None = None) -> str:
    """A path without parameters.

    Args:
        path: The path.
        advice: For the error, what to do where it looks like a pattern.
        whole: For the error, the path as it was given.
    """
    if not isinstance(path, str):
        raise TypeError(f"the path has to be a str, not {type(path).__name__}")
    shown = path if whole is None else whole
    if not path.startswith("/"):
        raise ValueError(f"the path {shown!r} has to start with '/'")
    if found := _NO_PATH.search(path):
        raise ValueError(
            f"the path {shown!r} has {found[0]!r} in it: write it without query, fragment, "
            "backslashes and control characters"
        )
    if _ENCODED.search(path):
        raise ValueError(
            f"the path {shown!r} is percent-encoded: write the characters themselves, "
            "requests are decoded before they are compared"
        )
    if found := _PATTERN.search(path):
        raise ValueError(f"the path {shown!r} has {found[0]!r} in it, {advice}")
    if "//" in path or not {*path.split("/")}.isdisjoint(_DOTS):
        raise ValueError(
            f"the path {shown!r} has an empty segment, '.' or '..' in it: write it as browsers "
            "send it, resolved"
        )
    return path
