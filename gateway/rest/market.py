"""What a symbol costs, and how it got there: quotes and bars, rolled up for a screen."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Literal

from psycopg import Connection
from psycopg.rows import DictRow

from gateway.database import value
from gateway.rest.days import start_of

Span = Literal["1D", "5D", "1M", "3M"]

MOST_POINTS = 500
STEPS_MIN = (1, 2, 5, 10, 15, 30, 60, 120, 240, 1440)

_MONTHS: dict[Span, str] = {"1M": "1 month", "3M": "3 months"}
_TRADING_DAYS: dict[Span, int] = {"1D": 1, "5D": 5}
_FIVE_TRADING_DAYS = timedelta(days=14)  # with the holidays there may be

# A bar's close is the price at the end of its minute. The change is against the last bar of an earlier day.
_QUOTES = """
    select named.symbol, newest.price, newest.price_at,
        round_half_even(newest.price::numeric(50, 20) / before.close - 1, 10) as change_of_day
    from unnest(%s::text[]) as named (symbol)
    cross join lateral (
        select * from (
            (select close as price, minute_at + interval '1 minute' as price_at, minute_at as of
            from bars where bars.symbol = named.symbol order by minute_at desc, producer desc, sequence desc limit 1)
            union all
            (select price, observed_at, observed_at
            from prices where prices.symbol = named.symbol
            order by observed_at desc, event_id desc limit 1)
        ) as either
        order by price_at desc limit 1
    ) as newest
    left join lateral (
        select close from bars
        where bars.symbol = named.symbol and minute_at < date_trunc('day', newest.of, 'America/New_York')
        order by minute_at desc, producer desc, sequence desc limit 1
    ) as before on true
"""

_DAYS = """
    select distinct (minute_at at time zone 'America/New_York')::date as day from bars
    where symbol = %s and minute_at > %s order by day desc limit %s
"""

# A minute that came twice counts once. Bins begin anew with every trading day.
_MINUTES = """
    with minutes as (
        select distinct on (minute_at) *, date_trunc('day', minute_at, 'America/New_York') as day from bars
        where symbol = %s and minute_at >= %s order by minute_at, producer desc, sequence desc
    )
"""
_STEP = f"""
    {_MINUTES}
    select step as value from unnest(%s::int[]) as step, minutes
    group by step
    having count(distinct date_bin(make_interval(mins => step), minute_at, day)) <= %s
    order by step limit 1
"""
_ROLLED = f"""
    {_MINUTES}
    select date_bin(make_interval(mins => %s), minute_at, day) as start_at,
        (array_agg(open order by minute_at))[1] as open, max(high) as high, min(low) as low,
        (array_agg(close order by minute_at desc))[1] as close, sum(volume) as volume
    from minutes group by start_at order by start_at
"""


def quotes(connection: Connection[DictRow], symbols: Sequence[str]) -> Mapping[str, DictRow]:
    """price, price_at and change_of_day (a fraction, null without an earlier day) of each symbol that has a price."""
    return {row.pop("symbol"): row for row in connection.execute(_QUOTES, [list(symbols)]).fetchall()}


def bars(connection: Connection[DictRow], symbol: str, span: Span) -> tuple[int | None, list[DictRow]]:
    """Minutes a bar, and the bars up to the newest, at most `MOST_POINTS`; the finest step that gives no more."""
    newest = value(connection, "select max(minute_at) as value from bars where symbol = %s", [symbol])
    if newest is None:
        return None, []
    since = start_of(_first_day(connection, symbol, newest, span))
    step = value(connection, _STEP, [symbol, since, list(STEPS_MIN), MOST_POINTS])
    return step, connection.execute(_ROLLED, [symbol, since, step]).fetchall()


def _first_day(connection: Connection[DictRow], symbol: str, newest: datetime, span: Span) -> date:
    days = _TRADING_DAYS.get(span, 1)
    found = connection.execute(_DAYS, [symbol, newest - _FIVE_TRADING_DAYS, days]).fetchall()
    first: date = found[-1]["day"]
    if span in _MONTHS:
        first = value(connection, "select (%s::date - %s::interval)::date + 1 as value", [first, _MONTHS[span]])
    return first
