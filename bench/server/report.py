"""The tables of a server's run, as Markdown: the targets first, then all figures."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from ..report import DISTURBED, FAR_END_LIMITS, head, rate, table, targets
from ..results import DASH
from .contestants import BARE, CONTESTANTS
from .scenarios import CORES, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .session import Outcome
    from .targets import Results
    from .trial import ServerScore


LIMITED = "(With an asterisk: the load was busy all the time, and the limit.)"


def whole(outcome: Outcome) -> str:
    """The report."""
    results = outcome.results
    sections = [head(outcome.environment, outcome.plan), disturbance(results)]
    if outcome.targets:
        sections.append(targets("server", outcome.targets))
    sections += [*tables(results).values(), absences(results)]
    return "\n\n".join(section for section in sections if section)


def tables(results: Results) -> dict[str, str]:
    """All figures, by what they are; empty where there is nothing to say."""
    return {
        "rates": _figures("echoes or opens a second", results, _rate),
        "limited": LIMITED if _any_limited(results) else "",
        "ratios": _ratios(results),
        "p50": _figures("latency, median", results, lambda score: _duration(score.p50)),
        "p99": _figures("latency, 99th percentile", results, lambda score: _duration(score.p99)),
        "served": _figures("connections answered within the time", results, _served),
        "cpu": _figures("server's µs of processor time an echo or opening", results, _cpu),
        "load": _figures("load's share of the time", results, _load),
    }


def disturbance(results: Results) -> str:
    """A warning where other programs had a part of a core."""
    lost = {
        key: median(found)
        for key, scores in results.items()
        if (found := [each for score in scores.values() for each in score.others])
    }
    parts = [
        f"{SCENARIOS[key].title}: {share:.0%}" for key, share in lost.items() if share > DISTURBED
    ]
    if not parts:
        return ""
    return "Disturbed: other programs had this part of a core meanwhile: " + "; ".join(parts)


def _figures(title: str, results: Results, show: Callable[[ServerScore], str]) -> str:
    """One figure for each server (columns) and scenario (rows)."""
    labels = [name for name in CONTESTANTS if any(name in scores for scores in results.values())]
    rows = []
    for key, scores in results.items():
        measured = [scores.get(name) for name in labels]
        rows.append(
            [
                SCENARIOS[key].title,
                CORES[SCENARIOS[key].choice],
                *(show(score) if score and score.measured() else DASH for score in measured),
            ]
        )
    return table([title, "", *labels], rows)


def _ratios(results: Results) -> str:
    """How every server does against bare threads, round by round."""
    found = {
        id(score): score.ratios(scores[BARE])
        for scores in results.values()
        if BARE in scores
        for score in scores.values()
    }
    if not found:
        return ""
    return _figures(f"ratio to {BARE}", results, lambda score: _span(found.get(id(score), [])))


def _span(values: Sequence[float]) -> str:
    if not values:
        return DASH
    return f"{median(values):.2f} ({min(values):.2f}{DASH}{max(values):.2f})"


def _rate(score: ServerScore) -> str:
    return rate(median(score.measured())) + ("*" if _limited(score) else "")


def _limited(score: ServerScore) -> bool:
    return median(score.far_end_share) >= FAR_END_LIMITS


def _any_limited(results: Results) -> bool:
    return any(
        score.measured() and _limited(score)
        for scores in results.values()
        for score in scores.values()
    )


def _duration(microseconds: Sequence[float]) -> str:
    value = median(microseconds)
    if value < 1e3:
        return f"{value:.0f} µs"
    return f"{value / 1e3:.1f} ms" if value < 1e5 else f"{value / 1e3:.0f} ms"


def _served(score: ServerScore) -> str:
    return f"{median(score.served):.0%}"


def _cpu(score: ServerScore) -> str:
    return f"{median(score.cpu) * 1e6:.1f}"


def _load(score: ServerScore) -> str:
    return f"{median(score.far_end_share):.0%}"


def absences(results: Results) -> str:
    """Which server could not be measured in which scenario, and why."""
    return "\n".join(
        f"- {SCENARIOS[key].title}: {name}: {score.absent}"
        for key, scores in results.items()
        for name, score in scores.items()
        if score.absent
    )
