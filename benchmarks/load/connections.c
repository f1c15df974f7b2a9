/* One client's connection: HTTP's answer, then frames (RFC 6455) that may end in a later read. */

#define _GNU_SOURCE
#include "load.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { TEXT = 1, CLOSE = 8, PING = 9, PONG = 10, LONGEST_SAID = 16384 };

const char *live_mark;

void subscribe(struct client *client); /* load.c */

/* One frame, masked with zeros, as RFC 6455 allows and no server of a benchmark needs to be protected from. */
bool say(struct client *client, int opcode, const char *bytes, size_t size) {
    char frame[LONGEST_SAID + 14];
    size_t head = 2;
    if (size > LONGEST_SAID) return false;
    frame[0] = (char)(0x80 | opcode);
    if (size < 126) {
        frame[1] = (char)(0x80 | size);
    } else {
        frame[1] = (char)(0x80 | 126);
        frame[2] = (char)(size >> 8);
        frame[3] = (char)size;
        head = 4;
    }
    memset(frame + head, 0, 4);
    memcpy(frame + head + 4, bytes, size);
    size += head + 4;
    return send(client->socket, frame, size, MSG_NOSIGNAL) == (ssize_t)size;
}

/* Bytes that the frame at the beginning takes; 0: not known yet. */
static size_t frame_size(const unsigned char *bytes, size_t size, size_t *head) {
    if (size < 2) return 0;
    uint64_t length = bytes[1] & 0x7f;
    size_t more = length == 126 ? 2 : length == 127 ? 8 : 0;
    if (size < 2 + more) return 0;
    if (more) length = 0;
    for (size_t each = 0; each < more; each++) length = length << 8 | bytes[2 + each];
    *head = 2 + more;
    return *head + length;
}

static void take_frame(struct client *client, const char *frame, size_t head, size_t size) {
    const char *text = frame + head;
    size_t length = size - head;
    int opcode = frame[0] & 0x0f;
    if (opcode == CLOSE) {
        dropped(client, length > 2 ? text + 2 : "closed", length > 2 ? length - 2 : 6);
    } else if (opcode == PING) {
        say(client, PONG, text, length);
    } else if (opcode == TEXT && frame[0] & 0x40) {
        count_compressed(length);
    } else if (opcode == TEXT && length == 2 && memcmp(text, "{}", 2) == 0) {
        say(client, TEXT, "{}", 2); /* Centrifugo's ping and pong */
    } else if (opcode == TEXT) {
        count_message(client, text, length);
        if (client->state == SUBSCRIBING && memmem(text, length, live_mark, strlen(live_mark))) become_live(client);
    }
}

/* Bytes of the answer that are taken, 0: it has not ended. Whoever is refused is away. */
static size_t take_answer(struct client *client, const char *bytes, size_t size) {
    const char *end = memmem(bytes, size, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    if (size < 12 || memcmp(bytes, "HTTP/1.1 101", 12) != 0) {
        dropped(client, bytes, size);
        return 0;
    }
    subscribe(client);
    return (size_t)(end - bytes) + 4;
}

/* Bytes as they were read; what has not ended is kept for the next time. */
void heard(struct client *client, char *bytes, size_t size) {
    char *joined = NULL;
    size_t taken = 0, head;
    if (client->part_bytes) {
        joined = realloc(client->part, client->part_bytes + size);
        if (joined == NULL) abort();
        memcpy(joined + client->part_bytes, bytes, size);
        bytes = joined;
        size += client->part_bytes;
        client->part = NULL;
        client->part_bytes = 0;
    }
    if (client->state == SHAKING) taken = take_answer(client, bytes, size);
    while (client->state > SHAKING) {
        size_t frame = frame_size((unsigned char *)bytes + taken, size - taken, &head);
        if (frame == 0 || frame > size - taken) break;
        take_frame(client, bytes + taken, head, frame);
        taken += frame;
    }
    if (client->state != AWAY && taken < size) {
        client->part_bytes = size - taken;
        client->part = malloc(client->part_bytes);
        if (client->part == NULL) abort();
        memcpy(client->part, bytes + taken, client->part_bytes);
    }
    free(joined);
}
