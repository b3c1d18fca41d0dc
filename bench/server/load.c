/* The load of every measurement of a server: many WebSocket clients in one thread of plain C.
 *
 * It belongs to no library that is measured.  Written from RFC 6455; it trusts its server
 * with nothing: every answer is compared with the one that has to come.
 *
 * Works:
 *   echo    opens CONNECTIONS connections, and keeps them; a measurement keeps a message of
 *           64 bytes under way on each, until the time is over and the last echo came
 *   opens   keeps CONNECTIONS openings under way: connect, upgrade, Close, end of the stream;
 *           a measurement counts those that were completed
 *
 * Manners:
 *   frames  a WebSocket client: masked frames, and the server's unmasked ones
 *   raw     for a server that sends everything back as it came: the same steps and the same
 *           payload, without the frames' headers
 *
 * Usage: load PORT WORK MANNER CONNECTIONS [CORE]
 * On CORE, if one is named.  Prints a line of JSON when it is ready; then a result for each
 * line of its input, which says how many seconds a measurement shall take.  It begins a part
 * earlier, without counting, since a server that is asked by all at once is slow at first;
 * latencies (in microseconds) are those of all answers.  Exits when its input ends.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    PAYLOAD = 64,
    SERVER_HEADER = 2,              /* of an unmasked frame of PAYLOAD bytes */
    CLIENT_HEADER = 6,              /* of a masked one */
    ANSWER_MOST = 1024,             /* of the server's: a head, too */
    SPARE_DESCRIPTORS = 32,
    OPENING_AT_ONCE = 32,           /* fewer than a listening socket's queue has places */
    EVENTS = 256,
    LEAD = 4,                       /* a measurement begins a 4th of its time earlier */
    PATIENCE = 120,                 /* seconds that a server may be silent */
    SUB_BITS = 7,                   /* a latency is kept to a part in 128 */
    LATENCIES = (65 - SUB_BITS) << SUB_BITS,
};

#define SECOND INT64_C(1000000000)

/* The sample of RFC 6455, 1.3: with one key for all there is one right answer to compare. */
static const char KEY[] = "dGhlIHNhbXBsZSBub25jZQ==";
static const char ACCEPT[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/* Close, 1000, under a mask of zeros; and what may come back. */
static const unsigned char CLOSE[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8};
static const unsigned char CLOSE_REPLY[] = {0x88, 0x02, 0x03, 0xe8};

/* A connection's life, in its order; one that failed is CLOSED. */
enum state { CLOSED, UPGRADING, OPEN, CLOSING, ENDING };

struct connection {
    int fd;
    enum state state;
    int waiting;                    /* for an answer, or for the end of its life */
    uint32_t number, messages;      /* both are in each message */
    unsigned served;                /* the last measurement in which it was */
    int64_t since;                  /* when the message was sent, or the opening began */
    size_t have;
    unsigned char message[PAYLOAD];
    unsigned char answer[ANSWER_MOST];
};

/* What a measurement finds. */
struct tally {
    uint64_t count;                 /* within the time */
    uint64_t answered;              /* in all */
    uint64_t served;                /* connections, within the time */
    uint64_t errors;
    uint32_t latencies[LATENCIES];  /* of all that were answered */
    int64_t longest;
};

static struct {
    int port, epoll, raw, opens;
    int connections, open, waiting;
    struct connection *all;
    char request[256];
    size_t request_size;
    int64_t from, end;              /* between which answers count */
    unsigned measurement;
    struct tally tally;
    char trouble[128];              /* what went wrong first */
} load;

static uint32_t random_state = 2463534242;

/* ---- small things ---- */

static void give_up(const char *format, ...)
{
    va_list arguments;
    printf("{\"absent\": \"failed: ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\"}\n");
    fflush(stdout);
    exit(1);
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * SECOND + time.tv_nsec;
}

static double processor_seconds(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Marsaglia's xorshift: no adversary here tries to guess a masking key. */
static uint32_t next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

/* ---- latencies: the leading bits of each, counted ---- */

static size_t place_of(int64_t latency)
{
    uint64_t value = latency > 0 ? (uint64_t)latency : 0;
    if (value < 1u << SUB_BITS)
        return value;
    unsigned shift = 63 - (unsigned)__builtin_clzll(value) - SUB_BITS;
    return ((size_t)shift << SUB_BITS) + (value >> shift);
}

static double latency_at(size_t place)
{
    size_t shift = place >> SUB_BITS;
    if (shift < 2)                  /* exact up to twice 128 */
        return (double)place;
    uint64_t lead = (place & ((1u << SUB_BITS) - 1)) + (1u << SUB_BITS);
    return (double)(lead << (shift - 1)) + (double)(UINT64_C(1) << (shift - 1)) / 2;
}

/* In microseconds. */
static double percentile(const struct tally *tally, double part)
{
    uint64_t below = (uint64_t)(part * (double)tally->answered), seen = 0;
    for (size_t place = 0; place < LATENCIES; place++) {
        seen += tally->latencies[place];
        if (seen > below)
            return latency_at(place) / 1e3;
    }
    return 0;
}

/* An echo came, or an opening is complete; returns the time of it. */
static int64_t note_answer(struct connection *connection)
{
    int64_t at = now(), latency = at - connection->since;
    struct tally *tally = &load.tally;
    tally->answered++;
    tally->latencies[place_of(latency)]++;
    tally->longest = latency > tally->longest ? latency : tally->longest;
    if (at >= load.from && at < load.end) {
        tally->count++;
        if (connection->served != load.measurement) {
            connection->served = load.measurement;
            tally->served++;
        }
    }
    return at;
}

/* ---- a connection's steps ---- */

static void wait_from(struct connection *connection, int64_t at)
{
    connection->since = at;
    connection->have = 0;
    load.waiting += !connection->waiting;
    connection->waiting = 1;
}

static void rest(struct connection *connection)
{
    load.waiting -= connection->waiting;
    connection->waiting = 0;
}

static void hang_up(struct connection *connection)
{
    rest(connection);
    close(connection->fd);          /* which takes it out of the epoll's set as well */
    connection->fd = -1;
    connection->state = CLOSED;
}

static void fail(struct connection *connection, const char *why, int error)
{
    if (load.tally.errors++ == 0)
        snprintf(load.trouble, sizeof load.trouble, "%s%s%s", why, error ? ": " : "",
                 error ? strerror(error) : "");
    if (connection->state == OPEN)
        load.open--;
    hang_up(connection);
}

/* One outstanding message never fills a socket's buffer: a part that was sent is an error. */
static int send_whole(struct connection *connection, const void *from, size_t size)
{
    ssize_t sent = send(connection->fd, from, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent == (ssize_t)size)
        return 0;
    fail(connection, "cannot send", sent < 0 ? errno : 0);
    return -1;
}

/* Connecting to this machine waits for nobody while the server's queue has a place. */
static void begin_opening(struct connection *connection)
{
    int one = 1;
    struct timeval limit = {.tv_sec = PATIENCE};
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)load.port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    wait_from(connection, now());
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0) {
        fail(connection, "no socket", errno);
        return;
    }
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(connection->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    if (connect(connection->fd, (struct sockaddr *)&address, sizeof address) < 0
        || epoll_ctl(load.epoll, EPOLL_CTL_ADD, connection->fd, &event) < 0) {
        fail(connection, "cannot connect", errno);
        return;
    }
    connection->state = UPGRADING;
    send_whole(connection, load.request, load.request_size);
}

static void prepare_request(void)
{
    int size = snprintf(load.request, sizeof load.request,
                        "GET / HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nUpgrade: websocket\r\n"
                        "Connection: Upgrade\r\nSec-WebSocket-Key: %s\r\n"
                        "Sec-WebSocket-Version: 13\r\n\r\n",
                        load.port, KEY);
    load.request_size = (size_t)size;
}

/* Each message differs from all others: a late or crossed echo is noticed. */
static void send_message(struct connection *connection, int64_t at)
{
    unsigned char frame[CLIENT_HEADER + PAYLOAD];
    uint32_t key = next_random();
    uint64_t wide = (uint64_t)key << 32 | key, word;
    wait_from(connection, at);
    connection->messages++;
    memcpy(connection->message, &connection->number, 4);
    memcpy(connection->message + 4, &connection->messages, 4);
    if (load.raw) {
        send_whole(connection, connection->message, PAYLOAD);
        return;
    }
    frame[0] = 0x82;
    frame[1] = 0x80 | PAYLOAD;
    memcpy(frame + 2, &key, 4);
    for (size_t i = 0; i < PAYLOAD; i += 8) {
        memcpy(&word, connection->message + i, 8);
        word ^= wide;
        memcpy(frame + CLIENT_HEADER + i, &word, 8);
    }
    send_whole(connection, frame, sizeof frame);
}

static void begin_closing(struct connection *connection)
{
    connection->have = 0;
    connection->state = CLOSING;
    load.open--;
    send_whole(connection, CLOSE, sizeof CLOSE);
}

/* ---- what comes back: 1 where it is complete, 0 where not yet, -1 where it is wrong ---- */

static int compare(const struct connection *connection, size_t at, const void *with, size_t size)
{
    size_t have = connection->have - at;
    if (memcmp(connection->answer + at, with, have < size ? have : size) != 0 || have > size)
        return -1;
    return have == size;
}

static int check_upgrade(struct connection *connection)
{
    if (load.raw)
        return compare(connection, 0, load.request, load.request_size);
    char *head = (char *)connection->answer;
    head[connection->have] = '\0';
    char *end = strstr(head, "\r\n\r\n");
    if (end == NULL)
        return connection->have < ANSWER_MOST - 1 ? 0 : -1;
    if (strncmp(head, "HTTP/1.1 101 ", 13) != 0 || strstr(head, ACCEPT) == NULL)
        return -1;
    return end + 4 == head + connection->have ? 1 : -1;
}

static int check_echo(struct connection *connection)
{
    static const unsigned char header[SERVER_HEADER] = {0x82, PAYLOAD};
    if (load.raw)
        return compare(connection, 0, connection->message, PAYLOAD);
    if (connection->have <= SERVER_HEADER)
        return 0;
    if (memcmp(connection->answer, header, SERVER_HEADER) != 0)
        return -1;
    return compare(connection, SERVER_HEADER, connection->message, PAYLOAD);
}

static int check_close(struct connection *connection)
{
    return load.raw ? compare(connection, 0, CLOSE, sizeof CLOSE)
                    : compare(connection, 0, CLOSE_REPLY, sizeof CLOSE_REPLY);
}

static int check(struct connection *connection)
{
    switch (connection->state) {
    case UPGRADING:
        return check_upgrade(connection);
    case OPEN:
        return check_echo(connection);
    case CLOSING:
        return check_close(connection);
    default:
        return -1;
    }
}

static void upgraded(struct connection *connection)
{
    connection->state = OPEN;
    load.open++;
    if (load.opens)
        begin_closing(connection);
    else
        rest(connection);
}

static void echoed(struct connection *connection)
{
    int64_t at = note_answer(connection);
    if (at < load.end)
        send_message(connection, at);
    else
        rest(connection);
}

static void ended(struct connection *connection)
{
    int64_t at = note_answer(connection);
    hang_up(connection);
    if (at < load.end)
        begin_opening(connection);
}

/* A WebSocket server closes first; one that only echoes does not know that it is over. */
static void answered_close(struct connection *connection)
{
    connection->state = ENDING;
    if (load.raw)
        shutdown(connection->fd, SHUT_WR);
}

static void advance(struct connection *connection)
{
    switch (connection->state) {
    case UPGRADING:
        upgraded(connection);
        break;
    case OPEN:
        echoed(connection);
        break;
    default:
        answered_close(connection);
    }
}

static const char *expected(const struct connection *connection)
{
    static const char *const names[] = {
        [UPGRADING] = "the answer to the upgrade", [OPEN] = "an echo",
        [CLOSING] = "the answer to a Close", [ENDING] = "the end of a stream",
    };
    return names[connection->state];
}

static void on_readable(struct connection *connection)
{
    char why[96];
    ssize_t got = recv(connection->fd, connection->answer + connection->have,
                       ANSWER_MOST - 1 - connection->have, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got == 0 && connection->state == ENDING) {
        ended(connection);
        return;
    }
    if (got <= 0) {
        int error = got < 0 ? errno : 0;
        snprintf(why, sizeof why, "the server closed instead of %s", expected(connection));
        fail(connection, why, error);
        return;
    }
    connection->have += (size_t)got;
    int complete = check(connection);
    if (complete < 0) {
        snprintf(why, sizeof why, "something else came instead of %s", expected(connection));
        fail(connection, why, 0);
    } else if (complete) {
        advance(connection);
    }
}

/* ---- the works ---- */

/* Handles what comes within a second at most. */
static void handle_events(void)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(load.epoll, events, EVENTS, 1000);
    for (int i = 0; i < count; i++)
        on_readable(events[i].data.ptr);
}

/* Whoever was not answered in all the patience is an error, and closed. */
static void abandon(void)
{
    char why[96];
    for (int i = 0; i < load.connections; i++) {
        struct connection *connection = &load.all[i];
        if (!connection->waiting)
            continue;
        snprintf(why, sizeof why, "within %d s there came not %s", PATIENCE,
                 expected(connection));
        fail(connection, why, 0);
    }
}

static void open_all(void)
{
    int begun = 0;
    int64_t limit = now() + PATIENCE * SECOND;
    while (load.open < load.connections && load.tally.errors == 0) {
        int before = load.open;
        while (begun < load.connections && load.waiting < OPENING_AT_ONCE
               && load.tally.errors == 0)
            begin_opening(&load.all[begun++]);
        handle_events();
        if (load.open > before)     /* the patience is for a server that does nothing */
            limit = now() + PATIENCE * SECOND;
        else if (now() > limit)
            abandon();
    }
    if (load.tally.errors > 0)
        give_up("after %d of %d connections: %s", load.open, load.connections, load.trouble);
}

static void begin_all(int64_t at)
{
    for (int i = 0; i < load.connections; i++) {
        struct connection *connection = &load.all[i];
        if (load.opens)
            begin_opening(connection);
        else if (connection->state == OPEN)
            send_message(connection, at);
    }
}

static void measure(double seconds)
{
    struct tally *tally = &load.tally;
    memset(tally, 0, sizeof *tally);
    load.trouble[0] = '\0';
    load.measurement++;
    double used = processor_seconds(), used_within = 0;
    int64_t begin = now(), at = begin, time = (int64_t)(seconds * (double)SECOND);
    load.from = begin + time / LEAD;
    load.end = load.from + time;
    begin_all(begin);
    while (load.waiting > 0 && at < load.end + PATIENCE * SECOND) {
        handle_events();
        at = now();
        if (at >= load.end && used_within == 0)
            used_within = processor_seconds() - used;
    }
    abandon();
    printf("{\"count\": %llu, \"seconds\": %.6f, \"answered\": %llu, \"served\": %llu, "
           "\"p50\": %.1f, \"p99\": %.1f, \"longest\": %.1f, \"far_end_cpu\": %.6f, "
           "\"errors\": %llu, \"trouble\": \"%s\"}\n",
           (unsigned long long)tally->count, seconds, (unsigned long long)tally->answered,
           (unsigned long long)tally->served, percentile(tally, 0.5), percentile(tally, 0.99),
           (double)tally->longest / 1e3, used_within * LEAD / (LEAD + 1), (unsigned long long)tally->errors,
           load.trouble);
    fflush(stdout);
}

/* ---- the process ---- */

static void raise_limit(int connections)
{
    struct rlimit limit;
    rlim_t needed = (rlim_t)connections + SPARE_DESCRIPTORS;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < needed)
        give_up("%d connections need %llu descriptors, RLIMIT_NOFILE allows %llu",
                connections, (unsigned long long)needed, (unsigned long long)limit.rlim_cur);
}

static void stay_on(int core)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)core, &set);
    if (sched_setaffinity(0, sizeof set, &set) < 0)
        give_up("cannot run on core %d: %s", core, strerror(errno));
}

static void prepare_connections(void)
{
    load.all = calloc((size_t)load.connections, sizeof *load.all);
    if (load.all == NULL)
        give_up("no memory for %d connections", load.connections);
    for (int i = 0; i < load.connections; i++) {
        struct connection *connection = &load.all[i];
        connection->fd = -1;
        connection->number = (uint32_t)i;
        for (int at = 0; at < PAYLOAD; at++)
            connection->message[at] = (unsigned char)(at * 7 + 3);
    }
}

int main(int argc, char **argv)
{
    char line[64];

    if (argc < 5) {
        fprintf(stderr, "usage: load PORT echo|opens frames|raw CONNECTIONS [CORE]\n");
        return 2;
    }
    load.port = atoi(argv[1]);
    load.opens = strcmp(argv[2], "opens") == 0;
    load.raw = strcmp(argv[3], "raw") == 0;
    load.connections = atoi(argv[4]);
    if (argc > 5)
        stay_on(atoi(argv[5]));
    signal(SIGPIPE, SIG_IGN);
    raise_limit(load.connections);
    load.epoll = epoll_create1(0);
    prepare_request();
    prepare_connections();
    if (!load.opens)
        open_all();
    printf("{\"ready\": true}\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin) != NULL)
        measure(atof(line));
    return 0;
}
