"""What the user can put right: one line on stderr, and exit status 2."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

__all__ = ["fail", "told"]


def fail(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """Tell the user in one line what to put right, without the usage, and end with status 2."""
    parser.exit(2, f"{parser.prog}: {message}\n")


@contextlib.contextmanager
def told(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Tell the user what can be put right, and end."""
    try:
        yield
    except OSError as error:
        fail(parser, error.strerror or str(error))
    except (ImportError, TypeError, ValueError) as error:
        fail(parser, str(error))
