"""Old chunks become columns, where the edition can: TimescaleDB with its own licence."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from psycopg import Connection, sql

from schemas.topics import Topic
from sentio import log

# A replay brings the last seven days anew: into chunks that are still rows.
AFTER = timedelta(days=8)


def steps(connection: Connection, topic: Topic, now: datetime) -> Iterator[None]:
    """Compress each chunk that lies wholly before ``now - AFTER``, one at a time; ``connection`` commits by itself."""
    table = topic.table or ""
    chunks = connection.execute(_UNCOMPRESSED, {"table": table, "limit": now - AFTER}).fetchall()
    if chunks:
        _enable(connection, topic, table)
    for schema, chunk in chunks:
        connection.execute("select compress_chunk(format('%%I.%%I', %s::text, %s::text)::regclass)", [schema, chunk])
        log.get().info("compressed", table=table, chunk=chunk)
        yield


def _enable(connection: Connection, topic: Topic, table: str) -> None:
    """Not in a migration: the edition may change under a database that has them all."""
    enabled = connection.execute(
        "select compression_enabled from timescaledb_information.hypertables"
        " where hypertable_schema = current_schema() and hypertable_name = %s",
        [table],
    ).fetchone()
    if enabled == (False,):
        connection.execute(
            sql.SQL(
                "alter table {table} set (timescaledb.compress, timescaledb.compress_segmentby = {segment},"
                " timescaledb.compress_orderby = {order})"
            ).format(
                table=sql.Identifier(table),
                segment=sql.Literal(topic.filter or topic.key[0]),
                order=sql.Literal(f"{topic.time}, event_id"),  # with these two the primary key holds
            )
        )


_UNCOMPRESSED = """
    select chunk_schema, chunk_name from timescaledb_information.chunks
    where hypertable_schema = current_schema() and hypertable_name = %(table)s
        and range_end <= %(limit)s and not is_compressed
    order by range_end
"""
