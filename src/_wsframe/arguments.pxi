# ---- arguments: what a caller passes, checked before anything is done with it ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.

from cpython.buffer cimport PyBUF_FULL_RO, PyBuffer_IsContiguous, PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_Clear, PyErr_ExceptionMatches
from cpython.long cimport PyLong_AsLongLongAndOverflow
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t

cdef extern from "Python.h":
    # With the error left to the caller: a try statement costs as much as the rest.
    int get_buffer "PyObject_GetBuffer"(object data, Py_buffer *view, int flags) noexcept

cdef str BUFFER = "a bytes-like object"


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
