"""The direction of imports (docs/design.md, "Layers"): every module imports only from below."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
SOURCE = REPOSITORY / "src" / "scriptling_ws"

# Lowest first. Modules of one layer do not import each other.
LAYERS = [
    ["_codes", "_opcodes"],
    [
        "_version",
        "_authority",
        "_errors",
        "_fields",
        "_deadline",
        "_fork",
        "_handlers",
        "_idna",
        "_certificate",
        "_paths",
        "_wsframe",
        "_wsframe_py",
    ],
    ["_frame", "_url", "_keys", "_options", "_deflate", "_threads"],
    ["_head", "_terms", "_typed", "_waiting"],
    ["_assembly", "_control", "_keepalive", "_lifecycle", "_locks", "_log", "_pings"],
    ["_handshake_client", "_handshake_server", "_signals", "_transport", "_dial", "_response"],
    ["_inflation", "_unsent", "_liveness"],
    ["_outgoing", "_protocol", "_tls", "_http", "_doors", "_limits", "_listen", "_admission"],
    ["_deflating", "_link", "_static", "_arrival", "_delivery"],
    ["_outlet", "_peer"],
    ["_intake", "_accept"],
    ["_closer", "_writer"],
    ["_reader", "_pinger"],
    ["_connection"],
    ["_client", "_routes"],
    ["_sessions"],
    ["_server"],
    ["__init__"],
    ["runtime"],
    ["_demo"],
    ["__main__"],
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}
MODULES = sorted(path.stem for path in SOURCE.glob("*.py"))

# What knows nothing of sockets, clocks and threads can be tested, and fuzzed, without them.
WITHOUT_IO = [
    *("_wsframe_py", "_frame", "_opcodes", "_assembly", "_control", "_protocol", "_liveness"),
    *(
        "_outgoing",
        "_authority",
        "_fields",
        "_head",
        "_paths",
        "_handshake_client",
        "_handshake_server",
        "_terms",
        "_idna",
        "_url",
        "_deflate",
        "_inflation",
    ),
]
IO = {"socket", "ssl", "select", "selectors", "threading", "time", "asyncio"}

# What waits, or is waited for, is in the default engine alone.
WAITING = {"_thread", "threading", "selectors", "select", "asyncio", "concurrent", "queue"}


def imported(module):
    """The package's modules that a module imports, those for type checking too."""
    tree = ast.parse((SOURCE / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            if node.module:
                yield node.module
            else:
                yield from (
                    alias.name if alias.name in RANK else "__init__" for alias in node.names
                )
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("scriptling_ws"):
            yield node.module.partition(".")[2] or "__init__"


def foreign(module):
    """The modules from elsewhere that a module imports."""
    tree = ast.parse((SOURCE / f"{module}.py").read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield (node.module or "").partition(".")[0]


def test_every_module_has_a_layer():
    assert set(MODULES) <= set(RANK)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module):
    wrong = [name for name in imported(module) if RANK[name] >= RANK[module]]
    assert not wrong, f"{module} imports {wrong}, of its own layer or a higher one"


@pytest.mark.parametrize("module", WITHOUT_IO)
def test_protocol_code_does_no_io(module):
    assert not IO & set(foreign(module))


def sleeps(module):
    """Whether a module has to do with `time.sleep`."""
    for node in ast.walk(ast.parse((SOURCE / f"{module}.py").read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module == "time":
            if any(alias.name == "sleep" for alias in node.names):
                return True
        elif isinstance(node, ast.Attribute) and ast.unparse(node) == "time.sleep":
            return True
    return False


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"_threads"}))
def test_waiting_is_the_engines(module):
    assert not WAITING & set(foreign(module))
    assert not sleeps(module)


def test_the_default_engine_is_imported_by_the_seam_alone():
    assert [module for module in MODULES if "_threads" in imported(module)] == ["_waiting"]


def below(module):
    """A module, and all that it imports, and that imports."""
    found = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            if (SOURCE / f"{name}.py").exists():
                waiting.extend(imported(name))
    return found


def test_client_and_server_do_not_know_each_other():
    assert not below("_client") & {"_server", "_handshake_server", "_sessions", "_routes"}
    assert not below("_client") & {"_accept", "_peer"}
    assert not below("_server") & {"_client", "_handshake_client", "_dial"}


def drawing():
    """The page's drawing: each level's modules, lowest first; and those of the right column."""
    text = (REPOSITORY / "docs" / "design.md").read_text(encoding="utf-8")
    _, drawn, _ = text.partition("## Layers")[2].split("```", 2)
    levels, right = [], set()
    for line in filter(None, drawn.splitlines()):
        number, left, other = line[:4].strip(), line[4:52], line[52:]
        if number:
            levels.append((int(number), []))
        for part in filter(None, (left.strip(), other.strip())):
            name, words = re.split(" {2,}", part)
            assert words, f"{name} is not explained"
            levels[-1][1].append(name)
        if other:
            right.add(other.split()[0])
    assert [number for number, _ in levels] == list(range(len(levels), 0, -1))
    return [names for _, names in reversed(levels)], right


def test_the_drawing_has_every_module_once_at_its_level():
    levels, _ = drawing()
    assert [sorted(names) for names in levels] == [sorted(names) for names in LAYERS]


def test_the_drawing_has_on_its_right_what_only_a_server_has():
    _, right = drawing()
    assert right == below("_server") - below("_client")


@pytest.mark.parametrize("module", MODULES)
def test_each_module_can_be_imported_alone(module):
    name = "scriptling_ws" if module == "__init__" else f"scriptling_ws.{module}"
    code = f"import importlib; importlib.import_module({name!r})"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
