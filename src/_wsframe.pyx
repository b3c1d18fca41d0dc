# cython: language_level=3, freethreading_compatible=True, binding=False
# cython: embedsignature=True, embedsignature.format=clinic, autotestdict=False
"""The frame kernel, compiled. The contract is scriptling_ws/_wsframe.pyi.

Rules of this file:

- No state, and no reference to a caller's object, is kept from call to call: the channel
  (_wschannel.pxi and its like, which have rules of their own) is the one thing that has any.
- While a raw pointer into a caller's object is held, no code of the caller's
  runs, and the object is one that cannot change its size: immutable, borrowed,
  or locked.
- The GIL is not released: masking 16 MiB takes less than a millisecond, and a
  busy neighbour thread would keep the GIL for five before it came back.
"""

cimport cython
from cpython.buffer cimport (
    PyBUF_FULL_RO, PyBUF_SIMPLE, PyBUF_WRITE, PyBuffer_IsContiguous, PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches
from cpython.list cimport PyList_New
from cpython.long cimport PyLong_AsLongAndOverflow, PyLong_AsLongLongAndOverflow
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_REFCNT
from cpython.unicode cimport PyUnicode_AsUTF8String, PyUnicode_New
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint64_t, uintptr_t
from libc.string cimport memcmp, memcpy

# The loops over bytes are C, for the sake of vectors.
cdef extern from "_wsframe.h":
    const bint WS_HAS_GIL
    const Py_ssize_t WS_MOST_SPARE
    const int WS_SPARE_SHIFT
    const size_t WS_STRIDE
    PyObject *ws_zero
    void ws_learn_cpu() noexcept nogil
    uint64_t ws_mask(const uint8_t *key, size_t offset) noexcept nogil
    uint64_t ws_xor(uint8_t *to, const uint8_t *source, size_t n, uint64_t mask) noexcept nogil
    size_t ws_utf8(const uint8_t *data, size_t n, int *cut) noexcept nogil
    uintptr_t ws_value(PyObject *number) noexcept nogil
    void ws_bytes_to_ints(PyObject **to, const uint8_t *source, size_t n) noexcept nogil
    size_t ws_ints_to_bytes(uint8_t *to, PyObject *const *source, size_t n) noexcept nogil

cdef extern from "Python.h":
    object PyUnicode_DecodeLatin1(const char *text, Py_ssize_t size, const char *errors)
    PyObject *PyThreadState_GetDict()
    void PyDict_Clear(object dictionary)
    const Py_ssize_t PY_SSIZE_T_MAX
    bint PyBool_Check(PyObject *value)
    bint PyLong_Check(PyObject *value)
    PyObject **PySequence_Fast_ITEMS(object values)
    Py_ssize_t PySequence_Fast_GET_SIZE(object values)
    int PyBytes_CheckExact(PyObject *something)
    Py_ssize_t refcount "Py_REFCNT"(PyObject *something)
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size) except NULL
    void set_size "Py_SET_SIZE"(PyObject *data, Py_ssize_t size)
    # For bytes that nobody else has; frees them when it fails, and leaves NULL.
    int resize_bytes "_PyBytes_Resize"(PyObject **data, Py_ssize_t size) except -1
    void *PyUnicode_DATA(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    # With the error left to the caller: a try statement costs as much as the rest.
    int get_buffer "PyObject_GetBuffer"(object data, Py_buffer *view, int flags) noexcept
    PyObject *decode_utf8 "PyUnicode_DecodeUTF8"(
        const char *data, Py_ssize_t size, const char *errors
    ) noexcept

IMPLEMENTATION = "compiled"
MORE, SPECIAL, BAD_TEXT, FULL = range(4)

cdef enum:
    WHY_MORE, WHY_SPECIAL, WHY_BAD_TEXT, WHY_FULL
    TEXT_MESSAGE = 0x81  # FIN and the opcode, nothing reserved
    BINARY_MESSAGE = 0x82
    COMPRESSED = 0x40  # RSV1, as permessage-deflate has it

cdef uint64_t HIGH_BITS = 0x8080808080808080

cdef str BUFFER = "a bytes-like object"
cdef str PAYLOAD = "a str, a bytes-like object, or a list or tuple of ints"
cdef str ITEMS = "a list or tuple of ints"


# ---- what CPython does with small ints ----

# It makes the ints 0 to 255 once, and every result in that range is one of them.
cdef PyObject *BYTE[256]
# Where they live for ever (3.12 on), nobody counts references to them.
cdef bint IMMORTAL = True


cdef int learn_small_ints() except -1:
    global IMMORTAL, ws_zero
    cdef object number
    cdef Py_ssize_t before
    cdef bint side_by_side = True  # one array from 3.11 on, one pool before
    cdef int i
    for i in range(256):
        number = i
        BYTE[i] = <PyObject *> number
        side_by_side &= <uintptr_t> BYTE[i] == <uintptr_t> BYTE[0] + i * WS_STRIDE
        before = Py_REFCNT(number)
        Py_INCREF(number)
        # Before 3.12, where coverage is not measured.
        if Py_REFCNT(number) != before:
            IMMORTAL = False  # pragma: no cover
            Py_DECREF(number)  # pragma: no cover
    if side_by_side:
        ws_zero = BYTE[0]
    return 0


learn_small_ints()
ws_learn_cpu()


# ---- arguments ----

cdef str shown(object value):
    """An int for an error text; int() refuses to print one of thousands of digits."""
    value = int.__index__(value)
    cdef object bits = value.bit_length()
    return f"an int of {bits} bits" if bits > 128 else str(value)


cdef int64_t whole(object value, str name, int64_t low, int64_t high) except? -1:
    """An int argument, checked against its bounds."""
    cdef int overflow = 0
    cdef int64_t number = <int64_t> ws_value(<PyObject *> value)
    if 0 <= number <= 255 and low <= number <= high:
        return number
    if not isinstance(value, int):
        raise TypeError(f"{name} has to be an int, not {type(value).__name__}")
    number = PyLong_AsLongLongAndOverflow(value, &overflow)
    if overflow or number < low or number > high:
        raise ValueError(f"{name} is {shown(value)}: it has to be {low} to {high}")
    return number


cdef const uint8_t *check_key(object key) except NULL:
    """Where the 4 bytes of a key are."""
    if not isinstance(key, bytes):
        raise TypeError(f"the masking key has to be bytes, not {type(key).__name__}")
    if PyBytes_GET_SIZE(key) != 4:
        raise ValueError(f"the masking key has to be 4 bytes, not {PyBytes_GET_SIZE(key)}")
    return <const uint8_t *> PyBytes_AS_STRING(key)


cdef int borrow(object data, Py_buffer *view, str wanted) except -1:
    """Borrow a buffer of bytes; the caller of this releases it."""
    cdef Py_ssize_t width
    # The flags memoryview() uses, so that both implementations accept the same.
    if get_buffer(data, view, PyBUF_FULL_RO) < 0:
        if not PyErr_ExceptionMatches(TypeError):
            return -1
        PyErr_Clear()
        raise TypeError(f"{wanted} is wanted, not {type(data).__name__}")
    width = view.itemsize
    # An exporter of contiguous bytes, such as ctypes, may give no strides at all.
    if width == 1 and (
        (view.ndim == 1 and view.strides != NULL and view.strides[0] == 1)
        or PyBuffer_IsContiguous(view, c"C")
    ):
        return 0
    PyBuffer_Release(view)
    if width != 1:
        raise TypeError(f"the buffer's items are {width} bytes wide: convert it to bytes first")
    raise ValueError("the buffer is not contiguous: convert it to bytes first")


# ---- masking ----

def apply_mask(data, key, offset=0):
    """XOR a buffer with the 4-byte key into new bytes of the same length."""
    cdef Py_buffer view
    cdef bytes masked
    cdef uint64_t mask = ws_mask(check_key(key), whole(offset, "offset", 0, INT64_MAX))
    borrow(data, &view, BUFFER)
    try:
        masked = PyBytes_FromStringAndSize(NULL, view.len)
        ws_xor(<uint8_t *> PyBytes_AS_STRING(masked), <uint8_t *> view.buf, view.len, mask)
    finally:
        PyBuffer_Release(&view)
    return masked


def mask_in_place(buffer, key, offset=0):
    """XOR a writable buffer with the 4-byte key, where it lies."""
    cdef Py_buffer view
    cdef uint64_t mask = ws_mask(check_key(key), whole(offset, "offset", 0, INT64_MAX))
    cdef uint8_t *data
    if WS_HAS_GIL and type(buffer) is bytearray:
        # With the GIL held, nobody can resize it: borrowing would cost more
        # than masking a small one.
        data = <uint8_t *> PyByteArray_AS_STRING(buffer)
        ws_xor(data, data, PyByteArray_GET_SIZE(buffer), mask)
        return
    borrow(buffer, &view, BUFFER)
    try:
        if view.readonly:
            raise TypeError("the buffer is read-only")
        ws_xor(<uint8_t *> view.buf, <uint8_t *> view.buf, view.len, mask)
    finally:
        PyBuffer_Release(&view)


# ---- sending ----

cdef Py_ssize_t write_header(
    uint8_t *to, uint8_t first, uint64_t length, const uint8_t *key
) noexcept:
    """Write a header, at most 14 bytes, and return its size; no key, no mask."""
    cdef uint8_t mask_bit = 0x80 if key else 0
    cdef Py_ssize_t size = 2
    cdef int shift
    to[0] = first
    if length < 126:
        to[1] = mask_bit | <uint8_t> length
    elif length < 65536:
        to[1] = mask_bit | 126
        to[2] = <uint8_t> (length >> 8)
        to[3] = <uint8_t> length
        size = 4
    else:
        to[1] = mask_bit | 127
        for shift in range(8):
            to[2 + shift] = <uint8_t> (length >> (56 - 8 * shift))
        size = 10
    if key:
        memcpy(to + size, key, 4)
        size += 4
    return size


def encode_header(first, length, key):
    """The header of a frame whose payload is sent separately: 2 to 14 bytes."""
    cdef uint8_t header[14]
    cdef uint8_t lead = <uint8_t> whole(first, "first", 0, 255)
    cdef uint64_t count = whole(length, "length", 0, INT64_MAX)
    cdef const uint8_t *four = check_key(key) if key is not None else <const uint8_t *> NULL
    return PyBytes_FromStringAndSize(<char *> header, write_header(header, lead, count, four))


cdef bytes new_frame(uint8_t lead, Py_ssize_t length, const uint8_t *key, uint8_t **payload):
    """A frame with its header written, and where its payload goes."""
    cdef uint8_t header[14]
    cdef Py_ssize_t size = write_header(header, lead, length, key)
    cdef bytes frame
    if length > PY_SSIZE_T_MAX - 64:
        raise MemoryError
    frame = PyBytes_FromStringAndSize(NULL, size + length)
    memcpy(PyBytes_AS_STRING(frame), header, size)
    payload[0] = <uint8_t *> PyBytes_AS_STRING(frame) + size
    return frame


cdef bytes frame_of(uint8_t lead, const void *payload, Py_ssize_t length, const uint8_t *key):
    """A frame around a payload."""
    cdef uint8_t *to
    cdef bytes frame = new_frame(lead, length, key, &to)
    if key:
        ws_xor(to, <const uint8_t *> payload, length, ws_mask(key, 0))
    else:
        memcpy(to, payload, length)
    return frame


cdef bytes frame_of_items(uint8_t lead, object values, const uint8_t *key):
    """A frame around a list or tuple: converted where it goes, then masked there."""
    cdef uint8_t *to
    cdef Py_ssize_t count = PySequence_Fast_GET_SIZE(values)
    cdef bytes frame = new_frame(lead, count, key, &to)
    write_items(to, values, count)
    if key:
        ws_xor(to, to, count, ws_mask(key, 0))
    return frame


def encode_frame(first, payload, key):
    """A whole frame, in one allocation; the payload is a buffer, str, list or tuple."""
    cdef uint8_t lead = <uint8_t> whole(first, "first", 0, 255)
    cdef const uint8_t *four = check_key(key) if key is not None else <const uint8_t *> NULL
    cdef Py_buffer view
    if isinstance(payload, str):
        if PyUnicode_IS_COMPACT_ASCII(payload):
            return frame_of(lead, PyUnicode_DATA(payload), len(<str> payload), four)
        # Not PyUnicode_AsUTF8: it would leave a copy in the caller's str.
        payload = PyUnicode_AsUTF8String(payload)
    if isinstance(payload, bytes):
        return frame_of(lead, PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), four)
    if isinstance(payload, (list, tuple)):
        return frame_of_items(lead, payload, four)
    borrow(payload, &view, PAYLOAD)
    try:
        return frame_of(lead, view.buf, view.len, four)
    finally:  # reached by a return, where Cython traces nothing
        PyBuffer_Release(&view)  # pragma: no cover


# ---- lists of ints ----

cdef Py_ssize_t read_ints(uint8_t *to, PyObject **items, Py_ssize_t count) noexcept:
    """Ints as bytes, one by one; returns the index of the first that is none."""
    cdef Py_ssize_t i
    cdef int overflow
    cdef long number
    for i in range(count):
        if not PyLong_Check(items[i]) or PyBool_Check(items[i]):
            return i
        # By value: an int needs no __index__, so no code of a subclass runs.
        number = PyLong_AsLongAndOverflow(<object> items[i], &overflow)
        if overflow or number < 0 or number > 255:
            return i
        to[i] = <uint8_t> number
    return count


cdef Py_ssize_t read_items(uint8_t *to, PyObject **items, Py_ssize_t count) noexcept:
    """As read_ints, by address where that can be."""
    cdef Py_ssize_t at = 0, size, read
    if ws_zero == NULL:  # not on a CPython where coverage is measured
        return read_ints(to, items, count)  # pragma: no cover
    while True:
        at += ws_ints_to_bytes(to + at, items + at, count - at)
        # The last few, or a block that has an int which is not one of the 256.
        size = min(count - at, 32)
        read = read_ints(to + at, items + at, size)
        at += read
        if read < size or at == count:
            return at


cdef int write_items(uint8_t *to, object values, Py_ssize_t count) except -1:
    """The ints of a list or tuple that had `count` as bytes."""
    cdef Py_ssize_t read = -1
    cdef object bad = None
    # A no-op with the GIL, where nothing below lets another thread run.
    with cython.critical_section(values):
        if PySequence_Fast_GET_SIZE(values) == count:
            read = read_items(to, PySequence_Fast_ITEMS(values), count)
            if read < count:
                bad = <object> PySequence_Fast_ITEMS(values)[read]
    if read == count:
        return 0
    if read < 0:  # a race, and one without the GIL
        raise RuntimeError("the list changed its length during the call")  # pragma: no cover
    if isinstance(bad, int) and not isinstance(bad, bool):
        raise ValueError(f"item {read} is {shown(bad)}: a byte is 0 to 255")
    raise TypeError(f"item {read} is of type {type(bad).__name__}: a byte is an int, 0 to 255")


def list_to_bytes(values):
    """The ints of a list or tuple as new bytes."""
    cdef Py_ssize_t count
    cdef bytes data
    if not isinstance(values, (list, tuple)):
        raise TypeError(f"{ITEMS} is wanted, not {type(values).__name__}")
    count = PySequence_Fast_GET_SIZE(values)
    data = PyBytes_FromStringAndSize(NULL, count)
    write_items(<uint8_t *> PyBytes_AS_STRING(data), values, count)
    return data


cdef list list_of(const uint8_t *data, Py_ssize_t count):
    """Bytes as a new list of ints."""
    cdef list values = PyList_New(count)
    cdef PyObject **items = PySequence_Fast_ITEMS(values)
    cdef Py_ssize_t i
    if IMMORTAL and ws_zero != NULL:
        ws_bytes_to_ints(items, data, count)
    else:  # before 3.12
        for i in range(count):  # pragma: no cover
            items[i] = BYTE[data[i]]  # pragma: no cover
            Py_INCREF(<object> items[i])  # pragma: no cover
    return values


def bytes_to_list(data):
    """The bytes of a buffer as a new list of ints."""
    cdef Py_buffer view
    borrow(data, &view, BUFFER)
    try:
        return list_of(<uint8_t *> view.buf, view.len)
    finally:  # see encode_frame
        PyBuffer_Release(&view)  # pragma: no cover


# ---- UTF-8 ----

cdef bint is_utf8(const void *data, Py_ssize_t length) noexcept:
    """Whether bytes are UTF-8, all of them."""
    cdef int cut
    return ws_utf8(<const uint8_t *> data, length, &cut) == <size_t> length


def check_utf8(data, start, end):
    """How far data[start:end] is UTF-8: (position, cut)."""
    cdef Py_buffer view
    cdef Py_ssize_t begin, stop, at
    cdef int cut
    borrow(data, &view, BUFFER)
    try:
        stop = whole(end, "end", 0, view.len)
        begin = whole(start, "start", 0, stop)
        at = begin + <Py_ssize_t> ws_utf8(<uint8_t *> view.buf + begin, stop - begin, &cut)
    finally:
        PyBuffer_Release(&view)
    return at, bool(cut)


# ---- receiving ----

cdef struct Header:
    uint64_t length     # of the payload
    Py_ssize_t size     # of the header; 0 until the length is there
    bint masked
    bint shortest       # whether the length is in its shortest form


cdef inline Header scan(const uint8_t *data, Py_ssize_t count) noexcept nogil:
    """Read a header from the `count` bytes at `data`."""
    cdef Header header
    cdef uint64_t length
    cdef int i
    header.length = 0
    header.size = 0
    header.masked = False
    header.shortest = True
    if count < 2:
        return header
    header.masked = data[1] >> 7
    length = data[1] & 0x7F
    if length < 126:
        header.size = 2
    elif length == 126:
        if count < 4:
            return header
        length = <uint64_t> data[2] << 8 | data[3]
        header.shortest = length >= 126
        header.size = 4
    else:
        if count < 10:
            return header
        length = 0
        for i in range(8):
            length = length << 8 | data[2 + i]
        header.shortest = length >= 65536
        header.size = 10
    header.length = length
    header.size += 4 * header.masked
    return header


def parse_header(data, start, end):
    """Read one header from data[start:end]: (first, length, position, key), or None."""
    cdef Py_buffer view
    cdef Header header
    cdef Py_ssize_t begin, stop
    cdef const uint8_t *at
    borrow(data, &view, BUFFER)
    try:
        stop = whole(end, "end", 0, view.len)
        begin = whole(start, "start", 0, stop)
        at = <const uint8_t *> view.buf + begin
        header = scan(at, stop - begin)
        if header.size == 0:
            return None
        if not header.shortest:
            raise ValueError(f"a frame's length, {header.length}, is not in its shortest form")
        if header.length > <uint64_t> INT64_MAX:
            raise ValueError(f"a frame's length, {header.length}, is over 2**63 - 1")
        if header.size > stop - begin:
            return None
        key = (<const char *> at)[header.size - 4:header.size] if header.masked else None
        return at[0], header.length, begin + header.size, key
    finally:  # see encode_frame
        PyBuffer_Release(&view)  # pragma: no cover


cdef PyObject *text_of(uint8_t *payload, Py_ssize_t length, uint64_t mask) except? NULL:
    """A new str, or NULL for what is not UTF-8."""
    cdef object text
    cdef PyObject *decoded
    # Nearly all text is ASCII: unmask, copy and look at it in one go.  Strs
    # shorter than two characters exist once, and are not made here.
    if length > 1:
        text = PyUnicode_New(length, 127)
        if not ws_xor(<uint8_t *> PyUnicode_DATA(text), payload, length, mask) & HIGH_BITS:
            Py_INCREF(text)
            return <PyObject *> text
        text = None
    ws_xor(payload, payload, length, mask)
    decoded = decode_utf8(<char *> payload, length, NULL)
    if decoded == NULL:
        if PyErr_ExceptionMatches(UnicodeDecodeError):
            PyErr_Clear()
        else:
            ws_xor(payload, payload, length, mask)  # as it was: to be read again
    return decoded


cdef object utf8_of(const uint8_t *payload, Py_ssize_t length, uint64_t mask):
    """A text message as new bytes; None for what is not UTF-8."""
    cdef object data = PyBytes_FromStringAndSize(NULL, length)
    cdef uint8_t *to = <uint8_t *> PyBytes_AS_STRING(data)
    if ws_xor(to, payload, length, mask) & HIGH_BITS and not is_utf8(to, length):
        return None
    return data


cdef object data_of(uint8_t *payload, Py_ssize_t length, uint64_t mask, bint as_list):
    """A binary message, as new bytes or a new list."""
    cdef object data
    if as_list:
        if mask:
            ws_xor(payload, payload, length, mask)
        try:
            return list_of(payload, length)
        except MemoryError:
            if mask:
                ws_xor(payload, payload, length, mask)  # as it was: to be read again
            raise
    if not mask:
        return PyBytes_FromStringAndSize(<char *> payload, length)
    data = PyBytes_FromStringAndSize(NULL, length)
    ws_xor(<uint8_t *> PyBytes_AS_STRING(data), payload, length, mask)
    return data


cdef struct Wanted:
    bint masked
    bint as_list
    bint as_utf8
    uint64_t limit
    int64_t most


cdef struct Outcome:
    int why
    Py_ssize_t payload  # bytes of the messages that were read


cdef Py_ssize_t read_run(
    uint8_t *data, Py_ssize_t at, Py_ssize_t end, Wanted wanted, list out, Outcome *outcome
) except -1:
    """read_messages, once its arguments were checked; returns the position."""
    cdef Header header
    cdef PyObject *text
    cdef object encoded
    cdef uint8_t *payload
    cdef uint64_t mask = 0
    while wanted.most:
        header = scan(data + at, end - at)
        if header.size == 0 or header.size > end - at:
            outcome.why = WHY_MORE
            return at
        if (
            (data[at] != TEXT_MESSAGE and data[at] != BINARY_MESSAGE)
            or header.masked != wanted.masked
            or not header.shortest
            or header.length > wanted.limit
            # Not at + size + length > end: that sum can wrap.
            or header.length > <uint64_t> (end - at - header.size)
        ):
            outcome.why = WHY_SPECIAL
            return at
        payload = data + at + header.size
        if header.masked:
            mask = ws_mask(payload - 4, 0)
        if data[at] == TEXT_MESSAGE and wanted.as_utf8:
            encoded = utf8_of(payload, header.length, mask)
            if encoded is None:
                outcome.why = WHY_BAD_TEXT
                return at
            out.append(encoded)
        elif data[at] == TEXT_MESSAGE:
            text = text_of(payload, header.length, mask)
            if text == NULL:
                outcome.why = WHY_BAD_TEXT
                return at
            out.append(<object> text)
            Py_DECREF(<object> text)
        else:
            out.append(data_of(payload, header.length, mask, wanted.as_list))
        at += header.size + <Py_ssize_t> header.length
        outcome.payload += <Py_ssize_t> header.length
        wanted.most -= 1
    outcome.why = WHY_FULL
    return at


cdef int put_back(
    uint8_t *data, Py_ssize_t at, Py_ssize_t end, list messages, Py_ssize_t first
) except -1:
    """Mask again what read_run has unmasked for messages[first:]: they are to be read again."""
    cdef Header header
    cdef uint8_t *payload
    cdef Py_ssize_t i
    for i in range(first, len(messages)):
        header = scan(data + at, end - at)
        payload = data + at + header.size
        message = messages[i]
        # Other messages were unmasked on their way into what they are in: see text_of, data_of.
        if header.masked and (
            type(message) is list
            or (type(message) is str and (
                header.length < 2 or not PyUnicode_IS_COMPACT_ASCII(message)
            ))
        ):
            ws_xor(payload, payload, header.length, ws_mask(payload - 4, 0))
        at += header.size + <Py_ssize_t> header.length
    return 0


def read_messages(window, start, end, masked, as_list, limit, most, out, as_utf8=False):
    """Read the run of messages at the front of window[start:end]: (position, why, payload)."""
    cdef Py_buffer view
    cdef Wanted wanted
    cdef Outcome outcome
    cdef Py_ssize_t stop = 0, at, begin = 0, before
    outcome.payload = 0
    wanted.masked = masked
    wanted.as_list = as_list
    wanted.as_utf8 = as_utf8
    if not isinstance(window, bytearray):
        raise TypeError(f"the window has to be a bytearray, not {type(window).__name__}")
    if not isinstance(out, list):
        raise TypeError(f"out has to be a list, not {type(out).__name__}")
    before = len(out)
    wanted.limit = whole(limit, "limit", 0, INT64_MAX)
    wanted.most = whole(most, "most", 1, INT64_MAX)
    # Borrowed, so that nothing can move the bytes while they are read.
    PyObject_GetBuffer(window, &view, PyBUF_SIMPLE)
    try:
        stop = whole(end, "end", 0, view.len)
        at = whole(start, "start", 0, stop)
        begin = at
        at = read_run(<uint8_t *> view.buf, at, stop, wanted, out, &outcome)
    except MemoryError:
        put_back(<uint8_t *> view.buf, begin, stop, out, before)
        raise
    finally:
        PyBuffer_Release(&view)
    return at, outcome.why, outcome.payload


cdef Py_ssize_t payload_size(const uint8_t *frame, Py_ssize_t size) noexcept:
    """How many bytes of a whole frame are its payload."""
    cdef Header header = scan(frame, size)
    return size - header.size


# ---- around a socket's method ----
#
# Signal handlers run between two steps of the interpreter, and a call of C is one step:
# what `receive` or `send` has done is noted before a handler can raise.

def receive_messages(receive, window, masked, as_list, limit, ready, note, as_utf8=False):
    """Receive once; True if messages came and nothing else. What came is in `note`."""
    cdef Wanted wanted
    cdef Arrival arrival
    cdef bint usual
    wanted.masked = masked
    wanted.as_list = as_list
    wanted.as_utf8 = as_utf8
    wanted.most = INT64_MAX
    wanted.limit = whole(limit, "limit", 0, INT64_MAX)
    if not isinstance(window, bytearray):
        raise TypeError(f"the window has to be a bytearray, not {type(window).__name__}")
    if not isinstance(note, list):
        raise TypeError(f"the note has to be a list, not {type(note).__name__}")
    if note:
        return False
    arrival.count = -1
    arrival.read = False
    try:
        usual = receive_by(receive, window, wanted, ready, &arrival)
    finally:
        if arrival.count >= 0:
            note.append(arrival.count)
        if arrival.read:
            note.extend((arrival.at, arrival.outcome.why, arrival.outcome.payload))
    return bool(usual)


cdef struct Arrival:
    Py_ssize_t count    # bytes that were received; -1 for nothing, not even the end
    bint read           # whether messages were read out of them; where this is, all below:
    Py_ssize_t at       # where reading has stopped
    Py_ssize_t messages
    Outcome outcome


cdef bint receive_by(
    object receive, object window, Wanted wanted, object ready, Arrival *arrival
) except -1:
    """As receive_messages, once its arguments were checked. `arrival` says that nothing came."""
    cdef Py_buffer view
    cdef Py_ssize_t count, size
    cdef list messages = []
    try:
        received = receive(window)
    except BlockingIOError:
        return False
    if received is None:
        return False
    size = PyByteArray_GET_SIZE(window)
    count = whole(received, "the received count", 0, size)
    arrival.count = count
    arrival.outcome.payload = 0
    PyObject_GetBuffer(window, &view, PyBUF_SIMPLE)
    try:
        arrival.at = read_run(
            <uint8_t *> view.buf, 0, count, wanted, messages, &arrival.outcome
        )
        if len(messages) == 1:
            ready.append(messages[0])
        else:
            ready.extend(messages)
    except BaseException:
        put_back(<uint8_t *> view.buf, 0, count, messages, 0)
        raise
    finally:
        PyBuffer_Release(&view)
    arrival.read = True
    arrival.messages = PyList_GET_SIZE(messages)
    return arrival.at == count and 0 < count < size


def send_frame(send, frame, flags, rest):
    """Send a frame at once; True if all of it was taken. Else see `rest`."""
    if not isinstance(frame, bytes):
        raise TypeError(f"the frame has to be bytes, not {type(frame).__name__}")
    if not isinstance(rest, list):
        raise TypeError(f"the rest has to be a list, not {type(rest).__name__}")
    return bool(send_by(send, frame, flags, rest))


cdef bint send_by(object send, bytes frame, object flags, list rest) except -1:
    """As send_frame, once its arguments were checked."""
    cdef Py_ssize_t count, size = PyBytes_GET_SIZE(frame)
    try:
        sent = send(frame, flags)
    except BlockingIOError:
        return False
    count = whole(sent, "the sent count", 0, size)
    if count and count < size:
        rest.append(frame[count:])
    return count == size


# ---- messages in pieces ----

cdef struct Room:
    PyObject *owner     # bytes that nobody else has seen; NULL for none yet
    Py_ssize_t size     # of the owner
    Py_ssize_t used


cdef int open_room(Room *room, object holder, object used) except -1:
    """Take the owner out of a room; close_room puts it back."""
    cdef object owner = None
    if not isinstance(holder, list):
        raise TypeError(f"the room has to be a list, not {type(holder).__name__}")
    if len(<list> holder) > 1:
        raise ValueError(f"the room holds {len(<list> holder)} objects: it has to be one at most")
    if holder:
        owner = (<list> holder)[0]
        if not isinstance(owner, (bytes, bytearray)):
            raise TypeError(f"the room holds a {type(owner).__name__}: it has to be an owner")
    room.owner = NULL
    room.size = 0 if owner is None else len(owner)
    room.used = whole(used, "used", 0, room.size)
    if owner is not None:
        (<list> holder).pop()
    if room.size:
        room.owner = <PyObject *> owner
        Py_INCREF(owner)
        owner = None
        if refcount(room.owner) != 1 or not PyBytes_CheckExact(room.owner):
            replace_owner(room)
    return 0


cdef int replace_owner(Room *room) except -1:
    """Take a copy instead of an owner that somebody else can see."""
    cdef Py_buffer view
    cdef object owner = <object> room.owner
    Py_DECREF(owner)
    room.owner = NULL
    borrow(owner, &view, BUFFER)
    try:
        room.owner = new_bytes(NULL, room.size)
        memcpy(PyBytes_AS_STRING(<object> room.owner), view.buf, room.used)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef int close_room(Room *room, list holder) except -1:
    if room.owner != NULL:
        holder.append(<object> room.owner)
        Py_DECREF(<object> room.owner)
    return 0


cdef int resize_room(Room *room, Py_ssize_t size) except -1:
    cdef PyObject *owner = room.owner
    if owner == NULL:
        room.owner = new_bytes(NULL, size)
    elif WS_HAS_GIL:
        resize_bytes(&room.owner, size)
    else:
        # Python's own allocator, which this build has, would copy as well, and bytes that
        # another thread has made cannot be resized. (Not counted: free-threaded builds alone.)
        room.owner = new_bytes(NULL, size)  # pragma: no cover
        memcpy(  # pragma: no cover
            PyBytes_AS_STRING(<object> room.owner),  # pragma: no cover
            PyBytes_AS_STRING(<object> owner),  # pragma: no cover
            room.used,  # pragma: no cover
        )
        Py_DECREF(<object> owner)  # pragma: no cover
    room.size = size
    return 0


cdef Py_ssize_t spare_for(Py_ssize_t size) noexcept:
    """How much larger than `size` to make a room: an eighth, but not over WS_MOST_SPARE.

    Where that would be too small a part of a large room to keep the time linear, more.
    """
    return max(32, min(size >> 3, WS_MOST_SPARE), size >> WS_SPARE_SHIFT)


cdef int reserve(Room *room, Py_ssize_t length, bint last) except -1:
    """See that so many bytes more fit; the last ones need nothing to spare."""
    cdef Py_ssize_t needed, spare = 0
    if length <= room.size - room.used:
        return 0
    if length > PY_SSIZE_T_MAX - 64 - room.used:
        raise MemoryError  # pragma: no cover - both are in memory: with 32 bits only
    needed = room.used + length
    if not last:
        spare = min(spare_for(needed), PY_SSIZE_T_MAX - 64 - needed)
    return resize_room(room, needed + spare)


cdef void add(Room *room, const uint8_t *data, Py_ssize_t length, uint64_t mask) noexcept:
    """Append a piece of payload, unmasked, for which there is room."""
    cdef uint8_t *to
    if length == 0:
        return  # there may be no owner
    to = <uint8_t *> PyBytes_AS_STRING(<object> room.owner) + room.used
    if mask:
        ws_xor(to, data, length, mask)
    else:
        memcpy(to, data, length)
    room.used += length


cdef struct Run:
    Py_ssize_t stop     # where it ends in the window
    Py_ssize_t size     # of the payloads
    int64_t count
    bint ended          # by the message's last frame


cdef Run find_continuations(
    const uint8_t *data, Py_ssize_t at, Py_ssize_t end, Wanted wanted
) noexcept:
    """The complete continuations at `at` that need no look from the caller."""
    cdef Header header
    cdef Run run
    run.stop = at
    run.size = 0
    run.count = 0
    run.ended = False
    while run.count < wanted.most and not run.ended:
        at = run.stop
        header = scan(data + at, end - at)
        if (
            header.size == 0
            or header.size > end - at
            or data[at] & 0x7F  # reserved, or the opcode of something else
            or header.masked != wanted.masked
            or not header.shortest
            or header.length > <uint64_t> (end - at - header.size)
            or header.length > wanted.limit - <uint64_t> run.size
        ):
            break
        run.stop = at + header.size + <Py_ssize_t> header.length
        run.size += <Py_ssize_t> header.length
        run.count += 1
        run.ended = data[at] >> 7
    return run


cdef void add_continuations(
    Room *room, const uint8_t *data, Py_ssize_t at, Py_ssize_t stop
) noexcept:
    """Append the payloads of a run that was found."""
    cdef Header header
    cdef const uint8_t *payload
    cdef uint64_t mask = 0
    while at < stop:
        header = scan(data + at, stop - at)
        payload = data + at + header.size
        if header.masked:
            mask = ws_mask(payload - 4, 0)
        add(room, payload, header.length, mask)
        at += header.size + <Py_ssize_t> header.length


def read_fragments(window, start, end, masked, limit, most, room, used):
    """Read the run of continuations at the front of window[start:end] into a room."""
    cdef Py_buffer view
    cdef Wanted wanted
    cdef Room place
    cdef Run run
    cdef Py_ssize_t stop, at
    wanted.masked = masked
    if not isinstance(window, bytearray):
        raise TypeError(f"the window has to be a bytearray, not {type(window).__name__}")
    wanted.limit = whole(limit, "limit", 0, INT64_MAX)
    wanted.most = whole(most, "most", 0, INT64_MAX)
    PyObject_GetBuffer(window, &view, PyBUF_SIMPLE)
    try:
        stop = whole(end, "end", 0, view.len)
        at = whole(start, "start", 0, stop)
        run = find_continuations(<uint8_t *> view.buf, at, stop, wanted)
        open_room(&place, room, used)
        try:
            reserve(&place, run.size, run.ended)
            add_continuations(&place, <uint8_t *> view.buf, at, run.stop)
        finally:
            close_room(&place, room)
    finally:
        PyBuffer_Release(&view)
    return run.stop, place.used, run.count, bool(run.ended)


def read_payload(window, start, end, key, offset, room, used):
    """Append window[start:end], a piece of a payload, to what is in a room."""
    cdef Py_buffer view
    cdef Room place
    cdef Py_ssize_t stop, at
    cdef uint64_t mask = 0
    cdef int64_t before = whole(offset, "offset", 0, INT64_MAX)
    if key is not None:
        mask = ws_mask(check_key(key), before)
    if not isinstance(window, bytearray):
        raise TypeError(f"the window has to be a bytearray, not {type(window).__name__}")
    PyObject_GetBuffer(window, &view, PyBUF_SIMPLE)
    try:
        stop = whole(end, "end", 0, view.len)
        at = whole(start, "start", 0, stop)
        open_room(&place, room, used)
        try:
            reserve(&place, stop - at, False)
            add(&place, <uint8_t *> view.buf + at, stop - at, mask)
        finally:
            close_room(&place, room)
    finally:
        PyBuffer_Release(&view)
    return place.used


def seal_room(room, used):
    """What is in a room as bytes, which leaves the room empty."""
    cdef Room place
    cdef object data
    open_room(&place, room, used)
    if place.owner == NULL:
        return b""
    if place.size - place.used > max(32, place.used >> 3):
        try:
            resize_room(&place, place.used)
        except MemoryError:  # pragma: no cover - free-threaded: else nothing is allocated
            close_room(&place, room)  # pragma: no cover
            raise  # pragma: no cover
    elif place.size != place.used:
        # The little that is to spare stays behind the bytes. Given back, it would make the
        # next message, of the same size, need more memory in between than this one leaves:
        # malloc would take it from the system again each time, in fresh pages.
        PyBytes_AS_STRING(<object> place.owner)[place.used] = 0
        set_size(place.owner, place.used)
    data = <object> place.owner
    Py_DECREF(data)
    return data


# ---- large payloads ----

def allocate(size):
    """Room for `size` bytes: its owner, and a writable view that lives no longer than it."""
    cdef int64_t count = whole(size, "size", 0, INT64_MAX)
    cdef bytes owner
    if count > PY_SSIZE_T_MAX - 64:
        raise MemoryError
    # Fresh bytes nobody else has seen: they may be written until they are
    # shown to anybody.  (Of none, b"", there is only one, and nothing to write.)
    owner = PyBytes_FromStringAndSize(NULL, count)
    return owner, PyMemoryView_FromMemory(PyBytes_AS_STRING(owner), count, PyBUF_WRITE)


include "_wssystem.pxi"
include "_wswindow.pxi"
include "_wstls.pxi"
include "_wsparking.pxi"
include "_wschannel.pxi"


# ---- threads ----

def forget_locals():
    """Drop what the thread has in each `threading.local`; see the contract."""
    cdef PyObject *locals_ = PyThreadState_GetDict()
    if locals_ != NULL:
        PyDict_Clear(<object> locals_)


# ---- heads ----

# What a name may have in it (RFC 9110, 5.6.2): 1; what else a target may: 2; a value: 4.
cdef uint8_t KINDS[256]
cdef enum:
    NAME = 1
    TARGET = 2
    VALUE = 4

cdef void note_kinds() noexcept:
    cdef int code
    for code in range(0x20, 0x7F):
        KINDS[code] = VALUE if code == 0x20 else VALUE | TARGET
    KINDS[0x09] = VALUE
    for code in b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz":
        KINDS[code] |= NAME


note_kinds()


cdef inline Py_ssize_t run_of(
    const uint8_t *head, Py_ssize_t at, Py_ssize_t end, uint8_t kind
) noexcept nogil:
    """Where a run of bytes of a kind ends."""
    while at < end and KINDS[head[at]] & kind:
        at += 1
    return at


cdef inline object text_at(const uint8_t *head, Py_ssize_t start, Py_ssize_t end):
    return PyUnicode_DecodeLatin1(<const char *> head + start, end - start, NULL)


def split_request(bytes head not None, dict usual not None, dict joints not None):
    """Take a plain request's head apart; see the contract."""
    cdef const uint8_t *p = <const uint8_t *> PyBytes_AS_STRING(head)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(head)
    cdef Py_ssize_t space, start, stop, at
    cdef dict headers
    cdef object given, name, value, method, target
    space = run_of(p, 0, end, NAME)
    at = run_of(p, space + 1, end, TARGET) if 0 < space < end and p[space] == b" " else 0
    # " HTTP/1.1" and the line's end.
    if at <= space + 1 or end - at < 11 or memcmp(p + at, b" HTTP/1.", 8) != 0:
        return None
    if not (p[at + 8] == b"0" or p[at + 8] == b"1") or p[at + 9] != b"\r" or p[at + 10] != b"\n":
        return None
    method, target = text_at(p, 0, space), text_at(p, space + 1, at)
    at += 11
    headers = {}
    while end - at > 2:
        stop = run_of(p, at, end, NAME)
        if stop == at or stop == end or p[stop] != b":":
            return None
        given = text_at(p, at, stop)
        start = stop + 1
        stop = at = run_of(p, start, end, VALUE)
        if end - at < 2 or p[at] != b"\r" or p[at + 1] != b"\n":
            return None
        at += 2
        while start < stop and (p[start] == b" " or p[start] == b"\t"):
            start += 1
        while stop > start and (p[stop - 1] == b" " or p[stop - 1] == b"\t"):
            stop -= 1
        value = text_at(p, start, stop)
        name = usual.get(given)
        if name is None:
            name = given.lower()
        if name in headers:
            value = joints.get(name, ", ").join((headers[name], value))
        headers[name] = value
    if end - at != 2 or p[at] != b"\r" or p[at + 1] != b"\n":
        return None
    return method, target, headers
