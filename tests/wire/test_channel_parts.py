"""What a channel is made of: locks, masking keys, descriptors, windows, and its own attributes."""

import contextlib
import errno
import gc
import itertools
import math
import os
import signal
import socket
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernels
from channels import End, Way, connected
from frames import raw_frame
from kernels import TEXT
from looped import looped
from pairs import SOON, Running, at_least, reset, running, until

# They take SIGALRM for themselves, by which a test that hangs is ended otherwise.
pytestmark = pytest.mark.timeout(method="thread")

by_descriptor = pytest.mark.parametrize("way", ["descriptor"], indirect=True)
not_traced = pytest.mark.skipif(
    sys.gettrace() is not None, reason="a tracer's code runs in the kernel"
)


# ---- locks ----


@pytest.fixture
def lock():
    return kernels.load("compiled").Lock()


def outcome(function, *arguments):
    try:
        return function(*arguments)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("taken", [False, True])
@looped(
    "arguments",
    [
        *((), (True,), (False,), (1,), (0,), (True, -1), (False, -1)),
        *((True, 0), (True, 0.01), (True, 1e-9), (True, -1.0), (0, -1.0)),
        *((False, 0), (False, 5), (True, -2), (True, -0.5), (True, -1e-9)),
        *((True, math.nan), (True, math.inf), (True, 1e300), (True, threading.TIMEOUT_MAX * 2)),
        *((True, threading.TIMEOUT_MAX), (True, None), (True, "1"), (1, 2, 3)),
    ],
)
def test_acquire_as_threading_s(lock, taken, arguments):
    waits = not arguments or (arguments[0] and (*arguments, -1)[1] in (-1, threading.TIMEOUT_MAX))
    found = []
    for each in (lock, threading.Lock()):
        if taken:
            assert each.acquire()
            if waits:  # until another thread has released it
                releasing = threading.Timer(0.02, each.release)
                releasing.start()
        found.append((outcome(each.acquire, *arguments), each.locked()))
        with contextlib.suppress(RuntimeError):
            each.release()
        assert not each.locked()
    assert found[0] == found[1]


def test_acquire_by_names(lock):
    assert lock.acquire(blocking=True, timeout=1) is True
    assert lock.acquire(blocking=False) is False
    with pytest.raises(TypeError):
        lock.acquire(block=True)


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ((False, 5), ValueError, "can't specify a timeout for a non-blocking call"),
        ((True, -2), ValueError, "timeout value must be a non-negative number"),
        ((True, math.nan), ValueError, "timeout value must be a non-negative number"),
        ((True, math.inf), OverflowError, "timeout value is too large"),
    ],
    ids=str,
)
def test_what_acquire_refuses(lock, arguments, kind, text):
    with pytest.raises(kind) as caught:
        lock.acquire(*arguments)
    assert str(caught.value) == text
    assert lock.acquire(False)


def test_a_timeout_of_a_lock(lock):
    assert lock.acquire()
    with at_least(0.05):
        assert lock.acquire(timeout=0.05) is False
    with at_least(0, 1):
        assert lock.acquire(timeout=0) is False
        assert lock.acquire(False) is False


def test_a_lock_is_released_by_another_thread(lock):
    assert lock.acquire()
    waiting = Running(lock.acquire)
    Running(lock.release).result()
    assert waiting.result() is True
    assert lock.locked()


def test_a_lock_that_is_not_taken_cannot_be_released(lock):
    for each in (lock, threading.Lock()):
        with pytest.raises(RuntimeError) as caught:
            each.release()
        assert str(caught.value) == "release unlocked lock"
    assert lock.acquire(False)
    lock.release()
    with pytest.raises(RuntimeError):
        lock.release()


def test_a_lock_as_a_context(lock):
    with lock as taken:
        assert (taken, lock.locked()) == (True, True)
    with pytest.raises(LookupError), lock:
        raise LookupError
    assert not lock.locked()


def test_a_lock_that_is_taken_may_be_let_go_of(lock):
    make = type(lock)
    for _ in range(1000):
        make().acquire()
    cycle = [make()]
    cycle.append(cycle)
    assert cycle[0].acquire()
    del cycle
    gc.collect()
    assert make().acquire(False)


def test_a_lock_excludes(lock):
    total = 0

    def add():
        nonlocal total
        for turn in range(2000):
            if turn & 1:
                lock.acquire()
            elif not lock.acquire(True, SOON):
                raise AssertionError
            before = total
            if not turn & 63:
                assert not lock.acquire(False)
            total = before + 1
            lock.release()

    with running(*[add] * 4):
        pass
    assert total == 8000


def test_of_those_who_wait_for_a_lock_none_is_forgotten(lock):
    """Though others give up waiting meanwhile, each in the moment in which it may be rung for."""
    taken = []

    def give_up(mine):
        for turn in range(300):
            if lock.acquire(True, (mine + turn % 7) * 1e-5):
                taken.append(mine)
                lock.release()

    def stay(mine):
        for _ in range(300):
            assert lock.acquire(True, SOON)
            taken.append(mine)
            time.sleep(0)  # which lets the others run, with the lock taken
            lock.release()

    with running(*(lambda mine=mine: give_up(mine) for mine in range(3)), *[lambda: stay(9)] * 3):
        pass
    assert taken.count(9) == 900
    assert lock.acquire(False)


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), max_size=60))
def test_a_lock_of_its_holder_s_is_taken_and_released_as_often(steps):
    task, tasks = [None], [object() for _ in range(3)]
    lock = kernels.load("compiled").RLock(threading.Semaphore, lambda: task[0])
    holder, depth = None, 0
    for number, takes in steps:
        task[0] = tasks[number]
        if takes:
            can = holder in (None, number)
            assert lock.acquire(False) is can
            if can:
                holder, depth = number, depth + 1
        elif holder == number:
            lock.release()
            depth -= 1
            holder = number if depth else None
        else:
            with pytest.raises(RuntimeError, match="cannot release un-acquired lock"):
                lock.release()
        assert lock.locked() is (holder is not None)


def test_what_a_lock_of_its_holder_s_refuses():
    holder, other = object(), object()
    task = [holder]
    relock = kernels.load("compiled").RLock(threading.Semaphore, lambda: task[0])
    with relock as taken, relock:
        assert taken is True
        task[0] = other
        assert relock.acquire(True, 0.01) is False
        assert relock.acquire(timeout=0) is False
        with pytest.raises(ValueError, match="can't specify a timeout"):
            relock.acquire(False, 5)
        with pytest.raises(OverflowError):
            relock.acquire(True, math.inf)
        with pytest.raises(RuntimeError):
            relock.release()
        assert relock.locked()
        task[0] = holder
    assert not relock.locked()
    lock_class = kernels.load("compiled").Lock
    for make, arguments in ((type(relock), (threading.Semaphore,)), (lock_class, (None, None))):
        with pytest.raises(TypeError):
            make(*arguments)


def test_a_lock_of_its_holder_s_excludes():
    lock = kernels.load("compiled").RLock(threading.Semaphore, threading.current_thread)
    total = 0

    def add():
        nonlocal total
        for turn in range(1000):
            with lock:
                assert lock.acquire(True, SOON)
                before = total
                if not turn & 63:
                    time.sleep(0)  # which lets the others run, with the lock taken
                total = before + 1
                lock.release()

    with running(*[add] * 4):
        pass
    assert total == 4000
    assert not lock.locked()


class Strike(BaseException):
    pass


@contextlib.contextmanager
def alarms(handler, first=0.005, again=0.005):
    """Have a handler called in the main thread, again and again."""
    if not hasattr(signal, "setitimer"):
        pytest.skip("no interval timers here")
    old = signal.signal(signal.SIGALRM, lambda *_: handler())
    try:
        signal.setitimer(signal.ITIMER_REAL, first, again)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)


@not_traced
@pytest.mark.parametrize("arguments", [(), (True, SOON)])
def test_a_signal_handler_that_raises_ends_the_wait_for_a_lock(lock, arguments):
    def strike():
        raise Strike

    assert lock.acquire()
    with pytest.raises(Strike), alarms(strike, again=0):
        lock.acquire(*arguments)
    assert lock.locked()
    lock.release()
    assert lock.acquire(False)


def test_after_a_signal_handler_that_returns_the_wait_for_a_lock_goes_on(lock):
    strikes = []
    assert lock.acquire()
    with alarms(lambda: strikes.append(1)):
        with at_least(0.1):
            assert lock.acquire(timeout=0.1) is False
        assert strikes
        releasing = Running(lambda: (until(lambda: len(strikes) > 30), lock.release()))
        assert lock.acquire() is True
        releasing.result()


def test_the_pure_kernel_has_neither_locks_nor_descriptors():
    pure = Way.named("pure").channel
    left, right = socket.socketpair()
    with left, right:
        assert pure.descriptor_of(left) is None
    assert (pure.Lock, pure.RLock, pure.Descriptor) == (None, None, None)


# ---- where a task waits ----


class Hub:
    """A loop's, with the one watcher that it makes."""

    def __init__(self):
        self.calls = []

    def start(self, callback):
        self.calls.append("start")

    def stop(self):
        self.calls.append("stop")


def place_of(way, get_current, switch):
    """Where a task waits at a hub, and that."""
    hub = Hub()

    class Place(way.channel.Place):
        def move(self, hub):
            self.hub = self.watcher = hub

    return Place(lambda: hub, get_current, switch), hub


one_of_each_kernel = pytest.mark.parametrize("way", ["methods", "pure"], indirect=True)


@one_of_each_kernel
def test_a_wake_that_comes_before_there_is_a_task_ends_the_wait(way):
    """Another thread's, which looks for the task to switch to and finds none."""
    switched = []

    def wake():
        place.woken = True
        return "task"

    place, hub = place_of(way, wake, switched.append)
    assert place.park(math.inf, True) is False
    assert switched == []
    assert place.park(math.inf, False) is False  # of no interest to this one
    assert switched == [hub]
    assert place.task is None


@one_of_each_kernel
def test_what_comes_for_nobody_stops_the_watcher_unless_it_was_let_go_of(way):
    place, hub = place_of(way, lambda: "task", lambda hub: None)
    place()
    assert not place.watching
    assert place.park(math.inf, False) is False
    assert (place.watching, hub.calls) == (True, ["start"])
    place.watcher = None  # by another thread, once the callback was on its way
    place()
    assert hub.calls == ["start"]
    place.watcher = hub
    place()
    assert (place.watching, hub.calls) == (False, ["start", "stop"])


# ---- masking keys ----


@pytest.fixture
def entropy(monkeypatch, way):
    """What the system's entropy is: numbers that are counted up, and how often it was drawn."""
    draws = []
    numbers = itertools.count()

    def urandom(size):
        draws.append(size)
        return b"".join(next(numbers).to_bytes(4, "big") for _ in range(size // 4))

    with monkeypatch.context() as patch:
        patch.setattr(os, "urandom", urandom)
        while not draws:  # what was drawn before
            way.channel.next_key()
        way.channel.next_key()
        yield draws
    while int.from_bytes(way.channel.next_key(), "big") < 2**20:
        pass  # these numbers are no keys for anybody


def test_a_key_is_never_given_out_twice(way, entropy):
    keys = keys_of(way, 5000)
    assert {(type(key), len(key)) for key in keys} == {(bytes, 4)}
    assert len(set(keys)) == 5000
    assert entropy == [4096] * 5


@not_traced  # which lets other threads run where none can
def test_threads_are_given_different_keys(way, entropy):
    given = [[] for _ in range(4)]
    with running(*(lambda mine=mine: mine.extend(keys_of(way, 5000)) for mine in given)):
        pass
    keys = list(itertools.chain(*given))
    assert len(set(keys)) == len(keys) == 20_000


def keys_of(way, count):
    return [way.channel.next_key() for _ in range(count)]


def test_frames_have_such_keys(way, entropy):
    keys = set()
    with End(way, masks=True) as end:
        for message in (b"", "a", [1], bytes(5000), "é" * 5000, [2] * 5000) * 300:
            call = end.send_text if isinstance(message, str) else end.send_binary
            assert call(message) is True
            sent = end.arrived()
            start = 2 if len(sent) < 126 else 4
            keys.add(sent[start : start + 4])
    assert len(keys) == 1800
    assert entropy == [4096] * 2


def test_a_key_that_is_not_to_be_had(way, monkeypatch):
    def fail(size):
        raise Strike  # out of a signal handler

    with End(way, masks=True) as end:
        with monkeypatch.context() as patch:
            patch.setattr(os, "urandom", fail)
            with pytest.raises(Strike):
                keys_of(way, 5000)
            for message in ("x", b"x", [1], [1] * 5000):
                call = end.send_text if isinstance(message, str) else end.send_binary
                with pytest.raises(Strike):
                    call(message)
            with pytest.raises(Strike):
                way.channel.next_key()
        assert (end.arrived(), end.channel.writing.locked()) == (b"", False)
        assert end.send_text("x") is True
        assert end.frames() == [(TEXT, b"x")]


# ---- descriptors ----


@by_descriptor
def test_a_descriptor(way):
    left, right = socket.socketpair()
    with right:
        descriptor = way.channel.descriptor_of(left)
        assert type(descriptor) is way.channel.Descriptor
        assert descriptor.number == left.fileno()
        with pytest.raises(AttributeError):
            descriptor.number = 5
        descriptor.forget()
        assert descriptor.number == -1
        descriptor.forget()
        assert descriptor.number == -1
        left.close()
        with pytest.raises(ValueError, match="the socket is closed"):
            way.channel.descriptor_of(left)


@by_descriptor
def test_descriptors_of_one_socket(way):
    """Each is forgotten for itself, and all of them when the socket goes."""
    left, right = socket.socketpair()
    with right:
        one, two, three = (way.channel.descriptor_of(left) for _ in range(3))
        two.forget()
        assert (one.number, two.number, three.number) == (left.fileno(), -1, left.fileno())
        left.close()
        del left
        gc.collect()
        assert (one.number, three.number) == (-1, -1)


# ---- receiving in pieces ----


@by_descriptor
@pytest.mark.parametrize("nap", [False, True])
@pytest.mark.parametrize(("size", "piece"), [(1, 100), (100, 100), (101, 10), (5000, 1), (9, 10)])
def test_receiving_in_pieces(way, nap, size, piece):
    with End(way) as end:
        data, buffer = bytes(range(250)) * 40, bytearray(size + 3)
        end.arrive(data)
        with memoryview(buffer) as view:
            assert way.channel.receive_on(end.stream.descriptor, view[:size], piece, nap) == size
        assert buffer == data[:size] + bytes(3)
        assert end.stream.read_into(bytearray(10_000)) == len(data) - size


@by_descriptor
def test_what_else_receiving_in_pieces_comes_to(way):
    with End(way, connected()) as end:
        descriptor, buffer = end.stream.descriptor, bytearray(100)
        for nap in (False, True):
            assert way.channel.receive_on(descriptor, buffer, 10, nap) is None
        end.arrive(b"x" * 25)
        assert way.channel.receive_on(descriptor, buffer, 10, True) == 25
        end.far.shutdown(socket.SHUT_WR)
        assert end.readable(SOON)
        assert way.channel.receive_on(descriptor, buffer, 10, True) == 0
        descriptor.forget()
        with pytest.raises(OSError) as caught:
            way.channel.receive_on(descriptor, buffer, 10, True)
        assert caught.value.errno == errno.EBADF
        for bad in (bytes(5), "x", None):
            with pytest.raises((TypeError, BufferError)):
                way.channel.receive_on(descriptor, bad, 10, True)
        for piece in (0, -1, 2**63, "1"):
            with pytest.raises((TypeError, ValueError), match="piece"):
                way.channel.receive_on(descriptor, buffer, piece, True)
        with pytest.raises(TypeError):
            way.channel.receive_on(None, buffer, 10, True)


@by_descriptor
def test_a_reset_while_receiving_in_pieces(way):
    with End(way, connected()) as end:
        buffer = bytearray(100)
        reset(end.far)
        assert end.readable(SOON)
        with pytest.raises(ConnectionResetError):
            way.channel.receive_on(end.stream.descriptor, buffer, 10, False)


@by_descriptor
def test_signal_handlers_while_receiving_in_pieces(way):
    strikes = []
    with End(way) as end:
        call = (end.stream.descriptor, bytearray(9), 9, True)
        with alarms(lambda: strikes.append(1), 0.001, 0.001):
            while len(strikes) < 5:
                assert way.channel.receive_on(*call) is None  # though each cuts a nap short


# ---- attributes ----

FLAGS = ("open", "closing", "orphaned", "look_due", "alone", "compresses", "heard")


def test_the_flags_of_a_channel(way):
    with End(way) as end:
        channel = end.channel
        flags = dict.fromkeys(FLAGS, False) | {"open": True}
        for name in (*FLAGS, *FLAGS):
            assert {each: getattr(channel, each) for each in FLAGS} == flags
            assert type(getattr(channel, name)) is bool
            flags[name] = not flags[name]
            setattr(channel, name, flags[name])
            setattr(channel, name, flags[name])
        assert {each: getattr(channel, each) for each in FLAGS} == flags


def test_what_else_a_channel_has(way):
    with End(way) as end:
        channel = end.channel
        assert (channel.reader, channel.rest, channel.tail) == (0, None, [])
        channel.reader = threading.get_ident()
        assert channel.reader == threading.get_ident()
        channel.reader = 0
        rest = (b"x", 0, (), True)
        channel.rest = rest
        assert channel.rest is rest
        channel.rest = None
        assert channel.tail is channel.tail
        assert type(channel.tail) is list


@pytest.mark.parametrize("engine_s_own", [False, True])
def test_who_waits_is_told_by_the_number_that_the_engine_has_for_it(way, engine_s_own):
    with End(way, **({"identity": lambda: 7} if engine_s_own else {})) as end:
        seen = []
        end.reader.receive = lambda *_: seen.append(end.channel.reader)
        receiving = Running(lambda: (end.receive(SOON), threading.get_ident())[1])
        until(lambda: seen or end.is_asleep())
        seen.append(end.channel.reader)
        end.arrive(raw_frame(TEXT, b"x"))
        thread = receiving.result()
        expected = 7 if engine_s_own else thread
        # By a method it is the reader that waits, and that says so itself.
        assert seen == ([expected] if way.by_descriptor else [0, 0])


def test_other_locks(way):
    with End(way) as end:
        old = end.channel.reading, end.channel.writing
        assert all(lock.acquire() for lock in old)
        new = way.lock(), way.lock()
        end.channel.renew(*new)
        assert (end.channel.reading, end.channel.writing) == new
        assert end.send_text("x") is True
        end.arrive(raw_frame(TEXT, b"y"))
        assert end.receive(5.0) == "y"
        assert [lock.locked() for lock in (*old, *new)] == [True, True, False, False]


def test_a_window(way):
    with End(way, room=5000) as end:
        window = end.window
        assert (window.unfed, window.stopped, window.plain) == (None, None, True)
        assert (type(window.data), len(window.data)) == (bytearray, 5000)
        data, stopped = bytearray(9), (1, 2, 3)
        window.data, window.unfed, window.stopped, window.plain = data, 7, stopped, False
        assert window.data is data
        assert (window.unfed, window.stopped, window.plain) == (7, stopped, False)


@pytest.mark.parametrize("name", ["data", "unfed", "stopped", "plain"])
def test_a_window_while_it_is_read(way, name):
    """Other threads look at it, and see one value or the other."""
    with End(way) as end:
        values = {"data": [bytearray(1), bytearray(2)], "unfed": [None, 10**9]}
        choices = values.get(name, [True, False] if name == "plain" else [None, (1, 2, 3)])
        setattr(end.window, name, choices[0])
        stop = time.monotonic() + 0.05

        def write():
            for value in itertools.cycle(choices):
                setattr(end.window, name, value)
                if time.monotonic() > stop:
                    return

        def read():
            while time.monotonic() <= stop:
                assert getattr(end.window, name) in choices

        with running(write, read, read):
            pass
