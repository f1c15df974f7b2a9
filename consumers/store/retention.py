"""Age leaves a table here, as `store_days` of schemas/topics.toml says: by whole partitions, then row by row.

The same on every edition of the database. Never is a row deleted that is younger than its limit.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

from psycopg import Connection, sql

from schemas.topics import Topic
from sentio import log
from sentio.database import Edition

STEP_ROWS = 10_000

REDRIVEN_DAYS = 90
"""Longer than a dead letter (30 days) and its redriven record (31) are kept: whoever redrives it again is known."""


def steps(connection: Connection, edition: Edition, topic: Topic, now: datetime) -> Iterator[None]:
    """Delete what is too old, a bounded step at a time; ``connection`` commits by itself."""
    if (limit := oldest(topic, now)) is None:
        return
    yield from _drop(connection, edition, topic.table or "", limit)
    yield from _delete(connection, topic.table or "", topic.time, limit)


def oldest(topic: Topic, now: datetime) -> datetime | None:
    """Rows of its table that are before it leave it; None: none ever do."""
    return None if topic.store_days is None else now - timedelta(days=topic.store_days)


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
        # Said of the table too: it keeps the plan, and TimescaleDB's decompression, to what is old.
        " where r.{time} < %s and r.{time} = old.{time} and r.event_id = old.event_id"
    ).format(**names)
    deleted = 0
    while rows := connection.execute(statement, [limit, STEP_ROWS, limit]).rowcount:
        deleted += rows
        yield
    if deleted:
        log.get().info("retention: deleted", table=table, rows=deleted, before=limit.isoformat())


def forget_redriven(connection: Connection, now: datetime) -> Iterator[None]:
    """Delete which events were redriven long ago."""
    limit = now - timedelta(days=REDRIVEN_DAYS)
    statement = (
        "delete from consumer_redriven where ctid = any(array("
        "select ctid from consumer_redriven where applied_at < %s limit %s))"
    )
    while connection.execute(statement, [limit, STEP_ROWS]).rowcount:
        yield


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
