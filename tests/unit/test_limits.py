"""Token buckets: so many at once, then as fast as they refill, each key for itself."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import limits
from gateway.limits import Rate, source_of


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


def test_so_many_at_once_and_then_one_at_a_time() -> None:
    clock = Clock()
    rate = Rate(3, 60.0, now_s=clock)
    assert [rate.wait_s("a") for _ in range(3)] == [0, 0, 0]
    assert rate.wait_s("a") == pytest.approx(20)
    assert rate.wait_s("b") == 0, "another one is not held up"
    clock.now_s += 5
    assert rate.wait_s("a") == pytest.approx(15), "to ask costs nothing"
    clock.now_s += 15
    assert rate.wait_s("a") == 0
    assert rate.wait_s("a") > 0


@given(st.integers(1, 20), st.lists(st.tuples(st.floats(0, 100), st.integers(1, 25)), max_size=8))
def test_no_more_than_the_count_and_what_refilled_since(count: int, bursts: list[tuple[float, int]]) -> None:
    clock = Clock()
    rate = Rate(count, 60.0, now_s=clock)
    allowed_s = []
    for pause_s, size in bursts:
        clock.now_s += pause_s
        allowed_s += [clock.now_s for _ in range(size) if not rate.wait_s("a")]
    for first in range(len(allowed_s)):
        for last in range(first, len(allowed_s)):
            passed_s = allowed_s[last] - allowed_s[first]
            assert last - first + 1 <= count + passed_s * count / 60 + 1e-6


def test_memory_is_bounded_and_the_busy_are_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MOST_KEYS", 10)
    rate = Rate(1, 60.0, now_s=Clock())
    rate.wait_s("busy")
    for number in range(100):
        rate.wait_s(str(number))
        assert rate.wait_s("busy") > 0
    assert len(rate._buckets) == 10


def test_redis_costs_nothing_where_none_is_set() -> None:
    code = "import sys, gateway.stream.workers, gateway.rest.app; sys.exit('redis' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9", "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("", ""),
    ],
)
def test_an_address_stands_for_its_subscriber(address: str, source: str) -> None:
    assert source_of(address) == source
