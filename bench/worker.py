"""The process of one contestant: measures when it is told to.

    python -m bench.worker LIBRARY SCENARIO [--way NAME] [--seconds S]

measures once, against a far end of its own, and prints a line of JSON: the thing to run
under a profiler.  With --far-end it prints {"ready": true}, and then a result for each
line of its input, which says how long a measurement shall be.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

from . import cores
from .adapters import LIBRARIES
from .adapters.base import Endpoint
from .far_end import Address, FarEnd
from .scenarios import SCENARIOS, Contestant, Scenario

if TYPE_CHECKING:
    from collections.abc import Callable

ENOUGH = 0.5
"""The part of a measurement's time from which on the number of messages is extrapolated.

It has to be large: a library that leaves Nagle's algorithm on waits 40 ms at the end.
"""


class Absent(Exception):
    """This contestant cannot take part; says why."""


class Measurement:
    """A contestant, connected, with the number of messages that fills the time."""

    def __init__(self, contestant: Contestant, scenario: Scenario, address: Address) -> None:
        if scenario.tls and not address.tls_port:
            raise Absent("no TLS here: OpenSSL's headers or trustme are missing")
        # For the library that takes no ssl.SSLContext.
        os.environ["SSL_CERT_FILE"] = address.authority
        adapter = LIBRARIES[contestant.library].load()
        method = contestant.way.method
        if not hasattr(adapter, method):
            raise Absent("no such workload")
        self._scenario = scenario
        self._address = address
        self._count = 0
        self._payload = scenario.make_payload()
        endpoint = Endpoint(
            address.url(contestant.way.path, tls=scenario.tls),
            authority=address.authority,
            as_list=scenario.payload == "list",
        )
        self._work = self._bind(adapter, method, endpoint)

    def _bind(self, adapter: Any, method: str, endpoint: Endpoint) -> Callable[[int], Any]:
        if method == "connect_and_close":
            return lambda count: adapter.connect_and_close(endpoint, count)
        connected = adapter(endpoint)
        work = getattr(connected, method)
        # The connection lives as long as this object; the process' end closes it.
        self._adapter = connected
        if method.startswith("receive"):
            return work  # type: ignore[no-any-return]
        return lambda count: work(self._payload, count)

    def run(self, seconds: float) -> dict[str, float]:
        """Measure for about that long; returns the messages, and the seconds they took."""
        if not self._count:
            self._count = self._find_count(seconds)
        result = self._measure(self._count)
        fitting = self._count * seconds / result["seconds"]
        self._count = max(1, round(min(fitting, self._scenario.most)))
        return result

    def _find_count(self, seconds: float) -> int:
        count = 1
        while True:
            took = self._measure(count)["seconds"]
            fitting = min(count * seconds / took, self._scenario.most)
            if took >= seconds * ENOUGH or count >= self._scenario.most:
                return max(1, round(fitting))
            count = min(max(2 * count, round(fitting * ENOUGH)), 20 * count)

    def _measure(self, count: int) -> dict[str, float]:
        far_end_before, cpu_before = self._address.cpu_time(), time.process_time()
        before = time.perf_counter()
        result = self._work(count)
        seconds = time.perf_counter() - before
        cpu = time.process_time() - cpu_before
        far_end_cpu = self._address.cpu_time() - far_end_before
        self._check(result, count)
        return {"count": count, "seconds": seconds, "cpu": cpu, "far_end_cpu": far_end_cpu}

    def _check(self, result: Any, count: int) -> None:
        """See that the work was done; None comes from those who do not look."""
        payload, size = self._payload, self._scenario.size
        if result is None or result == payload:
            return
        if isinstance(payload, dict) and json.loads(result) == payload:
            return
        if isinstance(payload, bytes):
            if isinstance(result, bytes) and len(result) == size:
                return
            if result == f"{count} {count * size}":
                return
        raise RuntimeError(f"not what was sent: {str(result)[:60]!r}")


def serve(contestant: Contestant, scenario: Scenario, address: Address) -> None:
    """Say whether this contestant is ready, and measure until the input ends."""
    try:
        measurement = Measurement(contestant, scenario, address)
        answer({"ready": True})
        for line in sys.stdin:
            answer(measurement.run(float(line)))
    except Absent as reason:
        answer({"absent": str(reason)})
    except ImportError as error:
        answer({"absent": f"not importable: {error}"})
    except Exception as error:
        answer({"absent": f"failed: {type(error).__name__}: {error}"})
    os._exit(0)  # not every library lets its threads end


def answer(something: dict[str, Any]) -> None:
    print(json.dumps(something), flush=True)


def find_contestant(library: str, scenario: Scenario, way: str) -> Contestant:
    ways = [each for each in scenario.ways if each.name == way]
    return Contestant(library, ways[0] if ways else scenario.ways[0])


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.worker")
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument("--way", default="")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--cores", choices=cores.CHOICES, default="one")
    parser.add_argument("--far-end", help="its address, as JSON")
    options = parser.parse_args()
    scenario = SCENARIOS[options.scenario]
    contestant = find_contestant(options.library, scenario, options.way)
    if options.far_end:
        serve(contestant, scenario, Address(**json.loads(options.far_end)))
    os.environ.update(LIBRARIES[options.library].environment)
    client_cores = cores.for_client(options.cores)
    with FarEnd(options.cores) as far_end, cores.confined(client_cores):
        result = Measurement(contestant, scenario, far_end.address).run(options.seconds)
        answer(result)
    os._exit(0)


if __name__ == "__main__":
    main()
