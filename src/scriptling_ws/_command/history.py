"""The history of what was typed: a file of this user alone, with a bound.

It is in XDG_STATE_HOME (~/.local/state), `scriptling-ws/history`: a line for each entry, the newest
last. Of a line that begins with a space nothing is kept. Where the file cannot be used, there is
no history beyond the run.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path
from typing import Final

__all__ = ["History", "history_path"]

MOST: Final = 1000
"""The most entries that are kept."""
_LONGEST: Final = 4096  # characters of an entry


def history_path() -> Path:
    """Where the history is."""
    home = os.environ.get("XDG_STATE_HOME", "")
    # A path that is not absolute is to be ignored, as the specification says.
    base = Path(home) if os.path.isabs(home) else Path("~/.local/state").expanduser()  # noqa: PTH117
    return base / "scriptling-ws" / "history"


class History:
    """The entries in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[str]:
        """The entries, the newest first; the file is cut to them if it has many more."""
        try:
            # What was written by another program may be anything.
            lines = self._path.read_bytes().decode(errors="replace").split("\n")
        except OSError:
            return []
        entries = [line for line in lines if line]
        if len(entries) > 2 * MOST:
            with contextlib.suppress(OSError):
                self._replace(entries[-MOST:])
        return entries[: -MOST - 1 : -1]

    def add(self, entry: str) -> None:
        """Keep an entry, unless it is not to be kept, or cannot be."""
        if entry.startswith(" ") or "\n" in entry or len(entry) > _LONGEST:
            return
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(self._open(self._path), "ab") as file:
                file.write(f"{entry}\n".encode(errors="replace"))

    def _replace(self, entries: list[str]) -> None:
        """Have these entries alone in the file, at once: another run may read it."""
        new = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        with os.fdopen(self._open(new), "wb") as file:
            file.write("".join(f"{entry}\n" for entry in entries).encode(errors="replace"))
        new.replace(self._path)

    @staticmethod
    def _open(path: Path) -> int:
        """Open a file to write behind its end, which nobody else can read."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        if sys.platform != "win32":  # pragma: no branch - os.fchmod is not on Windows
            os.fchmod(descriptor, 0o600)  # it may have been there
        return descriptor
