"""The command line: `python -m bench`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from . import charts, cores, report, session, turns
from .compiler import SCRATCH, CompileError
from .far_end import FarEndError

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="Measure scriptling-ws against its peers."
    )
    parser.add_argument("--quick", action="store_true", help="under two minutes; indicative")
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        action="append",
        help=f"what to run ({', '.join(session.PARTS)}), or a part of it; may be given again",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="draw SVG charts into DIR")
    parser.add_argument(
        "--cores",
        choices=cores.CHOICES,
        action="append",
        help="for client and far end, see bench/cores.py; default: one and two, --quick: one",
    )
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    plan = session.QUICK if options.quick else session.FULL
    choices = options.cores or cores.possible()[: 1 if options.quick else None]
    try:
        with turns.alone():
            parts = turns.chosen(session.PARTS, options.only)
            outcome = session.run(plan, parts, choices)
    except (CompileError, FarEndError) as error:
        turns.say(str(error))
        return 1
    print(report.whole(outcome), flush=True)
    text = json.dumps(dataclasses.asdict(outcome), indent=1)
    target = options.json or SCRATCH / "result.json"
    target.write_text(text + "\n", encoding="utf-8")
    if options.charts:
        charts.draw(json.loads(text), options.charts)
    return 0


if __name__ == "__main__":
    sys.exit(main())
