"""What the REST API answers. Amounts are decimal strings, times RFC 3339 in UTC."""

import datetime as dt
from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import BaseModel, Field, PlainSerializer, WithJsonSchema

from gateway.wire import decimal_text, time_text

Amount = Annotated[
    Decimal,
    PlainSerializer(decimal_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "decimal", "examples": ["101.25"]}),
]
Instant = Annotated[
    dt.datetime,
    PlainSerializer(time_text, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2025-10-10T13:31:00.000000Z"]}),
]


class Event(BaseModel):
    event_id: UUID
    producer: str
    sequence: int


class Trade(Event):
    """One fill."""

    account: str
    strategy: str
    symbol: str
    action: Literal["ENTRY", "EXIT"]
    side: Literal["BUY", "SELL"]
    quantity: Amount
    price: Amount
    realized_pnl: Amount | None = Field(description="After all costs; null unless the fill closes a round trip.")
    fees: Amount
    reason: str
    order_id: str | None
    executed_at: Instant


class Signal(Event):
    """A symbol's newest signal."""

    symbol: str
    direction: Literal["NEUTRAL", "LONG", "SHORT"]
    probability: float
    confidence: float
    bar_id: int
    generated_at: Instant


class CurrentSignal(Signal):
    """A symbol's newest signal, and what the symbol costs."""

    price: Amount | None = Field(description="Newest close of a minute bar, or price from outside, whichever is newer.")
    price_at: Instant | None
    change_of_day: Amount | None = Field(
        description="The price over the last close of an earlier trading day, minus one."
    )


class Position(Event):
    """A position that is held."""

    account: str
    symbol: str
    quantity: Amount = Field(description="Signed: below zero is short.")
    average_entry: Amount
    mark: Amount
    unrealized_pnl: Amount
    realized_pnl: Amount
    updated_at: Instant


class Statistic(BaseModel):
    """One window of statistics; `*` stands for all strategies or symbols of the account."""

    date: dt.date = Field(description="First New York trading day of the window.")
    account: str
    strategy: str
    symbol: str
    kind: Literal["DAY", "WEEK", "MONTH"]
    start_at: Instant
    revision: int = Field(description="Counts the changes of this window.")
    updated_at: Instant
    fills: int
    trades: int = Field(description="Round trips closed.")
    wins: int
    losses: int
    volume: Amount
    notional: Amount
    fees: Amount
    realized_pnl: Amount
    gross_profit: Amount
    gross_loss: Amount
    win_rate: Amount | None
    average_win: Amount | None
    average_loss: Amount | None
    profit_factor: Amount | None = Field(description="Null without losses.")
    equity_open: Amount | None
    equity_high: Amount | None
    equity_low: Amount | None
    equity_close: Amount | None
    equity_return: Amount | None
    max_drawdown: Amount | None


class Bar(BaseModel):
    """One or more minutes of a symbol; prices in USD, volume in shares."""

    start_at: Instant
    open: Amount
    high: Amount
    low: Amount
    close: Amount
    volume: Amount


class Symbol(BaseModel):
    """One symbol's screen."""

    symbol: str
    price: Amount | None
    price_at: Instant | None
    change_of_day: Amount | None
    signal: Signal | None
    positions: list[Position] = Field(description="What accounts hold of it.")
    span: Literal["1D", "5D", "1M", "3M"]
    step_minutes: int | None = Field(description="Minutes a bar; null without bars.")
    bars: list[Bar] = Field(description="Up to the newest, at most 500.")


class RoundTrip(BaseModel):
    """What one fill closed, first in, first out. Null where the entry lies before the newest 5,000 fills."""

    strategy: str
    symbol: str
    direction: Literal["LONG", "SHORT"]
    quantity: Amount
    entry_price: Amount | None = Field(description="Average of what was closed, per share.")
    exit_price: Amount
    fees: Amount | None = Field(description="Of the exit and, by share, of its entries; already inside realized_pnl.")
    realized_pnl: Amount
    opened_at: Instant | None = Field(description="When the oldest share of it was bought, or sold short.")
    closed_at: Instant


class Portfolio(BaseModel):
    """One account at a glance; amounts in USD, returns as fractions."""

    account: str
    equity: Amount
    cash: Amount = Field(description="Equity less what the open positions are worth at their marks.")
    day_return: Amount
    total_return: Amount | None = Field(description="Equity over the first equity of the account, minus one.")
    realized_pnl: Amount = Field(description="Of the day.")
    unrealized_pnl: Amount
    minute_at: Instant = Field(description="The minute that the account was reported for.")
    positions: list[Position]
    round_trips: list[RoundTrip] = Field(description="Newest first.")


class TradePage(BaseModel):
    trades: list[Trade]
    next_cursor: str | None = Field(description="Give it back as `cursor` for the next page; null at the end.")


class StatisticPage(BaseModel):
    statistics: list[Statistic]
    next_cursor: str | None = Field(description="Give it back as `cursor` for the next page; null at the end.")


class Signals(BaseModel):
    signals: list[CurrentSignal]


class Positions(BaseModel):
    positions: list[Position]


class Health(BaseModel):
    status: Literal["ok"]


class Problem(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
