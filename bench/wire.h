/* wire.h - what the backend and the generator share: spans of bytes, growing buffers, HTTP header lookup.
 *
 * The one rule: nothing here reads past the span it was given. */
#ifndef BENCH_WIRE_H
#define BENCH_WIRE_H
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

typedef struct { const char *at; size_t len; } span;
typedef struct { char *data; size_t len, cap; } buffer;

#define LITERAL(text) ((span){text, sizeof(text) - 1})

static inline span text(const char *s) { return (span){s, strlen(s)}; }

static inline int same(span a, span b) { return a.len == b.len && !memcmp(a.at, b.at, a.len); }

static inline int holds(span hay, span needle) { return memmem(hay.at, hay.len, needle.at, needle.len) != NULL; }

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

static inline void reserve(buffer *b, size_t more) {
    if (b->len + more <= b->cap) return;
    b->cap = (b->len + more) * 2;
    b->data = realloc(b->data, b->cap);
    if (!b->data) die("realloc");
}

static inline void append(buffer *b, span s) {
    reserve(b, s.len);
    memcpy(b->data + b->len, s.at, s.len);
    b->len += s.len;
}

/* Drops the first n bytes. */
static inline void consume(buffer *b, size_t n) {
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}

/* The length of an HTTP head with its empty line, 0 while it is incomplete. */
static inline size_t head_length(span raw) {
    const char *end = memmem(raw.at, raw.len, "\r\n\r\n", 4);
    return end ? (size_t)(end - raw.at) + 4 : 0;
}

/* The value of a header, found without regard to case; an absent one has at == NULL. */
static inline span header(span head, span name) {
    const char *line = memchr(head.at, '\n', head.len), *end = head.at + head.len;
    while (line && ++line < end) {
        const char *next = memchr(line, '\n', end - line);
        size_t len = (next ? next : end) - line;
        if (len > name.len && line[name.len] == ':' && !strncasecmp(line, name.at, name.len)) {
            span v = {line + name.len + 1, len - name.len - 1};
            while (v.len && (*v.at == ' ' || *v.at == '\t')) v.at++, v.len--;
            while (v.len && (v.at[v.len - 1] == '\r' || v.at[v.len - 1] == ' ')) v.len--;
            return v;
        }
        line = next;
    }
    return (span){NULL, 0};
}

static inline int says(span head, span name, span value) {
    span v = header(head, name);
    return v.at && v.len == value.len && !strncasecmp(v.at, value.at, value.len);
}

/* A decimal number; stops at the first byte that is no digit. */
static inline size_t number(span s) {
    size_t n = 0;
    for (size_t i = 0; i < s.len && s.at[i] >= '0' && s.at[i] <= '9'; i++) n = n * 10 + (size_t)(s.at[i] - '0');
    return n;
}

#endif
