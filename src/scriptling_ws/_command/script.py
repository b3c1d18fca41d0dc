"""The setup script of a server: found, and what of it others can read.

It is code that the user starts, like any script: its own directory and those of -L are on the
module path.
"""

# ruff: noqa: PTH112, PTH113 - Path's raise for a name that is too long, or out of reach

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ..runtime import http
from .certificate import open_to_others
from .failing import fail

if TYPE_CHECKING:
    import argparse

__all__ = ["extend_path", "find_script", "warn_of_readers"]

_logger = logging.getLogger("scriptling_ws.server")


def find_script(parser: argparse.ArgumentParser, name: str, libraries: list[str]) -> Path:
    """The setup script: a bare name is looked for in the -L directories first.

    In this order, so that `-L examples/chat setup.py` is the example's script also from
    the root of a checkout, which has a setup.py of its own.
    """
    candidates = [Path(name)]
    if not os.path.dirname(name):  # noqa: PTH120 - "./setup.py" says where it is
        candidates[:0] = (Path(library, name) for library in libraries)
    script = next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
    if script is None:
        fail(parser, f"there is no file {name!r}")
    try:
        script.open("rb").close()
    except OSError as error:
        fail(parser, f"cannot read {name!r}: {error.strerror}")
    return script.resolve()


def extend_path(parser: argparse.ArgumentParser, script: Path, libraries: list[str]) -> None:
    """Put the script's directory and those of -L on the module path, in front."""
    for library in libraries:
        if not os.path.isdir(library):
            fail(parser, f"-L {library!r} is not a directory")
    own = [str(script.parent), *(str(Path(library).resolve()) for library in libraries)]
    sys.path[:0] = list(dict.fromkeys(own))


def warn_of_readers(script: Path, key: str | None, log: str | None) -> None:
    """Tell of secrets that others can read: by the mode of their file, or from the server."""
    if key is not None and open_to_others(key):
        _logger.warning("other users can read or change the key %r: chmod 600 it", key)
    paths = [script, *(Path(name) for name in (key, log) if name and name != "-")]
    for path in paths:
        for folder in http.table().directories:
            if folder.serves(path):
                _logger.warning(
                    "%r is in the folder %r, which is served: anybody can read it; serve a "
                    "folder that has public files alone",
                    str(path),
                    folder.directory,
                )
