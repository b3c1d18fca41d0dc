"""What `connect` writes: messages on the standard output, all else on the standard error.

Rules:

- On a terminal a message begins with a mark, may have several lines, and is cut where it is long.
  In a pipe it is one line, whole.
- What comes from a peer goes through `escapes`, in a pipe too: what reads it may show it.
- Colour is for terminals that have it, and not where NO_COLOR is set (https://no-color.org).
- A message is written by one call, so that those of two threads do not mix.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

from .binary_forms import as_text
from .documents import check_json, indented, on_one_line
from .escapes import shown, shown_in_lines

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["Screen", "has_colour"]

_LONGEST: Final = 20_000  # characters of a message on a terminal
_COLOURS: Final = {
    "note": "2",
    "error": "31",
    "received": "36",
    "key": "34",
    "string": "32",
    "number": "33",
    "word": "35",
}


def has_colour(stream: TextIO) -> bool:
    """Whether what is written there may have colours."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return stream.isatty() and not plain


class Screen:
    """The standard output and error of one run.

    Attributes:
        terminal: Whether messages go to a terminal.
        form: How binary messages are written.
        coloured: Whether messages have colours.
    """

    def __init__(self, form: str, *, as_json: bool, notes: bool) -> None:
        """Prepare both streams.

        Args:
            form: Of `forms.FORMS`.
            as_json: Whether messages are JSON documents.
            notes: Whether notes are written.
        """
        for stream in (sys.stdout, sys.stderr):
            reconfigure = getattr(stream, "reconfigure", None)
            if reconfigure is not None:  # a stand-in may have none
                reconfigure(errors="backslashreplace")
        self.terminal = sys.stdout.isatty()
        self.form = form
        self._json = as_json
        self._notes = notes
        self.coloured = has_colour(sys.stdout)
        self._coloured_notes = has_colour(sys.stderr)

    # -- messages ----------------------------------------------------------

    def show(self, message: str | bytes) -> None:
        """Write a message; `flush` sends it off."""
        if self.form == "raw" and isinstance(message, bytes):
            sys.stdout.flush()
            sys.stdout.buffer.write(message)
        elif self.terminal:
            sys.stdout.write(f"{self._paint('received', '<')} {self._in_lines(message)}\n")
        else:
            sys.stdout.write(f"{self._on_one_line(message)}\n")

    def flush(self) -> None:
        """Send off what was written."""
        sys.stdout.flush()

    def _on_one_line(self, message: str | bytes) -> str:
        if isinstance(message, bytes):
            text = as_text(message, self.form)
            return f'"{text}"' if self._json and self.form != "list" else text
        if not self._json:
            return shown(message)
        try:
            check_json(message)
        except ValueError:
            from json import dumps  # a text that is no document becomes one: a string

            return on_one_line(dumps(message, ensure_ascii=False))
        return on_one_line(message)

    def _in_lines(self, message: str | bytes) -> str:
        if isinstance(message, bytes):
            size = f"binary, {_counted(len(message), 'byte')}"
            text = _cut(as_text(message[:_LONGEST], self.form), len(message))
            return f"{size}: {shown_in_lines(text)}"
        if len(message) > _LONGEST:
            return shown_in_lines(_cut(message, len(message)))
        if self._json:
            try:
                check_json(message)
            except ValueError:
                return f"{shown_in_lines(message)} {self._paint('note', '(no JSON)')}"
            return indented(message, self._paint)
        return shown_in_lines(message)

    def _paint(self, kind: str, text: str) -> str:
        return _painted(kind, text) if self.coloured else text

    # -- notes and errors --------------------------------------------------

    def note(self, text: str) -> None:
        """Write what has happened, for somebody at a terminal."""
        if self._notes:
            self._tell("note", text)

    def error(self, text: str) -> None:
        """Write what went wrong."""
        self._tell("error", f"scriptling-ws: {text}")

    def answer(self, text: str) -> None:
        """Write what a typed command has asked for; its lines are this program's own."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def _tell(self, kind: str, text: str) -> None:
        text = shown_in_lines(text)
        sys.stderr.write(f"{_painted(kind, text) if self._coloured_notes else text}\n")
        sys.stderr.flush()


def _painted(kind: str, text: str) -> str:
    colour: Any = _COLOURS.get(kind)
    return text if colour is None else f"\x1b[{colour}m{text}\x1b[0m"


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _cut(text: str, size: int) -> str:
    """A long message's beginning; its size says how long it is in all."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}\n... of {size:,} in all: --save FILE takes the whole of it"
