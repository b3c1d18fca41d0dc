"""What every fuzz target shares: reading choices from bytes, comparing outcomes, running.

Rules:

- A target is a file with one `check(data)`: it takes any bytes, and an exception that
  leaves it is a bug. It is deterministic, keeps nothing from call to call, and needs
  no fuzzer, so that the test suite can run every seed through it.
- Run as a program (`python fuzz/<target>.py CORPUS...`, with libFuzzer's options), it is
  driven by atheris, which watches the branches of the package, wsproto and h11.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import sys
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests" / "support"))  # frames by hand

INT64_MAX = 2**63 - 1
_WATCHED = ("scriptling_ws", "wsproto", "h11")


class Source:
    """Choices, one after the other, out of a fuzzer's bytes; zeros when they run out."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        """Whether there are bytes left."""
        return self._at < len(self._data)

    def byte(self) -> int:
        """One byte."""
        at = self._at
        self._at = at + 1
        return self._data[at] if at < len(self._data) else 0

    def number(self) -> int:
        """Two bytes."""
        return self.byte() << 8 | self.byte()

    def pick(self, choices: Any) -> Any:
        """One of up to 256 things."""
        return choices[self.byte() % len(choices)]

    def take(self, count: int) -> bytes:
        """As many bytes, fewer at the end."""
        data = self._data[self._at : self._at + count]
        self._at += count
        return data

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self._data))

    def payload(self, sizes: tuple[int, ...]) -> bytes:
        """A payload: bytes as they are, or a few of them over and over, to one of `sizes`."""
        count = self.byte()
        if count < 248:
            return self.take(count)
        size = self.pick(sizes)
        piece = self.take(count - 247)
        return (piece * (size // len(piece) + 1))[:size] if piece else b""

    def chunks(self, data: bytes) -> list[bytes]:
        """The data cut where the next bytes say, up to sixteen times."""
        pieces = []
        at = 0
        for _ in range(self.byte() % 16):
            size = self.byte() or 4096
            pieces.append(data[at : at + size])
            at += size
            if at >= len(data):
                return pieces
        return [*pieces, data[at:]]


def kernels() -> list[ModuleType]:
    """The kernels there are, the pure one first."""
    names = ["scriptling_ws._wsframe_py", "scriptling_ws._wsframe"]
    return [importlib.import_module(name) for name in names if importlib.util.find_spec(name)]


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
    """What a call comes to: its result, or its error's type and text."""
    try:
        return type(result := function(*arguments)), result
    except (TypeError, ValueError, MemoryError) as error:  # all that a kernel raises
        return type(error), str(error)


class Number(int):
    """An int with code of its own, none of which may run."""

    def __index__(self, *_: Any) -> Any:
        raise AssertionError("code of the caller's was run")

    __int__ = __eq__ = __lt__ = __gt__ = __le__ = __ge__ = __index__
    __hash__ = int.__hash__


# What a caller may give where an int is wanted.
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 1.0, "1", b"1", [1], float("nan")),
    *(-1, 256, 257, 65535, 65536, INT64_MAX, INT64_MAX + 1, 2**64, -(2**63), 10**5000),
    *(Number(5), Number(255), Number(256), Number(-1), Number(2**70)),
)


def plain(value: Any) -> int:
    """An int as an int proper, -1 for what is none."""
    return int.__add__(value, 0) if isinstance(value, int) else -1


def fuzz(check: Callable[[bytes], None]) -> None:
    """Drive `check` with atheris, as libFuzzer's command line says. Does not return."""
    import atheris

    for function in gc.get_objects():
        if isinstance(function, FunctionType) and (function.__module__ or "").startswith(_WATCHED):
            atheris.instrument_func(function)
    atheris.Setup(sys.argv, check)
    atheris.Fuzz()
