# ---- the window: received bytes, on their way to messages ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# Rule: what was received is noted in the step in which it was; what is no whole message stays in
# the window, noted, for the Python code (_wire.incoming).

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF
from libc.stdint cimport INT64_MAX, uint8_t, uint64_t

from collections import deque

cdef extern from "_wsframe/queue.h":
    int ws_use_deque(object type) except -1
    PyObject *ws_take_first(object queue) except? NULL

ws_use_deque(deque)

# What a task that waits beside others has lent: the next one that something comes for takes it.
cdef list SPARE = []

cdef enum:
    SPARES = 64

cdef bytearray NO_ROOM = PyByteArray_FromStringAndSize(NULL, 0)


cdef object owned(PyObject *something):
    """A reference that a call has returned, as Cython has one."""
    result = <object> something
    Py_DECREF(result)
    return result


@cython.final
cdef class Window:
    """Received bytes, and how their messages are to be read."""

    cdef bytearray _data
    cdef object _unfed
    cdef object _stopped
    cdef unsigned long _plain
    cdef uint64_t _received  # messages, each of one frame
    cdef uint64_t _payload  # their bytes
    cdef uint64_t _wire  # bytes that were received, whatever they are
    cdef object ready
    cdef Wanted wanted

    def __init__(self, size, masked, as_list, limit, ready, as_utf8=False):
        self._data = PyByteArray_FromStringAndSize(NULL, whole(size, "size", 1, INT64_MAX))
        self._unfed = None
        self._stopped = None
        self._plain = True
        self._received = 0
        self._payload = 0
        self._wire = 0
        self.ready = ready
        self.wanted.masked = masked
        self.wanted.as_list = as_list
        self.wanted.as_utf8 = as_utf8
        self.wanted.limit = whole(limit, "limit", 0, INT64_MAX)
        self.wanted.most = INT64_MAX

    # As attributes. Without the GIL a getter has to be alone with a setter.

    @property
    def data(self):
        with cython.critical_section(self):
            self.make_room()
            return self._data

    @data.setter
    def data(self, bytearray value not None):
        with cython.critical_section(self):
            self._data = value

    @property
    def unfed(self):
        with cython.critical_section(self):
            return self._unfed

    @unfed.setter
    def unfed(self, value):
        with cython.critical_section(self):
            self._unfed = value

    @property
    def stopped(self):
        with cython.critical_section(self):
            return self._stopped

    @stopped.setter
    def stopped(self, value):
        with cython.critical_section(self):
            self._stopped = value

    @property
    def plain(self):
        return bool(ws_get(&self._plain))

    @plain.setter
    def plain(self, value):
        ws_set(&self._plain, bool(value))

    @property
    def received(self):
        return ws_total(&self._received)

    @property
    def payload(self):
        return ws_total(&self._payload)

    @property
    def wire(self):
        return ws_total(&self._wire)

    cdef int lend_room(self) except -1:
        """Let others use the memory during a wait: nothing is in it."""
        if PyByteArray_GET_SIZE(self._data) != SMALLEST_WINDOW or not WS_HAS_GIL:
            return 0
        if refcount(<PyObject *> self._data) == 1:  # else others have it too
            if PyList_GET_SIZE(SPARE) < SPARES:
                SPARE.append(self._data)
            self._data = NO_ROOM
        return 0

    cdef int make_room(self) except -1:
        """Have memory again."""
        if self._data is NO_ROOM:
            if PyList_GET_SIZE(SPARE):
                self._data = SPARE.pop()
            else:
                self._data = PyByteArray_FromStringAndSize(NULL, SMALLEST_WINDOW)
        return 0

    cdef void count(self, Py_ssize_t messages, Py_ssize_t payload) noexcept:
        """Count messages that were read. Under the lock for reading."""
        ws_count(&self._received, <uint64_t> messages)
        ws_count(&self._payload, <uint64_t> payload)

    cdef bint is_free(self):
        """Whether a frame starts with the next byte, and goes to the window's front."""
        return ws_get(&self._plain) and self._unfed is None

    cdef object take_in(self, Py_ssize_t count, bint direct):
        """Read the messages in the first `count` bytes; what else is there is noted.

        Returns the first message if nothing else came, and it is wanted directly; the others
        are ready then. Else None, and all are.
        """
        cdef Py_buffer view
        cdef Outcome outcome
        cdef Py_ssize_t at = 0
        cdef list messages = []
        cdef bint whole = False
        if count <= 0:
            self.note(0, None)
            return None
        ws_count(&self._wire, <uint64_t> count)
        outcome.payload = 0
        PyObject_GetBuffer(self._data, &view, PyBUF_SIMPLE)
        try:
            at = read_run(<uint8_t *> view.buf, 0, count, self.wanted, messages, &outcome)
            whole = at == count and count < view.len
            if not (whole and direct and PyList_GET_SIZE(messages) == 1):
                self.ready.extend(messages)
            self.count(PyList_GET_SIZE(messages), outcome.payload)
        except BaseException:
            put_back(<uint8_t *> view.buf, 0, count, messages, 0)
            self.note(count, None)
            raise
        finally:
            PyBuffer_Release(&view)
        if not whole:
            self.note(count, (at, count, outcome.why))
        if not (whole and direct):
            return None
        return messages[0] if PyList_GET_SIZE(messages) == 1 else self.take_ready()

    cdef object take_ready(self):
        """The first message that is ready; None if there is none."""
        cdef PyObject *first = ws_take_first(self.ready)
        return None if first == NULL else owned(first)

    cdef int note(self, Py_ssize_t unfed, object stopped) except -1:
        """Note that bytes were received and are not fed yet."""
        self.unfed = unfed
        self.stopped = stopped
        self.plain = False
        return 0

    cdef int take_note(self, Arrival *arrival, bint whole) except -1:
        """Count what receive_by has brought, and note it unless it is `whole` messages."""
        if arrival.count < 0:
            return 0
        ws_count(&self._wire, <uint64_t> arrival.count)
        if arrival.read:
            self.count(arrival.messages, arrival.outcome.payload)
        if not whole:
            self.note(
                arrival.count,
                (arrival.at, arrival.count, arrival.outcome.why) if arrival.read else None,
            )
        return 0
