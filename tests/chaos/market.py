"""A made-up market: an endless stream of events of every stored topic, right in every field."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random

from schemas.events import (
    Event,
    PerformanceMinute,
    PositionUpdated,
    PriceBar,
    PriceUpdated,
    SignalGenerated,
    TradeExecuted,
)

SYMBOLS = ("TQQQ", "SQQQ", "UVXY", "SVIX", "SPXL", "SPXS", "TNA", "TZA", "SOXL", "SOXS")
ACCOUNTS = tuple(f"paper-{number}" for number in range(8))
STRATEGIES = ("rotation", "reversal")

_STEP = timedelta(milliseconds=40)
_LATE = 0.05
_VERY_LATE = 0.003


def events(random: Random, base: datetime) -> Iterator[Event]:
    """Events from ``base`` on, 25 a second of the engine's clock; some late by minutes, a few by weeks.

    Late ones correct windows of earlier days, weeks and months. Prices are never late by weeks: their table keeps
    fourteen days.
    """
    kinds: tuple[Callable[[Random, datetime], Event], ...] = (_trade, _performance, _signal, _position, _bar, _price)
    clock = base
    while True:
        clock += _STEP
        [kind] = random.choices(kinds, weights=(40, 15, 15, 10, 10, 10))
        at = clock
        if random.random() < _LATE:
            at -= timedelta(minutes=random.randint(1, 90))
        elif random.random() < _VERY_LATE and kind is not _price:
            at -= timedelta(days=random.randint(1, 50), minutes=random.randint(0, 600))
        yield kind(random, at)


def _amount(random: Random, most: int, places: int) -> Decimal:
    """Above zero, every decimal place in use."""
    return Decimal(random.randint(1, most * 10**places)).scaleb(-places)


def _money(random: Random, most: int) -> Decimal:
    return _amount(random, 2 * most, 6) - most


def _trade(random: Random, at: datetime) -> TradeExecuted:
    closes = random.random() < 0.5
    return TradeExecuted(
        account=random.choice(ACCOUNTS),
        strategy=random.choice(STRATEGIES),
        symbol=random.choice(SYMBOLS),
        action="EXIT" if closes else "ENTRY",
        side=random.choice(("BUY", "SELL")),
        quantity=_amount(random, 500, 8),
        price=_amount(random, 300, 10),
        realized_pnl=random.choice((_money(random, 400), _money(random, 400), Decimal(0))) if closes else None,
        fees=_amount(random, 3, 6),
        reason=random.choice(("", "rank, strength", 'said "go"\nand went', "\\N", "naïve 株")),
        order_id=random.choice((None, "", f"order-{random.getrandbits(40)}")),
        executed_at=at,
    )


def _performance(random: Random, at: datetime) -> PerformanceMinute:
    unrealized = _money(random, 9_000)
    return PerformanceMinute(
        account=random.choice(ACCOUNTS),
        equity=100_000 + unrealized,
        day_return=_money(random, 1),
        open_positions=random.randint(0, 5),
        realized_pnl=_money(random, 9_000),
        unrealized_pnl=unrealized,
        minute_at=at,
    )


def _signal(random: Random, at: datetime) -> SignalGenerated:
    return SignalGenerated(
        symbol=random.choice(SYMBOLS),
        direction=random.choice(("NEUTRAL", "LONG", "SHORT")),
        probability=random.random(),
        confidence=random.random(),
        bar_id=random.getrandbits(62),
        generated_at=at,
    )


def _position(random: Random, at: datetime) -> PositionUpdated:
    return PositionUpdated(
        account=random.choice(ACCOUNTS),
        symbol=random.choice(SYMBOLS),
        quantity=_amount(random, 1_000, 8) - 500,
        average_entry=_amount(random, 300, 10),
        mark=_amount(random, 300, 10),
        unrealized_pnl=_money(random, 9_000),
        realized_pnl=_money(random, 9_000),
        updated_at=at,
    )


def _bar(random: Random, at: datetime) -> PriceBar:
    low, a, b, high = sorted(_amount(random, 300, 10) for _ in range(4))
    return PriceBar(
        symbol=random.choice(SYMBOLS),
        open=a,
        high=high,
        low=low,
        close=b,
        volume=_amount(random, 9_000, 8),
        minute_at=at,
    )


def _price(random: Random, at: datetime) -> PriceUpdated:
    return PriceUpdated(symbol=random.choice(SYMBOLS), price=_amount(random, 300, 10), source="chaos", observed_at=at)


def today() -> datetime:
    """Where the engine's clock begins: two hours ago."""
    return datetime.now(UTC).replace(microsecond=0) - timedelta(hours=2)
