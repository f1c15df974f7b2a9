"""What the tables say of accounts' days, with the offsets that they say it at: one moment, in one transaction."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from psycopg import Connection
from psycopg.rows import DictRow

from gateway.database import Pool, reading
from gateway.watch.book import Figures, start_of
from sentio.kafka import Place

ONE_DAY = "(wanted.start_at at time zone 'America/New_York' + interval '1 day') at time zone 'America/New_York'"
_WANTED = "unnest(%(accounts)s::text[], %(starts)s::timestamptz[]) as wanted (account, start_at)"

_FILLS = f"""
    select wanted.account, count(event_id) as fills, coalesce(sum(realized_pnl), 0) as realized_pnl,
        coalesce(sum(round_half_even(price * quantity, 6)), 0) as notional
    from {_WANTED}
    left join trades on trades.account = wanted.account and executed_at >= wanted.start_at and executed_at < {ONE_DAY}
    group by wanted.account
"""
_NEWEST_FILL = f"""
    select wanted.account, newest.event_id::text as newest_trade
    from {_WANTED}, lateral (
        select event_id from trades
        where trades.account = wanted.account and executed_at >= wanted.start_at and executed_at < {ONE_DAY}
        order by executed_at desc, event_id desc limit 1) as newest
"""
_NEWEST_MINUTE = f"""
    select wanted.account, newest.equity, newest.open_positions
    from {_WANTED}, lateral (
        select equity, open_positions from performance
        where performance.account = wanted.account and minute_at >= wanted.start_at and minute_at < {ONE_DAY}
        order by minute_at desc, producer desc, sequence desc limit 1) as newest
"""
# As aggregates has it (`consumers.aggregates.drawdown`), from the rows instead of from windows.
_DRAWDOWN = f"""
    select account, ratio_or_null(max((peak - equity)::numeric(80, 40) / nullif(greatest(peak, 0), 0))) as drawdown
    from (
        select account, equity, max(equity) over (partition by account order by minute) as peak
        from (
            select distinct on (wanted.account, date_trunc('minute', minute_at))
                wanted.account, equity, date_trunc('minute', minute_at) as minute
            from {_WANTED}
            join performance on performance.account = wanted.account
                and minute_at >= wanted.start_at and minute_at < {ONE_DAY}
            order by wanted.account, date_trunc('minute', minute_at), minute_at desc, producer desc, sequence desc
        ) as closes
    ) as peaks
    group by account
"""
_EXPOSURE = f"""
    select account, coalesce(sum(abs(quantity * mark)), 0) as exposure
    from (
        select distinct on (wanted.account, positions.symbol) wanted.account, quantity, mark
        from {_WANTED}
        left join positions on positions.account = wanted.account
            and updated_at >= wanted.start_at and updated_at < {ONE_DAY}
        order by wanted.account, positions.symbol, updated_at desc, producer desc, sequence desc
    ) as newest
    group by account
"""
_WINDOWS = f"""
    select wanted.account, coalesce(fills, 0) as fills, coalesce(realized_pnl, 0) as realized_pnl,
        coalesce(notional, 0) as notional, equity_close as equity, ratio_or_null(max_drawdown) as drawdown
    from {_WANTED}
    left join windows on windows.account = wanted.account and strategy = '*' and symbol = '*' and kind = 'DAY'
        and windows.start_at = wanted.start_at
"""
_OFFSETS = "select topic, partition, next_offset from consumer_offsets where group_name = %s and next_offset >= 0"

STORE, AGGREGATES = "store", "aggregates"
OF_AGGREGATES = ("equity", "drawdown", "fills", "realized_pnl", "notional")
"""Figures that aggregates keeps."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What one group has written."""

    figures: Mapping[str, Figures]
    """By account."""

    offsets: Mapping[Place, int]
    """Next offset of each partition that it has read of."""


def stored(connections: Pool, days: Mapping[str, date]) -> dict[str, Stored]:
    """What `STORE` and `AGGREGATES` say of these accounts on these days. Raises `Retryable`."""
    values = {"accounts": list(days), "starts": [start_of(day) for day in days.values()]}
    with reading(connections) as connection:
        tables = _figures(connection, (_FILLS, _NEWEST_FILL, _NEWEST_MINUTE, _DRAWDOWN, _EXPOSURE), values)
        windows = _figures(connection, (_WINDOWS,), values)
        return {
            STORE: Stored(tables, _offsets(connection, STORE)),
            AGGREGATES: Stored(windows, _offsets(connection, AGGREGATES)),
        }


def _figures(connection: Connection[DictRow], queries: Sequence[str], values: Mapping[str, Any]) -> dict[str, Figures]:
    found: dict[str, dict[str, Any]] = {account: {} for account in values["accounts"]}
    for query in queries:
        for row in connection.execute(query, values):
            found[row.pop("account")] |= row
    return {account: Figures(**row) for account, row in found.items()}


def _offsets(connection: Connection[DictRow], group: str) -> dict[Place, int]:
    return {(row["topic"], row["partition"]): row["next_offset"] for row in connection.execute(_OFFSETS, [group])}
