"""Fills paired to round trips: shares, prices and fees add up, whatever the order of buying and selling."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from gateway.rest.models import RoundTrip
from gateway.rest.roundtrips import Fill, round_trips

OPENING = datetime(2025, 10, 10, 13, 30, tzinfo=UTC)


def fill(minute: int, action: str, quantity: str, price: str, *, fees: str = "0", pnl: str | None = None) -> Fill:
    side = "BUY" if action == "ENTRY" else "SELL"
    realized = None if pnl is None else Decimal(pnl)
    at = OPENING + timedelta(minutes=minute)
    return Fill("s", "TQQQ", action, side, Decimal(quantity), Decimal(price), realized, Decimal(fees), at)  # type: ignore[arg-type] # one of each Literal


def test_a_trip_has_the_average_and_the_fees_of_what_it_closes() -> None:
    fills = [
        fill(0, "ENTRY", "100", "10", fees="1"),
        fill(1, "ENTRY", "50", "13", fees="0.5"),
        fill(2, "EXIT", "120", "12", fees="0.2", pnl="159.1"),
        fill(3, "EXIT", "30", "14", fees="0.1", pnl="29.6"),
    ]
    first, second = round_trips(fills)
    assert first == RoundTrip(
        strategy="s",
        symbol="TQQQ",
        direction="LONG",
        quantity=Decimal(120),
        entry_price=Decimal("10.5"),
        exit_price=Decimal(12),
        fees=Decimal("1.4"),
        realized_pnl=Decimal("159.1"),
        opened_at=OPENING,
        closed_at=OPENING + timedelta(minutes=2),
    )
    assert (second.entry_price, second.fees) == (Decimal(13), Decimal("0.4"))
    assert second.opened_at == OPENING + timedelta(minutes=1)


def test_what_was_opened_before_the_first_fill_is_not_guessed() -> None:
    [trip] = round_trips([fill(0, "ENTRY", "10", "1"), fill(1, "EXIT", "30", "2", fees="1", pnl="5")])
    assert (trip.entry_price, trip.fees, trip.opened_at) == (None, None, None)
    assert (trip.quantity, trip.realized_pnl) == (Decimal(30), Decimal(5))


def test_an_exit_that_closes_no_round_trip_still_uses_up_what_it_sold() -> None:
    fills = [fill(0, "ENTRY", "10", "1"), fill(1, "ENTRY", "10", "3"), fill(2, "EXIT", "10", "2")]
    [trip] = round_trips([*fills, fill(3, "EXIT", "10", "4", pnl="10")])
    assert trip.entry_price == 3


def test_a_short_is_closed_by_buying() -> None:
    sold, bought = fill(0, "ENTRY", "5", "10"), fill(1, "EXIT", "5", "9", pnl="5")
    [trip] = round_trips([sold, Fill(**{**{n: getattr(bought, n) for n in Fill.__slots__}, "side": "BUY"})])
    assert trip.direction == "SHORT"


@given(
    st.lists(st.tuples(st.integers(1, 1_000), st.integers(1, 9_999), st.integers(0, 999_999)), min_size=1, max_size=8),
    st.data(),
)
def test_nothing_is_lost_between_fills_and_trips(entries: list[tuple[int, int, int]], data: st.DataObject) -> None:
    shares = sum(quantity for quantity, _, _ in entries)
    cuts = sorted(data.draw(st.sets(st.integers(1, shares), max_size=8)) | {shares})
    fills = [
        fill(n, "ENTRY", str(quantity), str(price), fees=str(Decimal(fees).scaleb(-6)))
        for n, (quantity, price, fees) in enumerate(entries)
    ]
    sizes = [end - start for start, end in zip([0, *cuts], cuts, strict=False)]
    trips = round_trips([*fills, *(fill(100 + n, "EXIT", str(size), "1", pnl="0") for n, size in enumerate(sizes))])
    assert [trip.quantity for trip in trips] == sizes
    assert sum(trip.fees or Decimal(0) for trip in trips) == sum(each.fees for each in fills)
    cost = sum((each.quantity * each.price for each in fills), Decimal(0))
    closed = sum((trip.entry_price or Decimal(0)) * trip.quantity for trip in trips)
    assert abs(closed - cost) <= Decimal("1e-10") * shares
