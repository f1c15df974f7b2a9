"""A simulated engine: a day of prices, and an account trading them, all of it told by a seed.

Lives here: the prices, what the engine makes of them, and its book. Numbering and sending the events is the
publisher's. The same seed gives the same events on every machine: binary fractions occur only in the random
walk and the signals, which use nothing but sums, products and `random.Random`, and become ticks at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from random import Random
from zoneinfo import ZoneInfo

from schemas import amounts
from schemas.events import (
    EngineHeartbeat,
    Event,
    PerformanceMinute,
    PositionUpdated,
    PriceBar,
    SignalGenerated,
    TradeExecuted,
)

STRATEGY = "simulated"
ENGINE = "simulator"
VERSION = "1"
SYMBOLS = {
    "TQQQ": 108.75,
    "SQQQ": 14.43,
    "TNA": 47.33,
    "TZA": 7.86,
    "UVXY": 10.55,
    "SVIX": 21.02,
    "FAS": 171.4,
    "FAZ": 42.05,
    "ERX": 53.46,
    "ERY": 20.99,
    "SDS": 14.23,
    "SSO": 113.3,
}
"""Opening price of each symbol, in USD."""

OPENING = time(9, 30, tzinfo=ZoneInfo("America/New_York"))
TICK = Decimal("0.01")
COST_PER_SHARE = Decimal("0.0035")
LEAST_COST = Decimal("0.35")
MAX_POSITIONS = 3
SHARE_OF_EQUITY = Decimal("0.3")
"""What a position may cost, as a part of the equity."""
LEAST_CONFIDENCE = 0.5
LONGEST_MINUTES = 30
"""A position is closed after this long."""
NONE = Decimal(0)


def events(*, seed: int, day: date, minutes: int = 390, initial_capital: Decimal = Decimal(100_000)) -> Iterator[Event]:
    """The events of `minutes` from 09:30 in New York: each minute its bars, signals, fills, positions, the
    account and a heartbeat. In the last minute everything is closed.

    Raises ValueError for less than one minute, or capital that is not above zero.
    """
    if minutes < 1 or initial_capital <= 0:
        raise ValueError(f"cannot simulate {minutes} minutes with {initial_capital} USD")
    random = Random(f"{seed}")  # noqa: S311  (no secret; as text, so that -1 is not 1)
    return _simulate(random, f"sim-{seed}", day, minutes, amounts.money(initial_capital))


def _simulate(random: Random, account: str, day: date, minutes: int, capital: Decimal) -> Iterator[Event]:
    opening = datetime.combine(day, OPENING).astimezone(UTC)
    walks = {symbol: _Walk(random, price) for symbol, price in SYMBOLS.items()}
    book = _Book(account, capital)
    for minute in range(minutes):
        at, last = opening + timedelta(minutes=minute), minute == minutes - 1
        bars = [walk.bar(symbol, at) for symbol, walk in walks.items()]
        signals = [walks[bar.symbol].signal(bar.symbol, at) for bar in bars]
        book.marks = {bar.symbol: bar.close for bar in bars}
        yield from bars
        yield from signals
        fills = list(_trade(book, signals, at, last=last))
        yield from fills
        closed = [fill.symbol for fill in fills if fill.action == "EXIT"]
        yield from (book.position(symbol, at) for symbol in dict.fromkeys([*closed, *book.held]))
        yield book.performance(at)
        state = "stopped" if last else "running" if book.held else "flat"
        yield EngineHeartbeat(engine=ENGINE, version=VERSION, mode="mock", state=state, beat_at=at)


@dataclass(slots=True)
class _Walk:
    """Prices of one symbol: a random walk whose trend now and then changes."""

    random: Random
    price: float
    trend: float = 0.0

    def bar(self, symbol: str, at: datetime) -> PriceBar:
        first = self.price
        if self.random.random() < 0.1:  # noqa: PLR2004  (a trend lasts ten minutes or so)
            self.trend = 0.00008 * self._bell()
        path = [first]
        for _ in range(4):
            path.append(path[-1] * (1.0 + self.trend / 4 + 0.0006 * self._bell()))
        ticks = [_ticks(price) for price in path]
        self.price = float(ticks[-1])
        return PriceBar(
            symbol=symbol,
            open=ticks[0],
            high=max(ticks),
            low=min(ticks),
            close=ticks[-1],
            volume=amounts.quantity(self.random.randrange(100, 100_000)),
            minute_at=at,
        )

    def signal(self, symbol: str, at: datetime) -> SignalGenerated:
        """What the strategy says: it sees the trend, through noise."""
        lean = max(-1.0, min(1.0, self.trend / 0.0004 + 0.25 * self._bell()))
        return SignalGenerated(
            symbol=symbol,
            direction="NEUTRAL" if abs(lean) < LEAST_CONFIDENCE else "LONG" if lean > 0 else "SHORT",
            probability=round((1.0 + lean) / 2, 6),
            confidence=round(abs(lean), 6),
            bar_id=int(at.timestamp()) // 60,
            generated_at=at,
        )

    def _bell(self) -> float:
        """About normal, mean 0 and deviation 1; sums only, whose bits no machine's libm can change."""
        return sum(self.random.random() for _ in range(12)) - 6.0


def _ticks(price: float) -> Decimal:
    """At least ten ticks, so that a spread never reaches zero."""
    return amounts.price(max(round(price * 100), 10) * TICK)


def _trade(book: "_Book", signals: list[SignalGenerated], at: datetime, *, last: bool) -> Iterator[TradeExecuted]:
    """Exits first, then entries by confidence while there is place."""
    for signal in signals:
        position = book.held.get(signal.symbol)
        if position is None:
            continue
        against = signal.direction == ("SHORT" if position.shares > 0 else "LONG")
        if last or against or at - position.since >= timedelta(minutes=LONGEST_MINUTES):
            reason = "end of day" if last else "signal turned" if against else "held long enough"
            yield book.leave(signal.symbol, reason, at)
    if last:
        return
    for signal in sorted(signals, key=lambda signal: -signal.confidence):
        wanted = signal.direction != "NEUTRAL" and signal.symbol not in book.held
        if wanted and len(book.held) < MAX_POSITIONS:
            sign = 1 if signal.direction == "LONG" else -1
            reason = f"entering {signal.direction} at confidence {signal.confidence:.2f}"
            yield from book.enter(signal.symbol, sign, reason, at)


@dataclass(frozen=True, slots=True)
class _Position:
    shares: Decimal
    """Signed."""
    price: Decimal
    cost: Decimal
    """USD charged with the entry."""
    since: datetime


@dataclass(slots=True)
class _Book:
    account: str
    capital: Decimal
    marks: dict[str, Decimal] = field(default_factory=dict)
    held: dict[str, _Position] = field(default_factory=dict)
    realized: dict[str, Decimal] = field(default_factory=dict)
    cash: Decimal = NONE
    """Flow of every fill and its costs, without the capital: kept only to check the P&L."""
    orders: int = 0

    def enter(self, symbol: str, sign: int, reason: str, at: datetime) -> Iterator[TradeExecuted]:
        """One fill, or none where the account cannot pay one share."""
        price = self.marks[symbol] + sign * TICK
        shares = amounts.quantity(self.equity() * SHARE_OF_EQUITY // price)
        if shares < 1:
            return
        fill = self._fill(symbol, sign * shares, price, reason=reason, at=at)
        self.held[symbol] = _Position(sign * shares, price, fill.fees, at)
        yield fill

    def leave(self, symbol: str, reason: str, at: datetime) -> TradeExecuted:
        position = self.held.pop(symbol)
        price = self.marks[symbol] + (-TICK if position.shares > 0 else TICK)
        return self._fill(symbol, -position.shares, price, reason=reason, at=at, closes=position)

    def equity(self) -> Decimal:
        """Capital, what is realized, and what is not: the same as the cash and what the shares are worth."""
        return self.capital + sum(self.realized.values(), NONE) + sum(map(self._gain, self.held), NONE)

    def position(self, symbol: str, at: datetime) -> PositionUpdated:
        position = self.held.get(symbol)
        return PositionUpdated(
            account=self.account,
            symbol=symbol,
            quantity=amounts.quantity(position.shares if position else 0),
            average_entry=amounts.price(position.price if position else 0),
            mark=self.marks[symbol],
            unrealized_pnl=amounts.money(self._gain(symbol) if position else 0),
            realized_pnl=amounts.money(self.realized.get(symbol, NONE)),
            updated_at=at,
        )

    def performance(self, at: datetime) -> PerformanceMinute:
        equity = amounts.money(self.equity())
        worth = sum((each.shares * self.marks[symbol] for symbol, each in self.held.items()), NONE)
        assert equity == self.capital + self.cash + worth, f"{equity} is not the account's worth at {at}"
        realized = amounts.money(sum(self.realized.values(), NONE))
        return PerformanceMinute(
            account=self.account,
            equity=equity,
            day_return=amounts.price(amounts.EXACT.divide(equity, self.capital) - 1),
            open_positions=len(self.held),
            realized_pnl=realized,
            unrealized_pnl=equity - self.capital - realized,
            minute_at=at,
        )

    def _gain(self, symbol: str) -> Decimal:
        """USD of a position at its mark, less what its entry cost; the exit's costs are still to come."""
        position = self.held[symbol]
        return (self.marks[symbol] - position.price) * position.shares - position.cost

    def _fill(
        self,
        symbol: str,
        shares: Decimal,
        price: Decimal,
        *,
        reason: str,
        at: datetime,
        closes: _Position | None = None,
    ) -> TradeExecuted:
        """A fill of signed shares, its costs charged; one that closes realizes after the costs of both."""
        cost = amounts.money(max(LEAST_COST, COST_PER_SHARE * abs(shares)))
        self.cash -= shares * price + cost
        self.orders += 1
        pnl = None
        if closes is not None:
            pnl = amounts.money((price - closes.price) * closes.shares - closes.cost - cost)
            self.realized[symbol] = self.realized.get(symbol, NONE) + pnl
        return TradeExecuted(
            account=self.account,
            strategy=STRATEGY,
            symbol=symbol,
            action="ENTRY" if closes is None else "EXIT",
            side="BUY" if shares > 0 else "SELL",
            quantity=abs(shares),
            price=price,
            realized_pnl=pnl,
            fees=cost,
            reason=reason,
            order_id=f"{self.account}-{self.orders:06d}",
            executed_at=at,
        )
