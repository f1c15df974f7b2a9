"""The marks of the ledger: whatever comes again, however it is cut into batches, is let through once."""

from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import Connection
from pydantic import SecretStr

from consumers import refusals
from consumers.ledger import Ledger
from schemas.columns import from_events
from schemas.topics import topic_of_event
from sentio.batch import Batch, Range
from sentio.database import migrate
from tests.redriven import redriven
from tests.samples import signal

TOPIC = topic_of_event("SignalGenerated")
Record = tuple[int, str, int]
"""partition, producer, sequence"""

RECORDS = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.integers(0, 12)), max_size=40)


@pytest.fixture
def connection(database: str) -> Iterator[Connection]:
    migrate(SecretStr(database))
    with psycopg.connect(database) as connection:
        yield connection


def batch(records: list[Record], stands: dict[int, int]) -> Batch:
    """The records as they follow on where each partition stands, which they move."""
    spans = {partition: stands[partition] for partition, _, _ in records}
    offsets = []
    for partition, _, _ in records:
        offsets.append(stands[partition])
        stands[partition] += 1
    columns = from_events(
        [signal(n) for n in range(len(records))],
        event_id=[n.to_bytes(16, "big") for n in range(len(records))],
        producer=[producer for _, producer, _ in records],
        sequence=[sequence for _, _, sequence in records],
    )
    return Batch(
        TOPIC,
        columns,
        pa.array([partition for partition, _, _ in records], pa.int32()),
        pa.array(offsets, pa.int64()),
        pa.array(offsets, pa.int64()),
        {partition: Range(first, stands[partition]) for partition, first in spans.items()},
    )


def expected(records: list[Record]) -> list[Record]:
    """Those above all that their producer reached in their partition before."""
    reached: dict[tuple[int, str], int] = {}
    fresh = []
    for partition, producer, sequence in records:
        if sequence > reached.get((partition, producer), -1):
            reached[partition, producer] = sequence
            fresh.append((partition, producer, sequence))
    return fresh


def test_a_repeat_is_let_through_by_no_split_into_batches(connection: Connection) -> None:
    @settings(max_examples=100, deadline=None)
    @given(RECORDS, st.data())
    def check(records: list[Record], data: st.DataObject) -> None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=4)))
        stands = dict.fromkeys(range(3), 0)
        fresh: list[Record] = []
        with connection.transaction(force_rollback=True):
            ledger = Ledger("group", "t")
            ledger.claim(connection, {(TOPIC.full_name("t"), partition): "id" for partition in stands})
            for first, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
                if first < end:
                    found = ledger.fresh(connection, batch(records[first:end], stands))
                    ledger.advance(connection, found)
                    columns = (found.batch.partitions, found.batch.records["producer"], found.batch.records["sequence"])
                    fresh += zip(*(column.to_pylist() for column in columns), strict=True)
            offsets = connection.execute("select partition, next_offset from consumer_offsets").fetchall()
        assert fresh == expected(records)
        # -1: nothing of it was read yet.
        assert {partition: max(0, offset) for partition, offset in offsets} == stands

    check()


def test_redriven_event_is_let_through_once_and_moves_no_mark(connection: Connection) -> None:
    topic = TOPIC.full_name("t")
    ledger, stands = Ledger("group", "t"), {0: 0}
    ledger.claim(connection, {(topic, 0): "id", (f"{topic}.redrive.group", 0): "id"})
    read = batch([(0, "a", n) for n in range(8)], stands)
    refused = refusals.refusing(read.where([n not in (3, 4, 5) for n in range(8)]), [(0, 3), (0, 4), (0, 5)])
    ledger.advance(connection, ledger.fresh(connection, refused))

    def passed(*sequences: int) -> list[int]:
        again = redriven(batch([(0, "a", n) for n in sequences], places), topic, "group", [(0, n) for n in sequences])
        ids = [n.to_bytes(16, "big") for n in sequences]
        records = again.records.set_column(0, again.records.schema.field(0), pa.array(ids, pa.binary(16)))
        found = ledger.fresh(connection, replace(again, records=records))
        ledger.advance(connection, found)
        let_through: list[int] = found.batch.records["sequence"].to_pylist()
        return let_through

    places = {0: 0}
    assert passed(3, 5, 3) == [3, 5], "below the mark, and once in a batch"
    assert passed(5, 4) == [4]
    assert connection.execute("select sequence from consumer_marks").fetchall() == [(7,)]
    assert connection.execute("select topic, next_offset from consumer_offsets order by topic").fetchall() == [
        (topic, 8),
        (f"{topic}.redrive.group", 5),
    ]
    assert connection.execute("select record_offset from consumer_refused").fetchall() == [(3,), (4,), (5,)]
