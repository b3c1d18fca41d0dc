"""Both kernels do the same, whatever they are given; where it can, wsproto bears witness.

Invariants 1 to 4: equal results, exception types, exception texts and window
contents; and what is encoded is decoded to what it was.
"""

from __future__ import annotations

import array
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsproto.frame_protocol import FrameProtocol

import kernels
from frames import raw_frame, xor
from kernels import BINARY, INT64_MAX, KEY, LAST, MIDDLE, TEXT
from strategies import cut_texts, four, odd_frames, payloads, quick, sizes, windows

pytestmark = pytest.mark.once("it has both kernels each time")

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

BAD_TEXT = 2

pure = kernels.load("pure")


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    return kernels.load("compiled")


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[Any, ...]:
    """What a call comes to: its result with the result's types, or its exception."""
    try:
        result = function(*arguments)
    except Exception as error:
        return type(error), str(error)
    return result, typed(result)


def typed(value: Any) -> Any:
    """1, True and 1.0 are equal; their types are not."""
    if isinstance(value, (list, tuple)):
        return type(value), [typed(item) for item in value[:20]]
    return type(value)


def as_buffer(data: bytes, kind: int) -> Any:
    """The bytes as one of several kinds of buffer, some of which are refused."""
    if kind == 0:
        return data
    if kind == 1:
        return bytearray(data)
    if kind == 2:
        return memoryview(bytearray(b"..." + data))[3:]
    if kind == 3:
        return array.array("B", data)
    if kind == 4:
        return memoryview(data)[::2]
    if kind == 5:
        return array.array("H", data + data)
    if kind == 6:
        return memoryview(bytearray(data)).toreadonly()
    return data.hex()


buffers = st.builds(as_buffer, payloads, st.integers(0, 7))
keys: st.SearchStrategy[Any] = st.one_of(
    st.binary(min_size=4, max_size=4), st.binary(max_size=6), st.sampled_from([None, "abcd", 5])
)
whole = st.one_of(
    st.integers(-2, 300),
    st.integers(-(2**70), 2**70),
    st.sampled_from([INT64_MAX, INT64_MAX + 1, 2**64, None, 1.0, "1", True]),
)
items = st.one_of(
    st.integers(0, 255),
    st.integers(-300, 300),
    st.integers(),
    st.sampled_from([True, 1.0, "1", None, [1], b"1", 2**64, 10**5000]),
)
lists: st.SearchStrategy[Any] = st.one_of(
    st.lists(items, max_size=20),
    st.builds(list, payloads),
    st.builds(lambda data, item, at: [*data[:at], item, *data[at:]], payloads, items, sizes),
)


@quick
@given(buffers, keys, whole)
def test_masks(compiled: ModuleType, data: Any, key: Any, offset: Any) -> None:
    expected = outcome(pure.apply_mask, data, key, offset)
    assert outcome(compiled.apply_mask, data, key, offset) == expected


@quick
@given(payloads, st.integers(0, 7), keys, whole)
def test_masks_in_place(
    compiled: ModuleType, data: bytes, kind: int, key: Any, offset: Any
) -> None:
    one, two = as_buffer(data, kind), as_buffer(data, kind)
    expected = outcome(pure.mask_in_place, one, key, offset)
    assert outcome(compiled.mask_in_place, two, key, offset) == expected
    assert one == two


@quick
@given(buffers, payloads, st.integers(0, 7), keys, whole)
def test_masks_into(
    compiled: ModuleType, data: Any, room: bytes, kind: int, key: Any, offset: Any
) -> None:
    one, two = as_buffer(room, kind), as_buffer(room, kind)
    expected = outcome(pure.mask_into, one, data, key, offset)
    assert outcome(compiled.mask_into, two, data, key, offset) == expected
    assert one == two


@quick
@given(whole, whole, keys)
def test_headers(compiled: ModuleType, first: Any, length: Any, key: Any) -> None:
    expected = outcome(pure.encode_header, first, length, key)
    assert outcome(compiled.encode_header, first, length, key) == expected


@quick
@given(whole, st.one_of(buffers, lists, st.text(max_size=300), items), keys)
@example(BINARY, memoryview(b"")[::2], None)  # empty, yet not contiguous
def test_frames(compiled: ModuleType, first: Any, payload: Any, key: Any) -> None:
    for data in (payload, tuple(payload)) if isinstance(payload, list) else (payload,):
        expected = outcome(pure.encode_frame, first, data, key)
        assert outcome(compiled.encode_frame, first, data, key) == expected


@quick
@given(lists)
def test_lists_to_bytes(compiled: ModuleType, values: list[Any]) -> None:
    for data in (values, tuple(values)):
        expected = outcome(pure.list_to_bytes, data)
        assert outcome(compiled.list_to_bytes, data) == expected
        legal = all(type(value) is int and 0 <= value <= 255 for value in values)
        assert legal == isinstance(expected[0], bytes)
        if legal:
            assert compiled.bytes_to_list(expected[0]) == pure.bytes_to_list(expected[0]) == values


@quick
@given(buffers)
def test_bytes_to_lists(compiled: ModuleType, data: Any) -> None:
    assert outcome(compiled.bytes_to_list, data) == outcome(pure.bytes_to_list, data)


@quick
@given(whole)
def test_rooms(compiled: ModuleType, size: Any) -> None:
    if isinstance(size, int) and 0 <= size <= 2**48:
        size %= 1000
    results: list[tuple[type, Any]] = []
    for kernel in (compiled, pure):
        try:
            owner, view = kernel.allocate(size)
        except Exception as error:
            results.append((type(error), str(error)))
        else:
            view[:] = bytes(i % 256 for i in range(size))
            view.release()
            room = [owner]
            results.append((bytes, kernel.seal_room(room, size)))
    assert results[0] == results[1]


# ---- UTF-8 ----


@quick
@given(st.one_of(cut_texts, st.binary(max_size=20)), st.integers(0, 20), st.integers(0, 20))
@example(b"\xed\xa0", 0, 0)  # half a surrogate: what Python's decoder would wait for
@example(b"\xed\xa0\x80", 0, 0)
@example(b"\xed\x9f", 0, 0)
@example(b"\xf4\x90", 0, 0)
@example(b"\xc0\x80", 0, 0)
@example(b"a" * 70_000 + b"\xe2\x82", 0, 0)
@example("€".encode() * 30_000, 0, 0)  # cut at the end of a piece of the pure kernel
@example("€".encode() * 30_000 + b"\xff", 1, 0)
def test_utf8(compiled: ModuleType, data: bytes, skip: int, cut: int) -> None:
    end = len(data) - min(cut, len(data))
    start = min(skip, end)
    position, is_cut = expected = compiled.check_utf8(data, start, end)
    assert typed(expected) == (tuple, [int, bool])
    assert pure.check_utf8(data, start, end) == expected
    part = data[start:end]
    assert data[start:position] == part[: position - start].decode().encode()
    assert (position == end) == is_utf8(part)
    assert is_cut == (position < end and any(is_utf8(data[start:end] + more) for more in ENDS))


ENDS = [
    bytes(more) for size in (1, 2, 3) for more in product((0x80, 0x90, 0xA0, 0xBF), repeat=size)
]


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@quick
@given(buffers, whole, whole)
def test_utf8_arguments(compiled: ModuleType, data: Any, start: Any, end: Any) -> None:
    expected = outcome(pure.check_utf8, data, start, end)
    assert outcome(compiled.check_utf8, data, start, end) == expected


def test_every_character_is_utf8(compiled: ModuleType) -> None:
    for first in range(0, 0x110000, 0x100):
        characters = [chr(code) for code in range(first, first + 0x100) if code >> 11 != 0x1B]
        data = "".join(characters).encode()
        for kernel in (compiled, pure):
            assert kernel.check_utf8(data, 0, len(data)) == (len(data), False)


# ---- windows ----


def read_all(kernel: ModuleType, window: bytes, *options: Any, as_utf8: bool = False) -> Any:
    """A read_messages call: its outcome, the messages, and what is left to read."""
    place, out = bytearray(window), list[Any]()
    start, end, *rest = options
    result = outcome(kernel.read_messages, place, start, end, *rest, out, as_utf8)
    left = b""
    if isinstance(result[0], tuple) and result[0][1] != BAD_TEXT:
        left = bytes(place[result[0][0] :])
        assert left == window[result[0][0] :]
    return result, out, typed(out), left


@quick
@given(
    windows,
    st.integers(0, 30),
    st.integers(0, 30),
    st.booleans(),
    st.booleans(),
    st.one_of(st.just(2**20), st.integers(0, 200), st.just(INT64_MAX)),
    st.one_of(st.just(1000), st.integers(1, 4)),
    st.booleans(),
)
@example(b"\x82\x85" + KEY + b"hello", 0, 0, True, True, 5, 1, False)
@example(raw_frame(TEXT, b"\xed\xa0\x80", KEY), 0, 0, True, True, 5, 1, True)
@example(raw_frame(TEXT, b"\xc3", None), 0, 0, False, False, 5, 1, True)
def test_windows(
    compiled: ModuleType,
    window: bytes,
    skip: int,
    cut: int,
    masked: bool,
    as_list: bool,
    limit: int,
    most: int,
    as_utf8: bool,
) -> None:
    end = len(window) - min(cut, len(window)) if cut > 20 else len(window)
    for start in (0, min(skip, end)):
        options = (start, end, masked, as_list, limit, most)
        expected = read_all(pure, window, *options, as_utf8=as_utf8)
        assert read_all(compiled, window, *options, as_utf8=as_utf8) == expected


@quick
@given(windows, st.booleans(), st.booleans())
def test_text_as_bytes_is_the_same_text(
    compiled: ModuleType, window: bytes, masked: bool, as_list: bool
) -> None:
    options = (0, len(window), masked, as_list, 2**20, 1000)
    for kernel in (compiled, pure):
        why, texts, _, left = read_all(kernel, window, *options)
        bytes_why, messages, kinds, bytes_left = read_all(kernel, window, *options, as_utf8=True)
        assert (why, left) == (bytes_why, bytes_left)
        assert [m.encode() if isinstance(m, str) else m for m in texts] == messages
        assert str not in kinds[1]


@quick
@given(st.binary(max_size=60), st.booleans(), st.booleans())
def test_garbage_windows(compiled: ModuleType, window: bytes, masked: bool, as_list: bool) -> None:
    for start in range(min(len(window), 8)):
        options = (start, len(window), masked, as_list, 2**20, 9)
        assert read_all(compiled, window, *options) == read_all(pure, window, *options)


@quick
@given(st.binary(max_size=20), whole, whole, whole, whole)
def test_window_arguments(
    compiled: ModuleType, window: bytes, start: Any, end: Any, limit: Any, most: Any
) -> None:
    options = (start, end, False, False, limit, most)
    assert read_all(compiled, window, *options) == read_all(pure, window, *options)


@quick
@given(odd_frames, st.integers(0, 3), whole, whole)
def test_header_parsers(
    compiled: ModuleType, data: bytes, start: int, strange_start: Any, strange_end: Any
) -> None:
    for end in range(start, min(len(data), 16)):
        expected = outcome(pure.parse_header, data, start, end)
        assert outcome(compiled.parse_header, data, start, end) == expected
    expected = outcome(pure.parse_header, data, strange_start, strange_end)
    assert outcome(compiled.parse_header, data, strange_start, strange_end) == expected


# ---- rooms ----

fragments = st.one_of(
    st.builds(raw_frame, st.sampled_from([MIDDLE, LAST]), payloads, st.just(KEY)),
    st.builds(raw_frame, st.sampled_from([MIDDLE, LAST]), payloads, four),
)
runs = st.builds(
    lambda good, odd, more: b"".join([*good, *odd, *more]),
    st.lists(st.builds(raw_frame, st.just(MIDDLE), payloads, st.just(KEY)), max_size=5),
    st.lists(st.one_of(fragments, odd_frames), max_size=3),
    st.lists(fragments, max_size=2),
)
room_sizes = st.one_of(st.none(), st.sampled_from([0, 1, 2, 5, 100, 3000]))
counts = st.one_of(whole, st.integers(0, 5))


def in_room(function: Callable[..., Any], room: Any, *arguments: Any) -> tuple[Any, ...]:
    """A call that adds to a room: its outcome, and the room's content."""
    result = outcome(function, *arguments)
    used = result[0] if isinstance(result[0], (int, tuple)) else arguments[-1]
    if isinstance(used, tuple):
        used = used[1]
    used = used if isinstance(used, int) else 0
    assert len(room) <= 1
    return result, bytes(room[0][: max(used, 0)]) if room else b""


def rooms(size: int | None, kind: type) -> list[Any]:
    return [] if size is None else [kind(bytes(i % 251 for i in range(size)))]


@quick
@given(
    st.one_of(runs, windows),
    st.integers(0, 30),
    st.booleans(),
    st.one_of(st.just(2**20), st.integers(0, 300), st.just(INT64_MAX)),
    st.one_of(st.just(1000), st.integers(0, 4)),
    room_sizes,
    st.sampled_from([bytes, bytearray]),
    st.integers(0, 5),
)
def test_fragments(
    compiled: ModuleType,
    window: bytes,
    cut: int,
    masked: bool,
    limit: int,
    most: int,
    size: int | None,
    kind: type,
    unused: int,
) -> None:
    end = len(window) - min(cut, len(window)) if cut > 20 else len(window)
    for start in (0, min(cut, end)):
        results = []
        for kernel in (compiled, pure):
            room, place = rooms(size, kind), bytearray(window)
            used = max((size or 0) - unused, 0)
            options = (place, start, end, masked, limit, most, room, used)
            results.append(in_room(kernel.read_fragments, room, *options))
            assert place == window
        assert results[0] == results[1]


@quick
@given(st.binary(max_size=20), whole, whole, counts, counts, room_sizes, counts)
def test_fragment_arguments(
    compiled: ModuleType,
    window: bytes,
    start: Any,
    end: Any,
    limit: Any,
    most: Any,
    size: int | None,
    used: Any,
) -> None:
    results = []
    for kernel in (compiled, pure):
        room = rooms(size, bytes)
        options = (bytearray(window), start, end, False, limit, most, room, used)
        results.append(in_room(kernel.read_fragments, room, *options))
    assert results[0] == results[1]


@quick
@given(payloads, counts, counts, keys, counts, room_sizes, counts)
def test_payloads(
    compiled: ModuleType,
    window: bytes,
    start: Any,
    end: Any,
    key: Any,
    offset: Any,
    size: int | None,
    used: Any,
) -> None:
    good = isinstance(used, int) and 0 <= used <= (size or 0)
    for options in ((start, end, key, offset), (0, len(window), key, 0)):
        results = []
        for kernel in (compiled, pure):
            room = rooms(size, bytearray)
            content = in_room(*(kernel.read_payload, room, bytearray(window), *options, room, used))
            sealed = outcome(kernel.seal_room, rooms(size, bytes), used)
            assert good == isinstance(sealed[0], bytes)
            results.append((content, sealed))
        assert results[0] == results[1]


# ---- round trips, and a third witness ----


@quick
@given(
    st.lists(st.one_of(payloads, st.text(max_size=100)), max_size=6),
    st.booleans(),
    st.binary(min_size=4, max_size=4),
)
def test_round_trips(
    compiled: ModuleType, messages: list[bytes | str], masked: bool, key: bytes
) -> None:
    mask = key if masked else None
    for sender, receiver in ((compiled, pure), (pure, compiled)):
        window = bytearray()
        for message in messages:
            first = TEXT if isinstance(message, str) else BINARY
            window += sender.encode_frame(first, message, mask)
        out: list[Any] = []
        size = len(window)
        read = receiver.read_messages(window, 0, size, masked, False, size, 99, out)
        payload = sum(len(each.encode() if isinstance(each, str) else each) for each in messages)
        assert read == (size, 0, payload)
        assert out == messages


@quick
@given(windows)
def test_wsproto_agrees(compiled: ModuleType, window: bytes) -> None:
    """Where wsproto's server reads whole messages of one frame, it reads the same."""
    expected: list[Any] = []
    for kernel in (compiled, pure):
        place, out = bytearray(window), list[Any]()
        end, *_ = kernel.read_messages(place, 0, len(place), True, False, 2**30, 999, out)
        if kernel is pure:
            assert out == expected
        expected = out
    protocol = FrameProtocol(client=False, extensions=[])
    protocol.receive_bytes(window[:end])
    found: list[Any] = []
    parts: list[Any] = []
    for part in protocol.received_frames():
        parts.append(part.payload)
        if part.message_finished:
            joined = parts[0][:0].join(parts)
            found.append(joined if isinstance(joined, str) else bytes(joined))
            parts = []
    assert (found, parts) == (expected, [])


@quick
@given(payloads, st.binary(min_size=4, max_size=4), st.integers(0, 9))
def test_mask_by_definition(compiled: ModuleType, data: bytes, key: bytes, offset: int) -> None:
    for kernel in (compiled, pure):
        assert kernel.apply_mask(data, key, offset) == xor(data, key, offset)
