"""Counts what a run's tests have to cover, over all of its workers; the end of the run tells.

There are two lists of that: the abuse cases, by their rows, and the code blocks of the pages. A
case is covered when a test that is marked with it has passed and none has failed; with
--collect-only, when it has a test.
"""

import re
from pathlib import Path

import pytest

import code_blocks
from abuse import ROWS
from places import TESTS


class Cases:
    """The cases of one kind that the tests of this run have.

    Attributes:
        title: What they are called.
        mark: The mark of a test that covers some.
        files: The files whose tests were collected.
        tested: The cases that have a test.
        elsewhere: Those of tests that are left out here, as another run has them.
        passed: Those that a test has passed with.
        failed: Those that a test has failed with.
    """

    title = mark = None

    def __init__(self):
        self.files = set()
        self.tested = set()
        self.elsewhere = set()
        self.passed = set()
        self.failed = set()

    def all(self):
        """All that there are."""
        raise NotImplementedError

    def of(self, item):
        """Those that a test covers, and which there have to be."""
        raise NotImplementedError

    @property
    def whole(self):
        """Whether this run has all the tests."""
        return self.files >= set(TESTS.rglob("test_*.py"))

    def pytest_itemcollected(self, item):
        cases = self.of(item)
        self.files.add(item.path)
        self.tested |= cases
        item.user_properties.append((self.mark, sorted(cases)))

    def pytest_deselected(self, items):
        for item in items:
            self.elsewhere.update(dict(item.user_properties)[self.mark])

    def pytest_runtest_logreport(self, report):
        cases = dict(report.user_properties).get(self.mark, ())
        if report.failed:
            self.failed.update(cases)
        elif report.when == "call" and report.passed:
            self.passed.update(cases)

    def pytest_terminal_summary(self, terminalreporter, config):
        covered = self.tested if config.option.collectonly else self.passed - self.failed
        if self.tested:
            more = self.elsewhere - covered - self.failed
            missing = sorted(set(self.all()) - covered - more)
            line = f"{self.title} covered: {len(covered)} of {len(self.all())}"
            terminalreporter.write_line(line + (f", {len(more)} left out" if more else ""))
            if missing and self.whole:
                terminalreporter.write_line(f"{self.title} not covered: {missing}")

    # -- with workers: these collect, and the process that they belong to hears the reports --------

    def pytest_sessionfinish(self, session):
        if (output := getattr(session.config, "workeroutput", None)) is not None:
            output[self.mark] = {
                "files": sorted(map(str, self.files)),
                "tested": sorted(self.tested),
                "elsewhere": sorted(self.elsewhere),
            }

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node, error):
        if (said := getattr(node, "workeroutput", {}).get(self.mark)) is not None:
            self.files.update(map(Path, said["files"]))
            self.tested.update(said["tested"])
            self.elsewhere.update(said["elsewhere"])


class AbuseCases(Cases):
    """The rows of the abuse cases."""

    title, mark = "abuse cases", "abuse"

    def all(self):
        return ROWS

    def of(self, item):
        rows = {number for mark in item.iter_markers(self.mark) for number in mark.args}
        if not rows <= set(ROWS):
            raise pytest.UsageError(f"{item.nodeid}: there are no abuse cases {rows - set(ROWS)}")
        return rows


class CodeBlocks(Cases):
    """The code blocks of the pages, by their ids."""

    title, mark = "code blocks", "blocks"

    def all(self):
        return [block.id for block in code_blocks.runnable()]

    def of(self, item):
        try:
            return {block.id for block in code_blocks.of(item)}
        except LookupError as error:
            raise pytest.UsageError(f"{item.nodeid}: {error}") from None


_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def named(value):
    """The id of a case: as str() has it, but for addresses, which each process has others of."""
    return _ADDRESS.sub("", str(value))


def check_names(items):
    """Each worker of a run has to call a test the same."""
    for item in items:
        if _ADDRESS.search(item.nodeid):
            raise pytest.UsageError(f"{item.nodeid} has an address in its id: give it ids=named")
