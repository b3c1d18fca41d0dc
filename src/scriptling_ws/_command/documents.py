"""JSON documents: checked, and laid out anew without a change of what they say.

Numbers stay as they are written, and so do the order of members and those that come twice: what
is shown is the document's own text, in which only the spaces between its parts differ.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final, NoReturn

from .escapes import shown_json

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["check_json", "indented", "on_one_line"]

_PARTS: Final = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_BREAKS: Final = str.maketrans("\n\r\t", "   ")


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")


def check_json(text: str) -> None:
    """Check that a text is a JSON document (RFC 8259), of which NaN and Infinity are no part.

    Raises:
        ValueError: it is not, or it is nested too deeply.
    """
    try:
        # No number is made of the digits: their count has no limit here.
        json.loads(text, parse_int=str, parse_float=str, parse_constant=_no_number)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def on_one_line(text: str) -> str:
    """A JSON document on one line: what is between its parts may be any space."""
    return shown_json(text.translate(_BREAKS).strip())


def indented(text: str, paint: Callable[[str, str], str]) -> str:
    """A JSON document in lines, as deep as it is nested, its parts painted.

    Args:
        text: The document.
        paint: What gives a part its colour, by the part's kind: "key", "string", "number", "word"
            or "mark".
    """
    parts = _PARTS.findall(text)
    lines, depth = [""], 0
    for number, part in enumerate(parts):
        after = parts[number + 1] if number + 1 < len(parts) else ""
        before = parts[number - 1] if number else ""
        if part in "}]":
            depth -= 1
            if before not in ("{", "["):
                lines.append("  " * depth)
        kind = _kind(part, after)
        lines[-1] += paint(kind, shown_json(part))
        if part == ":":
            lines[-1] += " "
        elif part == "," or (part in "{[" and after not in ("}", "]")):
            depth += part in "{["
            lines.append("  " * depth)
        elif part in "{[":
            depth += 1
    return "\n  ".join(lines)


def _kind(part: str, after: str) -> str:
    if part[0] == '"':
        return "key" if after == ":" else "string"
    if part in "{}[],:":
        return "mark"
    return "word" if part[0].isalpha() else "number"
