"""A consumer whose results and offsets live in one database, written in one transaction: exactly once.

`store` and `aggregates` are built on it; so may yours: give `name`, `topics` and `write`.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

import psycopg
import pyarrow.compute as pc
from psycopg import Connection

from consumers.consumer import Consumer
from consumers.ledger import Ledger
from sentio import database, log
from sentio.batch import Batch
from sentio.config import ConsumerSettings
from sentio.errors import Poison, Retryable
from sentio.kafka import Place

# A database that is slow, or where another session holds a lock, must not keep the loop from turning for as long as
# /livez allows (60 s), nor from polling for as long as Kafka does (max.poll.interval.ms, 300 s): the partitions would
# go to a member that waits for the same lock.
STATEMENT_TIMEOUT_S = 40.0

NAMES = {"producer", "account", "strategy", "symbol"}
LONGEST_NAME_BYTES = 500
"""A row of an index holds 2,700 bytes, and the key of a window three names."""

CLAIM_WAIT_S = 2.0
"""How long a claim waits for whoever holds the partitions' rows before it looks whether that is a frozen process."""

# In the middle of a COPY the server waits for its client without end: neither idle_in_transaction_session_timeout nor
# statement_timeout ends that.
_END_FROZEN = """
    select pg_terminate_backend(pid) from pg_stat_activity
    where application_name = %s and datname = current_database() and pid <> pg_backend_pid()
        and state = 'active' and wait_event = 'ClientRead' and query_start < now() - make_interval(secs => %s)
"""


class DatabaseConsumer(Consumer):
    """Runs `write` in the transaction that moves the offsets."""

    owns_offsets: ClassVar[bool] = True

    tables: ClassVar[tuple[str, ...]] = ()
    """What `write` writes, for the shadows of `consumers.shadow`."""

    schema: ClassVar[str | None] = None
    """Where those tables are looked for first."""

    def __init__(self, settings: ConsumerSettings) -> None:
        self._settings = settings
        # A process frozen inside a transaction must lose it before the group gives its partitions away.
        self._idle_s = settings.session_timeout_ms / 1000 * 0.6
        self._ledger = Ledger(self.name, settings.topic_prefix)
        self._connection: Connection | None = None

    def write(self, connection: Connection, batch: Batch) -> None:
        """Write the rows of one batch, without those that are in the tables already. May raise `Poison`."""
        raise NotImplementedError

    def open(self) -> None:
        with database.outages_are_retryable():
            database.migrate(self._settings.database)
        self.prepare()
        self.connection()

    def prepare(self) -> None:
        """What the tables need besides the migrations; may raise `Retryable`."""

    def connection(self) -> Connection:
        """The consumer's connection, made anew when it was lost; raises `Retryable`."""
        if self._connection is None or self._connection.closed:
            self._connection = database.connect(
                self._settings.database,
                name=self.name,
                idle_in_transaction_s=self._idle_s,
                statement_timeout_s=STATEMENT_TIMEOUT_S,
                schema=self.schema,
            )
            log.get().info("database connected", server=self._connection.info.parameter_status("server_version"))
        return self._connection

    def assigned(self, topic_ids: Mapping[Place, str]) -> Mapping[Place, int]:
        try:
            with self.transaction() as connection:
                connection.execute("select set_config('lock_timeout', %s, true)", [f"{CLAIM_WAIT_S}s"])
                return self._ledger.claim(connection, topic_ids)
        except Retryable as failure:
            if isinstance(failure.__cause__, psycopg.errors.LockNotAvailable):
                self._end_frozen()
            raise

    def revoked(self, places: Sequence[Place]) -> None:
        self._ledger.release(places)

    def process(self, batch: Batch) -> None:
        check_names(batch)
        with self.transaction() as connection:
            fresh = self._ledger.fresh(connection, batch)
            if len(fresh.batch):
                self.write(connection, fresh.batch)
            self._ledger.advance(connection, fresh)

    def _end_frozen(self) -> None:
        """End this consumer's sessions whose client has been silent in the middle of a COPY; they hold their rows."""
        with self.transaction() as connection:
            if ended := connection.execute(_END_FROZEN, [self.name, self._idle_s]).rowcount:
                log.get().warning("sessions of frozen processes ended", consumer=self.name, sessions=ended)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """A transaction on the consumer's connection; what may pass by itself is raised as `Retryable`."""
        connection = self.connection()
        try:
            with database.outages_are_retryable(), connection.transaction():
                yield connection
        except Retryable as failure:
            if isinstance(failure.__cause__, psycopg.errors.ReadOnlySqlTransaction):
                # A primary that became a standby stays one: the address may lead to another server by now.
                connection.close()
            raise

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def check_names(batch: Batch) -> None:
    """Raise `Poison` for rows with a name that is too long for the indexes it would stand in."""
    reasons: dict[tuple[int, int], str] = {}
    for name in sorted(NAMES & set(batch.records.schema.names)):
        sizes = pc.binary_length(batch.records[name])
        if (pc.max(sizes).as_py() or 0) > LONGEST_NAME_BYTES:
            for place, size in zip(batch.places(), sizes.to_pylist(), strict=True):
                if size > LONGEST_NAME_BYTES:
                    reasons[place] = f"{name} of {size:,} bytes; a name has {LONGEST_NAME_BYTES} at most"
    if reasons:
        raise Poison(reasons)
