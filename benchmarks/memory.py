"""Memory of a process, and of the kernel, from /proc."""

import re
from pathlib import Path


def kernel_kb() -> int:
    """What the kernel has for objects of its own on this machine, sockets and their buffers among them."""
    found = re.search(r"^Slab:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def own_kb(pid: int) -> int:
    """Private pages of a process: what would be free if it ended. The kernel's for its sockets are not among them."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(found) for found in re.findall(r"^Private_(?:Clean|Dirty):\s+(\d+) kB", rollup, re.MULTILINE))
