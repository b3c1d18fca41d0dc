"""What is measured: each scenario's workload, its size, and its path at the far end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .adapters import LIBRARIES, OURS, PEERS, PURE
from .adapters.base import to_json

if TYPE_CHECKING:
    from collections.abc import Sequence

KIB, MIB = 1024, 1024 * 1024


@dataclass(frozen=True)
class Way:
    """One way of doing a scenario's work."""

    name: str  # "" where there is only one
    method: str  # of the adapter
    path: str
    ours_only: bool = False


@dataclass(frozen=True)
class Contestant:
    """A library and a way: a process that takes part in a scenario's rounds."""

    library: str
    way: Way

    @property
    def label(self) -> str:
        """The name in the results."""
        return f"{self.library}: {self.way.name}" if self.way.name else self.library


@dataclass(frozen=True)
class Scenario:
    """A row of the tables."""

    key: str
    title: str
    size: int
    ways: Sequence[Way]
    payload: str = "bytes"  # or "text", "list", "dict"
    tls: bool = False
    most: int = 1 << 40  # messages, or connections, in one measurement
    pure: bool = False  # our pure Python implementation takes part
    quick_peers: Sequence[str] = ("websocket-rs", "picows")

    def contestants(self, *, quick: bool) -> list[Contestant]:
        """Who takes part, whether installed or not."""
        return [
            Contestant(library, way)
            for library in LIBRARIES
            for way in self.ways
            if self._takes_part(library, way, quick)
        ]

    def _takes_part(self, library: str, way: Way, quick: bool) -> bool:
        if library == PURE and (quick or not self.pure):
            return False
        if library in PEERS and quick and library not in self.quick_peers:
            return False
        return not way.ours_only or library in (OURS, PURE)

    def make_payload(self) -> Any:
        """What is sent, of the scenario's size."""
        return PAYLOADS[self.payload](self.size)


def make_bytes(size: int) -> bytes:
    return bytes((i * 7 + 3) & 0xFF for i in range(256)) * (size // 256) + bytes(size % 256)


def make_text(size: int) -> str:
    return ("The quick brown fox jumps over the lazy dog. " * (size // 45 + 1))[:size]


def make_list(size: int) -> list[int]:
    return list(make_bytes(size))


def make_dict(size: int) -> dict[str, Any]:
    """A dict that is `size` bytes of compact JSON: an update of an order book, say."""
    value: dict[str, Any] = {"type": "update", "sequence": 81_932_441, "live": True, "note": ""}
    value["orders"] = orders = []
    number = 0
    while len(to_json(value)) < size - 96:
        number += 1
        side = "buy" if number % 2 else "sell"
        orders.append({"id": 70_000 + number, "price": 101.25 + number / 8, "side": side})
    value["note"] = "x" * (size - len(to_json(value)))
    return value


PAYLOADS = {"bytes": make_bytes, "text": make_text, "list": make_list, "dict": make_dict}

ECHO = (Way("", "echo", "/echo"),)


def receiving(size: int) -> tuple[Way, ...]:
    return (Way("", "receive", f"/flood?size={size}"),)


SCENARIOS = {
    scenario.key: scenario
    for scenario in (
        Scenario("echo-64", "echo 64 B", 64, ECHO, pure=True),
        Scenario("echo-16k", "echo 16 KiB", 16 * KIB, ECHO),
        Scenario("echo-1m", "echo 1 MiB", MIB, ECHO),
        Scenario(
            "receive-64",
            "receive 64 B",
            64,
            (
                Way("receive", "receive", "/flood?size=64"),
                Way("iterate", "receive_iterating", "/flood?size=64"),
                Way("receive_many", "receive_many", "/flood?size=64", ours_only=True),
            ),
            pure=True,
        ),
        Scenario("receive-1k", "receive 1 KiB", KIB, receiving(KIB)),
        Scenario("receive-1m", "receive 1 MiB", MIB, receiving(MIB), pure=True),
        Scenario(
            "send-64",
            "send 64 B",
            64,
            (
                Way("send", "send", "/sink"),
                Way("send_many", "send_many", "/sink", ours_only=True),
            ),
            pure=True,
        ),
        Scenario("send-1m", "send 1 MiB", MIB, (Way("", "send", "/sink"),), pure=True),
        Scenario(
            "list-64k", "list echo 64 KiB", 64 * KIB, (Way("", "echo_list", "/echo"),), "list"
        ),
        Scenario("text-1k", "text echo 1 KiB", KIB, ECHO, "text"),
        Scenario("json-1k", "JSON dict 1 KiB", KIB, (Way("", "echo_dict", "/echo"),), "dict"),
        Scenario(
            "fragmented-1m",
            "receive 1 MiB in 64 frames",
            MIB,
            (
                Way("64 frames", "receive", f"/flood?size={MIB}&fragments=64"),
                Way("whole", "receive", f"/flood?size={MIB}"),
            ),
        ),
        Scenario(
            "tls-echo-64",
            "TLS echo 64 B",
            64,
            ECHO,
            tls=True,
            quick_peers=("websockets.sync", "websocket-client"),
        ),
        Scenario(
            "tls-receive-1m",
            "TLS receive 1 MiB",
            MIB,
            receiving(MIB),
            tls=True,
            quick_peers=("websockets.sync", "websocket-client"),
        ),
        Scenario(
            "connect",
            "connect + close",
            0,
            (Way("", "connect_and_close", "/echo"),),
            most=2000,
            quick_peers=("websocket-rs", "websockets.sync", "websocket-client"),
        ),
    )
}
