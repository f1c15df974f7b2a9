"""The state that a table of events tells: the newest row of each symbol, account, or position."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import DictRow

from schemas.columns import arrow_schema
from schemas.topics import Topic

MOST_ROWS = 2_000

KEYS = {
    "signals": ("symbol",),
    "positions": ("account", "symbol"),
    "performance": ("account",),
    "prices": ("symbol",),
}
"""Table: the columns of which the newest row each is the state."""

ORDER = {"prices": ("observed_at", "event_id")}
"""Table: the columns that say which of two rows of a key is newer, where they may come in another order."""

Order = tuple[int, bytes]
"""Values of those columns: the time in microseconds since 1970 UTC, and the id."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def order_of(table: str, row: Mapping[str, Any]) -> Order:
    """The order of a row of a table in `ORDER`."""
    time, event_id = (row[name] for name in ORDER[table])
    return (time - _EPOCH) // timedelta(microseconds=1), event_id.bytes


def newest_of_each(connection: Connection[DictRow], topic: Topic, value: str | None) -> list[DictRow]:
    """The newest row of each key, oldest first; the newest `MOST_ROWS` where there are more. Of positions what is held.

    ``value`` narrows the topic's filter. Hops from key to key in the index instead of reading the whole table.
    """
    table = topic.table or ""
    keys = KEYS[table]
    query = sql.SQL(
        "with recursive keys as ("
        " (select {keys} from {table} where {narrowed} order by {keys} limit 1)"
        " union all"
        " select following.* from keys, lateral ("
        "  select {of_rows} from {table} as r where ({of_rows}) > ({of_keys}) and {narrowed}"
        "  order by {of_rows} limit 1) as following"
        ") select newest.* from keys, lateral ("
        " select {columns} from {table} as r where ({of_rows}) = ({of_keys})"
        " order by {latest} limit 1) as newest"
        "{open} order by {time} desc, event_id desc limit {most}"
    )
    rows = connection.execute(
        query.format(
            keys=columns(keys),
            of_rows=columns(keys, "r"),
            of_keys=columns(keys, "keys"),
            table=sql.Identifier(table),
            narrowed=narrowed(topic, value),
            columns=columns(arrow_schema(topic.event).names),
            time=sql.Identifier(topic.time),
            latest=sql.SQL(", ").join(
                sql.SQL("{} desc").format(sql.Identifier(name))
                for name in ORDER.get(table, (topic.time, "producer", "sequence"))
            ),
            open=sql.SQL(" where quantity <> 0" if table == "positions" else ""),
            most=sql.Literal(MOST_ROWS),
        )
    ).fetchall()
    rows.reverse()
    return rows


def columns(names: Sequence[str], table: str | None = None) -> sql.Composed:
    return sql.SQL(", ").join([sql.Identifier(table, name) if table else sql.Identifier(name) for name in names])


def narrowed(topic: Topic, value: str | None) -> sql.Composable:
    """The condition that the topic's filter field has this value; none: every row."""
    if value is None or topic.filter is None:
        return sql.SQL("true")
    return sql.SQL("{} = {}").format(sql.Identifier(topic.filter), sql.Literal(value))
