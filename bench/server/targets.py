"""What the server is asked to reach, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from ..adapters import OURS
from ..results import DASH, Row
from ..targets import Target, judge, label
from .contestants import BARE, BARE_GEVENT
from .scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .trial import ServerScore

    Results = Mapping[str, Mapping[str, ServerScore]]  # by scenario and label


@dataclass(frozen=True)
class Latency:
    """A bound of the 99th percentile, in milliseconds."""

    scenario: str
    most: float
    way: str


def _bare(scenario: str, factor: float, more: str = "") -> Target:
    return Target(scenario, factor, BARE + more, [BARE], "threads")


GATE = ", with a gate"

TARGETS: tuple[Target | Latency, ...] = (
    _bare("echo-1", 0.93),
    _bare("echo-64", 0.8),
    _bare("echo-64", 1.0, GATE),
    _bare("echo-1000", 0.4),
    _bare("echo-1000", 1.0, GATE),
    _bare("echo-4000", 3.0, GATE),
    Latency("echo-1000", 100, "threads"),
    _bare("pinned-64", 0.75),
    _bare("pinned-1000", 0.8),
    _bare("opens", 0.57),
    Target("opens", 1.6, "websockets.sync", ["websockets.sync"], "threads"),
    Target("echo-64", 0.75, "picows", ["picows"], "gevent"),
    Target("echo-1000", 0.85, "picows", ["picows"], "gevent"),
    Target("echo-4000", 0.85, "picows", ["picows"], "gevent"),
    Target("echo-1000", 40, "websockets.sync", ["websockets.sync"], "gevent"),
    Target("opens", 0.7, BARE_GEVENT, [BARE_GEVENT], "gevent"),
    Target("opens", 2, "websockets.sync", ["websockets.sync"], "gevent"),
)


def judged(results: Results) -> list[Row]:
    """The rows of the targets whose scenario was measured."""
    return [
        _judge(target, results[target.scenario]) for target in TARGETS if target.scenario in results
    ]


def _judge(target: Target | Latency, scores: Mapping[str, ServerScore]) -> Row:
    title = SCENARIOS[target.scenario].title
    return (
        judge(target, title, scores)
        if isinstance(target, Target)
        else _judge_latency(target, title, scores)
    )


def _judge_latency(target: Latency, title: str, scores: Mapping[str, ServerScore]) -> Row:
    subject, bound = f"p99: {title}, {target.way}", f"≤ {target.most:g} ms"
    score = scores.get(label(OURS, target.way))
    if score is None or not score.p99:
        return Row(subject, bound, "skipped: not measured")
    found = [value / 1000 for value in score.p99]
    result = f"{median(found):.0f} ({min(found):.0f}{DASH}{max(found):.0f}) ms"
    value = median(found)
    return Row(subject, bound, result, value <= target.most, value, target.most)
