"""Counts the abuse cases that a run covers, over all of its workers; the end of the run tells.

A row is covered when a test that is marked with it has passed and none has failed; with
--collect-only, when it has a test.
"""

import re
from pathlib import Path

import pytest

from abuse import ROWS
from places import TESTS


class AbuseCases:
    """The rows of the abuse cases that the tests of this run have.

    Attributes:
        files: The files whose tests were collected.
        tested: The rows that have a test.
        elsewhere: Those of tests that are left out here, as another run has them.
        passed: Those that a test has passed with.
        failed: Those that a test has failed with.
    """

    def __init__(self):
        self.files = set()
        self.tested = set()
        self.elsewhere = set()
        self.passed = set()
        self.failed = set()

    @property
    def whole(self):
        """Whether this run has all the tests."""
        return self.files >= set(TESTS.rglob("test_*.py"))

    def pytest_itemcollected(self, item):
        rows = {number for mark in item.iter_markers("abuse") for number in mark.args}
        if not rows <= set(ROWS):
            raise pytest.UsageError(f"{item.nodeid}: there are no abuse cases {rows - set(ROWS)}")
        self.files.add(item.path)
        self.tested |= rows
        item.user_properties.append(("abuse", sorted(rows)))

    def pytest_deselected(self, items):
        for item in items:
            self.elsewhere.update(dict(item.user_properties)["abuse"])

    def pytest_runtest_logreport(self, report):
        rows = dict(report.user_properties).get("abuse", ())
        if report.failed:
            self.failed.update(rows)
        elif report.when == "call" and report.passed:
            self.passed.update(rows)

    def pytest_terminal_summary(self, terminalreporter, config):
        covered = self.tested if config.option.collectonly else self.passed - self.failed
        if self.tested:
            more = self.elsewhere - covered - self.failed
            missing = sorted(set(ROWS) - covered - more)
            line = f"abuse cases covered: {len(covered)} of {len(ROWS)}"
            terminalreporter.write_line(line + (f", {len(more)} left out" if more else ""))
            if missing and self.whole:
                terminalreporter.write_line(f"abuse cases not covered: {missing}")

    # -- with workers: these collect, and the process that they belong to hears the reports --------

    def pytest_sessionfinish(self, session):
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output["abuse"] = {
                "files": sorted(map(str, self.files)),
                "tested": sorted(self.tested),
                "elsewhere": sorted(self.elsewhere),
            }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error):
        if (said := getattr(node, "workeroutput", {}).get("abuse")) is not None:
            self.files.update(map(Path, said["files"]))
            self.tested.update(said["tested"])
            self.elsewhere.update(said["elsewhere"])


_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def named(value):
    """The id of a case: as str() has it, but for addresses, which each process has others of."""
    return _ADDRESS.sub("", str(value))


def check_names(items):
    """Each worker of a run has to call a test the same."""
    for item in items:
        if _ADDRESS.search(item.nodeid):
            raise pytest.UsageError(f"{item.nodeid} has an address in its id: give it ids=named")
