"""What is shipped: the wheels that docs/releasing.md names, and the version from one place."""

import importlib.util
import re
import subprocess
import sys

import pytest

import scriptling_ws
from places import REPOSITORY

pytestmark = pytest.mark.once

RELEASING = REPOSITORY / "docs" / "releasing.md"
ROW = re.compile(r"\| (linux|macos|windows) \| (.*) \| (.*) \|")


def table():
    """The build identifiers that the page names, by system."""
    rows = filter(None, map(ROW.fullmatch, RELEASING.read_text(encoding="utf-8").splitlines()))
    return {
        row[1]: {f"{python}-{platform}" for python in row[2].split() for platform in row[3].split()}
        for row in rows
    }


@pytest.mark.skipif(
    importlib.util.find_spec("cibuildwheel") is None, reason="cibuildwheel is not installed"
)
@pytest.mark.parametrize("system", ["linux", "macos", "windows"])
def test_cibuildwheel_builds_the_wheels_of_the_table(system):
    command = ["-m", "cibuildwheel", "--print-build-identifiers", "--platform", system]
    found = subprocess.run(
        [sys.executable, *command, REPOSITORY],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert set(found.stdout.split()) == table()[system]


@pytest.mark.skipif(not RELEASING.exists(), reason="these tests are not in their repository")
def test_the_version_is_in_one_place():
    version = scriptling_ws.__version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    files = [REPOSITORY / "pyproject.toml", REPOSITORY / "setup.py"]
    files += (REPOSITORY / "src").rglob("*.py")
    having = [file.name for file in files if f'"{version}"' in file.read_text(encoding="utf-8")]
    assert having == ["_version.py"]
