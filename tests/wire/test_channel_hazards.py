"""What may happen between two steps of a channel: signals, forks, descriptors that are closed.

The hazards are those of "The kernel moves the bytes" in docs/design.md. Each test fails if the
care for its hazard is taken out.
"""

import gc
import os
import queue
import random
import select
import signal
import socket
import sys
import threading
import time
from collections import deque
from itertools import starmap

import pytest

from channels import End, Stream, frames_of, pair
from children import forked, in_child
from frames import raw_frame
from kernels import BINARY, TEXT
from memory import cpython_handlers
from pairs import SOON, Running, running, until

# They take SIGALRM for themselves, by which a test that hangs is ended otherwise.
pytestmark = pytest.mark.timeout(method="thread")

by_descriptor = pytest.mark.parametrize("way", ["descriptor", "gate"], indirect=True)
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
timers = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
posix = pytest.mark.skipif(
    sys.platform == "win32", reason="sockets have no descriptors there, and take a message whole"
)
not_traced = pytest.mark.skipif(
    sys.gettrace() is not None, reason="a tracer's code runs in the kernel"
)

HELLO = raw_frame(TEXT, b"hello")
LONG = 100.0


class Strike(BaseException):
    """What a signal handler raises."""


class Alarm:
    """SIGALRM in the main thread, which calls a handler."""

    def __init__(self, handler):
        self._handler = handler
        self._set = False  # a signal that another thread has taken may be late

    def __enter__(self):
        self._old = signal.signal(signal.SIGALRM, lambda *_: self._set and self._handler())
        return self

    def __exit__(self, *_):
        self.stop()
        signal.signal(signal.SIGALRM, self._old)

    def after(self, seconds, again=0):
        self._set = True
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6), again)

    def stop(self):
        self._set = False
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ())  # runs what has come by now


def strike():
    raise Strike


class Counted(deque):
    """Messages that were taken, in the order in which they were: noted in the step that takes."""

    def __init__(self):
        super().__init__()
        self.taken = []
        self._pop = super().popleft

    def popleft(self):
        self.taken.extend(starmap(self._pop, ((),)))
        return self.taken[-1]


def spin():
    """Wait for a handler that raises, by no lock: that might stay taken.

    The GIL is let go of: what another thread was told of is heard as it is taken again.
    """
    end_by = time.monotonic() + SOON
    while time.monotonic() < end_by:
        select.select([], [], [], 0.001)


def digest(end):
    """Read what is noted in the window, as the reader does."""
    window, found = end.window, []
    assert window.unfed, "the stream has not ended"
    start = window.stopped[0] if window.stopped else 0
    options = (start, window.unfed, False, False, 2**20, 99, found)
    assert end.way.codec.read_messages(window.data, *options)[:2] == (window.unfed, 0)
    end.ready.extend(found)
    end.free()


# ---- signals ----


class Napping(Stream):
    """One whose naps are switched off."""

    def __init__(self, sock, way):
        super().__init__(sock, way)
        self.naps = False


def fed(end, to_send):
    """Have what is put into a queue come, each after its delay."""
    pause = threading.Event()
    for delay, data in iter(to_send.get, None):
        pause.wait(delay)
        end.arrive(data)


# In these a handler may run after each call. So no call is outside of a `try` while it may, and
# what a call has done is noted in the step in which it returns.


@pytest.mark.abuse(70)
@not_traced
@timers
@cpython_handlers
@pytest.mark.parametrize(("stream", "longest"), [(Stream, 0.015), (Napping, 0.002)])
def test_a_handler_that_raises_while_it_waits_makes_no_message_lost(way, stream, longest):
    """Whenever it strikes: before, in the nap, in the poll, as the message comes, or after."""
    choose, strikes, to_send = random.Random(way.name), 0, queue.SimpleQueue()
    with End(way, ready=Counted(), stream=stream) as end, Alarm(strike) as alarm:
        feeding = Running(fed, end, to_send)
        returned, taken = [], end.ready.taken
        received = returned if way.by_descriptor else taken
        for number in range(300):
            to_send.put((choose.random() * longest, raw_frame(BINARY, b"%d" % number)))
            end_by = time.monotonic() + SOON
            while len(received) <= number:
                assert time.monotonic() < end_by, f"message {number} is lost"
                try:
                    alarm.after(choose.random() * longest)
                    returned.extend(map(end.channel.receive, (LONG,), (end.reader,)))
                except Strike:
                    strikes += 1
                try:
                    alarm.stop()
                except Strike:
                    strikes += 1
                assert (end.channel.reader, end.channel.reading.locked()) == (0, False)
                if returned[-1:] == [end.reader]:
                    returned.pop()
                if end.window.unfed is not None:  # pure: received, and not read yet
                    digest(end)
                while end.ready:
                    end.ready.popleft()
        to_send.put(None)
        feeding.result()
        assert received == [b"%d" % number for number in range(300)]
        assert not (way.by_descriptor and taken)
    assert strikes > 30


@pytest.mark.abuse(70)
@not_traced
@timers
@cpython_handlers
def test_a_handler_that_raises_while_it_sends_makes_no_frame_lost_or_doubled(way):
    sent, strikes = [], 0
    with End(way) as end, Alarm(strike) as alarm:
        end.writer.dealt = False
        for number in range(3000):
            data = b"%d " % number * (1 + number % 40)
            numbers = zip(
                (number,), map(end.channel.send_binary, (data,), (end.writer,)), strict=False
            )
            try:
                alarm.after(1e-6 * (1 + number % 23))
                sent.extend(numbers)
            except Strike:
                strikes += 1
            try:
                alarm.stop()
            except Strike:
                strikes += 1
            assert (end.channel.tail, end.channel.writing.locked()) == ([], False)
            if not number % 100:
                end.drain()
        arrived = [int(payload.split()[0]) for _, payload in end.frames()]
    assert all(whole for _, whole in sent)
    noted = [number for number, _ in sent]
    if way.name == "pure":  # struck between its steps, a call may have sent
        assert set(noted) <= set(arrived)
        assert arrived == sorted(set(arrived))
    else:
        assert arrived == noted
    assert {name for name, *_ in end.writer.calls} <= {"broke"}
    assert strikes > 30


@pytest.mark.abuse(70)
@not_traced
@timers
@cpython_handlers
def test_a_handler_that_raises_while_a_frame_is_sent_in_part(way):
    """What is left of it is there for the next one, whenever the handler strikes."""
    strikes = parts = 0
    with End(way, pair(4096)) as end, Alarm(strike) as alarm:
        end.writer.meanwhile, end.writer.dealt = spin, False
        for number in range(100):
            data = b"%d " % number * 8000
            try:
                alarm.after(1e-6 * (1 + number % 37) * 2 ** (number % 8))
                end.channel.send_binary(data, end.writer)
            except Strike:
                strikes += 1
            try:
                alarm.stop()
            except Strike:
                strikes += 1
            assert not end.channel.writing.locked()
            left = b"".join(end.channel.tail)
            end.channel.tail.clear()
            end.write(left)
            arrived = end.frames()
            assert arrived in ([], [(BINARY, data)])
            assert arrived or not left
            parts += bool(left)
    assert strikes == 100
    assert parts


@timers
@by_descriptor
@pytest.mark.parametrize("timeout", [None, LONG, 0.3])
def test_after_a_handler_that_returns_the_wait_goes_on(way, timeout):
    """EINTR is neither the end of the stream nor that of the wait."""
    strikes = []
    with End(way) as end, Alarm(lambda: strikes.append(1)) as alarm:
        alarm.after(0.002, 0.002)
        if timeout == 0.3:
            start = time.monotonic()
            assert end.receive(timeout) is None
            assert time.monotonic() - start >= timeout
        else:
            with running(lambda: (until(lambda: len(strikes) > 20), end.arrive(HELLO))):
                assert end.receive(timeout) == "hello"
        assert strikes
        assert end.window.unfed is None
        assert not end.reader.calls


@timers
@by_descriptor
@pytest.mark.parametrize("again", [0.001, 0.02])
@pytest.mark.parametrize("flag", ["closing", "orphaned", "alone"])
def test_a_handler_that_closes_ends_the_wait(way, flag, again):
    with End(way) as end, Alarm(lambda: setattr(end.channel, flag, True)) as alarm:
        alarm.after(again)
        assert end.receive(SOON) is end.reader
        assert end.reader.calls[-1][0] == "receive"


def taken_by_another(number):
    """Have a thread take a signal that this one blocks; call it to have it sent."""
    go = threading.Event()

    def take():
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        assert go.wait(SOON)
        signal.pthread_kill(threading.get_ident(), number)

    signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    taking = Running(take)

    def send():
        go.set()
        taking.result()

    return send


def look_up(way, limit=6.0):
    """Wait in the thread that hears signals, while another one takes a signal: how it ends."""
    number = signal.SIGUSR1
    old = signal.signal(number, lambda *_: strike())
    send = taken_by_another(number)
    start = time.monotonic()
    try:
        with End(way) as end:
            sending = Running(lambda: (until(end.is_asleep), send()))
            try:
                return f"returned {end.channel.receive(limit, end.reader)}"
            except Strike:
                sending.result()
                took = time.monotonic() - start
                return "in time" if took < limit - 1 else f"too late: {took}"
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        signal.signal(number, old)


@not_traced
@forks
@by_descriptor
def test_a_signal_that_another_thread_takes_is_heard_soon(way):
    """It interrupts no system call of the thread that is to hear of it."""
    assert look_up(way) == "in time"


@not_traced
@forks
@by_descriptor
def test_in_a_child_of_another_thread_signals_are_heard_where_it_goes_on(way):
    def child():
        way.channel.after_fork()
        return look_up(way)

    assert Running(in_child, child).result() == "in time"


@by_descriptor
def test_another_thread_sleeps_on(way):
    """It has no signals to hear: a wait of it costs the program nothing."""
    with End(way) as end:
        receiving = Running(end.receive, None)
        until(end.is_asleep)
        usage = getattr(os, "times", None)
        before = sum(usage()[:2])
        threading.Event().wait(0.3)
        assert sum(usage()[:2]) - before < 0.2
        end.arrive(HELLO)
        assert receiving.result() == "hello"


# ---- descriptors that are closed ----


class Noting(socket.socket):
    """Notes what its descriptor is as it is closed."""

    descriptor = None
    numbers = ()

    def close(self):
        self.numbers = (*self.numbers, self.descriptor and self.descriptor.number)
        super().close()


@by_descriptor
def test_the_number_is_taken_out_before_it_is_closed(way):
    near, far = pair()
    near = Noting(fileno=near.detach())
    with End(way, (near, far)) as end:
        near.descriptor = end.stream.descriptor
        end.stream.close()
        assert near.numbers == (-1,)


def reused(number):
    """Two connected sockets, of which the first has this number now."""
    kept = []
    while True:
        left, right = socket.socketpair()
        kept += (left, right)
        for one, other in ((left, right), (right, left)):
            if one.fileno() == number:
                kept = [each for each in kept if each not in (one, other)]
                for each in kept:
                    each.close()
                one.setblocking(False)
                other.setblocking(False)
                return one, other
        assert len(kept) < 100


@posix
def test_nothing_is_sent_to_another_file_of_that_number(way):
    with End(way) as end:
        number = end.stream.fileno()
        end.stream.close()
        one, other = reused(number)
        with one, other:
            for call, message in (
                *((end.send_text, "x"), (end.send_binary, b"x" * 70_000)),
                *((end.send_binary, [1]), (end.send, b"\x81\0")),
            ):
                assert call(message) is True  # as `broke` says
                assert end.writer.errors.pop().errno == 9
            with pytest.raises(BlockingIOError):
                other.recv(1)


@posix
@pytest.mark.parametrize("timeout", [0, 0.05, LONG])
def test_nothing_is_received_from_another_file_of_that_number(way, timeout):
    with End(way) as end:
        number = end.stream.fileno()
        end.stream.close()
        one, other = reused(number)
        with one, other:
            other.send(HELLO)
            assert end.receive(timeout) is end.reader
            assert one.recv(100) == HELLO
        assert not end.ready


class Unclosed(socket.socket):
    """A socket that is closed as the garbage collector finds it, whereupon its number is reused."""

    def __init__(self, holder, outcome, **options):
        super().__init__(**options)
        self.holder, self.outcome = holder, outcome

    def __del__(self):
        number, end = self.fileno(), self.holder[0]
        self.outcome.append(end.stream.descriptor and end.stream.descriptor.number)
        super().close()
        one, other = reused(number)
        with one, other:
            self.outcome.append(end.send_text("x"))
            try:
                self.outcome.append(other.recv(100))
            except BlockingIOError:
                self.outcome.append(None)


@posix
@pytest.mark.skipif(sys.implementation.name == "pypy", reason="it finalizes at other moments")
def test_a_descriptor_is_forgotten_before_the_garbage_collector_closes_it(way):
    """What has a finalizer may use the connection then, in a cycle with it."""
    holder, outcome = [], []
    near, far = pair()
    with far:
        near = Unclosed(holder, outcome, fileno=near.detach())
        holder += [End(way, (near, far)), holder]
        gc.collect()
        assert outcome == []
        del near, holder
        gc.collect()
        assert outcome == [-1 if way.by_descriptor else None, True, None]


# ---- forks ----


@forks
@pytest.mark.abuse(72)
def test_a_child_draws_other_keys(way):
    def child():
        way.channel.after_fork()
        return [way.channel.next_key().hex() for _ in range(100)]

    way.channel.next_key()  # there are some to give out
    theirs = in_child(child)
    ours = [way.channel.next_key().hex() for _ in range(100)]
    assert len(set(theirs + ours)) == 200


@pytest.mark.parametrize(
    ("kind", "method"),
    [(bytearray, "send_binary"), (bytearray, "send_utf8"), (list, "send_binary")],
)
def test_what_a_message_is_made_of_may_change_while_a_key_is_drawn(way, monkeypatch, method, kind):
    """Other threads run meanwhile: what is sent is the message as it was, or as it is then."""
    full, data, drawn = kind(b"x" * 3000), kind(), []
    draw = os.urandom

    def urandom(size):
        """As another thread might that clears it, whose memory is others' then."""
        data.clear()
        drawn.append(kind(b"y" * 3000))
        return draw(size)

    monkeypatch.setattr(os, "urandom", urandom)
    with End(way, masks=True) as end:
        for _ in range(2500):
            data[:] = full
            if getattr(end.channel, method)(data, end.writer):
                ((_, message),) = end.frames()
                assert message in (b"x" * 3000, b"")
    # Without the GIL the compiled channel leaves a bytearray to the writer.
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    assert drawn or (kind is bytearray and not has_gil)


@forks
@pytest.mark.abuse(72)
def test_locks_that_nobody_is_left_to_release(way):
    with End(way) as end:
        receiving = Running(end.receive, LONG)
        if way.by_descriptor:
            until(end.is_asleep)
        else:  # the reader would wait
            assert receiving.result() is end.reader
        with end.channel.writing:

            def child():
                channel = end.channel
                held = channel.reading.locked(), channel.writing.locked()
                channel.renew(way.lock(), way.lock())
                sent = end.send_text("x")  # it meets a descriptor that is closed
                kinds = [type(error).__name__ for error in end.writer.errors]
                received = end.receive(0.05) is end.reader
                return [*held, sent, kinds, received, channel.reading.locked()]

            expected = [way.by_descriptor, True, True, ["OSError"], True, False]
            assert in_child(child) == expected
        end.arrive(HELLO)
        assert receiving.result() == ("hello" if way.by_descriptor else end.reader)
        assert end.send_text("the parent's") is True
        assert end.frames() == [(TEXT, b"the parent's")]


@pytest.mark.parametrize("direction", ["reading", "writing"])
def test_a_call_releases_the_lock_that_it_took(way, direction):
    """A handler that forks in it gives the child's connection another one."""
    with End(way) as end:
        old, new = end.channel.reading, way.lock()
        writing, new_writing = end.channel.writing, way.lock()
        assert all(lock.acquire() for lock in (new, new_writing))

        def renew(*_):
            end.channel.renew(new, new_writing)

        if direction == "reading":
            end.reader.receive = renew
            end.channel.closing = True
            end.receive(LONG)
        else:
            end.fill()
            end.writer.meanwhile = renew
            assert end.send_text("x") is True
        assert [lock.locked() for lock in (old, writing)] == [False, False]
        assert [lock.locked() for lock in (new, new_writing)] == [True, True]


@forks
@pytest.mark.abuse(72)
@timers
@by_descriptor
def test_a_wait_that_goes_on_in_a_child_ends_there(way):
    """The number that it waits for is closed, and may be another file's."""
    with End(way) as end:
        pids = []

        def fork():
            pids.append(forked())
            if not pids[-1]:
                end.channel.closing = True  # as the connection does

        with Alarm(fork) as alarm, running(lambda: (until(lambda: pids), end.arrive(HELLO))):
            alarm.after(0.02)
            received = None
            try:
                received = end.receive(None)
            finally:
                if pids == [0]:
                    os._exit(0 if received is end.reader else 1)
            assert received == "hello"
        assert os.waitpid(pids[0], 0)[1] == 0


# ---- what is left of a frame ----


@posix
@pytest.mark.parametrize("fails", [False, True])
def test_what_is_left_is_noted_before_the_lock_is_released(way, fails):
    """Else another frame of the next sender's goes into the middle of it."""
    seen = []

    class Watching:
        def __init__(self):
            self._lock = threading.Lock()
            self.acquire, self.locked = self._lock.acquire, self._lock.locked

        def release(self):
            seen.append(list(end.channel.tail))
            self._lock.release()

    with End(way, pair(4096), lock=Watching) as end:
        end.writer.meanwhile = strike if fails else lambda: None
        try:
            end.send_binary(bytes(60_000))
        except Strike:
            assert fails
        assert seen == [end.channel.tail]
        left = end.channel.tail[:]
        assert bool(left) is fails
        end.channel.tail.clear()
        assert frames_of(end.arrived() + b"".join(left), masked=False) == [(BINARY, bytes(60_000))]


@by_descriptor
def test_the_next_one_to_get_the_lock_finds_what_is_left(way):
    """With the kernel's own lock, and threads."""
    with End(way, pair(4096)) as end:
        waiting = queue.SimpleQueue()

        def take():
            waiting.put(True)
            with end.channel.writing:
                return end.channel.tail[:]

        def go_on():
            takers.append(Running(take))
            assert waiting.get(timeout=SOON)
            raise Strike

        end.writer.meanwhile = go_on
        for _ in range(50):
            takers = []
            with pytest.raises(Strike):
                end.send_binary(bytes(60_000))
            found = takers[0].result()
            assert found == end.channel.tail
            assert len(found) == 1
            end.channel.tail.clear()
            end.arrived()
