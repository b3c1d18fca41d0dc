# ---- masking (RFC 6455 section 5.3) ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.

from cpython.buffer cimport PyBuffer_Release
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport INT64_MAX, uint8_t, uint64_t

# The loops over bytes are C, for the sake of vectors.
cdef extern from "_wsframe/loops.h":
    void ws_learn_cpu() noexcept nogil

ws_learn_cpu()


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


def mask_into(target, data, key, offset=0):
    """XOR a buffer with the 4-byte key into the front of a writable one."""
    cdef Py_buffer view, place
    cdef uint64_t mask = ws_mask(check_key(key), whole(offset, "offset", 0, INT64_MAX))
    borrow(target, &place, BUFFER)
    try:
        if place.readonly:
            raise TypeError("the buffer is read-only")
        borrow(data, &view, BUFFER)
        try:
            if view.len > place.len:
                raise ValueError(f"{view.len} bytes are to be masked into {place.len}")
            ws_xor(<uint8_t *> place.buf, <uint8_t *> view.buf, view.len, mask)
        finally:
            PyBuffer_Release(&view)
    finally:
        PyBuffer_Release(&place)
