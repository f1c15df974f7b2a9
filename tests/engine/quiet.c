/* A million events in a process that may read, write and exit, and is killed for any other system call. */
#define _DEFAULT_SOURCE 1 /* syscall() */
#include "sentio.h"

#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

int main(int count, char **words)
{
    sentio_ring ring;
    const sentio_options options = {words[1], "quiet", 64, SENTIO_RETURN_FULL, NULL, NULL};
    const sentio_trade trade = {"paper-1", "rotation", "TQQQ", SENTIO_ENTRY, SENTIO_BUY, 100, 100, 0, 0, 0,
                                "a reason", "an order", 1};
    const sentio_signal signal = {"TQQQ", SENTIO_LONG, 0.5, 0.5, 1, 1};
    const sentio_position position = {"paper-1", "TQQQ", 1, 1, 1, 1, 1, 1};
    const sentio_performance performance = {"paper-1", 1, 1, 1, 1, 1, 1};
    long full = 0;
    int each, bad = 0;
    if (count < 2 || sentio_open(&ring, &options) != 0)
        return 2;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
        return 3;
    for (each = 0; each < 1000000; each++) {
        int answer = each % 4 == 0   ? sentio_publish_trade(&ring, &trade)
                     : each % 4 == 1 ? sentio_publish_signal(&ring, &signal)
                     : each % 4 == 2 ? sentio_publish_position(&ring, &position)
                                     : sentio_publish_performance(&ring, &performance);
        if (answer == SENTIO_FULL)
            full++;
        else if (answer != SENTIO_OK)
            bad = 1;
        /* The ring is full now and then: that way is taken too. */
        if (each % 100 == 99)
            __atomic_store_n(&ring.head->read, ring.written, __ATOMIC_RELEASE);
    }
    if (count > 2)
        syscall(SYS_getpid); /* so that a test sees it killed */
    syscall(SYS_exit, bad || full == 0 || sentio_stats(&ring).published + (uint64_t)full != 1000000);
    return 4;
}
