"""A server under load: the server's process, and the load's (load.c) with its connections.

The load opens its connections once, and keeps them for all measurements of a generation.
"""

from __future__ import annotations

import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import cores
from ..compiler import compiled
from ..far_end import cpu_time
from ..rounds import Failed, Process, Score

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .contestants import Contestant
    from .scenarios import Scenario

LOAD = Path(__file__).with_name("load.c")
OPENING, ANSWERING = 300.0, 150.0
"""Seconds for all connections to be opened, and for the last answers; load.c gives up earlier."""


TICKS = os.sysconf("SC_CLK_TCK")


def busy_time() -> float:
    """Seconds that processes had on all cores, and that other virtual machines took from them."""
    with Path("/proc/stat").open(encoding="ascii") as lines:
        user, nice, system, _, _, _, _, steal = map(int, lines.readline().split()[1:9])
    return (user + nice + system + steal) / TICKS


@dataclass
class ServerScore(Score):
    """The score of a server: `cpu` is its processor time for an echo, or an opening."""

    p50: list[float] = field(default_factory=list)  # microseconds
    p99: list[float] = field(default_factory=list)
    served: list[float] = field(default_factory=list)
    """The part of the connections that got an answer in time."""
    others: list[float] = field(default_factory=list)  # cores that other programs had meanwhile

    def add(self, result: Mapping[str, Any]) -> None:
        """Keep what a measurement found."""
        super().add(result)
        self.cpu[-1] = result["cpu"] / result["answered"]
        self.p50.append(result["p50"])
        self.p99.append(result["p99"])
        self.served.append(result["served"] / result["connections"])
        self.others.append(result["others"])


class Trial:
    """A server that is started, and the load on it."""

    def __init__(self, scenario: Scenario, contestant: Contestant) -> None:
        self._scenario = scenario
        self._contestant = contestant
        self._server = Process(
            [sys.executable, "-m", "bench.server.worker", contestant.label],
            contestant.environment,
            cores.for_client(scenario.choice),
        )
        self._load: Process | None = None

    def read(self) -> None:
        """Wait until the server listens and all connections are open."""
        port = self._server.read()["port"]
        scenario = self._scenario
        manner = "raw" if self._contestant.raw else "frames"
        core = map(str, cores.for_far_end(scenario.choice))
        command = [str(compiled(LOAD)), str(port), scenario.work, manner]
        self._load = Process([*command, str(scenario.connections), *core], {}, set())
        self._load.read(OPENING)

    def measure(self, seconds: float) -> Mapping[str, Any]:
        """Measure once; a single wrong or missing answer makes the server fail."""
        assert self._load is not None
        seconds *= self._scenario.times
        server, load = self._server.number, self._load.number
        began, busy, used, loaded = time.monotonic(), busy_time(), cpu_time(server), cpu_time(load)
        result = self._load.measure(seconds, ANSWERING)
        result["cpu"] = cpu_time(server) - used
        others = busy_time() - busy - result["cpu"] - (cpu_time(load) - loaded)
        result["others"] = max(0.0, others) / (time.monotonic() - began)
        result["connections"] = self._scenario.connections
        if result["errors"]:
            raise Failed(f"failed: {result['errors']} errors: {result['trouble']}")
        if not result["count"]:
            raise Failed(f"failed: no answer within {seconds:g} s")
        return result

    def stop(self) -> None:
        """End both processes."""
        if self._load is not None:
            self._load.stop()
        self._server.stop()
