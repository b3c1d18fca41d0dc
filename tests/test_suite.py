"""What the suite does with its own tests: which run alone, which run once, what is counted."""

import contextlib
import inspect
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

import code_blocks
import jitter as _jitter
import turns as _turns
from cases import AbuseCases, CodeBlocks, check_names, named
from looped import looped
from once import no_connection
from pairs import Running, both_ends, until
from places import TESTS
from turns import Turns

pytestmark = pytest.mark.once("it opens a connection to be told off for that")

fcntl = pytest.importorskip("fcntl")


@pytest.fixture
def workers(tmp_path):
    """Four of them."""
    with contextlib.ExitStack() as stack:
        some = [Turns(tmp_path) for _ in range(4)]
        for each in some:
            stack.callback(each.pytest_unconfigure)
        yield some


def turn(worker, *, alone):
    """A test that wants its turn: `next` waits for that, `close` ends it."""
    mark = object() if alone else None
    return worker.pytest_runtest_protocol(SimpleNamespace(get_closest_marker=lambda name: mark))


def is_shut(door):
    """Whether somebody holds the door, who waits for the others."""
    with Path(door).open("w") as mine:
        try:
            fcntl.flock(mine, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def test_one_that_is_alone_waits_for_those_at_it_and_others_wait_for_it(workers, tmp_path):
    first, second, third = (turn(worker, alone=False) for worker in workers[:3])
    alone = turn(workers[3], alone=True)
    next(first)
    next(second)  # both at a time
    waiting = Running(next, alone)
    until(lambda: is_shut(tmp_path / "door"))
    late = Running(next, third)
    first.close()
    assert not waiting.done()
    second.close()
    waiting.result()
    assert not late.done()
    alone.close()
    late.result()
    third.close()


def test_a_test_that_fails_gives_its_turn_away(workers):
    for alone in (True, False, True):
        running = turn(workers[0], alone=alone)
        next(running)
        with pytest.raises(ZeroDivisionError):
            running.throw(ZeroDivisionError())
    other = turn(workers[1], alone=True)
    Running(next, other).result()
    other.close()


def test_there_are_turns_where_there_are_workers_alone():
    registered = []
    manager = SimpleNamespace(register=lambda plugin, name: registered.append(plugin))
    for count in (None, 0):
        _turns.take_turns(SimpleNamespace(pluginmanager=manager, getoption=lambda *_, n=count: n))
    assert registered == []
    _turns.take_turns(SimpleNamespace(pluginmanager=manager, getoption=lambda *_: 2))
    (host,) = registered
    node = SimpleNamespace(workerinput={})
    host.pytest_configure_node(node)
    _turns.take_turns(SimpleNamespace(pluginmanager=manager, workerinput=node.workerinput))
    _, worker = registered
    running = turn(worker, alone=True)
    Running(next, running).result()
    running.close()
    worker.pytest_unconfigure()
    host.pytest_unconfigure()
    assert not Path(node.workerinput["turns"]).exists()


def test_a_connection_is_noticed_where_there_is_to_be_none():
    with pytest.raises(AssertionError, match="2 connections"), no_connection(), both_ends():
        pass
    with both_ends(), no_connection():
        pass


class Teller:
    """Keeps the lines of a summary."""

    def __init__(self):
        self.lines = []
        self.write_line = self.lines.append


def reported(rows, *, failed=False):
    return SimpleNamespace(
        user_properties=[("abuse", rows)], failed=failed, passed=not failed, when="call"
    )


def test_abuse_cases_are_counted_over_all_workers(monkeypatch):
    monkeypatch.setattr("cases.ROWS", range(1, 7))
    worker, whole, teller = AbuseCases(), AbuseCases(), Teller()
    worker.tested, worker.elsewhere, worker.files = {1, 2, 3, 4, 5}, {2, 4}, {Path("a")}
    output = {}
    worker.pytest_sessionfinish(SimpleNamespace(config=SimpleNamespace(workeroutput=output)))
    for _ in range(2):  # all of them collect the same
        whole.pytest_testnodedown(SimpleNamespace(workeroutput=output), None)
    whole.pytest_testnodedown(SimpleNamespace(), "it crashed")
    assert whole.files == {Path("a")}
    for report in (reported([1, 2]), reported([3]), reported([3], failed=True)):
        whole.pytest_runtest_logreport(report)
    config = SimpleNamespace(option=SimpleNamespace(collectonly=False))
    monkeypatch.setattr(AbuseCases, "whole", True)
    whole.pytest_terminal_summary(teller, config)
    assert teller.lines == [
        "abuse cases covered: 2 of 6, 1 left out",
        "abuse cases not covered: [3, 5, 6]",
    ]


def test_code_blocks_belong_to_their_headings(monkeypatch):
    fence = "```"
    text = f"""# Page

{fence}python
# no heading
{fence}

## One part

- in a list

  {fence}sh
  make test
  {fence}

{fence}{{toctree}}
navigation
{fence}

{fence}text
a drawing
{fence}
"""
    monkeypatch.setattr("code_blocks.read", lambda page: text)
    found = code_blocks.blocks_of.__wrapped__("docs/page.md")
    assert [(block.id, block.language, block.text, block.line) for block in found] == [
        ("docs/page.md#page 1", "python", "# no heading\n", 3),
        ("docs/page.md#one-part 1", "sh", "make test\n", 11),
        ("docs/page.md#one-part 2", "text", "a drawing\n", 19),
    ]


def test_a_mark_of_blocks_that_are_not_there_is_refused():
    marks = [SimpleNamespace(args=("docs/rooms.md#nowhere",))]
    item = SimpleNamespace(nodeid="test_x.py::test_y", iter_markers=lambda name: marks)
    with pytest.raises(pytest.UsageError, match=r"no code block at docs/rooms\.md#nowhere"):
        CodeBlocks().of(item)
    marks[:] = [SimpleNamespace(args=("docs/rooms.md#rooms",))]
    assert CodeBlocks().of(item) == {"docs/rooms.md#rooms 1"}


def test_a_block_runs_with_the_words_of_its_page():
    (block,) = code_blocks.blocks_at("docs/rooms.md#while-redis-is-away")
    with pytest.raises(AssertionError, match="has no 'nothing of it' any more"):
        block.changed({"nothing of it": ""})
    wrong = code_blocks.Block("docs/rooms.md#rooms", 0, "python", "1 / zero\n", 40)
    with pytest.raises(ZeroDivisionError) as caught:
        wrong.run(zero=0)
    assert caught.traceback[-1].lineno == 40


def test_an_address_in_the_id_of_a_case_is_refused():
    item = SimpleNamespace(nodeid=f"tests/test_x.py::test_y[{named('a')}]")
    check_names([item])
    item.nodeid = f"tests/test_x.py::test_y[{object()}]"
    with pytest.raises(pytest.UsageError, match="ids=named"):
        check_names([item])
    item.nodeid = f"tests/test_x.py::test_y[{named(object())}]"
    check_names([item])


# -- pauses ---------------------------------------------------------------------


@pytest.fixture
def pauses(monkeypatch):
    """Those of one seed, which takes none: the names of the threads that would have paused."""
    taken = []
    monkeypatch.setattr(
        _jitter, "_sleep", lambda seconds: taken.append(threading.current_thread().name)
    )
    before, interval = sys.getprofile(), sys.getswitchinterval()
    begun = _jitter.Jitter(1)
    yield lambda name: (taken.clear(), begun.begin(name), taken)[2]
    begun.end()
    sys.setprofile(before)
    sys.setswitchinterval(interval)


def test_threads_pause_where_the_package_and_its_tests_run(pauses):
    def talk():
        with both_ends() as (client, server):
            for _ in range(20):
                client.send("x")
                assert server.receive(10) == "x"

    paused = set()
    for number in range(20):
        taken = pauses(f"test {number}")
        talk()
        Running(talk).result()
        paused.update(taken)
    assert paused == {threading.current_thread().name, "test"}


def test_code_of_others_is_not_held_up(pauses):
    for number in range(20):
        taken = pauses(f"test {number}")
        for _ in range(20):
            json.dumps({"a": [1]}, indent=1)
        assert not taken


def test_a_program_pauses_too(tmp_path):
    """As the tests that start it do: by the environment."""
    environment = os.environ | {"PYTHONPATH": str(TESTS / "jittered"), _jitter.VARIABLE: "1"}
    code = "import sys; print(sys.getprofile() is not None)"
    for changes, expected in (({}, "True"), ({_jitter.VARIABLE: ""}, "False")):
        said = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | changes,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        assert said.stdout.strip() == expected


# -- loops ----------------------------------------------------------------------


def test_a_loop_goes_through_all_cases_and_names_the_one_that_fails(capsys):
    ran = []

    @looped("third", [1, 2])
    @looped(("first", "second"), [("a", "b"), ("c", "d")])
    def test(fixture, first, second, third):
        ran.append((fixture, first, second, third))
        assert (first, third) != ("c", 2)

    assert list(inspect.signature(test).parameters) == ["fixture"]
    with pytest.raises(AssertionError):
        test(fixture="f")
    assert ran == [("f", *pair, third) for third in (1, 2) for pair in ("ab", "cd")]
    assert "the case that fails: {'first': 'c', 'second': 'd'}" in capsys.readouterr().out
    with pytest.raises(AssertionError, match="no cases"):
        looped("x", [])
    with pytest.raises(ValueError, match="longer"):
        looped(("x", "y"), [(1, 2, 3)])(lambda x, y: None)()
