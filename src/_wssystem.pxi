# ---- what a channel needs of the system: calls, locks, masking keys, descriptors ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# Rules of this file:
#
# - A descriptor's number is -1 from before it is closed on: nothing is ever sent to another
#   file of that number.
# - A lock is taken by C code without a call, and waited for as threading.Lock is.
# - Masking keys are the system's entropy, each used once, in a forked child others.
# - Fields that are read without the lock that guards them are read and set by ws_get and ws_set.

from cpython.buffer cimport PyBUF_WRITABLE
from cpython.bytearray cimport PyByteArray_FromStringAndSize
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.list cimport PyList_GET_SIZE
from cpython.object cimport PyObject_Size
from libc.math cimport INFINITY

cdef extern from "Python.h":
    ctypedef void *PyThread_type_lock
    ctypedef long long PY_TIMEOUT_T
    ctypedef enum PyLockStatus:
        PY_LOCK_FAILURE
        PY_LOCK_ACQUIRED
        PY_LOCK_INTR
    PyThread_type_lock PyThread_allocate_lock() nogil
    void PyThread_free_lock(PyThread_type_lock lock) nogil
    PyLockStatus PyThread_acquire_lock_timed(
        PyThread_type_lock lock, PY_TIMEOUT_T microseconds, int intr
    ) nogil
    void PyThread_release_lock(PyThread_type_lock lock) nogil
    unsigned long PyThread_get_thread_ident() nogil
    int PyErr_CheckSignals() except -1

cdef extern from "_wsio.h":
    const bint WS_HAS_DESCRIPTORS
    const Py_ssize_t WS_LATE
    const Py_ssize_t WS_WOKEN
    const Py_ssize_t WS_LOOK_UP
    Py_ssize_t ws_send(int fd, const void *data, size_t size) noexcept nogil
    Py_ssize_t ws_receive_now(int fd, void *data, size_t size) noexcept nogil
    Py_ssize_t ws_nap(int fd, void *data, size_t size) noexcept nogil
    Py_ssize_t ws_wait(
        int fd, int waker, void *data, size_t size, double until, double slice
    ) noexcept nogil
    Py_ssize_t ws_receive_on(
        int fd, char *data, size_t size, size_t piece, bint nap
    ) noexcept nogil
    double ws_now() noexcept nogil
    bint ws_nothing_there(Py_ssize_t result) noexcept nogil
    unsigned long ws_get(const unsigned long *place) noexcept nogil
    void ws_set(unsigned long *place, unsigned long value) noexcept nogil
    void ws_turn_on(unsigned long *place, unsigned long bits) noexcept nogil
    void ws_turn_off(unsigned long *place, unsigned long bits) noexcept nogil
    unsigned long ws_swap(unsigned long *place, unsigned long value) noexcept nogil
    void ws_add(unsigned long *place, unsigned long value) noexcept nogil
    unsigned long ws_look(unsigned long *place) noexcept nogil
    uint64_t ws_total(const uint64_t *place) noexcept nogil
    void ws_count(uint64_t *place, uint64_t more) noexcept nogil
    void ws_note(uint64_t *place, uint64_t value) noexcept nogil
    void ws_lock_keys() noexcept nogil
    void ws_unlock_keys() noexcept nogil

cdef extern from "_wsgate.h":
    const bint WS_HAS_GATE
    const Py_ssize_t WS_GO
    const Py_ssize_t WS_TRY
    ctypedef struct ws_slot:
        pass
    ws_slot *ws_gate_join(int fd) noexcept nogil
    void ws_gate_leave(ws_slot *slot, int fd) noexcept nogil
    void ws_gate_clear(ws_slot *slot) noexcept nogil
    void ws_gate_wake(ws_slot *slot) noexcept nogil
    Py_ssize_t ws_gate_wait(ws_slot *slot, double until, double slice) noexcept nogil
    void ws_gate_through() noexcept nogil
    bint ws_gate_is_busy(const void *who, double now) noexcept nogil
    void ws_gate_after_fork() noexcept nogil
    bint ws_gate_open() noexcept nogil
    void ws_gate_from(int active) noexcept nogil

cdef extern from "<errno.h>":
    const int EAGAIN
    const int EINTR

import os
import threading
import weakref
from time import monotonic

cdef enum:
    KEYS = 4096             # bytes of masking keys that are drawn at a time
    SMALL = 4096            # up to so many bytes a frame is made on the stack
    HOLD = 64 * 1024        # up to so many bytes a system call keeps the GIL
    MOST = 256 * 1024       # above it a message is sent in slices: see _wire.outgoing
    SMALLEST_WINDOW = 1024  # which an idle connection keeps: see _wire.incoming

cdef double NAP = 0.01      # what SO_RCVTIMEO says: see _network.transport
cdef double LONG = 1.0      # a wait above this gives memory back, and may be a nap too long
cdef double LOOK_UP = 1.0   # for which the thread that hears signals sleeps at a time
cdef double LONGEST = threading.TIMEOUT_MAX     # that the system takes for a lock
cdef double UNWOKEN = 0.1   # for which one sleeps that no descriptor is left to wake


# ---- locks ----
#
# A lock of the system's costs a call and a look at the clock even where it is free.  So what is
# taken is a word; a lock of the system's is the bell for which those wait who find it taken.
# - Who lets go of the word looks for waiters after that, and rings; who is woken clears `rung`
#   before the next try.  So of each letting go with a waiter some waiter hears.
# - The bell is rung once at most until a waiter has heard: `rung` says that it is.  At first it
#   is, for nobody has taken it.

cdef class Lock:
    """A lock as threading.Lock, which C code takes and releases without a call."""

    cdef PyThread_type_lock bell
    cdef object make_bell  # of those whose tasks are no threads, None for the system's
    cdef object their_bell
    cdef unsigned long taken
    cdef unsigned long waiters
    cdef unsigned long rung

    def __cinit__(self, make_bell=None, *more):
        if more and type(self) is Lock:
            raise TypeError("Lock() takes at most one argument")
        self.rung = 1
        self.make_bell = make_bell
        if make_bell is None:
            self.bell = PyThread_allocate_lock()
            if self.bell == NULL:
                raise MemoryError  # pragma: no cover

    def __dealloc__(self):
        if self.bell != NULL:
            if not self.rung:
                PyThread_release_lock(self.bell)
            PyThread_free_lock(self.bell)

    @cython.final
    cdef bint take(self) noexcept:
        """Take it if it is free; whether it was."""
        return not ws_swap(&self.taken, 1)

    @cython.final
    cdef bint let_go(self) except -1:
        """Release it; whether it was taken."""
        cdef bint was = ws_swap(&self.taken, 0) != 0
        if ws_look(&self.waiters) and not ws_swap(&self.rung, 1):
            if self.bell != NULL:
                PyThread_release_lock(self.bell)
            else:
                self.their_bell.release()
        return was

    @cython.final
    cdef bint wait(self, double seconds) except -1:
        """Take it in so many seconds; whether it could be."""
        cdef double until = ws_now() + seconds
        cdef PyLockStatus status
        if self.bell == NULL and self.their_bell is None:
            self.their_bell = self.make_bell()
        ws_add(&self.waiters, 1)
        try:
            while not self.take():
                if self.bell != NULL:
                    status = self.hear(until)
                    if status != PY_LOCK_INTR:
                        return status == PY_LOCK_ACQUIRED or self.take()
                    PyErr_CheckSignals()
                elif not self.their_bell.acquire(
                    True, None if until == INFINITY else max(until - ws_now(), 0)
                ):
                    return self.take()
                else:
                    ws_swap(&self.rung, 0)
            return True
        finally:
            ws_add(&self.waiters, <unsigned long> -1)

    @cython.final
    cdef PyLockStatus hear(self, double until) noexcept:
        """Wait for the bell until it has brought the lock, or as the system's lock does.

        Without the GIL all the time: who had to get that first would find the lock taken again by
        who has let go of it, each time.
        """
        cdef PY_TIMEOUT_T left = -1
        cdef PyLockStatus status
        with nogil:
            while True:
                if until != INFINITY:
                    left = <PY_TIMEOUT_T> (max(until - ws_now(), 0) * 1e6)
                status = PyThread_acquire_lock_timed(self.bell, left, 1)
                if status != PY_LOCK_ACQUIRED:
                    break
                ws_swap(&self.rung, 0)
                if not ws_swap(&self.taken, 1):
                    break
        return status

    def acquire(self, blocking=True, timeout=-1):
        """Take it, waiting for so many seconds if it is blocking; -1 for ever."""
        cdef double seconds = timeout
        if not blocking and seconds != -1:
            raise ValueError("can't specify a timeout for a non-blocking call")
        if not seconds >= 0 and seconds != -1:  # NaN too
            raise ValueError("timeout value must be a non-negative number")
        if seconds > LONGEST:
            raise OverflowError("timeout value is too large")
        if self.take():
            return True
        if not blocking or seconds == 0:
            return False
        return bool(self.wait(INFINITY if seconds == -1 else seconds))

    def release(self):
        """Let go of it; never waits."""
        if not self.let_go():
            raise RuntimeError("release unlocked lock")

    def locked(self):
        """Whether it is taken, by whichever thread."""
        return bool(ws_get(&self.taken))

    def __enter__(self):
        return self.acquire()

    def __exit__(self, kind, error, traceback):
        self.release()


cdef class RLock(Lock):
    """A lock as threading.RLock, of tasks that are no threads."""

    cdef object get_current
    cdef unsigned long holder  # the task's address, 0 for none: it lives while it holds it
    cdef unsigned long more  # how often the holder has taken it again

    def __cinit__(self, make_bell, get_current):
        self.get_current = get_current

    @cython.final
    cdef unsigned long caller(self) except? 0:
        """The task that calls."""
        cdef object task = self.get_current()
        return <unsigned long> <void *> task

    def acquire(self, blocking=True, timeout=-1):
        """As Lock.acquire; at once for its holder."""
        cdef unsigned long caller = self.caller()
        if ws_get(&self.holder) == caller:
            self.more += 1
            return True
        if not (self.take() or Lock.acquire(self, blocking, timeout)):
            return False
        ws_set(&self.holder, caller)
        return True

    def release(self):
        """Let go of it once; never waits."""
        if ws_get(&self.holder) != self.caller():
            raise RuntimeError("cannot release un-acquired lock")
        if self.more:
            self.more -= 1
            return
        ws_set(&self.holder, 0)
        self.let_go()

    def __enter__(self):
        return self.acquire()

    def __exit__(self, kind, error, traceback):
        self.release()


cdef bint take(object lock) except -1:
    """Take an engine's lock if it is free."""
    if type(lock) is Lock:
        return (<Lock> lock).take()
    return lock.acquire(False)


cdef int let_go(object lock) except -1:
    if type(lock) is Lock:
        (<Lock> lock).let_go()
    else:
        lock.release()
    return 0


# ---- masking keys ----

cdef uint8_t KEY_POOL[KEYS]
cdef int KEYS_LEFT = 0


cdef int draw_key(uint8_t *key) except -1:
    """Four bytes of the system's entropy that were never given out before."""
    global KEYS_LEFT
    cdef bytes drawn = None
    while True:
        ws_lock_keys()
        if drawn is not None and KEYS_LEFT == 0:
            memcpy(KEY_POOL, PyBytes_AS_STRING(drawn), KEYS)
            KEYS_LEFT = KEYS
        if KEYS_LEFT:
            KEYS_LEFT -= 4
            memcpy(key, KEY_POOL + KEYS_LEFT, 4)
            ws_unlock_keys()
            return 0
        ws_unlock_keys()
        drawn = os.urandom(KEYS)


def next_key():
    """Four bytes that were never given out before."""
    cdef uint8_t key[4]
    draw_key(key)
    return PyBytes_FromStringAndSize(<char *> key, 4)


# ---- descriptors ----

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
