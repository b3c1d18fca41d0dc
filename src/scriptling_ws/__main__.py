"""The command line: `scriptling-ws`, and `python -m scriptling_ws`. It is in `_command`."""

from __future__ import annotations

import sys

from ._command.command import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
