/* An engine that does what it is told: `driver RING NAME CAPACITY WHEN_FULL VERSION MODE`, then a command a line, each answered with
 * a line. Fields are separated by |, and ~ is a null pointer. */
#include "sentio.h"

#include <signal.h>
#include <stdlib.h>

static char *rest;

static char *text(void)
{
    char *start = rest, *end = strchr(start, '|');
    rest = end ? end + 1 : start + strlen(start);
    if (end)
        *end = 0;
    return strcmp(start, "~") == 0 ? NULL : start;
}

static int64_t number(void) { return (int64_t)strtoll(text(), NULL, 10); }

static int trade(sentio_ring *ring)
{
    sentio_trade event;
    event.account = text();
    event.strategy = text();
    event.symbol = text();
    event.action = (int32_t)number();
    event.side = (int32_t)number();
    event.quantity_e8 = number();
    event.price_e10 = number();
    event.has_realized_pnl = (int)number();
    event.realized_pnl_e6 = number();
    event.fees_e6 = number();
    event.reason = text();
    event.order_id = text();
    event.executed_at_us = number();
    return sentio_publish_trade(ring, &event);
}

static int signal_(sentio_ring *ring)
{
    sentio_signal event;
    event.symbol = text();
    event.direction = (int32_t)number();
    event.probability = strtod(text(), NULL);
    event.confidence = strtod(text(), NULL);
    event.bar_id = number();
    event.generated_at_us = number();
    return sentio_publish_signal(ring, &event);
}

static int position(sentio_ring *ring)
{
    sentio_position event;
    event.account = text();
    event.symbol = text();
    event.quantity_e8 = number();
    event.average_entry_e10 = number();
    event.mark_e10 = number();
    event.unrealized_pnl_e6 = number();
    event.realized_pnl_e6 = number();
    event.updated_at_us = number();
    return sentio_publish_position(ring, &event);
}

static int performance(sentio_ring *ring)
{
    sentio_performance event;
    event.account = text();
    event.equity_e6 = number();
    event.day_return_e10 = number();
    event.open_positions = (int32_t)number();
    event.realized_pnl_e6 = number();
    event.unrealized_pnl_e6 = number();
    event.minute_at_us = number();
    return sentio_publish_performance(ring, &event);
}

/* What is left of a publish() in whose middle the process is killed. */
static void die_halfway(sentio_ring *ring)
{
    memset(&ring->slots[ring->written & ring->mask], 0xA5, SENTIO_SLOT_BYTES / 2);
    raise(SIGKILL);
}

int main(int count, char **words)
{
    static char line[1 << 16];
    sentio_ring ring;
    sentio_options options;
    if (count != 7)
        return 2;
    memset(&options, 0, sizeof options);
    options.path = words[1];
    options.name = words[2];
    options.capacity = strtoull(words[3], NULL, 10);
    options.when_full = atoi(words[4]);
    options.version = words[5];
    options.mode = words[6];
    puts(sentio_open(&ring, &options) == 0 ? "open" : ring.error);
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
        const char *command;
        line[strcspn(line, "\n")] = 0;
        rest = line;
        command = text();
        if (strcmp(command, "trade") == 0)
            printf("%d\n", trade(&ring));
        else if (strcmp(command, "signal") == 0)
            printf("%d\n", signal_(&ring));
        else if (strcmp(command, "position") == 0)
            printf("%d\n", position(&ring));
        else if (strcmp(command, "performance") == 0)
            printf("%d\n", performance(&ring));
        else if (strcmp(command, "half") == 0)
            die_halfway(&ring);
        else if (strcmp(command, "close") == 0)
            sentio_close(&ring), puts("closed");
        else if (strcmp(command, "stats") == 0) {
            const sentio_counts counts = sentio_stats(&ring);
            printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", counts.published, counts.dropped,
                   counts.refused, counts.unread, counts.capacity);
        }
        fflush(stdout);
    }
    sentio_close(&ring);
    return 0;
}
