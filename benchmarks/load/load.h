/* Many WebSocket clients in one process: what its parts know of each other. See load.c for what it does. */

#ifndef LOAD_H
#define LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PARTITIONS = 64, LONGEST_CURSOR = 255 };

enum state { AWAY, CONNECTING, SHAKING, SUBSCRIBING, LIVE };

/* Where a client stands in the log of its channel. */
struct place {
    int64_t last[PARTITIONS]; /* offset of the last update of each partition; -1: none yet */
    bool has_snapshot;
    char cursor[LONGEST_CURSOR + 1]; /* of the last frame that had one; empty: none yet */
};

struct client {
    int socket;
    enum state state;
    double due_s; /* when an absent one comes back */
    char *part;   /* bytes of a frame that has not ended */
    size_t part_bytes;
    struct place place;
};

/* connections.c */
extern const char *live_mark; /* in the message that ends a subscription's beginning; NULL: the handshake does */
void heard(struct client *client, char *bytes, size_t size);
bool say(struct client *client, int opcode, const char *bytes, size_t size);
void dropped(struct client *client, const char *why, size_t size);
void become_live(struct client *client);

/* counting.c */
extern bool checks; /* updates have seq, prev and cursor, and the offsets of a partition have no gaps */
void count_compressed(size_t size);
void count_message(struct client *client, const char *text, size_t size);
void report(bool reset, size_t live);
void check_ends(const struct client *clients, size_t count, const int64_t *ends, size_t partitions);
void begin(struct place *place);

/* load.c */
double now_s(void);

#endif
