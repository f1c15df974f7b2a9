"""Waits until an engine has written into a ring, which says so to nobody: to wake a reader would be a system call.

In native code a look takes some 50 µs of a processor, nearly all of it to be woken; in Python it takes six times as
much, and there are fewer.
"""

import threading
from collections.abc import Sequence

from producers.sidecar.rings import RingSource

try:
    import sentio_native
except ModuleNotFoundError:
    sentio_native = None  # not built here

STEP_S = 0.008
"""Between two looks of native code, at most. With Python's besides it is 0.8 % of a processor; it was 1.4 at 4 ms."""

LONGEST_S = 0.25
"""After so long Python looks, too: whether it is to stop, whether there are other rings."""


class Watch:
    """Waits for the first record in any of the rings that are open; for a sidecar's thread."""

    def __init__(self, sources: Sequence[RingSource]) -> None:
        self._sources = sources

    def __call__(self, stop: threading.Event, pause_s: float) -> None:
        """``pause_s``: how long it would be until the next look, if it had to be Python's."""
        rings = [source.opened for source in self._sources]
        watched = [ring.watched() for ring in rings if ring is not None]
        if sentio_native is None or not watched:
            stop.wait(pause_s)
        else:
            sentio_native.wait_for_records(watched, min(pause_s, STEP_S), LONGEST_S)
