"""What is measured: each scenario's load, and the cores of server and load.

`bench/cores.py` has the choices.  What it calls the client is here the server, which is who is
measured; the load is its far end.
"""

from __future__ import annotations

from dataclasses import dataclass

CORES = {
    "one": "server and load on one core",
    "two": "server and load on a core each",
    "free": "on two free cores",
}


@dataclass(frozen=True)
class Scenario:
    """A row of the tables."""

    key: str
    title: str
    work: str  # of load.c
    connections: int  # that are active, or that are opened at a time
    choice: str  # of cores
    times: float = 1.0  # a measurement takes so many times the plan's seconds


MANY = 1000
"""From so many connections on an echo can take a second, and a measurement takes twice as long."""


def echo(connections: int, choice: str, place: str = "") -> Scenario:
    key = f"echo-{connections}" if choice != "two" else f"pinned-{connections}"
    title = f"echo, {connections:,} active{place}"
    times = 2.0 if connections >= MANY else 1.0
    return Scenario(key, title, "echo", connections, choice, times)


SCENARIOS = {
    scenario.key: scenario
    for scenario in (
        echo(1, "one", ", one core"),
        echo(4, "free"),
        echo(64, "free"),
        echo(1000, "free"),
        echo(4000, "free"),
        echo(1, "two", ", pinned"),
        echo(64, "two", ", pinned"),
        echo(1000, "two", ", pinned"),
        Scenario("opens", "opens, one core", "opens", 4, "one"),
    )
}
