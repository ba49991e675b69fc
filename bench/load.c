/* load.c - the load generator: every connection sends a tools/call, waits for the answer, sends the next.
 *
 * The one rule: an answer counts only when it is the right one. Each is held against its status, its id and its size,
 * with `check` against the whole text, and a run ends only when every request sent has been answered: so the CPU that a
 * subject used belongs to the requests that are counted, and no work leaks into the round of the next subject.
 *
 *   gcc -O2 -o load load.c && ./load < plan        prints one line of JSON; plan.h says what a plan is */
#include "plan.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 262144, ID_DIGITS = 10, EDGE = 512, ENOUGH_ERRORS = 100 };

typedef struct connection connection;
struct connection {
    int fd, busy, wants_write, number;
    int accepted, told;   /* of a call whose answer comes on the stream: its 202 was read, its answer was */
    connection *stream, *caller;   /* a connection's stream, and a stream's connection */
    char *path;           /* where the stream says that calls go */
    buffer in, out, events;
    size_t sent;
    size_t head, body;    /* bytes of the head, once it is there, and of the body decoded so far */
    size_t raw;           /* where the next chunk begins */
    uint64_t id;
    double began;
};

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
    c->wants_write = 0;
}

static void attend(connection *c) {
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &(struct epoll_event){.events = EPOLLIN, .data.ptr = c});
}

static void reopen(connection *c) {
    close(c->fd);
    open_connection(c);
    attend(c);
}

static void write_head(connection *c, const char *method, const char *path, size_t length) {
    add(&c->out, "%s %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n", method, path, job.port);
    append(&c->out, (span){job.headers.data, job.headers.len});
    if (job.session_count) add(&c->out, "Mcp-Session-Id: %s\r\n", job.session[c->number % job.session_count]);
    add(&c->out, "Content-Length: %zu\r\n\r\n", length);
}

static void write_request(connection *c) {
    const char *after = job.after[c->id % (uint64_t)job.after_count];
    write_head(c, "POST", c->path ? c->path : job.path, strlen(job.before) + ID_DIGITS + strlen(after));
    add(&c->out, "%s%010llu%s", job.before, (unsigned long long)c->id, after);
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
    c->accepted = c->told = 0;
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

static int has_status(const connection *c, const char *status) {
    return c->in.len >= 12 && !memcmp(c->in.data + 9, status, 3);
}

static const char *wrong(const connection *c, span body) {
    span end = body.len > EDGE ? (span){body.at + body.len - EDGE, EDGE} : body;
    span first = {body.at, body.len < EDGE ? body.len : EDGE};
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

static void go_on(connection *c) {
    last_answer = now();
    note_latency(last_answer - c->began);
    if (says((span){c->in.data, c->head}, LITERAL("connection"), LITERAL("close"))) reopen(c);
    ask(c);
}

static void settle(connection *c) {
    span body = {c->in.data + c->head, c->body}, head = {c->in.data, c->head};
    const char *why = has_status(c, "200") ? wrong(c, body) : "status is not 200";
    if (why) fail(why, body.len ? body : head);
    go_on(c);
}

/* ---- HTTP+SSE: the answer comes on another connection ---------------------------------------- */

/* Moves every whole chunk of a stream to its events. */
static void gather(connection *s) {
    if (!s->head) s->head = head_length((span){s->in.data, s->in.len});
    while (s->head) {
        span rest = {s->in.data + s->head, s->in.len - s->head};
        const char *eol = rest.len ? memmem(rest.at, rest.len, "\r\n", 2) : NULL;
        if (!eol) return;
        size_t size = strtoul(rest.at, NULL, 16), line = (size_t)(eol - rest.at) + 2;
        if (rest.len < line + size + 2) return;
        append(&s->events, (span){eol + 2, size});
        memmove(s->in.data + s->head, rest.at + line + size + 2, rest.len - line - size - 2);
        s->in.len -= line + size + 2;
    }
}

/* The data of the first whole event and, in `length`, how much to drop then; at == NULL while there is none. */
static span first_event(const connection *s, size_t *length) {
    const char *end = s->events.len ? memmem(s->events.data, s->events.len, "\n\n", 2) : NULL;
    if (!end) return (span){NULL, 0};
    *length = (size_t)(end - s->events.data) + 2;
    const char *data = memmem(s->events.data, *length, "data: ", 6);
    return data ? (span){data + 6, (size_t)(end - data) - 6} : (span){end, 0};
}

static void hear(connection *s) {
    connection *c = s->caller;
    gather(s);
    for (size_t length;;) {
        span data = first_event(s, &length);
        if (!data.at) return;
        int ours = c->busy && !c->told && has_id(data, c->id);
        const char *why = ours ? wrong(c, data) : NULL;
        if (why) fail(why, data);
        consume(&s->events, length);
        c->told |= ours;
        if (ours && c->accepted) go_on(c);
    }
}

static void accept_call(connection *c) {
    if (!has_status(c, "202")) fail("status is not 202", (span){c->in.data, c->head});
    c->accepted = 1;
    if (c->told) go_on(c);
}

static void read_more(connection *c) {
    reserve(&c->in, READ_SIZE);
    ssize_t n = recv(c->fd, c->in.data + c->in.len, READ_SIZE, 0);
    if (n <= 0) die("no answer while a session was opened");
    c->in.len += (size_t)n;
}

static void say(connection *c, const char *method, const char *path, const char *body) {
    c->in.len = c->out.len = c->head = c->body = c->raw = 0;
    write_head(c, method, path, strlen(body));
    append(&c->out, text(body));
    if (send(c->fd, c->out.data, c->out.len, MSG_NOSIGNAL) != (ssize_t)c->out.len) die("send");
}

static span await_event(connection *s, size_t *length) {
    span data;
    for (gather(s); !(data = first_event(s, length)).at; gather(s)) read_more(s);
    return data;
}

/* Opens a stream and the session on it, one step after the other. */
static void open_stream(connection *c) {
    connection *s = c->stream = calloc(1, sizeof *s);
    size_t length;
    s->caller = c;
    open_connection(s);
    say(s, "GET", job.stream, "");
    span path = await_event(s, &length);
    c->path = strndup(path.at, path.len);
    consume(&s->events, length);
    for (int i = 0; i < job.hello_count; i++) {
        for (say(c, "POST", c->path, job.hello[i]); !complete(c);) read_more(c);
        if (!has_status(c, "202")) die("a session was refused");
        if (!holds(text(job.hello[i]), LITERAL("\"id\":"))) continue;
        await_event(s, &length);
        consume(&s->events, length);
    }
    attend(s);
}

static void receive(connection *c) {
    for (;;) {
        reserve(&c->in, READ_SIZE);
        ssize_t n = recv(c->fd, c->in.data + c->in.len, READ_SIZE, 0);
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            if (c->caller) {
                fail("the stream was closed", LITERAL(""));
                close(c->fd);
                return;
            }
            if (c->busy) fail("the connection was closed", LITERAL("before the answer"));
            reopen(c);
            if (c->busy) ask(c);
            return;
        }
        c->in.len += (size_t)n;
        if (c->caller) hear(c);
        else if (!c->busy) return;
        else if (complete(c)) {
            if (c->stream) accept_call(c);
            else settle(c);
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
        if (job.stream) open_stream(&connections[i]);
        attend(&connections[i]);
    }
    if (job.pause) raise(SIGSTOP);
    double began = last_answer = now();
    deadline = began + job.seconds;
    run();
    qsort(latency, answered, sizeof *latency, by_size);
    printf("{\"requests\":%zu,\"seconds\":%.6f,\"errors\":%zu,", answered, last_answer - began, errors);
    printf("\"p50\":%u,\"p99\":%u,\"first_error\":\"%s\"}\n", percentile(0.5), percentile(0.99), first_error);
    return 0;
}
