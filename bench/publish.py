"""Puts the figures of a run into the pages: nobody copies them by hand.

    python -m bench.publish [--client FULL.json] [--server SERVER.json]... [--check]

- A page has places, from `<!-- figures: NAME -->` on; their text is written anew. They end at
  `<!-- end of figures -->`.
- docs/performance.md has the tables, each from a result: of `python -m bench` (`--client`) and of
  `python -m bench.server` (`--server`; of several, a later one replaces the scenarios that it has).
  Without a result its tables stay as they are.
- The README has a few figures of these tables, taken from docs/performance.md: of the same run.
- `--check` writes nothing, and fails if the README has other figures than that page.

What a table means is in the text around it, which is nobody's but a writer's: which targets were
missed, and why.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import report, session
from .adapters import FLOOR, OURS, PURE
from .results import DASH, TIMES, Row
from .rounds import Plan, Score
from .scenarios import SCENARIOS
from .server import report as server_report
from .server import targets as server_targets
from .server.scenarios import SCENARIOS as SERVER_SCENARIOS
from .server.trial import ServerScore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Table = Mapping[str, Mapping[str, str]]  # cells by the row's name, and by the column's

ROOT = Path(__file__).resolve().parent.parent
PAGE, README = ROOT / "docs" / "performance.md", ROOT / "README.md"
PLACE = re.compile(r"(<!-- figures: ([\w-]+) -->\n)(.*?)(<!-- end of figures -->)", re.S)
WIDTH = 110
UNITS = {"": 1.0, "k": 1e3, "M": 1e6}
AHEAD = 1.05
"""A library is called faster from this ratio on: medians of one run scatter by some per cent."""


# -- the places of a page ------------------------------------------------------


def filled(text: str, parts: Mapping[str, str]) -> str:
    """A page with these parts in their places, each of which has to be there."""
    missing = set(parts) - {found[2] for found in PLACE.finditer(text)}
    if missing:
        raise SystemExit(f"no page has a place for the figures of: {', '.join(sorted(missing))}")

    def part(found: re.Match[str]) -> str:
        inner = parts.get(found[2])
        return found[0] if inner is None else f"{found[1]}\n{inner.strip()}\n\n{found[4]}"

    return PLACE.sub(part, text)


def place(text: str, name: str) -> str:
    """What is in a place."""
    for found in PLACE.finditer(text):
        if found[2] == name:
            return found[3].strip()
    raise SystemExit(f"docs/performance.md has no place for the figures of {name!r}")


def squeezed(text: str) -> str:
    """Tables without the blanks that line their columns up: a page is not read in columns."""
    return re.sub(r"-{3,}(?=\|)", "---", re.sub(r" {2,}\|", " |", text.replace("|--", "|---")))


# -- docs/performance.md -------------------------------------------------------


def of_client(result: Mapping[str, Any]) -> dict[str, str]:
    """The parts that come from a result of `python -m bench`."""
    for found in result["results"].values():
        complete(found, SCENARIOS)
    results = {
        choice: {
            key: {label: Score(**score) for label, score in scores.items()}
            for key, scores in scenarios.items()
        }
        for choice, scenarios in result["results"].items()
    }
    parts = {
        "measured": "\n".join(
            wrapped(each)
            for each in report.head(result["environment"], Plan(**result["plan"])).splitlines()
        ),
        "targets": report.client({choice: session.judge(of) for choice, of in results.items()}),
        "kernel-targets": report.targets("kernel", rows(result["kernel"])),
        "costs": report.targets("memory and cost growth", rows(result["costs"])),
    }
    for choice, scenarios in results.items():
        _, *tables = report.figures(choice, scenarios)
        parts[f"client-{choice}"] = "\n\n".join(
            table for table in tables if table and not table.startswith("| far end's")
        )
    return {name: squeezed(part) for name, part in parts.items()}


def rows(found: Iterable[Mapping[str, Any]]) -> list[Row]:
    return [Row(**row) for row in found]


def of_server(found: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The parts that come from results of `python -m bench.server`."""
    results = {
        key: {label: ServerScore(**score) for label, score in scores.items()}
        for result in found
        for key, scores in result["results"].items()
    }
    complete(results, SERVER_SCENARIOS)
    tables = server_report.tables(results)
    shown = ("rates", "limited", "p99", "cpu")
    return {
        "server-targets": squeezed(report.targets("server", server_targets.judged(results))),
        "server": squeezed("\n\n".join(tables[name] for name in shown if tables[name])),
    }


# -- the README ----------------------------------------------------------------


def table(text: str, title: str) -> Table:
    """The table of a text whose first column is called so, or begins so."""
    block = re.search(rf"^\| {re.escape(title)}.*\n(?:\|.*\n?)+", text, re.M)
    if block is None:
        raise SystemExit(f"docs/performance.md has no table of {title!r}")
    heading, _, *lines = (
        [cell.strip() for cell in line.strip("|").split("|")] for line in block[0].splitlines()
    )
    return {line[0]: dict(zip(heading, line, strict=True)) for line in lines}


def number(cell: str) -> float:
    """What a cell says: `4.87 M`, `35.7 k*`, `8584`; 0 for a dash."""
    found = re.match(r"([\d.]+) ?([kM]?)", cell)
    return float(found[1]) * UNITS[found[2]] if found else 0.0


def fastest(row: Mapping[str, str], *without: str) -> str:
    """The column of the largest number, beside those of this package and what knows no frames."""
    ours = (FLOOR, PURE, "bare threads", "bare gevent", *without)
    others = [name for name in row if not name.startswith(OURS) and name not in ours]
    return max(others, key=lambda name: number(row[name]))


def of_readme(page: str) -> str:
    """A few lines of the tables, and where others are faster."""
    client = table(place(page, "client-one") + "\n", "messages a second")
    server = table(place(page, "server") + "\n", "echoes or opens a second")
    # Who has no iteration is called, or calls back.
    receiving = {
        name: client["receive 64 B, receive"][name] if cell == DASH else cell
        for name, cell in client["receive 64 B, iterate"].items()
    }
    echo, many = client["echo 64 B"], server["echo, 1,000 active"]
    apart = table(place(page, "client-two") + "\n", "messages a second")["echo 64 B"]
    threads, gevent = (least(many[f"{OURS}: {engine}"]) for engine in ("threads", "gevent"))
    both = f"{threads} with threads, {gevent} with gevent"
    lines = [
        ["receiving messages of 64 bytes", receiving[OURS], *others(receiving, FLOOR)],
        ["an echo of 64 bytes, one at a time", echo[OURS], *others(echo, FLOOR)],
        ["the same, client and server on a core each", apart[OURS], *others(apart, FLOOR)],
        ["a server's echoes, 1,000 connections", both, *others(many, "bare threads")],
    ]
    heading = ["a second", OURS, "bare sockets, no frames", "fastest other", "websockets.sync"]
    return "\n\n".join(
        [
            squeezed(report.table(heading, lines)),
            wrapped(ahead(client)),
            wrapped(when(place(page, "measured"))),
        ]
    )


def least(cell: str) -> str:
    """A cell without its asterisk, which no text would explain: the far end was the limit."""
    return f"over {cell.removesuffix('*')}" if cell.endswith("*") else cell


def wrapped(sentence: str) -> str:
    return textwrap.fill(sentence, WIDTH, break_on_hyphens=False)


def others(row: Mapping[str, str], floor: str) -> list[str]:
    """The cells of the others: the floor, the fastest library, and the most used blocking one."""
    best = fastest(row)
    return [least(row[floor]), f"{least(row[best])} {best}", least(row["websockets.sync"])]


def ahead(client: Table) -> str:
    """In which rows another library is faster, and how much."""
    found = []
    for title, row in client.items():
        best = fastest(row)
        if number(row[OURS]) and number(row[best]) >= AHEAD * number(row[OURS]):
            ratio = number(row[best]) / number(row[OURS])
            found.append(f"{title} ({best}, {ratio:.2f}{TIMES})")
    if not found:
        return f"In none of the client's {len(client)} rows another library is faster."
    return f"Others are faster in {len(found)} of the client's {len(client)} rows: " + (
        "; ".join(found) + "."
    )


def when(measured: str) -> str:
    """The first sentence of what was measured with, and how to read it."""
    first = measured.partition(".\n")[0].replace("\n", " ")
    return (
        f"{first}; a client and a neutral server in C on one core, but for the third row; a server "
        "and its load on two. "
        "[All figures, and what they mean](docs/performance.md); `make bench` measures again."
    )


# -- the command ---------------------------------------------------------------


def result(path: Path) -> dict[str, Any]:
    """A result that may be published: a quick one is not."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if found["plan"]["quick"]:
        raise SystemExit(f"{path} is of a quick run, which is only indicative: run all of it")
    return found


def complete(results: Mapping[str, object], scenarios: Iterable[str]) -> None:
    """Refuse results that would leave rows out of a table."""
    missing = [key for key in scenarios if key not in results]
    if missing:
        raise SystemExit(f"the results lack {', '.join(missing)}: run these too, without --only")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.publish", description="Put figures into docs/ and the README."
    )
    parser.add_argument("--client", type=Path, metavar="FILE", help="a result of python -m bench")
    parser.add_argument(
        "--server", type=Path, metavar="FILE", action="append", help="of python -m bench.server"
    )
    parser.add_argument("--check", action="store_true", help="fail if the README is not up to date")
    options = parser.parse_args(arguments)
    page, readme = PAGE.read_text(encoding="utf-8"), README.read_text(encoding="utf-8")
    parts = of_client(result(options.client)) if options.client else {}
    if options.server:
        parts |= of_server([result(path) for path in options.server])
    page = filled(page, parts)
    filled_readme = filled(readme, {"readme": of_readme(page)})
    if options.check:
        if filled_readme != readme:
            print("README.md has other figures than docs/performance.md: python -m bench.publish")
        return int(filled_readme != readme)
    PAGE.write_text(page, encoding="utf-8")
    README.write_text(filled_readme, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
