"""Typed events of the stream. Generated from schemas/avro by clients/generate.py; do not edit.

Amounts are exact decimals, times are aware and in UTC.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """What every event carries; all three are None in a snapshot of `aggregates`."""

    event_id: UUID | None = None
    """The same on every resend of this event."""

    producer: str | None = None
    """Name and source (or run) of the publisher."""

    sequence: int | None = None
    """Position among the producer's events, from 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AggregateUpdated(Event):
    """Newest state of one window of statistics; the highest revision is the true one."""

    account: str
    """Trading account, e.g. paper-2025-10-10."""

    strategy: str
    """Strategy, or * for all of the account."""

    symbol: str
    """Instrument, or * for all of the account."""

    kind: Literal["MINUTE", "DAY", "WEEK", "MONTH"]
    """Length of the window, in New York trading time."""

    start_at: datetime
    """Start of the window, UTC."""

    revision: int
    """Counts the changes of this window, from 1."""

    fills: int
    """Fills in the window."""

    trades: int
    """Round trips closed in the window (fills with a realized_pnl)."""

    wins: int
    """Round trips above zero."""

    losses: int
    """Round trips below zero."""

    volume: Decimal
    """Shares filled."""

    notional: Decimal
    """Sum of price times quantity of each fill, in USD."""

    fees: Decimal
    """Costs, in USD; already inside realized_pnl."""

    realized_pnl: Decimal
    """USD realized."""

    gross_profit: Decimal
    """Sum of the winning round trips, in USD."""

    gross_loss: Decimal
    """Sum of the losing round trips, in USD, as a positive figure."""

    win_rate: Decimal | None = None
    """wins / trades; null without trades."""

    average_win: Decimal | None = None
    """gross_profit / wins; null without wins."""

    average_loss: Decimal | None = None
    """gross_loss / losses, positive; null without losses."""

    profit_factor: Decimal | None = None
    """gross_profit / gross_loss; null without losses."""

    equity_open: Decimal | None = None
    """First equity of the window, in USD; whole-account windows only."""

    equity_high: Decimal | None = None
    """Highest equity of the window, in USD."""

    equity_low: Decimal | None = None
    """Lowest equity of the window, in USD."""

    equity_close: Decimal | None = None
    """Last equity of the window, in USD."""

    equity_return: Decimal | None = None
    """equity_close / equity_open, minus one."""

    max_drawdown: Decimal | None = None
    """Deepest fall of the minute closes below their running peak, as a fraction of the peak."""

    updated_at: datetime
    """When this revision was written, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineHeartbeat(Event):
    """The engine is alive; silence is an alarm."""

    engine: str
    """Name of the engine."""

    version: str
    """Version of the engine."""

    mode: str
    """What it trades on: live, paper, mock or replay."""

    state: str
    """What it is doing: starting, running, flat or stopped."""

    beat_at: datetime
    """When it said so, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PerformanceMinute(Event):
    """An account at the end of one minute."""

    account: str
    """Trading account, e.g. paper-2025-10-10."""

    equity: Decimal
    """Initial capital plus realized and unrealized profit and loss, in USD."""

    day_return: Decimal
    """Equity over the day's opening equity, minus one."""

    open_positions: int
    """Positions held."""

    realized_pnl: Decimal
    """USD realized so far this day."""

    unrealized_pnl: Decimal
    """USD that closing everything at the marks would realize."""

    minute_at: datetime
    """Start of the minute on the engine's clock, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PositionUpdated(Event):
    """State of one position after a change or a minute; quantity 0 closes it."""

    account: str
    """Trading account, e.g. paper-2025-10-10."""

    symbol: str
    """Instrument, e.g. TQQQ."""

    quantity: Decimal
    """Signed shares held: above zero long, below zero short, zero none."""

    average_entry: Decimal
    """Average price per share paid or received for what is held, in USD; 0 when nothing is held."""

    mark: Decimal
    """Price per share that the position is valued at, in USD."""

    unrealized_pnl: Decimal
    """USD that closing at the mark would realize."""

    realized_pnl: Decimal
    """USD realized in this symbol and account so far."""

    updated_at: datetime
    """When the position had this state on the engine's clock, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceBar(Event):
    """One-minute bar of one symbol."""

    symbol: str
    """Instrument, e.g. TQQQ."""

    open: Decimal
    """First price of the minute, in USD."""

    high: Decimal
    """Highest price of the minute, in USD."""

    low: Decimal
    """Lowest price of the minute, in USD."""

    close: Decimal
    """Last price of the minute, in USD."""

    volume: Decimal
    """Shares traded in the minute."""

    minute_at: datetime
    """Start of the minute, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceUpdated(Event):
    """A price from outside the engine."""

    symbol: str
    """Instrument, e.g. TQQQ."""

    price: Decimal
    """Price per share, in USD."""

    source: str
    """Who says so."""

    observed_at: datetime
    """When the source observed it, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalGenerated(Event):
    """One symbol's signal of one bar."""

    symbol: str
    """Instrument, e.g. TQQQ."""

    direction: Literal["NEUTRAL", "LONG", "SHORT"]
    """What the strategy would do."""

    probability: float
    """Estimated probability that the price rises, 0 to 1."""

    confidence: float
    """The strategy's own confidence in it, 0 to 1."""

    bar_id: int
    """Identity of the bar on the engine's side."""

    generated_at: datetime
    """When the signal was made on the engine's clock, UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TradeExecuted(Event):
    """One fill, as the engine reported it."""

    account: str
    """Trading account, e.g. paper-2025-10-10."""

    strategy: str
    """Strategy that decided."""

    symbol: str
    """Instrument, e.g. TQQQ."""

    action: Literal["ENTRY", "EXIT"]
    """ENTRY opens or adds to a position, EXIT closes or reduces one."""

    side: Literal["BUY", "SELL"]
    """Side of the fill in the market."""

    quantity: Decimal
    """Shares filled, always above zero."""

    price: Decimal
    """Price per share at which it was filled, in USD."""

    realized_pnl: Decimal | None = None
    """USD gained by the round trip that this fill closes, after all of its costs; null unless it closes
    one."""

    fees: Decimal
    """USD of costs charged with this fill; already inside realized_pnl."""

    reason: str
    """Why the engine traded, in its own words."""

    order_id: str | None = None
    """Order that this fill belongs to, where the engine has one."""

    executed_at: datetime
    """When the fill happened on the engine's clock, UTC."""


CHANNELS: dict[str, type[Event]] = {
    "trades": TradeExecuted,
    "signals": SignalGenerated,
    "positions": PositionUpdated,
    "performance": PerformanceMinute,
    "bars": PriceBar,
    "prices": PriceUpdated,
    "engine": EngineHeartbeat,
    "aggregates": AggregateUpdated,
}
