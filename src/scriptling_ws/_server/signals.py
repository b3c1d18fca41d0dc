"""Waiting for signals, without racing them.

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
  treated as SIGTERM; where it is to reload something, it does that as long as the
  terminal, if the program has one, is still there.
- A forked child shares the socket: it forsakes it before any signal can reach it.
"""

from __future__ import annotations

import functools
import os
import signal
from typing import TYPE_CHECKING, Any, Final

from .._network.alarm import Alarm
from .._network.deadline import FOREVER
from .._network.waiting import READ, engine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import FrameType, TracebackType

    from .._network.contract import Descriptor
    from .._network.deadline import Deadline

__all__ = ["ENDING", "HANGUP", "SET", "Signals", "StopSignal", "Terminal"]

ENDING: Final[tuple[int, ...]] = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
"""The signals that end a server."""

HANGUP: Final[int] = getattr(signal, "SIGHUP", -1)
"""SIGHUP, where there is one."""

SET: Final = 0
"""What is heard of a `Signals.set`: no signal has this number."""

_STRIKES: Final = 1000  # exceptions after which it is not a signal handler that raises
_write_numbers_to: Final = functools.partial(signal.set_wakeup_fd, warn_on_full_buffer=False)


class Signals:
    """Hears signals, from when it is entered until it is left.

    In another thread than the main one, where Python delivers no signals, only `set` counts.
    """

    def __init__(self, numbers: Iterable[int], always: Iterable[int] = ()) -> None:
        """Get ready.

        Args:
            numbers: The signals to hear, unless they are ignored.
            always: Those to hear even so.

        Raises:
            OSError: there are too few descriptors.
        """
        self._numbers = tuple(numbers)
        self._always = tuple(always)
        self._alarm = Alarm()
        self._previous: dict[int, Any] = {}
        self._previous_descriptor: int | None = None

    def __enter__(self) -> Signals:
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
        heard = (*filter(_is_heard, self._numbers), *self._always)
        self._previous = {number: signal.getsignal(number) for number in heard}
        (self._previous_descriptor,) = map(_write_numbers_to, (self._alarm.entrance,))
        for number in self._previous:
            signal.signal(number, _ignore)

    def restore(self) -> None:
        """Put everything back as it was. May be called again.

        Raises:
            OSError, ValueError: the program's own descriptor for signals is closed, or blocks
                meanwhile. There is none then; all else was put back.
            BaseException: what a signal handler raised meanwhile; all was put back.
        """
        struck: BaseException | None = None
        for strikes in range(2 * _STRIKES):  # pragma: no branch - it ends: see below
            if strikes == _STRIKES:  # it is the program's descriptor: without it nothing fails
                self._previous_descriptor = -1
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

    def forsake(self) -> None:
        """In a forked child: write to the parent's socket no more, and close the copies of it.

        The signals stay taken over, by a handler that does nothing.
        """
        signal.set_wakeup_fd(-1)
        self._previous_descriptor = None
        self._previous.clear()
        self._alarm.close()

    def set(self) -> None:
        """Have SET heard. From any thread, at any time."""
        self._alarm.ring(SET)

    def hear(
        self, deadline: Deadline = FOREVER, also: Iterable[Descriptor] = ()
    ) -> tuple[frozenset[int], list[Descriptor]]:
        """Block until a signal arrives, `set` was called, or something can be read.

        Args:
            deadline: Return then at the latest.
            also: What else is waited for.

        Returns:
            The numbers of the signals that have come, perhaps none, and of `also` those from which
            can be read.
        """
        poller = engine().poller()
        poller.register(self._alarm, READ)
        for descriptor in also:
            poller.register(descriptor, READ, descriptor)
        left = deadline.left()
        try:
            found = poller.select(left)
        finally:
            poller.close()
        if not found:
            deadline.waited(left)
        # Other signals that have a Python handler write their numbers too.
        numbers = {SET, *self._previous}.intersection(self._alarm.heard())
        return frozenset(numbers), [key.data for key, _ in found if key.data is not None]


class StopSignal(Signals):
    """Waits until SIGINT, SIGTERM or SIGHUP arrives, or `set` is called."""

    def __init__(self, on_hangup: Callable[[], object] | None = None) -> None:
        """Get ready.

        Args:
            on_hangup: What SIGHUP is for, in place of the end.

        Raises:
            OSError: there are too few descriptors.
        """
        super().__init__(ENDING)
        self._on_hangup = on_hangup
        self._terminal = Terminal()

    def __enter__(self) -> StopSignal:
        super().__enter__()
        return self

    def wait(self) -> None:
        """Block until a signal ends it, or `set` was called."""
        while True:
            numbers, _ = self.hear()
            if self._on_hangup is not None and HANGUP in numbers and not self._terminal.is_gone():
                numbers -= {HANGUP}
                self._on_hangup()
            if numbers:
                return


class Terminal:
    """The terminal that a program was started at, if it was."""

    def __init__(self) -> None:
        self._descriptors = [number for number in range(3) if _is_terminal(number)]

    def is_gone(self) -> bool:
        """Whether it was started at one, which is closed by now."""
        return bool(self._descriptors) and not any(map(_is_terminal, self._descriptors))


def _is_terminal(number: int) -> bool:
    try:
        return os.isatty(number)
    except OSError:  # pragma: no cover - the descriptor is closed; some Pythons raise
        return False


def _is_heard(number: int) -> bool:
    """Whether a signal is to be heard."""
    return signal.getsignal(number) != signal.SIG_IGN


def _ignore(number: int, frame: FrameType | None) -> None:
    """What matters has happened: the interpreter has written the signal's number."""
