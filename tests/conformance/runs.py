"""One run: a role, a codec and the cases; two processes, and a verdict for each case.

- Ports are the system's choice, on the loopback.
- No process outlives its run: each is ended by force if it has to be, and ends itself when
  this one is gone.
- The suite tells of no failure by its exit status, and may stop early or wait for ever: what
  counts is a verdict for every case, and every wait has a deadline.
"""

import json
import os
import shutil
import time
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from processes import Process, python_environment

from . import suite

HERE = Path(__file__).parent
OUT = HERE.parent.parent / "out" / "conformance"
ROLES = ("client", "server")
CODECS = ("compiled", "pure")
ENGINES = ("threads", "gevent")
CASE_TIMEOUT = 180  # the longest case takes some 10 s on the pure codec
END_TIMEOUT = 120  # the suite writes its report


@dataclass
class Run:
    """What came out."""

    role: str
    codec: str
    engine: str = "threads"
    cases: list = field(default_factory=list)
    verdicts: dict = field(default_factory=dict)
    outcomes: dict = field(default_factory=dict)  # a client's view, by case
    versions: dict = field(default_factory=dict)
    seconds: float = 0.0
    trouble: str = ""  # what kept it from its end


def engines():
    """Those that can be had here."""
    return [name for name in ENGINES if name == "threads" or find_spec(name)]


def run(role, codec, cases, exclude, engine="threads"):
    """Run the cases with this package in that role."""
    result = Run(role, codec, engine)
    spec = {
        "cases": cases,
        "exclude-cases": exclude,
        "outdir": str(OUT / "-".join([role, codec, engine])),
    }
    start = time.monotonic()
    try:
        (as_client if role == "client" else as_server)(result, spec)
    except AssertionError as error:  # a Process that said nothing, or ended early
        result.trouble = str(error)
    result.seconds = time.monotonic() - start
    return result


def as_client(result, spec):
    with fuzzer({**spec, "role": "server"}) as server:
        url = f"ws://127.0.0.1:{begin(result, server)['port']}"
        with testee(result, "client", url, str(len(result.cases))) as client:
            check_codec(result, client.report())
            for case in result.cases:
                result.outcomes[case] = client.report(CASE_TIMEOUT)["outcome"]
        collect(result, server)
        server.end_input()
        server.finish(END_TIMEOUT)


def as_server(result, spec):
    with testee(result, "server") as server:
        url = f"ws://127.0.0.1:{check_codec(result, server.report())['port']}"
        with fuzzer({**spec, "role": "client", "url": url}) as client:
            begin(result, client)
            collect(result, client)
            client.finish(END_TIMEOUT)


def fuzzer(spec):
    """The suite's process, whose environment is none of this interpreter's."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    shutil.rmtree(spec["outdir"], ignore_errors=True)
    Path(spec["outdir"]).mkdir(parents=True)
    process = Process(suite.PYTHON, HERE / "fuzzer.py", json.dumps(spec), env=env)
    process.name = "the suite"  # no paths in a report
    return process


def testee(result, *arguments):
    """This package's process."""
    pure = "1" if result.codec == "pure" else ""
    env = python_environment(SCRIPTLING_WS_PURE=pure, SCRIPTLING_WS_ENGINE=result.engine)
    process = Process.python(HERE / "testee.py", *arguments, env=env)
    process.name = "the package"
    return process


def begin(result, process):
    first = process.report()
    result.cases = first["cases"]
    result.versions.update(first["versions"])
    return first


def check_codec(result, first):
    assert first["codec"] == result.codec, f"the codec in use is the {first['codec']} one"
    assert first["engine"] == result.engine, f"the engine in use is {first['engine']}"
    result.versions.update(first["versions"])
    return first


def collect(result, process):
    """The suite's verdicts, until there is one for each case."""
    while len(result.verdicts) < len(result.cases):
        verdict = process.report(CASE_TIMEOUT)
        result.verdicts[verdict.pop("id")] = verdict
