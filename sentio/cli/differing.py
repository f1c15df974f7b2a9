"""In SQL: which rows of live tables are not as a shadow has them. What `verify --against` counts and `swap` replaces.

Rows do not know their offsets. That one is of the shadow's range is known by its producer's sequences, which rise
within a partition: from the first one that the shadow read on, in whatever partition the producer has written to.
"""

from psycopg import sql

from schemas.columns import arrow_schema
from schemas.topics import Topic, topic_of_event
from sentio.cli.recomputing import STARTS

WINDOW_KEY = ("kind", "start_at", "account", "strategy", "symbol")
WINDOW_FIGURES = (
    "fills", "trades", "wins", "losses", "volume", "notional", "fees", "realized_pnl", "gross_profit", "gross_loss",
    "equity_open", "equity_open_at", "equity_open_producer", "equity_open_sequence", "equity_high", "equity_low",
    "equity_close", "equity_close_at", "equity_close_producer", "equity_close_sequence",
    "max_drawdown", "close_high", "close_low",
)  # fmt: skip

# Of each producer: from which sequence on all of its rows are of the range. Where it has written to a partition and the
# shadow read nothing of it there, everything it wrote there is older.
_BOUNDS = """
    select producer, max(coalesce(f.sequence, m.sequence + 1)) as first
    from (select * from consumer_marks where group_name = {live} and topic = {topic}) as m
    full join (select * from shadow_firsts where group_name = {shadow} and topic = {topic}) as f
        using (partition, producer)
    group by producer having count(f.sequence) > 0
"""

# What only one of the two groups has read, where they do not stand at the same offset.
_MOVING = """
    select producer, least(coalesce(l.sequence, -1), coalesce(s.sequence, -1)) as above,
        greatest(l.sequence, s.sequence) as up_to
    from (select * from consumer_marks where group_name = {live} and topic = {topic}) as l
    full join (select * from consumer_marks where group_name = {shadow} and topic = {topic}) as s
        using (partition, producer)
    join (
        select partition, min(next_offset) <> max(next_offset) or count(*) = 1 as apart from consumer_offsets
        where group_name in ({live}, {shadow}) and topic = {topic} group by partition
    ) as offsets using (partition)
    where apart and l.sequence is distinct from s.sequence
"""

# A row of the live table without its key in the shadow is ``misplaced`` where the shadow has its event at another time,
# ``extra`` where it is of the range, and else older. A redriven dead letter came by another way than the log, and is
# extra only where the shadow has taken the record in whose place it is.
_ROWS = """
    select coalesce(l.{time}, s.{time}) as at, coalesce(l.event_id, s.event_id) as event_id,
        case
            when ({live_columns}) is not distinct from ({shadow_columns}) then 'same'
            when exists (select from moving where moving.producer = coalesce(s.producer, l.producer)
                and coalesce(s.sequence, l.sequence) > above and coalesce(s.sequence, l.sequence) <= up_to)
                then 'moving'
            when l.event_id is null then 'missing'
            when s.event_id is not null then 'differing'
            when known.event_id is not null then 'misplaced'
            when l.sequence >= bounds.first and not exists (
                select from consumer_redriven as r left join consumer_offsets as o
                    on (o.group_name, o.topic, o.partition) = ({shadow}, r.origin_topic, r.origin_partition)
                where r.group_name = {live} and r.event_id = l.event_id and not coalesce(o.noted_to = o.next_offset
                    and r.origin_offset >= o.noted_from and r.origin_offset < o.next_offset and not exists (
                        select from consumer_refused as f where f.group_name = {shadow} and (f.topic, f.partition,
                            f.record_offset) = (r.origin_topic, r.origin_partition, r.origin_offset)
                    ), false)
            ) then 'extra'
            else 'older'
        end as what
    from {table} as l
    full join {shadow_table} as s on s.{time} = l.{time} and s.event_id = l.event_id
    left join (select distinct event_id from {shadow_table}) as known
        on s.event_id is null and known.event_id = l.event_id
    left join bounds on bounds.producer = l.producer
"""

# Of each producer that the shadow of aggregates began to read later than that of the store: from which sequence on both
# have read all.
_LATER = """
    select producer, max(coalesce(a.sequence, m.sequence + 1)) as first
    from (select * from shadow_firsts where group_name = {store} and topic = {topic}) as s
    join consumer_marks as m using (group_name, topic, partition, producer)
    left join (select * from shadow_firsts where group_name = {aggregates} and topic = {topic}) as a
        using (partition, producer)
    where a.sequence is null or a.sequence > s.sequence group by producer
"""

# Windows with events that are older than the range, or that nothing in it explains: the shadow has only a part of them.
_CUT = """
    older_trades as (
        select l.* from trades as l
        left join {schema}.trades as s on s.executed_at = l.executed_at and s.event_id = l.event_id
        left join ({trades_later}) as later on later.producer = l.producer
        where s.event_id is null or l.sequence < later.first
    ),
    older_performance as (
        select l.* from performance as l
        left join {schema}.performance as s on s.minute_at = l.minute_at and s.event_id = l.event_id
        left join ({performance_later}) as later on later.producer = l.producer
        where s.event_id is null or l.sequence < later.first
    ),
    cut as (
        select t.account, levels.strategy, levels.symbol, spans.kind, spans.start_at
        from older_trades as t,
            lateral (values (t.strategy, t.symbol), (t.strategy, '*'), ('*', '*')) as levels (strategy, symbol),
            {trades_starts}
        union
        select p.account, '*', '*', spans.kind, spans.start_at from older_performance as p, {performance_starts}
    )
"""

_WINDOWS = """
    select {key}, case
            when cut.kind is not null and s.revision is null then 'older'
            when cut.kind is not null then 'cut'
            when ({live_figures}) is not distinct from ({shadow_figures}) then 'same'
            when l.revision is null then 'missing'
            when s.revision is null then 'extra'
            else 'differing'
        end as what
    from windows as l full join {schema}.windows as s using ({key}) left join cut using ({key})
"""


def rows(topic: Topic, prefix: str, live: str, shadow: str, schema: str) -> sql.Composed:
    """A query with a row (at, event_id, what) for each row that live table or shadow have."""
    names = arrow_schema(topic.event).names
    groups = {
        "live": sql.Literal(live),
        "shadow": sql.Literal(shadow),
        "topic": sql.Literal(topic.full_name(prefix)),
    }
    return sql.SQL("with bounds as ({bounds}), moving as materialized ({moving}) {rows}").format(
        bounds=sql.SQL(_BOUNDS).format(**groups),
        moving=sql.SQL(_MOVING).format(**groups),
        rows=sql.SQL(_ROWS).format(
            live=sql.Literal(live),
            shadow=sql.Literal(shadow),
            time=sql.Identifier(topic.time),
            table=sql.Identifier(topic.table or ""),
            shadow_table=sql.Identifier(schema, topic.table or ""),
            live_columns=columns(names, "l"),
            shadow_columns=columns(names, "s"),
        ),
    )


def windows(prefix: str, store: str, aggregates: str, schema: str) -> sql.Composed:
    """A query with a row (key of the window, what) for each window that live table or shadow have.

    ``store`` and ``aggregates`` are the groups that write into the shadow.
    """

    def later(event: str) -> sql.Composed:
        return sql.SQL(_LATER).format(
            store=sql.Literal(store),
            aggregates=sql.Literal(aggregates),
            topic=sql.Literal(topic_of_event(event).full_name(prefix)),
        )

    return sql.SQL("with {cut} {windows}").format(
        cut=sql.SQL(_CUT).format(
            schema=sql.Identifier(schema),
            trades_later=later("TradeExecuted"),
            performance_later=later("PerformanceMinute"),
            trades_starts=sql.SQL(STARTS.format(at="t.executed_at")),
            performance_starts=sql.SQL(STARTS.format(at="p.minute_at")),
        ),
        windows=sql.SQL(_WINDOWS).format(
            schema=sql.Identifier(schema),
            key=columns(WINDOW_KEY),
            live_figures=columns(WINDOW_FIGURES, "l"),
            shadow_figures=columns(WINDOW_FIGURES, "s"),
        ),
    )


def columns(names: tuple[str, ...] | list[str], *table: str) -> sql.Composed:
    """The columns of a table, or their names alone, with commas between."""
    return sql.SQL(", ").join(sql.Identifier(*table, name) for name in names)
