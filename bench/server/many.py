"""Ten thousand connections: what an idle one holds in memory, and a minute with all of them active.

    python -m bench.server.many [--connections N] [--seconds S] [--servers PATTERN] [--json FILE]

For each server that keeps so many: the memory of its process (private pages, what the kernel keeps
for it not counted) before the connections and with them open, and again after each has had echoes;
then echoes of 64 bytes on all of them for the time, and the memory as it goes on.  A wrong or a
missing answer is an error, and ends the measurement of that server.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .. import turns
from ..compiler import compiled
from ..rounds import Failed, Process
from .contestants import BARE, CONTESTANTS, Contestant
from .trial import ANSWERING, LOAD, OPENING

WARM = 100  # connections that are opened first: what a server makes once is there then
PIECES = 6  # in which the time is measured, with a look at the memory after each
OTHERS = (BARE, "websockets.sync")  # do not answer so many active connections in time


@dataclass
class Found:
    """What was found of one server."""

    connections: int
    before: int = 0  # bytes
    idle: int = 0
    used: int = 0
    going_on: list[int] = field(default_factory=list)
    echoes: int = 0
    seconds: float = 0.0
    p99: float = 0.0  # microseconds, the greatest of the pieces
    trouble: str = ""

    def each(self, memory: int) -> float:
        """KiB a connection, where the server holds so much."""
        return (memory - self.before) / self.connections / 1024


def private_memory(process: int) -> int:
    """Bytes of memory that are this process's alone."""
    sizes = {}
    with Path(f"/proc/{process}/smaps_rollup").open(encoding="ascii") as lines:
        for line in lines:
            name, *rest = line.split()
            if rest and rest[-1] == "kB":
                sizes[name] = int(rest[0]) * 1024
    return sizes["Private_Clean:"] + sizes["Private_Dirty:"]


def opened(port: int, connections: int) -> Process:
    """The load, with its connections open and idle."""
    load = Process([str(compiled(LOAD)), str(port), "echo", "frames", str(connections)], {}, set())
    try:
        load.read(OPENING)
    except BaseException:
        load.stop()
        raise
    return load


def measure(contestant: Contestant, connections: int, seconds: float) -> Found:
    """Measure one server."""
    found = Found(connections)
    command = [sys.executable, "-m", "bench.server.worker", contestant.label]
    server = Process(command, contestant.environment, set())
    loads: list[Process] = []
    try:
        port = server.read()["port"]
        loads.append(opened(port, WARM))
        found.before = private_memory(server.number)
        loads.append(opened(port, connections))
        found.idle = private_memory(server.number)
        echo(server, loads[-1], found, seconds)
    except Failed as failure:
        found.trouble = str(failure)
    finally:
        for process in (*loads, server):
            process.stop()
    return found


def echo(server: Process, load: Process, found: Found, seconds: float) -> None:
    """Echoes on all connections for the time, and the memory meanwhile."""
    for piece in range(PIECES):
        result = load.measure(seconds / PIECES, ANSWERING)
        if result["errors"] or result["served"] < found.connections:
            silent = found.connections - result["served"]
            raise Failed(f"{result['errors']} errors, {silent} unanswered: {result['trouble']}")
        found.echoes += result["count"]
        found.seconds += result["seconds"]
        found.p99 = max(found.p99, result["p99"])
        memory = private_memory(server.number)
        if not piece:
            found.used = memory
        found.going_on.append(memory)


def line(label: str, found: Found) -> str:
    """A row of the table."""
    if found.trouble:
        return f"| {label} | {found.each(found.idle):.1f} | {found.trouble} | | | |"
    mib = ", ".join(f"{memory / 2**20:.0f}" for memory in found.going_on)
    return (
        f"| {label} | {found.each(found.idle):.1f} | {found.each(found.used):.1f} "
        f"| {found.echoes / found.seconds / 1000:.1f} k | {found.p99 / 1000:.0f} ms | {mib} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.server.many")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--servers", metavar="PATTERN", action="append")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    options = parser.parse_args()
    chosen = turns.chosen(CONTESTANTS, options.servers)
    labels = [label for label in chosen if label not in OTHERS and not CONTESTANTS[label].work]
    results = {}
    print(f"{options.connections:,} connections")
    print("| server | KiB idle | KiB used | echoes a second | p99 | MiB in all, as it goes on |")
    print("|---|---|---|---|---|---|")
    with turns.alone():
        for label in labels:
            if CONTESTANTS[label].missing():
                continue
            results[label] = measure(CONTESTANTS[label], options.connections, options.seconds)
            print(line(label, results[label]), flush=True)
    if options.json:
        text = json.dumps({label: asdict(found) for label, found in results.items()}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
