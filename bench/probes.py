"""What is not a race: memory, idle connections, time per byte.  One probe, one process.

    python -m bench.probes PROBE LIBRARY --far-end ADDRESS [--gauge traced|resident]

prints its result as JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import gc
import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .adapters import LIBRARIES
from .adapters.base import Endpoint
from .far_end import Address
from .scenarios import KIB, MIB, make_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORY_SIZE = 16 * MIB
"""Of the message whose memory is measured; the largest that all peers take."""

IDLE_CONNECTIONS = 200

SIZES = {"64 KiB": 64 * KIB, "1 MiB": MIB, "16 MiB": 16 * MIB, "256 MiB": 256 * MIB}

# A kilobyte and a half is what a packet brings on most networks.
GROWTH_FORMS: dict[str, tuple[dict[str, int], Callable[[int], str]]] = {
    "whole": (SIZES, lambda size: f"/flood?size={size}"),
    "in frames of 32 KiB": (
        SIZES,
        lambda size: f"/flood?size={size}&fragments={size // (32 * KIB)}",
    ),
    "in pieces of 1448 bytes": (SIZES, lambda size: f"/flood?size={size}&piece=1448"),
    "byte by byte": (
        {"16 KiB": 16 * KIB, "64 KiB": 64 * KIB, "256 KiB": 256 * KIB},
        lambda size: f"/flood?size={size}&piece=1",
    ),
}


class Gauge(Protocol):
    """Measures the memory in use."""

    def start(self) -> None:
        """From here on a peak counts."""

    def peak(self) -> int:
        """The most bytes above those at the start."""

    def now(self) -> int:
        """The bytes above those at the start."""


class Traced:
    """What Python allocates: exact, but blind to a library's own malloc()."""

    def __init__(self) -> None:
        tracemalloc.start()

    def start(self) -> None:
        """Take the present use as the base."""
        gc.collect()
        tracemalloc.reset_peak()
        self._before = tracemalloc.get_traced_memory()[0]

    def peak(self) -> int:
        """The most bytes above the base."""
        return tracemalloc.get_traced_memory()[1] - self._before

    def now(self) -> int:
        """The bytes above the base."""
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - self._before


class Resident:
    """What the system gave the process: all of it, in pages, as Linux counts them."""

    def start(self) -> None:
        """Take the present use as the base."""
        gc.collect()
        # Memory that is free, but still the process', would hide what is taken next.
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        self._before = self._read("VmRSS")

    def peak(self) -> int:
        """The most bytes above the base."""
        return self._read("VmHWM") - self._before

    def now(self) -> int:
        """The bytes above the base."""
        gc.collect()
        return self._read("VmRSS") - self._before

    def _read(self, name: str) -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * KIB
        raise OSError(f"no {name}")


GAUGES: dict[str, Callable[[], Gauge]] = {"traced": Traced, "resident": Resident}


def receive_once(adapter: Any) -> Any:
    """One message, in memory of its own."""
    return getattr(adapter, "receive_kept", adapter.receive)(1)


def received(adapter: Any, address: Address, gauge: Gauge, *, as_list: bool) -> int:
    """The peak while a message is received, and kept."""
    small, large = (
        adapter(Endpoint(address.url(f"/flood?size={size}"), as_list=as_list))
        for size in (64 * KIB, MEMORY_SIZE)
    )
    receive_once(small)  # what the library does only once, it does now
    gauge.start()
    message = receive_once(large)
    peak = gauge.peak()
    if len(message) < MEMORY_SIZE:
        raise RuntimeError(f"{len(message)} bytes instead of {MEMORY_SIZE}")
    return peak


def receive_bytes(adapter: Any, address: Address, gauge: Gauge) -> int:
    return received(adapter, address, gauge, as_list=False)


def receive_list(adapter: Any, address: Address, gauge: Gauge) -> int:
    return received(adapter, address, gauge, as_list=True)


def send_bytes(adapter: Any, address: Address, gauge: Gauge) -> int:
    """The peak while a message is sent, above the message itself."""
    connection = adapter(Endpoint(address.url("/sink")))
    connection.send(bytes(64 * KIB), 1)
    message = bytes(256) * (MEMORY_SIZE // 256)
    gauge.start()
    account = connection.send(message, 1)
    peak = gauge.peak()
    if account != f"1 {MEMORY_SIZE}":
        raise RuntimeError(f"the far end got {account!r}")
    return peak


def idle(adapter: Any, address: Address, gauge: Gauge) -> int:
    """Bytes for each connection that is open, and was used once."""
    message = make_bytes(64)

    def connect() -> Any:
        adapted = adapter(Endpoint(address.url("/echo")))
        adapted.echo(message, 1)
        return adapted.connection  # without what the benchmark added

    kept = [connect() for _ in range(8)]
    gauge.start()
    kept += [connect() for _ in range(IDLE_CONNECTIONS)]
    return gauge.now() // IDLE_CONNECTIONS


def growth(adapter: Any, address: Address, _: Gauge) -> dict[str, dict[str, float]]:
    """Nanoseconds of processor time for each byte of a message, by form and size.

    Processor time, because a form that takes the far end many writes is slow for the
    far end's sake.
    """
    return {
        form: {
            name: nanoseconds(adapter, address.url(path(size)), size)
            for name, size in sizes.items()
        }
        for form, (sizes, path) in GROWTH_FORMS.items()
    }


def nanoseconds(adapter: Any, url: str, size: int) -> float:
    """For a byte: the best of three, after one to get warm."""
    connection = adapter(Endpoint(url))
    receive = getattr(connection, "receive_kept", connection.receive)
    count = 1 if "piece" in url else max(1, 64 * MIB // size)
    receive(count)
    times = []
    for _ in range(3):
        before = time.process_time()
        receive(count)
        times.append(time.process_time() - before)
    return min(times) / count / size * 1e9


PROBES: dict[str, Callable[[Any, Address, Gauge], Any]] = {
    "receive-bytes": receive_bytes,
    "receive-list": receive_list,
    "send-bytes": send_bytes,
    "idle": idle,
    "growth": growth,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.probes")
    parser.add_argument("probe", choices=PROBES)
    parser.add_argument("library", choices=LIBRARIES)
    parser.add_argument("--far-end", required=True)
    parser.add_argument("--gauge", choices=GAUGES, default="resident")
    options = parser.parse_args()
    address = Address(**json.loads(options.far_end))
    gauge = GAUGES[options.gauge]()
    adapter = LIBRARIES[options.library].load()
    print(json.dumps(PROBES[options.probe](adapter, address, gauge)), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
