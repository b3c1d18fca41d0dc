"""Threads that pause where they never would: what a test takes for granted shows itself.

Off unless SCRIPTLING_WS_JITTER is a number, the seed: `make jitter`.

Rules:

- A thread pauses at calls and returns of the package's code and of the tests', for up to some
  milliseconds, and before it begins. The main thread does at calls alone: a signal's handler runs
  in a pause, and Python has it run at no return.
- How often is drawn for each thread, anew for each test: some never pause, some do at every tenth
  call. Whatever has always come first, because it is quick, then comes last.
- How often the interpreter changes threads is drawn for each test.
- A thread pauses for a third of the time at most that its test has taken so far, and no more than
  two seconds. One that calls very often goes on at its own pace: it would only be slow.
- The programs that tests start are Python's as a rule: they do the same, by tests/jittered.
- It imports nothing of the tests' or of pytest: those programs have neither on their path.
- The seed of a test comes from its name and the run's seed. It brings the same pauses, not the
  same order of threads; a failure comes again in some of the runs with it, not in all.
"""

import os
import random
import sys
import threading
import time
from pathlib import Path

VARIABLE = "SCRIPTLING_WS_JITTER"

# Calls from one pause to the next, on average; 0 is never.
_GAPS = (0, 10, 10, 60, 60, 300)
# Seconds, the most of a pause.
_SHORT, _MEDIUM, _LONG = 0.001, 0.005, 0.03
_FREE = 0.03  # for which a thread pauses in any case
_ENOUGH = 2.0  # for which it pauses in one test
_CALLS = 100_000  # of a thread in one test, after which it goes on at its own pace
_INTERVALS = (0.005, 0.005, 0.0005, 0.00001)

_TESTS = Path(__file__).resolve().parent.parent
_OURS = (str(_TESTS), str(_TESTS.parent / "src"))
# As they are now: a test, or gevent, may put others in their places.
_sleep, _now = time.sleep, time.monotonic


def ours(code):
    """Whether code is of the package or of its tests."""
    return code.co_filename.startswith(_OURS) and code.co_filename != __file__


class Jitter:
    """Has the threads of this process pause."""

    def __init__(self, seed):
        self._seed = seed
        self._turn = 0
        self._began = _now()
        self._draws = random.Random(seed)

    def begin(self, name):
        """Draw anew how often threads pause, and let this one do so."""
        self._draws = random.Random(f"{self._seed} {name}")
        self._turn += 1
        self._began = _now()
        sys.setswitchinterval(self._draws.choice(_INTERVALS))
        threading.setprofile(self._first)
        sys.setprofile(self._pauses(main=True))

    def end(self):
        """Let this thread, and those to come, be."""
        threading.setprofile(None)
        sys.setprofile(None)
        sys.setswitchinterval(_INTERVALS[0])

    def _first(self, frame, event, argument):
        """What a thread is given, which pauses before it begins."""
        draws = random.Random(self._draws.random())
        if draws.random() < 0.3:
            _sleep(draws.uniform(0, _MEDIUM))
        sys.setprofile(self._pauses(main=False))

    def _pauses(self, *, main):
        """What looks at each call of a thread."""
        draws = random.Random(self._draws.random())
        turn, gap, left, paused, calls = -1, 0, 1, 0.0, 0

        def look(frame, event, argument):
            nonlocal turn, gap, left, paused, calls
            left -= 1
            calls += 1
            if left > 0:
                return
            if turn != self._turn:
                turn, gap, paused, calls = self._turn, draws.choice(_GAPS), 0.0, 0
            if calls > _CALLS:
                sys.setprofile(None)
                return
            if not gap:
                left = 1000  # the next test may change that
                return
            if (main and event != "call") or not ours(frame.f_code):
                left = 1
                return
            left = int(draws.expovariate(1 / gap)) + 1
            if paused < min(_ENOUGH, _FREE + (_now() - self._began) / 3):
                most = draws.choices((_SHORT, _MEDIUM, _LONG), (60, 38, 2))[0]
                seconds = draws.uniform(0, most)
                paused += seconds
                _sleep(seconds)

        return look


class Plugin:
    """A run of the tests with pauses."""

    def __init__(self, seed):
        self._seed = seed
        self._jitter = Jitter(seed)

    def pytest_runtest_logstart(self, nodeid):
        self._jitter.begin(nodeid)

    def pytest_runtest_logfinish(self):
        self._jitter.end()


def wanted():
    """The seed that the environment has, or None."""
    said = os.environ.get(VARIABLE)
    return int(said) if said else None


def jitter(config):
    """Have this process pause while it runs tests, and the programs that they start, if wanted."""
    if (seed := wanted()) is None:
        return
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_TESTS / "jittered"), path)))
    # The process that shares tests out to others runs none.
    if hasattr(config, "workerinput") or not config.getoption("numprocesses", None):
        config.pluginmanager.register(Plugin(seed), "jitter")


def pause_here():
    """Have a program's threads pause, if that is wanted."""
    if (seed := wanted()) is not None:
        Jitter(seed).begin(f"program {os.getpid()}")
