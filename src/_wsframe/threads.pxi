# ---- threads ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.

from cpython.object cimport PyObject

cdef extern from *:
    """
    /* From CPython 3.13 on a `threading.local` finds what a thread has in it by the thread's key,
       and drops it when the thread's sentinel goes. So both are let go of here, in the order in
       which a thread's end does that: where there is no key, there may be no sentinel. */
    static void forget_keys(void)
    {
    #if PY_VERSION_HEX >= 0x030D0000
        PyThreadState *state = PyThreadState_Get();
        Py_CLEAR(state->threading_local_key);
        Py_CLEAR(state->threading_local_sentinel);
    #endif
    }
    """
    void forget_keys()

cdef extern from "Python.h":
    PyObject *PyThreadState_GetDict()
    void PyDict_Clear(object dictionary)

cdef extern from "_wsframe/stack.h":
    void ws_give_stack() noexcept
    void ws_take_stack() noexcept


def forget_locals():
    """Drop what the thread has in each `threading.local`; see the contract."""
    forget_keys()
    cdef PyObject *locals_ = PyThreadState_GetDict()
    if locals_ != NULL:
        PyDict_Clear(<object> locals_)


def on_kept_stack(function, argument, /):
    """Call a function as all that a greenlet does; see the contract."""
    ws_give_stack()
    try:
        return function(argument)
    finally:  # see encode_frame
        ws_take_stack()  # pragma: no cover
