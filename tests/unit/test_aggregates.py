"""Partial windows: exact products for every amount that a statistic takes in, and a reason for every other."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumers.aggregates import limits
from consumers.aggregates.partials import of_trades
from schemas.amounts import money, product
from schemas.columns import from_events
from schemas.events import TradeExecuted
from schemas.topics import topic_of_event
from sentio.batch import Batch, Range
from sentio.errors import Poison
from tests.samples import OPENING, trade

Amounts = tuple[Decimal, Decimal]
D = Decimal

DIGITS_28 = 10**28 - 1
prices = st.integers(1, DIGITS_28).map(lambda n: D(n).scaleb(-10))
quantities = st.integers(1, DIGITS_28).map(lambda n: D(n).scaleb(-8))
usual = st.tuples(
    st.integers(1, 10**14).map(lambda n: D(n).scaleb(-10)), st.integers(1, 10**14).map(lambda n: D(n).scaleb(-8))
)
# Products that end in exactly half a millionth.
halves = st.tuples(
    st.integers(0, 10**12).map(lambda n: D(2 * n + 1) / D(2_000_000)), st.integers(0, 10**6).map(lambda n: D(2 * n + 1))
)


def batch_of(fills: Sequence[TradeExecuted]) -> Batch:
    """One fill an offset, from 0."""
    count = len(fills)
    records = from_events(fills, event_id=[bytes(16)] * count, producer=["test"] * count, sequence=list(range(count)))
    return Batch(
        topic_of_event("TradeExecuted"),
        records,
        pa.array([7] * count, pa.int32()),
        pa.array(range(count), pa.int64()),
        pa.array([0] * count, pa.int64()),
        {7: Range(0, count)},
    )


def each_in_a_minute_of_its_own(amounts: Sequence[Amounts]) -> Batch:
    return batch_of(
        [
            trade(price=price, quantity=quantity, symbol="TQQQ", executed_at=OPENING + timedelta(minutes=number))
            for number, (price, quantity) in enumerate(amounts)
        ]
    )


def refused(batch: Batch) -> dict[tuple[int, int], str]:
    try:
        limits.check(batch)
    except Poison as poison:
        return poison.reasons
    return {}


@pytest.mark.parametrize("names", [{"symbol": "*"}, {"strategy": "*"}])
def test_what_is_called_as_the_windows_over_all_is_refused_and_the_rest_taken_in(names: dict[str, Any]) -> None:
    batch = batch_of([trade(symbol="TQQQ"), trade(**names), trade(symbol="**", strategy="a*")])
    assert refused(batch).keys() == {(7, 1)}


@given(st.lists(st.one_of(usual, halves, st.tuples(prices, quantities)), min_size=1, max_size=20))
@example([(D("0.0000005"), D(1)), (D("0.0000015"), D(1)), (D("0.0000025"), D(1)), (D("0.0000000001"), D("0.00000001"))])
@example([(D("999999999999999999.9999999999"), D("0.00100000"))])  # 28 digits: just below the limit
@example([(D("999999999999999999.9999999999"), D("0.00100001"))])  # and just beyond it
@example([(D(100), D("9999999999999.99999999"))])
@example([(D("0.0000000001"), D("99999999999999999999.99999999"))])
def test_notional_is_the_exact_product_rounded_once_half_even(amounts: list[Amounts]) -> None:
    beyond = {
        (7, offset)
        for offset, (price, quantity) in enumerate(amounts)
        if product(price, quantity) >= 10**15 or quantity >= 10**13
    }
    batch = each_in_a_minute_of_its_own(amounts)
    assert refused(batch).keys() == beyond
    expected = [money(product(*amount)) for offset, amount in enumerate(amounts) if (7, offset) not in beyond]
    if not expected:
        return
    windows = of_trades(batch.where([place not in beyond for place in batch.places()]))
    minutes = windows.filter(kind="MINUTE", strategy="*")
    assert minutes["notional"].to_list() == expected
    assert windows.filter(kind="MONTH", strategy="*")["notional"].to_list() == [sum(expected)]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"realized_pnl": D(10**15)}, "realized_pnl"),
        ({"realized_pnl": D(-(10**15))}, "realized_pnl"),
        ({"fees": D(10**15)}, "fees"),
        ({"price": D(10**6), "quantity": D(10**9)}, "price times quantity"),
        ({"quantity": D(10**13), "price": D("0.01")}, "quantity"),
    ],
)
def test_a_fill_too_large_for_a_statistic_is_named_and_costs_only_itself(changes: dict[str, Any], named: str) -> None:
    reasons = refused(batch_of([trade(0), trade(1, **changes), trade(2)]))
    assert reasons.keys() == {(7, 1)}
    assert reasons[7, 1].startswith(f"{named} is ")


def test_the_largest_fills_that_are_taken_in_sum_without_loss() -> None:
    cent = D("0.000001")
    largest: dict[str, Any] = {
        "realized_pnl": 10**15 - cent,
        "fees": 10**15 - cent,
        "price": D(100),
        "quantity": D(10**13) - D("1e-8"),
    }
    batch = batch_of([trade(0, **largest) for _ in range(1_000)])
    assert refused(batch) == {}
    [day] = of_trades(batch).filter(kind="DAY", strategy="*").rows(named=True)
    assert day["realized_pnl"] == day["gross_profit"] == day["fees"] == 1_000 * (10**15 - cent)
    assert day["volume"] == 1_000 * (D(10**13) - D("1e-8"))
    assert day["notional"] == 1_000 * money(100 * (D(10**13) - D("1e-8")))
