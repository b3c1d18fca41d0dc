# ---- where a task waits that shares its thread with others ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# Rules of this file:
#
# - What is done for each message is here: the loop's callback switches straight to the task.  What
#   is done now and then (another loop, a timer to set) is the subclass's, _network.greenlets.
# - A field is changed before anything is called that may let another task run.

cdef object RESUMED = None  # the task that was let run last


def last_resumed():
    """The task that a Place has let run last; None if none has."""
    return RESUMED


cdef class Place:
    """What is the same in every wait of a Parking; see the contract."""

    cdef public double until
    cdef public double fires
    cdef public object hub
    cdef public object watcher
    cdef public object switch
    cdef public object task
    cdef public bint watching
    cdef public bint wakeable
    cdef public bint woken
    cdef public bint late
    cdef object get_hub
    cdef object get_current

    def __init__(self, get_hub, get_current):
        self.get_hub = get_hub
        self.get_current = get_current
        self.until = self.fires = INFINITY
        self.watching = self.wakeable = self.woken = self.late = False

    def move(self, hub, /):
        """Have the watcher and the switch of another hub."""
        raise NotImplementedError  # pragma: no cover - the subclass's

    def set_timer(self, double until, /):
        """Have the timer fire then."""
        raise NotImplementedError  # pragma: no cover - the subclass's

    cdef bint wait(self, double until, bint wakeable) except -1:
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
            self.switch()
        finally:
            self.task = None
        return self.late

    def park(self, double until, bint wakeable, /):
        """Wait until something may have come."""
        return bool(self.wait(until, wakeable))

    def __call__(self):
        """The watcher's callback: something has come."""
        global RESUMED
        cdef object task = self.task
        if task is None:
            self.watching = False
            self.watcher.stop()
        else:
            RESUMED = task
            task.switch()
