/* The kernel's inner loops: masking, UTF-8, and lists of ints to and from bytes.

   In C because they need what Cython does not write: vector types, and one function in
   two builds, of which the processor picks one.  Nothing here allocates, checks an
   argument or touches a reference count; the .pxi files do. */

#ifndef SCRIPTLING_WS_LOOPS_H
#define SCRIPTLING_WS_LOOPS_H

#include <stdint.h>
#include <string.h>

#if defined(Py_GIL_DISABLED)
#define WS_HAS_GIL 0
#else
#define WS_HAS_GIL 1
#endif

/* How much larger than what it holds a message's room is made, while the end is not known:
   at least its size >> WS_SPARE_SHIFT, so that a message is not copied once for each of its
   pieces.  A large realloc() that moves pages costs next to nothing, and little steps keep
   the peak low; where it copies, steps are larger. */

#if defined(__linux__) && WS_HAS_GIL
#define WS_MOST_SPARE (128 * 1024)
#define WS_SPARE_SHIFT 7
#else
#define WS_MOST_SPARE PY_SSIZE_T_MAX
#define WS_SPARE_SHIFT 3
#endif

/* A mask is 8 bytes: the key, twice, as they lie in memory on any CPU.
   memcpy is how C reads a word that may lie anywhere: one instruction. */

static inline uint64_t ws_mask(const uint8_t *key, size_t offset) {
    uint8_t turned[8];
    uint64_t mask;
    size_t k;
    for (k = 0; k < 8; k++) turned[k] = key[(k + offset) & 3];
    memcpy(&mask, turned, 8);
    return mask;
}

/* XOR n bytes with the mask, from one place to another or on the spot, and
   return the OR of what was written: its high bits say whether it is ASCII. */
static inline uint64_t
ws_xor_words(uint8_t *to, const uint8_t *from, size_t n, uint64_t mask) {
    uint64_t word, seen = 0;
    size_t i = 0, left;
    for (; n - i >= 8; i += 8) {
        memcpy(&word, from + i, 8);
        word ^= mask;
        seen |= word;
        memcpy(to + i, &word, 8);
    }
    for (left = n & 7; left; left--, i++) {
        to[i] = from[i] ^ ((const uint8_t *) &mask)[i & 3];
        seen |= (uint64_t) to[i] << 56;
    }
    return seen;
}

#if !defined(__GNUC__)
#define ws_xor ws_xor_words
#define ws_learn_cpu() ((void) 0)
#else
/* Vectors are spelt out: compilers make them of the loop above at -O3 only,
   and never where the two places may be one.  Four a round. */
#define WS_XOR_VECTORS(name, width, target) \
target static uint64_t name(uint8_t *to, const uint8_t *from, size_t n, uint64_t mask) { \
    typedef uint64_t vector __attribute__((vector_size(width))); \
    vector a, b, c, d, key, all = {0}; \
    uint64_t seen = 0; \
    size_t i = 0, k; \
    if (n >= 2048) {    /* stores across cache lines cost double: align */ \
        i = -(uintptr_t) to & (width - 1); \
        seen = ws_xor_words(to, from, i, mask); \
        mask = ws_mask((const uint8_t *) &mask, i); \
    } \
    key = all + mask; \
    for (; n - i >= 4 * width; i += 4 * width) { \
        memcpy(&a, from + i, width); \
        memcpy(&b, from + i + width, width); \
        memcpy(&c, from + i + 2 * width, width); \
        memcpy(&d, from + i + 3 * width, width); \
        a ^= key, b ^= key, c ^= key, d ^= key; \
        all |= (a | b) | (c | d); \
        memcpy(to + i, &a, width); \
        memcpy(to + i + width, &b, width); \
        memcpy(to + i + 2 * width, &c, width); \
        memcpy(to + i + 3 * width, &d, width); \
    } \
    for (; n - i >= width; i += width) { \
        memcpy(&a, from + i, width); \
        a ^= key; \
        all |= a; \
        memcpy(to + i, &a, width); \
    } \
    for (k = 0; k < width / 8; k++) seen |= all[k]; \
    return seen | ws_xor_words(to + i, from + i, n - i, mask); \
}
#if !defined(__x86_64__)
WS_XOR_VECTORS(ws_xor, 16, )
#define ws_learn_cpu() ((void) 0)
#else
WS_XOR_VECTORS(ws_xor_sse2, 16, )
WS_XOR_VECTORS(ws_xor_avx2, 32, __attribute__((target("avx2"))))
static int ws_has_avx2;
static void ws_learn_cpu(void) { ws_has_avx2 = !!__builtin_cpu_supports("avx2"); }
static inline uint64_t ws_xor(uint8_t *to, const uint8_t *from, size_t n, uint64_t mask) {
    return ws_has_avx2 ? ws_xor_avx2(to, from, n, mask) : ws_xor_sse2(to, from, n, mask);
}
#endif
#endif

/* How many bytes at the front are ASCII. */
static inline size_t ws_ascii(const uint8_t *data, size_t n) {
    const uint64_t high_bits = 0x8080808080808080u;
    uint64_t words[4];
    size_t i = 0;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (n >= 8) {   /* mostly a word or two: its first byte is the lowest */
        memcpy(words, data, 8);
        words[0] &= high_bits;
        if (words[0]) return __builtin_ctzll(words[0]) >> 3;
        i = 8;
    }
#endif
    for (; n - i >= 32; i += 32) {
        memcpy(words, data + i, 32);
        if ((words[0] | words[1] | words[2] | words[3]) & high_bits) break;
    }
    for (; n - i >= 8; i += 8) {
        memcpy(words, data + i, 8);
        if (words[0] & high_bits) break;
    }
    while (i < n && data[i] < 0x80) i++;
    return i;
}

/* How far n bytes are UTF-8 (RFC 3629): where the first character starts that is not whole
   and valid, or n.  *cut: its end is all that it lacks. */
static size_t ws_utf8(const uint8_t *data, size_t n, int *cut) {
    uint8_t lead, low, high;
    size_t i = 0, k, more;
    *cut = 0;
    while ((i += ws_ascii(data + i, n - i)) < n) {
        do {    /* such characters mostly come together */
            lead = data[i];
            if (lead < 0xC2 || lead > 0xF4) return i;   /* a continuation, overlong, too large */
            if (lead < 0xE0 && n - i > 1) {     /* two and three bytes: as below, without a loop */
                if ((data[i + 1] & 0xC0) != 0x80) return i;
                i += 2;
                continue;
            }
            if (lead < 0xF0 && n - i > 2) {
                if ((data[i + 1] & 0xC0) != 0x80 || (data[i + 2] & 0xC0) != 0x80) return i;
                if (lead == 0xE0 && data[i + 1] < 0xA0) return i;
                if (lead == 0xED && data[i + 1] > 0x9F) return i;
                i += 3;
                continue;
            }
            low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;     /* overlong below it */
            high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;    /* a surrogate, too large */
            more = 1 + (lead >= 0xE0) + (lead >= 0xF0);
            for (k = 1; k <= more; k++) {
                if (n - i == k) {
                    *cut = 1;
                    return i;
                }
                if (data[i + k] < low || data[i + k] > high) return i;
                low = 0x80;
                high = 0xBF;
            }
            i += more + 1;
        } while (i < n && data[i] > 0x7F);
    }
    return n;
}

/* Where the ints 0 to 255 lie side by side, ws_zero is the first of them and
   an int's address tells its value.  (NULL: no address tells any.) */
static PyObject *ws_zero;
#define WS_STRIDE sizeof(PyLongObject)

static inline uintptr_t ws_value(PyObject *number) {    /* over 255: don't know */
    return ((uintptr_t) number - (uintptr_t) ws_zero) / WS_STRIDE;
}

/* Both go in blocks of a known size: that is what compilers vectorise. */
static void
ws_bytes_to_ints(PyObject **__restrict to, const uint8_t *__restrict from, size_t n) {
    uintptr_t zero = (uintptr_t) ws_zero;
    size_t i = 0, k;
    for (; n - i >= 16; i += 16)
        for (k = i; k < i + 16; k++) to[k] = (PyObject *) (zero + from[k] * WS_STRIDE);
    for (; i < n; i++) to[i] = (PyObject *) (zero + from[i] * WS_STRIDE);
}

/* Returns how many at the front, in whole blocks, were read. */
#if defined(__GNUC__)
__attribute__((always_inline))  /* into both of the builds below */
#endif
static inline size_t
ws_ints_to_bytes_any(uint8_t *__restrict to, PyObject *const *__restrict from, size_t n) {
    uintptr_t value, all = 0;
    size_t i = 0, k;
    for (; n - i >= 32; i += 32) {
        for (k = i; k < i + 32; k++) {
            value = ws_value(from[k]);
            all |= value;
            to[k] = (uint8_t) value;
        }
        if (all > 255) break;
    }
    return i;
}

#if !defined(__GNUC__) || !defined(__x86_64__)
#define ws_ints_to_bytes ws_ints_to_bytes_any
#else
__attribute__((target("avx2")))
static size_t ws_ints_to_bytes_avx2(uint8_t *to, PyObject *const *from, size_t n) {
    return ws_ints_to_bytes_any(to, from, n);
}
/* The other way there is no second build: it gains 5 %, as a new list costs more. */
static inline size_t ws_ints_to_bytes(uint8_t *to, PyObject *const *from, size_t n) {
    return ws_has_avx2 ? ws_ints_to_bytes_avx2(to, from, n) : ws_ints_to_bytes_any(to, from, n);
}
#endif

#endif
