# ---- where a task waits that shares its thread with others ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# Rules of this file:
#
# - What is done for each message is here: the loop's callback switches straight to the task.  What
#   is done now and then (another loop, a timer to set) is the subclass's, _network.greenlets.
# - A field is changed before anything is called that may let another task run.
# - A task that need not wait lets the others run all the same, once it has done enough.  It does so
#   before the next thing, not after the last one: what ends its rest, such as a timeout of its own,
#   then comes before a message is sent or taken, and the caller knows that it was not.

from libc.math cimport INFINITY
from libc.stdint cimport INT64_MAX

cdef enum:
    # What is enough; a message that came counts one, and the others so many.
    FAIR = 1024
    A_READ = 32
    A_SEND = 4
    BYTES = 256  # of what is sent, that count one

cdef Py_ssize_t DONE = 0  # by the task that runs, since it was let run
cdef object RESUMED = None  # the task that was let run last


cdef int share_by(Py_ssize_t weight, object rest) except -1:
    """Count what is to be done, and let the other tasks run before it if enough was."""
    global DONE
    if DONE >= FAIR:
        DONE = 0
        rest()
        DONE = 0  # the others have counted too
    DONE += weight
    return 0


def share(weight, rest, /):
    """As share_by."""
    share_by(whole(weight, "weight", 0, INT64_MAX), rest)


def last_resumed():
    """The task that a Place has let run last; None if none has."""
    return RESUMED


cdef class Place:
    """What is the same in every wait of a Parking; see the contract."""

    cdef public double until
    cdef public double fires
    cdef public object hub
    cdef public object watcher
    cdef public object task
    cdef public bint watching
    cdef public bint wakeable
    cdef public bint woken
    cdef public bint late
    cdef object get_hub
    cdef object get_current
    cdef object switch

    def __init__(self, get_hub, get_current, switch):
        self.get_hub = get_hub
        self.get_current = get_current
        self.switch = switch
        self.until = self.fires = INFINITY
        self.watching = self.wakeable = self.woken = self.late = False

    def move(self, hub, /):
        """Have the watcher of another hub."""
        raise NotImplementedError  # pragma: no cover - the subclass's

    def set_timer(self, double until, /):
        """Have the timer fire then."""
        raise NotImplementedError  # pragma: no cover - the subclass's

    cdef unsigned long caller(self) except? 0:
        """The number of the task that calls: an engine with a Place has that of `id`."""
        cdef object task = self.get_current()
        return <unsigned long> <void *> task

    cdef bint wait(self, double until, bint wakeable) except -1:
        global DONE
        if wakeable and self.woken:
            return False
        hub = self.get_hub()
        if hub is not self.hub:
            self.move(hub)
        self.until = until
        self.wakeable = wakeable
        self.late = False
        if until < self.fires:
            self.set_timer(until)
        if not self.watching:
            self.watching = True
            self.watcher.start(self)
        self.task = self.get_current()
        try:
            # Once more: another thread that wakes it now looks for the task after this was set.
            if self.task is hub:
                hub.switch()  # which says that a callback of the loop may not wait
            elif not (wakeable and self.woken):
                self.switch(hub)
        finally:
            self.task = None
            DONE = 0
        return self.late

    def park(self, double until, bint wakeable, /):
        """Wait until something may have come."""
        return bool(self.wait(until, wakeable))

    def __call__(self):
        """The watcher's callback: something has come."""
        global RESUMED
        cdef object task = self.task
        if task is not None:
            RESUMED = task
            self.switch(task)
        elif self.watcher is not None:  # else it is let go of, by another thread
            self.watching = False
            self.watcher.stop()
