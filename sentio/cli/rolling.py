"""Windows in a swap: whole ones as the shadow has them, those that its beginning cuts from the finer ones in them."""

from dataclasses import dataclass
from typing import Self

import polars as pl
from psycopg import Connection, sql

from consumers.aggregates import drawdown
from consumers.aggregates.merge import CHANGES_A_ROW
from sentio.cli.differing import WINDOW_FIGURES, WINDOW_KEY, columns

_SUMS = WINDOW_FIGURES[:10]
_FINER = {"DAY": "MINUTE", "WEEK": "DAY", "MONTH": "DAY"}
_LENGTH = {"DAY": "1 day", "WEEK": "7 days", "MONTH": "1 month"}

_WHOLE = """
    insert into windows as w ({key}, {figures}) select {key}, {figures}
    from {shadow} join swapping using ({key}) where what in ('missing', 'differing')
    on conflict ({key}) do update set ({figures}) = row({excluded}), revision = w.revision + 1, updated_at = now()
"""

# First and last equity are those of the smallest and largest (event time, producer, sequence).
_ROLLED = """
    insert into windows as w ({key}, {names})
    select {cut_key}, {values}
    from swapping as c join windows as m on (m.account, m.strategy, m.symbol) = (c.account, c.strategy, c.symbol)
        and m.kind = {finer} and m.start_at >= c.start_at
        and m.start_at <
            (c.start_at at time zone 'America/New_York' + {length}::interval) at time zone 'America/New_York'
    where c.what = 'cut' and c.kind = {kind} group by {cut_key}
    on conflict ({key}) do update set ({names}) = row({excluded}), revision = w.revision + 1, updated_at = now()
"""

_CHANGES = """
    insert into window_changes (windows, account, strategy, symbol, kind, start_at)
    select count(*), array_agg(account), array_agg(strategy), array_agg(symbol), array_agg(kind), array_agg(start_at)
    from (
        select *, (row_number() over () - 1) / %s as part from swapping
        where what in ('missing', 'differing') or what = 'cut' and kind <> 'MINUTE'
    ) as changed group by part
"""


@dataclass(frozen=True, slots=True)
class Swapped:
    """What was done to one table. ``kept`` is what the log does not explain and is there still."""

    table: str
    added: int
    changed: int
    removed: int
    kept: int
    rolled: int = 0
    """Windows cut by the beginning of the range, made anew from the finer ones in them."""

    @classmethod
    def of(cls, table: str, counts: dict[str, int], *, remove_extra: bool, rolled: int = 0) -> Self:
        """From how many rows are what."""
        extra = counts.get("extra", 0)
        removed = counts.get("misplaced", 0) + (extra if remove_extra else 0)
        kept = 0 if remove_extra else extra
        return cls(table, counts.get("missing", 0), counts.get("differing", 0), removed, kept, rolled)


def swap_windows(
    connection: Connection, query: sql.Composed, shadow: str, *, ahead: bool, remove_extra: bool
) -> Swapped | None:
    """Replace windows as ``query`` (`differing.windows`) says, inside the caller's transaction.

    None when it cannot be done now: the shadow is ``ahead``, and has only a part of minutes that it may have changed.
    """
    names = {"key": columns(WINDOW_KEY), "shadow": sql.Identifier(shadow, "windows")}
    connection.execute(
        sql.SQL("create temp table swapping on commit drop as select * from ({}) as compared"
                " where what not in ('same', 'older')").format(query)
    )  # fmt: skip
    if ahead and connection.execute(_cut_minutes(names)).rowcount:
        return None
    if remove_extra:
        connection.execute(
            sql.SQL("delete from windows where ({key}) in (select {key} from swapping where what = 'extra')").format(
                **names
            )
        )
    connection.execute(
        sql.SQL(_WHOLE).format(**names, figures=columns(WINDOW_FIGURES), excluded=columns(WINDOW_FIGURES, "excluded"))
    )
    rolled = sum(connection.execute(_rolled(kind)).rowcount for kind in _FINER)
    _recompute_drawdown(connection)
    connection.execute(_CHANGES, [CHANGES_A_ROW])
    found = connection.execute("select what, count(*) from swapping group by what").fetchall()
    connection.execute("drop table swapping")
    return Swapped.of("windows", dict(found), remove_extra=remove_extra, rolled=rolled)


def _cut_minutes(names: dict[str, sql.Composable]) -> sql.Composed:
    return sql.SQL(
        "select from swapping join {shadow} using ({key}) where what = 'cut' and kind = 'MINUTE' limit 1"
    ).format(**names)


def _rolled(kind: str) -> sql.Composed:
    values: dict[str, sql.Composable] = {name: sql.SQL("sum(m.{})").format(sql.Identifier(name)) for name in _SUMS}
    values |= {"equity_high": sql.SQL("max(m.equity_high)"), "equity_low": sql.SQL("min(m.equity_low)")}
    values |= {name: sql.SQL("null::numeric") for name in WINDOW_FIGURES[-3:]}  # of the drawdown, computed next
    for side, direction in (("open", "asc"), ("close", "desc")):
        for part in ("", "_at", "_producer", "_sequence"):
            values[f"equity_{side}{part}"] = _first(f"equity_{side}{part}", f"equity_{side}", direction)
    return sql.SQL(_ROLLED).format(
        key=columns(WINDOW_KEY),
        cut_key=columns(WINDOW_KEY, "c"),
        names=columns(list(values)),
        values=sql.SQL(", ").join(values.values()),
        excluded=columns(list(values), "excluded"),
        kind=sql.Literal(kind),
        finer=sql.Literal(_FINER[kind]),
        length=sql.Literal(_LENGTH[kind]),
    )


def _first(name: str, side: str, direction: str) -> sql.Composed:
    order = sql.SQL(", ").join(
        sql.SQL("m.{} {}").format(sql.Identifier(f"{side}{part}"), sql.SQL(direction))
        for part in ("_at", "_producer", "_sequence")
    )
    return sql.SQL("(array_agg(m.{} order by {}) filter (where m.{} is not null))[1]").format(
        sql.Identifier(name), order, sql.Identifier(f"{side}_at")
    )


def _recompute_drawdown(connection: Connection) -> None:
    found = connection.execute(
        "select account, kind, start_at from swapping where what = 'cut' and kind <> 'MINUTE'"
        " and strategy = '*' and symbol = '*'"
    ).fetchall()
    schema = pl.Schema({"account": pl.String(), "kind": pl.String(), "start_at": pl.Datetime("us", "UTC")})
    drawdown.recompute(connection, pl.DataFrame(found, schema=schema, orient="row"))
