"""The work of `sentio verify`: every statistic again, in SQL, from the stored events, and where the tables disagree.

Shares nothing with the code that merges; only differences leave the database.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal

from psycopg import Connection, IsolationLevel
from psycopg.rows import class_row, dict_row

from consumers.aggregates.limits import MOST_SHARES, MOST_USD
from schemas.topics import topic_of_event

AGAIN_S = 0.1
FETCH_ROWS = 1_000

_SUMS = (
    "fills",
    "trades",
    "wins",
    "losses",
    "volume",
    "notional",
    "fees",
    "realized_pnl",
    "gross_profit",
    "gross_loss",
)
_EQUITY = ("equity_open", "equity_high", "equity_low", "equity_close")
_DERIVED = ("win_rate", "average_win", "average_loss", "profit_factor", "equity_return", "max_drawdown")
FIGURES = (*_SUMS, *_EQUITY, *_DERIVED)

_KEY = "account, strategy, symbol, kind, start_at"

# What the groups have read. Windows are comparable where the store has all that aggregates has; `same` is both.
_POSITIONS = """
    select topic, partition, coalesce(store, -1) as store, coalesce(aggregates, -1) as aggregates,
        coalesce(store, -1) = coalesce(aggregates, -1) as same,
        coalesce(store, -1) >= coalesce(aggregates, -1) and ids = 1 as ahead
    from (
        select topic, partition, max(next_offset) filter (where group_name = 'store') as store,
            max(next_offset) filter (where group_name = 'aggregates') as aggregates, count(distinct topic_id) as ids
        from consumer_offsets
        where group_name in ('store', 'aggregates') and topic = any(%(topics)s) group by topic, partition
    ) as found order by topic, partition
"""

_MOST_RATIO = "1e18"  # what aggregates.updated has room for; beyond it a ratio is null
_TAKEN_IN = (
    "price * quantity < %(most_usd)s and quantity < %(most_shares)s and abs(fees) < %(most_usd)s"
    " and coalesce(abs(realized_pnl), 0) < %(most_usd)s and strategy <> '*' and symbol <> '*'"
)

# The rows of all windows that the range touches: it may cut a month, which has more rows than the range.
_IN_RANGE = """
    {at} >= coalesce(%(rows_from)s::timestamptz, '-infinity') and {at} < coalesce(%(rows_to)s::timestamptz, 'infinity')
"""

STARTS = """
    lateral (values
        ('MINUTE', date_trunc('minute', {at})),
        ('DAY', date_trunc('day', {at}, 'America/New_York')),
        ('WEEK', date_trunc('week', {at}, 'America/New_York')),
        ('MONTH', date_trunc('month', {at}, 'America/New_York'))) as spans (kind, start_at)
"""

_TOUCHED = """
    start_at < coalesce(%(to)s::timestamptz, 'infinity')
    and ((start_at at time zone 'America/New_York') + case kind
        when 'MINUTE' then interval '1 minute' when 'DAY' then interval '1 day' when 'WEEK' then interval '7 days'
        else interval '1 month' end) at time zone 'America/New_York' > coalesce(%(from)s::timestamptz, '-infinity')
"""

# Events that the store has and aggregates may not have yet: of a producer, what is between the marks of the two in a
# partition where the store is ahead. Rows do not know their partition, so that these may be some more.
_UNREAD = """
    select s.producer, coalesce(a.sequence, -1) as above, s.sequence as up_to
    from consumer_marks as s
    left join consumer_marks as a on a.group_name = 'aggregates'
        and (a.topic, a.partition, a.producer) = (s.topic, s.partition, s.producer)
    join consumer_offsets as so on so.group_name = 'store' and (so.topic, so.partition) = (s.topic, s.partition)
    left join consumer_offsets as ao on ao.group_name = 'aggregates'
        and (ao.topic, ao.partition) = (s.topic, s.partition)
    where s.group_name = 'store' and s.topic = {topic} and s.sequence > coalesce(a.sequence, -1)
        and so.next_offset > coalesce(ao.next_offset, -1)
"""

_MOVING = f"""
    select t.account, levels.strategy, levels.symbol, spans.kind, spans.start_at
    from trades as t
    join ({_UNREAD.format(topic="%(trades)s")}) as unread
        on t.producer = unread.producer and t.sequence > unread.above and t.sequence <= unread.up_to,
        lateral (values (t.strategy, t.symbol), (t.strategy, '*'), ('*', '*')) as levels (strategy, symbol),
        {STARTS.format(at="t.executed_at")}
    union
    select p.account, '*', '*', spans.kind, spans.start_at
    from performance as p
    join ({_UNREAD.format(topic="%(performance)s")}) as unread
        on p.producer = unread.producer and p.sequence > unread.above and p.sequence <= unread.up_to,
        {STARTS.format(at="p.minute_at")}
"""

_EXPECTED = f"""
    fills as (
        select account, strategy, symbol, quantity, fees, realized_pnl as pnl,
            round_half_even(price * quantity, 6) as usd, date_trunc('minute', executed_at) as minute,
            date_trunc('day', executed_at, 'America/New_York') as day,
            date_trunc('week', executed_at, 'America/New_York') as week,
            date_trunc('month', executed_at, 'America/New_York') as month
        from trades where {_IN_RANGE.format(at="executed_at")} and {_TAKEN_IN}
    ),
    of_fills as (
        select account, coalesce(strategy, '*') as strategy, coalesce(symbol, '*') as symbol,
            case when grouping(minute) = 0 then 'MINUTE' when grouping(day) = 0 then 'DAY'
                when grouping(week) = 0 then 'WEEK' else 'MONTH' end as kind,
            coalesce(minute, day, week, month) as start_at,
            count(*) as fills, count(pnl) as trades,
            count(*) filter (where pnl > 0) as wins, count(*) filter (where pnl < 0) as losses,
            sum(quantity) as volume, sum(usd) as notional, sum(fees) as fees, coalesce(sum(pnl), 0) as realized_pnl,
            coalesce(sum(pnl) filter (where pnl > 0), 0) as gross_profit,
            coalesce(-sum(pnl) filter (where pnl < 0), 0) as gross_loss
        from fills
        group by account, grouping sets ((strategy, symbol), (strategy), ()),
            grouping sets ((minute), (day), (week), (month))
    ),
    minutes as (
        select account, date_trunc('minute', minute_at) as minute,
            (array_agg(equity order by minute_at, producer, sequence))[1] as first,
            (array_agg(equity order by minute_at desc, producer desc, sequence desc))[1] as last,
            max(equity) as highest, min(equity) as lowest
        from performance where {_IN_RANGE.format(at="minute_at")} group by 1, 2
    ),
    closes as (
        select account, kind, start_at, minute, first, last, highest, lowest,
            max(last) over (partition by account, kind, start_at order by minute) as peak
        from minutes, {STARTS.format(at="minute")}
    ),
    of_equity as (
        select account, '*' as strategy, '*' as symbol, kind, start_at,
            (array_agg(first order by minute))[1] as equity_open, max(highest) as equity_high,
            min(lowest) as equity_low, (array_agg(last order by minute desc))[1] as equity_close,
            max((peak - last)::numeric(80, 40) / peak) filter (where peak > 0) as drawdown
        from closes group by account, kind, start_at
    ),
    expected as (
        select account, strategy, symbol, kind, start_at, coalesce(fills, 0) as fills, coalesce(trades, 0) as trades,
            coalesce(wins, 0) as wins, coalesce(losses, 0) as losses, coalesce(volume, 0) as volume,
            coalesce(notional, 0) as notional, coalesce(fees, 0) as fees, coalesce(realized_pnl, 0) as realized_pnl,
            coalesce(gross_profit, 0) as gross_profit, coalesce(gross_loss, 0) as gross_loss,
            equity_open, equity_high, equity_low, equity_close,
            case when trades > 0 then round_half_even(wins::numeric(80, 40) / trades, 10) end as win_rate,
            case when wins > 0 then round_half_even(gross_profit::numeric(80, 40) / wins, 6) end as average_win,
            case when losses > 0 then round_half_even(gross_loss::numeric(80, 40) / losses, 6) end as average_loss,
            case when losses > 0 and gross_profit / gross_loss < {_MOST_RATIO} then
                round_half_even(gross_profit::numeric(80, 40) / gross_loss, 10) end as profit_factor,
            case when equity_open <> 0 and abs((equity_close - equity_open) / equity_open) < {_MOST_RATIO} then
                round_half_even((equity_close - equity_open)::numeric(80, 40) / equity_open, 10) end as equity_return,
            case when kind <> 'MINUTE' then ratio_or_null(drawdown) end as max_drawdown
        from of_fills full join of_equity using (account, strategy, symbol, kind, start_at)
        where {_TOUCHED}
    )
"""

_STORED = f"""
    stored as (
        select {_KEY}, {", ".join(f"w.{name}" for name in (*_SUMS, *_EQUITY))},
            {", ".join(f"s.{name}" for name in _DERIVED)}
        from windows as w join statistics as s using (account, strategy, symbol, kind, start_at)
        where {_TOUCHED}
    )
"""

_DIFFERENCES = f"""
    with {_EXPECTED}, {_STORED}, moving as ({_MOVING})
    select {_KEY}, figure, found as stored, wanted as recomputed,
        case when s.fills is null then 'missing' when e.fills is null then 'extra' else 'differs' end as what
    from expected as e full join stored as s using ({_KEY}),
        lateral (values {", ".join(f"('{name}', s.{name}::numeric, e.{name}::numeric)" for name in FIGURES)})
            as figures (figure, found, wanted)
    where (found is distinct from wanted and s.fills is not null and e.fills is not null
            or (s.fills is null or e.fills is null) and figure = 'fills')
        and not exists (select from moving where ({", ".join(f"moving.{name}" for name in _KEY.split(", "))})
            = (coalesce(e.account, s.account), coalesce(e.strategy, s.strategy), coalesce(e.symbol, s.symbol),
                coalesce(e.kind, s.kind), coalesce(e.start_at, s.start_at)))
    order by start_at, {_KEY}
"""

_COUNTS = f"""
    select (select count(*) from windows where {_TOUCHED} and ({_KEY}) not in ({_MOVING})) as windows,
        (select count(*) from ({_MOVING}) as moving where {_TOUCHED}) as moving,
        (select count(*) from trades where not ({_TAKEN_IN}) and {_IN_RANGE.format(at="executed_at")}) as left_out
"""

_WIDENED = """
    select least(date_trunc('month', %(from)s::timestamptz, 'America/New_York'),
            date_trunc('week', %(from)s::timestamptz, 'America/New_York')) as rows_from,
        greatest(
            date_trunc('month', %(to)s::timestamptz, 'America/New_York') + interval '32 days',
            date_trunc('week', %(to)s::timestamptz, 'America/New_York') + interval '8 days') as rows_to
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """A figure of one window; without one of the two when the whole window is ``missing`` or ``extra``."""

    account: str
    strategy: str
    symbol: str
    kind: str
    start_at: datetime
    figure: str
    stored: Decimal | None
    recomputed: Decimal | None
    what: Literal["differs", "missing", "extra"]


@dataclass(frozen=True, slots=True)
class Counts:
    """What was compared. ``moving`` windows were not: aggregates has still to read events of theirs."""

    windows: int
    moving: int
    left_out: int
    """Fills too large for a statistic (consumers/aggregates/limits.py)."""


class NotComparable(Exception):
    """The store has not yet all that aggregates has read, and did not get it within the time given."""


class Verification:
    """One look at the tables, in one snapshot, while store and aggregates go on.

    ``range`` is (from, to), either may be None; every window that it touches is compared as a whole.
    """

    def __init__(self, connection: Connection, prefix: str, range_: tuple[datetime | None, datetime | None]) -> None:
        names = {event: topic_of_event(event).full_name(prefix) for event in ("TradeExecuted", "PerformanceMinute")}
        trades, performance = names.values()
        self._connection = connection
        self._connection.isolation_level = IsolationLevel.REPEATABLE_READ
        self._connection.read_only = True
        self._values: dict[str, Any] = {
            "trades": trades, "performance": performance, "topics": [trades, performance],
            "from": range_[0], "to": range_[1], "most_usd": MOST_USD, "most_shares": MOST_SHARES,
        }  # fmt: skip

    def begin(self, wait_s: float) -> None:
        """Begin the snapshot at a moment when both groups stand at the same offsets.

        Where they never do, as both always have something to read, one will do after half of ``wait_s`` in which the
        store is ahead. Raises `NotComparable`.
        """
        began_s = time.monotonic()
        while True:
            positions = self._rows(_POSITIONS)
            waited_s = time.monotonic() - began_s
            if all(row["same"] for row in positions) or (
                waited_s >= wait_s / 2 and all(row["ahead"] for row in positions)
            ):
                break
            if waited_s >= wait_s:
                raise NotComparable(_behind(positions))
            self._connection.rollback()
            time.sleep(AGAIN_S)
        [widened] = self._rows(_WIDENED)
        self._values |= widened

    def differences(self) -> Iterator[Difference]:
        """In the order of time; read as they come, however many they are."""
        with self._connection.cursor("differences", row_factory=class_row(Difference)) as cursor:
            cursor.itersize = FETCH_ROWS
            yield from cursor.execute(_DIFFERENCES, self._values)

    def counts(self) -> Counts:
        [row] = self._rows(_COUNTS)
        return Counts(row["windows"], row["moving"], row["left_out"])

    def _rows(self, query: str) -> list[dict[str, Any]]:
        with self._connection.cursor(row_factory=dict_row) as cursor:
            return cursor.execute(query, self._values).fetchall()


def _behind(positions: Sequence[Mapping[str, Any]]) -> str:
    behind = [row for row in positions if not row["ahead"]]
    first = behind[0] if behind else positions[0]
    return (
        f"store and aggregates do not stand at the same place: in {first['topic']}[{first['partition']}] store is at"
        f" {first['store']}, aggregates at {first['aggregates']}; do both run?"
        " 'sentio lag' shows more, --wait gives them more time"
    )
