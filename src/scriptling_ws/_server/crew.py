"""The workers of one generation: those that run, and the places of those that are missing.

Rules:

- The first worker of a generation goes ahead. Once it serves, the others follow: what is wrong
  with the code is found, and shown, once.
- A worker is known to have ended by its process, not by its socket alone: a program that it has
  started may keep that open.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from .._network.deadline import FOREVER, Deadline
from .restarts import Pace
from .worker import LEAVE, READY, STOP

if TYPE_CHECKING:
    from .worker import Link

__all__ = ["Crew", "Place", "Worker", "ending"]


class Worker:
    """A worker process, as its master sees it.

    Attributes:
        process: Its number.
        link: The master's end.
        ready: Whether it serves.
        deadline: When it has to have ended.
    """

    __slots__ = ("_word", "deadline", "link", "process", "ready")

    def __init__(self, process: int, link: Link) -> None:
        self.process = process
        self.link = link
        self.ready = False
        self.deadline: Deadline = FOREVER
        self._word = b""  # what it was told, if anything

    def listen(self) -> None:
        """Take in what it says."""
        said = self.link.hear()
        if said == b"":
            self.link.close()  # its process has ended, or is about to
        if said == READY:
            self.ready = True
            self.link.say(self._word)  # it may not have heard the signal

    def retire(self, deadline: Deadline) -> None:
        """Have it end once its connections have; one that does not serve yet at once."""
        self._tell(LEAVE, deadline)

    def stop(self, deadline: Deadline) -> None:
        """Have it close its connections, and end."""
        self._tell(STOP, deadline)

    def _tell(self, word: bytes, deadline: Deadline) -> None:
        self.deadline = deadline
        self._word = word
        if self.ready:
            self.link.say(word)
        else:  # it does not listen yet
            self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once."""
        if sys.platform == "win32":  # pragma: no cover - `serve_with_workers` has refused
            raise AssertionError
        self.deadline = FOREVER
        self._send(signal.SIGKILL)

    def _send(self, number: int) -> None:
        with contextlib.suppress(OSError):
            os.kill(self.process, number)

    def reap(self, *, wait: bool = False) -> int | None:
        """Its exit status, -N if signal N has ended it; None while it runs.

        Args:
            wait: Block until it has ended.
        """
        if sys.platform == "win32":  # pragma: no cover - `serve_with_workers` has refused
            raise AssertionError
        try:
            process, status = os.waitpid(self.process, 0 if wait else os.WNOHANG)
        except ChildProcessError:  # somebody else has asked for all children
            return 1
        return os.waitstatus_to_exitcode(status) if process else None


class Place:
    """One of the places of a crew.

    Attributes:
        worker: Who has it now.
        pace: How soon it is given to another one.
        rest: Until when it stays empty.
    """

    __slots__ = ("pace", "rest", "worker")

    def __init__(self) -> None:
        self.worker: Worker | None = None
        self.pace = Pace()
        self.rest = Deadline(0)

    def fall(self) -> float:
        """Its worker has ended; the seconds for which it stays empty."""
        self.worker = None
        seconds = self.pace.fall()
        self.rest = Deadline(seconds)
        return seconds


class Crew:
    """The places of one generation."""

    __slots__ = ("_led", "places")

    def __init__(self, count: int) -> None:
        """Have so many places, all of them empty."""
        self.places = [Place() for _ in range(count)]
        self._led = False

    @property
    def workers(self) -> list[Worker]:
        """Those who run."""
        return [place.worker for place in self.places if place.worker is not None]

    @property
    def is_complete(self) -> bool:
        """Whether all of them serve."""
        workers = self.workers
        return len(workers) == len(self.places) and all(worker.ready for worker in workers)

    def empty(self) -> list[Place]:
        """The places that somebody should have: the first one alone until that one serves."""
        self._led = self._led or any(worker.ready for worker in self.workers)
        places = self.places if self._led else self.places[:1]
        return [place for place in places if place.worker is None]

    def place_of(self, worker: Worker) -> Place | None:
        """A worker's place; None if it has none here."""
        return next((place for place in self.places if place.worker is worker), None)


def ending(status: int) -> str:
    """How a process has ended, for the log."""
    if status >= 0:
        return f"with status {status}"
    try:
        return f"by {signal.Signals(-status).name}"
    except ValueError:  # a real-time signal has no name
        return f"by signal {-status}"
