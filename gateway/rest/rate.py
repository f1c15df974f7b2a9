"""How often someone may ask, counted by all instances together in Redis; by this one alone while that is away."""

import asyncio
import time
from collections.abc import Callable

from pydantic import SecretStr

from gateway import shared
from gateway.limits import Rate
from gateway.shared import BOUND_S, TROUBLE
from sentio import log

PAUSE_S = 1.0  # in which an outage is left alone

_BUCKET = """
local count, period, now = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
if not now then
  local time = redis.call('TIME')
  now = time[1] + time[2] / 1000000
end
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'filled')
local tokens, filled = tonumber(kept[1] or count), tonumber(kept[2] or now)
tokens = math.min(count, tokens + math.max(0, now - filled) * (count / period))
local wait = 0
if tokens < 1 then wait = (1 - tokens) / (count / period) else tokens = tokens - 1 end
redis.call('HSET', KEYS[1], 'tokens', string.format('%.17g', tokens), 'filled', string.format('%.17g', now))
redis.call('PEXPIRE', KEYS[1], math.ceil(period * 1000))
return string.format('%.17g', wait)
"""
"""`gateway.limits.Bucket`, atomic. One that is full again is as good as none, and expires."""


class SharedRate:
    """As `own`, for all instances together. Belongs to the event loop. Raises `SettingError` for a URL that is none."""

    def __init__(self, own: Rate, url: SecretStr, prefix: str, *, now_s: Callable[[], float] | None = None) -> None:
        """``now_s`` takes the place of Redis's clock."""
        self._own = own
        self._redis = shared.connected(url)
        self._bucket = self._redis.register_script(_BUCKET)
        self._prefix = prefix
        self._now_s = now_s
        self._again_s = float("-inf")
        """When Redis is asked again (monotonic)."""

        self._once = log.OncePer()

    async def wait_s(self, key: str) -> float:
        """0 when ``key`` may, and it is counted; else the seconds until it may. Takes `BOUND_S` at most."""
        if time.monotonic() < self._again_s:
            return self._own.wait_s(key)
        now = "" if self._now_s is None else repr(self._now_s())
        try:
            async with asyncio.timeout(BOUND_S):
                answer = await self._bucket(
                    keys=[f"{self._prefix}rate:{key}"], args=[self._own.count, self._own.period_s, now]
                )
        except TROUBLE as failure:
            self._again_s = time.monotonic() + PAUSE_S
            if self._once.due("away"):
                log.get().warning(
                    "redis is away; limits are those of each instance until it is back",
                    cause=str(failure) or type(failure).__name__,
                )
            return self._own.wait_s(key)
        self._once.reset()
        wait_s = float(answer)
        if not wait_s:
            self._own.wait_s(key)  # so that it knows, should it have to answer alone
        return wait_s

    async def close(self) -> None:
        await self._redis.aclose()
