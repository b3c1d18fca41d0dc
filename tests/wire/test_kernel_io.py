"""The kernel's two functions around a socket's method, on both implementations."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

import pytest

import kernels
from frames import raw_frame
from kernels import BINARY, INT64_MAX, KEY, TEXT
from looped import looped
from memory import counts_references, cpython_handlers

# They take SIGALRM for themselves, by which a test that hangs is ended otherwise.
pytestmark = pytest.mark.timeout(method="thread")

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

MORE, SPECIAL, BAD_TEXT, _ = range(4)


def source(data: bytes) -> Callable[[bytearray], int]:
    """Receives `data`."""

    def receive(window: bytearray) -> int:
        window[: len(data)] = data
        return len(data)

    return receive


def raising(error: BaseException) -> Callable[..., int]:
    def function(*_: object) -> int:
        raise error

    return function


def run(
    kernel: ModuleType, receive: Callable[[bytearray], Any], room: int = 4096, **changes: Any
) -> tuple[bool, list[Any], list[int]]:
    """Call receive_messages: what it returned, the messages and the note."""
    ready: deque[Any] = deque()
    arguments: dict[str, Any] = {
        "receive": receive,
        "window": bytearray(room),
        "masked": False,
        "as_list": False,
        "limit": 1000,
        "ready": ready,
        "note": [],
        **changes,
    }
    return kernel.receive_messages(**arguments), list(ready), arguments["note"]


# ---- receive_messages ----


@pytest.mark.parametrize("count", [1, 2, 40])
def test_whole_messages_are_all_there_is_to_do(kernel: ModuleType, count: int) -> None:
    data = (raw_frame(TEXT, "häh".encode()) + raw_frame(BINARY, b"\0\xff")) * count
    note = [10 * count, 10 * count, MORE, 6 * count]
    assert run(kernel, source(data)) == (True, ["häh", b"\0\xff"] * count, note)
    assert run(kernel, source(data), as_list=True) == (True, ["häh", [0, 255]] * count, note)


def test_masked_messages(kernel: ModuleType) -> None:
    data = raw_frame(TEXT, b"abc", KEY) + raw_frame(BINARY, b"", KEY)
    assert run(kernel, source(data), masked=True) == (
        True,
        ["abc", b""],
        [len(data), len(data), MORE, 3],
    )
    assert run(kernel, source(data)) == (False, [], [len(data), 0, SPECIAL, 0])


def test_messages_go_behind_those_that_are_ready(kernel: ModuleType) -> None:
    ready = deque(["first"])
    assert run(kernel, source(raw_frame(TEXT, b"x")), ready=ready)[0] is True
    assert list(ready) == ["first", "x"]


@looped(
    ("rest", "why"),
    [
        (b"\x81", MORE),
        (b"\x81\x7e\0", MORE),
        (b"\x81\x02a", SPECIAL),  # incomplete
        (b"\x89\0", SPECIAL),
        (b"\x01\0", SPECIAL),
        (b"\x81\x7e\x03\xe9", SPECIAL),  # over the limit
        (raw_frame(TEXT, b"\xff"), BAD_TEXT),
    ],
)
def test_what_else_came_is_noted(kernel: ModuleType, rest: bytes, why: int) -> None:
    for before in (b"", raw_frame(TEXT, b"one"), raw_frame(TEXT, b"one") + raw_frame(TEXT, b"two")):
        came, ready, note = run(kernel, source(before + rest))
        assert (came, note) == (
            False,
            [len(before + rest), len(before), why, 3 * (len(before) // 5)],
        )
        assert ready == ["one", "two"][: len(before) // 5]


def test_a_full_window_is_noted(kernel: ModuleType) -> None:
    data = raw_frame(BINARY, b"ab")
    assert run(kernel, source(data), room=4) == (False, [b"ab"], [4, 4, MORE, 2])
    assert run(kernel, source(data), room=5) == (True, [b"ab"], [4, 4, MORE, 2])


def test_the_end_of_the_stream_is_noted(kernel: ModuleType) -> None:
    assert run(kernel, source(b"")) == (False, [], [0, 0, MORE, 0])


@pytest.mark.parametrize("receive", [lambda _: None, raising(BlockingIOError())])
def test_nothing_is_there(kernel: ModuleType, receive: Callable[..., Any]) -> None:
    assert run(kernel, receive) == (False, [], [])


def test_with_a_note_nothing_is_received(kernel: ModuleType) -> None:
    assert run(kernel, raising(AssertionError()), note=[1]) == (False, [], [1])


@pytest.mark.parametrize(
    "error", [ConnectionResetError(1, "x"), TimeoutError(), KeyboardInterrupt()]
)
def test_what_receive_raises_is_passed_on(kernel: ModuleType, error: BaseException) -> None:
    note: list[int] = []
    with pytest.raises(type(error)) as caught:
        run(kernel, raising(error), note=note)
    assert caught.value is error
    assert not note


@looped(
    ("changes", "kind"),
    [
        ({"window": b"abc"}, TypeError),
        ({"window": None}, TypeError),
        ({"note": ()}, TypeError),
        ({"limit": -1}, ValueError),
        ({"limit": 2**63}, ValueError),
        ({"limit": "1"}, TypeError),
        ({"receive": lambda _: 4097}, ValueError),
        ({"receive": lambda _: -1}, ValueError),
        ({"receive": lambda _: "1"}, TypeError),
    ],
)
def test_bad_arguments_of_receive_messages(
    kernel: ModuleType, changes: dict[str, Any], kind: type[Exception]
) -> None:
    changes = {"receive": source(b"\x81\0"), "note": [], **changes}
    with pytest.raises(kind) as caught:
        run(kernel, **changes)
    assert not changes["note"]
    with pytest.raises(kind) as other:
        run(kernels.load("pure"), **changes)
    assert str(caught.value) == str(other.value)


def test_the_largest_limit(kernel: ModuleType) -> None:
    assert run(kernel, source(raw_frame(TEXT, b"x")), limit=INT64_MAX)[:2] == (True, ["x"])


@pytest.mark.parametrize("as_list", [False, True])
def test_a_failure_after_receiving_loses_nothing(kernel: ModuleType, as_list: bool) -> None:
    class Full(deque[Any]):
        def append(self, item: object) -> None:
            raise MemoryError

        extend = __iadd__ = append  # type: ignore[assignment]

    data = (
        raw_frame(TEXT, "é".encode(), KEY)
        + raw_frame(TEXT, b"a", KEY)
        + raw_frame(BINARY, b"ab", KEY)
    )
    window, note = bytearray(64), []
    options = {"masked": True, "as_list": as_list}
    with pytest.raises(MemoryError):
        run(kernel, source(data), window=window, ready=Full(), note=note, **options)
    assert note[0] == len(data)
    assert window[: len(data)] == data  # to be read again


def test_a_socket_s_method(kernel: ModuleType) -> None:
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        assert run(kernel, left.recv_into) == (False, [], [])
        right.sendall(raw_frame(TEXT, b"abc") * 3)
        assert run(kernel, left.recv_into) == (True, ["abc"] * 3, [15, 15, MORE, 9])
        right.close()
        assert run(kernel, left.recv_into) == (False, [], [0, 0, MORE, 0])


# ---- send_frame ----


def test_all_is_taken(kernel: ModuleType) -> None:
    calls: list[tuple[bytes, int]] = []
    rest: list[bytes] = []
    assert kernel.send_frame(lambda *call: calls.append(call) or 3, b"abc", 64, rest) is True
    assert calls == [(b"abc", 64)]
    assert not rest


def test_a_part_is_taken(kernel: ModuleType) -> None:
    rest: list[bytes] = []
    assert kernel.send_frame(lambda *_: 1, b"abc", 0, rest) is False
    assert rest == [b"bc"]


@pytest.mark.parametrize("send", [lambda *_: 0, raising(BlockingIOError())])
def test_nothing_is_taken(kernel: ModuleType, send: Callable[..., Any]) -> None:
    rest: list[bytes] = []
    assert kernel.send_frame(send, b"abc", 0, rest) is False
    assert not rest


@pytest.mark.parametrize("error", [BrokenPipeError(1, "x"), TimeoutError(), KeyboardInterrupt()])
def test_what_send_raises_is_passed_on(kernel: ModuleType, error: BaseException) -> None:
    rest: list[bytes] = []
    with pytest.raises(type(error)) as caught:
        kernel.send_frame(raising(error), b"abc", 0, rest)
    assert caught.value is error
    assert not rest


@pytest.mark.parametrize(
    ("send", "data", "rest", "kind"),
    [
        (len, bytearray(b"abc"), [], TypeError),
        (len, b"abc", (), TypeError),
        (lambda *_: 4, b"abc", [], ValueError),
        (lambda *_: -1, b"abc", [], ValueError),
        (lambda *_: None, b"abc", [], TypeError),
    ],
)
def test_bad_arguments_of_send_frame(
    kernel: ModuleType, send: Callable[..., Any], data: Any, rest: Any, kind: type[Exception]
) -> None:
    texts = set()
    for one in (kernel, kernels.load("pure")):
        with pytest.raises(kind) as caught:
            one.send_frame(send, data, 0, rest)
        texts.add(str(caught.value))
    assert len(texts) == 1
    assert not rest


# ---- both ----


@counts_references
def test_no_reference_is_kept(kernel: ModuleType) -> None:
    class Window(bytearray):
        pass

    window, payload = Window(64), b"x" * 20
    before = sys.getrefcount(window)
    for data in (raw_frame(BINARY, payload), raw_frame(BINARY, payload) + b"\x89", b""):
        run(kernel, source(data), window=window)
    message = b"y" * 3000
    references = sys.getrefcount(message)
    assert kernel.send_frame(lambda *_: 3000, message, 0, []) is True
    gc.collect()
    assert sys.getrefcount(window) == before
    assert sys.getrefcount(message) == references


# Whenever a signal strikes, each byte is sent once and each message received once.
@pytest.mark.abuse(70)
@pytest.mark.skipif(sys.gettrace() is not None, reason="a tracer's code runs in the kernel")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers here")
@cpython_handlers
def test_signal_handlers_that_raise_make_nothing_forgotten(kernel: ModuleType) -> None:
    class Strike(Exception):
        pass

    def strike(*_: object) -> None:
        raise Strike

    left, right = socket.socketpair()
    data = raw_frame(BINARY, b"x" * 50)
    ready: deque[bytes] = deque()
    note: list[int] = []
    window = bytearray(4096)
    sent = strikes = 0
    old = signal.signal(signal.SIGALRM, strike)
    with left, right:
        try:
            for turn in range(3000):
                right.sendall(data)
                try:
                    signal.setitimer(signal.ITIMER_REAL, 1e-6 * (1 + turn % 23))
                    kernel.receive_messages(left.recv_into, window, False, False, 1000, ready, note)
                except Strike:
                    strikes += 1
                try:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    signal.pthread_sigmask(signal.SIG_UNBLOCK, ())  # runs what has come by now
                except Strike:
                    strikes += 1
                if note:  # pure: received, and not read yet
                    start, note[:] = (note[1] if len(note) > 1 else 0), []
                    out: list[Any] = []
                    kernel.read_messages(window, start, 52, False, False, 1000, 9, out)
                    ready.extend(out)
                sent += 1
                if len(ready) < sent:  # struck before it received
                    assert left.recv(4096) == data
                    ready.append(b"x" * 50)
                assert len(ready) == sent
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
    assert strikes
