"""Which fills a statistic can take in. A window has room for millions of the largest ones; nothing ever wraps."""

from decimal import Decimal

import polars as pl

from consumers.aggregates.partials import ALL
from schemas.amounts import product
from sentio.batch import Batch
from sentio.errors import Poison

MOST_USD = Decimal(10) ** 15
MOST_SHARES = Decimal(10) ** 13


def check(batch: Batch) -> None:
    """Raise `Poison` for fills of ``MOST_USD`` and more (price times quantity, P&L, fees), or of ``MOST_SHARES``.

    The schema allows far larger numbers, but a sum of a few of them would have no room in `aggregates.updated`, and one
    mistaken event would hide the statistics of its account for ever. Nor may a strategy or symbol be called `ALL`, the
    name of the windows over all of them.
    """
    _check_names(batch)
    fills = pl.DataFrame(batch.records.select(("price", "quantity", "realized_pnl", "fees")))
    price, quantity = pl.col("price"), pl.col("quantity")
    # Binary floating point finds the few to look at; decimals decide.
    about_usd = price.cast(pl.Float64) * quantity.cast(pl.Float64)
    suspect = (
        (about_usd >= float(MOST_USD) * 0.99)
        | (quantity >= MOST_SHARES)
        | (pl.col("realized_pnl").abs() >= MOST_USD).fill_null(value=False)
        | (pl.col("fees").abs() >= MOST_USD)
    )
    found = fills.with_row_index("row").filter(suspect)
    if found.is_empty():
        return
    places = batch.places()
    reasons = {places[row]: reason for row, *amounts in found.rows() if (reason := _reason(*amounts))}
    if reasons:
        raise Poison(reasons)


def _check_names(batch: Batch) -> None:
    reserved = pl.DataFrame(batch.records.select(("strategy", "symbol"))).select(pl.any_horizontal(pl.all() == ALL))
    if reserved.to_series().any():
        rows = zip(batch.places(), reserved.to_series(), strict=True)
        raise Poison({place: f"{ALL!r} as strategy or symbol stands for all of them" for place, found in rows if found})


def _reason(price: Decimal, quantity: Decimal, pnl: Decimal | None, fees: Decimal) -> str | None:
    usd = {"price times quantity": product(price, quantity), "realized_pnl": pnl or Decimal(0), "fees": fees}
    for name, amount in usd.items():
        if abs(amount) >= MOST_USD:
            return f"{name} is {amount:f} USD; statistics take in less than {MOST_USD:f} a fill"
    if quantity >= MOST_SHARES:
        return f"quantity is {quantity:f}; statistics take in less than {MOST_SHARES:f} a fill"
    return None
