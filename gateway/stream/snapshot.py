"""What a channel shows before its first update: rows of the database, and the offsets at which they stand.

Rows and the store's offsets are read in one REPEATABLE READ transaction, so that what follows those offsets in
the log is exactly what the rows do not hold yet.
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from psycopg import Connection, sql
from psycopg.rows import DictRow

from gateway import wire
from gateway.database import Pool, reading
from gateway.newest import KEYS, MOST_ROWS, ORDER, columns, narrowed, newest_of_each, order_of
from gateway.stream.catchup import History
from gateway.stream.channels import Channel
from gateway.stream.cursor import Positions
from gateway.stream.ring import Log
from gateway.stream.sharing import Shared
from schemas.columns import arrow_schema

STORE_GROUP = "store"
NEWEST = 100
MOST_WINDOWS = 400  # of days, weeks and months; half as many of minutes. Clients often take at most 1 MiB a message.
SHARED_FOR_S = 1.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """JSON documents, oldest first, and where in the log they stand."""

    documents: Sequence[str]
    positions: Positions
    truncated: bool = False
    """There would be more of what the channel promises."""


class Snapshots:
    """Clients that come at the same time share a snapshot, which is as good: updates follow its cursor."""

    def __init__(self, connections: Pool, history: History, threads: Executor, *, topic_prefix: str) -> None:
        self._connections = connections
        self._history = history
        self._threads = threads
        self._topic_prefix = topic_prefix
        self._shared = Shared[Snapshot](good_for_s=SHARED_FOR_S)

    async def get(self, channel: Channel, log: Log) -> Snapshot:
        """Raises `Retryable` in an outage of the database or the broker."""
        return await self._shared.get((channel, log), lambda: self._take(channel, log))

    async def _take(self, channel: Channel, log: Log) -> Snapshot:
        table = channel.topic.table
        if table is None:
            return await self._of_derived(channel, log)
        oldest = await self._history.oldest(log)
        loop = asyncio.get_running_loop()
        offsets, rows = await loop.run_in_executor(self._threads, self._read, channel, table, log.topic_id)
        positions = Positions(log.positions.epoch, [])
        for partition, offset in {**oldest, **offsets}.items():
            # What the store has not read and Kafka no longer has is in neither.
            positions.advance(partition, max(offset, oldest.get(partition, 0)))
        if table in ORDER:
            # Who has seen these is not to be shown what is older.
            for row in rows:
                log.note(tuple(row[name] for name in KEYS[table]), order_of(table, row))
        return Snapshot([wire.dumps(wire.document(row)) for row in rows], positions, len(rows) >= MOST_ROWS)

    async def _of_derived(self, channel: Channel, log: Log) -> Snapshot:
        """Of topics that the store does not write: what is in memory, or the statistics after the cursor."""
        positions = log.positions.copy()
        if channel.topic.event != "AggregateUpdated":
            return Snapshot([entry.document for entry in log.newest(channel)], positions)
        loop = asyncio.get_running_loop()
        rows = await loop.run_in_executor(self._threads, self._read_windows, channel.value)
        # A window in both has the same or a higher revision in the rows: readers keep the highest.
        truncated = len(rows) >= MOST_WINDOWS
        return Snapshot([wire.dumps(wire.document(row)) for row in rows], positions, truncated)

    def _read(self, channel: Channel, table: str, topic_id: str) -> tuple[dict[int, int], list[DictRow]]:
        name = channel.topic.full_name(self._topic_prefix)
        with reading(self._connections) as connection:
            offsets = connection.execute(
                "select partition, next_offset from consumer_offsets"
                " where group_name = %s and topic = %s and topic_id = %s",
                [STORE_GROUP, name, topic_id],
            ).fetchall()
            if table in KEYS:
                rows = newest_of_each(connection, channel.topic, channel.value)
            else:
                rows = _newest(connection, channel, table)
        return {row["partition"]: row["next_offset"] for row in offsets}, rows

    def _read_windows(self, account: str | None) -> list[DictRow]:
        names = arrow_schema("AggregateUpdated").names[3:]  # the columns after event_id, producer and sequence
        query = sql.SQL(
            "(select {columns} from statistics where kind <> 'MINUTE' and ({everyone} or account = {account})"
            " order by start_at desc limit {most}) union all "
            "(select {columns} from statistics where kind = 'MINUTE' and ({everyone} or account = {account}"
            # The newest minutes of an account are found by those of it as a whole: the others have no index by account.
            " and start_at in (select start_at from windows where kind = 'MINUTE' and account = {account}"
            " and strategy = '*' and symbol = '*' order by start_at desc limit {half}))"
            " order by start_at desc limit {half}) order by start_at"
        ).format(
            columns=columns(names),
            everyone=sql.Literal(account is None),
            account=sql.Literal(account or ""),
            most=sql.Literal(MOST_WINDOWS),
            half=sql.Literal(MOST_WINDOWS // 2),
        )
        with reading(self._connections) as connection:
            return connection.execute(query).fetchall()


def _newest(connection: Connection[DictRow], channel: Channel, table: str) -> list[DictRow]:
    query = sql.SQL("select {columns} from {table} where {narrowed} order by {time} desc, event_id desc limit {most}")
    rows = connection.execute(
        query.format(
            columns=columns(arrow_schema(channel.topic.event).names),
            table=sql.Identifier(table),
            narrowed=narrowed(channel.topic, channel.value),
            time=sql.Identifier(channel.topic.time),
            most=sql.Literal(NEWEST),
        )
    ).fetchall()
    rows.reverse()
    return rows
