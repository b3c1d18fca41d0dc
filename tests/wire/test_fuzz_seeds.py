"""Every seed, and every input that once failed a fuzz target's check, goes through that check.

So the targets stay alive without a fuzzer, and what was mended stays mended.
"""

import importlib
import random

import pytest

import make_seeds
import run
from looped import looped
from places import FUZZ

SEEDS = sorted(path for path in (FUZZ / "corpus").rglob("*") if path.is_file())
NO_TARGETS = {"harness", "make_seeds", "run", "streams"}


def test_every_target_has_seeds():
    targets = {path.stem for path in FUZZ.glob("*.py")} - NO_TARGETS
    assert targets == {path.parent.name for path in SEEDS}


@looped("seed", SEEDS)
def test_the_check_holds(seed):
    importlib.import_module(seed.parent.name).check(seed.read_bytes())


def test_the_seeds_are_those_of_the_script(tmp_path, monkeypatch):
    monkeypatch.setattr(make_seeds, "CORPUS", tmp_path)
    make_seeds.main()
    for made in (path for path in tmp_path.rglob("*") if path.is_file()):
        assert (FUZZ / "corpus" / made.relative_to(tmp_path)).read_bytes() == made.read_bytes()


@pytest.mark.parametrize("target", sorted({path.parent.name for path in SEEDS}))
def test_the_check_holds_for_changed_seeds(target):
    """A little of what `python fuzz/run.py --random` does, the same every time."""
    check = importlib.import_module(target).check
    seeds = [path.read_bytes() for path in SEEDS if path.parent.name == target]
    choose = random.Random(target)
    for _ in range(50):
        check(run.changed(choose.choice(seeds), seeds, choose))
