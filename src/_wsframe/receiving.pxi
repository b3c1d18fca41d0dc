# ---- the way in: messages from a descriptor ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# The rules are in line.pxi.

from cpython.bytearray cimport (
    PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE,
)
from cpython.float cimport PyFloat_AS_DOUBLE
from cpython.long cimport PyLong_AsLongAndOverflow
from cpython.object cimport PyObject_Size
from libc.math cimport INFINITY

cdef double NAP = 0.01      # what SO_RCVTIMEO says: see _network.transport
cdef double LONG = 1.0      # a wait above this gives memory back, and may be a nap too long
cdef double LOOK_UP = 1.0   # for which the thread that hears signals sleeps at a time
cdef double UNWOKEN = 0.1   # for which one sleeps that no descriptor is left to wake


cdef object as_timeout(double seconds):
    return None if seconds == INFINITY else seconds


cdef class _BothWays(_SendingLine):
    """With the way in."""

    @cython.final
    cdef object next_message(self, double seconds, object reader):
        cdef object lock = self.reading
        cdef object message = None
        cdef bint late = False
        if seconds == 0 and self.place is not None:
            share_by(A_READ, self.rest_by)  # a loop that asks
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
            ws_set(&self.who_reads, self.task())
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
        finally:  # see encode_frame
            let_go(lock)  # pragma: no cover

    @cython.final
    cdef unsigned long task(self) except? 0:
        """The number of the task that calls."""
        if self.identity is None:
            return PyThread_get_thread_ident()
        if self.place is not None:
            return self.place.caller()
        return self.identity()

    @cython.final
    cdef object read_by_method(self, double seconds):
        """One call of the stream's method, which may nap; None to go on in Python."""
        cdef Arrival arrival
        cdef bint came = False
        if seconds <= LONG:
            return None
        arrival.count = -1
        arrival.read = False
        try:
            came = receive_by(
                self.receive_by, self.window._data, self.window.wanted, self.window.ready, &arrival
            )
        except OSError as error:
            if error.errno is None:
                raise  # a signal handler's, such as TimeoutError
            self.stream.note_failure(error)
            return None  # the next read meets it again, or the end
        finally:
            self.window.take_note(&arrival, came)
        if arrival.count > 0:
            self.stamp(&self._came)
        if not came:
            return None
        ws_set(&self.was_heard, 1)
        if self.has(CLOSING) or not self.nothing_unsent():
            return None
        return self.window.take_ready()

    @cython.final
    cdef object read_by_descriptor(self, double *seconds, bint *late):
        """Receive, waiting for it; None to go on in Python, or if it is too late."""
        global DONE
        self.window.make_room()
        cdef int fd = <int> ws_get(&self.descriptor.fd) - 1
        cdef bint napping = self.sleeps_first(seconds[0])
        cdef Py_ssize_t count = -EAGAIN if napping else self.read_now(fd)
        cdef double now = 0
        cdef Py_ssize_t more
        cdef object message
        if ws_nothing_there(count):
            if seconds[0] == 0:
                count = WS_LATE
            else:
                now = ws_now()
                count = self.sleep(fd, seconds[0], now, napping)
        message = self.take_in(count, late)
        more = PyObject_Size(self.window.ready)
        self.waits = message is not None and not more
        if self.place is not None:
            DONE += more
        if late[0]:
            seconds[0] = 0
        elif message is None and now:  # what is left of them
            seconds[0] = max(now + seconds[0] - ws_now(), 0)
        return message

    @cython.final
    cdef bint sleeps_first(self, double seconds) except -1:
        """Whether to sleep without having looked what is there."""
        global DONE
        if self.place is None:
            return self.waits and self.naps and seconds > NAP
        if seconds == 0:
            return False
        DONE += A_READ
        return self.waits or DONE >= FAIR

    @cython.final
    cdef object take_in(self, Py_ssize_t count, bint *late):
        """Read what was received; None to go on in Python, or if it is too late."""
        cdef object message
        if count == WS_LATE:
            late[0] = True
            return None
        if count == WS_WOKEN:
            return None
        if count < 0:
            self.stream.note_failure(OSError(-count, os.strerror(-count)))
        if self.session is not None:
            if count > 0:
                count = self.session.decrypt(count, self.window._data, self.stream)
            if count <= 0:
                return None  # at the stream's end too, which Python meets again
        if count > 0:
            self.stamp(&self._came)
        message = self.window.take_in(count, not self.has(CLOSING) and self.nothing_unsent())
        if self.window.is_free():
            ws_set(&self.was_heard, 1)
        return message

    @cython.final
    cdef bytearray landing(self):
        """What is received into."""
        return self.window._data if self.session is None else self.session._cipher

    @cython.final
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

    @cython.final
    cdef Py_ssize_t sleep(
        self, int fd, double seconds, double now, bint napping
    ) except? -1:
        """Wait until something comes, and receive it; `napping`: nothing was looked for yet."""
        cdef Py_ssize_t count
        cdef ws_slot *slot = NULL
        cdef bint company
        if self.place is not None:
            return self.wait_parked(fd, now + seconds)
        company = ws_spin_in_company(&self.spin, <void *> self)
        if WS_HAS_GATE and ws_gate_is_busy(&self.seen, now):
            slot = self.descriptor.place()
        elif not company:
            self.descriptor.give_place()
        self.sharer = PyThread_get_thread_ident() if company and slot == NULL else 0
        if slot == NULL:
            return self.wait_alone(fd, seconds, now)
        if napping:
            count = self.read_now(fd)
            if not ws_nothing_there(count):
                return count
        return self.wait_at_gate(fd, slot, now + seconds)

    @cython.final
    cdef bint is_called(self, Py_ssize_t count) except -1:
        """What a wait without bytes asks for; whether it is over for what the others do."""
        if count == -EINTR or count == WS_LOOK_UP:
            PyErr_CheckSignals()
        return self.has(CLOSING | ORPHANED | ALONE)

    @cython.final
    cdef Py_ssize_t wait_alone(self, int fd, double seconds, double now) except? -1:
        """Wait spinning, in a nap of the socket's, and then in poll."""
        cdef double until = now + seconds
        cdef bint nap = self.naps and seconds > NAP
        cdef bint settled = self.is_settled(seconds)
        cdef bytearray data  # held: it is received into while others run
        cdef Py_ssize_t count
        if self.waits and not self.sharer and ws_spin_is_due(&self.spin):
            count = self.look_out(fd, min(until, now + ws_spin_seconds))
            if not ws_nothing_there(count):
                return count
            # For what was asked for meanwhile: the sleep would only hear what comes now.
            if self.is_called(-EINTR):
                return WS_WOKEN
            nap = nap and until - ws_now() > NAP
        while True:
            data = self.landing()
            count = sleep_once(
                fd, nap, self.waker if settled else -2, data, until, self.slice(UNWOKEN),
                self.sharer != 0,
            )
            nap = False
            if ws_nothing_there(count):
                settled = self.settle(seconds)
            elif count != -EINTR and count != WS_LOOK_UP:
                return count
            if self.is_called(count):
                return WS_WOKEN
            settled = settled and (self.waker >= 0 or count != WS_LOOK_UP)

    @cython.final
    cdef Py_ssize_t look_out(self, int fd, double until) noexcept:
        """Receive what comes until then, without a sleep; -EAGAIN if nothing does."""
        cdef bytearray data = self.landing()  # held: it is received into while others run
        cdef void *to = PyByteArray_AS_STRING(data)
        cdef Py_ssize_t size = PyByteArray_GET_SIZE(data), count
        with nogil:
            count = ws_spin_receive(fd, to, size, until)
        ws_spin_note(&self.spin, not ws_nothing_there(count))
        return count

    @cython.final
    cdef Py_ssize_t wait_parked(self, int fd, double until) except? -1:
        """Wait as a task that shares its thread with others does: they run meanwhile."""
        cdef double slice
        cdef Py_ssize_t count
        cdef bint late
        while True:
            slice = until if self.is_small() else min(until, ws_now() + LONG)
            if self.session is None:
                self.window.lend_room()
            late = self.place.wait(slice, True)
            self.window.make_room()
            if self.is_called(-EAGAIN):
                return WS_WOKEN
            count = self.read_now(fd)
            if not ws_nothing_there(count):
                return count
            if late and slice == until:
                return WS_LATE
            if late:
                self.relax()

    @cython.final
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

    @cython.final
    cdef double slice(self, double unwoken) noexcept:
        """Seconds after which to look up; `unwoken` where no waker is there."""
        if self.waker < 0 and unwoken != INFINITY:
            return unwoken
        return LOOK_UP if PyThread_get_thread_ident() == HEARS_SIGNALS else INFINITY

    @cython.final
    cdef bint is_settled(self, double seconds) noexcept:
        """Whether all is done that is to be done before a wait."""
        return self.waker >= 0 and (seconds <= LONG or self.is_small())

    @cython.final
    cdef bint settle(self, double seconds) except -1:
        """Make what wakes a wait, and give back memory before a long one."""
        if self.waker < 0:
            self.waker = self.stream.waker_number()
        if seconds > LONG:
            self.relax()
        return True

    @cython.final
    cdef bint is_small(self) noexcept:
        """Whether no memory is held but what an idle connection keeps."""
        if self.session is not None and not self.session.is_small():
            return False
        return PyByteArray_GET_SIZE(self.window._data) <= SMALLEST_WINDOW

    @cython.final
    cdef int relax(self) except -1:
        """Give back memory: nothing is in it."""
        if PyByteArray_GET_SIZE(self.window._data) > SMALLEST_WINDOW:
            self.window.data = PyByteArray_FromStringAndSize(NULL, SMALLEST_WINDOW)
        if self.session is not None:
            self.session.relax()
        return 0


cdef Py_ssize_t sleep_once(
    int fd, bint nap, int waker, bytearray data, double until, double slice, bint crowded
) noexcept:
    """Nap, and then wait unless `waker` is -2, without the GIL."""
    cdef void *to = PyByteArray_AS_STRING(data)
    cdef Py_ssize_t size = PyByteArray_GET_SIZE(data), count = -EAGAIN
    with nogil:
        if nap:
            count = ws_nap(fd, to, size)
        if ws_nothing_there(count) and waker > -2:
            count = ws_wait(fd, waker, to, size, until, slice)
        if crowded:
            ws_gate_ask()
    if crowded:
        ws_gate_got()
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


cdef double usual_seconds(object timeout) except? -2:
    """A caller's timeout in seconds; -1 for what is no usual one."""
    cdef int overflow = 0
    cdef double seconds = -1
    if timeout is None:
        return INFINITY
    if type(timeout) is float:
        seconds = PyFloat_AS_DOUBLE(timeout)
    elif type(timeout) is int:
        seconds = PyLong_AsLongAndOverflow(timeout, &overflow)
    return seconds if seconds >= 0 and not overflow else -1


cdef double seconds_of(object timeout, object reader) except? -1:
    """A caller's timeout in seconds; what is no usual one is the reader's to judge."""
    cdef double seconds = usual_seconds(timeout)
    if seconds >= 0:
        return seconds
    timeout = reader.seconds(timeout)
    return INFINITY if timeout is None else <double> timeout
