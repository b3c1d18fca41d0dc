"""A row of the tables of targets, whatever it is about."""

from __future__ import annotations

from dataclasses import dataclass

TIMES = "\N{MULTIPLICATION SIGN}"
DASH = "\N{EN DASH}"
MINUS = "\N{MINUS SIGN}"


@dataclass(frozen=True)
class Row:
    """What was asked for, and what came out."""

    subject: str
    target: str
    result: str
    met: bool | None = None  # None: nothing to judge
    value: float | None = None  # the result as a number, in the target's unit
    bound: float | None = None

    @property
    def mark(self) -> str:
        """The verdict in a word."""
        return {True: "met", False: "missed", None: DASH}[self.met]
