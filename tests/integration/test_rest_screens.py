"""The screens of the phone app, each one call: signals, one symbol, the portfolio."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.rest import OPENING, Rows


def bars(rows: Rows, first: datetime, closes: list[str], *, symbol: str = "TQQQ", **fields: Any) -> None:
    """A bar a minute."""
    rows.add(
        "bars",
        *(
            {"open": close, "high": Decimal(close) + 1, "low": Decimal(close) - 1, "close": close, "minute_at": at}
            for at, close in ((first + timedelta(minutes=n), close) for n, close in enumerate(closes))
        ),
        **{"symbol": symbol, "volume": 10, **fields},
    )


def signal(rows: Rows, symbol: str, **fields: Any) -> None:
    common = {"direction": "LONG", "probability": 0.5, "confidence": 0.25, "bar_id": 1, "generated_at": OPENING}
    rows.add("signals", symbol=symbol, **{**common, **fields})


def position(rows: Rows, account: str, symbol: str, quantity: int, mark: str, at: datetime = OPENING) -> None:
    amounts = {"average_entry": 1, "unrealized_pnl": 1, "realized_pnl": 1}
    rows.add("positions", account=account, symbol=symbol, quantity=quantity, mark=mark, updated_at=at, **amounts)


def test_a_signal_comes_with_its_price_and_the_change_of_the_day(rows: Rows, client: httpx.Client) -> None:
    for symbol in ("TQQQ", "UVXY", "SPY"):
        signal(rows, symbol)
    yesterday = OPENING - timedelta(days=1)
    bars(rows, yesterday, ["90", "100"])
    bars(rows, OPENING, ["103", "105"])
    bars(rows, OPENING, ["20"], symbol="SPY")
    rows.add("prices", symbol="SPY", price="21", source="x", observed_at=OPENING + timedelta(seconds=59))
    rows.add("prices", symbol="TQQQ", price="107", source="x", observed_at=OPENING + timedelta(minutes=3))
    found = {one["symbol"]: one for one in client.get("/api/v1/signals/current").json()["signals"]}
    prices = {name: (one["price"], one["price_at"], one["change_of_day"]) for name, one in found.items()}
    assert prices == {
        "TQQQ": ("107", "2025-10-10T13:33:00.000000Z", "0.07"),
        "SPY": ("20", "2025-10-10T13:31:00.000000Z", None),
        "UVXY": (None, None, None),
    }
    assert found["UVXY"]["direction"] == "LONG"


def test_the_change_of_the_day_is_against_the_trading_day_before_whatever_the_time_zone(
    rows: Rows, client: httpx.Client
) -> None:
    # 23:59 in New York is 03:59 UTC of the next day.
    bars(rows, datetime(2025, 10, 10, 3, 59, tzinfo=UTC), ["50"])
    bars(rows, datetime(2025, 10, 10, 4, 0, tzinfo=UTC), ["60"])
    signal(rows, "TQQQ")
    [found] = client.get("/api/v1/signals/current").json()["signals"]
    assert found["change_of_day"] == "0.2"


def test_a_symbol_has_all_that_its_screen_shows(rows: Rows, client: httpx.Client) -> None:
    bars(rows, OPENING, ["100", "101", "99"])
    signal(rows, "TQQQ", direction="SHORT")
    signal(rows, "SPY")
    position(rows, "b", "TQQQ", -2, "99")
    position(rows, "a", "TQQQ", 5, "99")
    position(rows, "a", "SPY", 5, "99")
    found = client.get("/api/v1/symbols/TQQQ").json()
    assert found["signal"]["direction"] == "SHORT"
    assert [(one["account"], one["quantity"]) for one in found["positions"]] == [("a", "5"), ("b", "-2")]
    assert (found["span"], found["step_minutes"], found["price"]) == ("1D", 1, "99")
    assert found["bars"][1] == {
        "start_at": "2025-10-10T13:31:00.000000Z",
        "open": "101",
        "high": "102",
        "low": "100",
        "close": "101",
        "volume": "10",
    }
    assert [bar["close"] for bar in found["bars"]] == ["100", "101", "99"]


def test_a_symbol_without_bars_or_signal_is_still_one(rows: Rows, client: httpx.Client) -> None:
    position(rows, "a", "BTC/USD", 1, "5")
    found = client.get("/api/v1/symbols/BTC%2FUSD")
    assert found.status_code == 200, found.text
    assert (found.json()["bars"], found.json()["step_minutes"], found.json()["signal"]) == ([], None, None)
    unknown = client.get("/api/v1/symbols/NOPE")
    assert (unknown.status_code, unknown.headers["content-type"]) == (404, "application/problem+json")
    assert "NOPE" in unknown.json()["detail"]


def test_bars_are_rolled_up_without_losing_a_share(rows: Rows, client: httpx.Client) -> None:
    minutes = 1_000  # more than 500 points of a minute, 500 of two
    bars(rows, datetime(2025, 10, 10, 4, 0, tzinfo=UTC), [str(100 + n % 7) for n in range(minutes)])
    found = client.get("/api/v1/symbols/TQQQ").json()
    assert (found["step_minutes"], len(found["bars"])) == (2, 500)
    assert sum(Decimal(bar["volume"]) for bar in found["bars"]) == 10 * minutes
    first = found["bars"][0]
    assert (first["open"], first["high"], first["low"], first["close"]) == ("100", "102", "99", "101")


def test_a_minute_that_came_twice_counts_once_as_its_newest(rows: Rows, client: httpx.Client) -> None:
    bars(rows, OPENING, ["100"])
    bars(rows, OPENING, ["110"])
    [bar] = client.get("/api/v1/symbols/TQQQ").json()["bars"]
    assert (bar["close"], bar["volume"]) == ("110", "10")


@pytest.mark.parametrize(
    ("span", "first"),
    [("1D", date(2025, 10, 10)), ("5D", date(2025, 10, 6)), ("1M", date(2025, 9, 11)), ("3M", date(2025, 7, 11))],
)
def test_a_span_ends_with_the_newest_bar_and_begins_with_a_trading_day(
    rows: Rows, client: httpx.Client, span: str, first: date
) -> None:
    day = datetime(2025, 6, 2, 13, 30, tzinfo=UTC)
    while day <= OPENING:
        if day.weekday() < 5:
            bars(rows, day, ["100", "101"])
        day += timedelta(days=1)
    found = client.get("/api/v1/symbols/TQQQ", params={"span": span}).json()
    starts = [datetime.fromisoformat(bar["start_at"]) for bar in found["bars"]]
    assert starts[0].date() == first
    assert starts[-1].date() == date(2025, 10, 10)
    assert all(one < other for one, other in pairwise(starts))


def test_the_portfolio_is_one_call(rows: Rows, client: httpx.Client) -> None:
    rows.add(
        "windows",
        {"start_at": datetime(2025, 10, 9, 4, tzinfo=UTC), "equity_open": 1_000, "equity_close": 1_020},
        {"start_at": datetime(2025, 10, 10, 4, tzinfo=UTC), "equity_open": 1_020, "equity_close": 1_100},
        account="a", strategy="*", symbol="*", kind="DAY",
    )  # fmt: skip
    minute = {"day_return": "0.05", "open_positions": 2, "realized_pnl": 40, "unrealized_pnl": 60}
    rows.add("performance", {"account": "a", "equity": 1_050, "minute_at": OPENING}, **minute)
    rows.add("performance", {"account": "a", "equity": 1_100, "minute_at": OPENING + timedelta(minutes=9)}, **minute)
    rows.add("performance", {"account": "z", "equity": 7, "minute_at": OPENING + timedelta(minutes=1)}, **minute)
    position(rows, "a", "TQQQ", 3, "100.5")
    position(rows, "a", "SPY", -2, "50")
    rows.trade(0, quantity=10, price=10, fees="0.5")
    rows.trade(1, quantity=4, price=12, fees="0.1", action="EXIT", side="SELL", realized_pnl="7.7")
    rows.trade(2, quantity=6, price=9, fees="0.1", action="EXIT", side="SELL", realized_pnl="-6.4")
    found = client.get("/api/v1/portfolio").json()
    assert found["account"] == "a", "the one that reported last"
    assert (found["equity"], found["cash"], found["day_return"], found["total_return"]) == (
        "1100",
        "898.5",
        "0.05",
        "0.1",
    )
    assert [(one["symbol"], one["quantity"]) for one in found["positions"]] == [("SPY", "-2"), ("TQQQ", "3")]
    trips = [(one["realized_pnl"], one["entry_price"], one["fees"]) for one in found["round_trips"]]
    assert trips == [("-6.4", "10", "0.4"), ("7.7", "10", "0.3")]
    one_trip = client.get("/api/v1/portfolio", params={"account": "a", "trips": 1}).json()["round_trips"]
    assert [one["realized_pnl"] for one in one_trip] == ["-6.4"]
    assert client.get("/api/v1/portfolio", params={"account": "z"}).json()["total_return"] is None
    assert client.get("/api/v1/portfolio", params={"account": "q"}).status_code == 404
