"""A live table of the store as the target: rows that it lacks are added by the store's own code, beside the store.

A row is known by its event's time and id. Rows, counts and how far it is are one transaction.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import Connection

from consumers.replay.job import Counts, Job
from consumers.replay.selection import UNDECODABLE, Chosen
from consumers.replay.stored import check_migrations
from consumers.sink import STATEMENT_TIMEOUT_S, check_names
from consumers.store import partitions, retention, tables
from consumers.store.append import Filled, fill
from schemas.columns import arrow_schema
from schemas.topics import Topic
from sentio import database, log
from sentio.batch import Batch
from sentio.config import DatabaseSettings
from sentio.errors import Fatal, Poison

LOCK = 0x46494C4C  # "FILL": a swap of tables waits until no replay is in the middle of a transaction, and they for it
LOCK_TIMEOUT_S = 0.5
"""Less than the server waits before it looks for deadlocks (1 s): it is the replay that gives way, not the store."""

MOST = 20_000
"""Rows of one transaction, about: as many as the store writes in one."""


class Table:
    """Adds to a table what it lacks."""

    def __init__(self, settings: DatabaseSettings, topic: Topic) -> None:
        self._settings = settings
        self._topic = topic
        self._connection: Connection | None = None
        self._partitions: set[datetime] = set()
        self._waiting: list[Batch] = []

    def open(self, job: Job) -> None:
        """Raises `Fatal` for tables that do not fit the events, `Retryable` when the database does not answer."""
        check_migrations(self._settings)
        self._waiting = []
        self._connection = database.connect(
            self._settings.database, name="sentio-replay", statement_timeout_s=STATEMENT_TIMEOUT_S
        )
        with self._transaction() as connection:
            connection.execute("select set_config('lock_timeout', %s, false)", [f"{LOCK_TIMEOUT_S}s"])
            tables.check(connection, [self._topic])
            # Locked: a process that was killed may have a transaction that is still about to end.
            row = connection.execute(
                "select partitions, next_offsets, counts from replay_progress where job = %s for update", [job.id]
            ).fetchone()
            if row is not None:
                name = next(iter(job.topic_ids))
                job.next = {(name, partition): offset for partition, offset in zip(row[0], row[1], strict=True)}
                job.counts = Counts(**row[2])
                return
            if job.left():
                # It was not begun, or in a database that was restored since: then rows may be missing again.
                job.next, job.counts = {}, Counts()
            _note(connection, job)

    def write(self, chosen: Chosen) -> int:
        self._waiting.append(_batch(chosen))
        return 0  # it is known at the checkpoint how many are

    @property
    def is_full(self) -> bool:
        return sum(map(len, self._waiting)) >= MOST

    def checkpoint(self, job: Job) -> None:
        """Add what is missing of what was written since the last one."""
        batch, refused = self._sorted_out(job)
        if len(batch):
            # In a transaction of its own: a new partition locks the whole table, and the store waits for as long.
            with self._transaction() as connection:
                spans = partitions.make(connection, batch, self._partitions)
            self._partitions |= spans
        with self._transaction() as connection:
            connection.execute("select pg_advisory_xact_lock_shared(%s)", [LOCK])
            if not connection.execute("select from replay_progress where job = %s for update", [job.id]).rowcount:
                raise Fatal(f"replay {job.id} was ended by another process; this one ends")
            filled = fill(connection, batch) if len(batch) else Filled(0, {})
            refused |= filled.refused
            job.counts.written += filled.added
            job.counts.present += len(batch) - filled.added - len(filled.refused)
            job.counts.refused += len(refused)
            _note(connection, job)
        self._waiting = []
        if refused:
            place, reason = next(iter(refused.items()))
            log.get().warning("refused", table=self._topic.table, rows=len(refused), first=place, cause=reason)

    def finish(self, job: Job, /) -> None:
        self._forget(job)

    def drop(self, job: Job, /) -> None:
        """What was added stays in the table: it is what the log has."""
        self._forget(job)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _sorted_out(self, job: Job) -> tuple[Batch, dict[tuple[int, int], str]]:
        """What waits, without rows that the table does not keep, or may not have."""
        batch = _joined(self._topic, self._waiting)
        with self._transaction() as connection:
            [(now,)] = connection.execute("select now()").fetchall()
        # The earlier of two clocks, as retention has it.
        if (oldest := retention.oldest(self._topic, min(now, datetime.now(UTC)))) is not None and len(batch):
            young = pc.greater_equal(batch.records[self._topic.time], pa.scalar(oldest, pa.timestamp("us", tz="UTC")))
            kept = batch.where(young)
            job.counts.too_old += len(batch) - len(kept)
            batch = kept
        try:
            check_names(batch)
        except Poison as poison:
            return batch.where([place not in poison.reasons for place in batch.places()]), dict(poison.reasons)
        return batch, {}

    def _forget(self, job: Job) -> None:
        if self._connection is None:
            self._connection = database.connect(self._settings.database, name="sentio-replay")
        with self._transaction() as connection:
            connection.execute("delete from replay_progress where job = %s", [job.id])

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        assert self._connection is not None
        with database.outages_are_retryable(), self._connection.transaction():
            yield self._connection


def _note(connection: Connection, job: Job) -> None:
    offsets = {partition: offset for (_, partition), offset in job.next.items()}
    connection.execute(
        "insert into replay_progress (job, partitions, next_offsets, counts) values (%s, %s, %s, %s)"
        " on conflict (job) do update set partitions = excluded.partitions, next_offsets = excluded.next_offsets,"
        " counts = excluded.counts, updated_at = now()",
        [job.id, list(offsets), list(offsets.values()), json.dumps(asdict(job.counts))],
    )


def _batch(chosen: Chosen) -> Batch:
    """What could be decoded of it, as the store gets it."""
    assert chosen.records is not None
    decoded = [(index, row) for index, row in zip(chosen.indexes, chosen.rows, strict=True) if row != UNDECODABLE]
    indexes = pa.array([index for index, _ in decoded], pa.int64())
    records = chosen.records.take(pa.array([row for _, row in decoded], pa.int64()))
    partitions, offsets, timestamps_ms = (column.take(indexes) for column in chosen.messages.columns())
    return Batch(chosen.topic, records, partitions, offsets, timestamps_ms, ranges={})


def _joined(topic: Topic, batches: Sequence[Batch]) -> Batch:
    schema = arrow_schema(topic.event)
    return Batch(
        topic,
        pa.concat_batches([pa.RecordBatch.from_pylist([], schema), *(batch.records for batch in batches)]),
        pa.concat_arrays([pa.array([], pa.int32()), *(batch.partitions for batch in batches)]),
        pa.concat_arrays([pa.array([], pa.int64()), *(batch.offsets for batch in batches)]),
        pa.concat_arrays([pa.array([], pa.int64()), *(batch.timestamps_ms for batch in batches)]),
        ranges={},
    )
