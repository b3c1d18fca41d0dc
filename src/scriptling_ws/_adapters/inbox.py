"""The messages of an ASGI server that no handler has received yet.

Rules:

- A few of them wait here. When it is full the server is asked for no more, until half of it is
  received or the connection is over.
- A message wakes one receiver. A receiver that an exception ends (gevent.Timeout) hands its turn
  on to the next one.
- The lock is held for a moment alone: the event loop takes it too.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final

from .._network.waiting import engine

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._network.contract import Event
    from .._network.deadline import Deadline

__all__ = ["Inbox"]

_MOST: Final = 64  # messages that wait
_MOST_BYTES: Final = 1024 * 1024  # of them, about


class Inbox:
    """Messages from the event loop for any number of receivers."""

    def __init__(self, resume: Callable[[], None]) -> None:
        """Be empty.

        Args:
            resume: Has the server asked for more messages; does not wait.
        """
        self._resume = resume
        self._lock = engine().lock()  # guards all below
        self._messages: deque[str | bytes] = deque()
        self._size = 0  # of these
        self._full = False
        self._ended = False
        self._waiters: deque[Event] = deque()

    def __len__(self) -> int:
        return len(self._messages)

    def put(self, message: str | bytes) -> bool:
        """A message has come: dropped if the end has come before it. Does not wait.

        Returns:
            Whether more may come now; if not, `resume` is called once they may.
        """
        with self._lock:
            if self._ended:
                return True
            self._messages.append(message)
            self._size += len(message)
            self._wake_one()
            self._full = len(self._messages) >= _MOST or self._size >= _MOST_BYTES
            return not self._full

    def take(self, deadline: Deadline) -> str | bytes | None:
        """Receive a message; None if none has come in time, or none will."""
        while True:
            message, event = self._next_or_event(deadline)
            if event is None:
                return message
            came, left = False, deadline.left()
            try:
                came = event.wait(left)
            finally:
                if not came:
                    self._withdraw(event)
            if not came:
                deadline.waited(left)

    def _next_or_event(self, deadline: Deadline) -> tuple[str | bytes | None, Event | None]:
        """The next message; if there may be one later, what to wait for."""
        resumes, message = False, None
        with self._lock:
            if self._messages:
                message = self._messages.popleft()
                self._size -= len(message)
                if self._full and len(self._messages) <= _MOST // 2:
                    resumes, self._full = True, False
            elif not (self._ended or deadline.passed()):
                event = engine().event()
                self._waiters.append(event)
                return None, event
        if resumes:
            self._resume()
        return message, None

    def _withdraw(self, event: Event) -> None:
        """A receiver waits no more: another one has the message that it was woken for."""
        with self._lock:
            if event in self._waiters:
                self._waiters.remove(event)
            elif self._messages:
                self._wake_one()

    def _wake_one(self) -> None:
        """Have a receiver look for a message. Holds the lock."""
        if self._waiters:
            self._waiters.popleft().set()

    def end(self) -> None:
        """Take no more; what has come can still be received. Does not wait."""
        with self._lock:
            self._ended = True
            resumes, self._full = self._full, False
            waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            waiter.set()
        if resumes:  # for what comes behind the messages, such as the peer's close
            self._resume()

    def clear(self) -> None:
        """Drop what was not received."""
        with self._lock:
            self._messages.clear()
            self._size = 0
