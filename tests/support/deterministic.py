"""A second engine for the package's waits: one thread, a clock of its own, and a schedule.

It shows that the seam (`_network.waiting`) is one, and it runs what tasks do to one connection in
every order that a test asks for. Each task is a greenlet. Each call of the engine, and each
system call on a socket that is made here, is a point at which another task may go on instead. Who
does is a choice, and a schedule is what is chosen at each point: 0 is the task that would go on
anyway, which is the one that runs, or the next in turn where that one waits. The same schedule
always leads the same way.

- Nothing sleeps. Where all tasks wait, the clock goes to the earliest deadline of one. With
  `late`, the deadlines of the first so many seconds may also come while others could go on: that
  is a choice as well.
- Where all wait and none has a deadline, that is a Deadlock, which says who waits for what.
- Sockets are real, and asked without blocking. They are Unix ones: what is sent on one is there
  at once, every time.
- `explore` runs all schedules in which no more than so many choices differ from 0. Chess, of
  Musuvathi and Qadeer, bounds preemptions likewise; here a choice counts too where a task waits,
  for three tasks would have too many schedules.
- `wander` draws schedules, by seeds: any number of choices may differ. With `lines`, each line
  of the package is a point too.
- A failure names its schedule: `run` with that runs it again.
"""

import contextlib
import functools
import pkgutil
import random
import select
import selectors
import socket
import sys
import threading
import time

import pytest

import scriptling_ws
from scriptling_ws._connection import keepalive as _keepalive
from scriptling_ws._network.deadline import FOREVER
from scriptling_ws._network.waiting import READ, WRITE, use

if sys.implementation.name != "cpython" or not getattr(sys, "_is_gil_enabled", lambda: True)():
    pytest.skip("greenlets were tried on CPython with its GIL alone", allow_module_level=True)
if sys.gettrace() is not None:
    pytest.skip("a tracer does not know greenlets", allow_module_level=True)
if not hasattr(select, "poll"):
    pytest.skip("no poll here", allow_module_level=True)
greenlet = pytest.importorskip("greenlet")

START = 1000.0  # what the clock says at first
_ENOUGH = 50_000  # points after which a schedule does not end
_LATEST = START + 1800.0  # the moment after which it does not: every timeout is shorter


class Deadlock(AssertionError):
    """All tasks wait, and nothing will ever end that."""


class Endless(AssertionError):
    """The tasks go on and on."""


class Broken(AssertionError):
    """A rule was broken, and nobody else would notice: a descriptor was closed under a wait."""


def _where():
    """The line that has asked for a lock or the like, as its name."""
    frame = sys._getframe(2)
    return f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_lineno}"


class Task:
    """One task: the engine's, and what a test asks for its outcome."""

    def __init__(self, engine, body, name, number):
        self.name = name
        self.number = number
        self.ended = False
        self.outcome = None
        self.error = None
        # Why it does not go on: whether that is over, until when, and in words.
        self.ready = None
        self.until = None
        self.what = ""
        self.timed_out = False
        self._engine = engine
        self._body = body
        self.greenlet = greenlet.greenlet(self._run, engine.hub)

    def _run(self):
        self._engine.trace()
        try:
            self.outcome = self._body()
        except greenlet.GreenletExit:
            pass
        except BaseException as error:
            self.error = error
        finally:
            self.ended = True

    def is_alive(self):
        return not self.ended

    def join(self, timeout=None):
        self._engine.block(lambda: self.ended, timeout, f"the end of {self.name}")

    def result(self):
        """Wait for its end; what it has returned or raised."""
        self.join()
        error, self.error = self.error, None
        if error is not None:
            raise error
        return self.outcome


class Lock:
    """A lock: plain, or one that its holder may take again."""

    def __init__(self, engine, again, where):
        self._engine = engine
        self._again = again
        self._where = where
        self._holder = None
        self._count = 0

    def __str__(self):
        return f"the lock of {self._where}, which {self._holder and self._holder.name} holds"

    def _free(self):
        return self._holder is None

    def acquire(self, blocking=True, timeout=-1):
        engine = self._engine
        if not (self._again and self._holder is engine.task):
            if not blocking or timeout == 0:
                engine.point()
                if self._holder is not None:
                    return False
            elif not engine.block(self._free, None if timeout < 0 else timeout, self):
                return False
            self._holder = engine.task
        self._count += 1
        return True

    def release(self):
        if not self._count or (self._again and self._holder is not self._engine.task):
            raise RuntimeError("the lock is not held")
        self._count -= 1
        if not self._count:
            self._holder = None
            self._engine.point()

    def locked(self):
        return self._holder is not None

    def __enter__(self):
        return self.acquire()

    def __exit__(self, *_):
        self.release()


class Event:
    """An event."""

    def __init__(self, engine, where):
        self._engine = engine
        self._where = where
        self._set = False

    def is_set(self):
        return self._set

    def set(self):
        self._set = True
        self._engine.point()

    def clear(self):
        self._set = False

    def wait(self, timeout=None):
        return self._engine.block(self.is_set, timeout, f"the event of {self._where}")


class Waker:
    """What ends a wait: no descriptor is needed for it here."""

    def __init__(self):
        self.is_set = False

    def set(self):
        self.is_set = True

    def close(self):
        self.set()

    def fileno(self):
        raise AssertionError("only this engine's own wait is woken by it")


class Poller(selectors.PollSelector):
    """A selector that lets the other tasks go on while it waits."""

    def __init__(self, engine):
        super().__init__()
        self._engine = engine

    def select(self, timeout=None):
        now = super().select
        self._engine.block(lambda: now(0), timeout, "something to come to a poller")
        return now(0)


class Engine:
    """The engine. `choose` is given the number of choices, and returns one of them."""

    name = "deterministic"
    naps = False
    fresh = None

    def __init__(self, choose, *, late=0.0, lines=False):
        self.now = START
        self.hub = greenlet.getcurrent()
        self.task = None
        self.tasks = []
        self.points = 0
        self.chosen = []  # the choices that were made
        self.over = False
        self.calm = False  # no choice but 0 from here on, and none is asked for
        self._lines = lines
        self._choose = choose
        self._late = START + late

    # -- what the package asks for: see `contract.Engine` ----------------------

    def parking(self, sock):
        return None

    def share(self, weight):
        pass

    def watch(self, tell):
        return None

    def lock(self):
        return Lock(self, False, _where())

    def rlock(self):
        return Lock(self, True, _where())

    def event(self):
        return Event(self, _where())

    def identity(self):
        return self.task.number

    def current(self):
        return self.task

    def hears_signals(self):
        return False

    def spawn(self, body, name):
        task = Task(self, body, name, len(self.tasks) + 1)
        self.tasks.append(task)
        self.point()
        return task

    def sleep(self, seconds):
        self.block(lambda: False, seconds, "a sleep to end")

    def waker(self):
        return Waker()

    def wait(self, fileobj, events, deadline, waker=None):
        number = fileobj.fileno()
        poll = select.poll()
        mask = (select.POLLIN if events & READ else 0) | (select.POLLOUT if events & WRITE else 0)
        poll.register(number, mask)

        def ready():
            return bool(poll.poll(0)) or (waker is not None and waker.is_set)

        left = deadline.left()
        if not self.block(ready, left, f"descriptor {number} (events {events})"):
            deadline.waited(left)
        if fileobj.fileno() != number:
            self.fail(Broken(f"descriptor {number} was closed while {self.task.name} waited"))

    def poller(self, *, many=False):
        return Poller(self)

    def capacity(self, poller):
        return 1000

    def in_worker(self, function, seconds, name):
        return function()

    def blocking(self, function):
        return function()

    # -- who goes on -------------------------------------------------------------

    def point(self):
        """Here another task may go on."""
        if self.task is not None and not self.over:
            self._leave(self.task, None, None, "its turn")

    def block(self, ready, seconds, what):
        """Let others go on until something is ready, for so many seconds; whether it is."""
        if seconds is not None and seconds <= 0:
            self.point()
            return ready()
        if self.task is not None and not self.over:
            return self._leave(self.task, ready, seconds, what)
        if ready():
            return True
        if self.over:
            raise greenlet.GreenletExit
        raise AssertionError(f"nobody but a task waits for {what}")

    def _leave(self, task, ready, seconds, what):
        task.ready, task.what = ready, what
        task.until = None if seconds is None else self.now + seconds
        task.timed_out = False
        self.points += 1
        chosen = self._next(task)
        if chosen is not task:
            self.task = chosen
            chosen.greenlet.switch()
            self.trace()
        return not task.timed_out

    def _next(self, current):
        """The task that goes on; `current` is the one that calls, or has just ended."""
        choices, late = [], None
        start = self.tasks.index(current)
        for task in self.tasks[start:] + self.tasks[:start]:
            if task.ended:
                continue
            if task.ready is None or task.ready():
                choices.append(task)
            elif task.until is not None and (late is None or task.until < late.until):
                late = task
        if self.points > _ENOUGH:
            self.fail(Endless(f"there is no end after {_ENOUGH} points:\n{self.state()}"))
        if late is not None and (not choices or late.until <= self._late):
            choices.append(late)
        if not choices:
            self.fail(Deadlock(f"all tasks wait:\n{self.state()}"))
        index = self._choose(len(choices)) if len(choices) > 1 and not self.calm else 0
        if index >= len(choices):
            self.fail(Broken("a schedule does not lead where it led: something else decides too"))
        self.chosen.append(index)
        chosen = choices[index]
        if chosen is late:
            chosen.timed_out = True
            self.now = max(self.now, chosen.until)
            if self.now > _LATEST:
                self.fail(Deadlock(f"only the clock goes on:\n{self.state()}"))
        return chosen

    def fail(self, error):
        """End the run, and with an error that no task can catch."""
        if greenlet.getcurrent() is self.hub:
            raise error
        self.hub.throw(error)

    def state(self):
        """Who waits for what."""
        lines = [f"  {t.name} waits for {t.what}" for t in self.tasks if not t.ended]
        return "\n".join([f"  at {self.now - START:g} s", *lines])

    def trace(self):
        """Make points of the lines, in the task that has just begun or goes on."""
        if self._lines:
            sys.settrace(self._trace)

    def _trace(self, frame, event, argument):
        if frame.f_globals.get("__name__", "").startswith("scriptling_ws."):
            return self._trace_line
        return None

    def _trace_line(self, frame, event, argument):
        if event == "line":
            self.point()
        return self._trace_line

    def run(self, body):
        """Run a task, and all that it starts, until it ends; what it returns."""
        main = self.task = Task(self, body, "main", 1)
        self.tasks.append(main)
        try:
            while not main.ended:
                self.task.greenlet.switch()
                if not main.ended:  # this one has ended, by itself
                    self.task = self._next(self.task)
        finally:
            if self._lines:
                sys.settrace(None)
            self.over = True
            for task in self.tasks:
                while not task.greenlet.dead:
                    self.task = task
                    task.greenlet.throw(greenlet.GreenletExit)
            self.task = None
        for task in self.tasks:
            if task.error is not None:
                raise task.error
        return main.outcome


class Socket(socket.socket):
    """A socket whose system calls are points, and which is closed once."""

    engine = None
    closes = 0

    def recv_into(self, *arguments):
        self.engine.point()
        return super().recv_into(*arguments)

    def recv(self, *arguments):
        self.engine.point()
        return super().recv(*arguments)

    def send(self, *arguments):
        self.engine.point()
        return super().send(*arguments)

    def close(self):
        self.closes += 1
        self.engine.point()
        super().close()


@functools.cache
def _clocked():
    """The modules of the package that ask for the time."""
    found = pkgutil.walk_packages(scriptling_ws.__path__, "scriptling_ws.")
    modules = [sys.modules[each.name] for each in found if each.name in sys.modules]
    return [module for module in modules if hasattr(module, "monotonic")]


@contextlib.contextmanager
def _clock(engine):
    """Have the package ask the engine for the time, in this thread.

    Others may be there from earlier tests, such as that of keepalive: by the engine's clock it
    would sleep for days, and the next test's connection would get no ping.
    """
    here, real = threading.get_ident(), time.monotonic

    def now():
        return engine.now if threading.get_ident() == here else real()

    for module in _clocked():
        module.monotonic = now
    try:
        yield
    finally:
        for module in _clocked():
            module.monotonic = time.monotonic


class World:
    """What a scenario is given: an engine with one main task, and what it starts and opens."""

    def __init__(self, engine):
        self.engine = engine
        self.sockets = []

    @property
    def seconds(self):
        """How much time has passed."""
        return self.engine.now - START

    def start(self, function, *arguments):
        """Run a function beside this one: its Task."""
        name = f"{function.__name__} {len(self.engine.tasks)}"
        return self.engine.spawn(lambda: function(*arguments), name)

    def pair(self, size=None):
        """Two connected sockets, with room for about so many bytes on the way, each way."""
        ends = []
        for end in socket.socketpair():
            if size is not None:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
            sock = Socket(end.family, end.type, end.proto, fileno=end.detach())
            sock.engine = self.engine
            ends.append(sock)
        self.sockets += ends
        return ends

    def read(self, sock):
        """All that comes to a bare socket, until its end."""
        data = bytearray()
        sock.setblocking(False)
        with contextlib.suppress(ConnectionResetError):
            while True:
                self.engine.wait(sock, READ, FOREVER)
                piece = sock.recv(65_536)
                if not piece:
                    break
                data += piece
        return bytes(data)

    def until_it_waits(self, task):
        """Let a task go on until it waits for something."""

        def waits():
            return task.ended or (task.ready is not None and not task.ready())

        self.engine.block(waits, None, f"{task.name} to wait")

    def calm(self):
        """From here on each task goes on as long as it can."""
        self.engine.calm = True


class Schedule:
    """Choices by their positions; where none is given, it is 0."""

    def __init__(self, choices=()):
        self.choices = dict(choices)
        self.counts = []  # how many there were to choose from, each time

    def __repr__(self):
        return f"Schedule({self.choices})"

    def __call__(self, count):
        self.counts.append(count)
        return self.choices.get(len(self.counts) - 1, 0)

    def longer(self):
        """The schedules that differ in one more choice, after the last one."""
        for position in range(max(self.choices, default=-1) + 1, len(self.counts)):
            for choice in range(1, self.counts[position]):
                yield Schedule({**self.choices, position: choice})


class Drawn(Schedule):
    """Choices that are drawn."""

    def __init__(self, seed, chance):
        super().__init__()
        self._random = random.Random(seed)
        self._chance = chance

    def __call__(self, count):
        if self._random.random() < self._chance:
            self.choices[len(self.counts)] = self._random.randrange(1, count)
        return super().__call__(count)


def run(scenario, schedule, **options):
    """Run a scenario, a function of a World, by one schedule; its engine."""
    engine = Engine(schedule, **options)
    world = World(engine)
    with use(engine), _clock(engine):
        try:
            engine.run(lambda: scenario(world))
        except BaseException as error:
            text = f"{scenario.__name__} by {schedule!r}: {type(error).__name__}: {error}"
            raise AssertionError(text) from error
        finally:
            service = _keepalive._services.pop(engine, None)
            if service is not None and service._alarm is not None:
                service._alarm.close()
            for sock in world.sockets:
                socket.socket.close(sock)
    return engine


def explore(scenario, differing, **options):
    """Run a scenario by all schedules in which so many choices differ from 0; their number."""
    waiting, number = [Schedule()], 0
    while waiting:
        schedule = waiting.pop()
        run(scenario, schedule, **options)
        number += 1
        if len(schedule.choices) < differing:
            waiting.extend(schedule.longer())
    return number


def wander(scenario, seeds, chance=0.03, **options):
    """Run a scenario by schedules that are drawn."""
    for seed in seeds:
        run(scenario, Drawn(seed, chance), **options)
