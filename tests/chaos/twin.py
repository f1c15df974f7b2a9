"""What tests/engine/market.c publishes at a position of its ring, said again: nobody has to ask it."""

from datetime import datetime, timedelta
from decimal import Decimal

from schemas.events import Event, PerformanceMinute, PositionUpdated, SignalGenerated, TradeExecuted
from tests.chaos.market import ACCOUNTS, STRATEGIES, SYMBOLS

REASONS = ("", "rank, strength", 'said "go"\nand went', "\\N", "naïve 株")

_MASK = (1 << 64) - 1


def event(seed: int, base: datetime, position: int) -> Event:
    """The event at a position, without what publishing gives: id, producer and sequence."""
    draws = _Draws(seed + (position << 32))
    at = base + timedelta(microseconds=position * 100_000)
    if draws.below(20) == 0:
        at -= timedelta(minutes=1 + draws.below(90))
    if draws.below(300) == 0:
        at -= timedelta(days=1 + draws.below(50))
    match draws.below(8):
        case 5:
            return _performance(draws, at)
        case 6:
            return _signal(draws, at)
        case 7:
            return _position(draws, at)
    return _trade(draws, at)


class _Draws:
    """splitmix64."""

    def __init__(self, state: int) -> None:
        self._state = state & _MASK

    def below(self, end: int) -> int:
        self._state = mixed = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _MASK
        return (mixed ^ mixed >> 31) % end

    def amount(self, most: int, places: int) -> Decimal:
        return Decimal(self.below(most * 10**places)).scaleb(-places)

    def around_zero(self, most: int, places: int) -> Decimal:
        return Decimal(self.below(2 * most * 10**places) - most * 10**places).scaleb(-places)


def _trade(draws: _Draws, at: datetime) -> TradeExecuted:
    account, strategy, symbol = ACCOUNTS[draws.below(8)], STRATEGIES[draws.below(2)], SYMBOLS[draws.below(10)]
    closes, sells = draws.below(2), draws.below(2)
    quantity = Decimal(1 + draws.below(500 * 10**8)).scaleb(-8)
    price = Decimal(1 + draws.below(300 * 10**10)).scaleb(-10)
    realized_pnl = draws.below(3) * draws.around_zero(200, 6)
    fees = Decimal(1 + draws.below(3 * 10**6)).scaleb(-6)
    reason = REASONS[draws.below(5)]
    order = f"order-{draws.below(1 << 32):08x}"
    return TradeExecuted(
        account=account,
        strategy=strategy,
        symbol=symbol,
        action="EXIT" if closes else "ENTRY",
        side="SELL" if sells else "BUY",
        quantity=quantity,
        price=price,
        realized_pnl=realized_pnl if closes else None,
        fees=fees,
        reason=reason,
        order_id=order if draws.below(3) else None,
        executed_at=at,
    )


def _performance(draws: _Draws, at: datetime) -> PerformanceMinute:
    account, unrealized = ACCOUNTS[draws.below(8)], draws.around_zero(9_000, 6)
    return PerformanceMinute(
        account=account,
        equity=100_000 + unrealized,
        day_return=draws.around_zero(1, 10),
        open_positions=draws.below(6),
        realized_pnl=draws.around_zero(9_000, 6),
        unrealized_pnl=unrealized,
        minute_at=at,
    )


def _signal(draws: _Draws, at: datetime) -> SignalGenerated:
    return SignalGenerated(
        symbol=SYMBOLS[draws.below(10)],
        direction=("NEUTRAL", "LONG", "SHORT")[draws.below(3)],
        probability=draws.below(1 << 20) / (1 << 20),
        confidence=draws.below(1 << 20) / (1 << 20),
        bar_id=draws.below(1 << 62),
        generated_at=at,
    )


def _position(draws: _Draws, at: datetime) -> PositionUpdated:
    return PositionUpdated(
        account=ACCOUNTS[draws.below(8)],
        symbol=SYMBOLS[draws.below(10)],
        quantity=draws.around_zero(500, 8),
        average_entry=draws.amount(300, 10),
        mark=draws.amount(300, 10),
        unrealized_pnl=draws.around_zero(9_000, 6),
        realized_pnl=draws.around_zero(9_000, 6),
        updated_at=at,
    )
