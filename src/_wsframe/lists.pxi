# ---- lists of ints, to and from bytes ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.

from cpython.buffer cimport PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.list cimport PyList_New
from cpython.long cimport PyLong_AsLongAndOverflow
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF, Py_REFCNT
from libc.stdint cimport uint8_t, uintptr_t

cdef extern from "_wsframe/loops.h":
    const size_t WS_STRIDE
    PyObject *ws_zero
    void ws_bytes_to_ints(PyObject **to, const uint8_t *source, size_t n) noexcept nogil
    size_t ws_ints_to_bytes(uint8_t *to, PyObject *const *source, size_t n) noexcept nogil

cdef extern from "Python.h":
    bint PyBool_Check(PyObject *value)
    bint PyLong_Check(PyObject *value)
    PyObject **PySequence_Fast_ITEMS(object values)

cdef str ITEMS = "a list or tuple of ints"

# CPython makes the ints 0 to 255 once, and every result in that range is one of them.
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
