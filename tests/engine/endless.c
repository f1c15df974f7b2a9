/* Publishes until it is killed: `endless RING CAPACITY ANSWERED`. The bar of each signal is its position in the ring;
 * how many were answered with SENTIO_OK is kept in the file ANSWERED, which the killing leaves as it is. */
#include "sentio.h"

#include <stdlib.h>

int main(int count, char **words)
{
    sentio_ring ring;
    sentio_options options;
    sentio_signal event;
    volatile uint64_t *answered;
    int descriptor;
    if (count != 4)
        return 2;
    memset(&options, 0, sizeof options);
    options.path = words[1];
    options.name = "endless";
    options.capacity = strtoull(words[2], NULL, 10);
    options.when_full = SENTIO_RETURN_FULL;
    if ((descriptor = open(words[3], O_RDWR)) < 0 || sentio_open(&ring, &options) != 0)
        return 3;
    answered = (volatile uint64_t *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (answered == MAP_FAILED)
        return 4;
    event.symbol = "TQQQ";
    event.direction = SENTIO_SHORT;
    event.probability = event.confidence = 0.25;
    for (;;) {
        event.bar_id = (int64_t)sentio_stats(&ring).published;
        event.generated_at_us = 1 + event.bar_id;
        if (sentio_publish_signal(&ring, &event) == SENTIO_OK)
            *answered = (uint64_t)event.bar_id + 1;
    }
}
