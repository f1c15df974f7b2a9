from collections import Counter, defaultdict
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producers.simulator import SYMBOLS, events
from schemas.columns import from_events, to_events
from schemas.events import (
    EngineHeartbeat,
    Event,
    PerformanceMinute,
    PositionUpdated,
    PriceBar,
    SignalGenerated,
    TradeExecuted,
)

E = TypeVar("E", bound=Event)
DAY = date(2025, 10, 10)
KINDS = [PriceBar, SignalGenerated, TradeExecuted, PositionUpdated, PerformanceMinute, EngineHeartbeat]
SEEDS = [0, 1, 7, -7, 123456789]
CENT = Decimal("0.01")


def of(kind: type[E], played: list[Event]) -> list[E]:
    return [event for event in played if isinstance(event, kind)]


def day(seed: int, minutes: int = 390) -> list[Event]:
    return list(events(seed=seed, day=DAY, minutes=minutes))


def at(event: Event) -> datetime:
    for name in ("generated_at", "executed_at", "updated_at", "minute_at", "beat_at"):
        if hasattr(event, name):
            time: datetime = getattr(event, name)
            return time
    raise AssertionError(event)


@pytest.mark.parametrize("seed", SEEDS)
def test_same_seed_is_the_same_day(seed: int) -> None:
    assert day(seed) == day(seed)


def test_other_seeds_are_other_days() -> None:
    closes = {tuple(bar.close for bar in of(PriceBar, day(seed, 5))) for seed in SEEDS}
    assert len(closes) == len(SEEDS)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_minute_has_all_bars_and_signals_one_row_and_one_heartbeat(seed: int) -> None:
    minutes = [list(together) for _, together in groupby(day(seed), key=at)]
    assert len(minutes) == 390
    for together in minutes:
        kinds = Counter(type(event) for event in together)
        assert kinds[PriceBar] == kinds[SignalGenerated] == len(SYMBOLS) == 12
        assert kinds[PerformanceMinute] == kinds[EngineHeartbeat] == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_simulated_day_is_in_engine_time_and_by_kind_within_a_minute(seed: int) -> None:
    places = [(at(event), KINDS.index(type(event))) for event in day(seed)]
    assert places == sorted(places)
    assert places[0][0] == datetime(2025, 10, 10, 13, 30, tzinfo=UTC)
    assert places[-1][0] == datetime(2025, 10, 10, 19, 59, tzinfo=UTC)


@pytest.mark.parametrize("seed", SEEDS)
def test_bars_are_whole_ticks_and_hold_together(seed: int) -> None:
    before: dict[str, Decimal] = {}
    for bar in of(PriceBar, day(seed)):
        assert {price % CENT for price in (bar.open, bar.high, bar.low, bar.close)} == {0}
        assert 0 < bar.low <= min(bar.open, bar.close) <= max(bar.open, bar.close) <= bar.high
        assert bar.open == before.get(bar.symbol, bar.open)
        before[bar.symbol] = bar.close


@pytest.mark.parametrize("seed", SEEDS)
def test_realized_pnl_is_what_the_fills_of_a_round_trip_paid_after_both_costs(seed: int) -> None:
    entries: dict[str, TradeExecuted] = {}
    fills = of(TradeExecuted, day(seed))
    assert len(fills) > 20
    for fill in fills:
        if fill.action == "ENTRY":
            assert fill.realized_pnl is None
            entries[fill.symbol] = fill
            continue
        entry = entries.pop(fill.symbol)
        gain = (fill.price - entry.price) * fill.quantity
        assert (fill.quantity, {fill.side, entry.side}) == (entry.quantity, {"BUY", "SELL"})
        assert fill.realized_pnl == (gain if entry.side == "BUY" else -gain) - entry.fees - fill.fees
        assert fill.fees > 0
    assert entries == {}


@pytest.mark.parametrize("seed", SEEDS)
def test_equity_of_every_minute_is_the_cash_of_all_fills_and_the_worth_of_what_is_held(seed: int) -> None:
    cash = Decimal(100_000)
    shares: defaultdict[str, Decimal] = defaultdict(Decimal)
    marks: dict[str, Decimal] = {}
    for event in day(seed):
        match event:
            case PriceBar():
                marks[event.symbol] = event.close
            case TradeExecuted():
                signed = event.quantity if event.side == "BUY" else -event.quantity
                cash -= signed * event.price + event.fees
                shares[event.symbol] += signed
            case PerformanceMinute():
                assert event.equity == cash + sum(held * marks[symbol] for symbol, held in shares.items())
                assert event.equity == 100_000 + event.realized_pnl + event.unrealized_pnl
                assert event.open_positions == sum(held != 0 for held in shares.values())


@pytest.mark.parametrize("seed", SEEDS)
def test_positions_of_every_minute_add_up_to_the_account(seed: int) -> None:
    newest: dict[str, PositionUpdated] = {}
    for event in day(seed):
        if isinstance(event, PositionUpdated):
            newest[event.symbol] = event
        if isinstance(event, PerformanceMinute):
            assert sum(position.unrealized_pnl for position in newest.values()) == event.unrealized_pnl
            assert sum(position.realized_pnl for position in newest.values()) == event.realized_pnl


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(),
    minutes=st.integers(1, 120),
    capital=st.decimals("0.01", "100000000", places=2),
)
def test_any_simulated_day_ends_flat(seed: int, minutes: int, capital: Decimal) -> None:
    played = list(events(seed=seed, day=DAY, minutes=minutes, initial_capital=capital))
    newest = {position.symbol: position for position in of(PositionUpdated, played)}
    rows = of(PerformanceMinute, played)
    assert len(rows) == minutes
    assert all(position.quantity == 0 for position in newest.values())
    assert rows[-1].open_positions == rows[-1].unrealized_pnl == 0
    realized = [fill.realized_pnl for fill in of(TradeExecuted, played) if fill.realized_pnl is not None]
    assert rows[-1].equity == capital + sum(realized)


@pytest.mark.parametrize("seed", SEEDS)
def test_heartbeats_say_what_the_engine_does_and_that_it_stops(seed: int) -> None:
    played = day(seed)
    rows = of(PerformanceMinute, played)
    states = [beat.state for beat in of(EngineHeartbeat, played)]
    assert states[-1] == "stopped"
    assert states[:-1] == ["running" if row.open_positions else "flat" for row in rows[:-1]]


def test_every_simulated_event_fits_its_schema() -> None:
    played = day(7)
    for kind in KINDS:
        assert to_events(from_events(of(kind, played)), kind.__name__) == of(kind, played)


def test_account_is_named_by_the_seed() -> None:
    fills = of(TradeExecuted, day(7))
    assert {(fill.account, fill.strategy) for fill in fills} == {("sim-7", "simulated")}
    assert [fill.order_id for fill in fills][:2] == ["sim-7-000001", "sim-7-000002"]


@pytest.mark.parametrize(("minutes", "capital"), [(0, 1), (-1, 1), (1, 0), (1, -5)])
def test_day_without_minutes_or_capital_is_refused(minutes: int, capital: int) -> None:
    with pytest.raises(ValueError, match="cannot simulate"):
        events(seed=1, day=DAY, minutes=minutes, initial_capital=Decimal(capital))
