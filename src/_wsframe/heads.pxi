# ---- heads of plain HTTP requests (RFC 9112 section 2.1) ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

cdef extern from "Python.h":
    object PyUnicode_DecodeLatin1(const char *text, Py_ssize_t size, const char *errors)

# What a name may have in it (RFC 9110, 5.6.2): 1; what else a target may: 2; a value: 4.
cdef uint8_t KINDS[256]
cdef enum:
    NAME = 1
    TARGET = 2
    VALUE = 4

cdef void note_kinds() noexcept:
    cdef int code
    for code in range(0x20, 0x7F):
        KINDS[code] = VALUE if code == 0x20 else VALUE | TARGET
    KINDS[0x09] = VALUE
    for code in b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz":
        KINDS[code] |= NAME


note_kinds()


cdef inline Py_ssize_t run_of(
    const uint8_t *head, Py_ssize_t at, Py_ssize_t end, uint8_t kind
) noexcept nogil:
    """Where a run of bytes of a kind ends."""
    while at < end and KINDS[head[at]] & kind:
        at += 1
    return at


cdef inline object text_at(const uint8_t *head, Py_ssize_t start, Py_ssize_t end):
    return PyUnicode_DecodeLatin1(<const char *> head + start, end - start, NULL)


def split_request(bytes head not None, dict usual not None, dict joints not None):
    """Take a plain request's head apart; see the contract."""
    cdef const uint8_t *p = <const uint8_t *> PyBytes_AS_STRING(head)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(head)
    cdef Py_ssize_t space, start, stop, at
    cdef dict headers
    cdef object given, name, value, method, target
    space = run_of(p, 0, end, NAME)
    at = run_of(p, space + 1, end, TARGET) if 0 < space < end and p[space] == b" " else 0
    # " HTTP/1.1" and the line's end.
    if at <= space + 1 or end - at < 11 or memcmp(p + at, b" HTTP/1.", 8) != 0:
        return None
    if not (p[at + 8] == b"0" or p[at + 8] == b"1") or p[at + 9] != b"\r" or p[at + 10] != b"\n":
        return None
    method, target = text_at(p, 0, space), text_at(p, space + 1, at)
    at += 11
    headers = {}
    while end - at > 2:
        stop = run_of(p, at, end, NAME)
        if stop == at or stop == end or p[stop] != b":":
            return None
        given = text_at(p, at, stop)
        start = stop + 1
        stop = at = run_of(p, start, end, VALUE)
        if end - at < 2 or p[at] != b"\r" or p[at + 1] != b"\n":
            return None
        at += 2
        while start < stop and (p[start] == b" " or p[start] == b"\t"):
            start += 1
        while stop > start and (p[stop - 1] == b" " or p[stop - 1] == b"\t"):
            stop -= 1
        value = text_at(p, start, stop)
        name = usual.get(given)
        if name is None:
            name = given.lower()
        if name in headers:
            value = joints.get(name, ", ").join((headers[name], value))
        headers[name] = value
    if end - at != 2 or p[at] != b"\r" or p[at + 1] != b"\n":
        return None
    return method, target, headers
