/* What a publish costs its thread: `publish RING CAPACITY EVENTS RATE KIND CPU`; a rate of 0 is as fast as it goes.
 * What is published at a rate has the time of its publishing. Prints a line of JSON: nanoseconds of single calls, less
 * what timing takes itself, and how many found no room. */
#define _GNU_SOURCE 1 /* sched_setaffinity() */
#include "sentio.h"

#include <sched.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

enum { BUCKETS = 1 << 20 }; /* of a tenth of a nanosecond; the last one is for all beyond */

static uint32_t histogram[BUCKETS];
static double ticks_per_ns;

static uint64_t now_ns(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static inline uint64_t ticks(void)
{
#if defined(__x86_64__)
    unsigned int unused;
    return __builtin_ia32_rdtscp(&unused);
#else
    return now_ns();
#endif
}

static void calibrate(void)
{
    const uint64_t began_ns = now_ns(), began = ticks();
    while (now_ns() - began_ns < 50000000)
        ;
    ticks_per_ns = (double)(ticks() - began) / (double)(now_ns() - began_ns);
}

static void note(uint64_t spent)
{
    const double place = (double)spent / ticks_per_ns * 10;
    histogram[place < BUCKETS - 1 ? (size_t)place : BUCKETS - 1]++;
}

static double quantile(double part, uint64_t count, double base)
{
    uint64_t seen = 0;
    size_t each;
    for (each = 0; each < BUCKETS - 1; each++)
        if ((double)(seen += histogram[each]) >= part * (double)count)
            break;
    return (double)each / 10 > base ? (double)each / 10 - base : 0;
}

/* The median of what is measured when nothing is done. */
static double timing_itself(void)
{
    double median;
    int each;
    for (each = 0; each < 100000; each++) {
        const uint64_t before = ticks();
        note(ticks() - before);
    }
    median = quantile(0.5, 100000, 0);
    memset(histogram, 0, sizeof histogram);
    return median;
}

/* Microseconds since 1970. */
static int64_t wall_us(void)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    return (int64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

/* A text of which the compiler does not know how long it is, as those of an engine. */
static const char *unknown(const char *text)
{
    __asm__ volatile("" : "+r"(text));
    return text;
}

/* Sleeps where there is time to, as an engine does that waits for its market; the last stretch is waited for awake. */
static void wait_until(uint64_t due)
{
    double left_ns;
    while ((left_ns = ((double)due - (double)ticks()) / ticks_per_ns) > 20e3) {
        const struct timespec pause = {0, left_ns < 9e8 ? (long)(left_ns - 10e3) : 900000000};
        nanosleep(&pause, NULL);
    }
    while (ticks() < due)
        ;
}

int main(int count, char **words)
{
    const char *const symbols[4] = {unknown("TQQQ"), unknown("SQQQ"), unknown("SPXL"), unknown("SOXL")};
    sentio_ring ring;
    sentio_options options = {words[1], "bench", 0, SENTIO_RETURN_FULL, NULL, NULL};
    sentio_trade trade = {unknown("paper-2025-10-10"), unknown("rotation"), "", SENTIO_ENTRY, SENTIO_BUY, 0, 0, 0, 0,
                          350000, unknown("signal turned LONG"), unknown("3f2a-000017"), 0};
    sentio_signal signal = {"", SENTIO_LONG, 0.75, 0.5, 0, 0};
    uint64_t events, full = 0, slowest = 0, began_ns, wall_ns, number;
    double rate, base, step;
    struct rusage before, after;
    cpu_set_t cpus;
    int trades;
    if (count != 7)
        return 2;
    options.capacity = strtoull(words[2], NULL, 10);
    events = strtoull(words[3], NULL, 10);
    rate = strtod(words[4], NULL);
    trades = strcmp(words[5], "trades") == 0;
    CPU_ZERO(&cpus);
    CPU_SET((size_t)atoi(words[6]), &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) != 0)
        perror("not pinned");
    if (sentio_open(&ring, &options) != 0) {
        puts(ring.error);
        return 1;
    }
    prctl(PR_SET_TIMERSLACK, 1UL); /* a sleep ends when it should, not 50 microseconds later */
    calibrate();
    base = timing_itself();
    step = rate > 0 ? 1e9 / rate * ticks_per_ns : 0;
    getrusage(RUSAGE_SELF, &before);
    began_ns = now_ns();
    {
        const uint64_t began = ticks();
        for (number = 0; number < events; number++) {
            const uint64_t due = began + (uint64_t)(step * (double)number);
            uint64_t start, spent;
            int answer;
            trade.symbol = signal.symbol = symbols[number % 4];
            trade.quantity_e8 = 100 + (int64_t)number;
            trade.price_e10 = 1012500000000 + (int64_t)number;
            signal.bar_id = (int64_t)number;
            if (step > 0)
                wait_until(due);
            trade.executed_at_us = signal.generated_at_us = step > 0 ? wall_us() : 1760106600000000 + (int64_t)number;
            start = ticks();
            answer = trades ? sentio_publish_trade(&ring, &trade) : sentio_publish_signal(&ring, &signal);
            spent = ticks() - start;
            note(spent);
            if (spent > slowest)
                slowest = spent;
            full += answer != SENTIO_OK;
        }
    }
    wall_ns = now_ns() - began_ns;
    getrusage(RUSAGE_SELF, &after);
    printf("{\"p50_ns\": %.1f, \"p99_ns\": %.1f, \"p999_ns\": %.1f, \"max_ns\": %.0f, \"timing_ns\": %.1f, "
           "\"wall_ns_per_event\": %.2f, \"cpu_ns_per_event\": %.2f, \"full\": %" PRIu64 ", \"faults\": %ld, "
           "\"waits\": %ld, \"interrupted\": %ld}\n",
           quantile(0.5, events, base), quantile(0.99, events, base), quantile(0.999, events, base),
           (double)slowest / ticks_per_ns - base, base, (double)wall_ns / (double)events,
           ((double)(after.ru_utime.tv_sec - before.ru_utime.tv_sec) * 1e9 +
            (double)(after.ru_utime.tv_usec - before.ru_utime.tv_usec) * 1e3) / (double)events,
           full, after.ru_minflt - before.ru_minflt, after.ru_nvcsw - before.ru_nvcsw,
           after.ru_nivcsw - before.ru_nivcsw);
    sentio_close(&ring);
    return 0;
}
