"""`make wheels`: the source distribution, and from it a wheel for every CPython there is.

Rules:

- Every wheel is built from the unpacked source distribution, outside the tree, and tested
  there with the tests that it brings: what it lacks is missed.
- A wheel is installed in a virtual environment of its own, where there is nothing but pip.
- The compiled kernel is required, but of the pure wheel. Every wheel has the tests that
  cibuildwheel runs ([tool.cibuildwheel] in pyproject.toml); one of them has all tests.
- A wheel over LIMIT bytes is an error.
"""

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import tomllib

REPOSITORY = Path(__file__).resolve().parent.parent
OUT = REPOSITORY / "out" / "wheels"
VERSIONS = ("3.10", "3.11", "3.12", "3.13", "3.14", "3.15")
LIMIT = 800 * 1024
SHORT = "test-wheel"


def run(*command, cwd, **settings):
    """Run a command to its end, with these environment variables; it has to succeed."""
    environment = {**os.environ, **settings}
    for name in ("PYTHONPATH", "PYTHONHOME", "SCRIPTLING_WS_PURE", "VIRTUAL_ENV"):
        if name not in settings:
            environment.pop(name, None)
    command = [str(part) for part in command]
    print("$", shlex.join(command), flush=True)
    subprocess.run(command, cwd=cwd, env=environment, check=True)


def answers(python):
    """Whether this is a CPython that runs; pyenv has stand-ins that do not."""
    code = "import sys; sys.exit(sys.implementation.name != 'cpython')"
    return subprocess.run([python, "-c", code], capture_output=True, check=False).returncode == 0


def find(version):
    """The CPython of this version: the newest of pyenv's, or the PATH's; None without one."""
    roots = [Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))]
    if pyenv := shutil.which("pyenv"):
        asked = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False)
        roots.insert(0, Path(asked.stdout.strip() or roots[0]))
    found = [
        path
        for root in roots
        for path in root.glob(f"versions/{version}.*/bin/python{version}")
        if re.fullmatch(r"[\d.]+", path.parent.parent.name)
    ]
    found.sort(key=lambda path: int(path.parent.parent.name.rpartition(".")[2]))
    for python in (*reversed(found), shutil.which(f"python{version}")):
        if python and answers(python):
            return Path(python)
    return None


class Bench:
    """A directory outside the tree, with the unpacked source distribution."""

    def __init__(self, room):
        self.room = room
        shutil.rmtree(OUT, ignore_errors=True)
        OUT.mkdir(parents=True)
        run(sys.executable, "-m", "build", "--sdist", "--outdir", OUT, REPOSITORY, cwd=room)
        (self.sdist,) = OUT.glob("*.tar.gz")
        with tarfile.open(self.sdist) as archive:
            archive.extractall(room, filter="data")
        self.source = room / self.sdist.name.removesuffix(".tar.gz")
        config = tomllib.loads((self.source / "pyproject.toml").read_text(encoding="utf-8"))
        self.short = config["tool"]["cibuildwheel"]["test-command"]

    def environment(self, python, name):
        """A new virtual environment; its Python."""
        run(python, "-m", "venv", self.room / name, cwd=self.room)
        run(*self.pip(name), "install", "--quiet", "--upgrade", "pip>=25.1", cwd=self.room)
        return name

    def pip(self, name):
        return self.room / name / "bin" / "python", "-m", "pip", "--disable-pip-version-check"

    def build(self, name, kernel):
        """Build a wheel with an environment's Python, and repair it; its path."""
        raw = self.room / f"{name}-raw"
        run(
            *(*self.pip(name), "wheel", "--quiet", "--no-deps", "--wheel-dir", raw, self.sdist),
            cwd=self.room,
            SCRIPTLING_WS_EXTENSION=kernel,
        )
        (wheel,) = raw.glob("*.whl")
        if kernel == "no":
            assert wheel.name.endswith("-py3-none-any.whl"), wheel
            return Path(shutil.copy2(wheel, OUT))
        assert not wheel.name.endswith("-any.whl"), wheel
        if not sys.platform.startswith("linux"):
            return Path(shutil.copy2(wheel, OUT))
        done = self.room / f"{name}-repaired"
        run(
            *(sys.executable, "-m", "auditwheel", "repair", "--strip", "--wheel-dir", done, wheel),
            cwd=self.room,
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        )
        (wheel,) = done.glob("*.whl")
        return Path(shutil.copy2(wheel, OUT))

    def test(self, name, wheel, kernel, group):
        """Install a wheel in the environment, with a group, and run the tests of that group."""
        run(*self.pip(name), "install", "--quiet", wheel, cwd=self.room)
        project = self.source / "pyproject.toml"
        run(*self.pip(name), "install", "--quiet", "--group", f"{project}:{group}", cwd=self.room)
        programs = self.room / name / "bin"
        python = programs / "python"
        home = f"import scriptling_ws as w; assert w.__file__.startswith({str(programs.parent)!r})"
        run(python, "-c", home, cwd=self.source)
        commands = [["python", "-m", "pytest", "-q"]]
        if group == SHORT:
            commands = [shlex.split(command) for command in self.short]
        for command in commands:
            run(
                *(programs / command[0], *command[1:]),
                cwd=self.source,
                SCRIPTLING_WS_EXTENSION=kernel,
                PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
            )


def listing():
    """Print every file with its size; the wheels that are too large."""
    files = sorted(OUT.iterdir())
    for file in files:
        print(f"{file.stat().st_size:>9,} bytes  {file.name}")
    return [file.name for file in files if file.suffix == ".whl" and file.stat().st_size > LIMIT]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--free-threaded", metavar="PATH", type=Path, help="this CPython alone")
    alone = parser.parse_args().free_threaded
    if alone:
        pythons = {"free-threaded": alone.absolute()}
    else:
        pythons = {version: find(version) for version in VERSIONS}
    absent = [version for version, python in pythons.items() if python is None]
    present = {version: python for version, python in pythons.items() if python}
    if not present:
        sys.exit("wheels: there is no CPython")
    newest = list(present)[-1]
    with tempfile.TemporaryDirectory(prefix="scriptling-ws-wheels-") as room:
        bench = Bench(Path(room))
        for version, python in present.items():
            name = bench.environment(python, f"env-{version}")
            wheel = bench.build(name, "yes")
            bench.test(name, wheel, "yes", "test" if version == newest and not alone else SHORT)
        if not alone:
            name = bench.environment(present[newest], "env-pure")
            bench.test(name, bench.build(name, "no"), "no", SHORT)
    too_large = listing()
    for version in absent:
        print(f"skipped: there is no CPython {version}")
    if too_large:
        sys.exit(f"wheels: over {LIMIT:,} bytes: {', '.join(too_large)}")


if __name__ == "__main__":
    main()
