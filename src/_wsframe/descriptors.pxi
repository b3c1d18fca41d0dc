# ---- descriptors ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# Rule: a descriptor's number is -1 from before it is closed on. Nothing is ever sent to another
# file of that number.

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport INT64_MAX

import weakref

# By the ids of their references: those are equal where they are of one socket.
cdef dict DESCRIPTORS = {}


@cython.final
cdef class Descriptor:
    """The number of a socket's descriptor, -1 from before it is closed on."""

    cdef unsigned long fd       # plus one, so that -1 is 0
    cdef object reference       # to the socket
    cdef ws_slot *slot          # its place at the gate, NULL for none

    @property
    def number(self):
        """The number; -1 once it is not to be used any more."""
        return <int> ws_get(&self.fd) - 1

    def forget(self):
        """Use the number no more: it is about to be closed."""
        self.leave()
        DESCRIPTORS.pop(id(self.reference), None)

    cdef void leave(self) noexcept:
        cdef ws_slot *slot = self.slot
        cdef int number = <int> ws_get(&self.fd) - 1
        self.slot = NULL
        ws_gate_leave(slot, number)
        ws_set(&self.fd, 0)

    cdef void give_place(self) noexcept:
        """Have no place at the gate, until it is used again: there each arrival costs a wake-up."""
        if self.slot != NULL:
            ws_gate_leave(self.slot, <int> ws_get(&self.fd) - 1)
            self.slot = NULL

    cdef ws_slot *place(self) noexcept:
        """Its place at the gate, made if it has none; NULL if there can be none."""
        if self.slot == NULL:
            self.slot = ws_gate_join(<int> ws_get(&self.fd) - 1)
        return self.slot


def _let_go(reference):
    """A socket is let go of: the garbage collector says so before anything of it is closed."""
    cdef Descriptor descriptor = DESCRIPTORS.pop(id(reference), None)
    if descriptor is not None:
        descriptor.leave()


def descriptor_of(sock):
    """What a channel moves bytes by; None where that is the socket's methods."""
    cdef Descriptor descriptor
    cdef int number
    if not WS_HAS_DESCRIPTORS:
        return None  # pragma: no cover
    number = sock.fileno()
    if number < 0:
        raise ValueError("the socket is closed")
    descriptor = Descriptor.__new__(Descriptor)
    descriptor.reference = weakref.ref(sock, _let_go)
    descriptor.fd = number + 1
    DESCRIPTORS[id(descriptor.reference)] = descriptor
    return descriptor


def receive_on(Descriptor descriptor not None, buffer, piece, nap):
    """Receive into a buffer, in pieces, until it is full or nothing more is there."""
    cdef Py_buffer view
    cdef int fd = <int> ws_get(&descriptor.fd) - 1
    cdef size_t most = whole(piece, "piece", 1, INT64_MAX)
    cdef bint sleeps = nap
    cdef Py_ssize_t count
    PyObject_GetBuffer(buffer, &view, PyBUF_WRITABLE)
    try:
        while True:
            with nogil:
                count = ws_receive_on(fd, <char *> view.buf, view.len, most, sleeps)
            if count != -EINTR:
                break
            PyErr_CheckSignals()
            sleeps = False  # signals that come more often than a nap ends would keep it here
    finally:
        PyBuffer_Release(&view)
    if count >= 0:
        return count
    if ws_nothing_there(count):
        return None
    raise OSError(-count, os.strerror(-count))
