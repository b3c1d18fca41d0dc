"""The commands that are typed: lines that begin with a slash."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .binary_forms import FORMS, as_bytes
from .figures import figures_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._connection.connection import Connection
    from .screen import Screen

__all__ = ["COMMANDS", "Slash"]

_PING_TIMEOUT: Final = 10.0

COMMANDS: Final = {
    "/ping": "send a ping, and say how long its answer takes",
    "/binary [FORM] DATA": "send bytes: /binary 01 02 ff, /binary base64 AQL/",
    "/close [CODE [REASON]]": "close the connection",
    "/stats": "what has moved so far",
    "/help": "this list; //text sends /text; Ctrl-D closes too",
}


class Slash:
    """Carries out typed commands on one connection."""

    def __init__(
        self, conn: Connection[bytes], screen: Screen, close: Callable[[int, str], object]
    ) -> None:
        self._conn = conn
        self._screen = screen
        self._end = close
        self._calls: dict[str, Callable[[str], object]] = {
            "/ping": self._ping,
            "/binary": self._binary,
            "/close": self._close,
            "/stats": self._stats,
            "/help": self._help,
        }

    def run(self, line: str) -> None:
        """Carry out a line, which begins with a slash.

        Raises:
            ValueError, TypeError: it cannot be: the text says why.
            ConnectionClosed, SendTimeout: as those of a connection.
        """
        name, _, rest = line.partition(" ")
        call = self._calls.get(name)
        if call is None:
            raise ValueError(
                f"there is no command {name}: /help lists them, and a line that begins with // "
                "is sent with one of them"
            )
        call(rest.strip())

    def _ping(self, _rest: str) -> None:
        seconds = self._conn.ping(_PING_TIMEOUT)
        if seconds is not None:
            self._screen.answer(f"pong after {seconds * 1000:.1f} ms")
        elif self._conn.connected():
            self._screen.answer(f"no pong within {_PING_TIMEOUT:.0f} seconds")

    def _binary(self, rest: str) -> None:
        first, _, data = rest.partition(" ")
        form, data = (first, data) if first in FORMS else (self._screen.form, rest)
        self._conn.send_binary(as_bytes(data, form))

    def _close(self, rest: str) -> None:
        code, _, reason = rest.partition(" ")
        if code and not (code.isascii() and code.isdigit() and len(code) < 5):
            raise ValueError(f"{code!a} is no close code: write /close 1000 done")
        self._end(int(code or 1000), reason)

    def _stats(self, _rest: str) -> None:
        for line in figures_of(self._conn):
            self._screen.answer(line)

    def _help(self, _rest: str) -> None:
        width = max(map(len, COMMANDS))
        for name, words in COMMANDS.items():
            self._screen.answer(f"  {name:<{width}}  {words}")
