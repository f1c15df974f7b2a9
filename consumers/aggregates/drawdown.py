"""Maximum drawdown, which does not merge: a late minute may change every later peak.

A touched day is computed again from its minutes, a week or month from its days: a few hundred rows for an event,
not the thousands of a month's minutes.
"""

import polars as pl
from psycopg import Connection

from consumers.aggregates.partials import ALL

_TOUCHED = """
    unnest(%(account)s::text[], %(kind)s::text[], %(start_at)s::timestamptz[]) as touched (account, kind, start_at)
"""
_NEXT = """
    (touched.start_at at time zone 'America/New_York' + case touched.kind
        when 'DAY' then interval '1 day' when 'WEEK' then interval '7 days' else interval '1 month' end)
    at time zone 'America/New_York'
"""

# Deepest fall below the running peak, as a part of the peak; null as long as there is no peak above zero.
_OF_MINUTES = f"""
    select max((peak - close)::numeric(80, 40) / nullif(greatest(peak, 0), 0)) as drawdown,
        max(close) as highest, min(close) as lowest
    from (
        select m.equity_close as close, max(m.equity_close) over (order by m.start_at) as peak
        from windows as m
        where m.account = touched.account and m.strategy = '{ALL}' and m.symbol = '{ALL}' and m.kind = 'MINUTE'
            and m.equity_close is not null and m.start_at >= touched.start_at and m.start_at < {_NEXT}
    ) as closes
"""

_DAYS = f"""
    update windows as w
    set max_drawdown = found.drawdown, close_high = found.highest, close_low = found.lowest
    from {_TOUCHED},
        lateral ({_OF_MINUTES}) as found
    where w.account = touched.account and w.strategy = '{ALL}' and w.symbol = '{ALL}'
        and w.kind = touched.kind and w.start_at = touched.start_at
"""

# A fall within a day, or from the peak of the days before to the day's lowest close. The second may be overstated only
# if a later peak of that same day makes it a smaller part, which takes equity below zero: then the minutes decide.
_LONGER = f"""
    update windows as w
    set max_drawdown = case when found.lowest < 0 then (select drawdown from ({_OF_MINUTES}) as slow)
        else found.drawdown end
    from {_TOUCHED},
        lateral (
            select min(close_low) as lowest, greatest(
                max(max_drawdown), max((peak - close_low)::numeric(80, 40) / nullif(greatest(peak, 0), 0))) as drawdown
            from (
                select d.max_drawdown, d.close_low, max(d.close_high) over (
                    order by d.start_at rows between unbounded preceding and 1 preceding) as peak
                from windows as d
                where d.account = touched.account and d.strategy = '{ALL}' and d.symbol = '{ALL}' and d.kind = 'DAY'
                    and d.start_at >= touched.start_at and d.start_at < {_NEXT}
            ) as days
        ) as found
    where w.account = touched.account and w.strategy = '{ALL}' and w.symbol = '{ALL}'
        and w.kind = touched.kind and w.start_at = touched.start_at
"""


def recompute(connection: Connection, partials: pl.DataFrame) -> None:
    """Maximum drawdown of the days, weeks and months that ``partials`` touched, once they are merged."""
    is_day = pl.col("kind") == "DAY"
    for statement, touched in ((_DAYS, is_day), (_LONGER, pl.col("kind").is_in(("WEEK", "MONTH")))):
        rows = partials.filter(touched)
        values = {name: rows[name].to_list() for name in ("account", "kind", "start_at")}
        connection.execute(statement, values)
