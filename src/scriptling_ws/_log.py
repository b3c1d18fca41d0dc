"""Warnings that peers can cause: given now and then, so that no peer can flood the log.

Rules:

- The first one is given at once, then one in ten seconds at most; that one says how many
  were left out meanwhile.
- What is left out is there on the debug level.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from ._deadline import Deadline

if TYPE_CHECKING:
    import logging

__all__ = ["RareWarning"]

_QUIET: Final = 10.0  # seconds


class RareWarning:
    """One kind of warning. Safe for any number of threads."""

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._lock = threading.Lock()  # guards the two below
        self._quiet = Deadline(0)
        self._left_out = 0

    def give(self, text: str, *args: object) -> None:
        """Log the warning, if one is due."""
        with self._lock:
            due, before = self._quiet.passed(), self._left_out
            if due:
                self._quiet = Deadline(_QUIET)
            self._left_out = 0 if due else before + 1
        if not due:
            self._logger.debug(text, *args, stacklevel=2)
        elif before:
            text = f"{text} (and %d more since the last such warning)"
            self._logger.warning(text, *args, before, stacklevel=2)
        else:
            self._logger.warning(text, *args, stacklevel=2)
