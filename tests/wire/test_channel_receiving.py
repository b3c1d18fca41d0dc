"""What a channel receives, in each of its ways, how it waits, and what it leaves to the reader.

By a descriptor it waits itself. By a method it lets that nap once, if the timeout is long, and
leaves the rest to the reader: so what is received at once here is given a long timeout.
"""

import gc
import itertools
import math
import socket
import threading
import time
import weakref
from collections import deque

import pytest

from channels import End, Hooked, Stream, connected, pair
from frames import header, raw_frame
from kernels import BINARY, INT64_MAX, KEY, TEXT
from looped import looped
from pairs import SOON, Running, at_least, reset, running, until

by_descriptor = pytest.mark.parametrize("way", ["descriptor", "gate"], indirect=True)
by_waker = pytest.mark.parametrize("way", ["descriptor"], indirect=True)
by_methods = pytest.mark.parametrize("way", ["methods", "pure"], indirect=True)

MORE, SPECIAL, BAD_TEXT = range(3)
NAP = 0.01
LONG = 100.0  # seconds, in which something comes
HELLO = raw_frame(TEXT, b"hello")


@pytest.fixture
def end(way):
    with End(way) as each:
        yield each


def noted(end):
    window = end.window
    return window.unfed, window.stopped, window.plain


NOTHING_NOTED = (None, None, True)


# ---- messages ----


def test_one_message(end):
    end.arrive(HELLO)
    assert end.receive(LONG) == "hello"
    assert not end.reader.calls
    assert noted(end) == NOTHING_NOTED
    assert end.channel.heard is True
    assert not end.channel.reading.locked()


def test_several_come_in_their_order(end):
    end.arrive(HELLO + raw_frame(BINARY, b"\0\xff") + raw_frame(TEXT, "é".encode()))
    assert end.receive(LONG) == "hello"
    assert list(end.ready) == [b"\0\xff", "é"]
    assert not end.reader.calls
    assert noted(end) == NOTHING_NOTED


@looped("masked", [False, True])
@looped("as_list", [False, True])
def test_kinds(way, masked, as_list):
    key = KEY if masked else None
    frames = [(TEXT, "häh €"), (BINARY, b"\0\x7f\xff"), (TEXT, ""), (BINARY, b"")]
    with End(way, masked=masked, as_list=as_list) as end:
        for first, message in frames * 2:
            payload = message.encode() if isinstance(message, str) else message
            end.arrive(raw_frame(first, payload, key))
            received = end.receive(LONG)
            assert received == (list(message) if as_list and first == BINARY else message)
            assert type(received) is (str if first == TEXT else list if as_list else bytes)
        assert not end.reader.calls


@pytest.mark.parametrize("count", [1, 3])
def test_a_window_that_is_full_to_the_brim(way, count):
    """What comes next may lie unread: the reader makes a larger window."""
    frame = raw_frame(BINARY, b"ab")
    for room in (4 * count, 4 * count + 1):
        with End(way, room=room) as end:
            end.arrive(frame * count)
            received = end.receive(LONG)
            if room > 4 * count:
                assert (received, noted(end)) == (b"ab", NOTHING_NOTED)
                assert list(end.ready) == [b"ab"] * (count - 1)
            else:
                assert received is end.reader
                assert noted(end) == (room, (room, room, MORE), False)
                assert list(end.ready) == [b"ab"] * count


@looped("before", [0, 1, 2])
@looped(
    ("rest", "why"),
    [
        (b"\x81", MORE),
        (b"\x81\x7e\0", MORE),
        (b"\x81\x05hel", SPECIAL),  # incomplete
        (raw_frame(0x89, b"ping"), SPECIAL),
        (b"\x88\x02\x03\xe8", SPECIAL),
        (raw_frame(0x01, b"a"), SPECIAL),  # a fragment
        (raw_frame(0x80, b"a"), SPECIAL),
        (raw_frame(0xC1, b"a"), SPECIAL),  # compressed
        (raw_frame(TEXT, b"a", KEY), SPECIAL),  # masked
        (header(BINARY, 1001), SPECIAL),  # too large
        (header(BINARY, 2**63, form=64), SPECIAL),
        (header(BINARY, 5, form=16) + b"hello", SPECIAL),  # not the shortest form
        (raw_frame(TEXT, b"\xff"), BAD_TEXT),
    ],
)
def test_what_is_no_message_is_noted(way, before, rest, why):
    with End(way, limit=1000) as end:
        data = HELLO * before + rest
        end.arrive(data)
        assert end.receive(LONG) is end.reader
        assert noted(end) == (len(data), (len(HELLO) * before, len(data), why), False)
        assert list(end.ready) == ["hello"] * before
        assert end.window.data[len(HELLO) * before : len(data)] == rest
        ((name, left, quick, held),) = end.reader.calls
        assert (name, quick, held) == ("receive", True, True)
        assert LONG - SOON < left <= LONG
        assert not end.channel.reading.locked()
        # And what is noted is the reader's.
        end.arrive(HELLO)
        assert end.receive(LONG) is end.reader
        assert end.far.send(b"") == 0
        assert end.window.unfed == len(data)


def test_the_largest_limit(way):
    with End(way, limit=INT64_MAX) as end:
        end.arrive(HELLO)
        assert end.receive(LONG) == "hello"


def test_the_end_of_the_stream(end):
    end.far.shutdown(socket.SHUT_WR)
    assert end.receive(LONG) is end.reader
    assert (end.window.unfed, end.window.plain) == (0, False)
    assert len(end.reader.calls) == 1
    assert not end.ready


def test_the_end_behind_a_message(end):
    end.arrive(HELLO)
    end.far.shutdown(socket.SHUT_WR)
    assert end.receive(LONG) == "hello"
    assert noted(end) == NOTHING_NOTED
    assert end.receive(LONG) is end.reader
    assert end.window.unfed == 0


def test_a_reset_is_the_end_too(way):
    with End(way, connected()) as end:
        with running(lambda: (until(end.is_reading), reset(end.far))):
            assert end.receive(LONG) is end.reader
        if way.by_descriptor:
            assert (end.window.unfed, end.window.plain) == (0, False)
        else:  # the reader meets the end
            assert noted(end) == NOTHING_NOTED


@by_methods
@pytest.mark.parametrize("error", [TimeoutError(), OSError(), KeyboardInterrupt(), ValueError()])
def test_what_a_signal_handler_raises_in_the_method_comes_out(way, error):

    def fail():
        raise error

    with End(way, stream=Hooked) as end:
        hooked(end, fail)
        end.arrive(HELLO)
        with pytest.raises(type(error)) as caught:
            end.receive(LONG)
        assert caught.value is error
        assert (noted(end), end.is_reading()) == (NOTHING_NOTED, False)
        assert not end.channel.reading.locked()
        hooked(end, lambda: None)
        assert end.receive(LONG) == "hello"


def hooked(end, function):
    """Have something happen as the channel receives by a method."""
    end.stream.before = function


@by_methods
def test_an_error_of_the_system_is_left_to_the_reader(way):

    def fail():
        raise ConnectionResetError(104, "reset")

    with End(way, stream=Hooked) as end:
        hooked(end, fail)
        assert end.receive(LONG) is end.reader
        assert noted(end) == NOTHING_NOTED


# ---- what is received is not lost ----


class Full(deque):
    def extend(self, _):
        raise MemoryError

    __iadd__ = append = extend


@pytest.mark.parametrize("as_list", [False, True])
def test_a_failure_after_receiving_loses_nothing(way, as_list):
    data = b"".join(
        raw_frame(first, payload, KEY)
        for first, payload in ((TEXT, "é".encode()), (TEXT, b"a"), (BINARY, b"ab"), (BINARY, b""))
    )
    with End(way, masked=True, as_list=as_list, ready=Full()) as end:
        end.arrive(data)
        with pytest.raises(MemoryError):
            end.receive(LONG)
        assert noted(end) == (len(data), None, False)
        assert end.window.data[: len(data)] == data  # to be read again
        assert not end.is_reading()
        assert not end.channel.reading.locked()


def test_a_single_message_needs_no_memory_where_it_is_returned(way):
    with End(way, ready=Full()) as end:
        end.arrive(HELLO)
        if way.by_descriptor:
            assert end.receive(LONG) == "hello"
        else:
            with pytest.raises(MemoryError):
                end.receive(LONG)
            assert noted(end) == (len(HELLO), None, False)


def test_what_the_reader_raises_comes_out(end):
    def fail(*_):
        raise LookupError

    end.reader.receive = end.reader.receive_waiting = fail
    end.arrive(b"\x89\0")
    with pytest.raises(LookupError):
        end.receive(LONG)
    assert not end.channel.reading.locked()
    with end.channel.reading, pytest.raises(LookupError):
        end.receive(LONG)


# ---- one after the other ----


def iterate(end, owner=None):
    """The messages of an end, one after the other."""
    return end.way.channel.Iteration(end.channel, end.reader, owner)


def test_iterating(end):
    end.arrive(HELLO + raw_frame(BINARY, b"\0\xff"))
    messages = iterate(end)
    assert iter(messages) is messages
    assert [next(messages), next(messages)] == ["hello", b"\0\xff"]
    answers = ["the reader's", None, None]  # which are as after a close
    end.reader.receive = lambda *_: answers.pop(0)
    end.far.close()
    assert next(messages) == "the reader's"
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(messages)
    assert not end.channel.reading.locked()


def test_iterating_takes_what_is_ready_without_the_lock(end):
    end.ready.extend("ab")
    with end.channel.reading:
        messages = iterate(end)
        assert [next(messages), next(messages)] == ["a", "b"]


def test_what_the_reader_raises_comes_out_of_an_iteration(end):
    def fail(*_):
        raise LookupError

    end.reader.receive = fail
    end.far.close()
    with pytest.raises(LookupError):
        next(iterate(end))
    assert not end.channel.reading.locked()


def test_an_iteration_keeps_whose_messages_they_are(end):
    class Owner:
        pass

    owner = Owner()
    messages, still = iterate(end, owner), weakref.ref(owner)
    del owner
    gc.collect()
    assert still() is not None
    del messages
    gc.collect()
    assert still() is None


# ---- timeouts ----


@pytest.mark.parametrize("timeout", [0, 0.0, 0.002, 0.05, -0.0])
def test_a_timeout(end, timeout):
    start = time.monotonic()
    received = end.receive(timeout)
    took = time.monotonic() - start
    if end.way.by_descriptor:
        assert (received, end.reader.calls) == (None, [])
        assert timeout <= took < SOON
    else:
        assert received is end.reader
        assert end.reader.calls == [("receive", timeout, False, True)]
    assert (noted(end), end.channel.heard) == (NOTHING_NOTED, False)
    assert (end.is_reading(), end.channel.reading.locked()) == (False, False)


@pytest.mark.parametrize("timeout", [0, 0.002, 0.05, 1, LONG, None, math.inf, 10**6, 10**400])
def test_a_message_that_is_there_is_received_in_any_time(end, timeout):
    end.reader.reads = True
    end.arrive(HELLO)
    assert end.receive(timeout) == "hello"


def test_a_negative_timeout_below_the_smallest_step_is_none(end):
    with pytest.raises(ValueError, match="timeout has to be 0 or more"):
        end.receive(-1e-300)


@pytest.mark.parametrize(
    ("timeout", "kind"),
    [
        *((each, ValueError) for each in (-1, -0.5, math.nan, -math.inf, -(10**400), -(2**63))),
        *((each, TypeError) for each in (True, False, "1", b"1", [1], 1j, object())),
    ],
    ids=lambda each: str(each).partition(" at 0x")[0],
)
def test_an_odd_timeout_is_refused_before_anything_is_received(end, timeout, kind):
    end.arrive(HELLO)
    with pytest.raises(kind, match="timeout has to be"):
        end.receive(timeout)
    assert not end.channel.reading.locked()
    with end.channel.reading, pytest.raises(kind):
        end.receive(timeout)
    assert (noted(end), end.channel.heard, end.reader.calls) == (NOTHING_NOTED, False, [])
    assert end.receive(LONG) == "hello"


class Float(float):
    pass


def test_another_kind_of_number_is_the_readers_to_judge(end):
    end.reader.reads = True
    for timeout in (Float(LONG), Float(0)):
        end.arrive(HELLO)
        assert end.receive(timeout) == "hello"


@by_descriptor
@pytest.mark.parametrize("timeout", [None, math.inf, 10**400, 1e300, 2**62])
def test_a_wait_for_ever_and_nearly_so(way, timeout):
    with End(way) as end, running(lambda: (until(end.is_asleep), end.arrive(HELLO))):
        assert end.receive(timeout) == "hello"
        assert not end.reader.calls


def test_how_long_the_reader_has(end):
    """None for ever; and whether a nap more would matter to it."""
    for timeout, expected in (
        *((None, (None, True)), (math.inf, (None, True)), (5, (5, True)), (1.5, (1.5, True))),
        *((1.0, (1.0, False)), (1, (1, False)), (0.2, (0.2, False)), (0, (0, False))),
    ):
        end.channel.closing = True  # else there is a wait before
        assert end.receive(timeout) is end.reader
        assert end.reader.calls.pop() == ("receive", *expected, True)


# ---- waiting ----


def waiting(end, then, timeout=LONG):
    """Receive while a thread does something, once this one is beyond its nap; what came of it."""
    with running(lambda: (until(end.is_asleep), then())):
        return end.receive(timeout)


@looped("delay", [0, 0.003, 0.03])
@looped("timeout", [0.5, LONG, None])
def test_a_message_that_comes_later(way, delay, timeout):
    """In the nap, or behind it."""
    with End(way) as end:
        timer = threading.Timer(delay, end.arrive, (HELLO,))
        timer.start()
        received = end.receive(timeout)
        timer.join()
        if received is end.reader:
            assert not way.by_descriptor  # it has napped
        else:
            assert (received, end.channel.heard) == ("hello", True)


def test_who_reads_is_told_while_it_does(way):
    with End(way, stream=Hooked) as end:
        seen = []

        def look():
            seen.append(end.channel.reader)

        hooked(end, look)
        if way.by_descriptor:
            assert waiting(end, lambda: (look(), end.arrive(HELLO))) == "hello"
        else:
            end.receive(LONG)
        assert seen == [threading.get_ident()]
        assert end.channel.reader == 0


@by_descriptor
def test_a_wait_holds_no_other_thread_up(way):
    with End(way) as end:
        assert waiting(end, lambda: (end.send_text("x"), end.arrive(HELLO))) == "hello"
        assert end.frames() == [(TEXT, b"x")]


@by_waker
def test_a_wait_is_woken(way):
    with End(way) as end:
        assert waiting(end, end.wake) is end.reader
        ((name, left, quick, held),) = end.reader.calls
        assert (name, quick, held) == ("receive", True, True)
        assert LONG - SOON < left < LONG  # less what has passed
        end.arrive(HELLO)
        assert end.receive(LONG) == "hello"


@by_waker
def test_a_waker_goes_on_waking(way):
    with End(way) as end:
        assert end.receive(0.05) is None  # it has one now
        end.stream.wake()
        for _ in range(3):
            assert end.receive(LONG) is end.reader
            end.arrive(HELLO)
            assert end.receive(LONG) == "hello"


@by_descriptor
def test_what_comes_with_the_waking_is_received(way):
    with End(way) as end:
        end.reader.reads = True
        assert waiting(end, lambda: (end.arrive(HELLO), end.wake())) == "hello"


@by_descriptor
@pytest.mark.parametrize("flag", ["closing", "orphaned", "alone"])
def test_a_flag_is_seen_once_it_is_woken(way, flag):
    with End(way) as end:
        then = lambda: (setattr(end.channel, flag, True), end.wake())  # noqa: E731
        assert waiting(end, then) is end.reader
        names = [(name, held) for name, *_, held in end.reader.calls]
        assert names == [("leave", True)] * (flag == "orphaned") + [("receive", True)]


class Unwoken(Stream):
    """One that no descriptor is left for."""

    asked = 0

    def waker_number(self):
        self.asked += 1
        return -1


@by_waker
@pytest.mark.parametrize("flag", ["closing", "orphaned", "alone"])
def test_without_a_descriptor_to_wake_it_a_flag_is_seen_soon(way, flag):
    with End(way, stream=Unwoken) as end:
        then = lambda: (until(lambda: end.stream.asked), setattr(end.channel, flag, True))  # noqa: E731
        with running(then):
            assert end.receive(SOON) is end.reader


@by_waker
def test_without_a_descriptor_to_wake_it_it_ends_in_time(way):
    with End(way, stream=Unwoken) as end, at_least(0.25):
        assert end.receive(0.25) is None
        assert end.stream.asked > 1  # there may be one by now


@by_waker
def test_without_a_descriptor_to_wake_it_one_is_asked_for_again(way):
    class Late(Stream):
        asked = 0

        def waker_number(self):
            self.asked += 1
            return -1 if self.asked < 3 else super().waker_number()

    with End(way, stream=Late) as end:
        assert waiting(end, end.stream.wake, None) is end.reader
        assert end.stream.asked == 3


@by_waker
def test_what_making_the_waker_raises_comes_out(way):
    class Bad(Stream):
        def waker_number(self):
            raise TimeoutError  # a signal handler's

    with End(way, stream=Bad) as end:
        with pytest.raises(TimeoutError):
            end.receive(LONG)
        assert (end.is_reading(), end.channel.reading.locked()) == (False, False)
        assert noted(end) == NOTHING_NOTED


@by_descriptor
@pytest.mark.parametrize(("timeout", "size"), [(LONG, 1024), (None, 1024), (0.05, 65536)])
def test_a_grown_window_is_given_back_before_a_long_wait(way, timeout, size):
    with End(way, room=65536) as end:
        if timeout == 0.05:
            end.receive(timeout)
        else:
            given_back = lambda: until(lambda: len(end.window.data) == size)  # noqa: E731
            then = lambda: (given_back(), end.arrive(HELLO))  # noqa: E731
            assert waiting(end, then, timeout) == "hello"
        assert len(end.window.data) == size


def test_a_grown_window_is_kept_where_something_comes_soon(way):
    with End(way, room=65536) as end:
        for _ in range(3):
            end.arrive(HELLO)
            assert end.receive(LONG) == "hello"
        assert len(end.window.data) == 65536


def test_a_window_of_the_readers_own_is_used(end):
    end.window.data = bytearray(8)
    end.arrive(HELLO * 2)
    assert end.receive(LONG) is end.reader
    assert noted(end) == (8, (7, 8, MORE), False)
    assert list(end.ready) == ["hello"]


@by_descriptor
def test_a_socket_that_does_not_nap(way):

    class Awake(Stream):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.naps = False

    with End(way, stream=Awake) as end:
        assert end.receive(0.05) is None
        assert waiting(end, lambda: end.arrive(HELLO), None) == "hello"


# ---- what is not usual ----


def unfed(end):
    end.window.unfed = 3


def not_plain(end):
    end.window.plain = False


def closing(end):
    end.channel.closing = True


def orphaned(end):
    end.channel.orphaned = True


def alone(end):
    end.channel.alone = True


def ready(end):
    end.ready.append("ready")


def rest(end):
    end.channel.rest = (b"", 0, (), False)


def tail(end):
    end.channel.tail.append(b"tail")


def answers(end):
    end.answers.append(b"\x8a\0")


IN_THE_WAY = [unfed, not_plain, closing, orphaned, alone, ready, rest, tail, answers]


@pytest.mark.parametrize("change", IN_THE_WAY)
def test_what_is_not_usual_is_left_to_the_reader(end, change):
    end.arrive(HELLO)
    change(end)
    before = end.state()
    for timeout, quick in ((LONG, True), (0.5, False), (None, True), (0, False)):
        assert end.receive(timeout) is end.reader
        assert end.reader.calls.pop() == ("receive", timeout, quick, True)
    assert end.state() == before


def test_what_the_stream_keeps_is_left_to_the_reader(end):
    end.stream.pending = True
    end.arrive(HELLO)
    received = end.receive(LONG)
    assert received == ("hello" if end.way.by_descriptor else end.reader)


@looped("change", [closing, rest, tail, answers])
def test_what_comes_in_the_way_meanwhile(way, change):
    """What was received is ready then, and was heard of."""
    with End(way, stream=Hooked) as end:
        if way.by_descriptor:
            received = waiting(end, lambda: (change(end), end.arrive(HELLO)))
        else:
            end.arrive(HELLO)
            hooked(end, lambda: change(end))
            received = end.receive(LONG)
        assert received is end.reader
        assert list(end.ready) == ["hello"]
        assert end.channel.heard is True
        assert noted(end) == NOTHING_NOTED


@by_waker
@pytest.mark.parametrize("change", [closing, rest, tail, answers])
def test_what_comes_in_the_way_until_the_timeout(way, change):
    class Changing(Stream):
        def waker_number(self):  # asked for once the nap is over
            change(end)
            return super().waker_number()

    with End(way, stream=Changing) as end:
        assert end.receive(0.05) is end.reader
        ((name, left, quick, held),) = end.reader.calls
        assert (name, quick, held) == ("receive", False, True)
        assert 0 <= left < 0.05


def test_what_is_orphaned_meanwhile_is_left(way):
    with End(way, stream=Hooked) as end:
        if way.by_descriptor:
            received = waiting(end, lambda: (orphaned(end), end.arrive(HELLO)))
        else:
            end.arrive(HELLO)
            hooked(end, lambda: orphaned(end))
            received = end.receive(LONG)
        assert received == "hello"  # a message that has come is not lost
        assert end.reader.calls == [("leave", True)]


def test_what_leaving_raises_comes_out(way):
    def fail():
        raise LookupError

    with End(way, stream=Hooked) as end:
        end.reader.leave = fail
        if way.by_descriptor:
            with pytest.raises(LookupError):
                waiting(end, lambda: (orphaned(end), end.wake()))
        else:
            hooked(end, lambda: orphaned(end))
            with pytest.raises(LookupError):
                end.receive(LONG)
        assert (end.is_reading(), end.channel.reading.locked()) == (False, False)


# ---- threads ----


def test_another_thread_receives(end):
    with end.channel.reading:
        for timeout in (0, 0.5, LONG, None):
            assert end.receive(timeout) is end.reader
            assert end.reader.calls.pop() == ("receive_waiting", timeout, True)
    end.arrive(HELLO)
    assert end.receive(LONG) == "hello"


@by_descriptor
def test_while_one_receives_another_waits_for_its_turn(way):
    with End(way) as end:

        def other():
            assert end.channel.reading.locked()
            assert Running(end.receive, 5).result() is end.reader
            end.arrive(HELLO)

        assert waiting(end, other) == "hello"
        assert end.reader.calls == [("receive_waiting", 5, True)]


def test_threads_receive_each_message_once(way):
    count = 1000
    # Room for all: however late the threads come, no frame is cut. `End.read` joins none.
    with End(way, pair(), room=8192) as end:
        end.reader.reads = True
        received = [[] for _ in range(3)]
        end.reader.receive_waiting = lambda timeout: None

        def take(mine):
            while sum(map(len, received)) < count:
                message = end.take() or end.receive(0.01)
                if message is not None:
                    mine.append(message)

        end.reader.receive = lambda *_: end.read()
        threads = [threading.Thread(target=take, args=(mine,)) for mine in received]
        for thread in threads:
            thread.start()
        end.far.settimeout(SOON)
        for number in range(count):
            end.far.sendall(raw_frame(TEXT, b"%d" % number))
        for thread in threads:
            thread.join(SOON)
        assert sorted(map(int, itertools.chain(*received))) == list(range(count))
        for mine in received:
            assert mine == sorted(mine, key=int)
