"""What wakes a task that waits for descriptors: an Alarm any number of times, a Waker once.

Rules:

- An Alarm is one end of a pair of sockets. `ring` may be called from any thread and from a signal
  handler. It never waits: where the pair is full, the task is awake already, and where it is closed
  there is nobody to wake.
- A socket, not an eventfd or a pipe: the interpreter writes the numbers of signals into it
  (`signal.set_wakeup_fd`), on Windows too, whose pollers take sockets alone.
- The end that is written to is closed first: a write to it then fails, and raises no SIGPIPE.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys

__all__ = ["Alarm", "Waker"]


class Alarm:
    """Readable from a `ring` on, until what has rung was `heard`."""

    __slots__ = ("_far", "_near")

    def __init__(self) -> None:
        """Make the pair.

        Raises:
            OSError: there are too few descriptors.
        """
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)

    def fileno(self) -> int:
        """The descriptor to wait for, -1 once closed."""
        return self._near.fileno()

    @property
    def entrance(self) -> int:
        """The descriptor that may be written to in place of `ring`."""
        return self._far.fileno()

    def ring(self, byte: int = 0) -> None:
        """Wake the task that waits, with a byte for `heard`."""
        with contextlib.suppress(OSError):
            self._far.send(bytes([byte]))

    def heard(self) -> bytes:
        """Take out some of what has rung: b"" once there is no more."""
        with contextlib.suppress(BlockingIOError):
            return self._near.recv(4096)
        return b""

    def close(self) -> None:
        """Close both ends. May be called again."""
        self._far.close()
        self._near.close()


class Waker:
    """A descriptor that is readable from the first `set` on, for ever."""

    __slots__ = ("_event", "_pair")

    def __init__(self) -> None:
        self._event = -1
        self._pair: tuple[socket.socket, ...] = ()
        if sys.platform == "linux" and hasattr(os, "eventfd"):
            # Unpacking stores it in the step in which it is made: not to be lost should a signal
            # handler raise.
            (self._event,) = map(os.eventfd, (0,), (os.EFD_CLOEXEC | os.EFD_NONBLOCK,))
        else:
            self._pair = socket.socketpair()

    def fileno(self) -> int:
        return self._pair[0].fileno() if self._pair else self._event

    def set(self) -> None:
        if self._pair:
            self._pair[1].close()  # what is readable is the end of the stream
        elif sys.platform == "linux":  # pragma: no branch - else there is a pair
            os.eventfd_write(self._event, 1)

    def close(self) -> None:
        for sock in self._pair:
            sock.close()
        # The number is taken out first: should a signal handler raise, it is not closed again
        # when it is another file's.
        event, self._event = self._event, -1
        if event >= 0:
            os.close(event)

    __del__ = close
