"""What is shipped: the wheels of docs/releasing.md, one version, and the page on PyPI."""

import ast
import datetime
import email
import email.policy
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import scriptling_ws
from places import FUZZ, REPOSITORY, SUPPORT, TESTS

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


@pytest.mark.skipif(not RELEASING.exists(), reason="these tests are not in their repository")
def test_the_changelog_has_this_version():
    """Its newest heading below "Unreleased", with a date; and the others in their order."""
    text = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    first, *headings = re.findall(r"^## (.+)$", text, re.M)
    assert first == "Unreleased"
    versions, dates = zip(*(heading.split(" - ") for heading in headings), strict=True)
    assert versions[0] == scriptling_ws.__version__
    numbers = [tuple(map(int, version.split("."))) for version in versions]
    assert numbers == sorted(set(numbers), reverse=True)
    days = [datetime.date.fromisoformat(date) for date in dates]
    assert days == sorted(days, reverse=True)


WORKFLOW = REPOSITORY / ".github" / "workflows" / "wheels.yml"


@pytest.mark.skipif(not WORKFLOW.exists(), reason="a source distribution has no workflows")
@pytest.mark.skipif(os.name == "nt", reason="the workflow does it on Linux")
@pytest.mark.parametrize(("tag", "status"), [(f"v{scriptling_ws.__version__}", 0), ("v9.9.9", 1)])
def test_the_workflow_compares_the_tag(tag, status, tmp_path):
    (line,) = re.findall(r"run: (test .*GITHUB_REF_NAME.*)", WORKFLOW.read_text(encoding="utf-8"))
    (tmp_path / "python").symlink_to(sys.executable)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "GITHUB_REF_NAME": tag, "PATH": path}
    found = subprocess.run(["sh", "-c", line], cwd=REPOSITORY, env=env, timeout=60, check=False)
    assert found.returncode == status


@pytest.mark.skipif(not RELEASING.exists(), reason="these tests are not in their repository")
def test_the_size_of_a_wheel():
    limit = re.search(r"A wheel may have (\d+) KiB", RELEASING.read_text(encoding="utf-8"))[1]
    wheels = (REPOSITORY / "tests" / "wheels.py").read_text(encoding="utf-8")
    assert f"\nLIMIT = {limit} * 1024\n" in wheels


# -- the page on PyPI ----------------------------------------------------------

ADDRESS = "https://git.example/someone/scriptling-ws"


def metadata(folder, **environment):
    """The metadata that a build makes here."""
    pytest.importorskip("setuptools", "80")
    command = [sys.executable, "setup.py", "--quiet", "egg_info", "--egg-base", folder]
    env = {name: value for name, value in os.environ.items() if name != "SCRIPTLING_WS_REPOSITORY"}
    subprocess.run(
        command, cwd=REPOSITORY, env=env | environment, capture_output=True, timeout=60, check=True
    )
    (file,) = folder.glob("*.egg-info/PKG-INFO")
    return email.message_from_string(file.read_text(encoding="utf-8"), policy=email.policy.default)


def links(text):
    return re.findall(r"\]\(([^)]+)\)", text)


def test_links_on_pypi_lead_to_the_files_as_they_were_released(tmp_path):
    found = metadata(tmp_path, SCRIPTLING_WS_REPOSITORY=f"{ADDRESS}/")
    tag, readme = f"v{scriptling_ws.__version__}", (REPOSITORY / "README.md").read_text("utf-8")
    expected = [
        link
        if link.startswith("https://")
        else f"{ADDRESS}/{'raw' if link.endswith('.svg') else 'blob'}/{tag}/{link}"
        for link in links(readme)
    ]
    assert links(found.get_payload()) == expected
    assert f"Repository, {ADDRESS}" in found.get_all("Project-URL")
    assert found["Version"] == scriptling_ws.__version__
    assert found["Description-Content-Type"] == "text/markdown"


def test_without_an_address_there_are_no_dead_links_on_pypi(tmp_path):
    found = metadata(tmp_path)
    text = found.get_payload()
    assert links(text)
    assert all(link.startswith("https://") for link in links(text))
    assert "![" not in text
    assert "A chat in ten minutes shows" in text
    assert found.get_all("Project-URL") is None


def test_classifiers_name_the_interpreters_of_the_wheels(tmp_path):
    named = re.findall(r"Python :: (3\.\d+)$", str(metadata(tmp_path)), re.M)
    wheels = {re.match(r"cp(3)(\d+)", name).groups() for name in table()["linux"]}
    assert {tuple(version.split(".")) for version in named} == wheels


# -- the tests of a wheel ------------------------------------------------------

INSTALLED = {"pytest", "_pytest", "scriptling_ws", "scriptling", "wsproto", "h11", "idna"}


def imported(path):
    """The modules that a file imports as it is loaded."""
    pending = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        for node in ast.iter_child_nodes(pending.pop()):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield node.module.partition(".")[0]
            elif not isinstance(node, ast.FunctionDef | ast.Try):
                pending.append(node)


def missing(path, seen):
    """What a test file, and what it imports of ours, need beyond the group `test-wheel`."""
    for name in imported(path):
        own = [folder / f"{name}.py" for folder in (SUPPORT, FUZZ)]
        for file in filter(Path.exists, own):
            if file not in seen:
                seen.add(file)
                yield from missing(file, seen)
        if not any(map(Path.exists, own)) and name not in INSTALLED | sys.stdlib_module_names:
            yield f"{path.name}: {name}"


def test_the_tests_of_a_wheel_need_nothing_else():
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    command = re.search(r'"python -m pytest -q (.+)"', text)[1]
    files = [REPOSITORY / name for name in command.split()]
    assert len(files) > 5
    seen = set()
    for file in (TESTS / "conftest.py", *files):
        assert list(missing(file, seen)) == []
