/* load.c - the load generator: every connection sends a tools/call, waits for the answer, sends the next.
 *
 * The one rule: an answer counts only when it is the right one. Each is held against its status, its id and its size,
 * with `check` against the whole text, and a run ends only when every request sent has been answered: so the CPU that a
 * subject used belongs to the requests that are counted, and no work leaks into the round of the next subject.
 *
 *   gcc -O2 -o load load.c && ./load < plan        prints one line of JSON
 *
 * The plan is lines of `key value`: port, path, connections, seconds, limit (requests, 0 = no limit), grace (seconds to
 * wait for the last answers), first-id (ten digits), check (0|1), text (what the result has to hold); any number of
 * `header` and `session` (connection i uses session i); `before` and `after`: the body around the id. */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 1024, READ_SIZE = 262144, ID_DIGITS = 10, EDGE = 512, ENOUGH_ERRORS = 100 };

typedef struct {
    int port, connections, check, session_count;
    size_t limit;
    double seconds, grace;
    uint64_t next_id;
    char *path, *before, *after, *session[MAX_CONNECTIONS];
    span text;
    buffer headers;
} plan;

typedef struct {
    int fd, busy, wants_write, number;
    buffer in, out;
    size_t sent;
    size_t head, body;    /* bytes of the head, once it is there, and of the body decoded so far */
    size_t raw;           /* where the next chunk begins */
    uint64_t id;
    double began;
} connection;

static plan job;
static connection *connections;
static int poller, busy;
static double deadline, last_answer;
static size_t asked, answered, errors, latency_room;
static uint32_t *latency;   /* microseconds, one for each answer */
static char first_error[400];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

__attribute__((format(printf, 2, 3))) static void add(buffer *b, const char *format, ...) {
    va_list values;
    va_start(values, format);
    reserve(b, 4096);
    int n = vsnprintf(b->data + b->len, 4096, format, values);
    va_end(values);
    if (n < 0 || n >= 4096) fprintf(stderr, "load: a line of the plan is too long\n"), exit(2);
    b->len += (size_t)n;
}

/* ---- the plan ---------------------------------------- */

static void add_session(const char *id) {
    if (job.session_count < MAX_CONNECTIONS) job.session[job.session_count++] = strdup(id);
}

static void plan_line(const char *key, char *value) {
    span k = text(key);
    if (same(k, LITERAL("port"))) job.port = atoi(value);
    else if (same(k, LITERAL("path"))) job.path = strdup(value);
    else if (same(k, LITERAL("connections"))) job.connections = atoi(value);
    else if (same(k, LITERAL("seconds"))) job.seconds = atof(value);
    else if (same(k, LITERAL("limit"))) job.limit = strtoul(value, NULL, 10);
    else if (same(k, LITERAL("grace"))) job.grace = atof(value);
    else if (same(k, LITERAL("first-id"))) job.next_id = strtoull(value, NULL, 10);
    else if (same(k, LITERAL("check"))) job.check = atoi(value);
    else if (same(k, LITERAL("text"))) job.text = text(strdup(value));
    else if (same(k, LITERAL("before"))) job.before = strdup(value);
    else if (same(k, LITERAL("after"))) job.after = strdup(value);
    else if (same(k, LITERAL("session"))) add_session(value);
    else if (same(k, LITERAL("header"))) add(&job.headers, "%s\r\n", value);
    else fprintf(stderr, "load: unknown key %s\n", key), exit(2);
}

static void read_plan(void) {
    char *line = NULL;
    size_t room = 0;
    for (ssize_t n; (n = getline(&line, &room, stdin)) > 0;) {
        if (line[n - 1] == '\n') line[n - 1] = 0;
        char *value = strchr(line, ' ');
        if (!value) fprintf(stderr, "load: no value in %s\n", line), exit(2);
        *value++ = 0;
        plan_line(line, value);
    }
    free(line);
    if (!job.port || !job.path || !job.before || !job.after || !job.text.at || job.connections < 1 ||
        job.connections > MAX_CONNECTIONS || job.next_id < 1000000000)
        fprintf(stderr, "load: the plan is not complete\n"), exit(2);
}

/* ---- asking ---------------------------------------- */

static void fail(const char *what, span detail) {
    if (!errors++) {
        int shown = detail.len < 300 ? (int)detail.len : 300;
        snprintf(first_error, sizeof first_error, "%s: %.*s", what, shown, detail.at);
        for (int i = 0; first_error[i]; i++)
            if ((unsigned char)first_error[i] < ' ' || strchr("\"\\", first_error[i])) first_error[i] = '\'';
    }
}

static void open_connection(connection *c) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)job.port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(c->fd, (struct sockaddr *)&a, sizeof a)) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    c->wants_write = 0;
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
}

static void reopen(connection *c) {
    close(c->fd);
    open_connection(c);
}

static void write_request(connection *c) {
    add(&c->out, "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n", job.path, job.port);
    append(&c->out, (span){job.headers.data, job.headers.len});
    if (job.session_count) add(&c->out, "Mcp-Session-Id: %s\r\n", job.session[c->number % job.session_count]);
    add(&c->out, "Content-Length: %zu\r\n\r\n", strlen(job.before) + ID_DIGITS + strlen(job.after));
    add(&c->out, "%s%010llu%s", job.before, (unsigned long long)c->id, job.after);
}

static int flush(connection *c) {
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) return 0;
        if (n < 0) break;
        c->sent += (size_t)n;
    }
    int wants_write = c->sent < c->out.len;
    struct epoll_event e = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0), .data.ptr = c};
    if (wants_write != c->wants_write) epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    c->wants_write = wants_write;
    return 1;
}

static void stop(connection *c) {
    busy -= c->busy;
    c->busy = 0;
}

static void ask(connection *c) {
    c->began = now();
    if (c->began >= deadline || (job.limit && asked >= job.limit) || errors >= ENOUGH_ERRORS) {
        stop(c);
        return;
    }
    busy += !c->busy;
    c->busy = 1;
    c->id = job.next_id++;
    c->in.len = c->out.len = c->sent = c->head = c->body = c->raw = 0;
    asked++;
    write_request(c);
    if (!flush(c)) {
        fail("the connection was closed", LITERAL("while sending"));
        reopen(c);
        stop(c);
    }
}

/* ---- the answer ---------------------------------------- */

/* Decodes chunks in place; gives 1 when the last one is there. */
static int dechunk(connection *c) {
    for (;;) {
        span rest = {c->in.data + c->raw, c->in.len - c->raw};
        const char *eol = memmem(rest.at, rest.len, "\r\n", 2);
        if (!eol) return 0;
        size_t size = strtoul(rest.at, NULL, 16), line = (size_t)(eol - rest.at) + 2;
        if (rest.len < line + size + 2) return 0;
        if (!size) return 1;
        memmove(c->in.data + c->head + c->body, eol + 2, size);
        c->body += size;
        c->raw += line + size + 2;
    }
}

static int complete(connection *c) {
    if (!c->head) c->raw = c->head = head_length((span){c->in.data, c->in.len});
    if (!c->head) return 0;
    span head = {c->in.data, c->head};
    if (says(head, LITERAL("transfer-encoding"), LITERAL("chunked"))) return dechunk(c);
    c->body = number(header(head, LITERAL("content-length")));
    return c->in.len >= c->head + c->body;
}

/* The number itself and no string of the same digits; ids stand near one end of a body. */
static int has_id(span body, uint64_t id) {
    char digits[24];
    span want = {digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)id)};
    span first = {body.at, body.len < EDGE ? body.len : EDGE};
    const char *at = memmem(first.at, first.len, want.at, want.len);
    if (!at) at = memmem(body.at, body.len, want.at, want.len);
    return at && at > body.at && at[-1] != '"';
}

static const char *wrong(const connection *c, span body) {
    span end = body.len > EDGE ? (span){body.at + body.len - EDGE, EDGE} : body;
    span first = {body.at, body.len < EDGE ? body.len : EDGE};
    if (c->in.len < 12 || memcmp(c->in.data + 8, " 200", 4)) return "status is not 200";
    if (!has_id(body, c->id)) return "not the id that was asked";
    if (holds(first, LITERAL("\"error\":")) || holds(end, LITERAL("\"isError\":true"))) return "an error";
    if (body.len < job.text.len) return "too short";
    if (job.check && !holds(body, job.text)) return "not the text that was expected";
    return NULL;
}

static void note_latency(double seconds) {
    if (answered == latency_room) {
        latency_room = latency_room ? latency_room * 2 : 65536;
        latency = realloc(latency, latency_room * sizeof *latency);
        if (!latency) die("realloc");
    }
    latency[answered++] = (uint32_t)(seconds * 1e6 + 0.5);
}

static void settle(connection *c) {
    span body = {c->in.data + c->head, c->body}, head = {c->in.data, c->head};
    const char *why = wrong(c, body);
    last_answer = now();
    note_latency(last_answer - c->began);
    if (why) fail(why, body.len ? body : head);
    if (says(head, LITERAL("connection"), LITERAL("close"))) reopen(c);
    ask(c);
}

static void receive(connection *c) {
    for (;;) {
        reserve(&c->in, READ_SIZE);
        ssize_t n = recv(c->fd, c->in.data + c->in.len, READ_SIZE, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            if (c->busy) fail("the connection was closed", LITERAL("before the answer"));
            reopen(c);
            if (c->busy) ask(c);
            return;
        }
        c->in.len += (size_t)n;
        if (!c->busy) return;
        if (complete(c)) {
            settle(c);
            return;
        }
        if (n < READ_SIZE) return;
    }
}

/* ---- the run ---------------------------------------- */

static void run(void) {
    struct epoll_event ready[MAX_CONNECTIONS];
    for (int i = 0; i < job.connections; i++) ask(&connections[i]);
    while (busy && now() < deadline + job.grace) {
        int count = epoll_wait(poller, ready, MAX_CONNECTIONS, 100);
        for (int i = 0; i < count; i++) {
            connection *c = ready[i].data.ptr;
            if (ready[i].events & EPOLLOUT) flush(c);
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
        }
    }
    for (int i = 0; i < job.connections; i++)
        if (connections[i].busy) fail("no answer", LITERAL("within the grace time"));
}

static int by_size(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

static unsigned percentile(double share) { return answered ? latency[(size_t)(share * (double)(answered - 1))] : 0; }

int main(void) {
    read_plan();
    poller = epoll_create1(0);
    connections = calloc((size_t)job.connections, sizeof *connections);
    for (int i = 0; i < job.connections; i++) {
        connections[i].number = i;
        open_connection(&connections[i]);
    }
    double began = last_answer = now();
    deadline = began + job.seconds;
    run();
    qsort(latency, answered, sizeof *latency, by_size);
    printf("{\"requests\":%zu,\"seconds\":%.6f,\"errors\":%zu,", answered, last_answer - began, errors);
    printf("\"p50\":%u,\"p99\":%u,\"first_error\":\"%s\"}\n", percentile(0.5), percentile(0.99), first_error);
    return 0;
}
