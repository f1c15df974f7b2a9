"""Partial windows into the `windows` table: one upsert in sorted key order, so that two members never deadlock."""

from collections.abc import Iterator

import polars as pl
from pgpq import ArrowToPostgresBinaryEncoder
from psycopg import Connection, sql

from consumers.aggregates.partials import KEY

# Emptied by the commit, for the next transaction, and by the delete for a second merge in this one.
_INCOMING = """
    create temp table if not exists incoming (like windows including defaults) on commit delete rows;
    delete from incoming
"""
# Not sorted: in whatever order the scan gives them.
_CHANGED = """
    insert into window_changes (windows, account, strategy, symbol, kind, start_at)
    select count(*), array_agg(account), array_agg(strategy), array_agg(symbol), array_agg(kind), array_agg(start_at)
    from (select *, (row_number() over () - 1) / %s as part from incoming) as changed group by part
"""
CHANGES_A_ROW = 5_000
"""Bounds how much is announced in one go."""

_EARLIEST = ("equity_open", "equity_open_at", "equity_open_producer", "equity_open_sequence")
_LATEST = ("equity_close", "equity_close_at", "equity_close_producer", "equity_close_sequence")


def merge(connection: Connection, partials: pl.DataFrame) -> None:
    """Add ``partials`` (from `partials.of_trades` or `of_performance`, sorted by key) to the table.

    Raises every touched window's revision, and notes in `window_changes` that it is to be announced.
    """
    names = partials.columns
    columns = sql.SQL(", ").join(map(sql.Identifier, names))
    connection.execute(_INCOMING)
    with (
        connection.cursor() as cursor,
        cursor.copy(sql.SQL("copy incoming ({}) from stdin (format binary)").format(columns)) as stream,
    ):
        for part in _copy_binary(partials):
            stream.write(part)
    changes = sql.SQL(", ").join(_change(name) for name in names if name not in KEY)
    # Read in the order in which COPY wrote it, which is the keys' order.
    connection.execute(
        sql.SQL(
            "insert into windows as w ({columns}) select {columns} from incoming"
            " on conflict (account, strategy, symbol, kind, start_at) do update set revision = w.revision + 1,"
            " updated_at = now(), {changes}"
        ).format(columns=columns, changes=changes)
    )
    connection.execute(_CHANGED, [CHANGES_A_ROW])


def _copy_binary(partials: pl.DataFrame) -> Iterator[bytes]:
    table = partials.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    encoder = ArrowToPostgresBinaryEncoder(table.schema)
    yield encoder.write_header()
    for batch in table.to_batches():
        yield encoder.write_batch(batch)
    yield encoder.finish()


def _change(name: str) -> sql.Composed:
    """How a column takes in what the batch brings: sums add, high and low compare, first and last go by their order."""
    if name in _EARLIEST:
        return _by_order(name, _EARLIEST[1:], "<")
    if name in _LATEST:
        return _by_order(name, _LATEST[1:], ">")
    rules = {"equity_high": "greatest(w.{0}, excluded.{0})", "equity_low": "least(w.{0}, excluded.{0})"}
    rule = rules.get(name, "w.{0} + excluded.{0}")
    return sql.SQL("{0} = " + rule).format(sql.Identifier(name))


def _by_order(name: str, order: tuple[str, ...], better: str) -> sql.Composed:
    def row(table: str) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(table, part) for part in order)

    return sql.SQL(
        "{name} = case when w.{at} is null or ({new}) " + better + " ({old}) then excluded.{name} else w.{name} end"
    ).format(name=sql.Identifier(name), at=sql.Identifier(order[0]), new=row("excluded"), old=row("w"))
