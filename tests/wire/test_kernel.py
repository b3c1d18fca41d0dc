"""The kernel's contract, function by function, on both implementations."""

from __future__ import annotations

import array
import contextlib
import ctypes
import enum
import inspect
import os
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kernels
from frames import header, raw_frame, xor
from kernels import BINARY, INT64_MAX, KEY, LAST, MIDDLE, TEXT
from looped import looped
from memory import counts_references, tracemalloc
from scriptling_ws import _kernel as _frame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

MORE, SPECIAL, BAD_TEXT, FULL = range(4)
NOISE = bytes((i * 89 + 7) % 256 for i in range(100_000))


def test_names(kernel: ModuleType, request: pytest.FixtureRequest) -> None:
    assert request.node.callspec.params["kernel"] == kernel.IMPLEMENTATION
    assert (kernel.MORE, kernel.SPECIAL, kernel.BAD_TEXT, kernel.FULL) == (0, 1, 2, 3)


def test_functions_have_the_contract_s_arguments(kernel: ModuleType) -> None:
    pure = kernels.load("pure")
    functions = [name for name in _frame.__all__ if inspect.isfunction(getattr(pure, name, None))]
    assert len(functions) == 16
    for name in functions:
        expected = inspect.signature(getattr(pure, name)).parameters
        found = inspect.signature(getattr(kernel, name)).parameters
        assert list(found) == list(expected)
        assert [p.default for p in found.values()] == [p.default for p in expected.values()]
        assert getattr(kernel, name).__doc__
    assert kernel.apply_mask(data=b"ab", key=KEY, offset=1) == xor(b"ab", KEY, 1)
    assert kernel.mask_into(target=bytearray(2), data=b"ab", key=KEY, offset=1) is None
    assert kernel.encode_frame(first=BINARY, payload=b"", key=None) == b"\x82\0"
    assert kernel.encode_header(first=BINARY, length=0, key=None) == b"\x82\0"
    assert kernel.parse_header(data=b"\x82\0", start=0, end=2) == (BINARY, 0, 2, None)
    assert kernel.bytes_to_list(data=b"a") == kernel.bytes_to_list(b"a") == [97]
    assert kernel.list_to_bytes(values=[97]) == b"a"
    assert kernel.read_messages(
        window=bytearray(), start=0, end=0, masked=True, as_list=True, limit=0, most=1, out=[]
    ) == (0, MORE, 0)
    assert kernel.read_fragments(
        window=bytearray(), start=0, end=0, masked=True, limit=0, most=1, room=[], used=0
    ) == (0, 0, 0, False)
    payload = {"window": bytearray(b"a"), "start": 0, "end": 1, "key": None, "offset": 0}
    assert kernel.read_payload(**payload, room=[], used=0) == 1
    assert kernel.seal_room(room=[], used=0) == b""


def test_chooser() -> None:
    show = "from scriptling_ws import _kernel as kernel; print(kernel.IMPLEMENTATION)"
    gone = "import sys; sys.modules['scriptling_ws._wsframe'] = None; "
    paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for code, pure, expected in ((show, "1", "pure"), (gone + show, "", "pure"), (show, "", None)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**paths, "SCRIPTLING_WS_PURE": pure},
            capture_output=True,
            text=True,
            check=True,
        )
        found = done.stdout.strip()
        assert found == (expected or kernels.load("compiled").IMPLEMENTATION)


# ---- masking (invariant 3) ----


def test_mask_every_length_alignment_and_offset(kernel: ModuleType) -> None:
    # The expected bytes of every stretch are a stretch of one of these.
    whole = [xor(NOISE[:300], KEY, turn) for turn in range(4)]
    for start in range(16):
        for length in range(258):
            data = memoryview(NOISE)[start : start + length]
            for offset in range(4):
                expected = whole[(offset - start) % 4][start : start + length]
                assert kernel.apply_mask(data, KEY, offset) == expected


def test_mask_in_place_every_length_and_alignment(kernel: ModuleType) -> None:
    whole = [xor(NOISE[:300], KEY, turn) for turn in range(4)]
    for start in range(16):
        for length in range(258):
            offset = length & 3
            buffer = bytearray(NOISE[:300])
            with memoryview(buffer) as view:
                kernel.mask_in_place(view[start : start + length], KEY, offset)
            expected = whole[(offset - start) % 4][start : start + length]
            assert buffer == NOISE[:start] + expected + NOISE[start + length : 300]


def test_mask_into_every_length_and_alignment(kernel: ModuleType) -> None:
    whole = [xor(NOISE[:300], KEY, turn) for turn in range(4)]
    for start in range(16):
        for length in range(258):
            offset = length & 3
            buffer = bytearray(300)
            with memoryview(buffer) as view:
                target = view[15 - start :]
                kernel.mask_into(target, NOISE[start : start + length], KEY, offset)
            expected = whole[(offset - start) % 4][start : start + length]
            assert buffer == bytes(15 - start) + expected + bytes(285 + start - length)


def test_mask_into_a_place_that_does_not_do(kernel: ModuleType) -> None:
    short = bytearray(5)
    with pytest.raises(ValueError, match="6 bytes are to be masked into 5"):
        kernel.mask_into(short, bytes(6), KEY)
    for data in (bytes(20), memoryview(bytearray(20)).toreadonly(), b""):
        with pytest.raises(TypeError, match="the buffer is read-only"):
            kernel.mask_into(data, b"", KEY)
    with pytest.raises(ValueError, match="not contiguous"):
        kernel.mask_into(memoryview(bytearray(9))[::2], b"", KEY)
    with pytest.raises(TypeError, match="a bytes-like object is wanted, not str"):
        kernel.mask_into(short, "text", KEY)
    with pytest.raises(TypeError, match="a bytes-like object is wanted, not int"):
        kernel.mask_into(5, b"", KEY)
    assert short == bytes(5)
    short.append(0)  # nothing of it is borrowed any more


@looped("length", [2047, 2048, 2049, 2111, 4096, 5003, 16384, 65536, 65539])
def test_mask_large(kernel: ModuleType, length: int) -> None:
    for start in (*range(0, 35, 3), 64):
        data = NOISE[start : start + length]
        expected = xor(data, KEY, start)
        buffer = bytearray(NOISE)
        with memoryview(buffer) as view:
            assert kernel.apply_mask(view[start : start + length], KEY, start) == expected
            kernel.mask_in_place(view[start : start + length], KEY, start)
        assert buffer == NOISE[:start] + expected + NOISE[start + length :]
        target = bytearray(length + 3)
        with memoryview(target) as view:
            kernel.mask_into(view[2:], data, KEY, start)
        assert target == b"\0\0" + expected + b"\0"


def test_mask_is_its_own_inverse_and_goes_in_pieces(kernel: ModuleType) -> None:
    for cut in (0, 1, 2, 3, 5, 64, 1001):
        masked = kernel.apply_mask(NOISE[:cut], KEY)
        masked += kernel.apply_mask(NOISE[cut:3000], KEY, cut)
        assert masked == xor(NOISE[:3000], KEY)
        assert kernel.apply_mask(masked, KEY) == NOISE[:3000]


def test_mask_offset_bounds(kernel: ModuleType) -> None:
    assert kernel.apply_mask(b"abcde", KEY, INT64_MAX) == xor(b"abcde", KEY, 3)
    for mask in (kernel.apply_mask, kernel.mask_in_place):
        for offset in (-1, 2**63, -(2**70), 2**70):
            with pytest.raises(ValueError, match=f"offset is {offset}: it has to be 0 to"):
                mask(bytearray(5), KEY, offset)
        with pytest.raises(TypeError, match="offset has to be an int, not float"):
            mask(bytearray(5), KEY, 1.0)


@pytest.mark.parametrize("key", [b"", b"abc", b"abcde"])
def test_key_of_another_length(kernel: ModuleType, key: bytes) -> None:
    # Tornado's masker read past a short key (CVE-2026-49854).
    for call in key_users(kernel, key):
        with pytest.raises(ValueError, match=f"has to be 4 bytes, not {len(key)}"):
            call()


@pytest.mark.parametrize("key", [bytearray(4), "abcd", 1, [1, 2, 3, 4]])
def test_key_of_another_type(kernel: ModuleType, key: Any) -> None:
    for call in key_users(kernel, key):
        with pytest.raises(TypeError, match=f"has to be bytes, not {type(key).__name__}"):
            call()


def key_users(kernel: ModuleType, key: Any) -> list[Callable[[], object]]:
    return [
        lambda: kernel.apply_mask(b"", key),
        lambda: kernel.mask_in_place(bytearray(), key),
        lambda: kernel.encode_header(BINARY, 0, key),
        lambda: kernel.encode_frame(BINARY, b"", key),
        lambda: kernel.encode_frame(TEXT, "", key),
        lambda: kernel.encode_frame(BINARY, [], key),
        lambda: kernel.encode_frame(BINARY, array.array("B"), key),
    ]


# ---- buffers ----


def buffers(data: bytes) -> list[Any]:
    """`data` as every kind of buffer that is to be taken."""
    return [
        data,
        bytearray(data),
        memoryview(data),
        memoryview(bytearray(b"_" + data))[1:],
        array.array("B", data),
        array.array("b", (byte - 256 if byte > 127 else byte for byte in data)),
        memoryview(data).cast("c"),
        memoryview(data).cast("B", (1, len(data))) if data else data,
        (ctypes.c_ubyte * len(data)).from_buffer_copy(data),  # which tells no strides
        (ctypes.c_char * len(data)).from_buffer_copy(data),
    ]


def readers(kernel: ModuleType) -> list[Callable[[Any], object]]:
    """The functions that take a buffer, as functions of that buffer alone."""
    return [
        lambda data: kernel.apply_mask(data, KEY),
        lambda data: kernel.encode_frame(BINARY, data, KEY),
        lambda data: kernel.encode_frame(BINARY, data, None),
        lambda data: kernel.parse_header(data, 0, 0),
        kernel.bytes_to_list,
    ]


def test_every_kind_of_buffer(kernel: ModuleType) -> None:
    for length in (0, 1, 20, 130):
        data = NOISE[:length]
        for buffer in buffers(data):
            assert kernel.apply_mask(buffer, KEY) == xor(data, KEY)
            assert kernel.encode_frame(BINARY, buffer, KEY) == raw_frame(BINARY, data, KEY)
            assert kernel.encode_frame(BINARY, buffer, None) == raw_frame(BINARY, data)
            assert kernel.bytes_to_list(buffer) == list(data)
            if not memoryview(buffer).readonly:
                kernel.mask_in_place(buffer, KEY)
                assert bytes(buffer) == xor(data, KEY)


def test_numpy(kernel: ModuleType) -> None:
    numpy = pytest.importorskip("numpy")
    data = numpy.frombuffer(NOISE[:64], numpy.uint8).copy()
    assert kernel.bytes_to_list(data) == list(NOISE[:64])
    assert kernel.bytes_to_list(data.reshape(8, 8)) == list(NOISE[:64])
    assert kernel.bytes_to_list(numpy.array([True, False])) == [1, 0]
    assert kernel.bytes_to_list(numpy.zeros((3, 0), numpy.uint8)) == []
    assert kernel.bytes_to_list(numpy.uint8(5)) == [5]
    assert kernel.encode_frame(BINARY, data, KEY) == raw_frame(BINARY, NOISE[:64], KEY)
    kernel.mask_in_place(data.reshape(8, 8), KEY)
    assert data.tobytes() == xor(NOISE[:64], KEY)
    for strange in (data[::2], data.reshape(8, 8)[:, :4], data.reshape(8, 8).T):
        for read in readers(kernel):
            with pytest.raises(ValueError, match="not contiguous: convert it to bytes first"):
                read(strange)
    for wide in (data.astype(numpy.int64), data.astype(numpy.float64)[::2]):
        for read in readers(kernel):
            with pytest.raises(TypeError, match="items are 8 bytes wide: convert it to bytes"):
                read(wide)


def test_buffers_with_wider_items(kernel: ModuleType) -> None:
    for wide in (array.array("H", [1, 2]), array.array("H"), memoryview(bytes(8)).cast("H")):
        for read in readers(kernel):
            with pytest.raises(TypeError, match="items are 2 bytes wide: convert it to bytes"):
                read(wide)


def test_buffers_with_gaps(kernel: ModuleType) -> None:
    for gaps in (memoryview(NOISE)[::2], memoryview(NOISE)[5::-1]):
        for read in readers(kernel):
            with pytest.raises(ValueError, match="not contiguous: convert it to bytes first"):
                read(gaps)
    with pytest.raises(ValueError, match="not contiguous"):
        kernel.mask_in_place(memoryview(bytearray(9))[::2], KEY)


@pytest.mark.parametrize("other", [None, 5, "text", 1.5, object(), [1]])
def test_no_buffer(kernel: ModuleType, other: Any) -> None:
    message = f"a bytes-like object is wanted, not {type(other).__name__}"
    for read in (
        kernel.bytes_to_list,
        lambda data: kernel.apply_mask(data, KEY),
        lambda data: kernel.mask_in_place(data, KEY),
        lambda data: kernel.parse_header(data, 0, 0),
    ):
        with pytest.raises(TypeError, match=message) as caught:
            read(other)
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_mask_in_place_needs_a_writable_buffer(kernel: ModuleType) -> None:
    data = bytes(20)
    for buffer in (data, memoryview(data), memoryview(bytearray(20)).toreadonly(), b""):
        with pytest.raises(TypeError, match="the buffer is read-only"):
            kernel.mask_in_place(buffer, KEY)
    assert data == bytes(20)


def test_released_view(kernel: ModuleType) -> None:
    view = memoryview(b"abc")
    view.release()
    for read in readers(kernel):
        with pytest.raises(ValueError, match="released memoryview"):
            read(view)


def test_buffers_are_given_back(kernel: ModuleType) -> None:
    """A bytearray that is still borrowed cannot grow; not after an error either."""
    buffer = bytearray(b"\x82\xfe\0\5")
    calls: list[Callable[[], object]] = [
        lambda: kernel.apply_mask(buffer, KEY),
        lambda: kernel.mask_in_place(buffer, KEY),
        lambda: kernel.mask_in_place(buffer, KEY),
        lambda: kernel.encode_frame(BINARY, buffer, KEY),
        lambda: kernel.bytes_to_list(buffer),
        lambda: kernel.parse_header(buffer, 0, 2),
        lambda: kernel.read_messages(buffer, 0, 4, False, False, 9, 9, []),
    ]
    for call in calls:
        call()
        buffer.append(0)
    caught = []
    for call in (
        lambda: kernel.encode_frame(BINARY, buffer, b"12345"),
        lambda: kernel.parse_header(buffer, 0, 100),
        lambda: kernel.parse_header(buffer, 0, 4),
        lambda: kernel.read_messages(buffer, 5, 4, False, False, 9, 9, []),
        lambda: kernel.apply_mask(memoryview(buffer)[::2], KEY),
        lambda: kernel.apply_mask(memoryview(buffer)[:4].cast("H"), KEY),
    ):
        with pytest.raises((TypeError, ValueError)) as info:
            call()
        caught.append(info)  # with its traceback, and the frames in it
        if len(caught) < 5:  # the last two hold views of their own
            buffer.append(0)


# ---- headers ----

LENGTHS = [0, 1, 125, 126, 127, 65535, 65536, 2**31, 2**32 + 5, 2**62, INT64_MAX]


@looped("length", LENGTHS)
@looped("key", [None, KEY])
def test_headers(kernel: ModuleType, length: int, key: bytes | None) -> None:
    for first in (0, TEXT, 0xFF):
        coded = kernel.encode_header(first, length, key)
        assert coded == header(first, length, key)
        for pad in (0, 7):
            data = bytes(pad) + coded + b"payload"
            end = pad + len(coded)
            assert kernel.parse_header(data, pad, len(data)) == (first, length, end, key)
            assert kernel.parse_header(data, pad, end) == (first, length, end, key)
            for short in range(pad, end):
                assert kernel.parse_header(data, pad, short) is None


def test_header_bounds(kernel: ModuleType) -> None:
    encoders: list[Callable[[Any], bytes]] = [
        lambda first: kernel.encode_header(first, 0, None),
        lambda first: kernel.encode_frame(first, b"", None),
    ]
    for encode in encoders:
        for first in (-1, 256, 2**64):
            with pytest.raises(ValueError, match=f"first is {first}: it has to be 0 to 255"):
                encode(first)
        with pytest.raises(TypeError, match="first has to be an int, not str"):
            encode("1")
    for length in (-1, 2**63, 2**64, 2**64 + 5):
        with pytest.raises(ValueError, match=f"length is {length}: it has to be 0 to {INT64_MAX}"):
            kernel.encode_header(BINARY, length, None)
    for length, shown in (
        (2**128 - 1, str(2**128 - 1)),  # the largest that is written out
        (2**128, "an int of 129 bits"),
        (10**5000, "an int of 16610 bits"),
    ):
        with pytest.raises(ValueError, match=f"length is {shown}: it has to be"):
            kernel.encode_header(BINARY, length, None)


@pytest.mark.abuse(38)
@looped("key", [None, KEY])
@looped(("length", "form"), [(0, 16), (5, 16), (125, 16), (0, 64), (5, 64), (126, 64), (65535, 64)])
def test_length_not_in_its_shortest_form(
    kernel: ModuleType, length: int, form: int, key: bytes | None
) -> None:
    data = header(BINARY, length, key, form)
    for end in range(2 + form // 8, len(data) + 1):  # as soon as the length is there
        with pytest.raises(ValueError, match=f"length, {length}, is not in its shortest form"):
            kernel.parse_header(data, 0, end)
    assert kernel.parse_header(data, 0, 1 + form // 8) is None


@pytest.mark.abuse(35)
@pytest.mark.parametrize("length", [2**63, 2**63 + 5, 2**64 - 1])
def test_length_over_63_bits(kernel: ModuleType, length: int) -> None:
    for key in (None, KEY):
        data = header(BINARY, length, key, 64)
        for end in range(10, len(data) + 1):
            with pytest.raises(ValueError, match=rf"length, {length}, is over 2\*\*63 - 1"):
                kernel.parse_header(data, 0, end)


@looped(
    ("start", "end", "name"),
    [(-1, 2, "start"), (0, 11, "end"), (3, 2, "start"), (0, -1, "end"), (0, 2**64, "end"),
     (-(2**64), 2, "start"), (INT64_MAX, INT64_MAX, "end")],
)  # fmt: skip
def test_positions_outside(kernel: ModuleType, start: int, end: int, name: str) -> None:
    wrong = {"start": start, "end": end}[name]
    high = {"start": end, "end": 10}[name]
    message = f"{name} is {wrong}: it has to be 0 to {high}"
    with pytest.raises(ValueError, match=message):
        kernel.parse_header(bytes(10), start, end)
    with pytest.raises(ValueError, match=message):
        kernel.read_messages(bytearray(10), start, end, False, False, 9, 9, [])


# ---- encoding ----


@looped("length", [0, 1, 3, 125, 126, 127, 65535, 65536, 65539])
def test_encode_frame(kernel: ModuleType, length: int) -> None:
    data = NOISE[:length]
    ascii_text, text = "a" * length, "é" * (length // 2) + "a" * (length % 2)
    for key in (None, KEY):
        assert kernel.encode_frame(BINARY, data, key) == raw_frame(BINARY, data, key)
        assert kernel.encode_frame(BINARY, list(data), key) == raw_frame(BINARY, data, key)
        assert kernel.encode_frame(BINARY, tuple(data), key) == raw_frame(BINARY, data, key)
        for string in (ascii_text, text):
            assert kernel.encode_frame(TEXT, string, key) == raw_frame(TEXT, string.encode(), key)


@pytest.mark.parametrize("text", ["\x7f", "é", "ÿ" * 9, "\u20ac", "\U0001f600" * 5, "\0a"])
def test_encode_frame_text(kernel: ModuleType, text: str) -> None:
    class Text(str):
        __slots__ = ()

        def encode(self, *args: Any) -> bytes:
            raise AssertionError("the caller's code ran")

    for string in (text, Text(text), Text("ascii")):
        expected = raw_frame(TEXT, str.encode(string), KEY)
        assert kernel.encode_frame(TEXT, string, KEY) == expected


@pytest.mark.skipif(sys.implementation.name == "pypy", reason="there is no sys.getsizeof")
def test_encode_frame_leaves_no_copy_in_the_callers_str(kernel: ModuleType) -> None:
    text = "é" * 1000 + str(kernel)
    before = sys.getsizeof(text)
    kernel.encode_frame(TEXT, text, KEY)
    assert sys.getsizeof(text) == before


@pytest.mark.abuse(80)
def test_encode_frame_lone_surrogate(kernel: ModuleType) -> None:
    with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
        kernel.encode_frame(TEXT, "a\ud800", KEY)


@looped("payload", [None, 5, 1.5, {1: 2}, {1, 2}, iter([1]), object(), range(3)])
def test_encode_frame_other_payload(kernel: ModuleType, payload: Any) -> None:
    message = (
        "a str, a bytes-like object, or a list or tuple of ints is wanted, "
        f"not {type(payload).__name__}"
    )
    with pytest.raises(TypeError, match=message):
        kernel.encode_frame(BINARY, payload, KEY)


@pytest.mark.skipif(
    sys.implementation.name == "pypy", reason="it reads arrays of ctypes to lend them"
)
def test_encode_frame_of_a_buffer_that_leaves_no_room_for_a_header(kernel: ModuleType) -> None:
    # It says that it is so long; nobody looks.
    endless = (ctypes.c_ubyte * sys.maxsize).from_address(1)
    with pytest.raises((MemoryError, OverflowError)):
        kernel.encode_frame(BINARY, endless, None)


# ---- lists of ints (invariant 4) ----


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 255
    FAR = 256


class Int(int):
    """An int that would give itself away."""

    def __index__(self) -> int:
        raise AssertionError("the caller's code ran")

    __int__ = __repr__ = __str__ = __index__  # type: ignore[assignment]


class Index:
    def __index__(self) -> int:
        raise AssertionError("the caller's code ran")


def packers(kernel: ModuleType) -> list[Callable[[Any], bytes]]:
    return [
        kernel.list_to_bytes,
        lambda values: kernel.encode_frame(BINARY, values, None)[-len(values) :],
        lambda values: xor(kernel.encode_frame(BINARY, values, KEY)[-len(values) :], KEY),
    ]


@pytest.mark.parametrize("kind", [list, tuple])
def test_lists_there_and_back(kernel: ModuleType, kind: type) -> None:
    for length in [*range(1, 100), 256, 16384, 16385, 65536]:
        data = NOISE[:length]
        values = kernel.bytes_to_list(data)
        assert type(values) is list
        assert values == list(data)
        for pack in packers(kernel):
            assert pack(kind(values)) == data
    assert kernel.list_to_bytes(kind()) == b""
    assert kernel.bytes_to_list(b"") == []
    assert kernel.list_to_bytes(kind(range(256))) == bytes(range(256))


def test_list_of_subclassed_ints(kernel: ModuleType) -> None:
    for place in (0, 1, 31, 32, 63, 98):
        values: list[int] = [7] * 99
        values[place] = Int(200)
        values[-1] = Colour.BLUE
        for pack in packers(kernel):
            assert pack(values) == bytes([7] * place + [200] + [7] * 98)[:98] + b"\xff"


@pytest.mark.abuse(76)
@pytest.mark.parametrize("bad", [-1, 256, 2**31, 2**32, 2**63, 2**64, 2**64 + 5, -(2**64)])
def test_list_item_out_of_range(kernel: ModuleType, bad: int) -> None:
    for place in (0, 1, 31, 32, 64, 65, 99, 16384, 20000):
        values = [0] * 20001
        values[place] = bad
        for pack in packers(kernel):
            with pytest.raises(ValueError, match=f"^item {place} is {bad}: a byte is 0 to 255$"):
                pack(values)


@pytest.mark.abuse(76)
def test_list_item_out_of_range_shown(kernel: ModuleType) -> None:
    for bad, shown in ((Colour.FAR, "256"), (Int(-3), "-3"), (10**5000, "an int of 16610 bits")):
        with pytest.raises(ValueError, match=f"item 1 is {shown}: a byte is 0 to 255"):
            kernel.list_to_bytes((1, bad))


@pytest.mark.abuse(77, 78)
@looped("bad", [True, False, 1.0, "1", None, [1], (), b"1", Index(), 1j, int])
def test_list_item_of_another_type(kernel: ModuleType, bad: Any) -> None:
    message = f"^item %d is of type {type(bad).__name__}: a byte is an int, 0 to 255$"
    for place in (0, 1, 31, 32, 99, 16384, 20000):
        values: list[Any] = [0] * 20001
        values[place] = bad
        values[-1] = -1 if place != 20000 else bad  # the first bad item counts
        for pack in packers(kernel):
            with pytest.raises(TypeError, match=message % place):
                pack(values)


@looped("other", [None, 5, b"ab", "ab", {1, 2}, range(3), iter([1]), {1: 2}])
def test_no_list(kernel: ModuleType, other: Any) -> None:
    message = f"a list or tuple of ints is wanted, not {type(other).__name__}"
    with pytest.raises(TypeError, match=message):
        kernel.list_to_bytes(other)


@pytest.mark.abuse(78)
def test_subclassed_list_runs_no_code(kernel: ModuleType) -> None:
    def fail(*_: object) -> Any:
        raise AssertionError("the caller's code ran")

    hostile = {"__len__": fail, "__iter__": fail, "__getitem__": fail, "__index__": fail}
    for base in (list, tuple):
        values = type("Hostile", (base,), hostile)((1, 2, 3))
        assert kernel.list_to_bytes(values) == b"\1\2\3"
        assert kernel.encode_frame(BINARY, values, None) == b"\x82\3\1\2\3"

    class Pretender:
        __class__ = list  # type: ignore[assignment]

    with pytest.raises(TypeError, match="a list or tuple of ints is wanted, not Pretender"):
        kernel.list_to_bytes(Pretender())


@pytest.mark.abuse(78)
def test_list_that_another_thread_changes(kernel: ModuleType) -> None:
    values = [1] * 5000
    stop = threading.Event()

    def mutate() -> None:
        while not stop.is_set():
            del values[100:]
            values.extend([2] * 70_000)
            values[:] = [3] * 5000

    thread = threading.Thread(target=mutate)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    thread.start()
    try:
        for _ in range(200):
            data = b""
            with contextlib.suppress(RuntimeError):  # the list changed its length
                data = kernel.list_to_bytes(values)
            assert set(data) <= {1, 2, 3}
    finally:
        stop.set()
        thread.join()
        sys.setswitchinterval(interval)


@pytest.mark.abuse(79)
def test_list_costs_no_copy_of_its_items(kernel: ModuleType) -> None:
    count = 1_000_000
    values = [0] * count
    for bad in (0, count - 1):
        values[bad] = 256
        tracemalloc.start()
        try:
            with pytest.raises(ValueError, match=f"item {bad} is 256"):
                kernel.encode_frame(BINARY, values, KEY)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        values[bad] = 0
        assert peak <= (count if kernel.IMPLEMENTATION == "compiled" or bad else 0) + 400_000


@counts_references
def test_small_ints_keep_their_references(kernel: ModuleType) -> None:
    before = [sys.getrefcount(number) for number in range(256)]
    kept = [kernel.bytes_to_list(NOISE) for _ in range(3)]
    out: list[Any] = []
    window = bytearray(raw_frame(BINARY, NOISE, KEY))
    kernel.read_messages(window, 0, len(window), True, True, len(NOISE), 1, out)
    assert out == kept[:1]
    kernel.list_to_bytes(kept[0])
    del kept, out
    after = [sys.getrefcount(number) for number in range(256)]
    assert all(abs(a - b) < 100 for a, b in zip(after, before, strict=True))


# ---- reading a run ----


def read(
    kernel: ModuleType,
    window: bytes,
    masked: bool = False,
    as_list: bool = False,
    limit: int = 2**20,
    most: int = 100,
) -> tuple[list[Any], int, int]:
    """read_messages on a window of its own: the messages, the position, why."""
    out: list[Any] = []
    place = bytearray(window)
    at, why, size = kernel.read_messages(place, 0, len(place), masked, as_list, limit, most, out)
    assert size == sum(len(each.encode() if isinstance(each, str) else each) for each in out)
    if why != BAD_TEXT:
        assert place[at:] == window[at:]
    return out, at, why


@pytest.mark.parametrize("key", [None, KEY])
def test_read_run(kernel: ModuleType, key: bytes | None) -> None:
    lengths = [0, 1, 5, 125, 126, 127, 3000, 65535, 65536]
    window, expected = b"", []
    for length in lengths:
        text = "é€\U0001f600"[: length % 4] * (length // 30) + "x"
        window += raw_frame(BINARY, NOISE[:length], key) + raw_frame(TEXT, text.encode(), key)
        window += raw_frame(TEXT, b"x" * length, key)
        expected += [NOISE[:length], text, "x" * length]
    masked = key is not None
    out, at, why = read(kernel, window, masked)
    assert (out, at, why) == (expected, len(window), MORE)
    assert {type(message) for message in out} == {bytes, str}
    out, at, why = read(kernel, window, masked, as_list=True)
    assert out == [list(m) if isinstance(m, bytes) else m for m in expected]
    assert (at, why) == (len(window), MORE)


@pytest.mark.abuse(47)
def test_read_empty_messages(kernel: ModuleType) -> None:
    for key in (None, KEY):
        window = raw_frame(TEXT, b"", key) + raw_frame(BINARY, b"", key)
        assert read(kernel, window, key is not None)[0] == ["", b""]
        assert read(kernel, window, key is not None, as_list=True)[0] == ["", []]


@pytest.mark.abuse(41)
@pytest.mark.parametrize("key", [None, KEY])
def test_read_every_prefix(kernel: ModuleType, key: bytes | None) -> None:
    masked = key is not None
    parts = [
        raw_frame(TEXT, b"hello", key),
        raw_frame(BINARY, b"\0" * 200, key),
        raw_frame(BINARY, b"", key),
        raw_frame(TEXT, "é€".encode(), key),
    ]
    messages = ["hello", b"\0" * 200, b"", "é€"]
    window = b"".join(parts)
    starts = [sum(map(len, parts[:i])) for i in range(5)]
    for end in range(len(window) + 1):
        whole = sum(start <= end for start in starts[1:])
        out, at, why = read(kernel, window[:end], masked)
        assert out == messages[:whole]
        assert at == starts[whole]
        there = end - at
        size = {200: 4}.get(len(messages[min(whole, 3)]), 2) + 4 * masked
        assert why == (MORE if there < size else SPECIAL)


def test_read_from_the_middle(kernel: ModuleType) -> None:
    one = raw_frame(BINARY, b"abc", KEY)
    window = bytearray(b"\xff" * 3 + one + one + b"\xff" * 3)
    out: list[Any] = ["before"]
    assert kernel.read_messages(window, 3, 3 + len(one), True, False, 9, 9, out) == (
        3 + len(one),
        MORE,
        3,
    )
    assert out == ["before", b"abc"]
    assert window[3 + len(one) :] == one + b"\xff" * 3
    assert window[:3] == b"\xff" * 3


def test_read_most(kernel: ModuleType) -> None:
    one = raw_frame(BINARY, b"abc")
    assert read(kernel, one * 5, most=3) == ([b"abc"] * 3, 15, FULL)
    assert read(kernel, one * 3, most=3) == ([b"abc"] * 3, 15, FULL)
    assert read(kernel, one * 3, most=INT64_MAX) == ([b"abc"] * 3, 15, MORE)
    for most in (0, -1, 2**63):
        with pytest.raises(ValueError, match=f"most is {most}: it has to be 1 to {INT64_MAX}"):
            read(kernel, one, most=most)


@pytest.mark.abuse(39)
def test_read_limit(kernel: ModuleType) -> None:
    for length in (0, 5, 125, 126, 70_000):
        window = raw_frame(BINARY, bytes(length))
        assert read(kernel, window, limit=length) == ([bytes(length)], len(window), MORE)
        if length:
            assert read(kernel, window, limit=length - 1) == ([], 0, SPECIAL)
    for limit in (-1, 2**63):
        with pytest.raises(ValueError, match=f"limit is {limit}: it has to be 0 to {INT64_MAX}"):
            read(kernel, b"", limit=limit)


@pytest.mark.abuse(33)
def test_read_direction_mismatch(kernel: ModuleType) -> None:
    assert read(kernel, b"\x81\5hello", masked=True) == ([], 0, SPECIAL)
    assert read(kernel, raw_frame(TEXT, b"hello", KEY), masked=False) == ([], 0, SPECIAL)
    assert read(kernel, b"\x81\x85", masked=False) == ([], 0, MORE)  # the key is header


def test_read_leaves_other_frames(kernel: ModuleType) -> None:
    """Control frames, fragments and RSV bits are not this layer's."""
    good = raw_frame(BINARY, b"ab")
    masked = raw_frame(BINARY, b"ab", KEY)
    for first in sorted(set(range(256)) - {TEXT, BINARY}):
        for payload in (b"", b"abc", bytes(126)):
            assert read(kernel, good + raw_frame(first, payload) + good) == ([b"ab"], 4, SPECIAL)
        assert read(kernel, good + bytes([first])) == ([b"ab"], 4, MORE)
        window = masked + raw_frame(first, b"abc", KEY)
        assert read(kernel, window, masked=True) == ([b"ab"], 8, SPECIAL)


@pytest.mark.abuse(35, 36, 37)
def test_read_huge_lengths(kernel: ModuleType) -> None:
    for length in (2**31, 2**32, 2**62, INT64_MAX - 9, INT64_MAX, 2**63, 2**64 - 14, 2**64 - 1):
        for key in (None, KEY):
            window = raw_frame(BINARY, b"ab", key) + header(BINARY, length, key, 64) + b"payload"
            size = 4 if key is None else 8
            for limit in (2**20, INT64_MAX):
                assert read(kernel, window, key is not None, limit=limit) == (
                    [b"ab"],
                    size,
                    SPECIAL,
                )


@pytest.mark.abuse(38)
@pytest.mark.parametrize(("length", "form"), [(0, 16), (5, 16), (125, 16), (0, 64), (65535, 64)])
def test_read_longer_form(kernel: ModuleType, length: int, form: int) -> None:
    for key in (None, KEY):
        window = header(BINARY, length, key, form) + bytes(length)
        assert read(kernel, window, key is not None) == ([], 0, SPECIAL)


BAD_UTF8 = [
    b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"\x80", b"\xff",
    b"a" * 200 + b"\xfe", b"\xf0\x9f\x98", "é".encode() * 100 + b"\xc3",
]  # fmt: skip


@pytest.mark.abuse(40)
@looped("bad", BAD_UTF8)
def test_read_bad_text(kernel: ModuleType, bad: bytes) -> None:
    for key in (None, KEY):
        masked = key is not None
        good = raw_frame(TEXT, b"ok", key)
        window = good + raw_frame(TEXT, bad, key) + good
        out, at, why = read(kernel, window, masked)
        assert (out, at, why) == (["ok"], len(good), BAD_TEXT)
        # The same bytes are fine as binary.
        assert read(kernel, raw_frame(BINARY, bad, key), masked)[0] == [bad]


@contextlib.contextmanager
def at_most(size: int) -> Iterator[None]:
    """Let the process have so much more memory."""
    resource = pytest.importorskip("resource")
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory has no limit to be set")
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="it may not survive that")
# PyList_New leaves a list with a wild pointer where it fails: python/cpython#152125.
@pytest.mark.skipif(
    bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    reason="the interpreter does not survive that",
)
@pytest.mark.parametrize("first", [TEXT, BINARY])
@pytest.mark.parametrize("key", [None, KEY])
def test_what_no_memory_is_there_for_can_be_read_again(
    kernel: ModuleType, first: int, key: bytes | None
) -> None:
    # As a str it takes four times its size, as a list of ints eight times.
    payload = b"a" * 2**25 + "\U0001f600".encode()
    earlier = ["a", "é", "abc", [1], []]  # some of which are unmasked in the window
    frames = [kernel.encode_frame(TEXT if isinstance(m, str) else BINARY, m, key) for m in earlier]
    window = bytearray(b"".join((*frames, kernel.encode_frame(first, payload, key))))
    before, out = bytes(window), list[Any]()
    masked = key is not None
    with at_most(2**26), pytest.raises(MemoryError):
        kernel.read_messages(window, 0, len(window), masked, True, 2**30, 9, out)
    assert out == earlier
    assert window == before
    out.clear()
    kernel.read_messages(window, 0, len(window), masked, False, 2**30, 9, out)
    assert out == ["a", "é", "abc", b"\1", b"", payload if first == BINARY else payload.decode()]


def test_read_other_types(kernel: ModuleType) -> None:
    call = kernel.read_messages
    with pytest.raises(TypeError, match="the window has to be a bytearray, not bytes"):
        call(b"", 0, 0, False, False, 9, 9, [])
    with pytest.raises(TypeError, match="out has to be a list, not tuple"):
        call(bytearray(), 0, 0, False, False, 9, 9, ())
    for place, name in ((1, "start"), (2, "end"), (5, "limit"), (6, "most")):
        arguments: list[Any] = [bytearray(4), 0, 0, False, False, 9, 9, []]
        arguments[place] = 1.0
        with pytest.raises(TypeError, match=f"{name} has to be an int, not float"):
            call(*arguments)


# ---- large payloads ----


@pytest.mark.parametrize("size", [0, 1, 2, 100, 100_000])
def test_allocate_and_seal(kernel: ModuleType, size: int) -> None:
    first, view = kernel.allocate(size)
    place = id(first)
    assert (len(view), view.itemsize, view.format, view.readonly) == (size, 1, "B", False)
    view[:] = NOISE[:size]
    other, room = kernel.allocate(size)  # not a piece of memory that anybody shares
    room[:] = bytes(size)
    for each in (view, room):
        each.release()
    rooms = [[first], [other]]
    del first, other, each, view, room
    sealed = kernel.seal_room(rooms[0], size)
    assert type(sealed) is bytes
    assert sealed == NOISE[:size]
    assert kernel.seal_room(rooms[1], size) == bytes(size)
    assert (bytes(1), NOISE[0:1]) == (b"\0", b"\7")
    if kernel.IMPLEMENTATION == "compiled":
        assert id(sealed) == place


def test_allocate_bounds(kernel: ModuleType) -> None:
    for size in (-1, 2**63, -(2**64)):
        with pytest.raises(ValueError, match=f"size is {size}: it has to be 0 to {INT64_MAX}"):
            kernel.allocate(size)
    for size in (2**62, INT64_MAX - 10, INT64_MAX):
        with pytest.raises(MemoryError):
            kernel.allocate(size)


# ---- rooms: messages in pieces ----


def read_pieces(
    kernel: ModuleType, window: bytes, *, limit: int = 2**20, most: int = 100, masked: bool = False
) -> tuple[bytes, int, int, bool]:
    """read_fragments into a room that has something: the content, position, count, ended."""
    place, room = bytearray(window), list[Any]()
    used = kernel.read_payload(bytearray(b"begun "), 0, 6, None, 0, room, 0)
    at, used, count, ended = kernel.read_fragments(
        place, 0, len(place), masked, limit, most, room, used
    )
    assert place == window
    content = kernel.seal_room(room, used)
    assert content.startswith(b"begun ")
    assert len(content) == used
    return content[6:], at, count, ended


@pytest.mark.parametrize("key", [None, KEY, bytes(4)])
def test_read_fragments(kernel: ModuleType, key: bytes | None) -> None:
    lengths = [0, 1, 5, 125, 126, 127, 3000, 65535, 65536]
    run = b"".join(raw_frame(MIDDLE, NOISE[:length], key) for length in lengths)
    content = b"".join(NOISE[:length] for length in lengths)
    masked = key is not None
    found = read_pieces(kernel, run, masked=masked)
    assert found == (content, len(run), len(lengths), False)
    last = raw_frame(LAST, b"end", key)
    found = read_pieces(
        kernel, run + last + raw_frame(MIDDLE, b"no more of it", key), masked=masked
    )
    assert found == (content + b"end", len(run + last), len(lengths) + 1, True)


@pytest.mark.abuse(41)
@pytest.mark.parametrize("key", [None, KEY])
def test_read_fragments_every_prefix(kernel: ModuleType, key: bytes | None) -> None:
    frames = [raw_frame(MIDDLE, NOISE[:length], key) for length in (0, 1, 130, 65600)]
    window, ends = b"".join(frames), [0]
    for each in frames:
        ends.append(ends[-1] + len(each))
    for cut in [*range(160), *range(len(window) - 3, len(window) + 1)]:
        content, at, count, ended = read_pieces(kernel, window[:cut], masked=key is not None)
        assert at == ends[count] == max(end for end in ends if end <= cut)
        assert content == b"".join(NOISE[:length] for length in (0, 1, 130, 65600)[:count])
        assert not ended


@pytest.mark.abuse(39, 45)
def test_read_fragments_most_and_limit(kernel: ModuleType) -> None:
    window = raw_frame(MIDDLE, b"abc") * 3 + raw_frame(LAST, b"")
    for most in range(6):
        found = read_pieces(kernel, window, most=most)
        count = min(most, 4)
        assert found == (b"abc" * min(most, 3), min(5 * count, 17), count, most > 3)
    for limit in range(9):
        found = read_pieces(kernel, window, limit=limit)
        assert found == (b"abc" * (limit // 3), 5 * (limit // 3), limit // 3, False)


def test_read_fragments_leaves_other_frames(kernel: ModuleType) -> None:
    good = raw_frame(MIDDLE, b"abc")
    others = [raw_frame(first, b"") for first in range(256) if first not in (MIDDLE, LAST)]
    others += [raw_frame(LAST, b"", KEY), raw_frame(LAST, b"x", KEY)]
    others += [header(LAST, 5, form=16) + b"short", header(LAST, 5, form=64) + b"short"]
    others += [header(LAST, length) for length in (2**31, 2**32, 2**63 - 1, 2**63, 2**64 - 1)]
    for other in others:
        assert read_pieces(kernel, good + other, limit=INT64_MAX) == (b"abc", 5, 1, False)
    for bare in (raw_frame(LAST, b""), header(LAST, 2**63, KEY)):
        assert read_pieces(kernel, bare, masked=True, limit=INT64_MAX) == (b"", 0, 0, False)


def test_read_payload_in_any_pieces(kernel: ModuleType) -> None:
    data = NOISE[:5000]
    for key in (None, KEY):
        window = bytearray(b"..." + (xor(data, key) if key else data))
        for step in (1, 3, 700, 2049, 5000):
            room: list[Any] = []
            for at in range(0, 5000, step):
                end = min(at + step, 5000)
                used = kernel.read_payload(window, 3 + at, 3 + end, key, at, room, at)
                assert used == end
            assert kernel.seal_room(room, 5000) == data
            assert room == []


def test_a_room_of_many_pieces_takes_little_more_than_its_content(kernel: ModuleType) -> None:
    window = bytearray(NOISE[:1000])
    room: list[Any] = []
    tracemalloc.start()
    for used in range(0, 4_000_000, 1000):
        kernel.read_payload(window, 0, 1000, None, 0, room, used)
    before = tracemalloc.get_traced_memory()[1]
    sealed = kernel.seal_room(room, 4_000_000)
    after = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sealed == NOISE[:1000] * 4000
    if kernel.IMPLEMENTATION == "compiled":
        assert after < before + 1000
        if sys.platform == "linux" and not sysconfig.get_config_var("Py_GIL_DISABLED"):
            assert before < 4_000_000 + 140_000


@pytest.mark.parametrize("size", [1, 60, 1000, 100_000])
def test_seal_room_gives_back_what_is_much(kernel: ModuleType, size: int) -> None:
    room: list[Any] = [kernel.allocate(200_000)[0]]
    tracemalloc.start()
    kernel.read_payload(bytearray(NOISE[:size]), 0, size, None, 0, room, 0)
    sealed = kernel.seal_room(room, size)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert sealed == NOISE[:size]
    assert hash(sealed) == hash(NOISE[:size])
    assert sealed + b"x" == NOISE[:size] + b"x"
    assert kept < size + 2000


def test_what_others_can_see_is_not_written_to(kernel: ModuleType) -> None:
    seen = NOISE[:100]
    window = bytearray(b"change")
    for used in (0, 50, 94, 100):
        room: list[Any] = [seen]
        assert kernel.read_payload(window, 0, 6, None, 0, room, used) == used + 6
        assert kernel.seal_room(room, used + 6) == seen[:used] + b"change"
        room = [seen]
        assert kernel.seal_room(room, used) == seen[:used]
        assert seen == NOISE[:100]
        assert len(seen) == 100
        room = [bytearray(seen)]
        assert kernel.read_payload(window, 0, 6, None, 0, room, used) == used + 6
        assert kernel.seal_room(room, used + 6) == seen[:used] + b"change"
    for single in (b"", b"a"):
        room = [single]
        kernel.read_payload(window, 0, 6, None, 0, room, 0)
        assert kernel.seal_room(room, 6) == b"change"
    assert (NOISE[:0], bytes([97])) == (b"", b"a")


def test_rooms_of_other_types(kernel: ModuleType) -> None:
    window = bytearray(2)

    def users(room: Any, used: Any) -> list[Callable[[], object]]:
        return [
            lambda: kernel.read_fragments(window, 0, 2, False, 9, 9, room, used),
            lambda: kernel.read_payload(window, 0, 2, None, 0, room, used),
            lambda: kernel.seal_room(room, used),
        ]

    for room, used, kind, text in (
        ((), 0, TypeError, "the room has to be a list, not tuple"),
        ([b"a", b"b"], 0, ValueError, "the room holds 2 objects: it has to be one at most"),
        ([5], 0, TypeError, "the room holds a int: it has to be an owner"),
        ([b"ab"], 3, ValueError, "used is 3: it has to be 0 to 2"),
        ([], 1, ValueError, "used is 1: it has to be 0 to 0"),
        ([b"ab"], -1, ValueError, "used is -1: it has to be 0 to 2"),
        ([b"ab"], 1.0, TypeError, "used has to be an int, not float"),
    ):
        before = list(room)
        for use in users(room, used):
            with pytest.raises(kind, match=text):
                use()
        assert list(room) == before


def test_pieces_of_other_types(kernel: ModuleType) -> None:
    call = kernel.read_fragments
    with pytest.raises(TypeError, match="the window has to be a bytearray, not bytes"):
        call(b"", 0, 0, False, 9, 9, [], 0)
    for place, name in ((1, "start"), (2, "end"), (4, "limit"), (5, "most")):
        arguments: list[Any] = [bytearray(4), 0, 0, False, 9, 9, [], 0]
        arguments[place] = -1
        with pytest.raises(ValueError, match=f"{name} is -1: it has to be 0 to"):
            call(*arguments)
    call = kernel.read_payload
    with pytest.raises(TypeError, match="the window has to be a bytearray, not bytes"):
        call(b"", 0, 0, None, 0, [], 0)
    for place, name in ((1, "start"), (2, "end"), (4, "offset")):
        arguments = [bytearray(4), 0, 0, None, 0, [], 0]
        arguments[place] = -1
        with pytest.raises(ValueError, match=f"{name} is -1: it has to be 0 to"):
            call(*arguments)


# ---- what is left behind ----


def test_nothing_leaks(kernel: ModuleType) -> None:
    blocks = getattr(sys, "getallocatedblocks", None)
    if blocks is None:
        pytest.skip("memory blocks are not counted here")
    window = bytearray(raw_frame(TEXT, b"ok", KEY) + raw_frame(TEXT, b"bad\xff", KEY))
    pieces = bytearray(raw_frame(MIDDLE, bytes(700)) * 3)
    calls: list[Callable[[], object]] = [
        lambda: kernel.encode_frame(BINARY, [1] * 99 + [-1], KEY),
        lambda: kernel.encode_frame(BINARY, [1] * 99, b"short"),
        lambda: kernel.encode_frame(TEXT, "\ud800" * 50, KEY),
        lambda: kernel.encode_frame(TEXT, "é" * 50, b"short"),
        lambda: kernel.list_to_bytes([1] * 99 + [None]),
        lambda: kernel.apply_mask(bytearray(99), KEY, -1),
        lambda: kernel.parse_header(b"\x82\xfe\0\5", 0, 4),
        lambda: kernel.read_messages(bytearray(window), 0, 14, True, False, 99, 99, []),
        lambda: kernel.read_messages(bytearray(window), 0, 99, True, False, 99, 99, []),
        lambda: kernel.bytes_to_list(bytearray(99)),
        lambda: kernel.allocate(99),
        lambda: kernel.read_fragments(pieces, 0, len(pieces), False, 9999, 9, [], 0),
        lambda: kernel.read_fragments(pieces, 0, len(pieces), False, 9999, 9, [bytes(900)], 900),
        lambda: kernel.read_payload(pieces, 0, 99, KEY, 0, [bytearray(900)], 901),
        lambda: kernel.seal_room([bytes(900)], 700),
        lambda: kernel.seal_room([bytes(900)], 890),
    ]

    def go() -> None:
        for call in calls:
            with contextlib.suppress(TypeError, ValueError):
                call()

    for _ in range(20):
        go()
    before = blocks()
    for _ in range(300):
        go()
    assert blocks() - before < 100


def test_a_room_grows_by_a_share_of_its_size(kernel: ModuleType) -> None:
    """So that what is put in piece by piece is not copied once for each piece."""
    room: list[bytes | bytearray] = []
    used, sizes = 0, set()
    for _ in range(4000):
        used = kernel.read_payload(bytearray(4096), 0, 4096, None, 0, room, used)
        sizes.add(sys.getsizeof(room[0]))
    assert used == 4000 * 4096
    assert len(sizes) < 200
    del room[:]
