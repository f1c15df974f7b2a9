"""The store: every topic that has a table, written by COPY in the transaction that moves the offsets."""

from collections import defaultdict
from datetime import datetime
from typing import ClassVar

from psycopg import Connection

from consumers.sink import DatabaseConsumer
from consumers.store import partitions, tables
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
        table = batch.topic.table or ""
        # Remembered for the next batch only once this one is written (`process`).
        self._new_spans = (table, partitions.make(connection, batch, self._spans[table]))
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
