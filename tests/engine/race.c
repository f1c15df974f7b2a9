/* A thread that publishes and one that reads, in one process, for ThreadSanitizer: `race RING EVENTS`. */
#include "sentio.h"

#include <pthread.h>
#include <stdlib.h>

static sentio_ring ring;
static uint64_t events;

static void *publish(void *unused)
{
    uint64_t number;
    for (number = 0; number < events; number++) {
        char symbol[SENTIO_SYMBOL_BYTES];
        sentio_signal event;
        snprintf(symbol, sizeof symbol, "S%d", (int)(number % 1000));
        event.symbol = symbol;
        event.direction = SENTIO_LONG;
        event.probability = event.confidence = 0.5;
        event.bar_id = (int64_t)number;
        event.generated_at_us = 1 + (int64_t)number;
        while (sentio_publish_signal(&ring, &event) == SENTIO_FULL)
            sched_yield();
    }
    return unused;
}

int main(int count, char **words)
{
    const sentio_options options = {words[1], "race", 64, SENTIO_RETURN_FULL, NULL, NULL};
    const size_t size = SENTIO_SLOT_HEAD_BYTES + sizeof(struct sentio_signal_body);
    uint64_t next = 0;
    pthread_t thread;
    if (count != 3 || sentio_open(&ring, &options) != 0)
        return 2;
    events = strtoull(words[2], NULL, 10);
    if (pthread_create(&thread, NULL, publish, NULL) != 0)
        return 3;
    while (next < events) {
        const uint64_t written = __atomic_load_n(&ring.head->written, __ATOMIC_ACQUIRE);
        if (next == written)
            sched_yield();
        for (; next < written; next++) {
            const struct sentio_slot slot = ring.slots[next & ring.mask];
            struct sentio_slot copy;
            sentio_carry(&copy, &slot, size);
            if (slot.position != next || slot.body.signal.bar_id != (int64_t)next ||
                slot.checksum != copy.checksum) {
                printf("position %" PRIu64 " is not what was published\n", next);
                return 1;
            }
        }
        __atomic_store_n(&ring.head->read, next, __ATOMIC_RELEASE);
    }
    pthread_join(thread, NULL);
    sentio_close(&ring);
    return 0;
}
