/* plan.h - what the generator is told to do, read from its standard input before anything else.
 *
 * The one rule: a plan that is not understood whole is not begun.
 *
 * The plan is lines of `key value`: port, path, connections, seconds, limit (requests, 0 = no limit), grace (seconds to
 * wait for the last answers), first-id (ten digits), check (0|1), text (what the result has to hold); any number of
 * `header` and `session` (connection i uses session i); `before` and `after`: the body around the id, and of several `after`
 * each request uses the next; `pause 1`: stop (SIGSTOP) once everything is connected, until SIGCONT.
 *
 * `stream PATH` is for servers of HTTP+SSE (2024-11-05): each connection first opens a stream there, which names the path
 * for its POSTs, and says each `hello` line once; a POST is answered with 202 and the answer itself comes on the stream. */
#ifndef BENCH_PLAN_H
#define BENCH_PLAN_H
#include "wire.h"

#include <stdarg.h>
#include <stdint.h>

enum { MAX_CONNECTIONS = 4096, MAX_LINES = 256 };

typedef struct {
    int port, connections, check, pause, session_count, after_count, hello_count;
    size_t limit;
    double seconds, grace;
    uint64_t next_id;
    char *path, *stream, *before, *after[MAX_LINES], *hello[MAX_LINES], *session[MAX_CONNECTIONS];
    span text;
    buffer headers;
} plan;

static plan job;

__attribute__((format(printf, 2, 3))) static void add(buffer *b, const char *format, ...) {
    va_list values;
    va_start(values, format);
    reserve(b, 4096);
    int n = vsnprintf(b->data + b->len, 4096, format, values);
    va_end(values);
    if (n < 0 || n >= 4096) fprintf(stderr, "load: a line of the plan is too long\n"), exit(2);
    b->len += (size_t)n;
}

static void add_session(const char *id) {
    if (job.session_count < MAX_CONNECTIONS) job.session[job.session_count++] = strdup(id);
}

static void add_line(char **lines, int *count, const char *value) {
    if (*count < MAX_LINES) lines[(*count)++] = strdup(value);
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
    else if (same(k, LITERAL("after"))) add_line(job.after, &job.after_count, value);
    else if (same(k, LITERAL("hello"))) add_line(job.hello, &job.hello_count, value);
    else if (same(k, LITERAL("stream"))) job.stream = strdup(value);
    else if (same(k, LITERAL("pause"))) job.pause = atoi(value);
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
    if (!job.port || !job.path || !job.before || !job.after_count || !job.text.at || job.connections < 1 ||
        job.connections > MAX_CONNECTIONS || job.next_id < 1000000000)
        fprintf(stderr, "load: the plan is not complete\n"), exit(2);
}

#endif
