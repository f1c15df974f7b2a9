"""A consumer whose results and offsets live in one database, written in one transaction: exactly once.

`store` and `aggregates` are built on it; so may yours: give `name`, `topics` and `write`.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from psycopg import Connection

from consumers.consumer import Consumer
from consumers.ledger import Ledger
from sentio import database, log
from sentio.batch import Batch
from sentio.config import ConsumerSettings
from sentio.kafka import Place


class DatabaseConsumer(Consumer):
    """Runs `write` in the transaction that moves the offsets."""

    owns_offsets: ClassVar[bool] = True

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        self._ledger = Ledger(self.name, settings.topic_prefix)
        self._connection: Connection | None = None

    def write(self, connection: Connection, batch: Batch) -> None:
        """Write the rows of one batch, without those that are in the tables already. May raise `Poison`."""
        raise NotImplementedError

    def open(self) -> None:
        with database.outages_are_retryable():
            database.migrate(self._settings.database)
        self.connection()

    def connection(self) -> Connection:
        """The consumer's connection, made anew when it was lost; raises `Retryable`."""
        if self._connection is None or self._connection.closed:
            # A process frozen inside a transaction must lose it before the group gives its partitions away.
            idle_s = self._settings.session_timeout_ms / 1000 * 0.6
            self._connection = database.connect(self._settings.database, name=self.name, idle_in_transaction_s=idle_s)
            log.get().info("database connected", server=self._connection.info.parameter_status("server_version"))
        return self._connection

    def assigned(self, topic_ids: Mapping[Place, str]) -> Mapping[Place, int]:
        with database.outages_are_retryable(), self.connection().transaction():
            return self._ledger.claim(self.connection(), topic_ids)

    def revoked(self, places: Sequence[Place]) -> None:
        self._ledger.release(places)

    def process(self, batch: Batch) -> None:
        connection = self.connection()
        with database.outages_are_retryable(), connection.transaction():
            fresh = self._ledger.fresh(connection, batch)
            if len(fresh.batch):
                self.write(connection, fresh.batch)
            self._ledger.advance(connection, fresh)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
