# ---- around a socket's method: where there is no descriptor to call the system by ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# Rule: signal handlers run between two steps of the interpreter, and a call of C is one step. What
# `receive` or `send` has done is noted before a handler can raise.

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport INT64_MAX, uint8_t


cdef struct Arrival:
    Py_ssize_t count    # bytes that were received; -1 for nothing, not even the end
    bint read           # whether messages were read out of them; where this is, all below:
    Py_ssize_t at       # where reading has stopped
    Py_ssize_t messages
    Outcome outcome


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
