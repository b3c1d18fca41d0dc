"""The deterministic engine itself: it finds what it is there to find, and says how."""

import itertools
import re

import pytest

from deterministic import START, Broken, Deadlock, Endless, Engine, Schedule, explore, run, wander
from scriptling_ws._network import contract as _contract
from scriptling_ws._network.deadline import FOREVER, Deadline, check_timeout
from scriptling_ws._network.waiting import READ, WRITE


def counting(world, guarded):
    """Two tasks count to two; each reads, and then writes."""
    lock, count = world.engine.lock(), [0]

    def add():
        if guarded:
            lock.acquire()
        before = count[0]
        world.engine.point()
        count[0] = before + 1
        if guarded:
            lock.release()

    for task in [world.start(add), world.start(add)]:
        task.result()
    assert count == [2]


def unguarded(world):
    counting(world, False)


def guarded(world):
    counting(world, True)


def crossed(world):
    """Two tasks take two locks, each in its own order."""
    one, two = world.engine.lock(), world.engine.lock()

    def take(first, second):
        with first, second:
            pass

    tasks = [world.start(take, one, two), world.start(take, two, one)]
    for task in tasks:
        task.result()


def test_a_lost_update_is_found_and_found_again():
    run(unguarded, Schedule())
    with pytest.raises(AssertionError, match=r"unguarded by Schedule\(\{\d+: 1\}\)") as caught:
        explore(unguarded, 1)
    position = int(re.search(r"\{(\d+)", str(caught.value))[1])
    for _ in range(2):
        with pytest.raises(AssertionError, match=r"\[1\]"):
            run(unguarded, Schedule({position: 1}))
    with pytest.raises(AssertionError, match="unguarded"):
        wander(unguarded, range(20), chance=0.5)


def test_a_lock_helps():
    assert explore(guarded, 3) > 50
    wander(guarded, range(20), chance=0.5)


def test_a_deadlock_says_who_waits_for_what():
    run(crossed, Schedule())
    with pytest.raises(AssertionError, match="all tasks wait") as caught:
        explore(crossed, 1)
    assert isinstance(caught.value.__cause__, Deadlock)
    text = str(caught.value)
    assert re.search(
        r"take 1 waits for the lock of test_deterministic.py:\d+, which take 2 holds", text
    )
    assert "main waits for the end of take 1" in text


@pytest.mark.parametrize("points", [1, 2, 3])
def test_every_order_is_run_and_each_schedule_once(points):
    seen = []

    def scenario(world):
        order = []

        def step(name):
            for _ in range(points):
                order.append(name)
                world.engine.point()

        for task in [world.start(step, name) for name in "ab"]:
            task.result()
        seen.append((tuple(world.engine.chosen), "".join(order)))

    assert explore(scenario, 0) == 1
    numbers = [explore(scenario, differing) for differing in (1, 2, 100)]
    assert numbers == sorted(numbers)
    every = {"".join(each) for each in itertools.permutations("a" * points + "b" * points)}
    last = seen[-numbers[-1] :]
    assert {order for _, order in last} == every
    assert len({chosen for chosen, _ in last}) == len(last)


def test_a_schedule_that_does_not_fit():
    with pytest.raises(AssertionError, match="something else decides") as caught:
        run(guarded, Schedule({0: 7}))
    assert isinstance(caught.value.__cause__, Broken)


def test_the_clock_goes_where_all_wait():
    def scenario(world):
        engine = world.engine
        sleeper = world.start(engine.sleep, 30)
        assert not engine.event().wait(10)
        assert world.seconds == 10
        lock = engine.lock()
        assert lock.acquire()
        assert not lock.acquire(timeout=5)
        assert not lock.acquire(False)
        assert not lock.acquire(timeout=0)
        assert world.seconds == 15
        sleeper.join(1)
        assert sleeper.is_alive()
        sleeper.join()
        assert not sleeper.is_alive()
        assert world.seconds == 30
        deadline = Deadline(5)
        near, _ = world.pair()
        engine.wait(near, READ, deadline)
        assert deadline.passed()
        assert engine.now == START + 35
        engine.wait(near, READ | WRITE, FOREVER)

    explore(scenario, 1)


def test_a_deadline_may_come_first():
    came = set()

    def scenario(world):
        event = world.engine.event()
        world.start(event.set)
        came.add(event.wait(1))

    explore(scenario, 2)
    assert came == {True}
    explore(scenario, 2, late=0.5)
    assert came == {True}
    explore(scenario, 2, late=1.0)
    assert came == {True, False}


def test_what_never_ends_is_ended():
    def spinning(world):
        while True:
            world.engine.point()

    def ticking(world):
        while True:
            world.engine.sleep(1000)

    for scenario, error in ((spinning, Endless), (ticking, Deadlock)):
        with pytest.raises(AssertionError) as caught:
            run(scenario, Schedule())
        assert isinstance(caught.value.__cause__, error)


def test_a_descriptor_that_is_closed_under_a_wait():
    def scenario(world):
        near, _ = world.pair()
        waiting = world.start(world.engine.wait, near, READ, FOREVER)
        world.until_it_waits(waiting)
        near.close()
        waiting.result()

    with pytest.raises(AssertionError, match="was closed while wait 1 waited") as caught:
        run(scenario, Schedule())
    assert isinstance(caught.value.__cause__, Broken)


def test_an_error_that_nobody_asks_for():
    def scenario(world):
        def fail():
            raise KeyError("mine")

        world.start(fail)
        world.engine.sleep(1)

    with pytest.raises(AssertionError, match="mine"):
        run(scenario, Schedule())


def test_locks_of_one_holder():
    def scenario(world):
        lock = world.engine.rlock()
        with lock, lock:
            assert not world.start(lock.acquire, False).result()
            with pytest.raises(RuntimeError):
                world.start(lock.release).result()
        assert world.start(lock.acquire, False).result()
        with pytest.raises(RuntimeError):
            world.engine.lock().release()

    explore(scenario, 1)


def test_wakers_and_pollers():
    def scenario(world):
        engine = world.engine
        near, far = world.pair()
        waker = engine.waker()
        waiting = world.start(engine.wait, near, READ, FOREVER, waker)
        waker.set()
        waiting.result()
        poller = engine.poller()
        poller.register(near, READ, "near")
        assert not poller.select(0)
        assert not poller.select(1)
        world.start(far.send, b"x")
        assert [key.data for key, _ in poller.select()] == ["near"]
        assert near.recv(9) == b"x"
        assert engine.in_worker(lambda: 1, None, "worker") == engine.blocking(lambda: 1) == 1
        assert engine.current().name == "main"
        assert engine.identity() == 1
        assert not engine.hears_signals()

    explore(scenario, 1)


def test_lines_of_the_package_are_points_in_every_task():
    def points(tasks, **options):
        def scenario(world):
            for task in [world.start(check_timeout, 1) for _ in range(tasks)]:
                task.result()

        return run(scenario, Schedule(), **options).points

    lines = points(1, lines=True) - points(1)
    assert lines >= 2
    assert points(3, lines=True) - points(3) == 3 * lines


def test_it_is_an_engine():
    missing = [name for name in vars(_contract.Engine) if not hasattr(Engine, name)]
    assert not [name for name in missing if not name.startswith("_")]
