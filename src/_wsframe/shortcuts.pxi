# ---- shortcuts: a connection's calls that can be done at once, without a frame of Python's ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.
#
# Rules:
#
# - A shortcut does what its function does, or nothing: then the function is called.
# - It takes the usual call alone, of one argument of a usual type; the checks of others, and their
#   errors, are the function's.

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

cdef extern from "_wsframe/shortcuts.h":
    ctypedef PyObject *(*ws_shortcut)(PyObject *kept, PyObject *argument) except? NULL
    object ws_method_type()
    object ws_method_with(
        object type, object function, ws_shortcut shortcut, PyObject *fallback, object name,
        object kind
    )

cdef object METHOD = ws_method_type()


@cython.final
cdef class Shortcuts:
    """What the shortcuts of one connection go by; see the contract."""

    cdef Channel channel
    cdef object reader
    cdef object writer

    def __init__(self, Channel channel not None, reader, writer):
        self.channel = channel
        self.reader = reader
        self.writer = writer


cdef PyObject *as_result(object result) noexcept:
    """A result, as C returns one."""
    Py_INCREF(result)
    return <PyObject *> result


cdef PyObject *send_at_once(PyObject *kept, PyObject *message) except? NULL:
    cdef Shortcuts way = <Shortcuts> kept
    return as_result(None) if way.channel.text(<object> message, way.writer) else NULL


cdef PyObject *send_text_at_once(PyObject *kept, PyObject *text) except? NULL:
    cdef Shortcuts way = <Shortcuts> kept
    return as_result(None) if way.channel.utf8(<object> text, way.writer) else NULL


cdef PyObject *send_binary_at_once(PyObject *kept, PyObject *data) except? NULL:
    cdef Shortcuts way = <Shortcuts> kept
    return as_result(None) if way.channel.binary(<object> data, way.writer) else NULL


cdef PyObject *receive_at_once(PyObject *kept, PyObject *timeout) except? NULL:
    cdef Shortcuts way = <Shortcuts> kept
    cdef double seconds = usual_seconds(<object> timeout)
    return as_result(way.channel.next(seconds, way.reader)) if seconds >= 0 else NULL


def shortcut(function):
    """Have the usual calls of a connection's method in C; see the contract."""
    cdef ws_shortcut way
    cdef str name = function.__name__
    cdef tuple defaults = function.__defaults__ or ()
    cdef PyObject *fallback = NULL
    if name == "send":
        way = send_at_once
    elif name == "send_text":
        way = send_text_at_once
    elif name == "send_binary":
        way = send_binary_at_once
    elif name == "receive":
        way = receive_at_once
    else:
        raise ValueError(f"there is no shortcut for {name}()")
    if len(defaults) == function.__code__.co_argcount - 1:  # beside `self` all have one
        fallback = <PyObject *> defaults[0]
    return ws_method_with(METHOD, function, way, fallback, "_shortcuts", Shortcuts)
