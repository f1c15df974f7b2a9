import gzip
import json
from collections.abc import Callable
from datetime import datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import pytest

from producers.results import events, trading_day
from schemas.columns import from_events, to_events
from schemas.events import Event, PerformanceMinute, PositionUpdated, PriceBar, TradeExecuted
from sentio.errors import NotPlayable
from tests.data import decimals, minute, ms, recorded_results

E = TypeVar("E", bound=Event)
NEW_YORK = ZoneInfo("America/New_York")
FOUR = Decimal("0.0001")
FIRST = 2
"""Step at which the made-up day opens."""


def of(kind: type[E], played: list[Event]) -> list[E]:
    return [event for event in played if isinstance(event, kind)]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    with gzip.open(recorded_results()) as file:
        value: dict[str, Any] = json.load(file, parse_float=Decimal)
    return value


@pytest.fixture(scope="module")
def played() -> list[Event]:
    return list(events(recorded_results()))


# The recorded file


def test_statistics_of_the_recorded_fills_are_those_of_the_engine(
    recorded: dict[str, Any], played: list[Event]
) -> None:
    oracle = recorded["performance"]
    pnls = [fill.realized_pnl for fill in of(TradeExecuted, played) if fill.realized_pnl is not None]
    wins = [pnl for pnl in pnls if pnl > 0]
    losses = [-pnl for pnl in pnls if pnl < 0]
    figures = {
        "total_trades": len(pnls),
        "winning_trades": len(wins),
        "losing_trades": len(losses),
        "win_rate": (Decimal(len(wins)) / len(pnls)).quantize(FOUR),
        "avg_win": (sum(wins) / len(wins)).quantize(FOUR),  # type: ignore[union-attr] # a Decimal, since there are some
        "avg_loss": (sum(losses) / len(losses)).quantize(FOUR),  # type: ignore[union-attr] # a Decimal, since there are some
        "profit_factor": (sum(wins) / sum(losses)).quantize(FOUR),  # type: ignore[union-attr] # a Decimal, since there are some
        "final_equity": of(PerformanceMinute, played)[-1].equity.quantize(FOUR),
        "total_return": of(PerformanceMinute, played)[-1].day_return.quantize(FOUR),
    }
    assert figures == {name: oracle[name] for name in figures}
    assert of(PerformanceMinute, played)[-1].equity == oracle["final_equity"]


def test_every_recorded_fill_is_within_its_trading_day_in_order(played: list[Event]) -> None:
    at = [fill.executed_at.astimezone(NEW_YORK) for fill in of(TradeExecuted, played)]
    assert len(at) == 280
    assert at == sorted(at)
    assert {f"{each:%Y-%m-%d}" for each in at} == {"2025-10-10"}
    assert time(9, 30) <= at[0].time() <= at[-1].time() <= time(16)


def test_recorded_trades_are_in_the_order_of_their_exits_indices_and_held_as_the_engine_may(
    recorded: dict[str, Any], played: list[Event]
) -> None:
    """What the clock rests on; see the docstring of producers/results.py."""
    index = {
        symbol: {bar["timestamp_ms"]: step for step, bar in enumerate(bars)}
        for symbol, bars in recorded["price_data"].items()
    }
    entries = [index[trip["symbol"]][trip["entry_time_ms"]] for trip in recorded["trades"]]
    exits = [index[trip["symbol"]][trip["exit_time_ms"]] for trip in recorded["trades"]]
    times = [trip["exit_time_ms"] for trip in recorded["trades"]]
    assert exits == sorted(exits)
    assert times != sorted(times)
    assert min(entries) == recorded["config"]["min_bars_to_learn"]
    held = max(row.open_positions for row in of(PerformanceMinute, played))
    assert held == recorded["config"]["max_positions"]
    moved = [f for f in of(TradeExecuted, played) if "2025-10-09" in f.reason and f.action == "ENTRY"]
    assert len(moved) == 10


def test_costs_of_the_recorded_day_are_gross_minus_pnl(recorded: dict[str, Any], played: list[Event]) -> None:
    gross = sum((trip["exit_price"] - trip["entry_price"]) * trip["shares"] for trip in recorded["trades"])
    assert sum(fill.fees for fill in of(TradeExecuted, played)) == gross - sum(
        trip["pnl"] for trip in recorded["trades"]
    )
    assert {fill.fees for fill in of(TradeExecuted, played) if fill.action == "ENTRY"} == {0}


def test_recorded_day_has_every_bar_and_a_row_for_every_minute(recorded: dict[str, Any], played: list[Event]) -> None:
    assert len(of(PriceBar, played)) == sum(len(bars) for bars in recorded["price_data"].values())
    rows = of(PerformanceMinute, played)
    assert len(rows) == recorded["config"]["bars_per_day"]
    assert {f"{row.minute_at.astimezone(NEW_YORK):%H:%M}" for row in (rows[0], rows[-1])} == {
        "09:30",
        "16:00",
    }
    for row in rows:
        assert row.equity == 100_000 + row.realized_pnl + row.unrealized_pnl


def test_recorded_positions_end_flat(played: list[Event]) -> None:
    newest = {position.symbol: position for position in of(PositionUpdated, played)}
    assert {position.quantity for position in newest.values()} == {0}
    assert sum(position.realized_pnl for position in newest.values()) == Decimal("-150.7141")


def test_every_event_of_the_recorded_results_fits_its_schema(played: list[Event]) -> None:
    for kind in (PriceBar, TradeExecuted, PositionUpdated, PerformanceMinute):
        assert to_events(from_events(of(kind, played)), kind.__name__) == of(kind, played)


# A made-up file: FULL has every minute of a day of five, GAP lacks two of them, so that it is shifted.


def bar(at_ms: int, close: float) -> dict[str, Any]:
    return {"timestamp_ms": at_ms, "open": 10, "high": 12.5, "low": 9, "close": close, "volume": 7}


def trip(symbol: str, entry: int, leave: int | None, **changed: object) -> dict[str, Any]:
    value = {"symbol": symbol, "shares": 10, "entry_price": 10.0, "entry_time_ms": ms(entry)}
    if leave is not None:
        value |= {"exit_time_ms": ms(leave), "exit_price": 11.0, "pnl": 9.75}
    return value | changed


def write(folder: Path, *trips: object, change: Callable[[dict[str, Any]], None] = lambda _: None) -> Path:
    full = [-2, -1, 0, 1, 2, 3, 4]
    gap = [-5, -4, -1, 0, 2, 3, 4]
    value = {
        "metadata": {"initial_capital": 1000.0},
        "config": {"strategy_name": "MADE (up)", "min_bars_to_learn": FIRST, "bars_per_day": 5},
        "price_data": {
            "GAP": [bar(ms(number), 10.0 + step / 2) for step, number in enumerate(gap)],
            "FULL": [bar(ms(number), 10.0 + step) for step, number in enumerate(full)],
        },
        "trades": list(trips),
    }
    change(value)
    path = folder / "day.json"
    path.write_text(json.dumps(value))
    return path


def fills_of(path: Path) -> list[tuple[str, str, datetime]]:
    return [(f.symbol, f.action, f.executed_at) for f in of(TradeExecuted, list(events(path)))]


def test_fill_has_the_engines_time_and_the_bars_own_in_its_reason(tmp_path: Path) -> None:
    entered, left = of(TradeExecuted, list(events(write(tmp_path, trip("GAP", -1, 2)))))
    assert (entered.executed_at, left.executed_at) == (minute(0), minute(2))
    assert entered.reason == "entry on bar 2, which is of 2025-01-06 09:29 New York"
    assert left.reason == "exit on bar 4, which is of 2025-01-06 09:32 New York"
    assert (entered.account, entered.strategy) == ("paper-2025-01-06", "MADE")
    assert (entered.side, left.side) == ("BUY", "SELL")
    assert (entered.realized_pnl, left.realized_pnl) == (None, Decimal("9.75"))
    assert (entered.fees, left.fees) == decimals("0", "0.25")


def test_position_still_open_at_the_end_is_in_the_last_equity(tmp_path: Path) -> None:
    open_one = trip("FULL", 1, None, exit_time_ms=None)
    played = list(events(write(tmp_path, trip("GAP", 0, 3), open_one)))
    last = of(PerformanceMinute, played)[-1]
    # GAP realized 9.75; FULL stands at its last close of 16.0 since 10.0
    assert (last.realized_pnl, last.unrealized_pnl) == decimals("9.75", "60")
    assert last.open_positions == 1
    assert (last.equity, last.day_return) == (Decimal("1069.75"), Decimal("0.06975"))


def test_several_trips_of_one_symbol_add_up_and_the_exit_comes_before_the_next_entry(tmp_path: Path) -> None:
    trips = [trip("FULL", 0, 2), trip("FULL", 1, 3, entry_price=13.0, shares=30), trip("FULL", 3, 4)]
    played = list(events(write(tmp_path, *trips)))
    assert fills_of(tmp_path / "day.json") == [
        ("FULL", "ENTRY", minute(0)),
        ("FULL", "ENTRY", minute(1)),
        ("FULL", "EXIT", minute(2)),
        ("FULL", "EXIT", minute(3)),
        ("FULL", "ENTRY", minute(3)),
        ("FULL", "EXIT", minute(4)),
    ]
    states = [(p.quantity, p.average_entry, p.realized_pnl) for p in of(PositionUpdated, played)]
    assert states == [
        decimals("10", "10", "0"),
        decimals("40", "12.25", "0"),
        decimals("30", "13", "9.75"),
        decimals("10", "10", "19.5"),
        decimals("0", "0", "29.25"),
    ]


def test_trip_within_one_step_is_entered_before_it_is_left(tmp_path: Path) -> None:
    fills = fills_of(write(tmp_path, trip("FULL", 1, 1)))
    assert [action for _, action, _ in fills] == ["ENTRY", "EXIT"]


def test_bars_come_at_the_step_at_which_the_engine_saw_them_with_their_own_time(tmp_path: Path) -> None:
    bars = of(PriceBar, list(events(write(tmp_path))))
    assert [(b.symbol, b.minute_at) for b in bars[:4]] == [
        ("GAP", minute(-5)),
        ("FULL", minute(-2)),
        ("GAP", minute(-4)),
        ("FULL", minute(-1)),
    ]


def test_trading_day_is_that_of_the_clock(tmp_path: Path) -> None:
    assert str(trading_day(write(tmp_path))) == "2025-01-06"


BAD_TRIPS = {
    "lacks shares": {k: v for k, v in trip("FULL", 1, 2).items() if k != "shares"},
    "lacks pnl": {k: v for k, v in trip("FULL", 1, 2).items() if k != "pnl"},
    "is not a JSON object": 7,
    "shares is -10": trip("FULL", 1, 2, shares=-10),
    "exit_price is 0": trip("FULL", 1, 2, exit_price=0),
    "entry_time_ms is 2025-01-06 14:31 UTC, at which GAP has no bar": trip("GAP", 1, 2),
    "entry_time_ms is bar 1 of FULL, outside of the trading day": trip("FULL", -1, 2),
    "exit_time_ms is bar 2, before the entry at bar 3": trip("FULL", 1, 0),
    "NONE has no bar": trip("NONE", 1, 2),
}


@pytest.mark.parametrize("complaint", BAD_TRIPS)
def test_unusable_trip_stops_the_play_and_is_named_or_left_out_when_asked(complaint: str, tmp_path: Path) -> None:
    told: list[str] = []
    whole = list(events(write(tmp_path, trip("GAP", 0, 3))))
    path = write(tmp_path, trip("GAP", 0, 3), BAD_TRIPS[complaint])
    assert list(events(path, skip_bad=True, on_bad=told.append)) == whole
    assert len(told) == 1
    assert told[0].startswith(f"{path} trades[1]: ")
    assert complaint in told[0]
    before: list[Event] = []
    some = events(path)
    with pytest.raises(NotPlayable, match=r"trades\[1\]"):
        before.extend(iter(lambda: next(some), None))
    with pytest.raises(StopIteration):
        next(some)


def test_unusable_trip_stops_the_play_at_its_entry(tmp_path: Path) -> None:
    bad = trip("FULL", 2, 3, shares=0)
    before: list[Event] = []
    some = events(write(tmp_path, bad, trip("FULL", 1, 4)))
    try:
        for event in some:
            before.append(event)  # noqa: PERF402  (a list made at once would be lost with the error)
    except NotPlayable:
        pass
    assert [row.minute_at for row in of(PerformanceMinute, before)] == [minute(0), minute(1)]
    assert len(of(TradeExecuted, before)) == 1


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"volume": -1}, "volume is -1"),
        ({"close": "10"}, "close is '10'"),
        ({"timestamp_ms": ms(-9)}, "not after the bar before it"),
    ],
)
def test_unusable_bar_is_named_and_keeps_its_index(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    def break_a_bar(value: dict[str, Any]) -> None:
        value["price_data"]["GAP"][3] |= change

    told: list[str] = []
    path = write(tmp_path, trip("GAP", -1, 2), change=break_a_bar)
    played = list(events(path, skip_bad=True, on_bad=told.append))
    assert [fill.executed_at for fill in of(TradeExecuted, played)] == [minute(0), minute(2)]
    assert len(told) == 1
    assert told[0].startswith(f"{path} price_data[GAP][3]: ")
    assert complaint in told[0]
    with pytest.raises(NotPlayable, match=r"price_data\[GAP\]\[3\]"):
        list(events(path))


def test_file_without_a_symbol_that_has_every_minute_tells_no_clock(tmp_path: Path) -> None:
    path = write(tmp_path, change=lambda value: value["price_data"].pop("FULL"))
    with pytest.raises(NotPlayable, match="the engine's clock cannot be told"):
        events(path)


@pytest.mark.parametrize("part", ["metadata", "config", "price_data", "trades"])
def test_file_without_one_of_its_parts_is_no_results_file(part: str, tmp_path: Path) -> None:
    path = write(tmp_path, change=lambda value: value.pop(part))
    with pytest.raises(NotPlayable, match=f"lacks {part}"):
        events(path)


@pytest.mark.parametrize("minutes", [[-2, -1, 0, 1, 3, 4, 5], [-2, -1, 0, 1, 2, 4]])
def test_symbol_that_opens_in_time_but_has_not_every_minute_is_not_the_clock(
    minutes: list[int], tmp_path: Path
) -> None:
    def add_another_first(value: dict[str, Any]) -> None:
        other = [bar(ms(number), 10.0) for number in minutes]
        value["price_data"] = {"OTHER": other} | value["price_data"]

    rows = of(PerformanceMinute, list(events(write(tmp_path, change=add_another_first))))
    assert [row.minute_at for row in rows] == [minute(number) for number in range(5)]
