"""A batch's own windows, by Polars: what each minute, day, week and month gains from it. No database here.

Sums are exact decimals. Minutes are made from the records, days from the minutes, weeks and months from the days.
"""

from collections.abc import Callable

import polars as pl

from schemas.amounts import MONEY_SCALE, PRICE_SCALE, QUANTITY_SCALE
from sentio.batch import Batch

ALL = "*"
"""Stands for every strategy or every symbol of an account."""

NEW_YORK = "America/New_York"
KEY = ("account", "strategy", "symbol", "kind", "start_at")

_LEVEL = KEY[:3]
_DAY = "1d"
_LONGER = {"WEEK": "1w", "MONTH": "1mo"}
_SUMS = (
    "fills", "trades", "wins", "losses",
    "volume", "notional", "fees", "realized_pnl", "gross_profit", "gross_loss",
)  # fmt: skip
_OPEN = ("equity_open", "equity_open_at", "equity_open_producer", "equity_open_sequence")
_CLOSE = ("equity_close", "equity_close_at", "equity_close_producer", "equity_close_sequence")
_ORDER = ("minute_at", "producer", "sequence")

# Holds every digit of a price times a quantity. What is too large for it is an error of Polars, never a wrong figure.
_PRODUCT = pl.Decimal(38, PRICE_SCALE + QUANTITY_SCALE)
_MONEY = pl.Decimal(38, MONEY_SCALE)

_Rollup = Callable[[pl.DataFrame, tuple[str, ...]], pl.DataFrame]


def of_trades(batch: Batch) -> pl.DataFrame:
    """Windows per symbol, per strategy and per account of a batch of TradeExecuted within `limits`.

    Columns `KEY` and fills, trades (fills with a realized_pnl), wins, losses, volume (shares), notional, fees,
    realized_pnl, gross_profit and gross_loss (USD). Notional is price times quantity, rounded once per fill.
    """
    read = (*_LEVEL, "executed_at", "price", "quantity", "realized_pnl", "fees")
    fills = pl.DataFrame(batch.records.select(read))
    pnl = pl.col("realized_pnl")
    columns = fills.select(
        *_LEVEL,
        start_at=pl.col("executed_at").dt.truncate("1m"),
        fills=pl.lit(1, pl.Int64),
        trades=pnl.is_not_null().cast(pl.Int64),
        wins=(pnl > 0).fill_null(value=False).cast(pl.Int64),
        losses=(pnl < 0).fill_null(value=False).cast(pl.Int64),
        volume="quantity",
        notional=(pl.col("price").cast(_PRODUCT) * pl.col("quantity").cast(_PRODUCT)).cast(_MONEY),  # half even
        fees="fees",
        realized_pnl=pnl,
        gross_profit=pl.when(pnl > 0).then(pnl),
        gross_loss=pl.when(pnl < 0).then(-pnl),
    )
    per_symbol = _sum(columns, (*_LEVEL, "start_at"))
    per_strategy = _sum(per_symbol.with_columns(symbol=pl.lit(ALL)), (*_LEVEL, "start_at"))
    per_account = _sum(per_strategy.with_columns(strategy=pl.lit(ALL)), (*_LEVEL, "start_at"))
    return _all_kinds(pl.concat([per_symbol, per_strategy, per_account]), _sum)


def of_performance(batch: Batch) -> pl.DataFrame:
    """Windows per account of a batch of PerformanceMinute: open, high, low and close equity (USD).

    First and last are by (event time, producer, sequence), which are columns too, for the merge.
    """
    rows = pl.DataFrame(batch.records.select(("account", "equity", *_ORDER)))
    columns = rows.select(
        "account",
        strategy=pl.lit(ALL),
        symbol=pl.lit(ALL),
        start_at=pl.col("minute_at").dt.truncate("1m"),
        **{
            name: pl.col(source)
            for names in (_OPEN, _CLOSE)
            for name, source in zip(names, ("equity", *_ORDER), strict=True)
        },
        equity_high="equity",
        equity_low="equity",
    )
    return _all_kinds(_equity(columns, (*_LEVEL, "start_at")), _equity)


def _all_kinds(minutes: pl.DataFrame, rollup: _Rollup) -> pl.DataFrame:
    """Minute windows, and the days, weeks and months they lie in, of New York's calendar, sorted by `KEY`."""
    days = _starting(minutes, _DAY, rollup)
    windows = {"MINUTE": minutes, "DAY": days} | {
        kind: _starting(days, length, rollup) for kind, length in _LONGER.items()
    }
    named = [each.with_columns(kind=pl.lit(kind)) for kind, each in windows.items()]
    return pl.concat(named, how="diagonal").sort(KEY)


def _starting(windows: pl.DataFrame, length: str, rollup: _Rollup) -> pl.DataFrame:
    """Longer windows from shorter ones, none of which crosses a border of theirs."""
    local = pl.col("start_at").dt.convert_time_zone(NEW_YORK)
    start_at = local.dt.truncate(length).dt.convert_time_zone("UTC")
    return rollup(windows.with_columns(start_at), (*_LEVEL, "start_at"))


def _sum(rows: pl.DataFrame, key: tuple[str, ...]) -> pl.DataFrame:
    return rows.group_by(key).agg(pl.col(_SUMS).sum())


def _equity(rows: pl.DataFrame, key: tuple[str, ...]) -> pl.DataFrame:
    # Each group keeps the order of the rows.
    return (
        rows.sort(_OPEN[1:])
        .group_by(key)
        .agg(pl.col(_OPEN).first(), pl.col(_CLOSE).last(), pl.col("equity_high").max(), pl.col("equity_low").min())
    )
