"""The public API, held against api.txt: names, bases, signatures, overloads and types.

`make api` writes api.txt anew; the difference shows what a change does to users. Types are
taken as the source has them; of attributes that are no properties the names alone.
"""

import ast
import importlib
import inspect
import re
import sys
from pathlib import Path
from typing import is_typeddict

import pytest

pytestmark = pytest.mark.once

SNAPSHOT = Path(__file__).with_name("api.txt")
MODULES = ("scriptling_ws", "scriptling_ws.runtime", "scriptling_ws.asgi", "scriptling_ws.wsgi")
ALIASES = ("scriptling.websocket", "scriptling.net.websocket", "scriptling.runtime")


def signature(value):
    """The parameters as text, without what differs from one Python to another."""
    return re.sub(r" at 0x\w+|'", "", str(inspect.signature(value)))


def overloads(function):
    """The signatures that type checkers see in place of a function's own, as text."""
    source = inspect.getsource(sys.modules[function.__module__])
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef) or node.name != function.__name__:
            continue
        if "overload" in [ast.unparse(decorator) for decorator in node.decorator_list]:
            node.decorator_list = []
            names = {}
            exec(f"from __future__ import annotations\n{ast.unparse(node)}", names)
            yield signature(names[node.name])


def documented(kind):
    """The attributes that a class's docstring names."""
    _, found, section = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:\n")
    return re.findall(r"^    (\w+):", section.partition("\n\n")[0], re.M) if found else []


def members(kind):
    """The lines for a class, without what it has from a base that Python brings."""
    seen = {}
    for base in reversed(kind.__mro__):
        if base.__module__.partition(".")[0] == "scriptling_ws":
            seen.update(dict.fromkeys(documented(base)))
            seen.update(vars(base))
    for name, value in sorted(seen.items()):
        if name.startswith("_") and name not in ("__init__", "__iter__", "__enter__", "__exit__"):
            continue
        if isinstance(value, property):
            yield f"    {name}: {inspect.signature(value.fget).return_annotation}"
        elif isinstance(value, staticmethod | classmethod):
            yield f"    {type(value).__name__} {name}{signature(value.__func__)}"
        elif inspect.isfunction(value):
            yield f"    {name}{signature(value)}"
            yield from (f"    overload {name}{text}" for text in overloads(value))
        else:
            yield f"    {name}"


def describe(name, value):
    """The lines for one public name."""
    if is_typeddict(value):
        yield f"class {name}(TypedDict, total={value.__total__})"
        for key, kind in sorted(value.__annotations__.items()):
            yield f"    {key}: {kind.__forward_arg__}"
    elif inspect.isclass(value):
        yield f"class {name}({', '.join(base.__name__ for base in value.__bases__)})"
        yield from members(value)
    elif inspect.isfunction(value):
        yield f"def {name}{signature(value)}"
        yield from (f"overload {name}{text}" for text in overloads(value))
    else:
        yield f"{name}: {type(value).__name__}"


def snapshot():
    lines = []
    for path in MODULES:
        module = importlib.import_module(path)
        lines.append(f"[{path}]")
        for name in sorted(module.__all__):
            lines.extend(describe(name, getattr(module, name)))
        lines.append("")
    return "\n".join(lines)


def test_the_public_api_is_that_of_the_snapshot():
    assert snapshot() == SNAPSHOT.read_text(encoding="utf-8"), "on purpose? Then: make api"


def test_the_aliases_have_the_same_names():
    for path in ALIASES:
        module = importlib.import_module(path)
        home = importlib.import_module(MODULES[path.endswith("runtime")])
        assert {name: getattr(module, name) for name in module.__all__} == {
            name: getattr(home, name) for name in home.__all__
        }


if __name__ == "__main__":
    SNAPSHOT.write_text(snapshot(), encoding="utf-8")
    print(f"written: {SNAPSHOT}", file=sys.stderr)


def test_dir_shows_the_public_names_whether_loaded_or_not():
    package = importlib.import_module("scriptling_ws")
    assert dir(package) == sorted(package.__all__)
