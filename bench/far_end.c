/* The far end of every measurement: a small WebSocket server in plain C.
 *
 * It belongs to no library that is measured.  Written from RFC 6455; it trusts
 * its client as far as a benchmark may, and serves on 127.0.0.1 only.
 *
 * Paths:
 *   /echo                       every message comes back, whole, once it is complete
 *   /flood?size=N&text=0|1&fragments=K&piece=B
 *                               a text message with a number asks for so many messages
 *                               of N bytes, in K frames each, written B bytes at a time
 *                               (0: as much as the socket takes)
 *   /sink                       counts messages; a text message ends the count and is
 *                               answered with a text message "messages bytes"
 *
 * Usage: far_end [CERTIFICATE_CHAIN PRIVATE_KEY]
 * Prints "PORT TLS_PORT" (0 without TLS), and exits when its standard input ends.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

#ifdef FAR_END_TLS
#include <openssl/bio.h>
#include <openssl/ssl.h>
#endif

enum {
    KIB = 1024,
    MIB = 1024 * KIB,
    READ_AHEAD = 512 * KIB,      /* what one read may bring */
    IMAGE_GOAL = 512 * KIB,      /* what one write of a flood brings, at least */
    IMAGE_MOST = 4 * MIB,        /* a message over this is written from a repeated block */
    KEPT_MOST = 4 * MIB,         /* a larger buffer is not kept for the next connection */
    HEAD_MOST = 16 * KIB,
    HEADER_MOST = 14,
    SPARE_WORKERS = 4,
};

enum opcode { CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10 };

/* ---- a link: a socket, perhaps with TLS, and what was read ahead from it ---- */

struct link {
    int fd;
    unsigned char *data;
    size_t capacity, start, end; /* data[start:end] was read and not yet used */
#ifdef FAR_END_TLS
    SSL *tls;
    BIO *records;                /* gathers records, to be written in one call */
#endif
};

static void *must(void *memory)
{
    if (memory == NULL) {
        perror("far_end: memory");
        exit(1);
    }
    return memory;
}

static ssize_t read_some(struct link *link, void *to, size_t most)
{
#ifdef FAR_END_TLS
    if (link->tls != NULL) {
        size_t got = 0;
        return SSL_read_ex(link->tls, to, most, &got) ? (ssize_t)got : -1;
    }
#endif
    ssize_t got;
    do
        got = recv(link->fd, to, most, 0);
    while (got < 0 && errno == EINTR);
    return got;
}

static int write_plain(int fd, const unsigned char *from, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, from, size, 0);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return -1;
        from += sent;
        size -= (size_t)sent;
    }
    return 0;
}

#ifdef FAR_END_TLS
/* Gathers the records of up to READ_AHEAD bytes before it writes them: a system call
 * for each record of 16 KiB would make this side the slow one. */
static int write_sealed(struct link *link, const unsigned char *from, size_t size)
{
    while (size > 0) {
        size_t part = size < READ_AHEAD ? size : READ_AHEAD, taken = 0;
        if (!SSL_write_ex(link->tls, from, part, &taken) || BIO_flush(link->records) != 1)
            return -1;
        from += taken;
        size -= taken;
    }
    return 0;
}
#endif

static int write_all(struct link *link, const void *from, size_t size)
{
#ifdef FAR_END_TLS
    if (link->tls != NULL)
        return write_sealed(link, from, size);
#endif
    return write_plain(link->fd, from, size);
}

/* Sees to it that `size` bytes can lie at data[start:], moving or growing the buffer. */
static void make_room(struct link *link, size_t size)
{
    if (link->start == link->end)
        link->start = link->end = HEADER_MOST; /* an echo's header goes before its payload */
    if (link->start + size <= link->capacity)
        return;
    size_t kept = link->end - link->start;
    if (HEADER_MOST + size > link->capacity) {
        link->capacity = HEADER_MOST + size + READ_AHEAD;
        unsigned char *larger = must(malloc(link->capacity));
        if (kept > 0)
            memcpy(larger + HEADER_MOST, link->data + link->start, kept);
        free(link->data);
        link->data = larger;
    } else {
        memmove(link->data + HEADER_MOST, link->data + link->start, kept);
    }
    link->start = HEADER_MOST;
    link->end = HEADER_MOST + kept;
}

/* One read into the buffer, after what lies there. */
static int fill(struct link *link)
{
    ssize_t got = read_some(link, link->data + link->end, link->capacity - link->end);
    if (got <= 0)
        return -1;
    link->end += (size_t)got;
    return 0;
}

/* Reads until data[start:] holds `size` bytes. */
static int need(struct link *link, size_t size)
{
    if (link->end - link->start >= size)
        return 0;
    make_room(link, size > READ_AHEAD ? size : READ_AHEAD);
    while (link->end - link->start < size)
        if (fill(link) < 0)
            return -1;
    return 0;
}

/* ---- the opening handshake ---- */

static uint32_t rotate(uint32_t word, int by)
{
    return word << by | word >> (32 - by);
}

static void sha1_block(uint32_t state[5], const unsigned char *block)
{
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16
             | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rotate(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        uint32_t mix, constant;
        if (i < 20)
            mix = (b & c) | (~b & d), constant = 0x5a827999;
        else if (i < 40)
            mix = b ^ c ^ d, constant = 0x6ed9eba1;
        else if (i < 60)
            mix = (b & c) | (b & d) | (c & d), constant = 0x8f1bbcdc;
        else
            mix = b ^ c ^ d, constant = 0xca62c1d6;
        uint32_t next = rotate(a, 5) + mix + e + constant + w[i];
        e = d, d = c, c = rotate(b, 30), b = a, a = next;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d, state[4] += e;
}

/* SHA-1 of a key and the protocol's GUID: 60 bytes, which makes two blocks. */
static void sha1_60(const unsigned char *message, unsigned char digest[20])
{
    uint32_t state[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    unsigned char blocks[128] = {0};
    memcpy(blocks, message, 60);
    blocks[60] = 0x80;
    blocks[126] = 60 * 8 >> 8;
    blocks[127] = 60 * 8 & 0xff;
    sha1_block(state, blocks);
    sha1_block(state, blocks + 64);
    for (int i = 0; i < 20; i++)
        digest[i] = (unsigned char)(state[i / 4] >> (24 - 8 * (i % 4)));
}

/* Base64 of 20 bytes: 28 characters. */
static void base64_20(const unsigned char digest[20], char text[29])
{
    static const char symbols[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    unsigned char padded[21] = {0};
    memcpy(padded, digest, 20);
    for (int i = 0; i < 7; i++) {
        uint32_t bits = (uint32_t)padded[3 * i] << 16 | (uint32_t)padded[3 * i + 1] << 8
                      | padded[3 * i + 2];
        for (int j = 0; j < 4; j++)
            text[4 * i + j] = symbols[bits >> (18 - 6 * j) & 63];
    }
    text[27] = '=';
    text[28] = '\0';
}

/* The first character of a header's value, or NULL. */
static const char *header_value(const char *head, const char *name)
{
    size_t length = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, length) == 0 && line[length] == ':') {
            line += length + 1;
            return line + strspn(line, " \t");
        }
    }
    return NULL;
}

/* Answers the upgrade and leaves the request target in `target`. */
static int shake_hands(struct link *link, char *target, size_t target_size)
{
    char head[HEAD_MOST + 1], accept[29], answer[256];
    unsigned char digest[20];
    char *end = NULL;
    make_room(link, READ_AHEAD);
    do {
        if (link->end - link->start > HEAD_MOST / 2 || fill(link) < 0)
            return -1;
        size_t length = link->end - link->start;
        length = length < HEAD_MOST ? length : HEAD_MOST;
        memcpy(head, link->data + link->start, length);
        head[length] = '\0';
        end = strstr(head, "\r\n\r\n");
    } while (end == NULL);
    link->start += (size_t)(end + 4 - head);

    const char *key = header_value(head, "Sec-WebSocket-Key");
    if (key == NULL || strcspn(key, " \t\r\n") != 24 || strncmp(head, "GET ", 4) != 0)
        return -1;
    size_t length = strcspn(head + 4, " ");
    if (length >= target_size)
        return -1;
    memcpy(target, head + 4, length);
    target[length] = '\0';

    unsigned char keyed[60];
    memcpy(keyed, key, 24);
    memcpy(keyed + 24, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", 36);
    sha1_60(keyed, digest);
    base64_20(digest, accept);
    int size = snprintf(answer, sizeof answer,
                        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                        accept);
    return write_all(link, answer, (size_t)size);
}

/* ---- frames ---- */

struct frame {
    unsigned char first;
    unsigned char key[4];
    size_t header, length;
};

static int is_control(const struct frame *frame)
{
    return (frame->first & 8) != 0;
}

/* The header at data[start:end]: its size, or 0 where it is not complete. */
static size_t parse_header(const unsigned char *at, size_t have, struct frame *frame)
{
    if (have < 2)
        return 0;
    size_t short_length = at[1] & 0x7f;
    size_t wide = short_length == 126 ? 2 : short_length == 127 ? 8 : 0;
    size_t masked = at[1] >> 7;
    frame->header = 2 + wide + 4 * masked;
    if (have < frame->header)
        return 0;
    frame->first = at[0];
    frame->length = wide ? 0 : short_length;
    for (size_t i = 0; i < wide; i++)
        frame->length = frame->length << 8 | at[2 + i];
    if (masked)
        memcpy(frame->key, at + 2 + wide, 4);
    else
        memset(frame->key, 0, 4);
    return frame->header;
}

/* The header of an unmasked frame, into at most 10 bytes; returns its size. */
static size_t write_header(unsigned char *at, unsigned char first, size_t length)
{
    size_t wide = length < 126 ? 0 : length < 65536 ? 2 : 8;
    at[0] = first;
    at[1] = (unsigned char)(wide == 0 ? length : wide == 2 ? 126 : 127);
    for (size_t i = 0; i < wide; i++)
        at[2 + i] = (unsigned char)(length >> 8 * (wide - 1 - i));
    return 2 + wide;
}

static size_t header_size(size_t length)
{
    return length < 126 ? 2 : length < 65536 ? 4 : 10;
}

/* XORs payload[from:to] with the key; the loop over words is one that compilers widen. */
static void unmask(unsigned char *payload, size_t from, size_t to, const unsigned char key[4])
{
    unsigned char turned[8];
    uint64_t wide, word;
    for (size_t i = 0; i < 8; i++)
        turned[i] = key[(from + i) & 3];
    memcpy(&wide, turned, 8);
    unsigned char *at = payload + from;
    size_t size = to - from, words = size / 8;
    for (size_t i = 0; i < words; i++) {
        memcpy(&word, at + 8 * i, 8);
        word ^= wide;
        memcpy(at + 8 * i, &word, 8);
    }
    for (size_t i = 8 * words; i < size; i++)
        at[i] ^= turned[i & 7];
}

static int read_header(struct link *link, struct frame *frame)
{
    while (parse_header(link->data + link->start, link->end - link->start, frame) == 0)
        if (need(link, link->end - link->start + 1) < 0)
            return -1;
    return 0;
}

/* Reads a frame's whole payload, unmasking what arrives while the cache still has it;
 * afterwards the payload lies at data[start:], the header just before it. */
static int read_payload(struct link *link, const struct frame *frame)
{
    make_room(link, frame->header + frame->length);
    link->start += frame->header;
    size_t clear = 0;
    for (;;) {
        size_t have = link->end - link->start;
        have = have < frame->length ? have : frame->length;
        unmask(link->data + link->start, clear, have, frame->key);
        clear = have;
        if (clear == frame->length)
            return 0;
        if (fill(link) < 0)
            return -1;
    }
}

static int write_text(struct link *link, const char *text)
{
    unsigned char frame[64];
    size_t length = strlen(text), header = write_header(frame, 0x80 | TEXT, length);
    memcpy(frame + header, text, length);
    return write_all(link, frame, header + length);
}

/* Answers a control frame whose payload was read; -1 ends the connection. */
static int answer_control(struct link *link, const struct frame *frame)
{
    unsigned char answer[2 + 125];
    enum opcode opcode = frame->first & 0x0f;
    if (frame->length > 125 || opcode == PONG)
        return opcode == PONG ? 0 : -1;
    size_t header = write_header(answer, 0x80 | (opcode == PING ? PONG : CLOSE), frame->length);
    memcpy(answer + header, link->data + link->start, frame->length);
    int sent = write_all(link, answer, header + frame->length);
    return opcode == PING ? sent : -1;
}

/* ---- what the paths do ---- */

static void serve_echo(struct link *link)
{
    struct frame frame;
    unsigned char *gathered = NULL; /* a fragmented message, room for a header before it */
    size_t gathered_size = 0, gathered_capacity = 0;
    unsigned char kind = 0;

    while (read_header(link, &frame) == 0 && read_payload(link, &frame) == 0) {
        unsigned char *payload = link->data + link->start;
        int final = frame.first & 0x80;
        if (is_control(&frame)) {
            if (answer_control(link, &frame) < 0)
                break;
        } else if (final && (frame.first & 0x0f) != CONTINUATION) {
            size_t header = header_size(frame.length);
            write_header(payload - header, frame.first, frame.length);
            if (write_all(link, payload - header, header + frame.length) < 0)
                break;
        } else {
            if ((frame.first & 0x0f) != CONTINUATION)
                kind = frame.first & 0x0f;
            if (HEADER_MOST + gathered_size + frame.length > gathered_capacity) {
                gathered_capacity = 2 * (HEADER_MOST + gathered_size + frame.length);
                gathered = must(realloc(gathered, gathered_capacity));
            }
            memcpy(gathered + HEADER_MOST + gathered_size, payload, frame.length);
            gathered_size += frame.length;
            if (final) {
                size_t header = header_size(gathered_size);
                unsigned char *at = gathered + HEADER_MOST - header;
                write_header(at, 0x80 | kind, gathered_size);
                if (write_all(link, at, header + gathered_size) < 0)
                    break;
                gathered_size = 0;
            }
        }
        link->start += frame.length;
    }
    free(gathered);
}

static void serve_sink(struct link *link)
{
    struct frame frame;
    uint64_t messages = 0, bytes = 0;

    while (read_header(link, &frame) == 0) {
        if (is_control(&frame) || (frame.first & 0x0f) == TEXT) {
            char answer[48];
            if (read_payload(link, &frame) < 0)
                break;
            if (is_control(&frame)) {
                if (answer_control(link, &frame) < 0)
                    break;
            } else {
                snprintf(answer, sizeof answer, "%llu %llu", (unsigned long long)messages,
                         (unsigned long long)bytes);
                messages = bytes = 0;
                if (write_text(link, answer) < 0)
                    break;
            }
            link->start += frame.length;
            continue;
        }
        messages += frame.first >> 7;
        bytes += frame.length;
        size_t left = frame.header + frame.length;
        for (;;) {
            size_t have = link->end - link->start;
            size_t used = have < left ? have : left;
            link->start += used;
            left -= used;
            if (left == 0)
                break;
            make_room(link, READ_AHEAD);
            if (fill(link) < 0)
                return;
        }
    }
}

struct flood {
    size_t size, fragments, piece;
    unsigned char kind;
    unsigned char *image; /* whole messages, ready to be written; NULL for large ones */
    size_t image_size, image_messages, message_size;
    unsigned char *block; /* the payload that large messages repeat */
};

static size_t number_in(const char *target, const char *name, size_t otherwise)
{
    char sought[32];
    snprintf(sought, sizeof sought, "%s=", name);
    const char *at = strstr(target, sought);
    return at == NULL ? otherwise : (size_t)strtoull(at + strlen(sought), NULL, 10);
}

static size_t fragment_size(const struct flood *flood, size_t index)
{
    size_t each = flood->size / flood->fragments;
    return index + 1 < flood->fragments ? each : flood->size - each * index;
}

static size_t fragment_header(const struct flood *flood, size_t index, unsigned char *at)
{
    unsigned char first = index == 0 ? flood->kind : CONTINUATION;
    if (index + 1 == flood->fragments)
        first |= 0x80;
    return write_header(at, first, fragment_size(flood, index));
}

static void fill_payload(const struct flood *flood, unsigned char *at, size_t size)
{
    for (size_t i = 0; i < size; i++)
        at[i] = (unsigned char)(flood->kind == TEXT ? 'a' + i % 26 : i * 7 + 3);
}

static void prepare_flood(struct flood *flood, const char *target)
{
    flood->size = number_in(target, "size", 64);
    flood->fragments = number_in(target, "fragments", 1);
    flood->piece = number_in(target, "piece", 0);
    flood->kind = number_in(target, "text", 0) ? TEXT : BINARY;
    if (flood->fragments < 1)
        flood->fragments = 1;
    for (size_t i = 0; i < flood->fragments; i++) {
        size_t size = fragment_size(flood, i);
        flood->message_size += header_size(size) + size;
    }
    if (flood->message_size > IMAGE_MOST) {
        flood->block = must(malloc(MIB));
        fill_payload(flood, flood->block, MIB);
        return;
    }
    flood->image_messages = IMAGE_GOAL / flood->message_size + 1;
    flood->image = must(malloc(flood->image_messages * flood->message_size));
    for (size_t message = 0; message < flood->image_messages; message++)
        for (size_t i = 0; i < flood->fragments; i++) {
            size_t size = fragment_size(flood, i);
            flood->image_size += fragment_header(flood, i, flood->image + flood->image_size);
            fill_payload(flood, flood->image + flood->image_size, size);
            flood->image_size += size;
        }
}

static int write_pieces(struct link *link, const struct flood *flood, const unsigned char *from,
                        size_t size)
{
    size_t piece = flood->piece ? flood->piece : size;
    for (size_t done = 0; done < size; done += piece)
        if (write_all(link, from + done, size - done < piece ? size - done : piece) < 0)
            return -1;
    return 0;
}

static int write_large(struct link *link, const struct flood *flood)
{
    unsigned char header[HEADER_MOST];
    for (size_t i = 0; i < flood->fragments; i++) {
        size_t left = fragment_size(flood, i);
        if (write_all(link, header, fragment_header(flood, i, header)) < 0)
            return -1;
        while (left > 0) {
            size_t part = left < MIB ? left : MIB;
            if (write_pieces(link, flood, flood->block, part) < 0)
                return -1;
            left -= part;
        }
    }
    return 0;
}

static int write_flood(struct link *link, const struct flood *flood, uint64_t count)
{
    if (flood->image == NULL) {
        for (; count > 0; count--)
            if (write_large(link, flood) < 0)
                return -1;
        return 0;
    }
    for (; count >= flood->image_messages; count -= flood->image_messages)
        if (write_pieces(link, flood, flood->image, flood->image_size) < 0)
            return -1;
    return write_pieces(link, flood, flood->image, count * flood->message_size);
}

static void serve_flood(struct link *link, const char *target)
{
    struct frame frame;
    struct flood flood = {0};
    char number[24];

    prepare_flood(&flood, target);
    while (read_header(link, &frame) == 0 && read_payload(link, &frame) == 0) {
        if (is_control(&frame)) {
            if (answer_control(link, &frame) < 0)
                break;
        } else {
            if (frame.length >= sizeof number)
                break;
            memcpy(number, link->data + link->start, frame.length);
            number[frame.length] = '\0';
            if (write_flood(link, &flood, strtoull(number, NULL, 10)) < 0)
                break;
        }
        link->start += frame.length;
    }
    free(flood.image);
    free(flood.block);
}

/* ---- connections ---- */

struct listener {
    int fd;
    atomic_int idle; /* workers that wait in accept() */
#ifdef FAR_END_TLS
    SSL_CTX *context;
#endif
};

static int start_tls(struct link *link, const struct listener *listener)
{
#ifdef FAR_END_TLS
    if (listener->context == NULL)
        return 0;
    link->tls = SSL_new(listener->context);
    if (link->tls == NULL || !SSL_set_fd(link->tls, link->fd) || SSL_accept(link->tls) != 1)
        return -1;
    link->records = must(BIO_new(BIO_f_buffer()));
    BIO_set_write_buffer_size(link->records, READ_AHEAD + 32 * KIB);
    BIO_push(link->records, must(BIO_new_socket(link->fd, BIO_NOCLOSE)));
    SSL_set0_wbio(link->tls, link->records); /* reads stay as they were */
#else
    (void)link, (void)listener;
#endif
    return 0;
}

static void serve(struct link *link)
{
    char target[512];
    if (shake_hands(link, target, sizeof target) < 0)
        return;
    if (strncmp(target, "/flood", 6) == 0)
        serve_flood(link, target);
    else if (strncmp(target, "/sink", 5) == 0)
        serve_sink(link);
    else
        serve_echo(link);
}

static void close_link(struct link *link)
{
#ifdef FAR_END_TLS
    if (link->tls != NULL) {
        if (link->records != NULL) {
            SSL_shutdown(link->tls);
            (void)BIO_flush(link->records);
        }
        SSL_free(link->tls);
        link->tls = NULL;
        link->records = NULL;
    }
#endif
    close(link->fd);
    if (link->capacity > KEPT_MOST) {
        free(link->data);
        link->data = NULL;
        link->capacity = 0;
    }
    link->start = link->end = 0;
}

static void add_worker(struct listener *listener);

/* A thread that accepts a connection, serves it, and accepts the next: no thread is
 * started for a connection as long as there are spare ones. */
static void *work(void *argument)
{
    struct listener *listener = argument;
    struct link link = {0};
    for (;;) {
        int one = 1, fd = accept(listener->fd, NULL, NULL);
        if (fd < 0)
            continue;
        if (atomic_fetch_sub(&listener->idle, 1) <= 1)
            add_worker(listener);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        link.fd = fd;
        if (start_tls(&link, listener) == 0)
            serve(&link);
        close_link(&link);
        atomic_fetch_add(&listener->idle, 1);
    }
    return NULL;
}

static void add_worker(struct listener *listener)
{
    pthread_t thread;
    pthread_attr_t attributes;
    atomic_fetch_add(&listener->idle, 1);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * KIB);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    if (pthread_create(&thread, &attributes, work, listener) != 0) {
        perror("far_end: pthread_create");
        exit(1);
    }
    pthread_attr_destroy(&attributes);
}

static int listen_locally(struct listener *listener)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    listener->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (listener->fd < 0 || bind(listener->fd, (struct sockaddr *)&address, size) < 0
        || listen(listener->fd, 1024) < 0
        || getsockname(listener->fd, (struct sockaddr *)&address, &size) < 0) {
        perror("far_end: listen");
        exit(1);
    }
    for (int i = 0; i < SPARE_WORKERS; i++)
        add_worker(listener);
    return ntohs(address.sin_port);
}

#ifdef FAR_END_TLS
static SSL_CTX *load_certificate(const char *chain, const char *key)
{
    SSL_CTX *context = must(SSL_CTX_new(TLS_server_method()));
    SSL_CTX_set_read_ahead(context, 1);
    SSL_CTX_set_default_read_buffer_len(context, 256 * KIB);
    if (SSL_CTX_use_certificate_chain_file(context, chain) != 1
        || SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) != 1) {
        fprintf(stderr, "far_end: cannot load the certificate\n");
        exit(1);
    }
    return context;
}
#endif

int main(int argc, char **argv)
{
    static struct listener plain, sealed;
    int tls_port = 0;
    char ignored[64];

    signal(SIGPIPE, SIG_IGN);
    int port = listen_locally(&plain);
    if (argc == 3) {
#ifdef FAR_END_TLS
        sealed.context = load_certificate(argv[1], argv[2]);
        tls_port = listen_locally(&sealed);
#else
        (void)argv, (void)sealed;
#endif
    }
    printf("%d %d\n", port, tls_port);
    fflush(stdout);
    while (read(0, ignored, sizeof ignored) > 0)
        ;
    _exit(0);
}
