"""An account at a glance: what it is worth, what it holds, what it closed."""

from decimal import Decimal

from psycopg import Connection
from psycopg.rows import DictRow, class_row

from gateway.database import value
from gateway.newest import newest_of_each
from gateway.rest.models import Portfolio, Position
from gateway.rest.roundtrips import Fill, round_trips
from schemas.amounts import EXACT, price, product
from schemas.topics import topic_of_event

LOOKED_AT = 5_000
"""Newest fills among which the entries of a round trip are looked for."""

_NEWEST_ACCOUNT = "select account as value from performance order by minute_at desc, event_id desc limit 1"
_FIRST_EQUITY = (
    "select equity_open as value from statistics"
    " where account = %s and strategy = '*' and symbol = '*' and kind = 'DAY'"
    " and equity_open is not null order by start_at limit 1"
)
_FILLS = (
    "select strategy, symbol, action, side, quantity, price, realized_pnl, fees, executed_at from"
    " (select * from trades where account = %s order by executed_at desc, producer desc, sequence desc limit %s)"
    " as newest"
    " order by executed_at, producer, sequence"
)


def portfolio(connection: Connection[DictRow], account: str | None, *, trips: int) -> Portfolio | None:
    """Of ``account``, or of the one that reported last; None when there is none. ``trips``: most round trips."""
    account = account or value(connection, _NEWEST_ACCOUNT, [])
    found = newest_of_each(connection, topic_of_event("PerformanceMinute"), account) if account else []
    if not found:
        return None
    [now] = found
    positions = [
        Position.model_validate(row) for row in newest_of_each(connection, topic_of_event("PositionUpdated"), account)
    ]
    with connection.cursor(row_factory=class_row(Fill)) as cursor:
        fills = cursor.execute(_FILLS, [account, LOOKED_AT]).fetchall()
    closed = round_trips(fills)[::-1][:trips]
    held = sum((product(one.quantity, one.mark) for one in positions), Decimal(0))
    first = value(connection, _FIRST_EQUITY, [account])
    return Portfolio(
        account=now["account"],
        equity=now["equity"],
        cash=now["equity"] - held,
        day_return=now["day_return"],
        total_return=price(EXACT.divide(now["equity"], first) - 1) if first else None,
        realized_pnl=now["realized_pnl"],
        unrealized_pnl=now["unrealized_pnl"],
        minute_at=now["minute_at"],
        positions=sorted(positions, key=lambda one: one.symbol),
        round_trips=closed,
    )
