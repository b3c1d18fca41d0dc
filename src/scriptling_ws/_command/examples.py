"""`scriptling-ws examples`: programs to look at, to run, and to start from.

Rules:

- They are in the wheel, as `scriptling_ws/_examples`; in a checkout they are in `examples`.
- How each file is started, its first line says, from the root of a checkout: that is shown with
  where the file is.
- What --run starts is the example's setup script, else its server, unless a file is named.
"""

from __future__ import annotations

import argparse
import ast
import re
import runpy
import shutil
import sys
from pathlib import Path
from typing import Final

from .failing import fail

__all__ = ["examples_parser", "main"]

_STARTED: Final = re.compile(r"# Start it with: (.*)")
_FIRST: Final = ("setup.py", "server.py", "serve.py")
_PACKAGE: Final = Path(__file__).parent.parent
_HOMES: Final = (_PACKAGE / "_examples", _PACKAGE.parent.parent / "examples")


def examples_parser() -> argparse.ArgumentParser:
    """The parser of `scriptling-ws examples`."""
    parser = argparse.ArgumentParser(
        prog="scriptling-ws examples",
        description="Show the examples, or one of them: its files, and how they are started.",
    )
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="an example, or a file of one, as echo/client.py"
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--run",
        nargs=argparse.REMAINDER,
        metavar="ARGUMENT",
        help="run it; what follows are its own arguments",
    )
    what.add_argument(
        "--copy", metavar="DIR", help="copy it, or all of them, into a directory to work on"
    )
    return parser


def main(arguments: list[str]) -> int:
    """Show, run or copy examples; the exit status."""
    parser = examples_parser()
    given = parser.parse_args(arguments)
    home = next((path for path in _HOMES if path.is_dir()), None)
    if home is None:
        fail(parser, "this installation has no examples: those of pip have them")
    if given.name is None and given.run is not None:
        fail(parser, f"name the example to run: {', '.join(_names(home))}")
    if given.copy is not None:
        return _copy(parser, home, given.name, Path(given.copy))
    if given.name is None:
        return _list(home)
    path = _find(parser, home, given.name)
    if given.run is not None:
        return _run(parser, path if path.is_file() else _main_file(path), given.run)
    for file in [path] if path.is_file() else _files(path):
        _show(home, file)
    return 0


def _names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if path.is_dir() and path.name[0] != "_")


def _files(folder: Path) -> list[Path]:
    """An example's files, the one to begin with first."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if "__pycache__" not in path.parts]
    first = _main_file(folder)
    return [first, *(path for path in files if path != first)]


def _main_file(folder: Path) -> Path:
    """What an example begins with."""
    named = [folder / name for name in _FIRST if (folder / name).is_file()]
    return (named or [path for path in sorted(folder.glob("*.py")) if _started(path)])[0]


def _started(file: Path) -> str:
    """How a file is started, as its first line says; "" if it is not by itself."""
    with file.open(encoding="utf-8") as lines:
        found = _STARTED.match(lines.readline())
    return "" if found is None else found[1]


def _list(home: Path) -> int:
    for name in _names(home):
        source = _main_file(home / name).read_text(encoding="utf-8")
        words = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        print(f"  {name:<10} {words}")
    print("\nscriptling-ws examples NAME shows one, --run runs it, --copy DIR copies it.")
    return 0


def _show(home: Path, file: Path) -> None:
    print(file)
    started = _started(file) if file.suffix == ".py" else ""
    if started:
        inside = file.relative_to(home).as_posix()
        print(f"    {started.replace(f'examples/{inside}', str(file))}")


def _find(parser: argparse.ArgumentParser, home: Path, name: str) -> Path:
    """An example's directory, or a file of it."""
    folder, _, file = name.partition("/")
    names = _names(home)
    if folder not in names:
        fail(parser, f"there is no example {folder!r}: there are {', '.join(names)}")
    if not file:
        return home / folder
    inside = {path.relative_to(home / folder).as_posix(): path for path in _files(home / folder)}
    found = inside.get(file) or inside.get(f"{file}.py")
    if found is None:
        fail(parser, f"there is no {file!r} in {folder}: there are {', '.join(inside)}")
    return found


def _copy(parser: argparse.ArgumentParser, home: Path, name: str | None, where: Path) -> int:
    chosen = [_find(parser, home, name)] if name is not None else [home / n for n in _names(home)]
    for path in chosen:
        target = where / path.name
        if target.exists():
            fail(parser, f"{str(target)!r} is there already: it is left as it is")
        try:
            where.mkdir(parents=True, exist_ok=True)
            if path.is_file():
                shutil.copyfile(path, target)
            else:
                shutil.copytree(path, target, ignore=shutil.ignore_patterns("__pycache__"))
        except OSError as error:
            fail(parser, f"cannot write {str(target)!r}: {error.strerror}")
        print(target)
    return 0


def _run(parser: argparse.ArgumentParser, file: Path, arguments: list[str]) -> int:
    if file.suffix != ".py":
        fail(parser, f"{file.name} is no program")
    if not _started(file):
        fail(parser, f"{file.name} is a part of the example, and not started by itself")
    try:
        if file.name == "setup.py":
            from .server import main as serve

            return serve([*(arguments or ["--server", ":8080"]), str(file)])
        sys.argv = [str(file), *arguments]
        sys.path.insert(0, str(file.parent))
        runpy.run_path(str(file), run_name="__main__")
    except ModuleNotFoundError as error:
        fail(parser, f"{file.parent.name} needs {error.name}: pip install {error.name}")
    except KeyboardInterrupt:
        return 130
    return 0
