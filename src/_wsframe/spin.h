/* Spinning: before it sleeps, a wait looks for a moment whether something comes.

   Where the other end runs on another core, its answer to a small message is there after some
   ten microseconds.  To sleep for that, and to be woken, takes longer, and more of both ends'
   processor time, than to look for it until it comes.  So a wait spins for up to
   ws_spin_seconds, where that is likely to pay:

   - The last message came alone: in a stream of them something is there, or comes in a batch.
   - The connection is the only one of its process that is active.  Where there are several,
     there is work for the cores, and the wait of one is the turn of another.  It is alone
     once WS_SPIN_COMPANY waits of its own have begun, and no other connection's between them.
   - After a spin in vain the next waits sleep at once: WS_SPIN_LEAST of them the first time, then
     twice as many each time, up to WS_SPIN_MOST.  Each spin that pays halves that number.  So a
     connection whose messages are far apart, or whose other end needs this very core, spins in
     one wait of some thousand.
   - A connection's first waits sleep: most connections of a server have no more of them.

   The state of a connection is guarded by its lock for reading. */

#ifndef SCRIPTLING_WS_SPIN_H
#define SCRIPTLING_WS_SPIN_H

#include <stdint.h>

#include "system.h"

#define WS_SPIN_FIRST 16
#define WS_SPIN_LEAST 4
#define WS_SPIN_MOST 4096
#define WS_SPIN_COMPANY 16

typedef struct {
    uint32_t company;  /* waits left until it counts as alone */
    uint32_t left;     /* waits left that sleep at once */
    uint32_t penalty;  /* half of what `left` becomes after the next spin in vain */
    uint64_t spun;     /* how many waits have spun, and for how many of these it paid */
    uint64_t paid;
} ws_spin;

static double ws_spin_seconds = 0;

/* The connection that was the last one to begin a wait, 0 for none; it is never looked into. */
static unsigned long ws_spin_last;

static void ws_spin_begin(ws_spin *spin) {
    spin->company = 0;
    spin->left = WS_SPIN_FIRST;
    spin->penalty = WS_SPIN_LEAST / 2;
    spin->spun = spin->paid = 0;
}

/* Whether others are active, too, when this connection begins to wait. */
static int ws_spin_in_company(ws_spin *spin, const void *who) {
    unsigned long number = (unsigned long) (uintptr_t) who, last = ws_get(&ws_spin_last);
    if (last != number) {
        ws_set(&ws_spin_last, number);
        if (last) spin->company = WS_SPIN_COMPANY;
    } else if (spin->company) {
        spin->company--;
    }
    return spin->company > 0;
}

/* Whether a wait that begins now is to spin. */
static int ws_spin_is_due(ws_spin *spin) {
    if (ws_spin_seconds <= 0) return 0;
    if (spin->left) {
        spin->left--;
        return 0;
    }
    return 1;
}

static void ws_spin_note(ws_spin *spin, int paid) {
    ws_count(&spin->spun, 1);
    if (paid) {
        ws_count(&spin->paid, 1);
        if (spin->penalty > WS_SPIN_LEAST / 2) spin->penalty /= 2;
    } else {
        if (spin->penalty < WS_SPIN_MOST) spin->penalty *= 2;
        spin->left = spin->penalty;
    }
}

/* Receive what comes until then, on the clock of ws_now; without the GIL. */
static Py_ssize_t ws_spin_receive(int fd, void *data, size_t size, double until) {
    Py_ssize_t count;
    do {
        count = ws_receive_now(fd, data, size);
    } while (ws_nothing_there(count) && ws_now() < until);
    return count;
}

#endif
