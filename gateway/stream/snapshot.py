"""What a channel shows before its first update: rows of the database, and the offsets at which they stand.

Rows and the store's offsets are read in one REPEATABLE READ transaction, so that what follows those offsets in the log
is exactly what the rows do not hold yet.
"""

import asyncio
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

from psycopg import Connection, sql
from psycopg.rows import DictRow

from gateway import wire
from gateway.database import Pool, reading
from gateway.stream.catchup import History
from gateway.stream.channels import Channel
from gateway.stream.cursor import Positions
from gateway.stream.ring import Log
from schemas.columns import arrow_schema

STORE_GROUP = "store"
NEWEST = 100
MOST_ROWS = 2_000
MOST_WINDOWS = (
    400  # of days, weeks and months; half as many of minutes. Clients often take at most 1 MiB a message.
)
SHARED_FOR_S = 1.0

NEWEST_OF_EACH = {"signals": ("symbol",), "positions": ("account", "symbol"), "performance": ("account",)}
"""Table: the columns of which the newest row each is the state."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """JSON documents, oldest first, and where in the log they stand."""

    documents: Sequence[str]
    positions: Positions
    truncated: bool = False
    """There would be more of what the channel promises."""


class Snapshots:
    """Reads snapshots; clients that come at the same time share one, which is as good: updates follow its cursor."""

    def __init__(self, connections: Pool, history: History, threads: Executor, *, topic_prefix: str) -> None:
        self._connections = connections
        self._history = history
        self._threads = threads
        self._topic_prefix = topic_prefix
        self._shared: dict[tuple[str, Log], tuple[float, asyncio.Task[Snapshot]]] = {}

    async def get(self, channel: Channel, log: Log) -> Snapshot:
        """Raises `Retryable` in an outage of the database or the broker."""
        now_s = time.monotonic()
        self._shared = {
            key: (asked_s, task)
            for key, (asked_s, task) in self._shared.items()
            if not task.done() or now_s - asked_s < SHARED_FOR_S
        }
        key = (channel.name, log)
        shared = self._shared.get(key)
        if shared is None or (shared[1].done() and shared[1].exception()):
            self._shared[key] = shared = (now_s, asyncio.create_task(self._take(channel, log)))
        return await asyncio.shield(shared[1])

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
        return Snapshot([wire.dumps(wire.document(row)) for row in rows], positions, len(rows) >= MOST_ROWS)

    async def _of_derived(self, channel: Channel, log: Log) -> Snapshot:
        """Topics that the store does not write: what is in memory, or the statistics as they are after the cursor."""
        positions = log.positions.copy()
        if channel.topic.event != "AggregateUpdated":
            return Snapshot([entry.page.documents[entry.row] for entry in log.newest(channel)], positions)
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
            rows = (_newest_of_each if table in NEWEST_OF_EACH else _newest)(connection, channel, table)
        return {row["partition"]: row["next_offset"] for row in offsets}, rows

    def _read_windows(self, account: str | None) -> list[DictRow]:
        names = arrow_schema("AggregateUpdated").names[
            3:
        ]  # the columns after event_id, producer and sequence
        query = sql.SQL(
            "(select {columns} from statistics where kind <> 'MINUTE' and ({everyone} or account = {account})"
            " order by start_at desc limit {most}) union all "
            "(select {columns} from statistics where kind = 'MINUTE' and ({everyone} or account = {account})"
            " order by start_at desc limit {half}) order by start_at"
        ).format(
            columns=_columns(names),
            everyone=sql.Literal(account is None),
            account=sql.Literal(account or ""),
            most=sql.Literal(MOST_WINDOWS),
            half=sql.Literal(MOST_WINDOWS // 2),
        )
        with reading(self._connections) as connection:
            return connection.execute(query).fetchall()


def _newest(connection: Connection[DictRow], channel: Channel, table: str) -> list[DictRow]:
    query = sql.SQL(
        "select {columns} from {table} where {narrowed} order by {time} desc, event_id desc limit {most}"
    )
    rows = connection.execute(
        query.format(
            columns=_columns(arrow_schema(channel.topic.event).names),
            table=sql.Identifier(table),
            narrowed=_narrowed(channel),
            time=sql.Identifier(channel.topic.time),
            most=sql.Literal(NEWEST),
        )
    ).fetchall()
    rows.reverse()
    return rows


def _newest_of_each(connection: Connection[DictRow], channel: Channel, table: str) -> list[DictRow]:
    """The newest row of each key; hops from key to key in the index instead of reading the whole table."""
    keys = NEWEST_OF_EACH[table]
    query = sql.SQL(
        "with recursive keys as ("
        " (select {keys} from {table} where {narrowed} order by {keys} limit 1)"
        " union all"
        " select following.* from keys, lateral ("
        "  select {of_rows} from {table} as r where ({of_rows}) > ({of_keys}) and {narrowed}"
        "  order by {of_rows} limit 1) as following"
        ") select newest.* from keys, lateral ("
        " select {columns} from {table} as r where ({of_rows}) = ({of_keys})"
        " order by {time} desc, producer desc, sequence desc limit 1) as newest"
        "{open} order by {time}, event_id limit {most}"
    )
    return connection.execute(
        query.format(
            keys=_columns(keys),
            of_rows=_columns(keys, "r"),
            of_keys=_columns(keys, "keys"),
            table=sql.Identifier(table),
            narrowed=_narrowed(channel),
            columns=_columns(arrow_schema(channel.topic.event).names),
            time=sql.Identifier(channel.topic.time),
            open=sql.SQL(" where quantity <> 0" if table == "positions" else ""),
            most=sql.Literal(MOST_ROWS),
        )
    ).fetchall()


def _columns(names: Sequence[str], table: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join(
        [sql.Identifier(table, name) if table else sql.Identifier(name) for name in names]
    )


def _narrowed(channel: Channel) -> sql.Composable:
    if channel.value is None or channel.topic.filter is None:
        return sql.SQL("true")
    return sql.SQL("{} = {}").format(sql.Identifier(channel.topic.filter), sql.Literal(channel.value))
