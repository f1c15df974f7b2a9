"""Events to test with, right in every field unless told otherwise."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from schemas.amounts import money, price, quantity
from schemas.codec import encode
from schemas.columns import from_events
from schemas.events import Event, PerformanceMinute, SignalGenerated, TradeExecuted

OPENING = datetime(2025, 10, 10, 13, 30, tzinfo=UTC)


def trade(number: int = 0, *, pnl: str | None = None, **changes: Any) -> TradeExecuted:
    """The trade of minute ``number``; with ``pnl`` it closes a round trip."""
    values: dict[str, Any] = {
        "account": "paper",
        "strategy": "rotation",
        "symbol": ("TQQQ", "SQQQ", "UVXY")[number % 3],
        "action": "ENTRY" if pnl is None else "EXIT",
        "side": "BUY",
        "quantity": quantity(100 + number),
        "price": price("109.02"),
        "realized_pnl": None if pnl is None else money(pnl),
        "fees": money("0.35"),
        "reason": 'rank, "strength"\nand more',
        "executed_at": OPENING + timedelta(minutes=number),
    }
    return TradeExecuted(**(values | changes))


def minute(number: int, equity: str | Decimal, **changes: Any) -> PerformanceMinute:
    """The account at the end of minute ``number``."""
    values: dict[str, Any] = {
        "account": "paper",
        "equity": money(equity),
        "day_return": price(Decimal(equity) / 100_000 - 1),
        "open_positions": 1,
        "realized_pnl": money(0),
        "unrealized_pnl": money(Decimal(equity) - 100_000),
        "minute_at": OPENING + timedelta(minutes=number),
    }
    return PerformanceMinute(**(values | changes))


def signal(number: int = 0, **changes: Any) -> SignalGenerated:
    values: dict[str, Any] = {
        "symbol": "TQQQ",
        "direction": "LONG",
        "probability": 0.1 + 0.2,
        "confidence": 1 / 3,
        "bar_id": 29335050 + number,
        "generated_at": OPENING + timedelta(minutes=number),
    }
    return SignalGenerated(**(values | changes))


def encoded(event: Event, *, number: int = 0, producer: str = "test@1") -> bytes:
    """The event's Kafka value, as a publisher would number it."""
    records = from_events([event], event_id=[number.to_bytes(16, "big")], producer=[producer], sequence=[number])
    return encode(type(event).__name__, records)[0]
