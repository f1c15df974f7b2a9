"""What the fan-out counts: plain numbers, written once a sending and read whenever /metrics is asked."""

import time
from bisect import bisect_left
from collections.abc import Sequence

BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Of the delivery times; what is longer is in a last place of its own."""


class Tally:
    """Belongs to the event loop; whoever reads it from elsewhere sees numbers of about the same moment."""

    __slots__ = ("behind", "delivered", "delivered_s", "replayed", "sent")

    def __init__(self) -> None:
        self.sent = 0
        """Messages to live clients: one for each client."""

        self.replayed = 0
        """Messages to clients that catch up."""

        self.behind = 0
        """Times that a live client had no room and fell behind."""

        self.delivered = [0] * (len(BOUNDS_S) + 1)
        self.delivered_s = 0.0

    def sending(self, messages: int, clients: int, oldest_ms: int) -> None:
        """So many messages went to so many clients, the oldest published at this time (Kafka's, since 1970)."""
        self.sent += messages * clients
        seconds = max(0.0, time.time() - oldest_ms / 1_000)
        self.delivered[bisect_left(BOUNDS_S, seconds)] += clients
        self.delivered_s += seconds * clients


def cumulative(counts: Sequence[int]) -> list[tuple[str, int]]:
    """Buckets as Prometheus has them: (upper bound, how many up to it)."""
    total = 0
    found = []
    for bound, count in zip((*map(str, BOUNDS_S), "+Inf"), counts, strict=True):
        total += count
        found.append((bound, total))
    return found
