/* Makes a ring; ends with 0 if its whole head was on the disk before it had its name. */
#include "sentio.h"

static int is_on_disk, was_on_disk;

/* In place of the system's: the header calls these. */
int fsync(int descriptor)
{
    struct sentio_head head;
    is_on_disk = pread(descriptor, &head, sizeof head, 0) == (ssize_t)sizeof head &&
                 memcmp(head.magic, SENTIO_MAGIC, sizeof head.magic) == 0;
    return 0;
}

int link(const char *from, const char *to)
{
    was_on_disk = is_on_disk;
    return linkat(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int main(int count, char **words)
{
    sentio_ring ring;
    const sentio_options options = {words[1], "synced", 64, SENTIO_RETURN_FULL, NULL, NULL};
    if (count != 2 || sentio_open(&ring, &options) != 0)
        return 2;
    sentio_close(&ring);
    return !was_on_disk;
}
