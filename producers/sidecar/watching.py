"""Waits until an engine has written into a ring, which says so to nobody: to wake a reader would be a system call.

In native code a look takes some 50 µs of a processor, nearly all of it to be woken; in Python it takes six times as
much, and there are fewer.
"""

import threading
from collections.abc import Sequence

from producers.sidecar.drain import TURN_S, pause_s, wait_for_next_look
from producers.sidecar.rings import RingSource

try:
    import sentio_native
except ModuleNotFoundError:
    sentio_native = None  # not built here

QUIET_PART, LONGEST_S = 0.002, 0.008
"""Between two looks of native code lies this part of the time for which there was nothing, and so long at most: 2 ms
after a second, 8 after four. With Python's turns besides, 8 ms are 0.7 to 0.8 % of a processor; 4 were 1.4.
"""


class Watch:
    """Waits for the first record in any of the rings that are open; for a sidecar's thread."""

    def __init__(self, sources: Sequence[RingSource]) -> None:
        self._sources = sources

    def __call__(self, stop: threading.Event, quiet_s: float) -> None:
        """``quiet_s``: for how long there was nothing."""
        rings = [source.opened for source in self._sources]
        watched = [ring.watched() for ring in rings if ring is not None]
        if sentio_native is None or not watched:
            wait_for_next_look(stop, quiet_s)
        else:
            step_s = pause_s(quiet_s, part=QUIET_PART, longest_s=LONGEST_S)
            sentio_native.wait_for_records(watched, step_s, TURN_S)
