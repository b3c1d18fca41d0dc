"""What the tests of the command share."""

import subprocess
import sys

import pytest

from driven import Driven
from processes import DEADLINE, Process, python_environment


@pytest.fixture
def peer():
    """A server, each connection of which the test has."""
    with Driven() as server:
        yield server


@pytest.fixture
def command(tmp_path):
    """Start the command; what it writes to its standard error is in `.errors()`."""
    started = []

    def start(*arguments, env=None):
        errors = (tmp_path / f"stderr{len(started)}").open("w+", encoding="utf-8")
        process = Process.python(
            "-m", "scriptling_ws", *arguments, env=python_environment(**(env or {})), stderr=errors
        )

        def said():
            errors.seek(0)
            return errors.read()

        process.errors = said
        started.append((process.__enter__(), errors))
        return process

    yield start
    for process, errors in started:
        process.__exit__(None, None, None)
        errors.close()


@pytest.fixture
def run():
    """Run the command to its end, with an input: its status, output and standard error."""

    def run_(*arguments, given="", env=None, **options):
        done = subprocess.run(
            [sys.executable, "-m", "scriptling_ws", *map(str, arguments)],
            input=given.encode() if isinstance(given, str) else given,
            capture_output=True,
            env=python_environment(**(env or {})),
            timeout=DEADLINE,
            check=False,
            **options,
        )
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    return run_
