# ---- what a channel needs of the system: calls and masking keys ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# Rules of this file:
#
# - Masking keys are the system's entropy, each used once, in a forked child others.
# - Fields that are read without the lock that guards them are read and set by ws_get and ws_set.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

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

cdef extern from "_wsframe/system.h":
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

cdef extern from "_wsframe/spin.h":
    ctypedef struct ws_spin:
        uint64_t spun
        uint64_t paid
    double ws_spin_seconds
    void ws_spin_begin(ws_spin *spin) noexcept nogil
    bint ws_spin_in_company(ws_spin *spin, const void *who) noexcept nogil
    bint ws_spin_is_due(ws_spin *spin) noexcept nogil
    void ws_spin_note(ws_spin *spin, bint paid) noexcept nogil
    Py_ssize_t ws_spin_receive(int fd, void *data, size_t size, double until) noexcept nogil

cdef extern from "_wsframe/gate.h":
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
    void ws_gate_ask() noexcept nogil
    void ws_gate_got() noexcept nogil
    bint ws_gate_is_busy(uint32_t *seen, double now) noexcept nogil
    void ws_gate_after_fork() noexcept nogil
    bint ws_gate_open() noexcept nogil
    void ws_gate_from(int active) noexcept nogil

cdef extern from "<errno.h>":
    const int EAGAIN
    const int EINTR

import contextlib
import os
import threading
from time import monotonic

cdef enum:
    KEYS = 4096             # bytes of masking keys that are drawn at a time
    SMALL = 4096            # up to so many bytes a frame is made on the stack
    HOLD = 64 * 1024        # up to so many bytes a system call keeps the GIL
    MOST = 256 * 1024       # above it a message is sent in slices: see _wire.outgoing
    MOST_ACTIVE = 1_000_000
    SMALLEST_WINDOW = 1024  # which an idle connection keeps: see _wire.space


cdef uint64_t microseconds() except? 0:
    """The time on the clock of time.monotonic()."""
    return <uint64_t> (1e6 * (ws_now() if WS_HAS_DESCRIPTORS else <double> monotonic()))


# ---- masking keys ----

cdef uint8_t KEY_POOL[KEYS]
cdef int KEYS_LEFT = 0


cdef int draw_keys() except -1:
    """Fill the pool, if it is empty: other threads run, and others' code may."""
    global KEYS_LEFT
    cdef bytes drawn = os.urandom(KEYS)
    ws_lock_keys()
    if KEYS_LEFT == 0:
        memcpy(KEY_POOL, PyBytes_AS_STRING(drawn), KEYS)
        KEYS_LEFT = KEYS
    ws_unlock_keys()
    return 0


cdef int have_key() except -1:
    """See that with the GIL held the next `draw_key` takes one that is there.

    Before a look into what others may change.
    """
    while WS_HAS_GIL and KEYS_LEFT == 0:
        draw_keys()
    return 0


cdef int draw_key(uint8_t *key) except -1:
    """Four bytes of the system's entropy that were never given out before."""
    global KEYS_LEFT
    while True:
        ws_lock_keys()
        if KEYS_LEFT:
            KEYS_LEFT -= 4
            memcpy(key, KEY_POOL + KEYS_LEFT, 4)
            ws_unlock_keys()
            return 0
        ws_unlock_keys()
        draw_keys()


def next_key():
    """Four bytes that were never given out before."""
    cdef uint8_t key[4]
    draw_key(key)
    return PyBytes_FromStringAndSize(<char *> key, 4)


# ---- signals, forks, the gate, spinning ----

# The ident of the thread that signal handlers interrupt; of the one that forks, in a child.
cdef unsigned long HEARS_SIGNALS = threading.main_thread().ident or 0


def open_gate():
    """Start the gate's dispatcher before it is needed; whether there is one."""
    return bool(ws_gate_open())


def after_fork():
    """In a forked child: draw keys anew, and hear signals in the thread that goes on."""
    global KEYS_LEFT, HEARS_SIGNALS
    ws_gate_after_fork()
    KEYS_LEFT = 0
    HEARS_SIGNALS = PyThread_get_thread_ident()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=after_fork)


def use_gate_from(active):
    """Use the gate from so many active connections on, 0 for never."""
    ws_gate_from(whole(active, "active", 0, MOST_ACTIVE))


def spin_for(microseconds):
    """Spin for so many microseconds before a sleep, 0 for never."""
    global ws_spin_seconds
    ws_spin_seconds = 1e-6 * whole(microseconds, "microseconds", 0, 10**9)


cdef object in_environment(str name, str usual, most):
    """A number that the environment may say."""
    value = os.environ.get(name) or usual
    with contextlib.suppress(ValueError):
        if 0 <= int(value) <= most:
            return int(value)
    raise ValueError(f"{name} in the environment has to be a number, 0 to {most}, not {value!r}")


use_gate_from(in_environment("SCRIPTLING_WS_GATE", "128", MOST_ACTIVE))
# While it spins, a wait hears neither signals nor another thread's close.
spin_for(in_environment("SCRIPTLING_WS_SPIN", "50", 1000))
