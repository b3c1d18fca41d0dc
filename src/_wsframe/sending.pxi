# ---- the way out: frames to a descriptor ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# The rules are in line.pxi.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy


cdef bint tell(object writer, object frame, object error) except -1:
    """Have the writer deal with what sending a frame has raised; it is raised if it does not."""
    if not writer.broke(frame, error):
        raise error
    return True


cdef class _SendingLine(_Line):
    """The way out."""

    @cython.final
    cdef bint send_items(self, object values, object writer) except -1:
        """Send a list or tuple as a binary message, if that can be done at once."""
        cdef uint8_t room[SMALL + 14]
        cdef uint8_t key[4]
        cdef uint8_t *four = key if self.masks else NULL
        cdef Py_ssize_t count, size
        cdef bytes frame
        if not self.nothing_unsent():
            return False
        if self.masks:
            draw_key(key)  # before a look at the list: other threads may run
        count = PySequence_Fast_GET_SIZE(values)
        if count > MOST:
            return False
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

    @cython.final
    cdef bint send_payload(
        self, uint8_t lead, const void *payload, Py_ssize_t length, object writer
    ) except -1:
        """Send a message of one frame, if that can be done at once.

        If others can change the payload, `have_key` comes before its place is asked for.
        """
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

    @cython.final
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

    @cython.final
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
        if PyList_GET_SIZE(self.answers) or self.is_to_look():
            writer.look_after()
        return True

    @cython.final
    cdef bint is_sharer(self) noexcept:
        """Whether the thread that calls has waited here last, beside other connections'."""
        return self.sharer and self.sharer == PyThread_get_thread_ident()

    @cython.final
    cdef Py_ssize_t send_now(self, const void *data, Py_ssize_t size) noexcept:
        """Send what can be at once."""
        cdef int fd = <int> ws_get(&self.descriptor.fd) - 1
        cdef Py_ssize_t count
        if size <= HOLD and WS_HAS_GIL and not self.is_sharer():
            return ws_send(fd, data, size)
        with nogil:
            count = ws_send(fd, data, size)
        return count

    @cython.final
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

    @cython.final
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
        return tell(writer, frame, OSError(-count, os.strerror(-count)))

    @cython.final
    cdef bint move_by_session(self, bytes frame, object writer) except -1:
        """Encrypt and send; what of it the socket does not take is the stream's to send."""
        cdef bytes sealed
        cdef Py_ssize_t size, count
        try:
            sealed = self.session.encrypt(frame, self.stream)
        except BaseException as error:
            return tell(writer, frame, error)
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
            return True
        return tell(writer, frame, OSError(-count, os.strerror(-count)))

    @cython.final
    cdef bint move_by_method(self, object frame, object writer) except -1:
        cdef bint whole
        try:
            whole = send_by(self.send_by, frame, self.send_flags, self.tail)
        except BaseException as error:
            return tell(writer, frame, error)
        if not whole or self.stream.pending:
            left = None if whole or PyList_GET_SIZE(self.tail) else frame
            return writer.go_on(left) is not False or left is None
        return True
