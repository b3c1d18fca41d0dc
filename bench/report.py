"""The tables, as Markdown: the targets first, then all figures."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Any

from . import cores, environment, kernel_targets
from .adapters import FLOOR, LIBRARIES
from .results import DASH
from .scenarios import KIB, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .results import Row
    from .rounds import Plan, Score
    from .session import Outcome

    Results = Mapping[str, Mapping[str, Score]]  # by scenario and label

DISTURBED = 0.05
SMALL = 64 * KIB
FAR_END_LIMITS = 0.9
"""The share of its core from which on the far end is what limits."""


def whole(outcome: Outcome) -> str:
    """The report."""
    sections = [head(outcome.environment, outcome.plan)]
    sections += [disturbance(outcome.results.get("one", {}))]
    if any(outcome.client.values()):
        sections.append(client(outcome.client))
    if outcome.kernel:
        sections.append(targets("kernel", outcome.kernel))
    if outcome.costs:
        sections.append(targets("memory and cost growth", outcome.costs))
    for choice, results in outcome.results.items():
        if results:
            sections += figures(choice, results)
    if outcome.measured_kernel:
        sections.append(plain(kernel_targets.figures(outcome.measured_kernel)))
    return "\n\n".join(section for section in sections if section)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
        for row in cells
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def head(found: Mapping[str, Any], plan: Plan) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in found["versions"].items())
    return (
        f"{environment.sentence(found)}.\n{found['openssl']}; {versions}.\n"
        f"Medians of {plan.generations * plan.rounds} rounds of {plan.seconds:g} s; "
        "ratios are taken round by round, in brackets the least and the greatest."
    )


def client(rows: Mapping[str, Sequence[Row]]) -> str:
    """The client's targets, with a result for each choice of cores."""
    titles = ["client", "target"]
    for choice in rows:
        titles += [cores.CHOICES[choice], ""]
    lines = []
    for together in zip(*rows.values(), strict=True):
        line = [together[0].subject, together[0].target]
        for row in together:
            line += [row.result, row.mark]
        lines.append(line)
    return table(titles, lines)


def targets(title: str, rows: Iterable[Row]) -> str:
    return table(
        [title, "target", "result", ""],
        [[row.subject, row.target, row.result, row.mark] for row in rows],
    )


def plain(rows: Sequence[Mapping[str, str]]) -> str:
    """A table of rows that name their columns."""
    return table(list(rows[0]), [list(row.values()) for row in rows])


def figures(choice: str, results: Results) -> list[str]:
    """All libraries' figures, with one choice of cores."""
    sections = [
        f"All figures, {cores.CHOICES[choice]}:",
        _figures("messages a second", results, lambda score: _rate(score, choice)),
        _figures("client's µs of processor time a message", results, _cpu),
        _figures("far end's share of the time", results, _far_end),
        absences(results),
    ]
    if choice == "two":
        sections.insert(1, "(With an asterisk: the far end was busy all the time, and the limit.)")
    return sections


def _rate(score: Score, choice: str) -> str:
    value = score.median()
    if value is None:
        return ""
    limited = choice == "two" and median(score.far_end_share) >= FAR_END_LIMITS
    return rate(value) + ("*" if limited else "")


def rate(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    return f"{value / 1e3:.1f} k" if value >= 1e4 else f"{value:.0f}"


def _cpu(score: Score) -> str:
    if not score.cpu:
        return ""
    micro = median(score.cpu) * 1e6
    return f"{micro:.3f}" if micro < 1 else f"{micro:.1f}" if micro < 100 else f"{micro:.0f}"


def _far_end(score: Score) -> str:
    return f"{median(score.far_end_share):.0%}" if score.far_end_share else ""


def _figures(title: str, results: Results, show: Callable[[Score], str]) -> str:
    """One figure for each library (columns), scenario and way (rows)."""
    shown = {
        (key, label): show(score)
        for key, scores in results.items()
        for label, score in scores.items()
    }
    taking_part = {label.partition(": ")[0] for (_, label), figure in shown.items() if figure}
    libraries = [name for name in LIBRARIES if name in taking_part]
    rows = []
    for key in results:
        for way in SCENARIOS[key].ways:
            suffix = f": {way.name}" if way.name else ""
            row = [SCENARIOS[key].title + suffix.replace(":", ",")]
            row += [shown.get((key, name + suffix)) or DASH for name in libraries]
            rows.append(row)
    return table([title, *libraries], rows)


def disturbance(results: Results) -> str:
    """A warning where a core did other work than the client's and the far end's.

    Where the two take turns on one core, their processor times make up all the time; save
    for large messages, part of whose way through the kernel is charged to neither.
    """
    lost = {}
    for key, scores in results.items():
        score, scenario = scores.get(FLOOR), SCENARIOS[key]
        if score is None or not score.cpu or scenario.ways[0].path != "/echo":
            continue
        if scenario.size > SMALL:
            continue
        used = zip(score.cpu, score.measured(), score.far_end_share, strict=True)
        lost[scenario.title] = 1 - median(cpu * rate + share for cpu, rate, share in used)
    parts = [f"{title} {share:.0%}" for title, share in lost.items() if share > DISTURBED]
    if not parts:
        return ""
    return (
        "Disturbed: something else ran on the core meanwhile, for this part of the time: "
        + ", ".join(parts)
    )


def absences(results: Results) -> str:
    """Who did not take part, and why: each once."""
    said: dict[str, list[str]] = {}
    for key, scores in results.items():
        for label, score in scores.items():
            if score.absent and score.absent != "no such workload":
                said.setdefault(f"{label.partition(': ')[0]}: {score.absent}", []).append(key)
    return "\n".join(f"- {why} ({', '.join(dict.fromkeys(keys))})" for why, keys in said.items())
