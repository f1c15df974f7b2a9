"""How often someone may do something: token buckets, one for each user or address."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

MOST_KEYS = 100_000
"""Bounds the memory (some 20 MB); the one that asked longest ago is forgotten first, and begins anew."""

_V6_NETWORK = 64  # what one subscriber is given


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_s: float


class Rate:
    """``count`` in ``period_s``, all at once or spread. Of one thread."""

    def __init__(self, count: int, period_s: float, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._count = count
        self._refill_per_s = count / period_s
        self._now_s = now_s
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()

    def wait_s(self, key: str) -> float:
        """0 when ``key`` may, and it is counted; else the seconds until it may."""
        now_s = self._now_s()
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._buckets[key] = _Bucket(float(self._count), now_s)
            if len(self._buckets) > MOST_KEYS:
                self._buckets.popitem(last=False)
        else:
            self._buckets.move_to_end(key)
        bucket.tokens = min(self._count, bucket.tokens + (now_s - bucket.filled_s) * self._refill_per_s)
        bucket.filled_s = now_s
        if bucket.tokens < 1:
            return (1 - bucket.tokens) / self._refill_per_s
        bucket.tokens -= 1
        return 0.0


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
