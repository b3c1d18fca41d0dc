/* The kernel's system calls: what a channel sends, receives and waits with.

   - A call returns how many bytes it has moved, or one of the negative results below.
     errno is read in the same step, so that nothing can overwrite it.
   - `ws_send` and `ws_receive_now` do what can be done at once, whether the socket blocks or
     not.  `ws_nap` and `ws_wait` sleep: they are called without the GIL.
   - Nothing here touches a Python object.

   Where the system has no such calls (Windows), WS_HAS_DESCRIPTORS is 0: then no Descriptor is
   made, and a channel goes by the socket's methods. */

#ifndef SCRIPTLING_WS_SYSTEM_H
#define SCRIPTLING_WS_SYSTEM_H

#include <errno.h>
#include <math.h>
#include <stdint.h>

/* Beside a count of bytes: -errno, which is above these. */
#define WS_LATE (-100000)     /* the time is over */
#define WS_WOKEN (-100001)    /* the waker is readable */
#define WS_LOOK_UP (-100002)  /* it is time to look up: at signals, or at what the others do */

#if defined(_WIN32)

#define WS_HAS_DESCRIPTORS 0
static Py_ssize_t ws_send(int fd, const void *data, size_t size) { return -EBADF; }
static Py_ssize_t ws_receive_now(int fd, void *data, size_t size) { return -EBADF; }
static Py_ssize_t ws_nap(int fd, void *data, size_t size) { return -EBADF; }
static Py_ssize_t ws_receive_on(int fd, char *data, size_t size, size_t piece, int nap) {
    return -EBADF;
}
static Py_ssize_t ws_wait(
    int fd, int waker, void *data, size_t size, double until, double slice
) { return -EBADF; }
static double ws_now(void) { return 0; }
static int ws_nothing_there(Py_ssize_t result) { return 0; }

#else

#include <poll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>

#define WS_HAS_DESCRIPTORS 1
#if !defined(MSG_NOSIGNAL)  /* macOS: CPython ignores SIGPIPE there as everywhere */
#define MSG_NOSIGNAL 0
#endif

static int ws_nothing_there(Py_ssize_t result) {
    return result == -EAGAIN || result == -EWOULDBLOCK;
}

static Py_ssize_t ws_send(int fd, const void *data, size_t size) {
    ssize_t count = send(fd, data, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    return count < 0 ? -errno : count;
}

static Py_ssize_t ws_receive_now(int fd, void *data, size_t size) {
    ssize_t count = recv(fd, data, size, MSG_DONTWAIT);
    return count < 0 ? -errno : count;
}

/* Sleep in `recv`, for as long as the socket's SO_RCVTIMEO says. */
static Py_ssize_t ws_nap(int fd, void *data, size_t size) {
    ssize_t count = recv(fd, data, size, 0);
    return count < 0 ? -errno : count;
}

/* Receive what is there, and what comes meanwhile, in pieces: while one is copied, the other end
   goes on sending, and a small one stays in the cache. */
static Py_ssize_t ws_receive_on(int fd, char *data, size_t size, size_t piece, int nap) {
    size_t have = 0, want = size < piece ? size : piece;
    Py_ssize_t count = nap ? ws_nap(fd, data, want) : ws_receive_now(fd, data, want);
    while (count > 0) {
        have += (size_t) count;
        if ((size_t) count < want || have == size) break;
        want = size - have < piece ? size - have : piece;
        count = ws_receive_now(fd, data + have, want);
    }
    return have ? (Py_ssize_t) have : count;  /* an error is met again, or the end in its place */
}

static double ws_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double) now.tv_sec + 1e-9 * (double) now.tv_nsec;
}

/* Sleep until something can be received, and receive it.

   until: on the clock of ws_now, INFINITY for ever.
   slice: seconds after which to look up at the latest, INFINITY for never. */
static Py_ssize_t ws_wait(
    int fd, int waker, void *data, size_t size, double until, double slice
) {
    struct pollfd fds[2] = {{fd, POLLIN, 0}, {waker, POLLIN, 0}};  /* poll passes over -1 */
    double left;
    Py_ssize_t count;
    int ready;
    for (;;) {
        left = isinf(until) ? until : until - ws_now();
        if (left <= 0) return WS_LATE;
        if (left > slice) left = slice;
        ready = poll(fds, 2, isinf(left) ? -1 : left > 2000000 ? 2000000000 : (int) ceil(left * 1000));
        if (ready < 0) return -errno;
        if (fds[1].revents) return WS_WOKEN;
        if (ready) {
            count = ws_receive_now(fd, data, size);
            if (!ws_nothing_there(count)) return count;
        } else if (!isinf(slice)) {
            return WS_LOOK_UP;
        }
    }
}

#endif

/* ---- what several threads read and set ---- */

/* Without the GIL these are races that C does not define, if they are plain ints. */
#if defined(__GNUC__)
#define ws_get(place) __atomic_load_n(place, __ATOMIC_ACQUIRE)
#define ws_set(place, value) __atomic_store_n(place, value, __ATOMIC_RELEASE)
#define ws_turn_on(place, bits) ((void) __atomic_fetch_or(place, bits, __ATOMIC_ACQ_REL))
#define ws_turn_off(place, bits) ((void) __atomic_fetch_and(place, ~(bits), __ATOMIC_ACQ_REL))
/* In one order for all threads: a lock is made of them. */
#define ws_swap(place, value) __atomic_exchange_n(place, value, __ATOMIC_SEQ_CST)
#define ws_add(place, value) ((void) __atomic_fetch_add(place, value, __ATOMIC_SEQ_CST))
#define ws_look(place) __atomic_load_n(place, __ATOMIC_SEQ_CST)
#else  /* MSVC: on its processors aligned ints are read and written whole */
#include <intrin.h>
#define ws_get(place) (*(volatile const unsigned long *) (place))
#define ws_set(place, value) ((void) (*(place) = (value)))
#define ws_turn_on(place, bits) ((void) (*(place) |= (bits)))
#define ws_turn_off(place, bits) ((void) (*(place) &= ~(bits)))
#define ws_swap(place, value) \
    ((unsigned long) _InterlockedExchange((volatile long *) (place), (long) (value)))
#define ws_add(place, value) \
    ((void) _InterlockedExchangeAdd((volatile long *) (place), (long) (value)))
#define ws_look(place) \
    ((unsigned long) _InterlockedOr((volatile long *) (place), 0))
#endif

/* What is counted has 64 bits on every processor. With the GIL it is read and written under that. */
#if WS_HAS_GIL
#define ws_total(place) (*(place))
#define ws_count(place, more) ((void) (*(place) += (more)))
#define ws_note(place, value) ((void) (*(place) = (value)))
#else
#define ws_total(place) __atomic_load_n(place, __ATOMIC_RELAXED)
#define ws_count(place, more) \
    __atomic_store_n(place, __atomic_load_n(place, __ATOMIC_RELAXED) + (more), __ATOMIC_RELAXED)
#define ws_note(place, value) __atomic_store_n(place, value, __ATOMIC_RELAXED)
#endif

/* The masking keys are one pool for all threads. */
#if WS_HAS_GIL
#define ws_lock_keys() ((void) 0)
#define ws_unlock_keys() ((void) 0)
#else
static PyMutex ws_keys;
#define ws_lock_keys() PyMutex_Lock(&ws_keys)
#define ws_unlock_keys() PyMutex_Unlock(&ws_keys)
#endif

#endif
