"""The store: every topic that has a table, written by COPY in the transaction that moves the offsets."""

from collections import defaultdict
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import Connection

from consumers.sink import DatabaseConsumer
from consumers.store import tables
from consumers.store.append import append
from schemas.topics import stored_topics
from sentio.batch import Batch
from sentio.config import ConsumerSettings


class Store(DatabaseConsumer):
    """Writes each record to its topic's table, once."""

    name: ClassVar[str] = "store"
    topics: ClassVar[tuple[str, ...]] = tuple(topic.name for topic in stored_topics())

    def __init__(self, settings: ConsumerSettings) -> None:
        super().__init__(settings)
        self._months: defaultdict[str, set[tuple[int, int]]] = defaultdict(set)
        self._new_months: tuple[str, set[tuple[int, int]]] = ("", set())

    def open(self) -> None:
        super().open()
        with self.transaction() as connection:
            tables.check(connection, stored_topics())

    def write(self, connection: Connection, batch: Batch) -> None:
        self._make_partitions(connection, batch)
        append(connection, batch)

    def _make_partitions(self, connection: Connection, batch: Batch) -> None:
        table, time = batch.topic.table or "", batch.topic.time
        months = _months(batch.records[time])
        for year, month in sorted(months - self._months[table]):
            connection.execute("select sentio_partition_for(%s, %s, make_date(%s, %s, 1))", [table, time, year, month])
        # Remembered for the next batch only once this one is written (`process`).
        self._new_months = (table, months)

    def process(self, batch: Batch) -> None:
        self._new_months = ("", set())
        super().process(batch)
        table, months = self._new_months
        self._months[table] |= months


def _months(times: pa.Array) -> set[tuple[int, int]]:
    """(year, month) in UTC of each time."""
    bounds = pc.min_max(times)
    ends = {(at.year, at.month) for at in (bounds["min"].as_py(), bounds["max"].as_py())}
    if len(ends) == 1:  # as nearly always, and much cheaper
        return ends
    return {(at.year, at.month) for at in pc.unique(pc.floor_temporal(times, unit="month")).to_pylist()}
