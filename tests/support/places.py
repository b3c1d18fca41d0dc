"""Where things are: the tests find files by these names alone."""

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent.parent
SOURCE = REPOSITORY / "src" / "scriptling_ws"
TESTS = REPOSITORY / "tests"
FUZZ = REPOSITORY / "fuzz"
SUPPORT = TESTS / "support"
