/* The memory in which the interpreter has a task's frames, kept for the next task.
 *
 * A greenlet gets a chunk of 16 KiB from the system (mmap) for its first frame, and gives it back as
 * it ends: with the page faults that is more than half of what a short greenlet costs. Here a few
 * chunks wait for the next ones.
 *
 * Rules:
 * - A chunk is taken from a task that is at its end, with no frame in it, and given to one that has
 *   none yet. In between greenlet sees to it, as to any chunk.
 * - No more than WS_MOST_KEPT are kept, of the usual size alone.
 * - The GIL guards them. Without a GIL, and in versions of CPython that this was not tried with, nothing
 *   is kept.
 */

#ifndef WS_STACK_H
#define WS_STACK_H

#include <Python.h>

#if defined(PYPY_VERSION) || defined(GRAALVM_PYTHON) || defined(Py_GIL_DISABLED) \
    || PY_VERSION_HEX < 0x030B0000 || PY_VERSION_HEX >= 0x030F0000
#define WS_KEEPS_STACKS 0
#else
#define WS_KEEPS_STACKS 1
#endif

#if WS_KEEPS_STACKS

enum { WS_MOST_KEPT = 64, WS_USUAL_CHUNK = 16 * 1024 };

static _PyStackChunk *ws_kept[WS_MOST_KEPT];
static int ws_kept_now = 0;

/* The calling task gets a chunk for its frames, if it has none and one is kept. */
static void ws_give_stack(void)
{
    PyThreadState *state = PyThreadState_Get();
    if (state->datastack_chunk != NULL || ws_kept_now == 0)
        return;
    _PyStackChunk *chunk = ws_kept[--ws_kept_now];
    state->datastack_chunk = chunk;
    state->datastack_top = &chunk->data[1]; /* the interpreter leaves out the first one's first */
    state->datastack_limit = (PyObject **)((char *)chunk + chunk->size);
}

/* The calling task is at its end: keep its chunk, if no frame is in it. */
static void ws_take_stack(void)
{
    PyThreadState *state = PyThreadState_Get();
    _PyStackChunk *chunk = state->datastack_chunk;
    if (chunk == NULL || chunk->previous != NULL || chunk->size != WS_USUAL_CHUNK
        || state->datastack_top != &chunk->data[1] || ws_kept_now == WS_MOST_KEPT)
        return;
    ws_kept[ws_kept_now++] = chunk;
    state->datastack_chunk = NULL;
    state->datastack_top = state->datastack_limit = NULL;
}

#else

static void ws_give_stack(void) {}
static void ws_take_stack(void) {}

#endif

#endif
