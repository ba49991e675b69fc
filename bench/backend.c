/* backend.c - the MCP server behind every subject of the benchmark: streamable HTTP, JSON answers, one epoll thread.
 *
 * The one rule: it is fast because it does little, not because it cheats: id, method, tool, session and the headers of
 * 2026-07-28 are read from the request as it came, and a request that breaks them is refused.
 *
 *   gcc -O2 -o backend backend.c && ./backend PORT [N]    (listens on 127.0.0.1 only)
 *
 * Handshake revisions: `initialize` gives an Mcp-Session-Id, which every later request has to carry.
 * 2026-07-28: no session; MCP-Protocol-Version, Mcp-Method and Mcp-Name have to agree with the body.
 * Tools: echo{message}; b200, b10k, b1m and others between give a text of that size (1k = 1,024). `backend PORT N` offers
 * N more, t0, t1 …, which do what echo does. */
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 16384, MAX_PIECES = 12, READ_SIZE = 65536, BIGGEST = 1024 * 1024 };

typedef struct {
    int fd, closing, wants_write;
    buffer in, out;
    size_t sent;
} connection;

typedef struct { span start, head, body; } request; /* start: the request line */
typedef struct { span piece[MAX_PIECES]; int count; } message;

static int poller;
static unsigned long sessions_issued;
static connection *connections[MAX_CONNECTIONS];
static buffer more_tools; /* what tools/list says of t0, t1 … */
static char filler[BIGGEST]; /* "0123456789abcdef " over and over; run.py expects exactly this */

/* ---- JSON: find a member without building anything ---------------------------------------- */

static const char *skip_space(const char *p, const char *end) {
    while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) p++;
    return p;
}

static const char *skip_string(const char *p, const char *end) {   /* p is at the opening quote */
    for (p++; p < end && *p != '"'; p++)
        if (*p == '\\') p++;
    return p < end ? p + 1 : end;
}

static const char *skip_value(const char *p, const char *end) {
    int depth = 0;
    while (p < end) {
        if (*p == '"') p = skip_string(p, end);
        else {
            if (*p == '{' || *p == '[') depth++;
            else if (*p == '}' || *p == ']') depth--;
            else if (depth == 0 && *p == ',') return p;
            if (depth < 0) return p;
            p++;
        }
        if (depth == 0 && p < end && strchr(",}] \t\r\n", *p)) return p;
    }
    return end;
}

static span member(span object, span key) {
    const char *p = skip_space(object.at, object.at + object.len), *end = object.at + object.len;
    if (p >= end || *p++ != '{') return (span){NULL, 0};
    while ((p = skip_space(p, end)) < end && *p == '"') {
        const char *name = p + 1;
        p = skip_string(p, end);
        size_t length = p - name - 1;
        p = skip_space(p, end);
        if (p >= end || *p != ':') break;
        const char *value = skip_space(p + 1, end);
        p = skip_value(value, end);
        if (length == key.len && !memcmp(name, key.at, length)) return (span){value, p - value};
        p = skip_space(p, end);
        if (p < end && *p == ',') p++;
    }
    return (span){NULL, 0};
}

/* What is between the quotes; a value that is no string is no span. */
static span unquoted(span value) {
    if (value.len < 2 || value.at[0] != '"') return (span){NULL, 0};
    return (span){value.at + 1, value.len - 2};
}

/* ---- answers ---------------------------------------- */

#define SERVER "{\"name\":\"bench-backend\",\"version\":\"1\"}"
#define META "{\"io.modelcontextprotocol/serverInfo\":" SERVER "}"

static void add(message *m, span piece) { m->piece[m->count++] = piece; }

static void respond(connection *c, const char *status, const char *extra, const message *m) {
    size_t length = 0;
    for (int i = 0; i < m->count; i++) length += m->piece[i].len;
    char head[256];
    int n = snprintf(head, sizeof head, "HTTP/1.1 %s\r\n%s%scontent-length: %zu\r\n\r\n", status,
                     length ? "content-type: application/json\r\n" : "", extra, length);
    append(&c->out, (span){head, (size_t)n});
    for (int i = 0; i < m->count; i++) append(&c->out, m->piece[i]);
}

static void respond_empty(connection *c, const char *status) { respond(c, status, "", &(message){.count = 0}); }

static message begin(span id) {
    message m = {.count = 0};
    add(&m, LITERAL("{\"jsonrpc\":\"2.0\",\"id\":"));
    add(&m, id);
    return m;
}

static void refuse(connection *c, const char *status, span id, const char *error) {
    message m = begin(id);
    add(&m, LITERAL(",\"error\":"));
    add(&m, text(error));
    add(&m, LITERAL("}"));
    respond(c, status, "", &m);
}

/* 2026-07-28 wants resultType and serverInfo in every result; `cacheable` results also say for how long. */
static void finish(connection *c, message *m, int modern, int cacheable, const char *extra) {
    if (modern && cacheable) add(m, LITERAL(",\"ttlMs\":300000,\"cacheScope\":\"public\""));
    if (modern) add(m, LITERAL(",\"resultType\":\"complete\",\"_meta\":" META));
    add(m, LITERAL("}}"));
    respond(c, "200 OK", extra, m);
}

/* ---- methods ---------------------------------------- */

/* b200 is 200, b10k 10,240; 0 for what is no such name. */
static size_t size_of(span tool) {
    if (tool.len < 2 || tool.at[0] != 'b') return 0;
    size_t size = number((span){tool.at + 1, tool.len - 1});
    char unit = tool.at[tool.len - 1];
    if (unit == 'k') size *= 1024;
    if (unit == 'm') size *= 1024 * 1024;
    return size <= BIGGEST ? size : 0;
}

static int echoes(span tool) { return same(tool, LITERAL("echo")) || (tool.len > 1 && tool.at[0] == 't'); }

static void call_tool(connection *c, span id, span params, int modern) {
    span tool = unquoted(member(params, LITERAL("name"))), words;
    if (!tool.at) tool = LITERAL("");
    span arguments = member(params, LITERAL("arguments"));
    if (echoes(tool)) words = unquoted(member(arguments, LITERAL("message")));
    else if (size_of(tool)) words = (span){filler, size_of(tool)};
    else words = (span){NULL, 0};
    if (!words.at) {
        refuse(c, "200 OK", id, "{\"code\":-32602,\"message\":\"Unknown tool or bad arguments\"}");
        return;
    }
    message m = begin(id);
    add(&m, LITERAL(",\"result\":{\"content\":[{\"type\":\"text\",\"text\":\""));
    add(&m, words);
    add(&m, LITERAL("\"}],\"isError\":false"));
    finish(c, &m, modern, 0, "");
}

#define SCHEMA(rest) "\"inputSchema\":{\"type\":\"object\"" rest "}}"
#define FIXED(name) ",{\"name\":\"" name "\",\"description\":\"A text of a fixed size\"," SCHEMA("")

static void list_tools(connection *c, span id, span params, int modern) {
    (void)params;
    message m = begin(id);
    add(&m, LITERAL(",\"result\":{\"tools\":[{\"name\":\"echo\",\"description\":\"Gives the message back\","));
    add(&m, LITERAL(SCHEMA(",\"properties\":{\"message\":{\"type\":\"string\"}},\"required\":[\"message\"]")));
    add(&m, LITERAL(FIXED("b200") FIXED("b10k") FIXED("b1m") FIXED("b1k") FIXED("b4k") FIXED("b40k") FIXED("b100k")));
    add(&m, LITERAL(FIXED("b400k")));
    add(&m, (span){more_tools.data, more_tools.len});
    add(&m, LITERAL("]"));
    finish(c, &m, modern, 1, "");
}

static void initialize(connection *c, span id, span params, int modern) {
    static const char *known[] = {"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"};
    span asked = unquoted(member(params, LITERAL("protocolVersion"))), agreed = text(known[3]);
    for (int i = 0; asked.at && i < 4; i++)
        if (same(asked, text(known[i]))) agreed = asked;
    char extra[64];
    snprintf(extra, sizeof extra, "mcp-session-id: bench-%lu\r\n", ++sessions_issued);
    message m = begin(id);
    add(&m, LITERAL(",\"result\":{\"protocolVersion\":\""));
    add(&m, agreed);
    add(&m, LITERAL("\",\"capabilities\":{\"tools\":{}},\"serverInfo\":" SERVER));
    finish(c, &m, modern, 0, extra);
}

static void discover(connection *c, span id, span params, int modern) {
    (void)params;
    message m = begin(id);
    add(&m, LITERAL(",\"result\":{\"supportedVersions\":[\"2026-07-28\"],\"capabilities\":{\"tools\":{}}"));
    finish(c, &m, modern, 1, "");
}

static void ping(connection *c, span id, span params, int modern) {
    (void)params;
    message m = begin(id);
    add(&m, LITERAL(",\"result\":{"));
    finish(c, &m, modern, 0, "");   /* of the handshake revisions only, so nothing is added to the empty result */
}

enum { HANDSHAKE = 1, MODERN = 2 };

static const struct {
    const char *method;
    int eras;
    void (*run)(connection *, span id, span params, int modern);
} methods[] = {
    {"tools/call", HANDSHAKE | MODERN, call_tool}, {"tools/list", HANDSHAKE | MODERN, list_tools},
    {"initialize", HANDSHAKE, initialize},         {"ping", HANDSHAKE, ping},
    {"server/discover", MODERN, discover},
};

/* Whether Mcp-Method and Mcp-Name say what the body says (2026-07-28, streamable HTTP). */
static int headers_agree(const request *r, span method, span params) {
    span name = unquoted(member(params, LITERAL("name")));
    span said = header(r->head, LITERAL("mcp-name"));
    if (!says(r->head, LITERAL("mcp-method"), method)) return 0;
    return !same(method, LITERAL("tools/call")) || (said.at && name.at && same(said, name));
}

static int session_known(const request *r) {
    span id = header(r->head, LITERAL("mcp-session-id"));
    if (!id.at || id.len < 7 || memcmp(id.at, "bench-", 6)) return 0;
    size_t n = number((span){id.at + 6, id.len - 6});
    return n >= 1 && n <= sessions_issued;
}

static void dispatch(connection *c, const request *r, span id, span method, int modern) {
    span params = member(r->body, LITERAL("params"));
    if (modern && !headers_agree(r, method, params)) {
        refuse(c, "400 Bad Request", id, "{\"code\":-32020,\"message\":\"Header mismatch\"}");
        return;
    }
    if (!modern && !same(method, LITERAL("initialize")) && !session_known(r)) {
        refuse(c, "404 Not Found", id, "{\"code\":-32600,\"message\":\"No such session\"}");
        return;
    }
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if ((methods[i].eras & (modern ? MODERN : HANDSHAKE)) && same(method, text(methods[i].method))) {
            methods[i].run(c, id, params, modern);
            return;
        }
    refuse(c, modern ? "404 Not Found" : "200 OK", id, "{\"code\":-32601,\"message\":\"Method not found\"}");
}

static void handle(connection *c, const request *r) {
    if (says(r->head, LITERAL("connection"), LITERAL("close"))) c->closing = 1;
    if (r->start.len > 7 && !memcmp(r->start.at, "DELETE ", 7)) respond_empty(c, "200 OK");
    else if (r->start.len < 5 || memcmp(r->start.at, "POST ", 5)) respond_empty(c, "405 Method Not Allowed");
    else {
        span method = unquoted(member(r->body, LITERAL("method"))), id = member(r->body, LITERAL("id"));
        int modern = says(r->head, LITERAL("mcp-protocol-version"), LITERAL("2026-07-28"));
        if (method.at && id.at) dispatch(c, r, id, method, modern);
        else if (method.at) respond_empty(c, "202 Accepted");
        else respond_empty(c, "400 Bad Request");
    }
}

/* ---- the socket ---------------------------------------- */

/* Answers every complete request in the buffer; gives 0 when the peer does not speak the HTTP that is needed here. */
static int answer_all(connection *c) {
    size_t done = 0;
    while (done < c->in.len) {
        span raw = {c->in.data + done, c->in.len - done};
        size_t head = head_length(raw);
        if (!head) break;
        request r = {.head = {raw.at, head}};
        if (header(r.head, LITERAL("transfer-encoding")).at) return 0;
        size_t body = number(header(r.head, LITERAL("content-length")));
        if (raw.len - head < body) break;
        r.start = (span){raw.at, (size_t)((const char *)memchr(raw.at, '\r', head) - raw.at)};
        r.body = (span){raw.at + head, body};
        handle(c, &r);
        done += head + body;
    }
    consume(&c->in, done);
    return 1;
}

static void watch(connection *c, int wants_write) {
    struct epoll_event e = {.events = EPOLLIN | (wants_write ? EPOLLOUT : 0), .data.fd = c->fd};
    if (wants_write != c->wants_write) epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &e);
    c->wants_write = wants_write;
}

static int flush(connection *c) {
    while (c->sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->sent, c->out.len - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
            watch(c, 1);
            return 1;
        }
        if (n < 0) return 0;
        c->sent += (size_t)n;
    }
    c->sent = c->out.len = 0;
    watch(c, 0);
    return !c->closing;
}

static int receive(connection *c) {
    for (;;) {
        reserve(&c->in, READ_SIZE);
        ssize_t n = recv(c->fd, c->in.data + c->in.len, READ_SIZE, 0);
        if (n < 0) return errno == EAGAIN;
        if (n == 0) return 0;
        c->in.len += (size_t)n;
        if (n < READ_SIZE) return 1;
    }
}

static void drop(connection *c) {
    close(c->fd);
    connections[c->fd] = NULL;
    free(c->in.data);
    free(c->out.data);
    free(c);
}

static void accept_all(int listener) {
    for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0;) {
        if (fd >= MAX_CONNECTIONS) {
            close(fd);
            continue;
        }
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        connections[fd] = calloc(1, sizeof(connection));
        connections[fd]->fd = fd;
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN, .data.fd = fd});
    }
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons((unsigned short)port),
                            .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(fd, (struct sockaddr *)&a, sizeof a) || listen(fd, 1024)) die("listen");
    return fd;
}

static void offer(int count) {
    char tool[256];
    for (int i = 0; i < count; i++) {
        int n = snprintf(tool, sizeof tool, ",{\"name\":\"t%d\",\"description\":\"Gives the message back, too\"," SCHEMA(
            ",\"properties\":{\"message\":{\"type\":\"string\"}},\"required\":[\"message\"]"), i);
        append(&more_tools, (span){tool, (size_t)n});
    }
}

int main(int argc, char **argv) {
    if (argc < 2 || argc > 3) return fprintf(stderr, "usage: backend PORT [MORE-TOOLS]\n"), 2;
    if (argc == 3) offer(atoi(argv[2]));
    for (size_t i = 0; i < sizeof filler; i++) filler[i] = "0123456789abcdef "[i % 17];
    int listener = listen_on(atoi(argv[1]));
    poller = epoll_create1(0);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN, .data.fd = listener});
    for (struct epoll_event ready[256];;) {
        int count = epoll_wait(poller, ready, 256, -1);
        for (int i = 0; i < count; i++) {
            connection *c = connections[ready[i].data.fd];
            if (ready[i].data.fd == listener) accept_all(listener);
            else if (c && !(receive(c) && answer_all(c) && flush(c))) drop(c);
        }
    }
}
