"""Python programs with this folder on their path pause as the tests do: see support/jitter.py."""

import runpy
from pathlib import Path

runpy.run_path(str(Path(__file__).parent.parent / "support" / "jitter.py"))["pause_here"]()
