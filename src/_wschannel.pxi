# ---- the channel: frames to and from a descriptor ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# Rules of this file:
#
# - A method of C is one step of the interpreter: no signal handler runs in it, unless it calls
#   Python code or asks for signals (PyErr_CheckSignals).  It asks only where nothing was
#   received that is not noted yet.
# - What a system call has moved is noted before a lock is released or anything else is called.
# - Up to HOLD bytes a call keeps the GIL: letting go of it costs more than such a call, and in a
#   program of many threads a turn behind all others.  What sleeps lets go of it.
# - A descriptor's number is asked for under the lock of its direction, and is -1 before the
#   descriptor is closed (under both): nothing is ever sent to another file of that number.
# - All that is unusual is left to the Python code that is passed in, with the lock held.
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

cdef enum:
    KEYS = 4096             # bytes of masking keys that are drawn at a time
    SMALL = 4096            # up to so many bytes a frame is made on the stack
    HOLD = 64 * 1024        # up to so many bytes a system call keeps the GIL
    MOST = 256 * 1024       # above it a message is sent in slices: see _wire.outgoing
    SMALLEST_WINDOW = 4096  # which an idle connection keeps: see _wire.incoming

cdef double NAP = 0.01      # what SO_RCVTIMEO says: see _network.transport
cdef double LONG = 1.0      # a wait above this gives memory back, and may be a nap too long
cdef double LOOK_UP = 1.0   # for which the thread that hears signals sleeps at a time
cdef double LONGEST = threading.TIMEOUT_MAX     # that the system takes for a lock
cdef double UNWOKEN = 0.1   # for which one sleeps that no descriptor is left to wake


# ---- locks ----

cdef class Lock:
    """A lock as threading.Lock, which C code takes and releases without a call."""

    cdef PyThread_type_lock lock
    cdef unsigned long taken

    def __cinit__(self):
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError  # pragma: no cover

    def __dealloc__(self):
        if self.lock != NULL:
            if self.taken:
                PyThread_release_lock(self.lock)
            PyThread_free_lock(self.lock)

    cdef bint take(self) noexcept:
        """Take it if it is free; whether it was."""
        if PyThread_acquire_lock_timed(self.lock, 0, 0) != PY_LOCK_ACQUIRED:
            return False
        ws_set(&self.taken, 1)
        return True

    cdef void let_go(self) noexcept:
        ws_set(&self.taken, 0)
        PyThread_release_lock(self.lock)

    cdef bint wait(self, double seconds) except -1:
        """Take it in so many seconds; whether it could be."""
        cdef double until = ws_now() + seconds
        cdef PY_TIMEOUT_T left
        cdef PyLockStatus status
        while True:
            left = -1 if seconds == INFINITY else <PY_TIMEOUT_T> (max(until - ws_now(), 0) * 1e6)
            with nogil:
                status = PyThread_acquire_lock_timed(self.lock, left, 1)
            if status == PY_LOCK_ACQUIRED:
                ws_set(&self.taken, 1)
                return True
            if status == PY_LOCK_FAILURE:
                return False
            PyErr_CheckSignals()

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
        if not ws_get(&self.taken):
            raise RuntimeError("release unlocked lock")
        self.let_go()

    def locked(self):
        """Whether it is taken, by whichever thread."""
        return bool(ws_get(&self.taken))

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
    finally:
        PyBuffer_Release(&view)
    if count >= 0:
        return count
    if ws_nothing_there(count):
        return None
    raise OSError(-count, os.strerror(-count))


# ---- the window ----

cdef class Window:
    """Received bytes, and how their messages are to be read."""

    cdef bytearray _data
    cdef object _unfed
    cdef object _stopped
    cdef unsigned long _plain
    cdef object ready
    cdef Wanted wanted

    def __init__(self, size, masked, as_list, limit, ready):
        self._data = PyByteArray_FromStringAndSize(NULL, whole(size, "size", 1, INT64_MAX))
        self._unfed = None
        self._stopped = None
        self._plain = True
        self.ready = ready
        self.wanted.masked = masked
        self.wanted.as_list = as_list
        self.wanted.limit = whole(limit, "limit", 0, INT64_MAX)
        self.wanted.most = INT64_MAX

    # As attributes. Without the GIL a getter has to be alone with a setter.

    @property
    def data(self):
        with cython.critical_section(self):
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

    cdef bint is_free(self):
        """Whether a frame starts with the next byte, and goes to the window's front."""
        return ws_get(&self._plain) and self._unfed is None

    cdef object take_in(self, Py_ssize_t count, bint direct):
        """Read the messages in the first `count` bytes; what else is there is noted.

        Returns the first message if nothing else came, and it is wanted directly; the others
        are ready then. Else None, and all are.
        """
        cdef Py_buffer view
        cdef Py_ssize_t at = 0
        cdef int why = WHY_MORE
        cdef list messages = []
        cdef bint whole = False
        if count <= 0:
            self.note(0, None)
            return None
        PyObject_GetBuffer(self._data, &view, PyBUF_SIMPLE)
        try:
            at = read_run(<uint8_t *> view.buf, 0, count, self.wanted, messages, &why)
            whole = at == count and count < view.len
            if not (whole and direct and PyList_GET_SIZE(messages) == 1):
                self.ready.extend(messages)
        except BaseException:
            put_back(<uint8_t *> view.buf, 0, count, messages, 0)
            self.note(count, None)
            raise
        finally:
            PyBuffer_Release(&view)
        if not whole:
            self.note(count, (at, count, why))
        if not (whole and direct):
            return None
        return messages[0] if PyList_GET_SIZE(messages) == 1 else self.take_ready()

    cdef object take_ready(self):
        """The first message that is ready; None if there is none."""
        try:
            return self.ready.popleft()
        except IndexError:  # pragma: no cover - a race
            return None  # another thread took it

    cdef int note(self, Py_ssize_t unfed, object stopped) except -1:
        """Note that bytes were received and are not fed yet."""
        self.unfed = unfed
        self.stopped = stopped
        self.plain = False
        return 0

    cdef bint take_note(self, list note) except -1:
        """Note what receive_messages has; whether there was anything."""
        if not note:
            return False
        self.note(note[0], (note[1], note[0], note[2]) if len(note) > 1 else None)
        return True


# ---- the channel ----

cdef enum:
    NOT_OPEN = 1
    CLOSING = 2
    ORPHANED = 4
    LOOK_DUE = 8
    ALONE = 16
    COMPRESSES = 32

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


def use_gate_from(active):
    """Use the gate from so many active connections on, 0 for never."""
    ws_gate_from(whole(active, "active", 0, 64))


use_gate_from(int(os.environ.get("SCRIPTLING_WS_GATE") or "8"))


cdef object as_timeout(double seconds):
    return None if seconds == INFINITY else seconds


cdef class Channel:
    """The quick ways of one connection; see the contract."""

    cdef unsigned long flags
    cdef unsigned long was_heard
    cdef unsigned long who_reads
    cdef Descriptor descriptor
    cdef Session session
    cdef Window window
    cdef object stream
    cdef object answers
    cdef object receive_by
    cdef object send_by
    cdef bint masks
    cdef bint naps
    cdef int waker
    cdef int send_flags
    cdef readonly object reading
    cdef readonly object writing
    cdef object _rest
    cdef readonly list tail

    def __init__(self, stream, window, answers, *, masks, reading, writing, identity):
        self.stream = stream
        self.window = window
        self.answers = answers
        self.masks = masks
        self.descriptor = stream.descriptor
        self.session = stream.session
        self.naps = stream.naps
        self.receive_by = stream.receive
        self.send_by = stream.send
        self.send_flags = stream.send_flags
        self.waker = -1
        self.reading = reading
        self.writing = writing
        self._rest = None
        self.tail = []

    def renew(self, reading, writing):
        """Have other locks: in a forked child, where nobody would release the old ones."""
        self.reading = reading
        self.writing = writing

    def wake(self):
        """Have a reader that waits at the gate look at the flags, now or when it comes there."""
        if self.descriptor is not None:
            ws_gate_wake(self.descriptor.slot)

    # The flags, as attributes.

    cdef bint has(self, unsigned long flag) noexcept:
        return (ws_get(&self.flags) & flag) != 0

    cdef int turn(self, unsigned long flag, bint on) except -1:
        if on:
            ws_turn_on(&self.flags, flag)
        else:
            ws_turn_off(&self.flags, flag)
        return 0

    @property
    def open(self):
        return not self.has(NOT_OPEN)

    @open.setter
    def open(self, value):
        self.turn(NOT_OPEN, not value)

    @property
    def closing(self):
        return self.has(CLOSING)

    @closing.setter
    def closing(self, value):
        self.turn(CLOSING, value)

    @property
    def orphaned(self):
        return self.has(ORPHANED)

    @orphaned.setter
    def orphaned(self, value):
        self.turn(ORPHANED, value)

    @property
    def look_due(self):
        return self.has(LOOK_DUE)

    @look_due.setter
    def look_due(self, value):
        self.turn(LOOK_DUE, value)

    @property
    def alone(self):
        return self.has(ALONE)

    @alone.setter
    def alone(self, value):
        self.turn(ALONE, value)

    @property
    def compresses(self):
        return self.has(COMPRESSES)

    @compresses.setter
    def compresses(self, value):
        self.turn(COMPRESSES, value)

    @property
    def heard(self):
        return bool(ws_get(&self.was_heard))

    @heard.setter
    def heard(self, value):
        ws_set(&self.was_heard, bool(value))

    @property
    def reader(self):
        return ws_get(&self.who_reads)

    @reader.setter
    def reader(self, value):
        ws_set(&self.who_reads, value)

    @property
    def rest(self):
        with cython.critical_section(self):
            return self._rest

    @rest.setter
    def rest(self, value):
        with cython.critical_section(self):
            self._rest = value

    cdef bint nothing_unsent(self) except -1:
        """Whether nothing has to go before a new frame."""
        if self._rest is not None or PyList_GET_SIZE(self.tail) or PyObject_Size(self.answers):
            return False
        # What a bare socket has not taken is in `tail`; under TLS the stream keeps some.
        return (self.descriptor is not None and self.session is None) or not self.stream.pending

    # -- sending -----------------------------------------------------------

    def send_text(self, text, writer, /):
        """Send a text message, if that can be done at once; whether it was."""
        cdef bytes encoded
        if type(text) is not str or self.has(NOT_OPEN | COMPRESSES):
            return False
        if PyUnicode_IS_COMPACT_ASCII(text):
            return self.send_payload(
                TEXT_MESSAGE, PyUnicode_DATA(text), len(<str> text), writer
            )
        if len(<str> text) > MOST:
            return False
        try:
            encoded = PyUnicode_AsUTF8String(text)
        except UnicodeEncodeError:
            return False
        return self.send_payload(
            TEXT_MESSAGE, PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded), writer
        )

    def send_binary(self, data, writer, /):
        """Send a binary message, if that can be done at once; whether it was."""
        if self.has(NOT_OPEN | COMPRESSES):
            return False
        if type(data) is bytes:
            return self.send_payload(
                BINARY_MESSAGE, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), writer
            )
        if type(data) is list or type(data) is tuple:
            return self.send_items(data, writer)
        if WS_HAS_GIL and type(data) is bytearray:
            # With the GIL held, nobody can resize it while it is copied.
            return self.send_payload(
                BINARY_MESSAGE, PyByteArray_AS_STRING(data), PyByteArray_GET_SIZE(data), writer
            )
        return False

    cdef bint send_items(self, object values, object writer) except -1:
        """As send_binary, of a list or tuple."""
        cdef uint8_t room[SMALL + 14]
        cdef uint8_t key[4]
        cdef uint8_t *four = key if self.masks else NULL
        cdef Py_ssize_t count = PySequence_Fast_GET_SIZE(values), size
        cdef bytes frame
        if count > MOST:
            return False
        if self.masks:
            draw_key(key)
        if count > SMALL:
            frame = frame_of_items(BINARY_MESSAGE, values, four)
            return self.move(
                <uint8_t *> PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), frame, writer
            )
        size = write_header(room, BINARY_MESSAGE, count, four)
        write_items(room + size, values, count)
        if self.masks:
            ws_xor(room + size, room + size, count, ws_mask(key, 0))
        return self.move(room, size + count, None, writer)

    cdef bint send_payload(
        self, uint8_t lead, const void *payload, Py_ssize_t length, object writer
    ) except -1:
        """Send a message of one frame, if that can be done at once."""
        cdef uint8_t room[SMALL + 14]
        cdef uint8_t key[4]
        cdef uint8_t *four = key if self.masks else NULL
        cdef Py_ssize_t size
        cdef bytes frame
        if length > MOST:
            return False
        if length <= SMALL:
            if self.masks:
                draw_key(key)
            size = write_header(room, lead, length, four)
            if self.masks:
                ws_xor(room + size, <const uint8_t *> payload, length, ws_mask(key, 0))
            else:
                memcpy(room + size, payload, length)
            return self.move(room, size + length, None, writer)
        if self.masks:
            draw_key(key)
        frame = frame_of(lead, payload, length, four)
        return self.move(
            <uint8_t *> PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), frame, writer
        )

    def send(self, frame, writer, /):
        """Send a whole frame, if that can be done at once; whether it was."""
        if not isinstance(frame, bytes):
            raise TypeError(f"the frame has to be bytes, not {type(frame).__name__}")
        if self.has(NOT_OPEN):
            return False
        return self.move(
            <uint8_t *> PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), frame, writer
        )

    cdef bint move(
        self, const uint8_t *data, Py_ssize_t size, object frame, object writer
    ) except -1:
        """Send a frame under the lock; False, with nothing sent, where something is in its way."""
        cdef object lock = self.writing
        if not take(lock):
            return False
        try:
            if self.has(NOT_OPEN) or not self.nothing_unsent():
                return False
            if self.descriptor is not None and self.session is None:
                self.move_by_descriptor(data, size, frame, writer)
            else:
                if frame is None:
                    frame = PyBytes_FromStringAndSize(<const char *> data, size)
                if self.descriptor is None or size > HOLD:
                    self.move_by_method(frame, writer)
                else:
                    self.move_by_session(frame, writer)
        finally:
            let_go(lock)
        if PyObject_Size(self.answers) or self.has(LOOK_DUE):
            writer.look_after()
        return True

    cdef Py_ssize_t send_now(self, const void *data, Py_ssize_t size) noexcept:
        """Send what can be at once."""
        cdef int fd = <int> ws_get(&self.descriptor.fd) - 1
        cdef Py_ssize_t count
        if size <= HOLD and WS_HAS_GIL:
            return ws_send(fd, data, size)
        with nogil:
            count = ws_send(fd, data, size)
        return count

    cdef int move_by_descriptor(
        self, const uint8_t *data, Py_ssize_t size, object frame, object writer
    ) except -1:
        cdef Py_ssize_t count = self.send_now(data, size)
        if count == size:
            return 0
        if count > 0:
            self.tail.append(PyBytes_FromStringAndSize(<const char *> data + count, size - count))
            writer.go_on(None)
            return 0
        if frame is None:
            frame = PyBytes_FromStringAndSize(<const char *> data, size)
        if count == 0 or ws_nothing_there(count) or count == -EINTR:
            writer.go_on(frame)
        else:
            error = OSError(-count, os.strerror(-count))
            if not writer.broke(frame, error):
                raise error
        return 0

    cdef int move_by_session(self, bytes frame, object writer) except -1:
        """Encrypt and send; what of it the socket does not take is the stream's to send."""
        cdef bytes sealed
        cdef Py_ssize_t size, count
        try:
            sealed = self.session.encrypt(frame, self.stream)
        except BaseException as error:
            if writer.broke(frame, error):
                return 0
            raise
        if sealed is None:
            writer.go_on(frame)
            return 0
        size = PyBytes_GET_SIZE(sealed)
        count = self.send_now(PyBytes_AS_STRING(sealed), size)
        if count == size:
            if self.stream.pending:  # an answer of TLS itself has come up
                writer.go_on(None)
            return 0
        if count >= 0 or ws_nothing_there(count) or count == -EINTR:
            self.session.unsent = sealed[max(count, 0):]
            self.stream.pending = True
            writer.go_on(None)
        else:
            error = OSError(-count, os.strerror(-count))
            if not writer.broke(frame, error):
                raise error
        return 0

    cdef int move_by_method(self, object frame, object writer) except -1:
        cdef bint whole
        try:
            whole = send_by(self.send_by, frame, self.send_flags, self.tail)
        except BaseException as error:
            if writer.broke(frame, error):
                return 0
            raise
        if not whole or self.stream.pending:
            writer.go_on(None if whole or PyList_GET_SIZE(self.tail) else frame)
        return 0

    # -- receiving ---------------------------------------------------------

    def receive(self, timeout, reader, /):
        """Receive the next message, waiting for it."""
        cdef double seconds = seconds_of(timeout, reader)
        cdef object lock = self.reading
        cdef object message = None
        cdef bint late = False
        if not take(lock):
            return reader.receive_waiting(as_timeout(seconds))
        try:
            if (
                not self.window.is_free()
                or self.has(CLOSING | ORPHANED | ALONE)
                or PyObject_Size(self.window.ready)
                or not self.nothing_unsent()
            ):
                return reader.receive(as_timeout(seconds), seconds > LONG)
            ws_set(&self.who_reads, PyThread_get_thread_ident())
            try:
                if self.descriptor is None or not (
                    self.session is None or self.session.is_usual()
                ):
                    message = self.read_by_method(seconds)
                else:
                    message = self.read_by_descriptor(&seconds, &late)
            finally:
                ws_set(&self.who_reads, 0)
                if self.has(ORPHANED):
                    reader.leave()
            if message is not None:
                return message
            if late and not self.has(CLOSING) and self.nothing_unsent():
                return None
            return reader.receive(as_timeout(seconds), seconds > LONG)
        finally:
            let_go(lock)

    cdef object read_by_method(self, double seconds):
        """One call of the stream's method, which may nap; None to go on in Python."""
        cdef list note = []
        cdef bint came
        if seconds <= LONG:
            return None
        try:
            came = receive_by(
                self.receive_by, self.window._data, self.window.wanted, self.window.ready, note
            )
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            return None  # the next read meets it again
        finally:
            self.window.take_note(note)
        if not came:
            return None
        ws_set(&self.was_heard, 1)
        if self.has(CLOSING) or not self.nothing_unsent():
            return None
        return self.window.take_ready()

    cdef object read_by_descriptor(self, double *seconds, bint *late):
        """Receive, waiting for it; None to go on in Python, or if it is too late."""
        cdef int fd = <int> ws_get(&self.descriptor.fd) - 1
        cdef Py_ssize_t count = self.read_now(fd)
        cdef object message
        if ws_nothing_there(count):
            count = WS_LATE if seconds[0] == 0 else self.sleep(fd, seconds)
        if count == WS_LATE:
            late[0] = True
            seconds[0] = 0
            return None
        if count == WS_WOKEN:
            return None
        if self.session is not None:
            if count > 0:
                count = self.session.decrypt(count, self.window._data, self.stream)
            if count <= 0:
                return None  # at the stream's end too, which Python meets again
        message = self.window.take_in(count, not self.has(CLOSING) and self.nothing_unsent())
        if self.window.is_free():
            ws_set(&self.was_heard, 1)
        return message

    cdef bytearray landing(self):
        """What is received into."""
        return self.window._data if self.session is None else self.session._cipher

    cdef Py_ssize_t read_now(self, int fd) noexcept:
        """Receive what is there."""
        cdef bytearray data = self.landing()
        cdef void *to = PyByteArray_AS_STRING(data)
        cdef Py_ssize_t size = PyByteArray_GET_SIZE(data), count
        ws_gate_clear(self.descriptor.slot)
        if size <= HOLD and WS_HAS_GIL:
            return ws_receive_now(fd, to, size)
        with nogil:
            count = ws_receive_now(fd, to, size)
        return count

    cdef Py_ssize_t sleep(self, int fd, double *seconds) except? -1:
        """Wait until something comes, and receive it; `seconds` becomes what is left."""
        cdef double until = INFINITY
        cdef Py_ssize_t count
        cdef ws_slot *slot = NULL
        if seconds[0] != INFINITY:
            until = ws_now() + seconds[0]
        if WS_HAS_GATE and ws_gate_is_busy(<void *> self, ws_now()):
            slot = self.descriptor.place()
        if slot != NULL:
            count = self.wait_at_gate(fd, slot, until)
        else:
            count = self.wait_alone(fd, seconds[0], until)
        if until != INFINITY:
            seconds[0] = max(until - ws_now(), 0)
        return count

    cdef bint is_called(self, Py_ssize_t count) except -1:
        """What a wait without bytes asks for; whether it is over for what the others do."""
        if count == -EINTR or count == WS_LOOK_UP:
            PyErr_CheckSignals()
        return self.has(CLOSING | ORPHANED | ALONE)

    cdef Py_ssize_t wait_alone(self, int fd, double seconds, double until) except? -1:
        """Wait in a nap of the socket's, and then in poll."""
        cdef bint nap = self.naps and seconds > NAP
        cdef bint settled = self.is_settled(seconds)
        cdef bytearray data  # held: it is received into while others run
        cdef Py_ssize_t count
        while True:
            data = self.landing()
            count = sleep_once(
                fd, nap, self.waker if settled else -2, data, until, self.slice(UNWOKEN)
            )
            nap = False
            if ws_nothing_there(count):
                settled = self.settle(seconds)
            elif count != -EINTR and count != WS_LOOK_UP:
                return count
            if self.is_called(count):
                return WS_WOKEN
            settled = settled and (self.waker >= 0 or count != WS_LOOK_UP)

    cdef Py_ssize_t wait_at_gate(self, int fd, ws_slot *slot, double until) except? -1:
        """Wait for this thread's turn."""
        cdef bytearray data  # held: it is received into while others run
        cdef Py_ssize_t count
        cdef double slice
        while True:
            data = self.landing()
            slice = self.slice(INFINITY)
            if not self.is_small():
                slice = LONG  # after which memory is given back
            count = pass_gate(fd, slot, data, until, slice)
            if count != -EINTR and count != WS_LOOK_UP and not ws_nothing_there(count):
                return count
            if self.is_called(count):
                return WS_WOKEN
            if count == WS_LOOK_UP:
                self.relax()

    cdef double slice(self, double unwoken) noexcept:
        """Seconds after which to look up; `unwoken` where no waker is there."""
        if self.waker < 0 and unwoken != INFINITY:
            return unwoken
        return LOOK_UP if PyThread_get_thread_ident() == HEARS_SIGNALS else INFINITY

    cdef bint is_settled(self, double seconds) noexcept:
        """Whether all is done that is to be done before a wait."""
        return self.waker >= 0 and (seconds <= LONG or self.is_small())

    cdef bint settle(self, double seconds) except -1:
        """Make what wakes a wait, and give back memory before a long one."""
        if self.waker < 0:
            self.waker = self.stream.waker_number()
        if seconds > LONG:
            self.relax()
        return True

    cdef bint is_small(self) noexcept:
        """Whether no memory is held but what an idle connection keeps."""
        if self.session is not None and not self.session.is_small():
            return False
        return PyByteArray_GET_SIZE(self.window._data) <= SMALLEST_WINDOW

    cdef int relax(self) except -1:
        """Give back memory: nothing is in it."""
        if PyByteArray_GET_SIZE(self.window._data) > SMALLEST_WINDOW:
            self.window.data = PyByteArray_FromStringAndSize(NULL, SMALLEST_WINDOW)
        if self.session is not None:
            self.session.relax()
        return 0


cdef Py_ssize_t sleep_once(
    int fd, bint nap, int waker, bytearray data, double until, double slice
) noexcept:
    """Nap, and then wait unless `waker` is -2, without the GIL."""
    cdef void *to = PyByteArray_AS_STRING(data)
    cdef Py_ssize_t size = PyByteArray_GET_SIZE(data), count = -EAGAIN
    with nogil:
        if nap:
            count = ws_nap(fd, to, size)
        if ws_nothing_there(count) and waker > -2:
            count = ws_wait(fd, waker, to, size, until, slice)
    return count


cdef Py_ssize_t pass_gate(
    int fd, ws_slot *slot, bytearray data, double until, double slice
) noexcept:
    """Wait at the gate and receive, without the GIL, and let the next one start."""
    cdef void *to = PyByteArray_AS_STRING(data)
    cdef Py_ssize_t size = PyByteArray_GET_SIZE(data), count
    cdef bint granted
    with nogil:
        count = ws_gate_wait(slot, until, slice)
        granted = count == WS_GO
        if granted or count == WS_TRY:
            count = ws_receive_now(fd, to, size)
    if granted:
        ws_gate_through()
    return count


cdef double seconds_of(object timeout, object reader) except? -1:
    """A caller's timeout in seconds; what is no usual one is the reader's to judge."""
    cdef int overflow = 0
    cdef double seconds = -1
    if timeout is None:
        return INFINITY
    if type(timeout) is float:
        seconds = PyFloat_AS_DOUBLE(timeout)
    elif type(timeout) is int:
        seconds = PyLong_AsLongAndOverflow(timeout, &overflow)
    if seconds >= 0 and not overflow:
        return seconds
    timeout = reader.seconds(timeout)
    return INFINITY if timeout is None else <double> timeout
