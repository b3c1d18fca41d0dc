"""wait(): which of many connections have something to receive.

Rules:

- A connection is named if `receive(0)` would return a message, or find the end: what was read
  already, or lies in TLS or in the window, is looked at first, for no poll would show it.
- Then one poll of all, whatever their number. A connection that is readable is read, until it has
  a message, the end, or nothing more: part of a message, or a ping, names nobody.
- Nothing is taken: the messages stay ready for `receive`. One connection is read on by one
  thread at a time, so that one in which another thread receives is left to that thread; and one
  of which a message is streamed, to the stream.
- What other threads do to a connection (close it, or read while they send) shows no later than a
  tenth of a second: so often is all of it looked at again.
- Objects with a descriptor, such as sockets, may be in the list. They are polled, and no more.
"""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, Any, Final, Protocol

from .._network.deadline import Deadline, check_timeout
from .._network.waiting import READ, engine
from .connection import Connection
from .link import LOOK_AGAIN

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import TypeVar

    from .reader import Reader

    Item = TypeVar("Item", bound="HasFileno")

__all__ = ["wait"]

_MOMENT: Final = 0.002  # seconds that a thread has that is about to read what has come


class HasFileno(Protocol):
    """What `wait` waits for: a Connection, a socket, and the like."""

    def fileno(self) -> int:
        """The descriptor."""


def wait(conns: Iterable[Item], timeout: float | None = None) -> list[Item]:
    """Wait until there is something to receive on some of many connections.

    Blocks until then. Thread-safe; a connection on which another thread receives is that thread's,
    and named only if that leaves something. While a message of it is streamed (`receive_stream`), a
    connection is named only if it has ended. Where nothing has come it is one system call for all,
    ten times a second at most.

    Args:
        conns: Connections, of clients and servers; and any sockets and other objects with a
            `fileno()`, which are named when something can be read from them (of an `SSLSocket`,
            also what it has decrypted). Taken once; the same one may be in it twice.
        timeout: Seconds; 0 to see what is there, None (the default) to wait for ever.

    Returns:
        Those, in their order, on which `receive(0)` would return a message or find that the
        connection is closed; an empty list on timeout.

    Raises:
        TypeError: `conns` is no list or the like, something in it has no `fileno()`, or the
            timeout is no number.
        ValueError: an object that is no Connection is closed; the timeout is negative or NaN; or
            the list is empty and the timeout None.
    """
    deadline = Deadline(check_timeout(timeout))
    items = _checked(conns)
    if not items:
        if timeout is None or deadline.left() is None:
            raise ValueError(
                "conns is empty and there is no timeout: pass connections, or a timeout"
            )
        engine().sleep(deadline.left() or 0.0)
        return []
    watch = _Watch(items)
    watch.look()
    if not all(watch.found):
        watch.poll(deadline)
    return [item for item, found in zip(items, watch.found, strict=True) if found]


def _checked(conns: Iterable[Item]) -> list[Item]:
    if isinstance(conns, (Connection, str, bytes)) or not hasattr(conns, "__iter__"):
        raise TypeError(
            f"wait() takes a list of connections, such as [conn], not {type(conns).__name__}"
        )
    items = list(conns)
    for number, item in enumerate(items):
        if isinstance(item, type) or not callable(getattr(item, "fileno", None)):
            raise TypeError(
                f"conns[{number}] is neither a Connection nor an object with fileno(): "
                f"{type(item).__name__}"
            )
    return items


def _descriptor(item: HasFileno, number: int) -> int:
    """The descriptor of what is no Connection."""
    try:
        descriptor: object = item.fileno()
    except (OSError, ValueError) as error:  # a file in memory, or one that is closed
        raise ValueError(f"conns[{number}] has no descriptor: {error}") from error
    if isinstance(descriptor, bool) or not isinstance(descriptor, int):
        kind = type(descriptor).__name__
        raise TypeError(f"the fileno() of conns[{number}] returns a {kind}, not an int")
    if descriptor < 0:
        raise ValueError(f"conns[{number}] is closed: leave it out")
    return descriptor


def _has_decrypted(item: object) -> bool:
    """Whether an SSLSocket has bytes that no poll shows."""
    pending = getattr(item, "pending", None) if isinstance(item, socket.socket) else None
    return pending is not None and pending() > 0


class _Watch:
    """One call of `wait`.

    Attributes:
        found: Of each item, whether it is to be named.
    """

    __slots__ = ("_descriptors", "_readers", "found")

    def __init__(self, items: list[Any]) -> None:
        self.found = [False] * len(items)
        self._readers: dict[int, Reader] = {}
        self._descriptors: dict[int, list[int]] = {}  # numbers of items, by descriptors
        for number, item in enumerate(items):
            if isinstance(item, Connection):
                descriptor = item.fileno()  # -1 once closed: then the reader knows of the end
                self._readers[number] = item._reader
            else:
                descriptor = _descriptor(item, number)
                self.found[number] = _has_decrypted(item)
            self._descriptors.setdefault(descriptor, []).append(number)

    def look(self) -> bool:
        """Look at what needs no system call; whether bytes are left that no poll would show."""
        left = False
        for number, reader in self._readers.items():
            reader.tend()
            if not reader.at_hand() and reader.keeps() and reader.fetch():
                left = left or reader.keeps()  # else another thread reads that
            self.found[number] = reader.at_hand()
        return left

    def poll(self, deadline: Deadline) -> None:
        """Wait until something is found, or the deadline."""
        with contextlib.closing(engine().poller()) as poller:
            for descriptor, numbers in self._descriptors.items():
                if descriptor >= 0 and not all(self.found[number] for number in numbers):
                    poller.register(descriptor, READ, numbers)
            left = False
            while True:
                seconds = 0.0 if left or any(self.found) else deadline.sooner(LOOK_AGAIN).left()
                events = poller.select(seconds)
                for key, _ in events:
                    self._read(key.data)
                if any(self.found) or deadline.passed():
                    return
                if not events:
                    deadline.waited(seconds)
                left = self.look()
                if any(self.found):
                    return

    def _read(self, numbers: list[int]) -> None:
        """Something has come on a descriptor: find out for whom."""
        busy = False
        for number in numbers:
            reader = self._readers.get(number)
            if reader is None:
                self.found[number] = True
            else:
                busy = not reader.fetch()
                self.found[number] = reader.at_hand()
        if busy and not any(self.found):
            engine().sleep(_MOMENT)  # else this would go round until that thread has read
