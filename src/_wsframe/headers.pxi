# ---- headers of frames, written and read (RFC 6455 section 5.2) ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.

from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, uint8_t, uint64_t
from libc.string cimport memcpy


cdef struct Header:
    uint64_t length     # of the payload
    Py_ssize_t size     # of the header; 0 until the length is there
    bint masked
    bint shortest       # whether the length is in its shortest form


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


cdef Py_ssize_t payload_size(const uint8_t *frame, Py_ssize_t size) noexcept:
    """How many bytes of a whole frame are its payload."""
    cdef Header header = scan(frame, size)
    return size - header.size
