# ---- messages, read out of a window a run at a time ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint64_t

MORE, SPECIAL, BAD_TEXT, FULL = range(4)

cdef enum:
    WHY_MORE, WHY_SPECIAL, WHY_BAD_TEXT, WHY_FULL


cdef struct Wanted:
    bint masked
    bint as_list
    bint as_utf8
    uint64_t limit
    int64_t most


cdef struct Outcome:
    int why
    Py_ssize_t payload  # bytes of the messages that were read


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
