# ---- messages in pieces, and large ones ----
#
# Included by _wsframe.pyx; the contract is in scriptling_ws/_wsframe.pyi.

from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromMemory
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport INT64_MAX, int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

cdef extern from "_wsframe/loops.h":
    const Py_ssize_t WS_MOST_SPARE
    const int WS_SPARE_SHIFT

cdef extern from "Python.h":
    int PyBytes_CheckExact(PyObject *something)
    PyObject *new_bytes "PyBytes_FromStringAndSize"(const char *data, Py_ssize_t size) except NULL
    void set_size "Py_SET_SIZE"(PyObject *data, Py_ssize_t size)
    # For bytes that nobody else has; frees them when it fails, and leaves NULL.
    int resize_bytes "_PyBytes_Resize"(PyObject **data, Py_ssize_t size) except -1


cdef struct Room:
    PyObject *owner     # bytes that nobody else has seen; NULL for none yet
    Py_ssize_t size     # of the owner
    Py_ssize_t used


cdef int open_room(Room *room, object holder, object used) except -1:
    """Take the owner out of a room; close_room puts it back."""
    cdef object owner = None
    if not isinstance(holder, list):
        raise TypeError(f"the room has to be a list, not {type(holder).__name__}")
    if len(<list> holder) > 1:
        raise ValueError(f"the room holds {len(<list> holder)} objects: it has to be one at most")
    if holder:
        owner = (<list> holder)[0]
        if not isinstance(owner, (bytes, bytearray)):
            raise TypeError(f"the room holds a {type(owner).__name__}: it has to be an owner")
    room.owner = NULL
    room.size = 0 if owner is None else len(owner)
    room.used = whole(used, "used", 0, room.size)
    if owner is not None:
        (<list> holder).pop()
    if room.size:
        room.owner = <PyObject *> owner
        Py_INCREF(owner)
        owner = None
        if refcount(room.owner) != 1 or not PyBytes_CheckExact(room.owner):
            replace_owner(room)
    return 0


cdef int replace_owner(Room *room) except -1:
    """Take a copy instead of an owner that somebody else can see."""
    cdef Py_buffer view
    cdef object owner = <object> room.owner
    Py_DECREF(owner)
    room.owner = NULL
    borrow(owner, &view, BUFFER)
    try:
        room.owner = new_bytes(NULL, room.size)
        memcpy(PyBytes_AS_STRING(<object> room.owner), view.buf, room.used)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef int close_room(Room *room, list holder) except -1:
    if room.owner != NULL:
        holder.append(<object> room.owner)
        Py_DECREF(<object> room.owner)
    return 0


cdef int resize_room(Room *room, Py_ssize_t size) except -1:
    cdef PyObject *owner = room.owner
    if owner == NULL:
        room.owner = new_bytes(NULL, size)
    elif WS_HAS_GIL:
        resize_bytes(&room.owner, size)
    else:
        # Python's own allocator, which this build has, would copy as well, and bytes that
        # another thread has made cannot be resized. (Not counted: free-threaded builds alone.)
        room.owner = new_bytes(NULL, size)  # pragma: no cover
        memcpy(  # pragma: no cover
            PyBytes_AS_STRING(<object> room.owner),  # pragma: no cover
            PyBytes_AS_STRING(<object> owner),  # pragma: no cover
            room.used,  # pragma: no cover
        )
        Py_DECREF(<object> owner)  # pragma: no cover
    room.size = size
    return 0


cdef Py_ssize_t spare_for(Py_ssize_t size) noexcept:
    """How much larger than `size` to make a room: an eighth, but not over WS_MOST_SPARE.

    Where that would be too small a part of a large room to keep the time linear, more.
    """
    return max(32, min(size >> 3, WS_MOST_SPARE), size >> WS_SPARE_SHIFT)


cdef int reserve(Room *room, Py_ssize_t length, bint last) except -1:
    """See that so many bytes more fit; the last ones need nothing to spare."""
    cdef Py_ssize_t needed, spare = 0
    if length <= room.size - room.used:
        return 0
    if length > PY_SSIZE_T_MAX - 64 - room.used:
        raise MemoryError  # pragma: no cover - both are in memory: with 32 bits only
    needed = room.used + length
    if not last:
        spare = min(spare_for(needed), PY_SSIZE_T_MAX - 64 - needed)
    return resize_room(room, needed + spare)


cdef void add(Room *room, const uint8_t *data, Py_ssize_t length, uint64_t mask) noexcept:
    """Append a piece of payload, unmasked, for which there is room."""
    cdef uint8_t *to
    if length == 0:
        return  # there may be no owner
    to = <uint8_t *> PyBytes_AS_STRING(<object> room.owner) + room.used
    if mask:
        ws_xor(to, data, length, mask)
    else:
        memcpy(to, data, length)
    room.used += length


cdef struct Run:
    Py_ssize_t stop     # where it ends in the window
    Py_ssize_t size     # of the payloads
    int64_t count
    bint ended          # by the message's last frame


cdef Run find_continuations(
    const uint8_t *data, Py_ssize_t at, Py_ssize_t end, Wanted wanted
) noexcept:
    """The complete continuations at `at` that need no look from the caller."""
    cdef Header header
    cdef Run run
    run.stop = at
    run.size = 0
    run.count = 0
    run.ended = False
    while run.count < wanted.most and not run.ended:
        at = run.stop
        header = scan(data + at, end - at)
        if (
            header.size == 0
            or header.size > end - at
            or data[at] & 0x7F  # reserved, or the opcode of something else
            or header.masked != wanted.masked
            or not header.shortest
            or header.length > <uint64_t> (end - at - header.size)
            or header.length > wanted.limit - <uint64_t> run.size
        ):
            break
        run.stop = at + header.size + <Py_ssize_t> header.length
        run.size += <Py_ssize_t> header.length
        run.count += 1
        run.ended = data[at] >> 7
    return run


cdef void add_continuations(
    Room *room, const uint8_t *data, Py_ssize_t at, Py_ssize_t stop
) noexcept:
    """Append the payloads of a run that was found."""
    cdef Header header
    cdef const uint8_t *payload
    cdef uint64_t mask = 0
    while at < stop:
        header = scan(data + at, stop - at)
        payload = data + at + header.size
        if header.masked:
            mask = ws_mask(payload - 4, 0)
        add(room, payload, header.length, mask)
        at += header.size + <Py_ssize_t> header.length


def read_fragments(window, start, end, masked, limit, most, room, used):
    """Read the run of continuations at the front of window[start:end] into a room."""
    cdef Py_buffer view
    cdef Wanted wanted
    cdef Room place
    cdef Run run
    cdef Py_ssize_t stop, at
    wanted.masked = masked
    if not isinstance(window, bytearray):
        raise TypeError(f"the window has to be a bytearray, not {type(window).__name__}")
    wanted.limit = whole(limit, "limit", 0, INT64_MAX)
    wanted.most = whole(most, "most", 0, INT64_MAX)
    PyObject_GetBuffer(window, &view, PyBUF_SIMPLE)
    try:
        stop = whole(end, "end", 0, view.len)
        at = whole(start, "start", 0, stop)
        run = find_continuations(<uint8_t *> view.buf, at, stop, wanted)
        open_room(&place, room, used)
        try:
            reserve(&place, run.size, run.ended)
            add_continuations(&place, <uint8_t *> view.buf, at, run.stop)
        finally:
            close_room(&place, room)
    finally:
        PyBuffer_Release(&view)
    return run.stop, place.used, run.count, bool(run.ended)


def read_payload(window, start, end, key, offset, room, used):
    """Append window[start:end], a piece of a payload, to what is in a room."""
    cdef Py_buffer view
    cdef Room place
    cdef Py_ssize_t stop, at
    cdef uint64_t mask = 0
    cdef int64_t before = whole(offset, "offset", 0, INT64_MAX)
    if key is not None:
        mask = ws_mask(check_key(key), before)
    if not isinstance(window, bytearray):
        raise TypeError(f"the window has to be a bytearray, not {type(window).__name__}")
    PyObject_GetBuffer(window, &view, PyBUF_SIMPLE)
    try:
        stop = whole(end, "end", 0, view.len)
        at = whole(start, "start", 0, stop)
        open_room(&place, room, used)
        try:
            reserve(&place, stop - at, False)
            add(&place, <uint8_t *> view.buf + at, stop - at, mask)
        finally:
            close_room(&place, room)
    finally:
        PyBuffer_Release(&view)
    return place.used


def seal_room(room, used):
    """What is in a room as bytes, which leaves the room empty."""
    cdef Room place
    cdef object data
    open_room(&place, room, used)
    if place.owner == NULL:
        return b""
    if place.size - place.used > max(32, place.used >> 3):
        try:
            resize_room(&place, place.used)
        except MemoryError:  # pragma: no cover - free-threaded: else nothing is allocated
            close_room(&place, room)  # pragma: no cover
            raise  # pragma: no cover
    elif place.size != place.used:
        # The little that is to spare stays behind the bytes. Given back, it would make the
        # next message, of the same size, need more memory in between than this one leaves:
        # malloc would take it from the system again each time, in fresh pages.
        PyBytes_AS_STRING(<object> place.owner)[place.used] = 0
        set_size(place.owner, place.used)
    data = <object> place.owner
    Py_DECREF(data)
    return data


def allocate(size):
    """Room for `size` bytes: its owner, and a writable view that lives no longer than it."""
    cdef int64_t count = whole(size, "size", 0, INT64_MAX)
    cdef bytes owner
    if count > PY_SSIZE_T_MAX - 64:
        raise MemoryError
    # Fresh bytes nobody else has seen: they may be written until they are
    # shown to anybody.  (Of none, b"", there is only one, and nothing to write.)
    owner = PyBytes_FromStringAndSize(NULL, count)
    return owner, PyMemoryView_FromMemory(PyBytes_AS_STRING(owner), count, PyBUF_WRITE)
