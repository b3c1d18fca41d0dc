"""Draws the chart of a server's result: echoes a second over active connections.

    python -m bench.server.charts RESULT.json DIRECTORY

It has a panel for each number of connections, and a panel a bar for each server.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from ..adapters import OURS
from ..charts import Bar, caption, draw_chart
from .contestants import BARE
from .scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Mapping

TITLE = "Servers: echoes of 64 bytes over active connections"
SUBTITLE = "echoes a second; longer is better; one connection on one core, else two free cores"
SHOWN = ["echo-1", "echo-4", "echo-64", "echo-1000", "echo-4000"]


def kind(label: str) -> str:
    if label == BARE:
        return "floor"
    return "ours" if label.partition(": ")[0] == OURS else "peer"


def bars(scores: Mapping[str, Mapping[str, Any]]) -> list[Bar]:
    """The bars of a panel, the longest first."""
    rates = {
        label: [value for value in score["rates"] if value is not None]
        for label, score in scores.items()
    }
    found = [
        Bar(label.replace(":", ","), median(values), kind(label))
        for label, values in rates.items()
        if values
    ]
    return sorted(found, key=lambda bar: -bar.value)


def draw(result: Mapping[str, Any], directory: Path) -> Path | None:
    """Draw the panels for whose scenarios there are results."""
    panels = [
        (SCENARIOS[key].title, found)
        for key in SHOWN
        if (found := bars(result["results"].get(key, {})))
    ]
    if not panels:
        return None
    directory.mkdir(parents=True, exist_ok=True)
    target = directory / "server.svg"
    drawing = draw_chart((TITLE, SUBTITLE, caption(result)), panels)
    target.write_text(drawing, encoding="utf-8")
    return target


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: python -m bench.server.charts RESULT.json DIRECTORY")
    print(draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])))


if __name__ == "__main__":
    main()
