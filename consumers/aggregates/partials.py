"""A batch's own windows, by Polars: what each minute, day, week and month gains from it. No database here.

Sums are exact decimals. Minutes are made from the records, the longer windows from the minutes.
"""

from collections.abc import Callable

import polars as pl

from schemas.amounts import money, product
from sentio.batch import Batch

ALL = "*"
"""Stands for every strategy or every symbol of an account."""

NEW_YORK = "America/New_York"
KEY = ("account", "strategy", "symbol", "kind", "start_at")

_LONGER = {"DAY": "1d", "WEEK": "1w", "MONTH": "1mo"}
_SUMS = (
    "fills", "trades", "wins", "losses",
    "volume", "notional", "fees", "realized_pnl", "gross_profit", "gross_loss",
)  # fmt: skip
_OPEN = ("equity_open", "equity_open_at", "equity_open_producer", "equity_open_sequence")
_CLOSE = ("equity_close", "equity_close_at", "equity_close_producer", "equity_close_sequence")

_Rollup = Callable[[pl.DataFrame, tuple[str, ...]], pl.DataFrame]


def of_trades(batch: Batch) -> pl.DataFrame:
    """Windows per symbol, per strategy and per account of a batch of TradeExecuted.

    Columns `KEY` and fills, trades (fills with a realized_pnl), wins, losses, volume (shares), notional, fees,
    realized_pnl, gross_profit and gross_loss (USD). Notional is price times quantity, rounded once per fill.
    """
    fills = pl.DataFrame(batch.records)
    notional = [money(product(p, q)) for p, q in zip(fills["price"], fills["quantity"], strict=True)]
    pnl = pl.col("realized_pnl")
    columns = fills.select(
        *KEY[:3],
        start_at=pl.col("executed_at").dt.truncate("1m"),
        fills=pl.lit(1, pl.Int64),
        trades=pnl.is_not_null().cast(pl.Int64),
        wins=(pnl > 0).fill_null(value=False).cast(pl.Int64),
        losses=(pnl < 0).fill_null(value=False).cast(pl.Int64),
        volume="quantity",
        notional=pl.Series(notional, dtype=pl.Decimal(38, 6)),
        fees="fees",
        realized_pnl=pnl,
        gross_profit=pl.when(pnl > 0).then(pnl),
        gross_loss=pl.when(pnl < 0).then(-pnl),
    )
    per_symbol = _sum(columns, (*KEY[:3], "start_at"))
    per_strategy = _sum(per_symbol.with_columns(symbol=pl.lit(ALL)), (*KEY[:3], "start_at"))
    per_account = _sum(per_strategy.with_columns(strategy=pl.lit(ALL)), (*KEY[:3], "start_at"))
    return _all_kinds(pl.concat([per_symbol, per_strategy, per_account]), _sum)


def of_performance(batch: Batch) -> pl.DataFrame:
    """Windows per account of a batch of PerformanceMinute: open, high, low and close equity (USD).

    First and last are by (event time, producer, sequence), which are columns too, for the merge.
    """
    rows = pl.DataFrame(batch.records)
    columns = rows.select(
        "account",
        strategy=pl.lit(ALL),
        symbol=pl.lit(ALL),
        start_at=pl.col("minute_at").dt.truncate("1m"),
        **{
            name + part: pl.col(source)
            for name in ("equity_open", "equity_close")
            for part, source in (
                ("", "equity"),
                ("_at", "minute_at"),
                ("_producer", "producer"),
                ("_sequence", "sequence"),
            )
        },
        equity_high="equity",
        equity_low="equity",
    )
    return _all_kinds(_equity(columns, (*KEY[:3], "start_at")), _equity)


def _all_kinds(minutes: pl.DataFrame, rollup: _Rollup) -> pl.DataFrame:
    """Minute windows, and the days, weeks and months they lie in, of New York's calendar, sorted by `KEY`."""
    local = pl.col("start_at").dt.convert_time_zone(NEW_YORK)
    longer = [
        rollup(
            minutes.with_columns(kind=pl.lit(kind), start_at=local.dt.truncate(length).dt.convert_time_zone("UTC")),
            KEY,
        )
        for kind, length in _LONGER.items()
    ]
    windows = [minutes.with_columns(kind=pl.lit("MINUTE")), *longer]
    return pl.concat(windows, how="diagonal").sort(KEY)


def _sum(rows: pl.DataFrame, key: tuple[str, ...]) -> pl.DataFrame:
    return rows.group_by(key).agg(pl.col(_SUMS).sum())


def _equity(rows: pl.DataFrame, key: tuple[str, ...]) -> pl.DataFrame:
    return rows.group_by(key).agg(
        *(pl.col(name).sort_by(_OPEN[1:]).first() for name in _OPEN),
        *(pl.col(name).sort_by(_CLOSE[1:]).last() for name in _CLOSE),
        pl.col("equity_high").max(),
        pl.col("equity_low").min(),
    )
