"""The frame kernel in pure Python. The contract is _wsframe.pyi.

For PyPy, and for wherever the compiled kernel could not be built: the same
functions, results and errors, from the built-ins that do the most per call.
"""

from __future__ import annotations

import sys
from codecs import utf_8_decode
from functools import partial
from operator import is_not
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Buffer

IMPLEMENTATION: Final[Literal["compiled", "pure"]] = "pure"
MORE: Final = 0
SPECIAL: Final = 1
BAD_TEXT: Final = 2
FULL: Final = 3

split_request: Final = None

_INT64_MAX: Final = 2**63 - 1
_TEXT_MESSAGE: Final = 0x81  # FIN and the opcode, nothing reserved
_MESSAGES: Final = (_TEXT_MESSAGE, 0x82)
_NEVER: Final = 2**64  # a length over any limit
# As a `filter`, and in C: no signal handler runs in it.
_SOMETHING: Final[Callable[[object], bool]] = partial(is_not, None)

_BUFFER: Final = "a bytes-like object"
_PAYLOAD: Final = "a str, a bytes-like object, or a list or tuple of ints"
_ITEMS: Final = "a list or tuple of ints"

# Lists are converted this many items at a time: enough for speed, and the
# copies that make it safe stay small.
_LIST_PIECE: Final = 16384
# The sizes below were measured on CPython 3.10 to 3.13.
_STRIDED: Final = 768  # bytes, from which on masking by tables beats masking as an int
_MASK_PIECE: Final = 65536  # bytes; a multiple of four
_UTF8_PIECE: Final = 65536  # bytes that are decoded at a time, to look at them
_COPY_ONCE: Final = 2048  # bytes, from which on a memoryview costs less than a second copy


# ---- arguments ----


def _shown(value: int) -> str:
    """An int for an error text; int() refuses to print one of thousands of digits."""
    bits = value.bit_length()
    return f"an int of {bits} bits" if bits > 128 else str(value)


def _whole(value: int, name: str, low: int, high: int) -> int:
    """An int argument, checked against its bounds."""
    if type(value) is not int:
        if not issubclass(type(value), int):
            raise TypeError(f"{name} has to be an int, not {type(value).__name__}")
        value = int.__add__(value, 0)  # runs no code of a subclass
    if not low <= value <= high:
        raise ValueError(f"{name} is {_shown(value)}: it has to be {low} to {high}")
    return value


def _check_key(key: bytes) -> None:
    if not issubclass(type(key), bytes):
        raise TypeError(f"the masking key has to be bytes, not {type(key).__name__}")
    if len(key) != 4:
        raise ValueError(f"the masking key has to be 4 bytes, not {len(key)}")


def _borrow(data: Buffer, wanted: str) -> memoryview:
    """A view of a buffer of bytes; the caller releases it."""
    try:
        view = memoryview(data)
    except TypeError:
        raise TypeError(f"{wanted} is wanted, not {type(data).__name__}") from None
    if view.itemsize == 1 and (view.c_contiguous or not view.nbytes):
        if view.c_contiguous and view.ndim == 1 and view.format == "B":
            return view
        with view:
            if view.nbytes:
                return view.cast("B")
            return memoryview(b"" if view.readonly else bytearray())
    width = view.itemsize
    view.release()
    if width != 1:
        raise TypeError(f"the buffer's items are {width} bytes wide: convert it to bytes first")
    raise ValueError("the buffer is not contiguous: convert it to bytes first")


# ---- masking ----

_XOR_TABLES: Final = [bytes(byte ^ key for byte in range(256)) for key in range(256)]


def _xor_small(data: bytes | bytearray | memoryview, key: bytes | bytearray) -> bytes:
    """XOR as one int: cheapest up to some hundred bytes."""
    size = len(data)
    mask = int.from_bytes((key * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ mask).to_bytes(size, "little")


def _xor_pieces(view: memoryview, key: bytes | bytearray) -> Iterator[bytearray]:
    """XOR in pieces that fit a cache, every fourth byte by the table of its key byte."""
    one, two, three, four = (_XOR_TABLES[byte] for byte in key)
    for at in range(0, len(view), _MASK_PIECE):
        piece = bytearray(view[at : at + _MASK_PIECE])
        piece[::4] = piece[::4].translate(one)
        piece[1::4] = piece[1::4].translate(two)
        piece[2::4] = piece[2::4].translate(three)
        piece[3::4] = piece[3::4].translate(four)
        yield piece


def _xor(data: bytes | bytearray | memoryview, key: bytes | bytearray, head: bytes = b"") -> bytes:
    """`head`, then `data` under a key that is turned already."""
    if len(data) < _STRIDED:
        return head + _xor_small(data, key)
    with memoryview(data) as view:
        return b"".join((head, *_xor_pieces(view, key)))


def apply_mask(data: Buffer, key: bytes, offset: int = 0) -> bytes:
    """XOR a buffer with the 4-byte key into new bytes of the same length."""
    _check_key(key)
    offset = _whole(offset, "offset", 0, _INT64_MAX)
    turn = offset & 3
    with _borrow(data, _BUFFER) as view:
        return _xor(view, key[turn:] + key[:turn])


def mask_in_place(buffer: Buffer, key: bytes, offset: int = 0) -> None:
    """XOR a writable buffer with the 4-byte key, where it lies."""
    _check_key(key)
    offset = _whole(offset, "offset", 0, _INT64_MAX)
    turn = offset & 3
    with _borrow(buffer, _BUFFER) as view:
        if view.readonly:
            raise TypeError("the buffer is read-only")
        at = 0
        for piece in _xor_pieces(view, key[turn:] + key[:turn]):
            view[at : at + len(piece)] = piece
            at += len(piece)


def mask_into(target: Buffer, data: Buffer, key: bytes, offset: int = 0) -> None:
    """XOR a buffer with the 4-byte key into the front of a writable one."""
    _check_key(key)
    offset = _whole(offset, "offset", 0, _INT64_MAX)
    turn = offset & 3
    with _borrow(target, _BUFFER) as place:
        if place.readonly:
            raise TypeError("the buffer is read-only")
        with _borrow(data, _BUFFER) as view:
            if len(view) > len(place):
                raise ValueError(f"{len(view)} bytes are to be masked into {len(place)}")
            at = 0
            for piece in _xor_pieces(view, key[turn:] + key[:turn]):
                place[at : at + len(piece)] = piece
                at += len(piece)


# ---- sending ----


def _header(first: int, length: int, key: bytes | None) -> bytes:
    mask_bit = 0 if key is None else 0x80
    tail = b"" if key is None else key
    if length < 126:
        return bytes((first, mask_bit | length)) + tail
    if length < 65536:
        return bytes((first, mask_bit | 126, length >> 8, length & 255)) + tail
    return bytes((first, mask_bit | 127)) + length.to_bytes(8, "big") + tail


def encode_header(first: int, length: int, key: bytes | None) -> bytes:
    """The header of a frame whose payload is sent separately: 2 to 14 bytes."""
    first = _whole(first, "first", 0, 255)
    length = _whole(length, "length", 0, _INT64_MAX)
    if key is not None:
        _check_key(key)
    return _header(first, length, key)


def encode_frame(first: int, payload: Buffer | Sequence[int] | str, key: bytes | None) -> bytes:
    """A whole frame; the payload is a buffer, str, list or tuple."""
    first = _whole(first, "first", 0, 255)
    if key is not None:
        _check_key(key)
    kind = type(payload)
    if issubclass(kind, str):
        data = str.encode(payload)  # type: ignore[arg-type]
    elif issubclass(kind, (list, tuple)):
        data = list_to_bytes(payload)  # type: ignore[arg-type]
    elif issubclass(kind, bytes):
        data = payload  # type: ignore[assignment]
    else:
        with _borrow(payload, _PAYLOAD) as view:  # type: ignore[arg-type]
            if key is not None:
                return _xor(view, key, _header(first, len(view), key))
            return b"".join((_header(first, len(view), None), view))
    if key is not None:
        return _xor(data, key, _header(first, len(data), key))
    return _header(first, len(data), None) + data


# ---- lists of ints ----


def _pack(piece: Sequence[Any], base: int) -> bytes:
    """Items as bytes; `base` is the index of the first."""
    if list(map(type, piece)).count(int) == len(piece):
        try:
            return bytes(piece)
        except ValueError:
            pass  # the loop below says which
    packed = bytearray()
    for index, item in enumerate(piece, base):
        kind = type(item)
        if not issubclass(kind, int) or issubclass(kind, bool):
            raise TypeError(f"item {index} is of type {kind.__name__}: a byte is an int, 0 to 255")
        # By value: no code of a subclass runs, as PyPy's int.__index__ would.
        value = int.__add__(item, 0)
        if not 0 <= value <= 255:
            raise ValueError(f"item {index} is {_shown(value)}: a byte is 0 to 255")
        packed.append(value)
    return bytes(packed)


def list_to_bytes(values: Sequence[int]) -> bytes:
    """The ints of a list or tuple as new bytes."""
    kind = type(values)
    builtin: Any = list if issubclass(kind, list) else tuple
    if not issubclass(kind, builtin):
        raise TypeError(f"{_ITEMS} is wanted, not {kind.__name__}")
    count = builtin.__len__(values)
    pieces = []
    for base in range(0, count, _LIST_PIECE):
        # A slice is a copy that no other thread can change.
        piece = builtin.__getitem__(values, slice(base, min(base + _LIST_PIECE, count)))
        pieces.append(_pack(piece, base))
    data = b"".join(pieces)
    if len(data) != count or builtin.__len__(values) != count:
        raise RuntimeError("the list changed its length during the call")
    return data


def bytes_to_list(data: Buffer) -> list[int]:
    """The bytes of a buffer as a new list of ints."""
    if type(data) is bytes:
        return list(data)
    with _borrow(data, _BUFFER) as view:
        return list(bytes(view))  # bytes are three times as fast to walk


# ---- UTF-8 ----


def check_utf8(data: Buffer, start: int, end: int) -> tuple[int, bool]:
    """How far data[start:end] is UTF-8: (position, cut)."""
    with _borrow(data, _BUFFER) as view:
        end = _whole(end, "end", 0, len(view))
        at = _whole(start, "start", 0, end)
        stop = at
        while stop < end:  # in pieces: what they become is not needed
            stop = min(stop + _UTF8_PIECE, end)
            try:
                at += utf_8_decode(view[at:stop], "strict", False)[1]
            except UnicodeDecodeError as error:
                return at + error.start, False
        # The decoder takes the first two bytes of a surrogate for the start of a character.
        surrogate = end - at == 2 and view[at] == 0xED and view[at + 1] >= 0xA0
    return at, at < end and not surrogate


# ---- receiving ----


def parse_header(data: Buffer, start: int, end: int) -> tuple[int, int, int, bytes | None] | None:
    """Read one header from data[start:end]: (first, length, position, key), or None."""
    with _borrow(data, _BUFFER) as view:
        end = _whole(end, "end", 0, len(view))
        start = _whole(start, "start", 0, end)
        if end - start < 2:
            return None
        at = start + 2
        second = view[start + 1]
        length = second & 127
        extended = 0 if length < 126 else 2 if length == 126 else 8
        if extended:
            at += extended
            if at > end:
                return None
            length = int.from_bytes(view[start + 2 : at], "big")
            if length < (126 if extended == 2 else 65536):
                raise ValueError(f"a frame's length, {length}, is not in its shortest form")
            if length > _INT64_MAX:
                raise ValueError(f"a frame's length, {length}, is over 2**63 - 1")
        if second < 128:
            return view[start], length, at, None
        if at + 4 > end:
            return None
        return view[start], length, at + 4, bytes(view[at : at + 4])


def _long_header(window: bytearray, at: int, end: int, mask_bit: int) -> tuple[int, int]:
    """Where the payload starts and its length, for a header that is not the usual one.

    The position is beyond `end` where the header is not complete, and the length
    beyond any limit where the frame is not one to read here.
    """
    second = window[at + 1]
    extended = {126: 2, 127: 8}.get(second & 127, 0)
    body = at + 2 + extended + (4 if second > 127 else 0)
    if body > end or second & 128 != mask_bit:
        return body, _NEVER
    length = int.from_bytes(window[at + 2 : at + 2 + extended], "big")
    shortest = 126 if extended == 2 else 65536
    return body, length if length >= shortest else _NEVER


def _payload(window: bytearray, body: int, stop: int, masked: bool) -> bytes | bytearray:
    """The payload at a place in the window, unmasked."""
    if masked:
        key = window[body - 4 : body]
        if stop - body < _STRIDED:
            return _xor_small(window[body:stop], key)
        with memoryview(window) as view:
            return b"".join(_xor_pieces(view[body:stop], key))
    if stop - body < _COPY_ONCE:
        return window[body:stop]
    with memoryview(window) as view:
        return bytes(view[body:stop])


def read_messages(
    window: bytearray,
    start: int,
    end: int,
    masked: bool,
    as_list: bool,
    limit: int,
    most: int,
    out: list[str | bytes | list[int]],
    as_utf8: bool = False,
) -> tuple[int, int, int]:
    """Read the run of messages at the front of window[start:end]: (position, why, payload)."""
    masked = bool(masked)
    as_list = bool(as_list)
    as_utf8 = bool(as_utf8)
    if not issubclass(type(window), bytearray):
        raise TypeError(f"the window has to be a bytearray, not {type(window).__name__}")
    if not issubclass(type(out), list):
        raise TypeError(f"out has to be a list, not {type(out).__name__}")
    limit = _whole(limit, "limit", 0, _INT64_MAX)
    most = _whole(most, "most", 1, _INT64_MAX)
    end = _whole(end, "end", 0, len(window))
    at = _whole(start, "start", 0, end)
    header, mask_bit = (6, 128) if masked else (2, 0)
    read = 0
    while most:
        if end - at < 2:
            return at, MORE, read
        first = window[at]
        body = at + header
        length = window[at + 1] ^ mask_bit  # 128 and more if the mask bit is wrong
        if length > 125:
            body, length = _long_header(window, at, end, mask_bit)
        if body > end:
            return at, MORE, read
        if first not in _MESSAGES or length > limit or length > end - body:
            return at, SPECIAL, read
        payload = _payload(window, body, body + length, masked)
        if first == _TEXT_MESSAGE:
            try:
                text = payload.decode()
            except UnicodeDecodeError:
                return at, BAD_TEXT, read
            out.append(bytes(payload) if as_utf8 else text)
        else:
            out.append(list(payload) if as_list else bytes(payload))
        at = body + length
        read += length
        most -= 1
    return at, FULL, read


# ---- around a socket's method ----
#
# A signal handler runs after a call, never between two steps that are none: what a call
# has brought is noted in the same step (`extend` takes it from `map`, unpacking stores it)
# or in ones that make no call.


def receive_messages(
    receive: Callable[[bytearray], int | None],
    window: bytearray,
    masked: bool,
    as_list: bool,
    limit: int,
    ready: deque[str | bytes | list[int]],
    note: list[int],
    as_utf8: bool = False,
) -> bool:
    """Receive once; True if messages came and nothing else. What came is in `note`."""
    limit = _whole(limit, "limit", 0, _INT64_MAX)
    if not issubclass(type(window), bytearray):
        raise TypeError(f"the window has to be a bytearray, not {type(window).__name__}")
    if not issubclass(type(note), list):
        raise TypeError(f"the note has to be a list, not {type(note).__name__}")
    if note:
        return False
    try:
        note.extend(filter(_SOMETHING, map(receive, (window,))))  # type: ignore[arg-type]  # no None
    except BlockingIOError:
        return False
    if not note:
        return False
    size = len(window)
    try:
        count = _whole(note[0], "the received count", 0, size)
    except (TypeError, ValueError):
        note.clear()
        raise
    messages: list[str | bytes | list[int]] = []
    at, why, payload = read_messages(
        window, 0, count, masked, as_list, limit, _INT64_MAX, messages, as_utf8
    )
    ready += messages
    note += (at, why, payload)
    return at == count and 0 < count < size


def send_frame(
    send: Callable[[bytes, int], int], frame: bytes, flags: int, rest: list[bytes]
) -> bool:
    """Send a frame at once; True if all of it was taken. Else see `rest`."""
    if not issubclass(type(frame), bytes):
        raise TypeError(f"the frame has to be bytes, not {type(frame).__name__}")
    if not issubclass(type(rest), list):
        raise TypeError(f"the rest has to be a list, not {type(rest).__name__}")
    size = len(frame)
    try:
        (count,) = map(send, (frame,), (flags,))
    except BlockingIOError:
        return False
    if count.__class__ is int and 0 < count < size:
        rest += (frame[count:],)
        return False
    return _whole(count, "the sent count", 0, size) == size


# ---- messages in pieces ----


def _open_room(room: list[bytes | bytearray], used: int) -> bytearray:
    """A room's owner, with the used part of it alone."""
    if not issubclass(type(room), list):
        raise TypeError(f"the room has to be a list, not {type(room).__name__}")
    if len(room) > 1:
        raise ValueError(f"the room holds {len(room)} objects: it has to be one at most")
    owner = room[0] if room else bytearray()
    if not issubclass(type(owner), (bytes, bytearray)):
        raise TypeError(f"the room holds a {type(owner).__name__}: it has to be an owner")
    used = _whole(used, "used", 0, len(owner))
    room.clear()
    if type(owner) is not bytearray:
        return bytearray(owner[:used])
    if used < len(owner):
        del owner[used:]
    return owner


def _close_room(room: list[bytes | bytearray], owner: bytearray) -> int:
    """Put a room's owner back; returns its size."""
    if owner:
        room.append(owner)
    return len(owner)


def _add(owner: bytearray, window: bytearray, start: int, end: int, key: bytes | bytearray) -> None:
    """Append a piece of payload, unmasked; no key, no mask."""
    if end - start < _STRIDED:
        piece = window[start:end]
        owner += _xor_small(piece, key) if key else piece
        return
    with memoryview(window) as view, view[start:end] as part:
        if key:
            for piece in _xor_pieces(part, key):
                owner += piece
        else:
            owner += part


def read_fragments(
    window: bytearray,
    start: int,
    end: int,
    masked: bool,
    limit: int,
    most: int,
    room: list[bytes | bytearray],
    used: int,
) -> tuple[int, int, int, bool]:
    """Read the run of continuations at the front of window[start:end] into a room."""
    masked = bool(masked)
    if not issubclass(type(window), bytearray):
        raise TypeError(f"the window has to be a bytearray, not {type(window).__name__}")
    limit = _whole(limit, "limit", 0, _INT64_MAX)
    most = _whole(most, "most", 0, _INT64_MAX)
    end = _whole(end, "end", 0, len(window))
    at = _whole(start, "start", 0, end)
    owner = _open_room(room, used)
    header, mask_bit = (6, 128) if masked else (2, 0)
    count, first = 0, 0
    while count < most and end - at >= 2 and not first:
        body = at + header
        length = window[at + 1] ^ mask_bit  # 128 and more if the mask bit is wrong
        if length > 125:
            body, length = _long_header(window, at, end, mask_bit)
        # Reserved bits and the opcode of something else are left to the caller.
        if window[at] & 127 or length > end - body or length > limit:
            break
        first = window[at]
        _add(owner, window, body, body + length, window[body - 4 : body] if masked else b"")
        limit -= length
        at = body + length
        count += 1
    return at, _close_room(room, owner), count, bool(first)


def read_payload(
    window: bytearray,
    start: int,
    end: int,
    key: bytes | None,
    offset: int,
    room: list[bytes | bytearray],
    used: int,
) -> int:
    """Append window[start:end], a piece of a payload, to what is in a room."""
    offset = _whole(offset, "offset", 0, _INT64_MAX)
    if key is not None:
        _check_key(key)
        key = key[offset & 3 :] + key[: offset & 3]
    if not issubclass(type(window), bytearray):
        raise TypeError(f"the window has to be a bytearray, not {type(window).__name__}")
    end = _whole(end, "end", 0, len(window))
    start = _whole(start, "start", 0, end)
    owner = _open_room(room, used)
    _add(owner, window, start, end, key or b"")
    return _close_room(room, owner)


def seal_room(room: list[bytes | bytearray], used: int) -> bytes:
    """What is in a room as bytes, which leaves the room empty."""
    return bytes(_open_room(room, used))


# ---- large payloads ----


def allocate(size: int) -> tuple[bytes | bytearray, memoryview]:
    """Room for `size` bytes: its owner, and a writable view that lives no longer than it."""
    size = _whole(size, "size", 0, _INT64_MAX)
    if size > sys.maxsize - 64:
        raise MemoryError
    owner = bytearray(size)
    return owner, memoryview(owner)
