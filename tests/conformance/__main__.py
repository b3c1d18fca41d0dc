"""The command line: `python -m conformance`, in the folder tests."""

import argparse
import itertools
import sys
from pathlib import Path

from . import runs, suite, verdicts

PAGE = Path(__file__).parent.parent.parent / "docs" / "conformance.md"


def parse():
    parser = argparse.ArgumentParser(
        prog="python -m conformance",
        description="Run the Autobahn testsuite; all of it writes docs/conformance.md.",
    )
    parser.add_argument(
        "--gate",
        action="store_true",
        help="the short run, on the compiled codec and each engine; skipped where there is no "
        "CPython 2.7",
    )
    parser.add_argument("--role", choices=runs.ROLES, action="append", help="default: both")
    parser.add_argument("--codec", choices=runs.CODECS, action="append", help="default: both")
    parser.add_argument("--engine", choices=runs.ENGINES, action="append", help="default: threads")
    parser.add_argument(
        "--case", metavar="PATTERN", action="append", help="such as 9.* or 7.1.5; default: all"
    )
    return parser.parse_args()


def main():
    options = parse()
    try:
        suite.install()
    except suite.NoPython27:
        print("The Autobahn testsuite needs CPython 2.7 (PYTHON27=…), and there is none.")
        if options.gate:
            print("conformance-gate: SKIPPED")
        return 0 if options.gate else 1
    exclude = verdicts.GATE_EXCLUDE if options.gate else []
    codecs = options.codec or (["compiled"] if options.gate else runs.CODECS)
    done, good = [], True
    engines = options.engine or (runs.engines() if options.gate else ["threads"])
    for codec, engine, role in itertools.product(codecs, engines, options.role or runs.ROLES):
        run = runs.run(role, codec, options.case or ["*"], exclude, engine)
        if not options.case:
            check_count(run, verdicts.GATE_CASES if options.gate else verdicts.CASES)
        done.append(run)
        good = tell(run) and good
    some = options.case or options.role or options.codec or options.engine
    if not (options.gate or some):
        PAGE.write_text(verdicts.page(done), encoding="utf-8")
        print(f"written: docs/{PAGE.name}")
    return 0 if good else 1


def check_count(run, count):
    if len(run.cases) != count and not run.trouble:
        run.trouble = f"the suite has {len(run.cases)} cases for this, not {count}"


def tell(run):
    """Print what came out, and return whether it is as expected."""
    lines = verdicts.deviations(run)
    print("\n  ".join([verdicts.summary(run), *lines]), flush=True)
    return not lines


if __name__ == "__main__":
    sys.exit(main())
