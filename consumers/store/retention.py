"""Age leaves the tables here, as `store_days` of schemas/topics.toml says: by whole partitions, then row by row.

The store's own timer, the same on every edition of the database: it runs between batches, a step at a time, on a
connection of its own. Never is a row deleted that is younger than its limit.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta

import psycopg
from psycopg import Connection, sql
from pydantic import SecretStr

from schemas.topics import Topic
from sentio import database, log
from sentio.database import Edition
from sentio.errors import Retryable

EVERY_S = 600.0
STEP_ROWS = 10_000
LOCK = 0x52455449  # "RETI": one member of the group at a time
LOCK_TIMEOUT_S = 1.0  # whoever reads a table that is to lose a partition goes first: the log is not kept waiting
STATEMENT_TIMEOUT_S = 30.0


class Retention:
    """Deletes what is too old, a bounded step with each `turn`; what fails is tried again in the next round."""

    def __init__(
        self,
        address: SecretStr,
        topics: Iterable[Topic],
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._topics = [topic for topic in topics if topic.store_days is not None]
        self._now = now
        self._monotonic_s = monotonic_s
        self._next_s = monotonic_s() + EVERY_S / 10  # not while the process is busy starting
        self._round: Iterator[None] | None = None

    def turn(self) -> None:
        """Do the next step of a round; begin one when it is time."""
        if self._round is None:
            if self._monotonic_s() < self._next_s:
                return
            self._round = self._steps()
        try:
            next(self._round)
        except StopIteration:
            self._end()
        except (Retryable, psycopg.Error) as failure:
            log.get().warning("retention: will try again", cause=str(failure), in_s=EVERY_S)
            self._end()

    def close(self) -> None:
        """Leave off in the middle of a round; the next one goes on there."""
        self._end()

    def _end(self) -> None:
        if self._round is not None:
            self._round.close()  # type: ignore[attr-defined] # a generator: it lets go of its connection
            self._round = None
        self._next_s = self._monotonic_s() + EVERY_S

    def _steps(self) -> Iterator[None]:
        with (
            database.outages_are_retryable(),
            database.connect(
                self._address, name="store-retention", statement_timeout_s=STATEMENT_TIMEOUT_S
            ) as connection,
        ):
            connection.autocommit = True
            connection.execute(f"set lock_timeout = {int(LOCK_TIMEOUT_S * 1000)}")
            # Of the session: it goes with the connection, however this ends.
            row = connection.execute("select pg_try_advisory_lock(%s), now()", [LOCK]).fetchone()
            assert row is not None
            mine, database_now = row
            if not mine:
                return
            edition = database.edition(connection)
            for topic in self._topics:
                # The earlier of two clocks: one that runs ahead must not cost rows.
                limit = min(self._now(), database_now) - timedelta(days=topic.store_days or 0)
                yield from _drop(connection, edition, topic.table or "", limit)
                yield from _delete(connection, topic.table or "", topic.time, limit)


def _drop(connection: Connection, edition: Edition, table: str, limit: datetime) -> Iterator[None]:
    """Drop each partition or chunk that lies wholly before ``limit``, oldest first."""
    parts = connection.execute(_CHUNKS if edition.is_timescale else _PARTITIONS, {"table": table, "limit": limit})
    for schema, part, next_at in parts.fetchall():
        name = sql.Identifier(schema, part)
        with connection.transaction():
            (rows,) = connection.execute(sql.SQL("select count(*) from {}").format(name)).fetchone() or (0,)
            if edition.is_timescale:
                connection.execute("select drop_chunks(%s::regclass, older_than => %s)", [table, next_at])
            else:
                connection.execute(sql.SQL("drop table {}").format(name))
        log.get().info("retention: dropped", table=table, partition=part, rows=rows, before=next_at.isoformat())
        yield


def _delete(connection: Connection, table: str, column: str, limit: datetime) -> Iterator[None]:
    """Delete what is left before ``limit``: rows of the partition it cuts, and of the default one."""
    names = {"table": sql.Identifier(table), "time": sql.Identifier(column)}
    statement = sql.SQL(
        "delete from {table} as r using"
        " (select {time}, event_id from {table} where {time} < %s order by {time}, event_id limit %s) as old"
        " where r.{time} = old.{time} and r.event_id = old.event_id"
    ).format(**names)
    deleted = 0
    while rows := connection.execute(statement, [limit, STEP_ROWS]).rowcount:
        deleted += rows
        yield
    if deleted:
        log.get().info("retention: deleted", table=table, rows=deleted, before=limit.isoformat())


_PARTITIONS = """
    select nspname, relname, next_at from sentio_partitions(%(table)s)
    join pg_class on pg_class.oid = part join pg_namespace on pg_namespace.oid = relnamespace
    where next_at <= %(limit)s order by next_at
"""
_CHUNKS = """
    select chunk_schema, chunk_name, range_end from timescaledb_information.chunks
    where hypertable_schema = current_schema() and hypertable_name = %(table)s and range_end <= %(limit)s
    order by range_end
"""
