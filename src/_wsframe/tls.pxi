# ---- TLS: what a channel encrypts and decrypts ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# Rules of this file, beside those of _network.tls, whose state this is:
#
# - The calls of OpenSSL are those of Python's `_ssl`.  They let go of the GIL, and run signal
#   handlers once their work is done.  So before each is noted what is not known if it raises
#   (`in_doubt`), and in the step in which it returns, what it has done.
# - No Python code runs here, but what such a handler does, and what stands in for `_ssl` in tests.
# - It goes the usual way alone: whole records with data.  For the rest it notes how far it came,
#   in the fields from which the Python code goes on.

from cpython.bytearray cimport (
    PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE,
)
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject_Size
from libc.stdint cimport INT64_MAX

cdef enum:
    WHOLE_RECORD = 16 * 1024    # less than this of ciphertext may be half of a record

cdef object AS_MUCH_AS_FITS = 2 ** 30


@cython.final
cdef class Session:
    """A TLS session between two buffers: the state that its transport and a channel share."""

    cdef object _ssl
    cdef object decrypt_by
    cdef object encrypt_by
    cdef readonly object incoming
    cdef readonly object outgoing
    cdef readonly object lock
    cdef object write_by
    cdef object draw_by
    cdef object acquire_by
    cdef object release_by
    cdef object want_read
    cdef object error
    cdef Py_ssize_t least
    cdef Py_ssize_t most
    # The reader's:
    cdef bytearray _cipher
    cdef public object received
    cdef public Py_ssize_t decrypted
    cdef public Py_ssize_t barren
    cdef public bint in_doubt
    cdef public bint more
    cdef public bint unread
    cdef public bint draining
    cdef public object fault
    cdef public object read_error
    cdef object _ahead
    # The writer's:
    cdef public bytes unsent
    cdef unsigned long _answering

    def __init__(self, ssl, incoming, outgoing, lock, *, least, most, want_read, error):
        self.ssl = ssl
        self.incoming = incoming
        self.outgoing = outgoing
        self.lock = lock
        self.write_by = incoming.write
        self.draw_by = outgoing.read
        self.acquire_by = lock.acquire
        self.release_by = lock.release
        self.want_read = want_read
        self.error = error
        self.least = whole(least, "least", 1, INT64_MAX)
        self.most = whole(most, "most", 1, INT64_MAX)
        self._cipher = PyByteArray_FromStringAndSize(NULL, self.least)
        self.received = None
        self.unread = True
        self.fault = None
        self.read_error = None
        self._ahead = None
        self.unsent = b""

    @property
    def ssl(self):
        return self._ssl

    @ssl.setter
    def ssl(self, value):
        self.decrypt_by = value.read
        self.encrypt_by = value.write
        self._ssl = value

    @property
    def cipher(self):
        return self._cipher

    @cipher.setter
    def cipher(self, bytearray value not None):
        self._cipher = value

    @property
    def ahead(self):
        with cython.critical_section(self):
            return self._ahead

    @ahead.setter
    def ahead(self, value):
        with cython.critical_section(self):
            self._ahead = value

    @property
    def answering(self):
        return bool(ws_get(&self._answering))

    @answering.setter
    def answering(self, value):
        ws_set(&self._answering, bool(value))

    # -- sending -----------------------------------------------------------

    cdef bytes encrypt(self, bytes frame, object stream):
        """Encrypt a frame: all ciphertext that is to be sent; None to do it in Python.

        As it raises, the stream's `uncounted` says whether the frame is under way.
        """
        cdef Py_ssize_t before = -1
        cdef bint held = False, done = False
        try:
            self.acquire_by()
            held = True
            before = self.outgoing.pending
            self.encrypt_by(frame)  # all of it or nothing: this goes to memory
            done = True
            return self.draw_by()
        except self.want_read:
            return None  # the peer renegotiates: Python meets it again
        except BaseException:
            if done or (before >= 0 and self.outgoing.pending > before):
                stream.uncounted = PyBytes_GET_SIZE(frame)
            raise
        finally:  # see encode_frame
            if held:  # pragma: no cover
                self.release_by()  # pragma: no cover

    # -- receiving ---------------------------------------------------------

    def take_in(self, received, /):
        """Hand the ciphertext that was received to OpenSSL."""
        self.hand_over(whole(received, "received", 0, PyByteArray_GET_SIZE(self._cipher)))

    def read_records(self, buffer, /):
        """Decrypt all records that fit; whether the stream ends here."""
        return bool(self.decrypt_records(buffer))

    def relax(self):
        """Let go of a large buffer, if nothing is in it."""
        if not self.is_small() and self.received is None:
            self._cipher = PyByteArray_FromStringAndSize(NULL, self.least)

    cdef bint is_small(self) noexcept:
        return PyByteArray_GET_SIZE(self._cipher) <= self.least

    cdef bint is_usual(self) noexcept:
        """Whether all that has come was decrypted and told, and the next record can be.

        What was received and not handed over is `unread`; so is, for ever, what is behind an
        error or the end.
        """
        return (
            self.decrypted == 0
            and self.barren == 0
            and not (self.in_doubt or self.unread)
            and self._ahead is None
        )

    cdef Py_ssize_t decrypt(self, Py_ssize_t count, bytearray window, object stream) except -1:
        """Decrypt `count` bytes that were received; how many the window has now.

        0 if Python has to go on: with half a record, or with what OpenSSL has raised.
        """
        cdef bint held = False
        self.received = count
        self.unread = True
        try:
            self.acquire_by()
            held = True
            self.hand_over(count)
            self.decrypt_records(window)
        except self.want_read:  # half a record, or one that carries no data
            self.in_doubt = self.unread = False
        except self.error as error:
            self.in_doubt = False
            self.fault = error
        finally:
            if held:
                if self.outgoing.pending:  # an answer of TLS itself, such as to a key update
                    ws_set(&self._answering, True)
                    stream.pending = True
                self.release_by()
        count = self.decrypted
        self.decrypted = 0
        return count

    cdef int hand_over(self, Py_ssize_t count) except -1:
        if count == 0:
            self.incoming.write_eof()
            self.received = None
            self.more = False
            return 0
        if count <= SMALL:
            self.write_by(PyBytes_FromStringAndSize(PyByteArray_AS_STRING(self._cipher), count))
        else:
            self.write_by(memoryview(self._cipher)[:count])
        self.received = None
        self.barren += count
        self.more = count == PyByteArray_GET_SIZE(self._cipher)
        if self.more and count < self.most:
            self._cipher = PyByteArray_FromStringAndSize(NULL, self.most)
        return 0

    cdef bint decrypt_records(self, object buffer) except -1:
        """As read_records: what was decrypted is noted after each."""
        cdef Py_ssize_t size = PyObject_Size(buffer), count, left
        cdef object rest = memoryview(buffer)[self.decrypted:] if self.decrypted else buffer
        while True:
            self.in_doubt = True
            count = self.decrypt_by(AS_MUCH_AS_FITS, rest)
            self.decrypted += count
            self.in_doubt = False
            self.barren = 0
            if count == 0:  # close_notify
                self.more = False
                return self.decrypted == 0
            # Asked first, because an exception costs more than a small record.
            left = self.incoming.pending
            if left == 0 and not (self.decrypted == size and self._ssl.pending()):
                self.unread = self.incoming.eof
                return False
            if self.decrypted == size or (self.more and left < WHOLE_RECORD):
                return False  # no room; or most likely half a record, of which more is there
            rest = memoryview(buffer)[self.decrypted:]
