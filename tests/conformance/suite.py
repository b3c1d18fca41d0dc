"""Where the Autobahn testsuite is: it runs on CPython 2.7 only, in a venv of its own."""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
VENV = HERE.parent.parent / ".venv-autobahn"
PYTHON = VENV / "bin" / "python"
REQUIREMENTS = HERE / "requirements.txt"
VIRTUALENV = "virtualenv==20.15.1"
INSTALL_TIMEOUT = 900


class NoPython27(Exception):
    """There is no CPython 2.7 on this machine."""


def install():
    """Install the suite, unless that was done with the same requirements."""
    stamp = VENV / "installed"
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if stamp.is_file() and stamp.read_text(encoding="utf-8") == wanted:
        return
    python = find_python()
    if VENV.exists():
        shutil.rmtree(VENV)
    with tempfile.TemporaryDirectory() as tools:
        run(python, "-m", "pip", "install", "-qq", "--target", tools, VIRTUALENV)
        run(python, "-m", "virtualenv", "-qq", VENV, PYTHONPATH=tools)
    run(PYTHON, "-m", "pip", "install", "-qq", "--requirement", REQUIREMENTS)
    stamp.write_text(wanted, encoding="utf-8")


def find_python():
    """CPython 2.7: PYTHON27 of the environment, what is on the PATH, or pyenv's.

    Raises:
        NoPython27: there is none.
    """
    named = os.environ.get("PYTHON27")
    if named:
        if not is_python27(named):
            raise SystemExit(f"PYTHON27={named} is no CPython 2.7")
        return named
    pyenv = pyenv_root()
    candidates = ["python2.7", *sorted(pyenv.glob("versions/2.7*/bin/python2.7"))]
    for candidate in candidates:
        if is_python27(candidate):
            return candidate
    raise NoPython27


def pyenv_root():
    named = os.environ.get("PYENV_ROOT")
    return Path(named) if named else Path.home() / ".pyenv"


def is_python27(python):
    """Whether it runs: a shim of pyenv is on the PATH also where its version is not chosen."""
    code = "import sys; print(sys.version_info[:2] == (2, 7))"
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, timeout=30, check=False)
    except FileNotFoundError:
        return False
    return done.stdout.strip() == b"True"


def run(*command, **environment):
    quiet = {"PIP_NO_PYTHON_VERSION_WARNING": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **quiet, **environment},
        check=True,
        timeout=INSTALL_TIMEOUT,
    )
