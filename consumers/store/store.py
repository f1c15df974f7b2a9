"""The store: every topic that has a table, written by COPY in the transaction that moves the offsets."""

from collections import defaultdict
from datetime import datetime
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import Connection

from consumers.sink import DatabaseConsumer
from consumers.store import tables
from consumers.store.append import append
from consumers.store.upkeep import Upkeep
from schemas.topics import stored_topics
from sentio.batch import Batch
from sentio.config import ConsumerSettings


class Store(DatabaseConsumer):
    """Writes each record to its topic's table, once."""

    name: ClassVar[str] = "store"
    topics: ClassVar[tuple[str, ...]] = tuple(topic.name for topic in stored_topics())
    tables: ClassVar[tuple[str, ...]] = tuple(topic.table for topic in stored_topics() if topic.table)

    def __init__(self, settings: ConsumerSettings) -> None:
        super().__init__(settings)
        self._spans: defaultdict[str, set[datetime]] = defaultdict(set)
        self._new_spans: tuple[str, set[datetime]] = ("", set())
        self._upkeep = Upkeep(settings.database, stored_topics(), schema=self.schema)

    def open(self) -> None:
        super().open()
        with self.transaction() as connection:
            tables.check(connection, stored_topics())

    def write(self, connection: Connection, batch: Batch) -> None:
        self._make_partitions(connection, batch)
        append(connection, batch)

    def process(self, batch: Batch) -> None:
        self._new_spans = ("", set())
        super().process(batch)
        table, spans = self._new_spans
        self._spans[table] |= spans

    def idle(self) -> None:
        self._upkeep.turn()

    def close(self) -> None:
        self._upkeep.close()
        super().close()

    def _make_partitions(self, connection: Connection, batch: Batch) -> None:
        table, time, width = batch.topic.table or "", batch.topic.time, batch.topic.partition_width
        spans = _spans(batch.records[time], width)
        for first in sorted(spans - self._spans[table]):
            connection.execute("select sentio_partition_for(%s, %s, %s, %s)", [table, time, first, width])
        # Remembered for the next batch only once this one is written (`process`).
        self._new_spans = (table, spans)


def _spans(times: pa.Array, width: str) -> set[datetime]:
    """First instant of each UTC month or day, as ``width`` says, in which there is a time."""
    bounds = pc.min_max(times)
    ends = pc.floor_temporal(pa.array([bounds["min"], bounds["max"]], times.type), unit=width)
    if ends[0] != ends[1]:  # seldom, and dear
        ends = pc.unique(pc.floor_temporal(times, unit=width))
    return set(ends.to_pylist())
