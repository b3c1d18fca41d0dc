"""The direction of imports (docs/design.md, "Layers"): what is above imports from below alone."""

import ast
import importlib.util
import re
import subprocess
import sys
from functools import cache

import pytest

from places import REPOSITORY, SOURCE

pytestmark = pytest.mark.once

# Lowest first. What stands at one level does not import each other.
HOUSE = [
    ["_codes", "_fields", "_functions", "_version", "_wsframe", "_wsframe_py", "_wstls_py"],
    ["_errors", "_wschannel_py"],
    ["_kernel"],
    ["_network"],
    ["_options"],
    ["_handshakes", "_unknown"],
    ["_typed", "_wire"],
    ["_connection"],
    ["_rooms"],
    ["_client", "_server"],
    ["_adapters"],
    ["__init__", "asgi", "runtime", "wsgi"],
    ["_command"],
    ["__main__"],
]
WINGS = {
    "_command": [
        [
            "announcing",
            "binary_forms",
            "certificate",
            "demo",
            "ending",
            "escapes",
            "failing",
            "history",
            "overview",
            "progress",
            "server_arguments",
            "statuses",
            "where",
        ],
        ["connect_arguments", "documents", "figures", "plan", "script", "workers"],
        ["screen", "server"],
        ["examples", "slash"],
        ["completion", "session"],
        ["feeding", "prompt"],
        ["patience"],
        ["receiving"],
        ["connect"],
        ["command"],
    ],
    "_adapters": [
        ["counts", "ending", "environ", "gate", "inbox", "running", "table", "uncarried"],
        ["door", "events"],
    ],
    "_client": [
        ["backoff", "proxy", "redirects", "secure"],
        ["conversation", "upgrade", "way"],
        ["socks"],
        ["tunnel", "way_arguments"],
        ["reach"],
        ["connect"],
        ["reconnecting"],
    ],
    "_server": [
        [
            "announcing",
            "closing",
            "codings",
            "conditions",
            "dates",
            "figures",
            "forwarded",
            "handler_threads",
            "handlers",
            "limits",
            "log",
            "path_tree",
            "peer_queue",
            "persistence",
            "proxy_protocol",
            "ranges",
            "rate",
            "response",
            "restarts",
            "room_figures",
            "root_path",
            "signals",
            "systemd",
        ],
        [
            "access",
            "admission",
            "authorization",
            "credentials",
            "doors",
            "endpoints",
            "http",
            "metrics",
            "proxies",
            "service",
            "static",
            "worker",
        ],
        ["arrival", "callers", "cors", "crew", "delivery", "provenance", "route_table"],
        ["greeting", "health", "inbox", "master", "reading", "sessions", "settings"],
        ["operations", "peer"],
        ["decisions", "kept", "page_routes", "reports"],
        ["acceptor", "admitted", "routes"],
        ["entrance"],
        ["server"],
        ["serve"],
    ],
    "_rooms": [
        ["carrier", "courier", "guest", "message", "stats"],
        ["envelope", "member"],
        ["redis", "room"],
        ["registry"],
    ],
    "_connection": [
        ["frames", "keepalive", "lifecycle", "liveness", "pings", "unsent"],
        ["link"],
        ["outlet", "silence", "stats"],
        ["derived", "intake"],
        ["closer", "farewell", "writer"],
        ["awaiting", "outstream", "pinger", "reader"],
        ["instream", "into"],
        ["connection"],
        ["pairing", "readiness"],
    ],
    "_wire": [
        ["backend", "documents", "opcodes"],
        ["deflate", "headers", "outbox", "tally", "watch"],
        ["assembly", "control", "pieces"],
        ["inflation", "outgoing", "piecemeal"],
        ["deflating", "fragments", "space", "unreceived"],
        ["arriving"],
        ["incoming"],
    ],
    "_handshakes": [
        [
            "additions",
            "cookies",
            "credentials",
            "idna",
            "paths",
            "plain",
            "refused",
            "response",
            "terms",
        ],
        ["bodies", "url"],
        ["request"],
        ["alike", "head"],
        ["rejection"],
        ["client", "exchange", "server", "tunnel"],
    ],
    "_network": [
        ["alarm", "authority", "contexts", "deadline", "fork", "pulse"],
        ["addresses", "contract", "greenlets", "threads"],
        ["waiting"],
        ["listen", "locks", "loops", "race", "transport"],
        ["ahead", "dial", "encrypted", "unix"],
        ["foreign", "tls"],
        ["layered"],
    ],
}
MODULES = sorted(
    ".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.rglob("*.py")
)

WITHOUT_IO = [name for name in MODULES if name.startswith(("_wire.", "_handshakes."))]
IO = {"socket", "ssl", "select", "selectors", "threading", "time", "asyncio"}

# What waits, or is waited for, is in the engines alone; and in an event loop, for ASGI.
ENGINES = {"_network.greenlets", "_network.threads"}
LOOPS = {"_network.loops"}
WAITING = {
    "_thread",
    "threading",
    "selectors",
    "select",
    "asyncio",
    "concurrent",
    "queue",
    "gevent",
}


def ranks(levels):
    return {name: rank for rank, names in enumerate(levels) for name in names}


FLOOR = ranks(HOUSE)
SHELF = {wing: ranks(levels) for wing, levels in WINGS.items()}


def source(module):
    return SOURCE.joinpath(*module.split(".")).with_suffix(".py")


@cache
def tree(module):
    return ast.parse(source(module).read_text(encoding="utf-8"))


def named(parts, name):
    """The module that `from PARTS import NAME` imports, or imports from."""
    if not parts:
        return name if name in FLOOR else "__init__"
    whole = ".".join(parts)
    if whole in WINGS:
        return f"{whole}.{name}" if name in SHELF[whole] else f"{whole}.__init__"
    return whole


@cache
def imported(module):
    """The package's modules that a module imports, those for type checking too."""
    return [*imports_of(tree(module), module.split(".")[:-1])]


def imports_of(code, package):
    """The package's modules that are imported in the code of a module of a package."""
    for node in ast.walk(code):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        parts = package[: len(package) + 1 - node.level] + (node.module or "").split(".")
        for alias in node.names:
            yield named([part for part in parts if part], alias.name)


def foreign(module):
    """The modules from elsewhere that a module imports."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def is_above(module, other):
    """Whether a module may import another one."""
    wing, _, name = module.rpartition(".")
    other_wing, _, other_name = other.rpartition(".")
    if wing and wing == other_wing:
        return SHELF[wing][name] > SHELF[wing][other_name]
    return FLOOR[wing or name] > FLOOR[other_wing or other_name]


def test_every_module_has_its_place():
    inside = {f"{wing}.{name}" for wing, names in SHELF.items() for name in names}
    inits = {f"{wing}.__init__" for wing in WINGS}
    above = {name for name in FLOOR if name not in WINGS}
    assert set(MODULES) == inside | inits | above - {"_wsframe"}
    assert set(WINGS) <= set(FLOOR)


def test_imports_go_down():
    """None is of the importing module's own level, or of a higher one."""
    wrong = [
        f"{module} imports {name}"
        for module in MODULES
        if not module.endswith(".__init__")
        for name in imported(module)
        if not is_above(module, name)
    ]
    assert wrong == []


@pytest.mark.parametrize("wing", WINGS)
def test_a_wing_has_no_names_of_its_own(wing):
    """What is imported from it says from which module: its own file says what the wing is."""
    assert len(tree(f"{wing}.__init__").body) == 1
    assert not [name for name in MODULES if f"{wing}.__init__" in imported(name)]


def test_protocol_code_does_no_io():
    assert [name for name in WITHOUT_IO if IO & set(foreign(name))] == []


def sleeps(module):
    """Whether a module has to do with `time.sleep`."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module == "time":
            if any(alias.name == "sleep" for alias in node.names):
                return True
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
            return True
    return False


def test_waiting_is_the_engines():
    others = sorted(set(MODULES) - ENGINES - LOOPS)
    assert [name for name in others if WAITING & set(foreign(name)) or sleeps(name)] == []


def test_the_engines_are_imported_by_the_seam_alone():
    assert [name for name in MODULES if ENGINES & set(imported(name))] == ["_network.waiting"]


def test_event_loops_are_waited_in_for_asgi_alone():
    assert [name for name in MODULES if LOOPS & set(imported(name))] == ["asgi"]
    assert WAITING & set(foreign("_network.loops")) == {"asyncio"}


def below(module):
    """A module, and all that it imports, and that imports."""
    found = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            if source(name).exists():
                waiting.extend(imported(name))
    return found


def test_client_and_server_do_not_know_each_other():
    client, server = below("_client.connect"), below("_server.serve")
    assert not [name for name in client if name.startswith("_server.")]
    assert not [name for name in server if name.startswith("_client.")]
    assert "_handshakes.server" not in client
    assert not server & {"_handshakes.client", "_network.dial", "_network.race"}


def drawn(heading):
    """A drawing of the page: each level's names, lowest first."""
    text = (REPOSITORY / "docs" / "design.md").read_text(encoding="utf-8")
    _, block, _ = text.partition(f"\n{heading}\n")[2].split("```", 2)
    levels = []
    for line in filter(None, block.splitlines()[1:]):  # after what the block says that it is
        number, (name, words) = line[:4].strip(), re.split(" +", line[4:], maxsplit=1)
        assert words, f"{name} is not explained"
        if number:
            levels.append((int(number), []))
        levels[-1][1].append(name)
    assert [number for number, _ in levels] == list(range(len(levels), 0, -1))
    return [sorted(names) for _, names in reversed(levels)]


def test_the_drawing_of_the_house_is_true():
    assert drawn("## Layers") == HOUSE


@pytest.mark.parametrize("wing", WINGS)
def test_the_drawings_of_the_wings_are_true(wing):
    assert drawn(f"### `{wing}`") == WINGS[wing]


# Each import has a process of its own. Where there are forks, it is one of a process that has the
# libraries already.
IMPORT_EACH = """
import importlib, os, subprocess, sys

def forked(name):
    process = os.fork()
    if process:
        return os.waitpid(process, 0)[1]
    importlib.import_module(name)
    os._exit(0)

def started(name):
    return subprocess.run([sys.executable, "-W", "error", "-c", f"import {name}"]).returncode

importable_alone = forked if hasattr(os, "fork") else started
library, names = (words.split() for words in sys.argv[1:])
for name in library:
    importlib.import_module(name)
sys.exit(", ".join(name for name in names if importable_alone(name)) or 0)
"""


def test_each_module_can_be_imported_alone():
    modules = MODULES
    if importlib.util.find_spec("gevent") is None:  # an extra, which its engine imports
        modules = [name for name in MODULES if name != "_network.greenlets"]
    names = ["scriptling_ws" + f".{name}" * (name != "__init__") for name in modules]
    always = {*sys.stdlib_module_names, "h11", "wsproto"}
    library = always.intersection(name for module in MODULES for name in foreign(module))
    command = [sys.executable, "-W", "error", "-c", IMPORT_EACH]
    arguments = [" ".join(sorted(library)), " ".join(names)]
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=300)
    assert not result.returncode, result.stderr
