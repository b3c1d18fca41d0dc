# ---- text, which is UTF-8 (RFC 6455 section 8.1) ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.

from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_New
from libc.stdint cimport uint8_t, uint64_t

cdef extern from "_wsframe/loops.h":
    size_t ws_utf8(const uint8_t *data, size_t n, int *cut) noexcept nogil

cdef extern from "Python.h":
    PyObject *decode_utf8 "PyUnicode_DecodeUTF8"(
        const char *data, Py_ssize_t size, const char *errors
    ) noexcept

cdef uint64_t HIGH_BITS = 0x8080808080808080


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
