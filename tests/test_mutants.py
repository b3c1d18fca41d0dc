"""What `make mutants` changes, what it does not, and what it says of a change."""

import subprocess

import pytest

import mutants

pytestmark = pytest.mark.once

SOURCE = '''\
"""Text 1."""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import other as more
__all__ = ["one"]
LIMIT: Final[Literal[3]] = 3


def one(a: int = 0) -> bool:
    """Text 2."""
    assert a > 4
    log.debug("at %d", 5)
    if a < 6 and not b:  # pragma: no cover - not here
        return 7
    if a == 8:  # as a pragma: no mutate says
        pass
    log.error(f"{a + 1}")
    self.state = max(a, b)
    return a < 9 or not b
'''


@pytest.fixture
def tree(tmp_path):
    """A package with one module, and its tests' folder."""
    package = tmp_path / mutants.PACKAGE
    package.mkdir(parents=True)
    (package / "_one.py").write_text(SOURCE)
    return tmp_path


def test_what_is_changed(tree):
    lines = SOURCE.splitlines()
    seen = set()
    for each in mutants.mutants_of("_one", tree):
        new = each.apply(SOURCE.encode()).decode().splitlines()
        (at,) = [at for at, line in enumerate(lines) if new[at] != line]
        assert at == each.line - 1
        seen.add(new[at].strip().replace("(", "").replace(")", ""))
    assert seen == {
        *("LIMIT: Final[Literal[3]] = 4", "LIMIT: Final[Literal[3]] = 2"),
        *("def onea: int = 1 -> bool:", "def onea: int = -1 -> bool:"),
        *("pass", "self.state = mina, b", "return None"),
        *("return a < 9 and not b", "return a < 9", "return not b", "return a <= 9 or not b"),
        *("return a < 10 or not b", "return a < 8 or not b", "return a < 9 or b"),
    }


def test_every_module_has_its_tests():
    files = (mutants.ROOT / mutants.PACKAGE).rglob("*.py")
    modules = {mutants.name_of(path.relative_to(mutants.ROOT)) for path in files}
    modules = {name for name in modules if not name.endswith(".__init__")}
    assert sorted(modules) == sorted(
        module for modules, _ in mutants.WINGS.values() for module in modules.split()
    )
    for module in modules:
        assert all((mutants.ROOT / test).is_file() for test in mutants.tests_of(module))


def test_mutants_are_the_same_for_a_seed(capsys, monkeypatch):
    drawn = []
    monkeypatch.setattr(mutants, "run", lambda some, *_: drawn.append(some) or [])
    for seed in ("1", "1", "2"):
        monkeypatch.setattr(
            "sys.argv", ["mutants", "_handshakes.url", "--count", "5", "--seed", seed]
        )
        assert mutants.main() == 1  # none was tried: no score
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 5
    assert "5 of " in capsys.readouterr().out


def test_what_differs_is_asked_of_git():
    if subprocess.run(["git", "rev-parse", "HEAD"], cwd=mutants.ROOT, check=False).returncode:
        pytest.skip("no repository here")
    assert isinstance(mutants.differing("HEAD"), list)


TEST = ["tests/test_one.py"]
TESTS = {
    "noticed": ("assert one() == 9", "tests/test_one.py::test_one"),
    "unnoticed": ("one()", ""),
    "endless": ("one() == 9 or __import__('threading').Event().wait()", "too late"),
}


@pytest.mark.skipif(not hasattr(mutants.os, "killpg"), reason="no process groups here")
@pytest.mark.parametrize("name", TESTS)
def test_what_becomes_of_a_mutant(name, tree, tmp_path, monkeypatch):
    body, fate = TESTS[name]
    module = tree / mutants.PACKAGE / "_one.py"
    module.write_text("def one():\n    return 9\n")
    (tree / mutants.PACKAGE / "__init__.py").touch()
    (tree / "tests").mkdir()
    (tree / "tests" / "test_one.py").write_text(
        f"from scriptling_ws._one import one\n\n\ndef test_one():\n    {body}\n"
    )
    (tree / "pyproject.toml").write_text('[tool.pytest.ini_options]\ntestpaths = ["tests"]\n')
    monkeypatch.setattr(mutants, "ROOT", tree)
    monkeypatch.setattr(mutants, "PARTS", ("src", "tests", "pyproject.toml"))
    monkeypatch.setattr(mutants, "WINGS", {"wing": ("_one", "one")})
    mutant = next(each for each in mutants.mutants_of("_one", tree) if each.text == "(10)")
    folder = tmp_path / "copy"
    folder.mkdir()
    assert mutants.Copy(folder).try_out(mutant, TEST, 3 if name == "endless" else 60) == fate
    assert "return 9" in module.read_text()  # the tree itself was not changed
    assert "return 9" in (folder / mutants.PACKAGE / "_one.py").read_text()
    assert "+    return (10)" in mutants.shown(mutant)
