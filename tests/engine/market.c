/* The engine of the chaos test: `market RING CAPACITY SEED BASE_US PACE TOLD`, until SIGTERM.
 *
 * What it publishes at a position of the ring follows from SEED and the position alone, so that it goes on after a SIGKILL
 * with the very next event, and tests/chaos/twin.py knows each of them. PACE is a file that says how many events a second
 * are wanted at the moment; the file TOLD holds two words: how many were answered SENTIO_OK, and how many answers were
 * SENTIO_FULL. What found no room is tried again at the next turn. */
#include "sentio.h"

#include <signal.h>
#include <stdlib.h>
#include <time.h>

enum { TURN_NS = 20000000, TURN_EVENTS = 100 };

static const char *const accounts[] = {"paper-0", "paper-1", "paper-2", "paper-3",
                                       "paper-4", "paper-5", "paper-6", "paper-7"};
static const char *const symbols[] = {"TQQQ", "SQQQ", "UVXY", "SVIX", "SPXL", "SPXS", "TNA", "TZA", "SOXL", "SOXS"};
static const char *const strategies[] = {"rotation", "reversal"};
static const char *const reasons[] = {"", "rank, strength", "said \"go\"\nand went", "\\N", "na\xC3\xAFve \xE6\xA0\xAA"};

static volatile sig_atomic_t stopped;
static uint64_t state;

static void stop(int unused)
{
    (void)unused;
    stopped = 1;
}

/* splitmix64 */
static int64_t below(uint64_t end)
{
    uint64_t mixed = state += UINT64_C(0x9E3779B97F4A7C15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94D049BB133111EB);
    return (int64_t)((mixed ^ mixed >> 31) % end);
}

static int64_t around_zero(uint64_t most) { return below(2 * most) - (int64_t)most; }

static int trade(sentio_ring *ring, int64_t at_us)
{
    char order[16];
    sentio_trade event;
    event.account = accounts[below(8)];
    event.strategy = strategies[below(2)];
    event.symbol = symbols[below(10)];
    event.action = 1 + (int32_t)below(2);
    event.side = 1 + (int32_t)below(2);
    event.quantity_e8 = 1 + below(UINT64_C(50000000000));
    event.price_e10 = 1 + below(UINT64_C(3000000000000));
    event.has_realized_pnl = event.action == SENTIO_EXIT;
    event.realized_pnl_e6 = below(3);
    event.realized_pnl_e6 *= around_zero(200000000);
    event.fees_e6 = 1 + below(3000000);
    event.reason = reasons[below(5)];
    snprintf(order, sizeof order, "order-%08x", (unsigned)below(UINT64_C(1) << 32));
    event.order_id = below(3) ? order : NULL;
    event.executed_at_us = at_us;
    return sentio_publish_trade(ring, &event);
}

static int performance(sentio_ring *ring, int64_t at_us)
{
    sentio_performance event;
    event.account = accounts[below(8)];
    event.unrealized_pnl_e6 = around_zero(UINT64_C(9000000000));
    event.equity_e6 = INT64_C(100000000000) + event.unrealized_pnl_e6;
    event.day_return_e10 = around_zero(UINT64_C(10000000000));
    event.open_positions = (int32_t)below(6);
    event.realized_pnl_e6 = around_zero(UINT64_C(9000000000));
    event.minute_at_us = at_us;
    return sentio_publish_performance(ring, &event);
}

static int signal_(sentio_ring *ring, int64_t at_us)
{
    sentio_signal event;
    event.symbol = symbols[below(10)];
    event.direction = 1 + (int32_t)below(3);
    event.probability = (double)below(1 << 20) / (1 << 20);
    event.confidence = (double)below(1 << 20) / (1 << 20);
    event.bar_id = below(UINT64_C(1) << 62);
    event.generated_at_us = at_us;
    return sentio_publish_signal(ring, &event);
}

static int position(sentio_ring *ring, int64_t at_us)
{
    sentio_position event;
    event.account = accounts[below(8)];
    event.symbol = symbols[below(10)];
    event.quantity_e8 = around_zero(UINT64_C(50000000000));
    event.average_entry_e10 = below(UINT64_C(3000000000000));
    event.mark_e10 = below(UINT64_C(3000000000000));
    event.unrealized_pnl_e6 = around_zero(UINT64_C(9000000000));
    event.realized_pnl_e6 = around_zero(UINT64_C(9000000000));
    event.updated_at_us = at_us;
    return sentio_publish_position(ring, &event);
}

/* Ten events a second of its own clock; one in twenty is late by minutes, one in 300 by days or weeks. */
static int publish(sentio_ring *ring, uint64_t seed, int64_t base_us)
{
    const uint64_t number = sentio_stats(ring).published;
    int64_t at_us = base_us + (int64_t)number * 100000;
    state = seed + (number << 32);
    if (below(20) == 0)
        at_us -= (1 + below(90)) * 60000000;
    if (below(300) == 0)
        at_us -= (1 + below(50)) * INT64_C(86400000000);
    switch (below(8)) {
    case 5:
        return performance(ring, at_us);
    case 6:
        return signal_(ring, at_us);
    case 7:
        return position(ring, at_us);
    default:
        return trade(ring, at_us);
    }
}

/* Events a second; none while the file is not there. */
static double wanted(const char *path)
{
    double pace = 0;
    FILE *file = fopen(path, "r");
    if (file) {
        if (fscanf(file, "%lf", &pace) != 1)
            pace = 0;
        fclose(file);
    }
    return pace;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int count, char **words)
{
    static sentio_ring ring;
    static sentio_options options;
    const struct timespec turn = {0, TURN_NS};
    volatile uint64_t *told;
    uint64_t seed;
    int64_t base_us;
    int descriptor;
    double before_s;
    if (count != 7)
        return 2;
    options.path = words[1];
    options.name = "market";
    options.capacity = strtoull(words[2], NULL, 10);
    options.when_full = SENTIO_RETURN_FULL;
    seed = strtoull(words[3], NULL, 10);
    base_us = strtoll(words[4], NULL, 10);
    if (sentio_open(&ring, &options) != 0) {
        puts(ring.error);
        return 3;
    }
    descriptor = open(words[6], O_RDWR);
    told = (volatile uint64_t *)mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (told == MAP_FAILED)
        return 4;
    signal(SIGTERM, stop);
    for (before_s = now_s(); !stopped; nanosleep(&turn, NULL)) {
        const double after_s = now_s(), due = (after_s - before_s) * wanted(words[5]) + 0.5;
        int left = due < TURN_EVENTS ? (int)due : TURN_EVENTS; /* after a stall the pace is not made up for */
        before_s = after_s;
        for (; left > 0 && !stopped; left--) {
            const int answer = publish(&ring, seed, base_us);
            if (answer == SENTIO_OK)
                told[0] = sentio_stats(&ring).published;
            else if (answer == SENTIO_FULL) {
                told[1]++;
                break;
            } else {
                printf("answer %d at position %" PRIu64 "\n", answer, sentio_stats(&ring).published);
                return 5;
            }
        }
    }
    sentio_close(&ring);
    return 0;
}
