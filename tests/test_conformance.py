"""The judgement of `make conformance`: what it takes for a deviation, and what for none."""

import pytest

from conformance import suite, verdicts
from conformance.runs import Run

pytestmark = pytest.mark.once


def verdict(behavior="OK", close="OK"):
    return {
        "behavior": behavior,
        "behaviorClose": close,
        "result": "as it was",
        "resultClose": "as it closed",
        "remoteCloseCode": 1000,
        "duration": 1,
    }


def run(**found):
    return Run("client", "pure", cases=["1.1.1", "7.1.6"], verdicts={"1.1.1": verdict(), **found})


INFORMATIONAL = verdict("INFORMATIONAL", "INFORMATIONAL")


def test_a_run_as_expected_deviates_in_nothing():
    result = run(**{"7.1.6": INFORMATIONAL})
    assert verdicts.deviations(result) == []
    assert (
        verdicts.summary(result)
        == "client, pure, threads: 2 of 2 cases: 1 OK, 1 INFORMATIONAL; 0 s"
    )
    assert "\n| client | pure | 2 | 1 | 1 | 0 | 0 | 0 | 2 | 0 |\n" in verdicts.page([result])


@pytest.mark.parametrize(
    "wrong",
    [
        verdict("NON-STRICT"),
        verdict("UNIMPLEMENTED"),
        verdict("FAILED"),
        verdict("INFORMATIONAL", "INFORMATIONAL"),
        verdict("OK", "UNCLEAN"),
        verdict("OK", "FAILED BY CLIENT"),
    ],
)
def test_every_other_verdict_is_a_deviation(wrong):
    result = run(**{"1.1.1": wrong, "7.1.6": INFORMATIONAL})
    (line,) = verdicts.deviations(result)
    assert line.startswith(f"1.1.1: {wrong['behavior']} ")
    assert line in verdicts.page([result])


def test_a_case_without_a_verdict_is_a_deviation():
    assert verdicts.deviations(run()) == ["7.1.6: no verdict"]


def test_what_ended_a_run_early_is_a_deviation():
    result = run(**{"7.1.6": INFORMATIONAL})
    result.trouble = "it said nothing"
    assert verdicts.deviations(result) == ["it said nothing"]


def test_the_python_that_is_named_has_to_be_a_27(monkeypatch):
    monkeypatch.setenv("PYTHON27", "no-such-python")
    with pytest.raises(SystemExit, match="no-such-python"):
        suite.find_python()


def test_no_python_27(monkeypatch, tmp_path):
    monkeypatch.delenv("PYTHON27", raising=False)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(suite.NoPython27):
        suite.find_python()


def test_a_python_27_of_pyenv_is_found(monkeypatch, tmp_path):
    python = tmp_path / "versions" / "2.7.18" / "bin" / "python2.7"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho True\n")
    python.chmod(0o755)
    monkeypatch.delenv("PYTHON27", raising=False)
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert suite.find_python() == python
