"""Waiting for the signals that end a server, without racing them.

Rules:

- The handler itself does nothing: locks (an Event's too) may be held by the very
  thread that it interrupts. What is waited for is the byte that the interpreter writes
  to a socket as the signal arrives, which also works on Windows, where a blocked
  main thread runs no handler.
- Whatever handled the signals before does so again afterwards, so a second Ctrl-C
  during a slow shutdown does what it always did.
- A signal that is ignored stays ignored: a shell that starts a program with `&` does that
  with SIGINT, `nohup` with SIGHUP.
- SIGHUP, which comes when the terminal is closed, is taken where it would end the process. A
  program's own handler for it stays: by custom it reads the settings again.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["StopSignal"]

_SIGNALS: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
_SET: Final = 0  # no signal has this number


class StopSignal:
    """Waits until SIGINT, SIGTERM or SIGHUP arrives, or `set` is called.

    In another thread than the main one, where Python delivers no signals, only `set` counts.
    """

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._read.setblocking(True)
        self._write.setblocking(False)
        self._previous: dict[int, Any] = {}
        self._previous_descriptor: int | None = None

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            self._previous_descriptor = signal.set_wakeup_fd(
                self._write.fileno(), warn_on_full_buffer=False
            )
            for number in filter(_ends_us, _SIGNALS):
                self._previous[number] = signal.signal(number, _ignore)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # None: not set from Python, and cannot be
                signal.signal(number, handler)
        if self._previous_descriptor is not None:
            signal.set_wakeup_fd(self._previous_descriptor)
        self._write.close()  # first: a write to it may not raise SIGPIPE
        self._read.close()

    def set(self) -> None:
        """Make `wait` return. From any thread, at any time."""
        with contextlib.suppress(OSError):  # full, or nobody waits any more
            self._write.send(bytes([_SET]))

    def wait(self) -> None:
        """Block until a signal arrives or `set` was called."""
        # Other signals that have a Python handler write their numbers too.
        while not {_SET, *self._previous}.intersection(self._read.recv(64)):
            pass


def _ends_us(number: int) -> bool:
    """Whether a signal is to end the server."""
    handler = signal.getsignal(number)
    if number == getattr(signal, "SIGHUP", None):
        return handler == signal.SIG_DFL
    return handler != signal.SIG_IGN


def _ignore(number: int, frame: FrameType | None) -> None:
    """What matters has happened: the interpreter has written the signal's number."""
