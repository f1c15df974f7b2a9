"""Cursors of a gateway that has seen more than this one."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from gateway.stream.catchup import History
from gateway.stream.cursor import CannotResume, Positions, epoch_of
from gateway.stream.ring import Log
from schemas.topics import topic_of_event
from sentio.config import StreamSettings
from sentio.errors import Retryable


class Known(History):
    """Two partitions of every log, with five messages each."""

    def _ends(self, _: Log, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        if any(partition > 1 for partition in partitions):
            raise Retryable("kafka: unknown partition")
        return dict.fromkeys(partitions, (0, 5))


def positions(*offsets: int, topic_id: str = "id") -> Positions:
    """Where a cursor stands in a log of which this gateway knows one partition, up to offset 4."""
    log = Log(topic_of_event("TradeExecuted"), "id", {0: 4}, ring=10)
    token = Positions(epoch_of(topic_id), offsets).token
    with ThreadPoolExecutor(1) as threads:
        return asyncio.run(Known(StreamSettings(), threads).positions(token, log))


@pytest.mark.parametrize("offsets", [(4, 3), (4, 0), (5, 5)])
def test_partitions_that_this_gateway_has_not_noticed_yet_are_asked_for(offsets: tuple[int, int]) -> None:
    assert tuple(positions(*offsets).offsets) == offsets


def test_while_kafka_does_not_know_them_either_it_is_to_be_tried_again() -> None:
    with pytest.raises(Retryable):
        positions(4, 0, 0)


@pytest.mark.parametrize(
    ("offsets", "topic_id"), [((4, 6), "id"), ((6,), "id"), ((4, 3), "another"), ((4,), "another")]
)
def test_another_log_stays_another_log(offsets: tuple[int, ...], topic_id: str) -> None:
    with pytest.raises(CannotResume) as failure:
        positions(*offsets, topic_id=topic_id)
    assert failure.value.reason == "foreign"
