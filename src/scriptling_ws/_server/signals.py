"""Waiting for the signals that end a server, without racing them.

Rules:

- The handler itself does nothing: locks (an Event's too) may be held by the very
  thread that it interrupts. What is waited for is the byte that the interpreter writes
  to a socket as the signal arrives, which also works on Windows, where a blocked
  main thread runs no handler.
- Whatever handled the signals before does so again afterwards, so a second Ctrl-C
  during a slow shutdown does what it always did.
- Handlers that raise (a second Ctrl-C, a program's alarm) may strike between any two steps:
  each step can be done again, and all of them are done before the exception leaves. SIGINT's
  own handler, the likeliest to raise, is the last to come back.
- A signal that is ignored stays ignored: a shell that starts a program with `&` does that
  with SIGINT, `nohup` with SIGHUP. Else SIGHUP, which comes when the terminal is closed, is
  treated as SIGTERM.
"""

from __future__ import annotations

import functools
import signal
from typing import TYPE_CHECKING, Any, Final

from .._network.alarm import Alarm
from .._network.waiting import READ, engine

if TYPE_CHECKING:
    from types import FrameType, TracebackType

__all__ = ["StopSignal"]

_SIGNALS: Final = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
_SET: Final = 0  # no signal has this number
_STRIKES: Final = 1000  # exceptions after which it is not a signal handler that raises
_write_numbers_to: Final = functools.partial(signal.set_wakeup_fd, warn_on_full_buffer=False)


class StopSignal:
    """Waits until SIGINT, SIGTERM or SIGHUP arrives, or `set` is called.

    In another thread than the main one, where Python delivers no signals, only `set` counts.
    """

    def __init__(self) -> None:
        self._alarm = Alarm()
        self._previous: dict[int, Any] = {}
        self._previous_descriptor: int | None = None

    def __enter__(self) -> StopSignal:
        try:
            self._take_over()
        except BaseException:
            self.restore()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.restore()

    def _take_over(self) -> None:
        if not engine().hears_signals():
            return
        # Noted before, or in the step in which it is taken over, as unpacking a `map` does.
        self._previous = {n: signal.getsignal(n) for n in _SIGNALS if _ends_us(n)}
        (self._previous_descriptor,) = map(_write_numbers_to, (self._alarm.entrance,))
        for number in self._previous:
            signal.signal(number, _ignore)

    def restore(self) -> None:
        """Put everything back as it was. May be called again.

        Raises:
            BaseException: what a signal handler raised meanwhile; all was put back.
        """
        struck: BaseException | None = None
        for _ in range(_STRIKES):
            try:
                self._put_back()
                break
            except BaseException as error:  # noqa: BLE001  # the rest is still to be done
                struck = error
        if struck is not None:
            raise struck

    def _put_back(self) -> None:
        """One step after the other, each of which may be the second time."""
        for number in sorted(self._previous, key=lambda number: number == signal.SIGINT):
            if number == signal.SIGINT:
                self._let_go()
            handler = self._previous[number]
            if handler is not None:  # None: not set from Python, and cannot be
                signal.signal(number, handler)
            self._previous.pop(number, None)
        self._let_go()

    def _let_go(self) -> None:
        """Have no more numbers written, and close both ends."""
        if self._previous_descriptor is not None:
            signal.set_wakeup_fd(self._previous_descriptor)
            self._previous_descriptor = None
        self._alarm.close()

    def set(self) -> None:
        """Make `wait` return. From any thread, at any time."""
        self._alarm.ring(_SET)

    def wait(self) -> None:
        """Block until a signal arrives or `set` was called."""
        # Other signals that have a Python handler write their numbers too.
        ending = {_SET, *self._previous}
        poller = engine().poller()
        poller.register(self._alarm, READ)
        while not (poller.select() and ending.intersection(self._alarm.heard())):
            pass


def _ends_us(number: int) -> bool:
    """Whether a signal is to end the server."""
    return signal.getsignal(number) != signal.SIG_IGN


def _ignore(number: int, frame: FrameType | None) -> None:
    """What matters has happened: the interpreter has written the signal's number."""
