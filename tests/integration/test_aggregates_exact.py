"""However the log is cut into batches, repeated, late or interrupted: the tables are what a naive computation says."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from consumers.aggregates.aggregates import Aggregates
from consumers.consumer import Fenced
from schemas.topics import topic_of_event
from sentio.batch import Batch
from sentio.config import ConsumerSettings, load
from sentio.errors import Retryable
from sentio.testing.servers import fresh_database
from tests.histories import PARTITIONS, PERFORMANCE, PREFIX, TRADES, Log, Silent, batch_of, logs
from tests.naive import Numbered, Window, statistics
from tests.samples import minute, trade

KEY = ("account", "strategy", "symbol", "kind", "start_at")


class Interrupted(Aggregates):
    """Fails after its work and before the commit, when told to."""

    fails = False

    def write(self, connection: psycopg.Connection, batch: Batch) -> None:
        super().write(connection, batch)
        if self.fails:
            self.fails = False
            raise Retryable("cut off before the commit")


@pytest.fixture(scope="module")
def aggregates(database_server: str) -> Iterator[Interrupted]:
    with fresh_database(database_server) as dsn:
        consumer = Interrupted(load(ConsumerSettings, database=dsn, topic_prefix=PREFIX), Silent())
        consumer.open()
        yield consumer
        consumer.close()


def begin_anew(consumer: Interrupted) -> None:
    with consumer.connection().transaction():
        consumer.connection().execute("truncate windows, window_changes, consumer_offsets, consumer_marks")
    names = [topic.full_name(PREFIX) for topic in (TRADES, PERFORMANCE)]
    consumer.assigned({(name, partition): "id" for name in names for partition in range(PARTITIONS)})


def deliver(consumer: Interrupted, log: Log, data: st.DataObject) -> None:
    """Everything in the log, in batches of any size from any partitions; some are cut off, some come twice."""
    read = dict.fromkeys(log, 0)
    while left := [place for place, records in log.items() if read[place] < len(records)]:
        event, first = data.draw(st.sampled_from(left))
        parts: dict[int, tuple[int, Sequence[Numbered]]] = {}
        for place in (place for place in left if place[0] == event):
            size = data.draw(st.integers(int(place[1] == first), len(log[place]) - read[place]))
            if size:
                parts[place[1]] = (read[place], log[place][read[place] : read[place] + size])
                read[place] += size
        how = data.draw(st.sampled_from(["once", "once", "once", "cut off", "twice"]))
        process(consumer, batch_of(topic_of_event(event), parts), how=how)


def process(consumer: Interrupted, batch: Batch, *, how: str) -> None:
    """As the group does it: again after `Retryable`, never again after `Fenced`."""
    consumer.fails = how == "cut off"
    try:
        consumer.process(batch)
    except Retryable:
        consumer.process(batch)
    consumer.fails = False
    if how == "twice":
        with pytest.raises(Fenced):
            consumer.process(batch)


def in_tables(connection: psycopg.Connection) -> dict[Window, dict[str, Any]]:
    with connection.transaction(), connection.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute("select * from statistics").fetchall()
    for row in rows:
        assert row.pop("revision") > 0
        row.pop("updated_at")
    return {tuple(row.pop(part) for part in KEY): row for row in rows}


@settings(max_examples=60, deadline=None)
@given(logs(), st.data())
def test_any_cut_and_any_order_of_the_log_gives_the_same_statistics(
    aggregates: Interrupted, log: Log, data: st.DataObject
) -> None:
    begin_anew(aggregates)
    deliver(aggregates, log, data)
    distinct = {(each.producer, each.sequence): each for records in log.values() for each in records}
    expected = statistics(distinct.values())
    found = in_tables(aggregates.connection())
    assert found.keys() == expected.keys()
    for window, figures in expected.items():
        assert found[window] == figures, window


def test_a_fall_below_zero_is_measured_by_the_peak_of_its_own_moment(aggregates: Interrupted) -> None:
    """Only then the peak of the days before, with the day's lowest close, would give more than there was."""
    first, second = datetime(2025, 10, 6, 14, 0, tzinfo=UTC), datetime(2025, 10, 7, 14, 0, tzinfo=UTC)
    closes = [(first, "1"), (second, "2"), (second + timedelta(minutes=1), "-1000")]
    events = [Numbered(minute(0, equity, minute_at=at), "engine@1", n) for n, (at, equity) in enumerate(closes)]
    begin_anew(aggregates)
    process(aggregates, batch_of(PERFORMANCE, {0: (0, events)}), how="once")
    found = in_tables(aggregates.connection())
    assert found == statistics(events)
    assert found["paper", "*", "*", "WEEK", datetime(2025, 10, 6, 4, 0, tzinfo=UTC)]["max_drawdown"] == 501


def test_a_quotient_just_beyond_a_half_is_not_taken_for_one(aggregates: Interrupted) -> None:
    """These are to each other as 0.66666666665000000000000050: to the even neighbour below if one looks too briefly."""
    pnls = ("66666666.665002", "-100000000.000003")
    events = [Numbered(trade(0, pnl=pnl), "engine@1", number) for number, pnl in enumerate(pnls)]
    begin_anew(aggregates)
    process(aggregates, batch_of(TRADES, {0: (0, events)}), how="once")
    found = in_tables(aggregates.connection())
    assert found == statistics(events)
    assert {figures["profit_factor"] for figures in found.values()} == {Decimal("0.6666666667")}
