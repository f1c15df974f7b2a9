"""How long events take to clients: the newest ones' percentiles, and how many took how long in the present minute."""

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

EDGES_MS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000)
"""Upper edges of the rows of the heat map, milliseconds; what took longer is in one more."""

NEWEST = 2_000
NEWEST_S = 60.0


class Latency:
    """Of one probe; of one thread at a time."""

    def __init__(self) -> None:
        self._newest: deque[tuple[float, float]] = deque(maxlen=NEWEST)
        self.minute = [0] * (len(EDGES_MS) + 1)
        """Counts of the present minute, by row of the heat map."""

    def took(self, ms: float, now_s: float) -> None:
        """A client heard of an event that had been published so long before."""
        self._newest.append((now_s, max(0.0, ms)))
        self.minute[bisect_left(EDGES_MS, ms)] += 1

    def percentiles_ms(self, now_s: float) -> tuple[float, float] | None:
        """p50 and p99 of the last minute, of at most `NEWEST` events; None without any."""
        while self._newest and self._newest[0][0] < now_s - NEWEST_S:
            self._newest.popleft()
        return percentiles([ms for _, ms in self._newest])

    def next_minute(self) -> list[int]:
        """The counts so far; they begin anew."""
        counts, self.minute = self.minute, [0] * len(self.minute)
        return counts


def percentiles(values: Sequence[float]) -> tuple[float, float] | None:
    """p50 and p99, each the smallest value that so many are not above."""
    if not values:
        return None
    ordered = sorted(values)
    p50, p99 = (ordered[-(-len(ordered) * share // 100) - 1] for share in (50, 99))
    return p50, p99
