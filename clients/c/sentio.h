/* sentio.h: an engine publishes trades, signals, positions and performance into a ring, a file in shared memory that
 * `sentio` reads. C99 and C++17, GCC or Clang, Linux with 64 bits; nothing to link. How to use it: docs/engine.md.
 *
 * sentio_publish_*() never waits, allocates nothing and makes no system call. One thread publishes into a ring; a
 * process may have several rings. What it was given and answered SENTIO_OK outlives a SIGKILL of the process.
 *
 * Amounts are whole numbers of the unit in their name: price_e10 is in 10^-10 USD (up to 922,337,203 USD), quantity_e8
 * in 10^-8 shares, ..._e6 in 10^-6 USD; times are microseconds since 1970, UTC. What events mean: schemas/avro/.
 */
#ifndef SENTIO_H
#define SENTIO_H

#if defined(__STRICT_ANSI__) && !defined(_DEFAULT_SOURCE) && !defined(_GNU_SOURCE) && \
    (!defined(_POSIX_C_SOURCE) || _POSIX_C_SOURCE < 200809L)
#ifdef _FEATURES_H
#error "include sentio.h before the system's headers, or define _POSIX_C_SOURCE=200809L"
#endif
#undef _POSIX_C_SOURCE
#define _POSIX_C_SOURCE 200809L
#endif

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#if !defined(__linux__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__ || __SIZEOF_POINTER__ != 8
#error "sentio.h is for Linux on 64-bit little-endian machines"
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define SENTIO_VERSION 1
/* Of the records' fields, as schemas/avro/ has them; a test holds it to them, and the ring refuses another. */
#define SENTIO_LAYOUT UINT64_C(0x298582be0d538961)

/* Most bytes of a text, in UTF-8, without its end. */
enum {
    SENTIO_NAME_BYTES = 32,
    SENTIO_ENGINE_VERSION_BYTES = 32,
    SENTIO_MODE_BYTES = 16,
    SENTIO_ACCOUNT_BYTES = 32,
    SENTIO_STRATEGY_BYTES = 32,
    SENTIO_SYMBOL_BYTES = 16,
    SENTIO_REASON_BYTES = 64,
    SENTIO_ORDER_ID_BYTES = 40
};

/* Answers of sentio_publish_*(). Whatever is not SENTIO_OK is not in the ring. */
enum sentio_answer {
    SENTIO_OK = 0,
    SENTIO_FULL = 1,          /* no room, the reader is behind: the caller may try again */
    SENTIO_DROPPED = 2,       /* no room, and the ring was opened with SENTIO_DROP_NEWEST: counted */
    SENTIO_NOT_OPEN = -1,     /* sentio_open() failed, or sentio_close() was called */
    SENTIO_BAD_TEXT = -2,     /* null, longer than its field, not UTF-8, or an empty account or symbol */
    SENTIO_BAD_WORD = -3,     /* an action, side or direction that is none */
    SENTIO_BAD_AMOUNT = -4,   /* below what its field may be */
    SENTIO_BAD_FRACTION = -5, /* a probability or confidence outside 0 to 1, or no number */
    SENTIO_BAD_TIME = -6      /* 0 (forgotten), before 1970 or after 2199 */
};

/* None is 0: a word that was forgotten is refused. */
enum sentio_action { SENTIO_ENTRY = 1, SENTIO_EXIT = 2 };
enum sentio_side { SENTIO_BUY = 1, SENTIO_SELL = 2 };
enum sentio_direction { SENTIO_NEUTRAL = 1, SENTIO_LONG = 2, SENTIO_SHORT = 3 };

typedef struct {
    const char *account, *strategy, *symbol;
    int32_t action; /* enum sentio_action */
    int32_t side;   /* enum sentio_side */
    int64_t quantity_e8, price_e10;
    int has_realized_pnl; /* the fill closes a round trip, and realized_pnl_e6 is what it gained after all costs */
    int64_t realized_pnl_e6, fees_e6;
    const char *reason;
    const char *order_id; /* null or empty: there is none */
    int64_t executed_at_us;
} sentio_trade;

typedef struct {
    const char *symbol;
    int32_t direction; /* enum sentio_direction */
    double probability, confidence;
    int64_t bar_id, generated_at_us;
} sentio_signal;

typedef struct {
    const char *account, *symbol;
    int64_t quantity_e8, average_entry_e10, mark_e10, unrealized_pnl_e6, realized_pnl_e6, updated_at_us;
} sentio_position;

typedef struct {
    const char *account;
    int64_t equity_e6, day_return_e10;
    int32_t open_positions;
    int64_t realized_pnl_e6, unrealized_pnl_e6, minute_at_us;
} sentio_performance;

/* What a full ring does with an event: answer SENTIO_FULL, or count it as lost and answer SENTIO_DROPPED. */
enum sentio_when_full { SENTIO_RETURN_FULL = 0, SENTIO_DROP_NEWEST = 1 };

typedef struct {
    const char *path;  /* of the ring's file, made where there is none; /dev/shm/... is in memory */
    const char *name;  /* of the engine: its events' producer is this and the ring's id */
    uint64_t capacity; /* records of 256 bytes, a power of two from 64 to 2^30 */
    int when_full;     /* enum sentio_when_full */
    /* For the engine's heartbeat, which the reader beats; null: not said. */
    const char *version; /* of the engine */
    const char *mode;    /* what it trades on: live, paper, mock or replay */
} sentio_options;

typedef struct {
    uint64_t published; /* since the ring was made, by all runs; the same for the next two */
    uint64_t dropped, refused;
    uint64_t unread, capacity;
} sentio_counts;

/* ---- What lies in the file: a head of one page, then `capacity` slots. producers/sidecar/layout.py says it too. ---- */

#define SENTIO_MAGIC "SENTIORG"
enum { SENTIO_HEAD_BYTES = 4096, SENTIO_SLOT_BYTES = 256, SENTIO_SLOT_HEAD_BYTES = 24, SENTIO_UUID_BYTES = 40 };
enum { SENTIO_KIND_TRADE = 1, SENTIO_KIND_SIGNAL = 2, SENTIO_KIND_POSITION = 3, SENTIO_KIND_PERFORMANCE = 4 };
#define SENTIO_NULL INT64_MIN /* in a record, of a number that may be null */

struct sentio_head {
    char magic[8];
    uint64_t version, layout, capacity;
    char id[SENTIO_UUID_BYTES];   /* random, given once */
    char boot[SENTIO_UUID_BYTES]; /* of the machine's start in which the ring was made */
    char name[SENTIO_NAME_BYTES];
    char engine_version[SENTIO_ENGINE_VERSION_BYTES], mode[SENTIO_MODE_BYTES]; /* of the last that opened it */
    char unused[64];
    /* The producer's line: the records written so far, each at position modulo capacity. */
    uint64_t written, dropped, refused;
    char unused_too[104];
    /* The reader's line: what lies before this position may be overwritten. */
    uint64_t read;
};

struct sentio_trade_body {
    char account[SENTIO_ACCOUNT_BYTES], strategy[SENTIO_STRATEGY_BYTES], symbol[SENTIO_SYMBOL_BYTES];
    int32_t action, side;
    int64_t quantity_e8, price_e10, realized_pnl_e6, fees_e6;
    char reason[SENTIO_REASON_BYTES], order_id[SENTIO_ORDER_ID_BYTES];
    int64_t executed_at_us;
};
struct sentio_signal_body {
    char symbol[SENTIO_SYMBOL_BYTES];
    int32_t direction;
    double probability, confidence;
    int64_t bar_id, generated_at_us;
};
struct sentio_position_body {
    char account[SENTIO_ACCOUNT_BYTES], symbol[SENTIO_SYMBOL_BYTES];
    int64_t quantity_e8, average_entry_e10, mark_e10, unrealized_pnl_e6, realized_pnl_e6, updated_at_us;
};
struct sentio_performance_body {
    char account[SENTIO_ACCOUNT_BYTES];
    int64_t equity_e6, day_return_e10;
    int32_t open_positions;
    int64_t realized_pnl_e6, unrealized_pnl_e6, minute_at_us;
};
struct sentio_slot {
    uint64_t checksum; /* of all that follows */
    uint64_t position;
    uint64_t kind;
    union {
        struct sentio_trade_body trade;
        struct sentio_signal_body signal;
        struct sentio_position_body held;
        struct sentio_performance_body performance;
    } body;
};
/* C99 has no assertion at compile time but this. The fields of a trade fill its slot: there is nothing else to clear. */
typedef char sentio_slot_has_its_size[sizeof(struct sentio_slot) == SENTIO_SLOT_BYTES ? 1 : -1];
typedef char sentio_trade_has_no_gaps
    [SENTIO_SLOT_HEAD_BYTES + SENTIO_ACCOUNT_BYTES + SENTIO_STRATEGY_BYTES + SENTIO_SYMBOL_BYTES + 2 * sizeof(int32_t) +
                 5 * sizeof(int64_t) + SENTIO_REASON_BYTES + SENTIO_ORDER_ID_BYTES ==
             SENTIO_SLOT_BYTES ? 1 : -1];
typedef char sentio_head_has_its_lines[offsetof(struct sentio_head, written) == 256 &&
                                       offsetof(struct sentio_head, read) == 384 ? 1 : -1];

typedef struct {
    struct sentio_head *head; /* null: not open */
    struct sentio_slot *slots;
    uint64_t mask, written, read; /* the last as last looked up */
    uint64_t dropped, refused;
    size_t mapped_bytes;
    int descriptor, when_full;
    char error[512]; /* why sentio_open() failed */
} sentio_ring;

/* ---- Publishing ---- */

static inline uint64_t sentio_mixed(uint64_t sum, const void *at)
{
    uint64_t word;
    memcpy(&word, at, sizeof word);
    sum = (sum ^ word) * UINT64_C(0x9E3779B97F4A7C15);
    return sum << 29 | sum >> 35;
}

/* Copies a word, and returns it. */
static inline uint64_t sentio_moved(char *to, const char *from)
{
    uint64_t word;
    memcpy(&word, from, sizeof word);
    memcpy(to, &word, sizeof word);
    return word;
}

/* Copies a word, and mixes it into the sum. */
static inline uint64_t sentio_carried(uint64_t sum, char *to, const char *at)
{
    const uint64_t word = sentio_moved(to, at);
    return sentio_mixed(sum, &word);
}

/* Copies the first `size` bytes of a record into its slot with the checksum of them, word by word in four lanes that do
 * not wait for each other. Each step can be undone, so that a change within one word is always found. */
static inline void sentio_carry(struct sentio_slot *slot, const struct sentio_slot *record, size_t size)
{
    const char *at = (const char *)record, *const end = at + size;
    char *to = (char *)slot;
    uint64_t a = 1, b = sentio_carried(2, to + 8, at + 8), c = sentio_carried(3, to + 16, at + 16),
             d = sentio_carried(4, to + 24, at + 24);
    for (at += 32, to += 32; end - at >= 32; at += 32, to += 32) {
        a = sentio_carried(a, to, at);
        b = sentio_carried(b, to + 8, at + 8);
        c = sentio_carried(c, to + 16, at + 16);
        d = sentio_carried(d, to + 24, at + 24);
    }
    if (end - at >= 8)
        a = sentio_carried(a, to, at);
    if (end - at >= 16)
        b = sentio_carried(b, to + 8, at + 8);
    if (end - at >= 24)
        c = sentio_carried(c, to + 16, at + 16);
    a = sentio_mixed(a, &b);
    c = sentio_mixed(c, &d);
    slot->checksum = sentio_mixed(a, &c);
}

static inline int sentio_refused(sentio_ring *ring, int answer)
{
    __atomic_store_n(&ring->head->refused, ++ring->refused, __ATOMIC_RELAXED);
    return answer;
}

static inline int sentio_full(sentio_ring *ring)
{
    if (ring->when_full != SENTIO_DROP_NEWEST)
        return SENTIO_FULL;
    __atomic_store_n(&ring->head->dropped, ++ring->dropped, __ATOMIC_RELAXED);
    return SENTIO_DROPPED;
}

/* Copies a whole record into its slot and lets the reader see it. The record is made elsewhere: its slot is far from
 * the processor, and to read there what was just written would wait for it. */
static inline int sentio_write(sentio_ring *ring, struct sentio_slot *record, size_t body_bytes)
{
    const size_t size = SENTIO_SLOT_HEAD_BYTES + body_bytes;
    const uint64_t position = ring->written;
    if (position - ring->read > ring->mask) {
        ring->read = __atomic_load_n(&ring->head->read, __ATOMIC_ACQUIRE);
        if (position - ring->read > ring->mask)
            return sentio_full(ring);
    }
    record->position = position;
    sentio_carry(&ring->slots[position & ring->mask], record, size);
    ring->written = position + 1;
    __atomic_store_n(&ring->head->written, position + 1, __ATOMIC_RELEASE);
    return SENTIO_OK;
}

/* Whether bytes are UTF-8 as RFC 3629 has it: nothing longer than it need be, no surrogates, none beyond U+10FFFF. Not
 * inline: it is seldom asked, and is not to keep the compiler from having the rest so. */
__attribute__((noinline, cold, unused)) static int sentio_is_utf8(const char *text, size_t size)
{
    const unsigned char *at = (const unsigned char *)text, *const end = at + size;
    while (at < end) {
        const unsigned char lead = *at++;
        const int more = lead < 0xC2 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : lead < 0xF5 ? 3 : 0;
        const unsigned char low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
        const unsigned char high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
        int each;
        if (lead < 0x80)
            continue;
        if (more == 0 || end - at < more || at[0] < low || at[0] > high)
            return 0;
        for (each = 1; each < more; each++)
            if ((at[each] & 0xC0) != 0x80)
                return 0;
        at += more;
    }
    return 1;
}

/* `sentio_moved` of half a word. */
static inline uint64_t sentio_half_moved(char *to, const char *from)
{
    uint32_t half;
    memcpy(&half, from, sizeof half);
    memcpy(to, &half, sizeof half);
    return half;
}

/* Copies a text into a field whose room is whole words; 0 when it is null, shorter than `least`, too long or not UTF-8.
 * In words of which the last two may overlap: a call of memcpy() for a length that is not known would take as long as
 * all the rest. Most texts are ASCII, which one bit of each byte tells. */
__attribute__((always_inline)) static inline int sentio_put(char *field, size_t most, size_t least, const char *text)
{
    const size_t word = sizeof(uint64_t), half = sizeof(uint32_t);
    uint64_t bits = 0;
    size_t size, at;
    if (!text)
        return 0;
    __asm__("" : "+r"(text)); /* of a literal gcc warns that a word is beyond it, though none is read there */
    size = strnlen(text, most + 1);
    if (size < least || size > most)
        return 0;
    memset(field, 0, most);
    if (size >= word) {
        for (at = 0; at + word <= size; at += word)
            bits |= sentio_moved(field + at, text + at);
        bits |= sentio_moved(field + size - word, text + size - word);
    } else if (size >= half) {
        bits = sentio_half_moved(field, text) | sentio_half_moved(field + size - half, text + size - half);
    } else {
        for (at = 0; at < size; at++)
            bits |= (unsigned char)(field[at] = text[at]);
    }
    return !(bits & UINT64_C(0x8080808080808080)) || sentio_is_utf8(field, size);
}

static inline int sentio_is_word(int32_t word, int32_t last) { return word >= 1 && word <= last; }

static inline int sentio_is_time(int64_t at_us) { return at_us > 0 && at_us < INT64_C(7258118400000000); }

/* By the bits: compilers may be told (-ffast-math) that there is no NaN to compare with. */
static inline int sentio_is_fraction(double value)
{
    const double one = 1.0;
    uint64_t bits, bits_of_one;
    memcpy(&bits, &value, sizeof bits);
    memcpy(&bits_of_one, &one, sizeof bits_of_one);
    return bits <= bits_of_one || bits == UINT64_C(1) << 63;
}

static inline int sentio_publish_trade(sentio_ring *ring, const sentio_trade *trade)
{
    struct sentio_slot record;
    struct sentio_trade_body *body = &record.body.trade;
    if (!ring->head)
        return SENTIO_NOT_OPEN;
    record.kind = SENTIO_KIND_TRADE; /* nothing else but what follows: to clear it all first takes a fifth of the time */
    if (!sentio_put(body->account, SENTIO_ACCOUNT_BYTES, 1, trade->account) ||
        !sentio_put(body->strategy, SENTIO_STRATEGY_BYTES, 0, trade->strategy) ||
        !sentio_put(body->symbol, SENTIO_SYMBOL_BYTES, 1, trade->symbol) ||
        !sentio_put(body->reason, SENTIO_REASON_BYTES, 0, trade->reason) ||
        !sentio_put(body->order_id, SENTIO_ORDER_ID_BYTES, 0, trade->order_id ? trade->order_id : ""))
        return sentio_refused(ring, SENTIO_BAD_TEXT);
    if (!sentio_is_word(trade->action, SENTIO_EXIT) || !sentio_is_word(trade->side, SENTIO_SELL))
        return sentio_refused(ring, SENTIO_BAD_WORD);
    if (trade->quantity_e8 <= 0 || trade->price_e10 <= 0 ||
        (trade->has_realized_pnl && trade->realized_pnl_e6 == SENTIO_NULL))
        return sentio_refused(ring, SENTIO_BAD_AMOUNT);
    if (!sentio_is_time(trade->executed_at_us))
        return sentio_refused(ring, SENTIO_BAD_TIME);
    body->action = trade->action;
    body->side = trade->side;
    body->quantity_e8 = trade->quantity_e8;
    body->price_e10 = trade->price_e10;
    body->realized_pnl_e6 = trade->has_realized_pnl ? trade->realized_pnl_e6 : SENTIO_NULL;
    body->fees_e6 = trade->fees_e6;
    body->executed_at_us = trade->executed_at_us;
    return sentio_write(ring, &record, sizeof *body);
}

static inline int sentio_publish_signal(sentio_ring *ring, const sentio_signal *signal)
{
    struct sentio_slot record;
    struct sentio_signal_body *body = &record.body.signal;
    if (!ring->head)
        return SENTIO_NOT_OPEN;
    memset(&record, 0, SENTIO_SLOT_HEAD_BYTES + sizeof *body);
    record.kind = SENTIO_KIND_SIGNAL;
    if (!sentio_put(body->symbol, SENTIO_SYMBOL_BYTES, 1, signal->symbol))
        return sentio_refused(ring, SENTIO_BAD_TEXT);
    if (!sentio_is_word(signal->direction, SENTIO_SHORT))
        return sentio_refused(ring, SENTIO_BAD_WORD);
    if (!sentio_is_fraction(signal->probability) || !sentio_is_fraction(signal->confidence))
        return sentio_refused(ring, SENTIO_BAD_FRACTION);
    if (!sentio_is_time(signal->generated_at_us))
        return sentio_refused(ring, SENTIO_BAD_TIME);
    body->direction = signal->direction;
    body->probability = signal->probability;
    body->confidence = signal->confidence;
    body->bar_id = signal->bar_id;
    body->generated_at_us = signal->generated_at_us;
    return sentio_write(ring, &record, sizeof *body);
}

static inline int sentio_publish_position(sentio_ring *ring, const sentio_position *position)
{
    struct sentio_slot record;
    struct sentio_position_body *body = &record.body.held;
    if (!ring->head)
        return SENTIO_NOT_OPEN;
    memset(&record, 0, SENTIO_SLOT_HEAD_BYTES + sizeof *body);
    record.kind = SENTIO_KIND_POSITION;
    if (!sentio_put(body->account, SENTIO_ACCOUNT_BYTES, 1, position->account) ||
        !sentio_put(body->symbol, SENTIO_SYMBOL_BYTES, 1, position->symbol))
        return sentio_refused(ring, SENTIO_BAD_TEXT);
    if (position->average_entry_e10 < 0 || position->mark_e10 < 0)
        return sentio_refused(ring, SENTIO_BAD_AMOUNT);
    if (!sentio_is_time(position->updated_at_us))
        return sentio_refused(ring, SENTIO_BAD_TIME);
    body->quantity_e8 = position->quantity_e8;
    body->average_entry_e10 = position->average_entry_e10;
    body->mark_e10 = position->mark_e10;
    body->unrealized_pnl_e6 = position->unrealized_pnl_e6;
    body->realized_pnl_e6 = position->realized_pnl_e6;
    body->updated_at_us = position->updated_at_us;
    return sentio_write(ring, &record, sizeof *body);
}

static inline int sentio_publish_performance(sentio_ring *ring, const sentio_performance *performance)
{
    struct sentio_slot record;
    struct sentio_performance_body *body = &record.body.performance;
    if (!ring->head)
        return SENTIO_NOT_OPEN;
    memset(&record, 0, SENTIO_SLOT_HEAD_BYTES + sizeof *body);
    record.kind = SENTIO_KIND_PERFORMANCE;
    if (!sentio_put(body->account, SENTIO_ACCOUNT_BYTES, 1, performance->account))
        return sentio_refused(ring, SENTIO_BAD_TEXT);
    if (performance->open_positions < 0)
        return sentio_refused(ring, SENTIO_BAD_AMOUNT);
    if (!sentio_is_time(performance->minute_at_us))
        return sentio_refused(ring, SENTIO_BAD_TIME);
    body->equity_e6 = performance->equity_e6;
    body->day_return_e10 = performance->day_return_e10;
    body->open_positions = performance->open_positions;
    body->realized_pnl_e6 = performance->realized_pnl_e6;
    body->unrealized_pnl_e6 = performance->unrealized_pnl_e6;
    body->minute_at_us = performance->minute_at_us;
    return sentio_write(ring, &record, sizeof *body);
}

/* What has become of the events of this ring; of any time, by the producer's thread. */
static inline sentio_counts sentio_stats(const sentio_ring *ring)
{
    sentio_counts counts = {0, 0, 0, 0, 0};
    if (ring->head) {
        counts.published = ring->written;
        counts.dropped = ring->dropped;
        counts.refused = ring->refused;
        counts.unread = ring->written - __atomic_load_n(&ring->head->read, __ATOMIC_RELAXED);
        counts.capacity = ring->mask + 1;
    }
    return counts;
}

/* ---- Opening and closing: these make system calls. ---- */

static inline int sentio_failed(sentio_ring *ring, const char *path, const char *what, int error)
{
    snprintf(ring->error, sizeof ring->error, "ring %s: %s%s%s", path, what, error ? ": " : "",
             error ? strerror(error) : "");
    return -1;
}

/* The kernel's random id of that kind as 36 characters; 0 when it has none. */
static inline int sentio_kernel_id(const char *kind, char id[SENTIO_UUID_BYTES])
{
    char path[64];
    int descriptor;
    ssize_t size;
    memset(id, 0, SENTIO_UUID_BYTES);
    snprintf(path, sizeof path, "/proc/sys/kernel/random/%s", kind);
    if ((descriptor = open(path, O_RDONLY | O_CLOEXEC)) < 0)
        return 0;
    size = read(descriptor, id, 36);
    close(descriptor);
    return size == 36;
}

/* Whether `path` is still the name of the open file; another process may have moved it meanwhile. */
static inline int sentio_is_named(int descriptor, const char *path, struct stat *opened)
{
    struct stat named;
    return fstat(descriptor, opened) == 0 && stat(path, &named) == 0 && opened->st_ino == named.st_ino &&
           opened->st_dev == named.st_dev;
}

/* Fills the locked draft of a ring and gives it its name; 0, or the error. */
static inline int sentio_fill(int descriptor, const char *draft, const char *path, const struct sentio_head *head)
{
    int error;
    if (ftruncate(descriptor, 0) < 0)
        return errno;
    /* All of it now: on a disk that is full a page could not be had later, which would end the process. */
    if ((error = posix_fallocate(descriptor, 0, (off_t)(SENTIO_HEAD_BYTES + head->capacity * SENTIO_SLOT_BYTES))) != 0)
        return error;
    if (write(descriptor, head, sizeof *head) != (ssize_t)sizeof *head)
        return EIO;
    /* Before it has its name: a power cut must not leave a ring whose head is zeros, which nobody would go on with. */
    if (fsync(descriptor) < 0)
        return errno;
    if (link(draft, path) < 0 && errno != EEXIST)
        return errno;
    return 0;
}

/* Puts an empty ring at the path, whole or not at all; 0 also when another was quicker. */
static inline int sentio_create(sentio_ring *ring, const sentio_options *options)
{
    struct sentio_head head;
    struct stat opened;
    char draft[4096];
    int descriptor, error = 0;
    memset(&head, 0, sizeof head);
    memcpy(head.magic, SENTIO_MAGIC, sizeof head.magic);
    head.version = SENTIO_VERSION;
    head.layout = SENTIO_LAYOUT;
    head.capacity = options->capacity;
    memcpy(head.name, options->name, strlen(options->name));
    if (!sentio_kernel_id("uuid", head.id) || !sentio_kernel_id("boot_id", head.boot))
        return sentio_failed(ring, options->path, "/proc/sys/kernel/random cannot be read", errno);
    if (snprintf(draft, sizeof draft, "%s.new", options->path) >= (int)sizeof draft)
        return sentio_failed(ring, options->path, "the path is too long", 0);
    if ((descriptor = open(draft, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0660)) < 0)
        return sentio_failed(ring, options->path, "cannot be made", errno);
    if (flock(descriptor, LOCK_EX | LOCK_NB) < 0)
        error = errno;
    else if (sentio_is_named(descriptor, draft, &opened)) {
        /* With two names it is a ring already, whose maker was killed before it took the first one away. */
        if (opened.st_nlink == 1)
            error = sentio_fill(descriptor, draft, options->path, &head);
        unlink(draft);
    }
    close(descriptor);
    return error ? sentio_failed(ring, options->path, "cannot be made", error) : 0;
}

/* Gives a ring that is not gone on with another name, path.id, under which the reader finds what is left in it. */
static inline int sentio_set_aside(sentio_ring *ring, const sentio_options *options, const struct sentio_head *head)
{
    char aside[4096];
    if (snprintf(aside, sizeof aside, "%s.%.36s", options->path, head->id) >= (int)sizeof aside)
        return sentio_failed(ring, options->path, "the path is too long", 0);
    return rename(options->path, aside) < 0 ? sentio_failed(ring, options->path, "cannot be renamed", errno) : 0;
}

/* Whether this is a ring that this header may go on with: 1 yes, 0 it was set aside, -1 no. */
static inline int sentio_suits(sentio_ring *ring, const sentio_options *options, const struct sentio_head *head,
                               off_t size)
{
    char boot[SENTIO_UUID_BYTES];
    if (memcmp(head->magic, SENTIO_MAGIC, sizeof head->magic) != 0)
        return sentio_failed(ring, options->path, "the file is no ring", 0);
    if (head->version != SENTIO_VERSION || head->layout != SENTIO_LAYOUT) {
        snprintf(ring->error, sizeof ring->error,
                 "ring %s has layout %" PRIu64 "-%016" PRIx64 ", this sentio.h has %d-%016" PRIx64
                 ": build the engine with the sentio.h of its reader; a ring of another is read to its end, then removed",
                 options->path, head->version, head->layout, SENTIO_VERSION, SENTIO_LAYOUT);
        return -1;
    }
    if (head->capacity == 0 || (head->capacity & (head->capacity - 1)) != 0 ||
        (uint64_t)size != SENTIO_HEAD_BYTES + head->capacity * SENTIO_SLOT_BYTES ||
        head->written - head->read > head->capacity)
        return sentio_failed(ring, options->path, "its head is damaged; move the file away", 0);
    if (strncmp(head->name, options->name, sizeof head->name) != 0) {
        snprintf(ring->error, sizeof ring->error, "ring %s is that of the engine %.32s, not of %s", options->path,
                 head->name, options->name);
        return -1;
    }
    /* After a crash of the machine the file may be older than what was read from it: its positions are not given again. */
    if (!sentio_kernel_id("boot_id", boot) || memcmp(boot, head->boot, sizeof boot) != 0 ||
        head->capacity != options->capacity)
        return sentio_set_aside(ring, options, head) < 0 ? -1 : 0;
    return 1;
}

/* Locks a ring for its producer. Its reader holds the lock for a moment, too, to see whether there is one; so a second
 * producer is refused only after some tries. */
static inline int sentio_lock(int descriptor)
{
    const struct timespec pause = {0, 1000000};
    int turn;
    for (turn = 0; flock(descriptor, LOCK_EX | LOCK_NB) < 0; turn++) {
        if (errno != EWOULDBLOCK || turn == 50)
            return -1;
        nanosleep(&pause, NULL);
    }
    return 0;
}

/* Says of a ring who has opened it. */
static inline void sentio_sign(struct sentio_head *head, const sentio_options *options)
{
    memset(head->engine_version, 0, sizeof head->engine_version);
    memset(head->mode, 0, sizeof head->mode);
    if (options->version)
        memcpy(head->engine_version, options->version, strlen(options->version));
    if (options->mode)
        memcpy(head->mode, options->mode, strlen(options->mode));
}

/* Locks and maps the ring at the path: 1 done, 0 look again, -1 failed. */
static inline int sentio_take(sentio_ring *ring, const sentio_options *options, int descriptor)
{
    struct stat opened;
    struct sentio_head head;
    void *mapped;
    int suits;
    if (sentio_lock(descriptor) < 0)
        return errno == EWOULDBLOCK ? sentio_failed(ring, options->path, "another producer has it open", 0)
                                    : sentio_failed(ring, options->path, "cannot be locked", errno);
    if (!sentio_is_named(descriptor, options->path, &opened))
        return 0;
    if (read(descriptor, &head, sizeof head) != (ssize_t)sizeof head)
        return sentio_failed(ring, options->path, "the file is no ring", 0);
    if ((suits = sentio_suits(ring, options, &head, opened.st_size)) <= 0)
        return suits;
    mapped = mmap(NULL, (size_t)opened.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (mapped == MAP_FAILED)
        return sentio_failed(ring, options->path, "cannot be mapped", errno);
    ring->mapped_bytes = (size_t)opened.st_size;
    ring->head = (struct sentio_head *)mapped;
    sentio_sign(ring->head, options);
    ring->slots = (struct sentio_slot *)(void *)((char *)mapped + SENTIO_HEAD_BYTES);
    return 1;
}

/* Touches every page, so that none has to be fetched while something is published. */
static inline void sentio_touch(sentio_ring *ring)
{
    volatile char *slots = (volatile char *)ring->slots;
    size_t at;
    for (at = 0; at < ring->mapped_bytes - SENTIO_HEAD_BYTES; at += 4096)
        slots[at] = slots[at];
}

/* Opens a ring, makes it where there is none, and goes on behind the last event in it. 0, or -1 with the reason in
 * ring->error: another producer has it open, it is of another layout or another engine, or the file cannot be had. */
static inline int sentio_open(sentio_ring *ring, const sentio_options *options)
{
    int descriptor, taken = 0, turn;
    memset(ring, 0, sizeof *ring);
    if (options->capacity < 64 || options->capacity > UINT64_C(1) << 30 || options->capacity & (options->capacity - 1))
        return sentio_failed(ring, options->path, "its capacity is no power of two from 64 to 2^30", 0);
    if (!options->name || !*options->name || strlen(options->name) > SENTIO_NAME_BYTES)
        return sentio_failed(ring, options->path, "the engine's name is missing or longer than 32 bytes", 0);
    if (options->version && strlen(options->version) > SENTIO_ENGINE_VERSION_BYTES)
        return sentio_failed(ring, options->path, "the engine's version is longer than 32 bytes", 0);
    if (options->mode && strlen(options->mode) > SENTIO_MODE_BYTES)
        return sentio_failed(ring, options->path, "the engine's mode is longer than 16 bytes", 0);
    if (!sentio_is_utf8(options->name, strlen(options->name)) ||
        !sentio_is_utf8(options->version ? options->version : "", options->version ? strlen(options->version) : 0) ||
        !sentio_is_utf8(options->mode ? options->mode : "", options->mode ? strlen(options->mode) : 0))
        return sentio_failed(ring, options->path, "the engine's name, version or mode is not UTF-8", 0);
    for (turn = 0; turn < 16 && taken == 0; turn++) {
        descriptor = open(options->path, O_RDWR | O_CLOEXEC);
        if (descriptor < 0 && errno != ENOENT)
            return sentio_failed(ring, options->path, "cannot be opened", errno);
        if (descriptor < 0) {
            taken = sentio_create(ring, options);
            continue;
        }
        if ((taken = sentio_take(ring, options, descriptor)) <= 0)
            close(descriptor);
    }
    if (taken == 0)
        return sentio_failed(ring, options->path, "others make and move it meanwhile", 0);
    if (taken < 0)
        return -1;
    ring->descriptor = descriptor; /* holds the lock until it is closed, by whatever end of the process */
    ring->when_full = options->when_full;
    ring->mask = ring->head->capacity - 1;
    ring->written = ring->head->written;
    ring->read = __atomic_load_n(&ring->head->read, __ATOMIC_ACQUIRE);
    ring->dropped = ring->head->dropped;
    ring->refused = ring->head->refused;
    sentio_touch(ring);
    return 0;
}

/* What is unread stays in the file. */
static inline void sentio_close(sentio_ring *ring)
{
    if (!ring->head)
        return;
    munmap((void *)ring->head, ring->mapped_bytes);
    close(ring->descriptor);
    ring->head = NULL;
}

#ifdef __cplusplus
}
#endif
#endif
