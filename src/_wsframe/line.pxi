# ---- the line: what both ways of a channel share ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# Rules of the channel, in this file, sending.pxi, receiving.pxi and channel.pxi:
#
# - A method of C is one step of the interpreter: no signal handler runs in it, unless it calls
#   Python code or asks for signals (PyErr_CheckSignals).  It asks only where nothing was
#   received that is not noted yet.
# - What a system call has moved is noted before a lock is released or anything else is called.
# - Up to HOLD bytes a call keeps the GIL: letting go of it costs more than such a call, and in a
#   program of many threads a turn behind all others.  What sleeps lets go of it.  So does the send
#   of a thread that has waited here, if other connections are active and wait without the gate: to
#   wake the other end takes microseconds, in which another thread that was woken would find the GIL
#   taken, and sleep again.
# - A descriptor's number is asked for under the lock of its direction, and is -1 before the
#   descriptor is closed (under both): nothing is ever sent to another file of that number.
# - All that is unusual is left to the Python code that is passed in, with the lock held.
# - Fields that are read without the lock that guards them are read and set by ws_get and ws_set.
#
# A channel is one object in layers, one a file: the state, the way out, the way in, and what Python
# sees of all that. Methods of C are final in each, so that a call of them is direct.

from cpython.list cimport PyList_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t

cdef enum:
    NOT_OPEN = 1
    CLOSING = 2
    ORPHANED = 4
    LOOK_DUE = 8
    ALONE = 16
    COMPRESSES = 32
    TIMED = 64


cdef class _Line:
    """One connection as both of its ways see it."""

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
    cdef uint64_t _look_at  # from when on a send is to look, in microseconds, where LOOK_DUE is
    cdef ws_spin spin  # under the lock for reading
    cdef unsigned long sharer  # the thread that waits beside others, without the gate; or 0
    cdef uint32_t seen  # the gate's, by which it counts who is active
    cdef int waker
    cdef int send_flags
    cdef readonly object reading
    cdef readonly object writing
    cdef object _rest
    cdef readonly list tail

    @cython.final
    cdef bint has(self, unsigned long flag) noexcept:
        return (ws_get(&self.flags) & flag) != 0

    @cython.final
    cdef int turn(self, unsigned long flag, bint on) except -1:
        if on:
            ws_turn_on(&self.flags, flag)
        else:
            ws_turn_off(&self.flags, flag)
        return 0

    @cython.final
    cdef int stamp(self, uint64_t *place) except -1:
        if self.has(TIMED):
            ws_note(place, microseconds())
        return 0

    @cython.final
    cdef bint is_to_look(self) except -1:
        """Whether it is time for a sender to look at what has come."""
        return self.has(LOOK_DUE) and microseconds() >= ws_total(&self._look_at)

    @cython.final
    cdef bint nothing_unsent(self) except -1:
        """Whether nothing has to go before a new frame."""
        if self._rest is not None or PyList_GET_SIZE(self.tail) or PyList_GET_SIZE(self.answers):
            return False
        # What a bare socket has not taken is in `tail`; under TLS the stream keeps some.
        return (self.descriptor is not None and self.session is None) or not self.stream.pending
