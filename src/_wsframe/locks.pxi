# ---- locks that C code takes ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# A lock of the system's costs a call and a look at the clock even where it is free.  So what is
# taken is a word; a lock of the system's is the bell for which those wait who find it taken.
# - Who lets go of the word looks for waiters after that, and rings; who is woken clears `rung`
#   before the next try.  So of each letting go with a waiter some waiter hears.
# - The bell is rung once at most until a waiter has heard: `rung` says that it is.  At first it
#   is, for nobody has taken it.

from libc.math cimport INFINITY

cdef double LONGEST = threading.TIMEOUT_MAX  # that the system takes for a lock


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
        finally:  # see encode_frame
            ws_add(&self.waiters, <unsigned long> -1)  # pragma: no cover

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
