"""A run of the server's benchmark: what is measured, and everything that came out."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from .. import cores, environment
from ..rounds import Contest, Plan
from ..turns import timed
from . import targets
from .contestants import CONTESTANTS, DISTRIBUTIONS
from .scenarios import SCENARIOS
from .trial import ServerScore, Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..results import Row
    from .scenarios import Scenario

FULL = Plan(generations=3, rounds=3, seconds=1.0)
QUICK = Plan(generations=1, rounds=3, seconds=0.5, quick=True)


def describe() -> dict[str, Any]:
    return environment.describe(DISTRIBUTIONS)


@dataclass
class Outcome:
    """All figures, and the judgement of each target."""

    plan: Plan
    environment: dict[str, Any] = field(default_factory=describe)
    results: dict[str, dict[str, ServerScore]] = field(default_factory=dict)
    """By scenario and the server's label."""
    targets: list[Row] = field(default_factory=list)


def run(plan: Plan, keys: Sequence[str], labels: Sequence[str]) -> Outcome:
    """Measure the servers of these labels in these scenarios."""
    outcome = Outcome(plan)
    for key in keys:
        scenario = SCENARIOS[key]
        measure = partial(run_scenario, scenario, labels, plan)
        outcome.results[key] = timed(scenario.title, measure)
    outcome.targets = targets.judged(outcome.results)
    return outcome


def run_scenario(scenario: Scenario, labels: Sequence[str], plan: Plan) -> dict[str, ServerScore]:
    contest = Contest(
        [CONTESTANTS[each] for each in labels], plan, partial(Trial, scenario), ServerScore
    )
    for label, score in contest.scores.items():
        score.absent = hindrance(scenario, label)
    return contest.run()


def hindrance(scenario: Scenario, label: str) -> str:
    """Why a server is not measured in a scenario on this machine; empty if it is."""
    contestant = CONTESTANTS[label]
    if contestant.missing():
        return "not installed"
    if contestant.work not in ("", scenario.work):
        return "left out: it knows no messages"
    if contestant.most is not None and scenario.connections > contestant.most:
        return f"left out: with more than {contestant.most:,} it does not answer within a minute"
    if scenario.choice not in (*cores.possible(), "free"):
        return "needs two cores"
    return ""
