"""One bucket in the process, one in Redis: the same answers."""

import asyncio
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from gateway.limits import Rate
from gateway.rest.rate import SharedRate
from sentio.stack.redis import RedisServer

PREFIXES = (f"t{number}:" for number in itertools.count())


class Clock:
    now_s = 1_763_800_000.0

    def __call__(self) -> float:
        return self.now_s


Asked = Sequence[tuple[float, str]]
"""Seconds since the one before, and who asks."""


async def answers(server: RedisServer, count: int, asked: Asked) -> list[tuple[float, float]]:
    """What the one in the process and two on the same Redis, in turns, say."""
    clock = Clock()
    own = Rate(count, 60.0, now_s=clock)
    url, prefix = SecretStr(server.address), next(PREFIXES)
    turns = [SharedRate(Rate(count, 60.0, now_s=clock), url, prefix, now_s=clock) for _ in range(2)]
    said = []
    for number, (pause_s, who) in enumerate(asked):
        clock.now_s += pause_s
        said.append((own.wait_s(who), await turns[number % 2].wait_s(who)))
    for one in turns:
        await one.close()
    return said


@given(
    st.integers(1, 12),
    st.lists(st.tuples(st.sampled_from([0, 0, 0, 0.1, 5, 21, 61]), st.sampled_from("ab")), max_size=40),
)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_both_say_the_same(own_redis: RedisServer, count: int, asked: Asked) -> None:
    for own, everyones in asyncio.run(answers(own_redis, count, asked)):
        assert everyones == pytest.approx(own, abs=1e-4)


def test_so_many_at_once_and_then_one_at_a_time(own_redis: RedisServer) -> None:
    said = asyncio.run(answers(own_redis, 3, [(0, "a")] * 4 + [(0, "b"), (5, "a"), (15, "a"), (0, "a")]))
    for who in range(2):
        assert [pair[who] for pair in said] == pytest.approx([0, 0, 0, 20, 0, 15, 0, 20], abs=1e-4)


def test_clock_is_that_of_redis(own_redis: RedisServer) -> None:
    async def waits() -> list[float]:
        rate = SharedRate(Rate(60, 60.0), SecretStr(own_redis.address), next(PREFIXES))
        found = [await rate.wait_s("a") for _ in range(61)]
        await rate.close()
        return found

    *granted, last = asyncio.run(waits())
    assert set(granted) == {0.0}
    assert 0 <= last <= 1
