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

cdef enum:
    NOT_OPEN = 1
    CLOSING = 2
    ORPHANED = 4
    LOOK_DUE = 8
    ALONE = 16
    COMPRESSES = 32
    TIMED = 64

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
    ws_gate_from(whole(active, "active", 0, 64))


use_gate_from(int(os.environ.get("SCRIPTLING_WS_GATE") or "8"))


cdef uint64_t microseconds() except? 0:
    """The time on the clock of time.monotonic()."""
    return <uint64_t> (1e6 * (ws_now() if WS_HAS_DESCRIPTORS else <double> monotonic()))


cdef object as_timeout(double seconds):
    return None if seconds == INFINITY else seconds


@cython.final
cdef class Channel:
    """The quick ways of one connection; see the contract."""

    cdef unsigned long flags
    cdef unsigned long was_heard
    cdef unsigned long who_reads
    cdef Descriptor descriptor
    cdef Session session
    cdef Window window
    cdef object stream
    cdef list answers
    cdef object receive_by
    cdef object send_by
    cdef bint masks
    cdef bint naps
    cdef Place place  # where a task waits that shares its thread, None for a thread
    cdef object rest_by
    cdef object identity  # a callable, None for that of threads
    cdef bint waits  # the last message came alone: nothing is likely to be there yet
    # What was sent, under the lock for writing.
    cdef uint64_t _sent  # messages, each of one frame
    cdef uint64_t _payload  # their bytes, before compression
    cdef uint64_t _wire  # those of their frames
    cdef uint64_t _original  # of what was compressed: the bytes before that, and after
    cdef uint64_t _deflated
    cdef uint64_t _went  # when something was, in microseconds, where TIMED is; 0 for never
    cdef uint64_t _came  # the same for what was received, under the lock for reading
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
        self.place = stream.parking
        self.rest_by = None if self.place is None else stream.parking.rest
        # A function of the interpreter's own: threads are told apart without a call of it.
        self.identity = None if type(identity) is type(len) else identity
        self.waits = False
        self._sent = self._payload = self._wire = self._original = self._deflated = 0
        self._went = self._came = 0
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
    def timed(self):
        return self.has(TIMED)

    @timed.setter
    def timed(self, value):
        self.turn(TIMED, value)

    @property
    def sent(self):
        return ws_total(&self._sent)

    @property
    def payload(self):
        return ws_total(&self._payload)

    @property
    def wire(self):
        return ws_total(&self._wire)

    @property
    def original(self):
        return ws_total(&self._original)

    @property
    def deflated(self):
        return ws_total(&self._deflated)

    @property
    def went(self):
        return ws_total(&self._went) / 1e6

    @property
    def came(self):
        return ws_total(&self._came) / 1e6

    def note_went(self):
        """Note the time, if that is asked for: something was sent by another way."""
        self.stamp(&self._went)

    def note_came(self):
        """Note the time, if that is asked for: something was received by another way."""
        self.stamp(&self._came)

    cdef int stamp(self, uint64_t *place) except -1:
        if self.has(TIMED):
            ws_note(place, microseconds())
        return 0

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
        if self._rest is not None or PyList_GET_SIZE(self.tail) or PyList_GET_SIZE(self.answers):
            return False
        # What a bare socket has not taken is in `tail`; under TLS the stream keeps some.
        return (self.descriptor is not None and self.session is None) or not self.stream.pending

    # -- sending -----------------------------------------------------------

    def send_text(self, text, writer, /):
        """Send a text message, if that can be done at once; whether it was."""
        cdef bytes encoded
        if type(text) is not str or self.has(NOT_OPEN | COMPRESSES):
            return False
        if self.place is not None:
            share_by(A_SEND + len(<str> text) // BYTES, self.rest_by)
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

    def send_utf8(self, data, writer, /):
        """Send a text message that is encoded, if that can be done at once; whether it was."""
        cdef const char *payload
        cdef Py_ssize_t size
        if self.has(NOT_OPEN | COMPRESSES) or type(data) not in (bytes, bytearray):
            return False
        if self.place is not None:
            # Before a look into it, as the others may change it.
            share_by(A_SEND + PyObject_Size(data) // BYTES, self.rest_by)
        if type(data) is bytes:
            payload, size = PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)
        elif WS_HAS_GIL:
            # With the GIL held, nobody can change it until it is copied.
            payload, size = PyByteArray_AS_STRING(data), PyByteArray_GET_SIZE(data)
        else:
            return False  # pragma: no cover - free-threaded builds alone
        if size > MOST or not is_utf8(payload, size):
            return False
        return self.send_payload(TEXT_MESSAGE, payload, size, writer)

    def send_binary(self, data, writer, /):
        """Send a binary message, if that can be done at once; whether it was."""
        if self.has(NOT_OPEN | COMPRESSES):
            return False
        if self.place is not None and type(data) in (bytes, list, tuple, bytearray):
            # Before a look into it, as the others may change it.
            share_by(A_SEND + PyObject_Size(data) // BYTES, self.rest_by)
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
        if count > MOST or not self.nothing_unsent():
            return False
        if self.masks:
            draw_key(key)
        if count > SMALL:
            frame = frame_of_items(BINARY_MESSAGE, values, four)
            return self.move(
                <uint8_t *> PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), frame, writer,
                1, count,
            )
        size = write_header(room, BINARY_MESSAGE, count, four)
        write_items(room + size, values, count)
        if self.masks:
            ws_xor(room + size, room + size, count, ws_mask(key, 0))
        return self.move(room, size + count, None, writer, 1, count)

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
            return self.move(room, size + length, None, writer, 1, length)
        if self.masks:
            draw_key(key)
        frame = frame_of(lead, payload, length, four)
        return self.move(
            <uint8_t *> PyBytes_AS_STRING(frame), PyBytes_GET_SIZE(frame), frame, writer,
            1, length,
        )

    def send(self, frame, writer, messages=1, payload=-1, /):
        """Send a whole frame, or several, if that can be done at once; whether it was."""
        cdef const uint8_t *data
        cdef Py_ssize_t size, carried = payload
        if not isinstance(frame, bytes):
            raise TypeError(f"the frame has to be bytes, not {type(frame).__name__}")
        if self.has(NOT_OPEN):
            return False
        data = <const uint8_t *> PyBytes_AS_STRING(frame)
        size = PyBytes_GET_SIZE(frame)
        if carried < 0:
            carried = payload_size(data, size)
        return self.move(data, size, frame, writer, messages, carried)

    cdef void count(
        self, const uint8_t *data, Py_ssize_t size, uint64_t messages, Py_ssize_t payload
    ) noexcept:
        """Count what was sent. Under the lock for writing."""
        ws_count(&self._sent, messages)
        ws_count(&self._payload, <uint64_t> payload)
        ws_count(&self._wire, <uint64_t> size)
        if size and data[0] & COMPRESSED:  # of several frames none is
            ws_count(&self._original, <uint64_t> payload)
            ws_count(&self._deflated, <uint64_t> payload_size(data, size))

    cdef bint move(
        self, const uint8_t *data, Py_ssize_t size, object frame, object writer,
        uint64_t messages, Py_ssize_t payload
    ) except -1:
        """Send a frame under the lock; False, with nothing sent, where something is in its way."""
        cdef object lock = self.writing
        if not take(lock):
            return False
        try:
            if self.has(NOT_OPEN) or not self.nothing_unsent():
                return False
            if not self.move_it(data, size, frame, writer):
                return False
            self.count(data, size, messages, payload)
            self.stamp(&self._went)
        finally:
            let_go(lock)
        if PyList_GET_SIZE(self.answers) or self.has(LOOK_DUE):
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

    cdef bint move_it(
        self, const uint8_t *data, Py_ssize_t size, object frame, object writer
    ) except -1:
        """Send a frame; False if the writer says that it was not sent."""
        if self.descriptor is not None and self.session is None:
            return self.move_by_descriptor(data, size, frame, writer)
        if frame is None:
            frame = PyBytes_FromStringAndSize(<const char *> data, size)
        if self.descriptor is None or size > HOLD:
            return self.move_by_method(frame, writer)
        return self.move_by_session(frame, writer)

    cdef bint move_by_descriptor(
        self, const uint8_t *data, Py_ssize_t size, object frame, object writer
    ) except -1:
        cdef Py_ssize_t count = self.send_now(data, size)
        if count == size:
            return True
        if count > 0:
            self.tail.append(PyBytes_FromStringAndSize(<const char *> data + count, size - count))
            writer.go_on(None)
            return True
        if frame is None:
            frame = PyBytes_FromStringAndSize(<const char *> data, size)
        if count == 0 or ws_nothing_there(count) or count == -EINTR:
            return writer.go_on(frame) is not False
        error = OSError(-count, os.strerror(-count))
        if not writer.broke(frame, error):
            raise error
        return True

    cdef bint move_by_session(self, bytes frame, object writer) except -1:
        """Encrypt and send; what of it the socket does not take is the stream's to send."""
        cdef bytes sealed
        cdef Py_ssize_t size, count
        try:
            sealed = self.session.encrypt(frame, self.stream)
        except BaseException as error:
            if writer.broke(frame, error):
                return True
            raise
        if sealed is None:
            return writer.go_on(frame) is not False
        size = PyBytes_GET_SIZE(sealed)
        count = self.send_now(PyBytes_AS_STRING(sealed), size)
        if count == size:
            if self.stream.pending:  # an answer of TLS itself has come up
                writer.go_on(None)
            return True
        if count >= 0 or ws_nothing_there(count) or count == -EINTR:
            self.session.unsent = sealed[max(count, 0):]
            self.stream.pending = True
            writer.go_on(None)
        else:
            error = OSError(-count, os.strerror(-count))
            if not writer.broke(frame, error):
                raise error
        return True

    cdef bint move_by_method(self, object frame, object writer) except -1:
        cdef bint whole
        try:
            whole = send_by(self.send_by, frame, self.send_flags, self.tail)
        except BaseException as error:
            if writer.broke(frame, error):
                return True
            raise
        if not whole or self.stream.pending:
            left = None if whole or PyList_GET_SIZE(self.tail) else frame
            return writer.go_on(left) is not False or left is None
        return True

    # -- receiving ---------------------------------------------------------

    def receive(self, timeout, reader, /):
        """Receive the next message, waiting for it."""
        return self.next_message(seconds_of(timeout, reader), reader)

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

    cdef unsigned long task(self) except? 0:
        """The number of the task that calls."""
        if self.identity is None:
            return PyThread_get_thread_ident()
        if self.place is not None:
            return self.place.caller()
        return self.identity()

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
            return None  # the next read meets it again
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

    cdef bint sleeps_first(self, double seconds) except -1:
        """Whether to sleep without having looked what is there."""
        global DONE
        if self.place is None:
            return self.waits and self.naps and seconds > NAP
        if seconds == 0:
            return False
        DONE += A_READ
        return self.waits or DONE >= FAIR

    cdef object take_in(self, Py_ssize_t count, bint *late):
        """Read what was received; None to go on in Python, or if it is too late."""
        cdef object message
        if count == WS_LATE:
            late[0] = True
            return None
        if count == WS_WOKEN:
            return None
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

    cdef Py_ssize_t sleep(
        self, int fd, double seconds, double now, bint napping
    ) except? -1:
        """Wait until something comes, and receive it; `napping`: nothing was looked for yet."""
        cdef Py_ssize_t count
        cdef ws_slot *slot = NULL
        if self.place is not None:
            return self.wait_parked(fd, now + seconds)
        if WS_HAS_GATE and ws_gate_is_busy(<void *> self, now):
            slot = self.descriptor.place()
        if slot == NULL:
            return self.wait_alone(fd, seconds, now + seconds)
        if napping:
            count = self.read_now(fd)
            if not ws_nothing_there(count):
                return count
        return self.wait_at_gate(fd, slot, now + seconds)

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


@cython.final
cdef class Iteration:
    """The messages of a connection as they come, until there are no more."""

    cdef Channel channel
    cdef object reader
    cdef object owner

    def __init__(self, Channel channel not None, reader, owner):
        self.channel = channel
        self.reader = reader
        self.owner = owner

    def __iter__(self):
        return self

    def __next__(self):
        cdef object message = None
        if PyObject_Size(self.channel.window.ready):
            message = self.channel.window.take_ready()
        if message is None:
            message = self.channel.next_message(INFINITY, self.reader)
        if message is None:
            raise StopIteration
        return message


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
