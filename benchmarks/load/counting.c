/* What messages say: how many there were, how old they were, and whether one was missing or came twice. */

#define _GNU_SOURCE
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUCKET_US = 50, BUCKETS = 400000 }; /* up to 20 s; what is older is in the last */

static const char UPDATE[] = "{\"type\":\"update\"", TIME[] = "\"executed_at\":\"";

bool checks;

static struct {
    uint64_t updates, bytes, timed;
    uint32_t ages[BUCKETS];
} window;

static uint64_t gaps, repeated, resets, resume_failed, errors, total;

static const char *find(const char *text, size_t size, const char *what) {
    const char *at = memmem(text, size, what, strlen(what));
    return at ? at + strlen(what) : NULL;
}

/* Microseconds since 1970 of "2025-10-10T13:31:00.000000Z"; the minute is looked up once. */
static int64_t time_us(const char *text) {
    static char minute[17];
    static int64_t minute_us;
    if (memcmp(minute, text, 16) != 0) {
        struct tm at = {0};
        sscanf(text, "%d-%d-%dT%d:%d", &at.tm_year, &at.tm_mon, &at.tm_mday, &at.tm_hour, &at.tm_min);
        at.tm_year -= 1900;
        at.tm_mon -= 1;
        minute_us = (int64_t)timegm(&at) * 1000000;
        memcpy(minute, text, 16);
    }
    return minute_us + (int64_t)(strtod(text + 17, NULL) * 1e6 + 0.5);
}

static void note_age(const char *text, size_t size) {
    const char *at = find(text, size, TIME);
    if (at == NULL || (size_t)(text + size - at) < 27) return;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t age_us = (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000 - time_us(at);
    int64_t bucket = age_us < 0 ? 0 : age_us / BUCKET_US;
    window.ages[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    window.timed++;
}

static void keep_cursor(struct place *place, const char *text, size_t size, const char *before) {
    const char *from = find(text, size, before);
    if (from == NULL) return;
    const char *end = memchr(from, '"', (size_t)(text + size - from));
    if (end == NULL || end - from > LONGEST_CURSOR) {
        fprintf(stderr, "a cursor is longer than %d bytes\n", LONGEST_CURSOR);
        exit(1);
    }
    memcpy(place->cursor, from, (size_t)(end - from));
    place->cursor[end - from] = 0;
}

/* A partition of the topic has one message after the other, without gaps: nothing in it is transactional or compacted. */
static void check_update(struct place *place, const char *text, size_t size) {
    const char *seq = find(text, size, "\"seq\":\""), *prev = find(text, size, "\"prev\":\"");
    int partition;
    int64_t offset, before;
    if (seq == NULL || sscanf(seq, "%d:%" SCNd64, &partition, &offset) != 2 || partition >= PARTITIONS) {
        errors++;
        return;
    }
    int64_t *last = &place->last[partition];
    if (offset <= *last) {
        repeated++;
        return;
    }
    gaps += (uint64_t)(offset - *last - 1);
    if (prev && sscanf(prev, "%*d:%" SCNd64, &before) == 1 && before != *last) errors++;
    *last = offset;
}

static void check_other(struct place *place, const char *text, size_t size) {
    if (find(text, size, "\"type\":\"snapshot\"")) {
        resets += place->has_snapshot;
        place->has_snapshot = true;
        keep_cursor(place, text, size, "\"cursor\":\"");
    } else if (find(text, size, "\"type\":\"heartbeat\"")) {
        keep_cursor(place, text, size, "\"cursors\":{\"trades\":\"");
    } else if (find(text, size, "\"type\":\"resume_failed\"")) {
        resume_failed++;
    } else if (find(text, size, "\"type\":\"error\"")) {
        if (errors++ == 0) fprintf(stderr, "%.*s\n", (int)(size < 400 ? size : 400), text);
    }
}

void begin(struct place *place) {
    for (size_t partition = 0; partition < PARTITIONS; partition++) place->last[partition] = -1;
}

/* Cannot be read here: a server that compresses does so with every update, ours with nothing else. */
void count_compressed(size_t size) {
    window.updates++;
    total++;
    window.bytes += size;
}

/* A message may hold several updates, one a line. */
void count_message(struct client *client, const char *text, size_t size) {
    const char *end = text + size, *at = memmem(text, size, UPDATE, strlen(UPDATE));
    if (at == NULL) {
        if (checks) check_other(&client->place, text, size);
        return;
    }
    window.bytes += size;
    while (at) {
        size_t left = (size_t)(end - at);
        const char *next = memmem(at + 1, left - 1, UPDATE, strlen(UPDATE));
        size_t length = next ? (size_t)(next - at) : left;
        window.updates++;
        total++;
        note_age(at, length);
        if (checks) {
            check_update(&client->place, at, length);
            keep_cursor(&client->place, at, length, "\"cursor\":\"");
        }
        at = next;
    }
}

static double age_ms(double part) {
    uint64_t wanted = (uint64_t)((double)window.timed * part), seen = 0;
    for (size_t bucket = 0; bucket < BUCKETS; bucket++) {
        seen += window.ages[bucket];
        if (seen > wanted || (seen == window.timed && seen)) return (double)(bucket + 1) * BUCKET_US / 1000;
    }
    return 0;
}

void report(bool reset, size_t live) {
    printf("{\"live\":%zu,\"updates\":%" PRIu64 ",\"bytes\":%" PRIu64, live, window.updates, window.bytes);
    if (reset) {
        printf(",\"p50_ms\":%.2f,\"p99_ms\":%.2f,\"max_ms\":%.2f", age_ms(0.5), age_ms(0.99), age_ms(1));
        memset(&window, 0, sizeof window);
    }
    printf("}\n");
}

/* What never came is lost, and so is what came after something that should have been before it. */
void check_ends(const struct client *clients, size_t count, const int64_t *ends, size_t partitions) {
    uint64_t missing = 0;
    for (size_t each = 0; each < count; each++)
        for (size_t partition = 0; partition < partitions; partition++)
            missing += (uint64_t)llabs(ends[partition] - 1 - clients[each].place.last[partition]);
    printf("{\"total\":%" PRIu64 ",\"lost\":%" PRIu64 ",\"repeated\":%" PRIu64 ",\"resets\":%" PRIu64
           ",\"resume_failed\":%" PRIu64 ",\"errors\":%" PRIu64,
           total, gaps + missing, repeated, resets, resume_failed, errors);
}
