"""The command line: `python -m bench.server`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .. import turns
from ..compiler import SCRATCH, CompileError, compiled
from . import charts, report, session
from .contestants import CONTESTANTS
from .scenarios import SCENARIOS
from .trial import LOAD

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..rounds import Plan


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.server", description="Measure scriptling-ws' server and its peers."
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds; indicative")
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        action="append",
        help=f"what to run ({', '.join(SCENARIOS)}), or a part of it; may be given again",
    )
    parser.add_argument(
        "--servers",
        metavar="PATTERN",
        action="append",
        help=f"who takes part ({', '.join(CONTESTANTS)}), or a part of it; may be given again",
    )
    parser.add_argument("--generations", type=int, help="how often all processes are started")
    parser.add_argument("--rounds", type=int, help="rounds in each generation")
    parser.add_argument("--seconds", type=float, help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="draw an SVG chart into DIR")
    return parser.parse_args(arguments)


def plan_of(options: argparse.Namespace) -> Plan:
    plan = session.QUICK if options.quick else session.FULL
    asked = {name: getattr(options, name) for name in ("generations", "rounds", "seconds")}
    return dataclasses.replace(plan, **{name: value for name, value in asked.items() if value})


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    keys = turns.chosen(SCENARIOS, options.only)
    labels = turns.chosen(CONTESTANTS, options.servers)
    if not keys or not labels:
        turns.say("nothing to measure: see --help for the names that --only and --servers know")
        return 2
    try:
        compiled(LOAD)
    except CompileError as error:
        turns.say(str(error))
        return 1
    with turns.alone():
        outcome = session.run(plan_of(options), keys, labels)
    print(report.whole(outcome), flush=True)
    text = json.dumps(dataclasses.asdict(outcome), indent=1)
    target = options.json or SCRATCH / "server.json"
    target.write_text(text + "\n", encoding="utf-8")
    if options.charts:
        charts.draw(json.loads(text), options.charts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
