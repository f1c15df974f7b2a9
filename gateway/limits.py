"""How often someone may do something, and how many at a time: for each user or address."""

import ipaddress
import time
from collections import Counter, OrderedDict
from collections.abc import Callable

MOST_KEYS = 100_000
"""Bounds the memory (some 20 MB); the one that asked longest ago is forgotten first, and begins anew."""

_V6_NETWORK = 64  # what one subscriber is given


class Bucket:
    """``count`` in ``period_s``, all at once or spread, of one who asks. Of one thread."""

    __slots__ = ("_filled_s", "_tokens")

    def __init__(self, count: int, now_s: float) -> None:
        self._tokens = float(count)
        self._filled_s = now_s

    def wait_s(self, count: int, period_s: float, now_s: float) -> float:
        """0 when one more may, and it is counted; else the seconds until it may."""
        refill_per_s = count / period_s
        self._tokens = min(count, self._tokens + (now_s - self._filled_s) * refill_per_s)
        self._filled_s = now_s
        if self._tokens < 1:
            return (1 - self._tokens) / refill_per_s
        self._tokens -= 1
        return 0.0


class Rate:
    """``count`` in ``period_s`` for each key. Of one thread."""

    def __init__(self, count: int, period_s: float, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self.count = count
        self.period_s = period_s
        self._now_s = now_s
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """0 when ``key`` may, and it is counted; else the seconds until it may."""
        now_s = self._now_s()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = Bucket(self.count, now_s)
            if len(self._buckets) > MOST_KEYS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        return bucket.wait_s(self.count, self.period_s, now_s)


class Places:
    """At most ``count`` at the same time for each key; 0: any number. Of one thread."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._taken: Counter[str] = Counter()

    def has_room(self, key: str) -> bool:
        return not self._count or self._taken[key] < self._count

    def enter(self, key: str) -> None:
        self._taken[key] += 1

    def leave(self, key: str) -> None:
        self._taken[key] -= 1
        if not self._taken[key]:
            del self._taken[key]


def source_of(address: str) -> str:
    """Who an address stands for: itself, or its network of 64 bits where it is IPv6."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address  # a Unix socket, or a test's client
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, _V6_NETWORK), strict=False))
    return address
