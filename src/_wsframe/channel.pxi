# ---- the channel: what Python sees of it ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# The rules are in line.pxi.
#
# All that Python calls is defined in the final class, not in the ones below it: CPython calls a
# method of C the quick way only where the object's type is the one that has defined it.

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject_Size
from cpython.unicode cimport PyUnicode_AsUTF8String
from libc.math cimport INFINITY
from libc.stdint cimport uint8_t


@cython.final
cdef class Channel(_BothWays):
    """The quick ways of one connection; see the contract."""

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
        self._went = self._came = self._look_at = 0
        self.receive_by = stream.receive
        self.send_by = stream.send
        self.send_flags = stream.send_flags
        ws_spin_begin(&self.spin)
        self.sharer = 0
        self.seen = 0
        self.waker = -1
        self.reading = reading
        self.writing = writing
        self._rest = None
        self.tail = []

    # -- the calls, from C --

    cdef bint text(self, object text, object writer) except -1:
        """Send a text message, if that can be done at once; whether it was."""
        cdef bytes encoded
        if type(text) is not str or self.has(NOT_OPEN | COMPRESSES) or len(<str> text) > MOST:
            return False
        if self.place is not None:
            share_by(A_SEND + len(<str> text) // BYTES, self.rest_by)
        if PyUnicode_IS_COMPACT_ASCII(text):
            return self.send_payload(
                TEXT_MESSAGE, PyUnicode_DATA(text), len(<str> text), writer
            )
        try:
            encoded = PyUnicode_AsUTF8String(text)
        except UnicodeEncodeError:
            return False
        return self.send_payload(
            TEXT_MESSAGE, PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded), writer
        )

    cdef bint utf8(self, object data, object writer) except -1:
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
            if self.masks:
                have_key()
            payload, size = PyByteArray_AS_STRING(data), PyByteArray_GET_SIZE(data)
        else:
            return False  # pragma: no cover - free-threaded builds alone
        if size > MOST or not is_utf8(payload, size):
            return False
        return self.send_payload(TEXT_MESSAGE, payload, size, writer)

    cdef bint binary(self, object data, object writer) except -1:
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
            if self.masks:
                have_key()
            return self.send_payload(
                BINARY_MESSAGE, PyByteArray_AS_STRING(data), PyByteArray_GET_SIZE(data), writer
            )
        return False

    cdef object next(self, double seconds, object reader):
        """The next message: one that is ready, or one that comes."""
        cdef object message = self.window.take_ready()
        return self.next_message(seconds, reader) if message is None else message

    # -- the same, from Python --

    def send_text(self, text, writer, /):
        """Send a text message, if that can be done at once; whether it was."""
        return self.text(text, writer)

    def send_utf8(self, data, writer, /):
        """Send a text message that is encoded, if that can be done at once; whether it was."""
        return self.utf8(data, writer)

    def send_binary(self, data, writer, /):
        """Send a binary message, if that can be done at once; whether it was."""
        return self.binary(data, writer)

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

    def receive(self, timeout, reader, /):
        """Receive the next message, waiting for it."""
        return self.next_message(seconds_of(timeout, reader), reader)

    def renew(self, reading, writing):
        """Have other locks: in a forked child, where nobody would release the old ones."""
        self.reading = reading
        self.writing = writing

    def wake(self):
        """Have a reader that waits at the gate look at the flags, now or when it comes there."""
        if self.descriptor is not None:
            ws_gate_wake(self.descriptor.slot)

    # -- the flags, and what is counted --

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
    def look_at(self):
        return ws_total(&self._look_at) / 1e6

    @look_at.setter
    def look_at(self, double value):
        ws_note(&self._look_at, <uint64_t> (1e6 * value))

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

    @property
    def spins(self):
        return ws_total(&self.spin.spun), ws_total(&self.spin.paid)

    def note_went(self):
        """Note the time, if that is asked for: something was sent by another way."""
        self.stamp(&self._went)

    def note_came(self):
        """Note the time, if that is asked for: something was received by another way."""
        self.stamp(&self._came)

    @property
    def rest(self):
        with cython.critical_section(self):
            return self._rest

    @rest.setter
    def rest(self, value):
        with cython.critical_section(self):
            self._rest = value


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
        cdef object message = self.channel.next(INFINITY, self.reader)
        if message is None:
            raise StopIteration
        return message
