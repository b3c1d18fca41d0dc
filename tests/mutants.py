"""Change the code a little, and see whether a test notices: `python tests/mutants.py _network.tls`.

Rules:

- A mutant is one change of one expression or statement. Which are tried is drawn by the
  seed from all that the given modules have, or the modules that differ from --base.
- Mutants live in copies of the tree, one for each of the --jobs; the tree itself is only read.
- A module's tests are those of its name and those of its wing (WINGS). Unchanged, they have to
  pass first: how long they take then is what a mutant's run is measured by, and the quickest go
  first. A test that fails has to fail again alone: one that fails by chance notices nothing.
- Not changed: types, docstrings and other texts, asserts, `__all__` and `__slots__`, debug
  logging, and what is marked `pragma: no cover`. A change that no test could notice is
  marked `pragma: no mutate` on its line, which says why.

Prints each mutant's fate, then the survivors as diffs. The exit status is 1 if less than
--least per cent were noticed, 2 if the tests fail without a change.

Own code, as no maintained tool fits: mutmut 3 runs its mutants in forks of a process that has
loaded the tests, and puts a call before each function's body, where this package's rules
about signal handlers allow none; cosmic-ray 8 has one list of tests for all modules, and
changes the files where they are. Neither draws by a seed.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import copy
import difflib
import math
import os
import py_compile
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path("src/scriptling_ws")
PARTS = ("src", "tests", "fuzz", "pyproject.toml", "README.md", "CHANGELOG.md", "examples", "docs")

# The modules of each wing, and what tests them beside the files of their own names.
WINGS = {
    "connection": (
        (
            "_connection.silence _connection.closer _codes _connection.connection "
            "_connection.farewell _connection.derived _connection.intake _connection.pairing "
            "_connection.keepalive _connection.lifecycle _connection.link _connection.liveness "
            "_network.locks _connection.outlet _connection.pinger _connection.pings "
            "_connection.reader _connection.readiness _connection.unsent _connection.writer "
            "_connection.awaiting _connection.instream _connection.into _connection.outstream "
            "_connection.frames _connection.stats"
        ),
        (
            "silence farewell pairing readiness receiving sending closing lifecycle unsent pings "
            "liveness "
            "keepalive interrupts threads connection abuse_close abuse_misuse clock fork on_close "
            "abuse_network api streams frames stats"
        ),
    ),
    "wire": (
        (
            "_kernel _wire.assembly _wire.control _wire.deflate _wire.deflating "
            "_wire.inflation _wire.opcodes _wire.outgoing _wire.incoming _wschannel_py _wsframe_py "
            "_wire.backend _wire.fragments _wire.pieces _wire.piecemeal _wire.space _wire.tally "
            "_wire.watch _wire.arriving _wire.headers _wire.documents _wire.outbox _wire.unreceived"
        ),
        (
            "kernel kernel_equal kernel_io channel channel_receiving channel_parts channel_hazards "
            "channel_equal protocol deflate deflating inflation properties "
            "sending fuzz_seeds abuse_frames abuse_close keepalive streams stats frames "
            "channel_counts"
        ),
    ),
    "network": (
        (
            "_network.ahead _network.alarm _network.deadline _network.dial _network.encrypted "
            "_network.fork _network.greenlets _network.layered _network.listen _network.race "
            "_network.threads _network.tls _network.transport _network.waiting _network.contexts "
            "_network.contract _network.pulse _wstls_py"
        ),
        (
            "transport tls deadline dial listen clock fork interrupts keepalive receiving client "
            "abuse_handshake_client server_tls fuzz_seeds greenlets greenlets_loops gevent layered "
            "proxies sockets_given functions"
        ),
    ),
    "handshakes": (
        (
            "_network.addresses _network.authority _fields _functions _handshakes.additions "
            "_handshakes.bodies _handshakes.alike _handshakes.client _handshakes.cookies "
            "_handshakes.exchange _handshakes.server "
            "_handshakes.head _handshakes.refused _handshakes.rejection _handshakes.request "
            "_server.dates _server.http _handshakes.idna _handshakes.paths _handshakes.plain "
            "_handshakes.response _server.response _handshakes.terms _handshakes.tunnel "
            "_handshakes.url"
        ),
        (
            "alike head http plain terms url handshake_client handshake_server client "
            "abuse_handshake_client abuse_handshake_server abuse_misuse server_refusals "
            "server_pages http_arguments fields log fuzz_seeds request_bodies cookies additions "
            "proxies sockets_given"
        ),
    ),
    "adapters": (
        (
            "_adapters.counts _adapters.door _adapters.ending _adapters.environ _adapters.events "
            "_adapters.gate _adapters.inbox _adapters.running _adapters.table "
            "_network.foreign _network.loops asgi wsgi _adapters.uncarried"
        ),
        "wsgi asgi foreign inside options",
    ),
    "client": (
        (
            "__init__ _client.way_arguments _client.backoff _client.connect "
            "_client.conversation _client.proxy _client.reach _client.reconnecting "
            "_client.redirects _client.secure "
            "_client.socks _client.tunnel _client.upgrade _client.way _errors _options "
            "_typed _unknown _version"
        ),
        (
            "options errors client cli abuse_handshake_client api sockets_command additions "
            "reconnecting layered proxies proxies_real redirects sockets_given"
        ),
    ),
    "command": (
        (
            "__main__ _command.announcing _command.certificate _command.command "
            "_command.completion _command.connect _command.connect_arguments _command.demo "
            "_command.documents _command.ending _command.escapes _command.examples "
            "_command.failing _command.feeding _command.figures _command.binary_forms "
            "_command.history _command.overview _command.patience _command.plan "
            "_command.progress _command.prompt _command.receiving _command.screen "
            "_command.script _command.server _command.server_arguments _command.session "
            "_command.slash _command.statuses _command.where _command.workers"
        ),
        (
            "cli cli_access_log certificate sockets_command processes connect_parts connect_pipe "
            "connect_files connect_terminal progress overview examples_command"
        ),
    ),
    "server": (
        (
            "_network.unix _server.acceptor _server.admission _server.admitted _server.announcing "
            "_server.arrival _server.handler_threads "
            "_server.closing _server.crew _server.entrance _server.page_routes _server.path_tree "
            "_server.route_table _server.service _server.settings "
            "_server.delivery _server.doors _server.endpoints _server.handlers _server.limits "
            "_server.log _server.provenance _server.master _server.peer _server.restarts "
            "_server.routes _server.serve "
            "_server.server _server.sessions _server.signals _server.static _server.systemd "
            "_server.worker _server.codings _server.conditions _server.greeting _server.inbox "
            "_server.kept "
            "_server.persistence _server.ranges _server.reading _server.reports runtime"
        ),
        (
            "keep_alive static_http accept admission bodies delivery limits methods "
            "path_parameters routes sessions handler_threads "
            "slow_readers static runtime "
            "server server_limits server_pages server_refusals server_shutdown server_tls "
            "abuse_handshake_server on_close fork options clock log api listen sockets "
            "sockets_systemd processes processes_ends processes_reload announcing"
        ),
    ),
    "deciding": (
        (
            "_handshakes.credentials _server.authorization _server.cors _server.credentials "
            "_server.decisions"
        ),
        "authorize authorize_times credentials cors methods",
    ),
    "manners": (
        (
            "_server.access _server.callers _server.forwarded _server.peer_queue "
            "_server.proxies _server.proxy_protocol _server.rate _server.root_path"
        ),
        (
            "root_path keep_alive access_log forwarded proxy_protocol rate limits log "
            "cli_access_log accept server_limits"
        ),
    ),
    "operations": (
        ("_server.figures _server.health _server.metrics _server.operations _server.room_figures"),
        "metrics health server_shutdown stats",
    ),
    "rooms": (
        (
            "_rooms.carrier _rooms.courier _rooms.envelope _rooms.guest _rooms.member "
            "_rooms.message _rooms.redis _rooms.registry _rooms.room _rooms.stats"
        ),
        "courier envelope members redis room room_properties",
    ),
}

_COMPARED = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_COMPUTED = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
    ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
_TEXTS = (ast.JoinedStr, ast.Constant)
_SINGLE = {"map", "attempt"}  # see above TLSTransport.read_into
_LISTS = {"__all__", "__slots__"}
_SKIPPED = re.compile(r"# (?:.*\b)?pragma: no (cover|mutate)")


class Mutant(NamedTuple):
    """One change of a module: the text from `start` to `end` becomes `text`."""

    module: str
    line: int
    start: int
    end: int
    text: str

    def apply(self, source: bytes) -> bytes:
        """The module's source with the change made."""
        return source[: self.start] + self.text.encode() + source[self.end :]


class Finder(ast.NodeVisitor):
    """Finds every mutant of a module."""

    def __init__(self, module: str, source: bytes) -> None:
        self.module = module
        self.mutants: list[Mutant] = []
        self._starts = [0]
        for line in source.splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))
        self._lines = source.decode().splitlines()
        self.visit(ast.parse(source))

    def _add(self, node: ast.AST, new: ast.AST | str) -> None:
        text = new if isinstance(new, str) else f"({ast.unparse(new)})"
        start = self._starts[node.lineno - 1] + node.col_offset
        end = self._starts[node.end_lineno - 1] + node.end_col_offset
        self.mutants.append(Mutant(self.module, node.lineno, start, end, text))

    def _changed(self, node: ast.AST, **fields: object) -> None:
        new = copy.copy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        self._add(node, new)

    def visit(self, node: ast.AST) -> None:
        """Visit what may be changed."""
        line = self._lines[node.lineno - 1] if hasattr(node, "lineno") else ""
        if _SKIPPED.search(line) or isinstance(node, (ast.Assert, ast.JoinedStr, ast.Import)):
            return
        super().visit(node)

    def generic_visit(self, node: ast.AST) -> None:
        """All fields but those that are types or decorators."""
        for name, value in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list", "bases"):
                continue
            for each in value if isinstance(value, list) else [value]:
                if isinstance(each, ast.AST):
                    self.visit(each)

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for each in node.orelse:
                self.visit(each)
            return
        self._negate(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def _negate(self, test: ast.expr) -> None:
        if not isinstance(test, (ast.Compare, ast.BoolOp, ast.UnaryOp)):  # they have their own
            self._add(test, ast.UnaryOp(ast.Not(), test))

    def visit_Compare(self, node: ast.Compare) -> None:
        for at, operator in enumerate(node.ops):
            ops = [*node.ops[:at], _COMPARED[type(operator)](), *node.ops[at + 1 :]]
            self._changed(node, ops=ops)
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        self._changed(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        for at in range(len(node.values)):
            self._changed(node, values=[*node.values[:at], *node.values[at + 1 :]])
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._add(node, node.operand)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        new = _COMPUTED.get(type(node.op))
        texts = [each for each in (node.left, node.right) if isinstance(each, _TEXTS)]
        if new and not any(isinstance(getattr(each, "value", ""), (str, bytes)) for each in texts):
            self._changed(node, op=new())
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._changed(node, value=not node.value)
        elif isinstance(node.value, (int, float)):
            for value in (node.value + 1, node.value - 1):
                self._changed(node, value=value)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id in ("min", "max"):
            other = ast.Name("max" if node.func.id == "min" else "min")
            self._changed(node, func=other)
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node.value, ast.Call):
            function = ast.unparse(node.value.func)
            if function.endswith(".debug"):
                return
            self._add(node, "pass")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if isinstance(node.targets[0], ast.Name) and node.targets[0].id in _LISTS:
            return
        if isinstance(node.targets[0], (ast.Attribute, ast.Subscript)):
            self._add(node, "pass")
        self.generic_visit(node)

    visit_AugAssign = visit_Delete = visit_Raise = lambda self, node: (
        self._add(node, "pass"),
        self.generic_visit(node),
    )

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self._add(node, "return None")
        self.generic_visit(node)

    def visit_Break(self, node: ast.Break) -> None:
        self._add(node, "pass")

    def visit_For(self, node: ast.For) -> None:
        """One over the single result of a call loops never: its `break` changes nothing."""
        name = getattr(getattr(node.iter, "func", None), "id", "")
        if name in _SINGLE and isinstance(node.body[-1], ast.Break):
            node.body.pop()
        self.generic_visit(node)

    def visit_Continue(self, node: ast.Continue) -> None:
        self._add(node, "break")


def file_of(module: str) -> Path:
    """A module's file, in the tree."""
    return PACKAGE.joinpath(*module.split(".")).with_suffix(".py")


def name_of(file: Path) -> str:
    """The name of the module in a file of the tree: `_network.tls`."""
    return ".".join(file.relative_to(PACKAGE).with_suffix("").parts)


def mutants_of(module: str, root: Path = ROOT) -> list[Mutant]:
    """Every mutant of a module that compiles."""
    source = (root / file_of(module)).read_bytes()
    return [each for each in Finder(module, source).mutants if _compiles(each.apply(source))]


def _compiles(source: bytes) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def tests_of(module: str) -> list[str]:
    """The test files for a module, those of its name first."""
    (names,) = (tests for modules, tests in WINGS.values() if module in modules.split())
    everywhere = {path.stem: path for path in sorted((ROOT / "tests").rglob("test_*.py"))}
    name = module.rpartition(".")[2].strip("_")
    own = [each for each in everywhere if each.startswith(f"test_{name}")]
    files = dict.fromkeys([*own, *(f"test_{name}" for name in names.split())])
    return [everywhere[name].relative_to(ROOT).as_posix() for name in files]


class Copy:
    """A copy of the tree, in which one mutant after the other is tried."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        leave = shutil.ignore_patterns("__pycache__", "node_modules", "*.egg-info")
        for part in PARTS:
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, folder / part, ignore=leave)
            else:
                shutil.copy(ROOT / part, folder / part)
        # Known by their hashes: a mutant may have the size and the second of the one before.
        # What is compiled while a test counts memory would be counted, too.
        mode = py_compile.PycInvalidationMode.CHECKED_HASH
        compileall.compile_dir(folder, quiet=2, invalidation_mode=mode)
        source = str(folder / "src")
        self._environment = {**os.environ, "PYTHONPATH": source, "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, tests: list[str], seconds: float | None = None) -> tuple[int, str]:
        """Run tests: their exit status, -1 for too late, and what they print."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
        with tempfile.TemporaryFile("w+") as output:
            process = subprocess.Popen(
                [*command, "-o", "timeout=60", *tests],
                cwd=self.folder,
                env=self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status = process.wait(seconds)
            except subprocess.TimeoutExpired:
                status = -1
            finally:
                with contextlib.suppress(ProcessLookupError):  # its children, too
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            output.seek(0)
            return status, output.read()

    def try_out(self, mutant: Mutant, tests: list[str], seconds: float) -> str:
        """What became of a mutant: "" if it has survived."""
        path = self.folder / file_of(mutant.module)
        source = path.read_bytes()
        try:
            path.write_bytes(mutant.apply(source))
            return self._killer(tests, seconds)
        finally:
            path.write_bytes(source)

    def _killer(self, tests: list[str], seconds: float) -> str:
        """The test that fails, and fails again when it is run alone; "" for none."""
        for _ in range(2):
            status, text = self.run(tests, seconds)
            if not status:
                break
            if status < 0:
                return "too late"
            failed = re.search(r"^(?:FAILED|ERROR) (tests/\S+)", text, re.MULTILINE)
            if failed is None:
                return text.strip().rpartition("\n")[2]
            if self.run([failed[1]], seconds)[0]:
                return failed[1]
        return ""


def differing(base: str) -> list[str]:
    """The modules that differ from a revision."""
    command = ["git", "diff", "--name-only", "--diff-filter=AM", base, "--", str(PACKAGE)]
    names = subprocess.check_output(command, cwd=ROOT, text=True).split()
    modules = [name_of(Path(name)) for name in names if name.endswith(".py")]
    return [module for module in modules if not module.endswith(".__init__")]  # a wing's text


def shown(mutant: Mutant) -> str:
    """A mutant as a diff."""
    name = file_of(mutant.module).as_posix()
    source = (ROOT / name).read_bytes()
    sides = [each.decode().splitlines() for each in (source, mutant.apply(source))]
    return "\n".join(difflib.unified_diff(*sides, name, f"line {mutant.line}", n=2, lineterm=""))


def measure(copies: list[Copy], modules: list[str]) -> dict[str, float] | None:
    """How long each file of the modules' tests takes unchanged; None if one fails."""
    free = queue_of(copies)
    files = sorted({test for module in modules for test in tests_of(module)})

    def time_of(test: str) -> float:
        mine = free.get()
        start = time.monotonic()
        try:
            status, text = mine.run([test])
        finally:
            free.put(mine)
        if status not in (0, 5):  # 5: there is no test in it, for this platform
            print(text[-3000:])
            return math.inf
        return time.monotonic() - start

    with ThreadPoolExecutor(len(copies)) as pool:
        seconds = dict(zip(files, pool.map(time_of, files), strict=True))
    return None if math.inf in seconds.values() else seconds


def queue_of(copies: list[Copy]) -> SimpleQueue[Copy]:
    """The copies that are free."""
    free: SimpleQueue[Copy] = SimpleQueue()
    for each in copies:
        free.put(each)
    return free


def run(drawn: list[Mutant], jobs: int, minutes: float) -> Iterator[tuple[Mutant, str]]:
    """Try mutants: each with its fate, in turn, until the time is over."""
    end = time.monotonic() + 60 * minutes
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [Copy(Path(folder) / str(number)) for number in range(jobs)]
        seconds = measure(copies, sorted({mutant.module for mutant in drawn}))
        if seconds is None:
            raise SystemExit(2)
        free = queue_of(copies)

        def fate(mutant: Mutant) -> str | None:
            if time.monotonic() > end:
                return None
            tests = sorted(tests_of(mutant.module), key=seconds.__getitem__)
            mine = free.get()
            try:
                return mine.try_out(mutant, tests, 60 + 3 * sum(seconds[test] for test in tests))
            finally:
                free.put(mine)

        pool = ThreadPoolExecutor(jobs)
        try:
            for mutant, killer in zip(drawn, pool.map(fate, drawn), strict=True):
                if killer is not None:
                    yield mutant, killer
        finally:
            pool.shutdown(cancel_futures=True)  # where it is interrupted


def main() -> int:
    """Draw, try, and tell."""
    parser = argparse.ArgumentParser(prog="python tests/mutants.py", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="such as _network.tls")
    parser.add_argument("--base", default="main", help="else those that differ from it")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--count", type=int, default=40, help="mutants at the most")
    parser.add_argument("--minutes", type=float, default=30, help="start none after that")
    parser.add_argument("--jobs", type=int, default=2, help="at a time")
    parser.add_argument("--least", type=float, default=97, help="per cent to be noticed")
    options = parser.parse_args()
    modules = sorted(set(options.modules or differing(options.base)))
    mutants = [each for module in modules for each in mutants_of(module)]
    choose = random.Random(options.seed)
    drawn = choose.sample(mutants, min(options.count, len(mutants)))
    print(f"{len(drawn)} of {len(mutants)} mutants of {' '.join(modules)}", flush=True)
    if not drawn:
        return 0
    fates = []
    for mutant, killer in run(drawn, options.jobs, options.minutes):
        fates.append((mutant, killer))
        print(f"{mutant.module}:{mutant.line:<4} {killer or 'SURVIVED'}", flush=True)
    survivors = [mutant for mutant, killer in fates if not killer]
    for mutant in survivors:
        print(f"\n{shown(mutant)}")
    score = 100 * (1 - len(survivors) / len(fates)) if fates else 0.0
    print(f"\nnoticed: {len(fates) - len(survivors)} of {len(fates)}, {score:.1f} %")
    return 0 if score >= options.least else 1


if __name__ == "__main__":
    sys.exit(main())
