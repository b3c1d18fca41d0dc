"""A run of the benchmark: what is measured in which order, and everything that came out."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import json
import sys
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from . import cores, costs, environment, kernel_targets, targets
from .adapters import LIBRARIES, PEERS
from .far_end import FarEnd
from .rounds import Contest, Plan, Process, Score
from .scenarios import SCENARIOS
from .turns import say, timed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .far_end import Address
    from .results import Row
    from .scenarios import Contestant, Scenario

FULL = Plan(generations=4, rounds=4, seconds=0.1, kernel_rounds=21, quick=False)
QUICK = Plan(generations=1, rounds=5, seconds=0.08, kernel_rounds=5, quick=True)

PARTS = [*SCENARIOS, "costs", "kernel"]


@dataclass
class Outcome:
    """All figures, and the judgement of each target."""

    plan: Plan
    environment: dict[str, Any] = field(default_factory=environment.describe)
    results: dict[str, dict[str, dict[str, Score]]] = field(default_factory=dict)
    """By the choice of cores, scenario, and contestant's label."""
    client: dict[str, list[Row]] = field(default_factory=dict)
    """By the choice of cores."""
    measured_costs: costs.Costs | None = None
    costs: list[Row] = field(default_factory=list)
    measured_kernel: list[dict[str, Any]] = field(default_factory=list)
    kernel: list[Row] = field(default_factory=list)


def run(plan: Plan, parts: Sequence[str], choices: Sequence[str]) -> Outcome:
    """Measure `parts`; with more than one choice of cores, all peers only with the first."""
    outcome = Outcome(plan)
    missing = [name for name in PEERS if LIBRARIES[name].missing()]
    if missing:
        say(f"not installed, and skipped: {', '.join(missing)}")
    keys = [part for part in parts if part in SCENARIOS]
    for choice in choices:
        narrowed = dataclasses.replace(plan, quick=plan.quick or choice != choices[0])
        with FarEnd(choice) as far_end:
            outcome.results[choice] = run_scenarios(keys, narrowed, far_end.address)
            outcome.client[choice] = judge(outcome.results[choice])
            if "costs" in parts and choice == choices[0]:
                work = partial(costs.measure, far_end.address, quick=plan.quick)
                outcome.measured_costs = timed("costs", work)
                outcome.costs = costs.judge(outcome.measured_costs)
    if "kernel" in parts:
        kernel = partial(run_kernel, plan.kernel_rounds, choices[0])
        outcome.measured_kernel = timed("kernel", kernel)
        outcome.kernel = kernel_targets.judge(outcome.measured_kernel)
    return outcome


def run_scenarios(keys: Sequence[str], plan: Plan, address: Address) -> dict[str, dict[str, Score]]:
    results = {}
    for key in keys:
        scenario = SCENARIOS[key]
        contestants = [
            contestant
            for contestant in scenario.contestants(quick=plan.quick)
            if not LIBRARIES[contestant.library].missing()
        ]
        contest = Contest(contestants, plan, partial(start, scenario, address), Score)
        name = f"{scenario.title}, {cores.CHOICES[address.choice]}"
        results[key] = timed(name, contest.run)
    return results


def start(scenario: Scenario, address: Address, contestant: Contestant) -> Process:
    """Start a contestant's process; see bench/worker.py."""
    command = [sys.executable, "-m", "bench.worker", contestant.library, scenario.key]
    command += ["--way", contestant.way.name]
    command += ["--far-end", json.dumps(dataclasses.asdict(address))]
    environment = LIBRARIES[contestant.library].environment
    return Process(command, environment, cores.for_client(address.choice))


def judge(results: dict[str, dict[str, Score]]) -> list[Row]:
    return [
        targets.judge(target, SCENARIOS[target.scenario].title, results[target.scenario])
        for target in targets.TARGETS
        if target.scenario in results
    ]


def run_kernel(rounds: int, choice: str) -> list[dict[str, Any]]:
    """The kernel's own benchmark; no rows where it is missing, or the kernel is."""
    try:
        # It prints as it goes; standard output is for the report.
        with cores.confined(cores.for_client(choice)), contextlib.redirect_stdout(sys.stderr):
            kernel = importlib.import_module("bench.kernel")
            rows: list[dict[str, Any]] = kernel.run(rounds)
    except ImportError as error:
        say(f"kernel: skipped: {error}")
        return []
    return rows
