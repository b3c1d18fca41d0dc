"""What a channel sends, in each of its ways, and what it leaves to the writer."""

import array
import errno
import socket
import sys
import threading
from collections import deque
from time import monotonic

import pytest

import kernels
from channels import SOON, End, Hooked, Way, connected, frames_of, pair
from frames import raw_frame
from kernels import BINARY, KEY, TEXT
from looped import looped
from pairs import Running, reset

MOST = 256 * 1024
SIZES = [
    *(0, 1, 124, 125, 126, 127, 4095, 4096, 4097),
    *(65521, 65535, 65536, 65537, MOST - 1, MOST),
]
NOT_SENT = (False, [], b"")  # what a send returned, asked of its writer, and sent

by_methods = pytest.mark.parametrize("way", ["methods", "pure"], indirect=True)
in_parts = pytest.mark.skipif(sys.platform == "win32", reason="it takes a message whole")
masking = pytest.mark.parametrize("masks", [False, True], ids=["plain", "masked"])


def some_bytes(size):
    return bytes(i * 7 % 251 for i in range(size))


def outcome(end, call, *arguments):
    """What a call has returned, asked of the writer, and sent."""
    returned = call(*arguments)
    assert not end.channel.writing.locked()
    return returned, end.writer.calls, end.arrived()


# ---- what is sent ----


@masking
def test_binary(way, masks):
    for size in SIZES:
        data = some_bytes(size)
        with End(way, masks=masks) as end:
            for kind in (bytes, list, tuple):
                assert end.send_binary(kind(data)) is True
                assert end.frames() == [(BINARY, data)]
            assert end.send_binary(bytearray(data)) is way.takes_bytearrays
            assert end.frames() == [(BINARY, data)] * way.takes_bytearrays


@masking
@pytest.mark.parametrize("letter", ["a", "é", "€", "𝄞"])
def test_text(way, masks, letter):
    for size in SIZES:
        text = letter * (size // len(letter.encode())) + "-" * (size % len(letter.encode()))
        with End(way, masks=masks) as end:
            assert end.send_text(text) is True
            assert end.frames() == [(TEXT, text.encode())]
            assert end.send_utf8(text.encode()) is True
            assert end.frames() == [(TEXT, text.encode())]
            assert end.send_utf8(bytearray(text.encode())) is way.takes_bytearrays
            assert end.frames() == [(TEXT, text.encode())] * way.takes_bytearrays


@masking
def test_frames_as_they_are(way, masks):
    frames = raw_frame(TEXT, b"a", KEY) + raw_frame(BINARY, b"b" * MOST, KEY) + b"\x8a\0"
    with End(way, masks=masks) as end:
        for data in (b"\x89\0", frames[:7], frames, b"#" * 65536, b""):
            assert end.send(data) is True
            assert end.arrived() == data


def test_a_mask_is_used_once(way):
    with End(way, masks=True) as end:
        for call, message in ((end.send_text, "abcdefg"), (end.send_binary, b"0" * 7)) * 100:
            call(message)
        for message in ([0] * 5000, b"0" * 5000) * 20:
            end.send_binary(message)
        data, keys = end.arrived(), set()
        for _, payload in frames_of(data, masked=True):
            start = 2 if len(payload) < 126 else 4
            keys.add(data[start : start + 4])
            data = data[start + 4 + len(payload) :]
        assert len(keys) == 240


def test_without_a_reason_the_writer_is_not_asked(way):
    with End(way) as end:
        assert outcome(end, end.send_text, "x") == (True, [], raw_frame(TEXT, b"x"))


# ---- what is not, with nothing done ----


class Str(str):
    pass


class Bytes(bytes):
    pass


class List(list):
    pass


UNUSUAL = [
    *(("send_text", each) for each in (b"x", None, 5, ["x"], {"a": 1}, Str("x"))),
    *(("send_text", each) for each in ("\ud800", "é\udfff", "a" * 5000 + "\ud800")),
    *(("send_utf8", each) for each in ("x", None, 5, [1], {"a": 1}, Bytes(b"x"), memoryview(b"x"))),
    *(("send_utf8", each) for each in (b"\xff", bytearray(b"\xff"), b"a" * 5000 + b"\xc3")),
    *(("send_utf8", kind(b"a" * (MOST + 1))) for kind in (bytes, bytearray)),
    *(("send_binary", each) for each in ("x", None, 5, {1}, Bytes(b"x"), List([1]))),
    *(("send_binary", each) for each in (memoryview(b"x"), array.array("B", [1]))),
    # Over 256 KiB, as characters or as bytes.
    *(("send_text", each) for each in ("a" * (MOST + 1), "é" * (MOST // 2) + "a")),
    *(("send_text", "é" * (MOST // 2) + "a" * more) for more in (2, 3, 4, 5)),
    *(("send_text", "€" * size) for size in (MOST // 3 + 1, MOST, MOST + 1)),
    *(("send_binary", kind(MOST + 1)) for kind in (bytes, bytearray)),
    *(("send_binary", kind(bytes(MOST + 1))) for kind in (list, tuple)),
]


@masking
def test_what_is_not_usual(way, masks):
    for call, message in UNUSUAL:
        with End(way, masks=masks) as end:
            assert outcome(end, getattr(end, call), message) == NOT_SENT, (call, type(message))


CALLS = [
    *(("send_text", "x"), ("send_utf8", b"x"), ("send_binary", b"x"), ("send_binary", [1])),
    ("send", b"\x81\0"),
]


def not_open(end):
    end.channel.open = False


def rest(end):
    end.channel.rest = (b"", 0, (), False)


def tail(end):
    end.channel.tail.append(b"tail")


def answers(end):
    end.answers.append(b"\x8a\0")


@looped(("call", "message"), CALLS)
@looped("change", [not_open, rest, tail, answers])
def test_what_is_in_the_way(way, call, message, change):
    with End(way) as end:
        change(end)
        assert outcome(end, getattr(end, call), message) == NOT_SENT


def test_what_comes_in_the_way_as_the_lock_is_taken(way):
    """It is asked again under the lock, before anything is sent."""
    for change in (not_open, rest, tail, answers):
        locks = []

        class Late:
            def __init__(self, locks=locks):
                self._lock = threading.Lock()
                self.release = self._lock.release
                self.locked = self._lock.locked
                self.change = lambda: None
                locks.append(self)

            def acquire(self, blocking=True, timeout=-1):
                self.change()
                return self._lock.acquire(blocking, timeout)

        with End(way, lock=Late) as end:
            writing = next(lock for lock in locks if lock is end.channel.writing)
            for call, message in CALLS:
                writing.change = lambda end=end, change=change: change(end)
                assert outcome(end, getattr(end, call), message) == NOT_SENT
                end.channel.open, end.channel.rest = True, None
                end.answers.clear()
                del end.channel.tail[:]


def test_bytes_that_the_stream_has_kept(way):
    with End(way) as end:
        end.stream.pending = True
        sent = end.send_text("x")
        assert sent is way.by_descriptor  # a descriptor keeps none
        assert end.frames() == [(TEXT, b"x")] * sent


def test_a_connection_that_compresses_sends_frames_alone(way):
    with End(way) as end:
        end.channel.compresses = True
        for call, message in CALLS[:3]:
            assert outcome(end, getattr(end, call), message) == NOT_SENT
        assert end.send(b"\xc1\0") is True
        assert end.arrived() == b"\xc1\0"


@looped(("call", "message"), CALLS)
def test_another_thread_sends(way, call, message):
    with End(way) as end:
        assert end.channel.writing.acquire()
        assert getattr(end, call)(message) is False
        assert end.channel.writing.locked()
        end.channel.writing.release()
        assert getattr(end, call)(message) is True
        assert not end.writer.calls


# ---- what is refused ----


@looped(
    "items",
    [
        *([1, 256], (-1,), [True], ["1"], (1.0, 2), [10**5000], [None], [0, [1]], (b"1",)),
        *([0] * 5000 + [256], (*bytes(4096), "x")),
    ],
)
@masking
def test_bad_items(way, masks, items):
    with pytest.raises((TypeError, ValueError)) as expected:
        kernels.load("pure").list_to_bytes(items)
    with End(way, masks=masks) as end:
        with pytest.raises(expected.type) as caught:
            end.send_binary(items)
        assert str(caught.value) == str(expected.value)
        assert outcome(end, end.send_binary, b"next")[0] is True
        assert not end.writer.calls


@looped("change", [not_open, rest, tail, answers])
def test_bad_items_are_left_to_the_writer_with_all_else(way, change):
    with End(way) as end:
        change(end)
        assert outcome(end, end.send_binary, [256]) == NOT_SENT


@looped("frame", [bytearray(b"\x81\0"), memoryview(b"\x81\0"), "x", None])
def test_a_frame_is_bytes(way, frame):
    with End(way) as end:
        with pytest.raises(TypeError) as caught:
            end.send(frame)
        assert str(caught.value) == f"the frame has to be bytes, not {type(frame).__name__}"
        assert outcome(end, end.send, b"\x81\0")[0] is True


# ---- what cannot be sent at once ----


@in_parts
@masking
@looped("message", ["a" * 200_000, b"a" * 60_000, [1] * 60_000])
def test_a_part_is_taken(way, masks, message):
    with End(way, pair(4096), masks=masks) as end:
        call = end.send_text if isinstance(message, str) else end.send_binary
        assert call(message) is True
        assert end.writer.calls == [("go_on", None, True)]
        assert 0 < len(end.writer.tails[0][0]) < len(message)
        payload = message.encode() if isinstance(message, str) else bytes(message)
        assert end.frames() == [(TEXT if isinstance(message, str) else BINARY, payload)]
        assert not end.channel.writing.locked()
        assert end.channel.tail == []


@masking
@looped("message", ["x", b"x" * 4096, [1, 2], (3,) * 5000, "€" * 30_000])
def test_nothing_is_taken(way, masks, message):
    with End(way, masks=masks) as end:
        filled = end.fill()
        call = end.send_text if isinstance(message, str) else end.send_binary
        assert call(message) is True
        ((name, frame, held),) = end.writer.calls
        assert (name, held, end.writer.tails) == ("go_on", True, [[]])
        payload = message.encode() if isinstance(message, str) else bytes(message)
        first = TEXT if isinstance(message, str) else BINARY
        assert frames_of(frame, masks) == [(first, payload)]
        assert end.arrived() == filled + frame


def test_a_whole_frame_is_handed_on_as_it_is(way):
    frame = raw_frame(BINARY, b"x" * 70_000)
    with End(way) as end:
        filled = end.fill()
        assert end.send(frame) is True
        assert end.writer.calls == [("go_on", frame, True)]
        assert end.writer.calls[0][1] is frame
        assert end.arrived() == filled + frame


@by_methods
def test_what_the_stream_keeps_is_gone_on_with(way):
    with End(way, stream=Hooked) as end:
        end.stream.before = lambda: setattr(end.stream, "pending", True)
        assert outcome(end, end.send_text, "x") == (
            True,
            [("go_on", None, True)],
            raw_frame(TEXT, b"x"),
        )


class Strike(BaseException):
    pass


@in_parts
@looped("error", [Strike(), TimeoutError(), OSError(5, "x")])
@looped("full", [False, True])
def test_what_going_on_raises_comes_out(way, full, error):
    with End(way, pair(4096)) as end:
        filled = end.fill() if full else b""

        def fail():
            raise error

        end.writer.meanwhile = fail
        message = b"x" * 60_000
        with pytest.raises(type(error)) as caught:
            end.send_binary(message)
        assert caught.value is error
        assert not end.channel.writing.locked()
        assert [name for name, *_ in end.writer.calls] == ["go_on"]  # and `broke` is not asked
        if not full:
            (left,) = end.channel.tail
            assert end.send_binary(b"late") is False  # the rest goes first
            arrived = end.arrived()
            end.channel.tail.clear()
            assert frames_of(arrived + left, masked=False) == [(BINARY, message)]
        else:
            assert (end.arrived(), end.channel.tail) == (filled, [])


# ---- the peer has gone ----


def gone(end):
    """Have the peer reset the connection, and wait until this end knows."""
    reset(end.far)
    assert end.readable(SOON)


@masking
@looped(
    ("call", "message"),
    [*CALLS, ("send_text", "é" * 5000), ("send_binary", b"x" * 70_000), ("send", b"#" * 70_000)],
)
def test_the_first_error_is_passed_on(way, masks, call, message):
    """The system says ECONNRESET once. Who asks a second time is told EPIPE, and never why."""
    with End(way, connected(), masks=masks) as end:
        gone(end)
        assert getattr(end, call)(message) is True  # as `broke` has said
        (error,) = end.writer.errors
        assert type(error) is ConnectionResetError
        assert (error.errno, bool(error.strerror)) == (errno.ECONNRESET, True)
        ((name, frame, held),) = end.writer.calls
        assert (name, held) == ("broke", True)
        if call == "send":
            assert frame == message
        else:
            payload = message.encode() if isinstance(message, str) else bytes(message)
            assert frames_of(frame, masks)[0][1] == payload
        assert not end.channel.writing.locked()
        assert getattr(end, call)(message) is True
        assert isinstance(end.writer.errors[1], ConnectionError)  # but another one


def test_an_error_that_is_not_dealt_with_is_raised(way):
    with End(way, connected()) as end:
        gone(end)
        end.writer.dealt = False
        end.channel.look_due = True
        with pytest.raises(ConnectionResetError) as caught:
            end.send_text("x")
        assert end.writer.errors == [caught.value]
        assert not end.channel.writing.locked()
        assert [name for name, *_ in end.writer.calls] == ["broke"]  # and nothing is looked after


def test_what_is_raised_for_an_error_comes_out(way):
    class Strict(deque):
        def append(self, item):
            super().append(item)
            raise LookupError

    with End(way, connected()) as end:
        gone(end)
        end.writer.errors = Strict()
        with pytest.raises(LookupError):
            end.send_text("x")
        assert not end.channel.writing.locked()


@by_methods
@pytest.mark.parametrize("dealt", [False, True])
@pytest.mark.parametrize("error", [Strike(), TimeoutError(), ConnectionResetError(5, "x")])
def test_what_the_stream_raises(way, dealt, error):
    def fail():
        raise error

    with End(way, stream=Hooked) as end:
        end.stream.before = fail
        end.writer.dealt = dealt
        if dealt:
            assert end.send_text("x") is True
        else:
            with pytest.raises(type(error)):
                end.send_text("x")
        assert end.writer.calls == [("broke", raw_frame(TEXT, b"x"), True)]
        assert end.writer.errors == [error]
        assert not end.channel.writing.locked()


# ---- after a send ----


@looped(("call", "message"), CALLS)
def test_looking_after(way, call, message):
    with End(way) as end:
        end.channel.look_due = True
        assert getattr(end, call)(message) is True
        assert end.writer.calls == [("look_after", False)]
        end.channel.look_due = False
        assert getattr(end, call)(message) is True
        assert end.writer.calls == [("look_after", False)]


@pytest.mark.parametrize(("call", "message"), CALLS)
def test_looking_after_once_it_is_time(way, call, message):
    with End(way) as end:
        assert end.channel.look_at == 0.0
        end.channel.look_due = True
        end.channel.look_at = monotonic() + 1000
        assert end.channel.look_at == pytest.approx(monotonic() + 1000, abs=100)
        assert getattr(end, call)(message) is True
        assert end.writer.calls == []
        end.channel.look_at = monotonic()
        assert getattr(end, call)(message) is True
        assert end.writer.calls == [("look_after", False)]


@in_parts
def test_answers_that_came_meanwhile_are_looked_after(way):
    with End(way, pair(4096)) as end:
        end.writer.meanwhile = lambda: answers(end)
        assert end.send_binary(bytes(60_000)) is True
        assert end.writer.calls == [("go_on", None, True), ("look_after", False)]


def test_nothing_is_looked_after_where_nothing_was_sent(way):
    with End(way) as end:
        end.channel.look_due = True
        rest(end)
        assert outcome(end, end.send_text, "x") == NOT_SENT


# ---- threads ----


def test_threads_send_whole_frames(way):
    """Of two that send at once, one is told False, and nothing of it was sent."""
    near, far = pair()
    sent = [[] for _ in range(4)]

    def run(number):
        for turn in range(300):
            message = bytes([number]) * (turn % 50 + turn % 7 * 1500)
            if end.send_binary(message):
                sent[number].append(message)

    received = bytearray()

    def receive():
        while piece := far.recv(65536):
            received.extend(piece)

    with End(way, (near, far), masks=True) as end:
        far.setblocking(True)
        end.drain = lambda: None  # which the thread does
        threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
        receiver = threading.Thread(target=receive)
        for thread in (receiver, *threads):
            thread.start()
        for thread in threads:
            thread.join()
        near.shutdown(socket.SHUT_WR)
        receiver.join()
    frames = frames_of(bytes(received), masked=True)
    for number in range(4):
        mine = [payload for _, payload in frames if payload[:1] == bytes([number])]
        assert mine == [message for message in sent[number] if message]
    assert len(frames) == sum(map(len, sent)) > 0


def test_a_way_has_its_own_kernel():
    """Else all of the above says nothing of the others."""
    pure = Way.named("pure")
    assert pure.channel.Lock is None
    compiled = kernels.load("compiled")
    assert {Way.named(name).channel for name in ("descriptor", "methods")} == {compiled}
    for name in ("descriptor", "methods", "pure"):
        if name == "pure" or compiled.descriptor_of is not None:
            with End(Way.named(name)) as end:
                assert (end.stream.descriptor is not None) is (name == "descriptor")


# ---- threads ----


def test_a_thread_forgets_its_locals_and_no_other_ones(way):
    forget = way.channel.forget_locals
    if forget is None:
        pytest.skip("a thread is not used again here")

    class Counted(threading.local):
        def __init__(self):
            self.count = 1

    plain, counted = threading.local(), Counted()
    plain.value = "the caller's"

    def body():
        found = []
        for _ in range(3):
            found.append((dict(vars(plain)), counted.count))
            plain.value = "the thread's"
            counted.count = 2
            forget()
        return found

    assert Running(body).result() == [({}, 1)] * 3
    assert plain.value == "the caller's"
