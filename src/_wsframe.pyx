# cython: language_level=3, freethreading_compatible=True, binding=False
# cython: embedsignature=True, embedsignature.format=clinic, autotestdict=False
"""The kernel, compiled. The contract is scriptling_ws/_wsframe.pyi.

One module of the files in _wsframe/, each of which says what it holds, and its rules. A file uses
what stands above it here, and nothing below:

    functions       arguments   what a caller passes, checked
                    masking     XOR with a key
                    lists       ints to bytes, and back
                    headers     of frames, written and read
                    frames      whole ones, made
                    text        UTF-8
                    messages    read out of a window
                    pieces      messages in fragments, and large ones
                    heads       of plain HTTP requests, read
                    threads     what one has in its locals; a task's frames
    around a call   methods     of a socket: what it has done is noted in the same step
    of the system   system      calls, masking keys, spinning
                    locks       that C code takes
                    descriptors by whose number the system is called
    a channel       window      received bytes
                    tls         encryption
                    parking     a task's wait beside others
                    line        the state that both ways share
                    sending     the way out
                    receiving   the way in, and the wait
                    channel     what Python sees of these
    a connection    shortcuts   what its methods do in C

Rules of all these files:

- No state, and no reference to a caller's object, is kept from call to call by the functions. The
  locks, descriptors, windows and channels have state; masking keys are drawn ahead.
- While a raw pointer into a caller's object is held, no code of the caller's
  runs, and the object is one that cannot change its size: immutable, borrowed,
  or locked.
- The GIL is not released for work on bytes: masking 16 MiB takes less than a millisecond, and a
  busy neighbour thread would keep the GIL for five before it came back. It is for what waits, and
  for a large copy to or from the system (line.pxi).
- The loops over bytes, the system's calls, the gate, the memory of frames and functions with a
  shortcut are C: loops.h, system.h, spin.h, gate.h, queue.h, stack.h, shortcuts.h.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t, uintptr_t

cdef extern from "_wsframe/loops.h":
    const bint WS_HAS_GIL
    uint64_t ws_mask(const uint8_t *key, size_t offset) noexcept nogil
    uint64_t ws_xor(uint8_t *to, const uint8_t *source, size_t n, uint64_t mask) noexcept nogil
    uintptr_t ws_value(PyObject *number) noexcept nogil

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    Py_ssize_t PySequence_Fast_GET_SIZE(object values)
    Py_ssize_t refcount "Py_REFCNT"(PyObject *something)
    void *PyUnicode_DATA(object text)
    bint PyUnicode_IS_COMPACT_ASCII(object text)

IMPLEMENTATION = "compiled"

cdef enum:
    TEXT_MESSAGE = 0x81  # FIN and the opcode, nothing reserved
    BINARY_MESSAGE = 0x82
    COMPRESSED = 0x40  # RSV1, as permessage-deflate has it

include "_wsframe/arguments.pxi"
include "_wsframe/masking.pxi"
include "_wsframe/lists.pxi"
include "_wsframe/headers.pxi"
include "_wsframe/frames.pxi"
include "_wsframe/text.pxi"
include "_wsframe/messages.pxi"
include "_wsframe/pieces.pxi"
include "_wsframe/heads.pxi"
include "_wsframe/threads.pxi"
include "_wsframe/methods.pxi"
include "_wsframe/system.pxi"
include "_wsframe/locks.pxi"
include "_wsframe/descriptors.pxi"
include "_wsframe/window.pxi"
include "_wsframe/tls.pxi"
include "_wsframe/parking.pxi"
include "_wsframe/line.pxi"
include "_wsframe/sending.pxi"
include "_wsframe/receiving.pxi"
include "_wsframe/channel.pxi"
include "_wsframe/shortcuts.pxi"
