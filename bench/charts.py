"""Draws bar charts from a result, as SVG written by hand.

    python -m bench.charts RESULT.json DIRECTORY

A chart has a panel for each scenario, and a panel a bar for each library, in the fastest
of its ways, and for each way of ours.  A bar's length is messages a second, from zero.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from . import cores, environment
from .adapters import FLOOR, OURS, PURE
from .report import rate
from .scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .scenarios import Scenario

CHARTS = {
    "summary": ("At a glance", ["echo-64", "receive-64", "receive-1m", "send-1m"]),
    "echo": ("Echo: a message there and back", ["echo-64", "echo-16k", "echo-1m"]),
    "receive": ("Receiving", ["receive-64", "receive-1k", "receive-1m", "fragmented-1m"]),
    "send": ("Sending", ["send-64", "send-1m"]),
    "objects": ("Echo of Python objects", ["list-64k", "text-1k", "json-1k"]),
    "tls": ("TLS, and connections", ["tls-echo-64", "tls-receive-1m", "connect"]),
}

SUBTITLE = "messages a second; longer is better"
FLOOR_NAME = "bare socket"
FLOOR_MOST = 1.6
"""A floor this many times the fastest library would only shrink the other bars."""

WIDTH, COLUMNS, MARGIN, GAP = 960, 2, 20, 36
LABEL, VALUE, BAR, LINE = 196, 64, 14, 21
HEAD, PANEL_HEAD, FOOT = 58, 30, 34

STYLE = """
text { font: 12px system-ui, sans-serif; fill: #24292f }
.title { font-size: 18px; font-weight: 600 }
.panel { font-size: 13px; font-weight: 600 }
.note { font-size: 11px; fill: #6e7781 }
.ours { fill: #0969da }
.pure { fill: #80b5f0 }
.peer { fill: #afb8c1 }
.floor { fill: none; stroke: #8c959f; stroke-dasharray: 3 2 }
.bold { font-weight: 600 }
.axis { stroke: #d0d7de }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .note { fill: #8d96a0 }
  .ours { fill: #4493f8 }
  .pure { fill: #2d5d9b }
  .peer { fill: #57606a }
  .axis { stroke: #3d444d }
}
"""


@dataclass(frozen=True)
class Bar:
    """One contestant."""

    label: str
    value: float
    kind: str  # "ours", "pure", "peer", "floor"


KINDS = {FLOOR: "floor", OURS: "ours", PURE: "pure"}


def bars(scenario: Scenario, scores: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    """The bars of a panel, the longest first."""
    # Ways that ask the far end for something else do not belong into one panel.
    ways = [way.name for way in scenario.ways if way.path == scenario.ways[0].path]
    best: dict[str, Bar] = {}
    for label, score in scores.items():
        library, _, way = label.partition(": ")
        rates = [value for value in score["rates"] if value is not None]
        if not rates or way not in ways:
            continue
        name = FLOOR_NAME if library == FLOOR else library
        if library == OURS and len(ways) > 1:
            name += f", {way}"
        bar = Bar(name, median(rates), KINDS.get(library, "peer"))
        best[name] = max(bar, best.get(name, bar), key=lambda each: each.value)
    fastest = max((bar.value for bar in best.values() if bar.kind != "floor"), default=0.0)
    return sorted(
        (bar for bar in best.values() if bar.kind != "floor" or bar.value <= FLOOR_MOST * fastest),
        key=lambda bar: -bar.value,
    )


def text(x: float, y: float, content: str, style: str = "", anchor: str = "start") -> str:
    return (
        f'<text x="{x:.0f}" y="{y:.0f}" class="{style}" text-anchor="{anchor}">'
        f"{escape(content)}</text>"
    )


def rectangle(x: float, y: float, length: float, kind: str) -> str:
    place = f'x="{x:.0f}" y="{y:.0f}" width="{length:.1f}" height="{BAR}"'
    return f'<rect {place} rx="2" class="{kind}"/>'


def opening_tag(width: int, height: int) -> str:
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">'


def draw_panel(x: float, y: float, width: float, title: str, found: Sequence[Bar]) -> list[str]:
    left, room = x + LABEL, width - LABEL - VALUE
    longest = max(bar.value for bar in found)
    parts = [text(x, y + 14, title, "panel")]
    top = y + PANEL_HEAD
    for number, bar in enumerate(found):
        line = top + number * LINE
        length = max(1.0, room * bar.value / longest)
        weight = "bold" if bar.kind == "ours" else ""
        parts += [
            text(left - 8, line + 11, bar.label, weight, "end"),
            rectangle(left, line, length, bar.kind),
            text(left + length + 6, line + 11, rate(bar.value), weight),
        ]
    bottom = top + len(found) * LINE - 4
    parts.append(
        f'<line x1="{left - 0.5}" y1="{top - 3}" x2="{left - 0.5}" y2="{bottom}" class="axis"/>'
    )
    return parts


def draw_chart(words: tuple[str, str, str], panels: Sequence[tuple[str, Sequence[Bar]]]) -> str:
    """A chart with its title, its subtitle and its caption."""
    title, subtitle, caption = words
    width = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS
    y = float(HEAD)
    parts = [
        text(MARGIN, 28, title, "title"),
        text(MARGIN, 46, subtitle, "note"),
    ]
    for start in range(0, len(panels), COLUMNS):
        row = panels[start : start + COLUMNS]
        for column, (name, found) in enumerate(row):
            x = MARGIN + column * (width + GAP)
            parts += draw_panel(x, y, width, name, found)
        y += PANEL_HEAD + max(len(found) for _, found in row) * LINE + 18
    parts.append(text(MARGIN, y + 6, caption, "note"))
    height = y + FOOT - 12
    return "\n".join(
        [
            opening_tag(WIDTH, round(height)),
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            *parts,
            "</svg>\n",
        ]
    )


def caption(result: Mapping[str, Any]) -> str:
    found = result["environment"]
    version = found["versions"].get(OURS, "")
    return f"{OURS} {version} ({found['implementation']}); {environment.sentence(found)}"


def draw(result: Mapping[str, Any], directory: Path) -> list[Path]:
    """Draw the charts for whose scenarios there are results, with the first choice of cores."""
    directory.mkdir(parents=True, exist_ok=True)
    choice = next(iter(result["results"]))
    results, note = result["results"][choice], f"{SUBTITLE}; {cores.CHOICES[choice]}"
    written = []
    for name, (title, keys) in CHARTS.items():
        panels = []
        for key in keys:
            found = bars(SCENARIOS[key], results.get(key, {}))
            if found:
                panels.append((SCENARIOS[key].title, found))
        if panels:
            target = directory / f"{name}.svg"
            drawing = draw_chart((title, note, caption(result)), panels)
            target.write_text(drawing, encoding="utf-8")
            written.append(target)
    return written


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python -m bench.charts RESULT.json DIRECTORY")
    result = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for path in draw(result, Path(sys.argv[2])):
        print(path)


if __name__ == "__main__":
    main()
