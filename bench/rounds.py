"""Runs a scenario, of the client or the server: all contestants at once, in rounds.

Every contestant is a process of its own, and one is measured at a time.  A round measures
each of them once, and each round starts with another one: A B C, B C A, C A B.  So what the
machine does meanwhile falls on all of them alike, and a ratio taken within a round compares
neighbours in time.  After some rounds the processes are replaced by new ones (a new
generation), because the layout of memory, which a process keeps for life, is worth some
per cent.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import time
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from . import cores

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

PATIENCE = 30.0
"""Seconds that a contestant may be silent, beyond the time that it was given."""


@dataclass(frozen=True)
class Plan:
    """How much is measured."""

    generations: int
    rounds: int  # in each generation
    seconds: float  # for each measurement
    kernel_rounds: int = 0
    quick: bool = False


@dataclass
class Score:
    """One contestant's results, a number for each round; None where there is none."""

    rates: list[float | None] = field(default_factory=list)  # messages a second
    cpu: list[float] = field(default_factory=list)  # seconds a message, of who is measured
    far_end_share: list[float] = field(default_factory=list)  # of the time
    absent: str = ""  # why there are no results

    def add(self, result: Mapping[str, Any]) -> None:
        """Keep what a measurement found."""
        self.rates.append(result["count"] / result["seconds"])
        self.cpu.append(result["cpu"] / result["count"])
        self.far_end_share.append(result["far_end_cpu"] / result["seconds"])

    def median(self) -> float | None:
        """Messages a second; None where there are no results."""
        rates = self.measured()
        return median(rates) if rates else None

    def measured(self) -> list[float]:
        """The rates of the rounds that have one."""
        return [rate for rate in self.rates if rate is not None]

    def ratios(self, other: Score) -> list[float]:
        """How much faster than another contestant, round by round."""
        return [
            mine / theirs
            for mine, theirs in zip(self.rates, other.rates, strict=True)
            if mine is not None and theirs is not None
        ]


class Failed(Exception):
    """A contestant does not take part, or no more; says why."""


class Labelled(Protocol):
    """A contestant, before it is started."""

    @property
    def label(self) -> str:
        """The name in the results."""


C = TypeVar("C", bound=Labelled)
S = TypeVar("S", bound=Score)


class Measured(Protocol):
    """A contestant that was started."""

    def read(self) -> object:
        """Wait until it can be measured."""

    def measure(self, seconds: float) -> Mapping[str, Any]:
        """Measure once; the result is what its Score adds."""

    def stop(self) -> None:
        """End it, whatever it does; it may have ended already."""


class Process:
    """A process that prints a line of JSON when it is ready, and one for each line it reads."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], on: set[int]
    ) -> None:
        """`environment` is what it has beside this process' own; `on`: cores, or all."""
        with cores.confined(on):
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **environment},
            )
        self.number = self._process.pid
        self._unread = b""

    def read(self, patience: float = PATIENCE) -> dict[str, Any]:
        """The next line that the process prints."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + patience
        while b"\n" not in self._unread:
            left = deadline - time.monotonic()
            if left < 0 or not select.select([self._process.stdout], [], [], left)[0]:
                raise Failed("failed: it hangs")
            some = os.read(self._process.stdout.fileno(), 65536)
            if not some:
                raise Failed("failed: its process ended")
            self._unread += some
        line, _, self._unread = self._unread.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        if "absent" in answer:
            raise Failed(answer["absent"])
        return answer

    def measure(self, seconds: float, patience: float = PATIENCE) -> dict[str, Any]:
        """Let the process measure for about that long."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{seconds}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise Failed("failed: its process ended") from error
        return self.read(patience + 10 * seconds)

    def stop(self) -> None:
        """End it, whatever it does; it may have ended already."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._process.wait()


class Contest(Generic[C, S]):
    """A scenario's rounds."""

    def __init__(
        self,
        contestants: Sequence[C],
        plan: Plan,
        start: Callable[[C], Measured],
        score: Callable[[], S],
    ) -> None:
        """`start` starts a contestant, anew for each generation; `score` makes an empty score."""
        self.plan = plan
        self.contestants = contestants
        self.scores = {contestant.label: score() for contestant in contestants}
        self._start = start

    def run(self) -> dict[str, S]:
        """Run all rounds; returns the scores by label."""
        for _ in range(self.plan.generations):
            self._run_generation()
        return self.scores

    def _run_generation(self) -> None:
        processes: dict[str, Measured] = {}
        try:
            for contestant in self.contestants:
                if not self.scores[contestant.label].absent:
                    processes[contestant.label] = self._start(contestant)
            # First all start, then each warms up: none while another is still busy.
            connected = [each for each in processes.items() if self._connects(*each)]
            ready = [each for each in connected if self._warms_up(*each)]
            for number in range(self.plan.rounds):
                first = number % max(1, len(ready))
                self._run_round(ready[first:] + ready[:first])
        finally:
            for process in processes.values():
                process.stop()

    def _connects(self, label: str, process: Measured) -> bool:
        return self._succeeds(label, process, process.read)

    def _warms_up(self, label: str, process: Measured) -> bool:
        """Measure once for nothing: the process finds out how many messages to take."""
        return self._succeeds(label, process, partial(process.measure, self.plan.seconds))

    def _run_round(self, processes: Sequence[tuple[str, Measured]]) -> None:
        for label, process in processes:
            if not self.scores[label].absent:
                self._succeeds(label, process, partial(self._measure, label, process))
        self._align()

    def _measure(self, label: str, process: Measured) -> None:
        self.scores[label].add(process.measure(self.plan.seconds))

    def _succeeds(self, label: str, process: Measured, step: Callable[[], object]) -> bool:
        try:
            step()
        except Failed as failure:
            self.scores[label].absent = str(failure)
            process.stop()  # at once: what hangs may keep the processor from the others
            return False
        return True

    def _align(self) -> None:
        """Give who failed an empty place, so that a round has one index everywhere."""
        rounds = max(len(score.rates) for score in self.scores.values())
        for score in self.scores.values():
            score.rates += [None] * (rounds - len(score.rates))
