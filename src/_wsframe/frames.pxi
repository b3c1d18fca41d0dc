# ---- whole frames, made of what a caller sends ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.

from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8String
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

cdef str PAYLOAD = "a str, a bytes-like object, or a list or tuple of ints"


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
