"""What waits for the publisher's thread: every event once, in order, with the time at which it was published."""

from types import SimpleNamespace

import pytest

from producers import waiting
from producers.waiting import LARGEST_BATCH, SMALLEST_BATCH, Batch, Waiting
from tests.samples import trade

SECOND = 1_000_000_000


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Unix time in ns, to be set."""
    now = [1_760_000_000 * SECOND]
    monkeypatch.setattr(
        waiting, "time", SimpleNamespace(time_ns=lambda: now[0], monotonic=lambda: now[0] / SECOND), raising=True
    )
    return now


def put(queue: Waiting, numbers: range) -> None:
    for number in numbers:
        queue.put(trade(number), number)


def taken(queue: Waiting) -> list[Batch]:
    batches = []
    while (batch := queue.take()).events:
        batches.append(batch)
    return batches


def test_each_event_comes_out_once_with_its_number_in_order() -> None:
    queue = Waiting()
    assert queue.take() == Batch([], [], 0)
    put(queue, range(7_000))
    assert len(queue) == 7_000
    batches = taken(queue)
    assert [number for batch in batches for number in batch.sequences] == list(range(7_000))
    assert [event for batch in batches for event in batch.events] == [trade(number) for number in range(7_000)]
    assert len(batches[0].events) == LARGEST_BATCH
    assert len(batches[-2].events) == SMALLEST_BATCH
    assert len(queue) == 0


def test_an_event_that_waits_long_keeps_the_time_at_which_it_was_put(clock: list[int]) -> None:
    queue = Waiting()
    put(queue, range(3_000))
    first_ns = clock[0]
    queue.take()
    clock[0] += SECOND
    put(queue, range(3_000, 5_000))
    queue.take()
    clock[0] += 60 * SECOND
    times = {number: batch.time_ns for batch in taken(queue) for number in batch.sequences}
    assert {times[number] for number in range(2_000, 3_000)} == {first_ns}
    assert {times[number] for number in range(3_000, 5_000)} == {first_ns + SECOND}


def test_times_are_as_exact_as_the_thread_looks(clock: list[int]) -> None:
    queue = Waiting()
    put(queue, range(3_000))
    queue.take()
    clock[0] += SECOND // 1_000
    put(queue, range(3_000, 3_010))
    queue.take()
    clock[0] += SECOND // 100
    last = taken(queue)[-1]
    assert last.sequences[-1] == 3_009
    assert last.time_ns == clock[0]
