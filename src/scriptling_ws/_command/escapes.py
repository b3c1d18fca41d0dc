r"""A peer's text, made harmless: what is no visible character is written as an escape.

Rules:

- Control characters (C0, DEL, C1), which terminals obey, are escaped as Python writes them, `\x1b`;
  so are those that change the direction of text, surrogates, private and unassigned characters.
- Spaces of all kinds and the joiners of emoji and scripts stay: they show, and do, nothing else.
- A tab stays. A line end is escaped where a message is one line, else its lines are indented: no
  message can look like a line that this program has written.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Final

__all__ = ["shown", "shown_in_lines", "shown_json"]

_JOINERS: Final = "\u200c\u200d"


def _visible(character: str) -> bool:
    if character.isprintable() or character in _JOINERS:
        return True
    return unicodedata.category(character) == "Zs"


class _Escapes(dict[int, str]):
    """What each character is written as, found when it is first met."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        if not _visible(character):
            character = character.encode("unicode_escape").decode("ascii")
        if len(self) < 70_000:  # it is the peer that chooses the characters
            self[code] = character
        return character


class _JSONEscapes(_Escapes):
    def __missing__(self, code: int) -> str:
        character = chr(code)
        # A DEL is none to `dumps`.
        escaped = f"\\u{code:04x}" if code < 0x10000 else json.dumps(character)[1:-1]
        self[code] = character if _visible(character) else escaped
        return self[code]


_ON_ONE_LINE: Final = _Escapes({ord("\t"): "\t"})
_IN_LINES: Final = _Escapes({ord("\t"): "\t", ord("\n"): "\n  "})
_IN_JSON: Final = _JSONEscapes()


def shown(text: str) -> str:
    """The text on one line."""
    return text if text.isprintable() else text.translate(_ON_ONE_LINE)


def shown_in_lines(text: str) -> str:
    """The text in its own lines, those behind the first one indented by two."""
    return text if text.isprintable() else text.translate(_IN_LINES)


def shown_json(text: str) -> str:
    """A JSON document that has no line ends: escaped within its strings, so that it is the same."""
    return text if text.isprintable() else text.translate(_IN_JSON)
