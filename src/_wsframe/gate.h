/* The gate: threads that wait for messages go to the GIL a few at a time.

   A thousand threads that wait in a system call each wake as soon as something comes, and then
   queue for the GIL; each of them asks for it every five milliseconds, and most of a core goes
   into their waking.  Here one thread without the GIL, the dispatcher, waits for all their
   sockets, and wakes no more than WS_GATE_WIDTH of them before these have got the GIL.  A thread
   that has got it wakes the next (`ws_gate_through`).  What it does from there on, and for how
   long, is its own business: a handler that sleeps or computes holds up nobody at the gate.

   - A slot is one socket's place, from `ws_gate_join` to `ws_gate_leave`, which comes before the
     descriptor is closed.  Its memory is used again and never freed; what the dispatcher has
     in hand of a former use shows by its generation.
   - The socket is registered once, edge-triggered: an event for each arrival.  No wake-up is
     lost: an event finds the slot WAITING, which takes it into the queue, or not, which is
     `pending`; and a thread goes to sleep only in the step in which it has found nothing pending,
     under the mutex.  `ws_gate_clear` comes before the receive that takes what was pending.
   - All of it is guarded by the gate's mutex, which nobody holds while it sleeps, and for which
     the GIL is not waited for.  The futex word of a slot is its state.
   - In a forked child there is no dispatcher, and its epoll is the parent's: the child lets go
     of all of it (`ws_gate_after_fork`), and begins anew if it has to.
   - The gate is used where it is needed (`ws_gate_is_busy`): while threads queue for the GIL, or
     so many connections are active that they would.  It takes more of the processor than a wait
     without it: a few threads that come one by one, or one that is active among a thousand idle
     ones, do better by themselves.

   Linux alone, and with the GIL: elsewhere WS_HAS_GATE is 0. */

#ifndef SCRIPTLING_WS_GATE_H
#define SCRIPTLING_WS_GATE_H

#define WS_GO 1    /* something came; ws_gate_through is to be called with the GIL */
#define WS_TRY 2   /* something came before, or the waiter is to look at what the others do */

#if !defined(__linux__) || !WS_HAS_GIL

#define WS_HAS_GATE 0
typedef struct ws_slot ws_slot;
static ws_slot *ws_gate_join(int fd) { (void) fd; return NULL; }
static void ws_gate_leave(ws_slot *slot, int fd) { (void) slot; (void) fd; }
static void ws_gate_clear(ws_slot *slot) { (void) slot; }
static void ws_gate_wake(ws_slot *slot) { (void) slot; }
static Py_ssize_t ws_gate_wait(ws_slot *slot, double until, double slice) {
    (void) slot; (void) until; (void) slice;
    return WS_TRY;
}
static void ws_gate_through(void) {}
static void ws_gate_ask(void) {}
static void ws_gate_got(void) {}
static int ws_gate_is_busy(uint32_t *seen, double now) { (void) seen; (void) now; return 0; }
static void ws_gate_after_fork(void) {}
static int ws_gate_open(void) { return 0; }
static void ws_gate_from(int active) { (void) active; }

#else

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WS_HAS_GATE 1
#define WS_GATE_WIDTH 2       /* threads between wake-up and having the GIL */
#define WS_GATE_BATCH 256     /* events at a time */
#define WS_GATE_LOW 2         /* so few in the queue, and the dispatcher looks for more */
#define WS_GATE_CROWD 16      /* threads that ask for the GIL at a time are a queue */
#define WS_GATE_WINDOW 0.01   /* seconds in which that is seen, and for which it holds */
#define WS_SLOTS 256          /* in a chunk */
#define WS_CHUNKS 4096

enum { WS_IDLE, WS_WAITING, WS_QUEUED, WS_GRANTED, WS_CALLED };

typedef struct ws_slot {
    uint32_t state;             /* the futex word */
    uint32_t generation;        /* of its use */
    uint32_t index;
    uint32_t epoch;             /* of the gate: another one in a forked child */
    int pending;
    struct ws_slot *next;       /* in the queue, or of those that are free */
    struct ws_slot *previous;
} ws_slot;

static struct {
    pthread_mutex_t mutex;
    int active;                 /* so many connections are many; 0: no gate */
    int crowded;                /* a queue for the GIL was seen; guarded by the GIL */
    unsigned long asking;       /* threads that ask for it, without the gate; atomic */
    int running;
    int epoll;
    uint32_t epoch;
    uint32_t starting;          /* threads between wake-up and having the GIL */
    uint32_t queued;
    uint32_t dozing;            /* the dispatcher's futex word: it waits for the queue to shrink */
    ws_slot *first, *last;      /* the queue */
    ws_slot *unused;
    ws_slot *chunks[WS_CHUNKS];
    uint32_t made;
} ws_gate = {.mutex = PTHREAD_MUTEX_INITIALIZER, .epoll = -1};

static long ws_futex(uint32_t *word, int what, uint32_t value, const struct timespec *timeout) {
    return syscall(SYS_futex, word, what | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

/* ---- the queue; all of these hold the mutex ---- */

static void ws_gate_unlink(ws_slot *slot) {
    if (slot->previous) slot->previous->next = slot->next; else ws_gate.first = slot->next;
    if (slot->next) slot->next->previous = slot->previous; else ws_gate.last = slot->previous;
    slot->next = slot->previous = NULL;
    ws_gate.queued--;
}

static void ws_gate_push(ws_slot *slot) {
    slot->next = NULL;
    slot->previous = ws_gate.last;
    if (ws_gate.last) ws_gate.last->next = slot; else ws_gate.first = slot;
    ws_gate.last = slot;
    ws_gate.queued++;
}

/* The next one that may start; it is to be woken once the mutex is let go of. */
static ws_slot *ws_gate_next(void) {
    ws_slot *slot = ws_gate.first;
    if (!slot || ws_gate.starting >= WS_GATE_WIDTH) return NULL;
    ws_gate_unlink(slot);
    ws_gate.starting++;
    __atomic_store_n(&slot->state, WS_GRANTED, __ATOMIC_RELEASE);
    return slot;
}

static void ws_gate_event(uint64_t data) {
    uint32_t index = (uint32_t) data;
    ws_slot *slot = ws_gate.chunks[index / WS_SLOTS] + index % WS_SLOTS;
    if (slot->generation != (uint32_t) (data >> 32)) return;  /* of a former use */
    if (slot->state == WS_WAITING) {
        __atomic_store_n(&slot->state, WS_QUEUED, __ATOMIC_RELEASE);
        ws_gate_push(slot);
    } else {
        __atomic_store_n(&slot->pending, 1, __ATOMIC_SEQ_CST);
    }
}

/* ---- the dispatcher ---- */

static void *ws_gate_run(void *unused) {
    struct epoll_event events[WS_GATE_BATCH];
    ws_slot *started[WS_GATE_WIDTH], *slot;
    int epoll = ws_gate.epoll, count, i, n;
    (void) unused;
    for (;;) {
        count = epoll_wait(epoll, events, WS_GATE_BATCH, -1);
        if (count < 0 && errno != EINTR) return NULL;
        pthread_mutex_lock(&ws_gate.mutex);
        for (i = 0; i < count; i++) ws_gate_event(events[i].data.u64);
        for (n = 0; (slot = ws_gate_next()); n++) started[n] = slot;
        if (ws_gate.queued > WS_GATE_LOW) ws_gate.dozing = 1;
        pthread_mutex_unlock(&ws_gate.mutex);
        for (i = 0; i < n; i++) ws_futex(&started[i]->state, FUTEX_WAKE, 1, NULL);
        /* While the queue is long, more of it would only take time from those who go. */
        while (__atomic_load_n(&ws_gate.dozing, __ATOMIC_ACQUIRE))
            ws_futex(&ws_gate.dozing, FUTEX_WAIT, 1, NULL);
    }
}

/* Start the dispatcher, if that was not done. Holds the mutex. */
static int ws_gate_start(void) {
    pthread_t thread;
    sigset_t all, before;
    int failed;
    if (ws_gate.running) return 1;
    ws_gate.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (ws_gate.epoll < 0) return 0;
    sigfillset(&all);  /* signals are for threads that run Python */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&thread, NULL, ws_gate_run, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) {
        close(ws_gate.epoll);
        ws_gate.epoll = -1;
        return 0;
    }
    pthread_detach(thread);
    ws_gate.running = 1;
    return 1;
}

/* A slot that nobody uses. Holds the mutex. */
static ws_slot *ws_gate_slot(void) {
    ws_slot *slot = ws_gate.unused;
    uint32_t chunk = ws_gate.made / WS_SLOTS;
    if (slot) {
        ws_gate.unused = slot->next;
    } else {
        if (chunk >= WS_CHUNKS) return NULL;
        if (!ws_gate.chunks[chunk]) ws_gate.chunks[chunk] = calloc(WS_SLOTS, sizeof(ws_slot));
        if (!ws_gate.chunks[chunk]) return NULL;
        slot = ws_gate.chunks[chunk] + ws_gate.made % WS_SLOTS;
        slot->index = ws_gate.made++;
    }
    slot->epoch = ws_gate.epoch;
    slot->state = WS_IDLE;
    __atomic_store_n(&slot->pending, 0, __ATOMIC_SEQ_CST);
    slot->next = slot->previous = NULL;
    return slot;
}

static void ws_gate_free(ws_slot *slot) {
    slot->generation++;
    slot->next = ws_gate.unused;
    ws_gate.unused = slot;
}

/* ---- what channels call ---- */

/* A place at the gate for a socket; NULL if there can be none. */
static ws_slot *ws_gate_join(int fd) {
    struct epoll_event event;
    ws_slot *slot = NULL;
    pthread_mutex_lock(&ws_gate.mutex);
    if (ws_gate_start() && (slot = ws_gate_slot())) {
        event.events = EPOLLIN | EPOLLRDHUP | EPOLLET;
        event.data.u64 = (uint64_t) slot->generation << 32 | slot->index;
        if (epoll_ctl(ws_gate.epoll, EPOLL_CTL_ADD, fd, &event) < 0) {
            ws_gate_free(slot);
            slot = NULL;
        }
    }
    pthread_mutex_unlock(&ws_gate.mutex);
    return slot;
}

/* Start the dispatcher now; whether there is one. */
static int ws_gate_open(void) {
    int running;
    pthread_mutex_lock(&ws_gate.mutex);
    running = ws_gate_start();
    pthread_mutex_unlock(&ws_gate.mutex);
    return running;
}

/* Give the place back, before the descriptor is closed. */
static void ws_gate_leave(ws_slot *slot, int fd) {
    if (!slot) return;
    pthread_mutex_lock(&ws_gate.mutex);
    if (slot->epoch == ws_gate.epoch) {
        if (fd >= 0) epoll_ctl(ws_gate.epoll, EPOLL_CTL_DEL, fd, NULL);
        if (slot->state == WS_QUEUED) ws_gate_unlink(slot);
        ws_gate_free(slot);
    }
    pthread_mutex_unlock(&ws_gate.mutex);
}

/* What is pending is received now. */
static void ws_gate_clear(ws_slot *slot) {
    if (slot) __atomic_store_n(&slot->pending, 0, __ATOMIC_SEQ_CST);
}

/* Have the waiter look at what the others do. */
static void ws_gate_wake(ws_slot *slot) {
    int waits = 0;
    if (!slot) return;
    pthread_mutex_lock(&ws_gate.mutex);
    if (slot->epoch == ws_gate.epoch) {
        waits = slot->state == WS_WAITING || slot->state == WS_QUEUED;
        if (slot->state == WS_QUEUED) ws_gate_unlink(slot);
        if (waits) __atomic_store_n(&slot->state, WS_CALLED, __ATOMIC_RELEASE);
        __atomic_store_n(&slot->pending, 1, __ATOMIC_SEQ_CST);
    }
    pthread_mutex_unlock(&ws_gate.mutex);
    if (waits) ws_futex(&slot->state, FUTEX_WAKE, 1, NULL);
}

/* Sleep until it is this slot's turn, without the GIL. */
static Py_ssize_t ws_gate_wait(ws_slot *slot, double until, double slice) {
    struct timespec timeout;
    double left = isinf(until) ? until : until - ws_now();
    int late = left <= slice, timed = !isinf(left) || !isinf(slice), failed = 0;
    Py_ssize_t result = WS_TRY;
    if (left > slice) left = slice;
    if (left <= 0) return WS_LATE;
    if (timed) {
        timeout.tv_sec = (time_t) left;
        timeout.tv_nsec = (long) ((left - (double) timeout.tv_sec) * 1e9);
    }
    pthread_mutex_lock(&ws_gate.mutex);
    if (slot->epoch != ws_gate.epoch || __atomic_load_n(&slot->pending, __ATOMIC_SEQ_CST)) {
        __atomic_store_n(&slot->pending, 0, __ATOMIC_SEQ_CST);
        pthread_mutex_unlock(&ws_gate.mutex);
        return WS_TRY;
    }
    __atomic_store_n(&slot->state, WS_WAITING, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&ws_gate.mutex);
    for (;;) {
        uint32_t state = __atomic_load_n(&slot->state, __ATOMIC_ACQUIRE);
        if (state == WS_GRANTED || state == WS_CALLED || failed) break;
        /* In the queue the time does not end: what came is there. */
        if (ws_futex(&slot->state, FUTEX_WAIT, state, timed && state == WS_WAITING ? &timeout : NULL) < 0)
            failed = errno == EAGAIN ? 0 : errno;
    }
    pthread_mutex_lock(&ws_gate.mutex);
    if (slot->state == WS_GRANTED) {
        result = WS_GO;
    } else if (slot->state == WS_QUEUED) {  /* interrupted */
        ws_gate_unlink(slot);
        __atomic_store_n(&slot->pending, 1, __ATOMIC_SEQ_CST);
        result = -EINTR;
    } else if (slot->state == WS_WAITING) {
        result = failed == ETIMEDOUT ? (late ? WS_LATE : WS_LOOK_UP) : -EINTR;
    }
    slot->state = WS_IDLE;
    pthread_mutex_unlock(&ws_gate.mutex);
    return result;
}

/* A thread that was granted its turn has got the GIL: let the next one start. */
static void ws_gate_through(void) {
    ws_slot *slot;
    int rouse;
    pthread_mutex_lock(&ws_gate.mutex);
    if (ws_gate.starting) ws_gate.starting--;
    slot = ws_gate_next();
    rouse = ws_gate.dozing && ws_gate.queued <= WS_GATE_LOW;
    if (rouse) __atomic_store_n(&ws_gate.dozing, 0, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&ws_gate.mutex);
    if (slot) ws_futex(&slot->state, FUTEX_WAKE, 1, NULL);
    if (rouse) ws_futex(&ws_gate.dozing, FUTEX_WAKE, 1, NULL);
}

/* Without the gate: a thread that was woken asks for the GIL, and then has it. */
static void ws_gate_ask(void) { ws_add(&ws_gate.asking, 1); }

static void ws_gate_got(void) {
    if (ws_get(&ws_gate.asking) >= WS_GATE_CROWD) ws_gate.crowded = 1;
    ws_add(&ws_gate.asking, -1);
}

/* Whether the gate is needed; a connection is active, now.  Called with the GIL, which guards it.

   seen: the connection's, 0 at first: the window in which it was counted. */
static int ws_gate_is_busy(uint32_t *seen, double now) {
    static double since;       /* when the window began */
    static uint32_t window;
    static int count;          /* of connections that were active in it */
    static int busy;
    if (!ws_gate.active) return 0;
    if (now - since > WS_GATE_WINDOW) {
        busy = now - since < 2 * WS_GATE_WINDOW
            && (ws_gate.crowded || (busy && count >= ws_gate.active));
        ws_gate.crowded = 0;
        since = now;
        count = 0;
        if (++window == 0) window = 1;
    }
    if (*seen != window) {
        *seen = window;
        count++;
    }
    busy = busy || ws_gate.crowded || count >= ws_gate.active;
    return busy;
}

static void ws_gate_after_fork(void) {
    pthread_mutex_t fresh = PTHREAD_MUTEX_INITIALIZER;
    if (ws_gate.epoll >= 0) close(ws_gate.epoll);  /* the parent's stays as it is */
    ws_gate.mutex = fresh;
    ws_gate.running = 0;
    ws_gate.epoll = -1;
    ws_gate.epoch++;
    ws_gate.asking = 0;
    ws_gate.crowded = 0;
    ws_gate.starting = ws_gate.queued = ws_gate.dozing = 0;
    ws_gate.first = ws_gate.last = ws_gate.unused = NULL;
    memset(ws_gate.chunks, 0, sizeof(ws_gate.chunks));
    ws_gate.made = 0;
}

static void ws_gate_from(int active) { ws_gate.active = active; }

#endif

#endif
