"""What bundlers (PyInstaller, Nuitka) find of the package: every import is written in its code.

They read the code and do not run it, so an import by a computed name is not seen, nor by all
of them one that is for type checkers alone.
"""

import ast
import functools
import json
import subprocess
import sys

import pytest

from places import REPOSITORY
from processes import python_environment

pytestmark = pytest.mark.once("what is imported is the same with both codecs")

SOURCE = REPOSITORY / "src"

# As a program has it that uses all of the package. What it has loaded is printed.
PROGRAM = """
import json, sys
import {name} as ws

def echo(client):
    for message in client:
        client.send(message)

options = {{"compression": "deflate", "ping_interval": 5}}
with ws.Server(echo, port=0, **options) as server, ws.connect(server.url, **options) as conn:
    conn.send("through" * 1000)
    assert conn.receive(10) == "through" * 1000
for name in ws.__all__:
    getattr(ws, name)
try:
    ws.connect("ws://a\\u200db.example/")
except ws.InvalidURL:
    pass
print(json.dumps([name for name in sys.modules if name.split(".")[0] in {ours}]))
"""
# What is imported for a name outside ASCII alone has to be found too.
OURS = ("scriptling", "scriptling_ws", "idna", "wsproto", "h11")


def path_of(module):
    """The source of a module of this repository; None if it is none."""
    base = SOURCE.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.exists():
            return path
    return None


class Imports(ast.NodeVisitor):
    """The modules that a module's code names, those for type checkers left out."""

    def __init__(self, module):
        self.found = set()
        is_package = path_of(module).name == "__init__.py"
        self.package = module if is_package else module.rpartition(".")[0]

    def visit_If(self, node):
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                self.visit(other)
        else:
            self.generic_visit(node)

    def visit_Import(self, node):
        self.found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node):
        above = self.package.split(".")
        above = above[: len(above) + 1 - node.level] if node.level else []
        home = ".".join([*above, *filter(None, [node.module])])
        parts = home.split(".")
        self.found.update(".".join(parts[:end]) for end in range(1, len(parts) + 1))
        self.found.update(f"{home}.{alias.name}" for alias in node.names)


@functools.cache
def imports_of(name):
    """The modules that the code of one of this repository's names; none of another."""
    if path_of(name) is None:
        return set()
    imports = Imports(name)
    imports.visit(ast.parse(path_of(name).read_text(encoding="utf-8")))
    return imports.found


def static(module):
    """The modules that can be found from one on, this repository's and those they import."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting.extend(imports_of(name))
    return found


@pytest.mark.parametrize(
    "name", ["scriptling_ws", "scriptling.websocket", "scriptling.net.websocket"]
)
def test_every_module_that_a_program_loads_is_named_in_the_code(name):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(name=name, ours=OURS)],
        stdout=subprocess.PIPE,
        text=True,
        env=python_environment(),
        timeout=60,
        check=True,
    )
    loaded = set(json.loads(done.stdout))
    assert {"scriptling_ws._server.server", "scriptling_ws._client.connect", "idna"} <= loaded
    ours = {module for module in loaded if path_of(module) or module.endswith("._wsframe")}
    others = {module for module in loaded - ours if "." not in module} - {"scriptling"}
    found = static(name)
    assert ours - found == set()
    assert others - found == set()


def test_no_module_but_the_user_s_own_is_imported_by_a_computed_name():
    """A handler's name leads to the user's module, which its program has to name."""
    computed = [
        path.stem
        for path in sorted((SOURCE / "scriptling_ws").rglob("*.py"))
        if "import_module(" in (text := path.read_text(encoding="utf-8")) or "__import__" in text
    ]
    assert computed == ["handlers"]
