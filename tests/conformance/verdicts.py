"""What the suite has to say about each case, and the table of what it said."""

import datetime
from collections import Counter

CASES = 517
GATE_CASES = 349
# About these the suite gives no verdict, whatever a peer does.
INFORMATIONAL = {"7.1.6", "7.13.1", "7.13.2"}
# What takes long and is told by the other cases too: the least and the greatest messages of
# the compression cases. A pattern is a prefix: 12.*.1 also means 12.*.10 to 12.*.18.
GATE_EXCLUDE = [f"{group}.*.{case}" for group in ("12", "13") for case in ("1", "6", "7", "8", "9")]
COLUMNS = ("OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED", "FAILED")


def expected(case):
    return "INFORMATIONAL" if case in INFORMATIONAL else "OK"


def deviations(run):
    """A line for each case that is not as expected, and for what ended the run early."""
    lines = [run.trouble] if run.trouble else []
    for case in run.cases:
        verdict = run.verdicts.get(case)
        if verdict is None:
            lines.append(f"{case}: no verdict")
        elif {verdict["behavior"], verdict["behaviorClose"]} != {expected(case)}:
            lines.append(describe(case, verdict, run.outcomes.get(case)))
    return lines


def describe(case, verdict, outcome):
    text = (
        f"{case}: {verdict['behavior']} ({verdict['result']}), "
        f"close {verdict['behaviorClose']} ({verdict['resultClose']}), "
        f"our close code {verdict['remoteCloseCode']}, {verdict['duration']} ms"
    )
    return text if outcome is None else f"{text}; the client saw: {outcome}"


def counts(run):
    """How many cases got each verdict: every case is in one column."""
    found = Counter(verdict["behavior"] for verdict in run.verdicts.values())
    return [found[column] for column in COLUMNS]


def summary(run):
    """One line about a run."""
    parts = [f"{count} {name}" for name, count in zip(COLUMNS, counts(run), strict=True) if count]
    found = f"{len(run.verdicts)} of {len(run.cases)} cases: {', '.join(parts)}"
    return f"{run.role}, {run.codec}, {run.engine}: {found}; {run.seconds:.0f} s"


PAGE = """\
# Conformance

`make conformance` writes this page. It runs the Autobahn testsuite against the package, as a
client and as a server, on both codecs, with compression on. A case counts as passed if both
its verdicts, on the messages and on the close, are OK; the suite gives none on {informational},
and calls these INFORMATIONAL. `make conformance-gate` runs {gate} of the {cases} cases, without
the longest of the compression cases, in both roles and on both engines, on the compiled codec.

{date}: {versions}.

| role | codec | cases | {columns} | closed as expected | seconds |
|---|---|---|{rules}---|---|
{rows}

{deviations}
"""


def page(runs):
    """The page of a whole run, in Markdown."""
    versions = {name: version for run in runs for name, version in run.versions.items()}
    found = [f"- {run.role}, {run.codec}: {line}" for run in runs for line in deviations(run)]
    return PAGE.format(
        informational=", ".join(sorted(INFORMATIONAL)),
        gate=GATE_CASES,
        cases=CASES,
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        versions=", ".join(f"{name} {version}" for name, version in versions.items()),
        columns=" | ".join(COLUMNS),
        rules="---|" * len(COLUMNS),
        rows="\n".join(row(run) for run in runs),
        deviations="\n".join(found) if found else "Nothing deviates from what is expected.",
    )


def row(run):
    closes = sum(v["behaviorClose"] == expected(case) for case, v in run.verdicts.items())
    cells = [run.role, run.codec, len(run.cases), *counts(run), closes, round(run.seconds)]
    return "| " + " | ".join(str(cell) for cell in cells) + " |"
