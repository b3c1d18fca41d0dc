"""What wakes a task out of a poller, any number of times: one end of a pair of sockets.

Rules:

- `ring` may be called from any thread and from a signal handler. It never waits: where the pair is
  full, the task is awake already, and where it is closed there is nobody to wake.
- A socket, not an eventfd or a pipe: the interpreter writes the numbers of signals into it
  (`signal.set_wakeup_fd`), on Windows too, whose pollers take sockets alone.
- The end that is written to is closed first: a write to it then fails, and raises no SIGPIPE.
"""

from __future__ import annotations

import contextlib
import socket

__all__ = ["Alarm"]


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
