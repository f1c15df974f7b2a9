"""The trades table as a benchmark sees it: is all there, and what exactly is there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection

from benchmarks.stage import PARTITIONS
from benchmarks.trades import Trades

COLUMNS = (
    "event_id, producer, sequence, account, strategy, symbol, action, side, quantity, price, realized_pnl, fees,"
    " reason, order_id, executed_at"
)


class Table:
    """Watches the table on a connection of its own, whose server process (``watcher``) is not to be counted."""

    def __init__(self, connection: Connection, trades: Trades) -> None:
        self._connection = connection
        self._trades = trades
        self._last: dict[int, list[list[Any]]] = {}

    @property
    def watcher(self) -> int:
        return self._connection.info.backend_pid

    def holds(self, end: int) -> bool:
        """Whether trades [0, end) are stored: by the last of each partition, a look-up in the primary key.

        Every contestant writes a partition in order; `contents` would show it if one did not.
        """
        if end not in self._last:  # found once: whoever polls must not take the processor from those who are timed
            last = self._trades.last_of_each_partition(end, PARTITIONS)
            rows = [self._trades.records.slice(index, 1).to_pylist()[0] for index in last]
            self._last[end] = [[row["executed_at"] for row in rows], [UUID(bytes=row["event_id"]) for row in rows]]
        times, ids = self._last[end]
        found = self._connection.execute(
            "select count(*) from unnest(%s::timestamptz[], %s::uuid[]) as wanted (at, id)"
            " join trades on executed_at = at and event_id = id",
            [times, ids],
        ).fetchone()
        return found == (len(ids),)

    def contents(self) -> list[tuple[Any, ...]]:
        """By symbol: count, exact sums, and a digest of all columns of all rows in the order of their ids."""
        return self._connection.execute(
            "select symbol, count(*), sum(quantity), sum(price), sum(fees), sum(realized_pnl),"
            f" md5(string_agg(({COLUMNS})::text, '' order by event_id)) from trades group by symbol order by symbol"
        ).fetchall()


@contextmanager
def watched(dsn: str, trades: Trades) -> Iterator[Table]:
    with psycopg.connect(dsn, autocommit=True, options="-c timezone=UTC") as connection:
        yield Table(connection, trades)
