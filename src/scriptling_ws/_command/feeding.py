"""The input of `connect`, sent by a task of its own while the main one receives.

Rules:

- A line that could not be sent as the connection had ended is the first one on the next: with
  --reconnect. Whether what was sent before it has arrived, nobody knows.
- The input is read by the system's own call: the lock of `sys.stdin`, which a blocked reader holds,
  would be in the way of the program's end.
- What goes wrong is kept for the main task, which ends.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from .._errors import ConnectionClosed
from .._network.waiting import engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from .session import Session

__all__ = ["Feeder", "file_of", "lines_of"]

_AT_A_TIME: Final = 64 * 1024


class Feeder:
    """Sends what there is to be sent, on the connection of the moment.

    Attributes:
        ended: When all was sent, on the clock of time.monotonic; None before.
        error: What has ended it otherwise; None if nothing has.
    """

    def __init__(self, items: Iterable[Any], deliver: Callable[[Session, Any], object]) -> None:
        """Prepare; `attach` starts it.

        Args:
            items: What there is to be sent.
            deliver: Sends one of them on a session.
        """
        self._items = items
        self._deliver = deliver
        self._lock = engine().lock()  # guards the next two
        self._session: Session | None = None
        self._changed = engine().event()
        self._started = False
        self.ended: float | None = None
        self.error: Exception | None = None

    def attach(self, session: Session) -> None:
        """Send on this one from now on."""
        with self._lock:
            self._session = session
            self._changed.set()
        if not self._started:
            self._started = True
            engine().spawn(self._run, "scriptling-ws input")

    def _run(self) -> None:
        try:
            for item in self._items:
                self._send(item)
        except Exception as error:  # noqa: BLE001 - the main task raises it
            self.error = error
        self.ended = monotonic()

    def _send(self, item: Any) -> None:
        session: Session | None = None
        while True:
            session = self._session_after(session)
            try:
                self._deliver(session, item)
            except ConnectionClosed:
                continue
            return

    def _session_after(self, lost: Session | None) -> Session:
        """The session, once it is another one than that which was lost."""
        while True:
            with self._lock:
                if self._session is not None and self._session is not lost:
                    return self._session
                changed = self._changed = engine().event()
            changed.wait()


def lines_of(descriptor: int) -> Iterator[str]:
    """The lines that a descriptor gives, without their ends, as they come; the last may have none.

    Raises:
        ValueError: a line is no UTF-8; the text has its number.
        OSError: it cannot be read.
    """
    begun: list[bytes] = []  # of a line: joined once, at its end
    number = 0
    while piece := os.read(descriptor, _AT_A_TIME):
        *lines, last = piece.split(b"\n")
        if lines:
            lines[0] = b"".join((*begun, lines[0]))
            begun.clear()
        for line in lines:
            number += 1
            yield _decoded(line, number)
        begun.append(last)
    if rest := b"".join(begun):
        yield _decoded(rest, number + 1)


def _decoded(line: bytes, number: int) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"line {number} of the input is no UTF-8 text ({error.reason} at byte {error.start}): "
            "use --send-file - for bytes"
        ) from None


def file_of(name: str, *, text: bool) -> Any:
    """A file to send, open; "-" is the standard input.

    Raises:
        OSError: it cannot be opened.
    """
    if name == "-":
        descriptor = sys.stdin.fileno()
        if text:
            return open(descriptor, encoding="utf-8", newline="", closefd=False)
        return open(descriptor, "rb", buffering=0, closefd=False)
    if text:
        return Path(name).open(encoding="utf-8", newline="")
    return Path(name).open("rb")
