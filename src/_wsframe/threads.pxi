# ---- threads ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.

from cpython.object cimport PyObject

cdef extern from "Python.h":
    PyObject *PyThreadState_GetDict()
    void PyDict_Clear(object dictionary)


def forget_locals():
    """Drop what the thread has in each `threading.local`; see the contract."""
    cdef PyObject *locals_ = PyThreadState_GetDict()
    if locals_ != NULL:
        PyDict_Clear(<object> locals_)
