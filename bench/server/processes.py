"""One process of a server, and two: what an echo costs in processor time, and how many there are.

    python -m bench.server.processes [--engine threads|gevent] [--connections N] [--seconds S]
                                     [--rounds N] [--json FILE]

Where the load has cores of its own, two processes do as many echoes more as they have time for. On
a machine that has too few for that, the processor time of an echo says it: as long as it is the
same with two processes, they do twice as many on twice the cores. Servers of one and of two
processes take turns; the time is that of the master and of all its workers.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from statistics import median

import scriptling_ws as ws

from .. import turns
from ..compiler import compiled
from ..far_end import cpu_time
from ..rounds import Process
from ..worker import answer
from .trial import ANSWERING, LOAD, OPENING
from .worker import raise_limit

COUNTS = (1, 2)


def echo(client: ws.Connection[bytes]) -> None:
    for message in client:
        client.send_binary(message)


def serve(count: int, engine: str) -> None:
    """What the process of a server does, until its input ends."""
    raise_limit()
    # One process is served as two are, under a master: it is their number that is compared.
    ws.serve(
        echo,
        port=0,
        binary_type=bytes,
        ping_interval=None,
        processes=count,
        engine=engine,  # type: ignore[arg-type]  # argparse has checked it
        ready=lambda server: answer({"ready": True, "port": server.port}),
    )


def family(process: int) -> list[int]:
    """A process and its children."""
    tasks = Path(f"/proc/{process}/task").iterdir()
    texts = [(task / "children").read_text(encoding="ascii") for task in tasks]
    return [process, *(int(child) for text in texts for child in text.split())]


class Contestant:
    """A server of so many processes, and its load."""

    def __init__(self, count: int, engine: str, connections: int) -> None:
        module = "bench.server.processes"
        command = [sys.executable, "-m", module, "--serve", str(count), "--engine", engine]
        self.server = Process(command, {}, set())
        port = self.server.read()["port"]
        command = [str(compiled(LOAD)), str(port), "echo", "frames", str(connections)]
        self.load = Process(command, {}, set())
        self.load.read(OPENING)
        self.rates: list[float] = []
        self.costs: list[float] = []  # microseconds of processor time an echo

    def measure(self, seconds: float) -> None:
        """One turn."""
        processes = family(self.server.number)
        before = sum(map(cpu_time, processes))
        result = self.load.measure(seconds, ANSWERING)
        assert not result["errors"], result["trouble"]
        used = sum(map(cpu_time, processes)) - before
        self.rates.append(result["count"] / result["seconds"])
        self.costs.append(used / result["answered"] * 1e6)

    def stop(self) -> None:
        """End the load, and the server with its workers."""
        self.load.stop()
        for process in reversed(family(self.server.number)):
            os.kill(process, 9)
        self.server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.server.processes")
    parser.add_argument("--engine", choices=["threads", "gevent"], default="threads")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path, help="where to write every figure")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.engine)
        return
    with turns.alone():
        servers = {n: Contestant(n, options.engine, options.connections) for n in COUNTS}
        for _ in range(options.rounds):
            for server in servers.values():
                server.measure(options.seconds)
        for server in servers.values():
            server.stop()
    print(f"{options.engine}, {options.connections} connections")
    for count, server in servers.items():
        ratio = median(a / b for a, b in zip(servers[1].costs, server.costs, strict=True))
        print(
            f"{count} processes: {median(server.rates):8.0f} echoes a second, "
            f"{median(server.costs):5.1f} us of processor time each; "
            f"on as many cores {count * ratio:.2f} times the echoes of one"
        )
    if options.json:
        figures = {n: {"rates": s.rates, "costs": s.costs} for n, s in servers.items()}
        options.json.write_text(json.dumps(figures) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
