"""What the client is asked to reach in the scenarios, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .adapters import FLOOR, LIBRARIES, OURS, PEERS
from .results import DASH, TIMES, Row

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .rounds import Score

    Scores = Mapping[str, Score]  # by a contestant's label

BLOCKING_PEERS = [name for name in PEERS if LIBRARIES[name].blocking]

# websocket-rs and simple-websocket send their Close frame and close the socket without
# waiting for the answer, which RFC 6455 (7.1.1) asks for.
WAITING_PEERS = ["websockets.sync", "websocket-client"]


@dataclass(frozen=True)
class Target:
    """`factor` times the speed of the best of `against`, in one scenario."""

    scenario: str
    factor: float
    phrase: str  # what `against` is called
    against: Sequence[str]  # libraries; or one way of ours, "OURS: way"
    way: str = ""

    @property
    def text(self) -> str:
        """The target as the table says it."""
        return f"≥ {self.factor:g} {TIMES} {self.phrase}"


def _floor(scenario: str, factor: float) -> Target:
    return Target(scenario, factor, "the floor", [FLOOR])


def _best(scenario: str, factor: float) -> Target:
    return Target(scenario, factor, "the best Python peer", PEERS)


TARGETS = (
    _floor("echo-64", 1.0),
    _best("echo-64", 1.0),
    _floor("echo-16k", 0.97),
    Target("echo-16k", 1.05, "websocket-rs", ["websocket-rs"]),
    _floor("echo-1m", 0.92),
    Target("receive-64", 1.85, "websocket-rs", ["websocket-rs"], "receive"),
    Target("receive-64", 2.6, "websocket-rs", ["websocket-rs"], "iterate"),
    Target("receive-64", 2.6, "websocket-rs", ["websocket-rs"], "receive_many"),
    Target("receive-1k", 1.5, "picows", ["picows"]),
    Target("receive-1m", 1.0, "websocket-rs", ["websocket-rs"]),
    Target("send-64", 1.05, "websocket-rs", ["websocket-rs"], "send"),
    Target("send-64", 1.1, "a bare socket", [FLOOR], "send"),
    Target("send-64", 5.0, "one call each", [f"{OURS}: send"], "send_many"),
    Target("send-1m", 1.1, "picows", ["picows"]),
    _best("list-64k", 3.0),
    _floor("text-1k", 1.0),
    _best("text-1k", 1.0),
    _best("json-1k", 1.0),
    Target("fragmented-1m", 0.8, "unfragmented", [f"{OURS}: whole"], "64 frames"),
    Target("tls-echo-64", 1.0, "websockets.sync", ["websockets.sync"]),
    Target("tls-echo-64", 1.0, "websocket-client", ["websocket-client"]),
    Target("tls-echo-64", 0.95, "a bare SSLSocket", [FLOOR]),
    Target("tls-receive-1m", 1.0, "websockets.sync", ["websockets.sync"]),
    Target("tls-receive-1m", 1.0, "websocket-client", ["websocket-client"]),
    Target("tls-receive-1m", 0.95, "a bare SSLSocket", [FLOOR]),
    Target("connect", 1.0, "the fastest blocking peer", BLOCKING_PEERS),
    Target("connect", 1.5, "the fastest that awaits the Close", WAITING_PEERS),
)


def label(library: str, way: str) -> str:
    return f"{library}: {way}" if way else library


def opponents(target: Target, scores: Scores) -> list[str]:
    """The labels of all whom the target is about, in every way that they have."""
    return [
        name
        for name, score in scores.items()
        if score.median() is not None
        and any(name == each or name.startswith(f"{each}: ") for each in target.against)
    ]


def judge(target: Target, title: str, scores: Scores) -> Row:
    """The row of one target; the ratio is the one to the strongest opponent."""
    name = label(OURS, target.way)
    subject = f"{title}, {target.way}" if target.way else title
    ours = scores.get(name)
    if ours is None or ours.median() is None:
        why = ours.absent.partition(":")[0] if ours is not None else "not importable"
        return Row(subject, target.text, f"skipped: {why}")
    ratios = {other: ours.ratios(scores[other]) for other in opponents(target, scores)}
    if not any(ratios.values()):
        return Row(subject, target.text, "skipped: no opponent")
    strongest = min(ratios, key=lambda other: middle(ratios[other]))
    found = ratios[strongest]
    result = f"{middle(found):.2f} ({min(found):.2f}{DASH}{max(found):.2f})"
    if len(target.against) > 1:
        result += f" {strongest}"
    met = round(middle(found), 2) >= target.factor
    return Row(subject, target.text, result, met, middle(found), target.factor)


def middle(ratios: Sequence[float]) -> float:
    """The median, or endless where there is nothing to take it of."""
    ordered = sorted(ratios)
    if not ordered:
        return float("inf")
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
