"""Memory, growth and import time: runs the probes, and judges what they say."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from . import cores
from .adapters import FLOOR, LIBRARIES, OURS, PEERS, PURE
from .probes import GROWTH_FORMS, IDLE_CONNECTIONS, MEMORY_SIZE
from .results import MINUS, TIMES, Row
from .scenarios import KIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .far_end import Address

SPARE = 512 * KIB
IDLE_MOST = 12 * KIB
GROWTH_MOST = 4.0
"""What caches and page faults may cost, which a bare socket pays as well; a cost that is
quadratic would be 4096."""
IMPORT_MOST = 1.25
IMPORTS = {"ours": "scriptling_ws", "standard": "socket, ssl, json, zlib"}

MEMORY_PROBES = {
    "receive-bytes": "receive 16 MiB, bytes",
    "receive-list": "receive 16 MiB, list",
    "send-bytes": "send 16 MiB, bytes",
    "idle": "an idle connection",
}


@dataclass
class Costs:
    """What the probes said; None, or a missing key, where one failed."""

    memory: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    """By probe, library and gauge: bytes."""
    growth: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    """By library, form and size: nanoseconds a byte."""
    imports: dict[str, list[float]] = field(default_factory=dict)
    """By what is imported: seconds, run by run."""


def is_compiled() -> bool:
    try:
        return importlib.util.find_spec("scriptling_ws._wsframe") is not None
    except ModuleNotFoundError:
        return False


def ours() -> list[str]:
    """The implementations of our library that can be measured here."""
    if LIBRARIES[OURS].missing():
        return []
    return [OURS, PURE] if is_compiled() else [PURE]


def measure(address: Address, *, quick: bool) -> Costs:
    costs = Costs()
    libraries = ours() + ([] if quick else [name for name in PEERS if _probed(name)])
    for probe in MEMORY_PROBES:
        costs.memory[probe] = _memory(probe, libraries, address)
    for library in [FLOOR, *ours()[: 1 if quick else None]]:
        found = _probe("growth", library, address)
        if found is not None:
            costs.growth[library] = found
    if ours():
        costs.imports = _import_times(5 if quick else 15, address.choice)
    return costs


def _probed(library: str) -> bool:
    return not LIBRARIES[library].missing() and LIBRARIES[library].blocking


def _memory(probe: str, libraries: list[str], address: Address) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for library in libraries:
        if library in PEERS and probe == "receive-list":
            continue
        for gauge in ("traced", "resident"):
            value = _probe(probe, library, address, gauge)
            if value is not None:
                found.setdefault(library, {})[gauge] = value
    return found


def _probe(probe: str, library: str, address: Address, gauge: str = "resident") -> Any:
    """The result of one probe, or None, with a word about it, where it failed."""
    command = [sys.executable, "-m", "bench.probes", probe, library, "--gauge", gauge]
    command += ["--far-end", json.dumps(dataclasses.asdict(address))]
    environment = {**os.environ, **LIBRARIES[library].environment}
    with cores.confined(cores.for_client(address.choice)):
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=180, env=environment, check=True
            )
        except subprocess.SubprocessError as error:
            said = getattr(error, "stderr", None) or str(error)
            last = said.strip().splitlines()[-1]
            print(f"{library}, {probe}: failed: {last}", file=sys.stderr)
            return None
    return json.loads(done.stdout)


def _import_times(runs: int, choice: str) -> dict[str, list[float]]:
    """Seconds for each import in processes of their own, by turns; the first is not kept."""
    times: dict[str, list[float]] = {name: [] for name in IMPORTS}
    clock = "from time import perf_counter as now; a = now(); import {}; print(now() - a)"
    with cores.confined(cores.for_client(choice)):
        for run in range(runs + 1):
            for name, modules in IMPORTS.items():
                command = [sys.executable, "-c", clock.format(modules)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                if run:
                    times[name].append(float(done.stdout))
    return times


def judge(costs: Costs) -> list[Row]:
    return [*_memory_rows(costs), *_growth_rows(costs), _import_row(costs)]


def _memory_rows(costs: Costs) -> list[Row]:
    compiled, pure = "compiled", "pure"
    return [
        _peak_row(costs, "receive-bytes", OURS, compiled, 1),
        _peak_row(costs, "receive-list", OURS, compiled, 9),
        _peak_row(costs, "receive-bytes", PURE, pure, 2),
        _peak_row(costs, "send-bytes", OURS, compiled, 0),
        _peak_row(costs, "send-bytes", PURE, pure, 0),
        _idle_row(costs),
    ]


def _peak_row(costs: Costs, probe: str, library: str, kind: str, factor: int) -> Row:
    """A peak of `factor` times the message and what is spared for buffers."""
    subject = f"{MEMORY_PROBES[probe]}, {kind}"
    multiple = {0: "", 1: "n + "}.get(factor, f"{factor} n + ")
    target = f"peak ≤ {multiple}512 KiB"
    found = costs.memory.get(probe, {}).get(library)
    if not found:
        return Row(subject, target, "skipped: not measured")
    excess = {gauge: value - factor * MEMORY_SIZE for gauge, value in found.items()}
    said = ", ".join(f"{multiple}{value / KIB:.0f} KiB {gauge}" for gauge, value in excess.items())
    worst = max(excess.values())
    return Row(subject, target, said.replace("+ -", f"{MINUS} "), worst <= SPARE, worst, SPARE)


def _idle_row(costs: Costs) -> Row:
    subject, target = MEMORY_PROBES["idle"], "≤ 12 KiB of objects and buffers"
    found = costs.memory.get("idle", {}).get(OURS)
    if not found:
        return Row(subject, target, "skipped: not measured")
    said = ", ".join(f"{value / KIB:.1f} KiB {gauge}" for gauge, value in found.items())
    said += f" (mean of {IDLE_CONNECTIONS})"
    return Row(subject, target, said, found["traced"] <= IDLE_MOST, found["traced"], IDLE_MOST)


def _growth_rows(costs: Costs) -> list[Row]:
    library = next((name for name in (OURS, PURE) if name in costs.growth), None)
    return [_growth_row(costs, form, library) for form in GROWTH_FORMS]


def _growth_row(costs: Costs, form: str, library: str | None) -> Row:
    subject = f"time per byte, {form}"
    target = f"flat: ≤ {GROWTH_MOST:g} {TIMES} the smallest size's"
    if library is None or FLOOR not in costs.growth:
        return Row(subject, target, "skipped: not measured")
    ours, floor = costs.growth[library][form], costs.growth[FLOOR][form]
    grown = _grown(ours)
    said = f"{grown:.2f}: {_series(ours)} ns (bare socket {_grown(floor):.2f}: {_series(floor)} ns)"
    return Row(subject, target, said, grown <= GROWTH_MOST, grown, GROWTH_MOST)


def _grown(times: Mapping[str, float]) -> float:
    """The slowest size against the smallest."""
    values = list(times.values())
    return max(values) / values[0]


def _series(times: Mapping[str, float]) -> str:
    return ", ".join(
        f"{size} {value:.2f}" if value < 10 else f"{size} {value:.0f}"
        for size, value in times.items()
    )


def _import_row(costs: Costs) -> Row:
    subject = "import scriptling_ws"
    target = f"≤ {IMPORT_MOST:g} {TIMES} import socket, ssl, json, zlib"
    if not costs.imports:
        return Row(subject, target, "skipped: not importable")
    ours, standard = costs.imports["ours"], costs.imports["standard"]
    ratio = median(a / b for a, b in zip(ours, standard, strict=True))
    said = f"{ratio:.2f}: {median(ours) * 1e3:.1f} ms against {median(standard) * 1e3:.1f} ms"
    return Row(subject, target, said, round(ratio, 2) <= IMPORT_MOST, ratio, IMPORT_MOST)
