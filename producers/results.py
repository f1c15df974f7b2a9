"""Plays a results file, one day as the engine writes it at its end: bars, round trips and its own statistics.

Lives here: the engine's clock, and the account that the round trips make. Numbering and sending the events is
the publisher's.

The clock: the engine steps through the bars of every symbol by their INDEX in `price_data`, not their time.
Step `min_bars_to_learn` is 09:30 in New York, and every step is a minute. A symbol that lacks minutes is
therefore shifted: its bar at a step is older than the step, and round trips made on the day bear times of the
day before (ten of the 140 of 2025-10-10, one of them at its entry only). The indices leave no doubt: none is
below `min_bars_to_learn`, every price is the close of its bar, no more than `max_positions` are held at any
step, and `trades` is in the order of the exits' indices, though not of their times. So `executed_at` is the
time of the bar at that index in a symbol that lacks no minute of the day, which makes the day's statistics
those of the file; the bar's own time is kept in `reason`. Bars keep their own `minute_at`, and come at the
step at which the engine saw them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

from producers.fields import Fields, LineError, contents, refusal
from producers.session import NEW_YORK
from schemas import amounts
from schemas.events import Event, PerformanceMinute, PositionUpdated, PriceBar, TradeExecuted
from sentio.errors import NotPlayable

OPENING = time(9, 30)
NONE = Decimal(0)


def events(path: Path, *, skip_bad: bool = False, on_bad: Callable[[str], None] | None = None) -> Iterator[Event]:
    """The events of a results file by steps of the engine's clock: the bars of a step, its exits, its
    entries, the positions that they changed, and the account. Steps before the trading day have bars only.

    A bar or round trip that cannot be used raises NotPlayable at its step (a trip at its entry; one whose
    entry cannot be told at the exit before it in the file); with `skip_bad` it is told to `on_bad` in one
    line and left out. A trip whose exit is absent or null is a position still open at the end.

    Raises NotPlayable at once when the file is unreadable, lacks a part, or its clock cannot be told.
    """
    return _play(_load(path), refusal(skip_bad=skip_bad, on_bad=on_bad))


def trading_day(path: Path) -> date:
    """The day in New York that the engine traded; raises NotPlayable as `events` does."""
    return _load(path).day


@dataclass(frozen=True, slots=True)
class _Trip:
    symbol: str
    quantity: Decimal
    entry: int
    """Step of the entry."""
    entry_price: Decimal
    entry_bar_at: datetime
    exit: int | None
    """Step of the exit; None while open, as the three below."""
    exit_price: Decimal | None
    exit_bar_at: datetime | None
    pnl: Decimal | None


@dataclass(frozen=True, slots=True)
class _Results:
    path: Path
    strategy: str
    capital: Decimal
    series: dict[str, list[PriceBar | LineError]]
    clock: dict[int, datetime]
    """Time of every step of the trading day."""
    trips: list[_Trip]
    bad_trips: list[tuple[int, str]]
    """Step and complaint."""

    @property
    def day(self) -> date:
        return min(self.clock.values()).astimezone(NEW_YORK).date()


def _load(path: Path) -> _Results:
    try:
        root = Fields.parse(contents(path))
        config = Fields(root.get("config"))
        capital = amounts.money(Fields(root.get("metadata")).number("initial_capital", 1, 10**15))
        first = config.integer("min_bars_to_learn", 0, 10**6)
        series = _series(root.get("price_data"))
        clock = _clock(series, first, config.integer("bars_per_day", 1, 24 * 60))
        trips, bad = _trips(root.get("trades"), series, clock)
        strategy = (config.text("strategy_name").split() or [""])[0]
    except LineError as error:
        raise NotPlayable(f"{path} {error}") from error
    return _Results(path, strategy, capital, series, clock, trips, bad)


def _series(price_data: object) -> dict[str, list[PriceBar | LineError]]:
    """The bars by symbol; one that cannot be used keeps its index."""
    if not isinstance(price_data, dict) or not all(isinstance(bars, list) for bars in price_data.values()):
        raise LineError("has no list of bars a symbol in price_data")
    series: dict[str, list[PriceBar | LineError]] = {}
    for symbol, bars in price_data.items():
        read = series.setdefault(symbol, [])
        before = datetime.min.replace(tzinfo=NEW_YORK)
        for bar in bars:
            try:
                usable = _bar(symbol, Fields(bar), before)
            except LineError as error:
                read.append(error)
            else:
                read.append(usable)
                before = usable.minute_at
    return series


def _bar(symbol: str, bar: Fields, before: datetime) -> PriceBar:
    at = bar.time("timestamp_ms")
    if at <= before:
        raise LineError(f"timestamp_ms is {at:%Y-%m-%d %H:%M} UTC, not after the bar before it")
    return PriceBar(
        symbol=symbol,
        open=bar.price("open"),
        high=bar.price("high"),
        low=bar.price("low"),
        close=bar.price("close"),
        volume=amounts.quantity(bar.number("volume", 0, 10**15)),
        minute_at=at,
    )


def _clock(series: dict[str, list[PriceBar | LineError]], first: int, bars_per_day: int) -> dict[int, datetime]:
    """Time of each step from `first` on, told by a symbol that lacks no minute of the day."""
    for bars in series.values():
        day = [bar.minute_at for bar in bars[first:] if isinstance(bar, PriceBar)]
        if not len(day) == len(bars[first:]) == bars_per_day:
            continue
        whole = day[-1] - day[0] == timedelta(minutes=bars_per_day - 1)  # their times only ever rise
        if whole and day[0].astimezone(NEW_YORK).time() == OPENING:
            return dict(enumerate(day, first))
    raise LineError(
        f"has no symbol in price_data with a bar {first} at 09:30 in New York and {bars_per_day} "
        "minutes without a gap from there, so that the engine's clock cannot be told"
    )


def _trips(
    trades: object, series: dict[str, list[PriceBar | LineError]], clock: dict[int, datetime]
) -> tuple[list[_Trip], list[tuple[int, str]]]:
    if not isinstance(trades, list):
        raise LineError("has no list of trades")
    steps = {
        symbol: {bar.minute_at: index for index, bar in enumerate(bars) if isinstance(bar, PriceBar)}
        for symbol, bars in series.items()
    }
    trips: list[_Trip] = []
    bad: list[tuple[int, str]] = []
    place = min(clock)
    for number, value in enumerate(trades):
        try:
            trip = Fields(value)
            step, at = _step(trip, "entry_time_ms", steps, clock)
        except LineError as error:
            bad.append((place, f"trades[{number}]: {error}"))
            continue
        try:
            trips.append(_trip(trip, step, at, steps, clock))
        except LineError as error:
            bad.append((step, f"trades[{number}]: {error}"))
            continue
        place = trips[-1].exit or place
    return trips, bad


def _trip(
    trip: Fields,
    entry: int,
    entry_bar_at: datetime,
    steps: dict[str, dict[datetime, int]],
    clock: dict[int, datetime],
) -> _Trip:
    closed = any(trip.has(name) for name in ("exit_time_ms", "exit_price", "pnl"))
    exit_, exit_bar_at = _step(trip, "exit_time_ms", steps, clock) if closed else (None, None)
    if exit_ is not None and exit_ < entry:
        raise LineError(f"exit_time_ms is bar {exit_}, before the entry at bar {entry}")
    return _Trip(
        symbol=trip.text("symbol"),
        quantity=trip.quantity("shares"),
        entry=entry,
        entry_price=trip.price("entry_price"),
        entry_bar_at=entry_bar_at,
        exit=exit_,
        exit_price=trip.price("exit_price") if closed else None,
        exit_bar_at=exit_bar_at,
        pnl=amounts.money(trip.money("pnl")) if closed else None,
    )


def _step(
    trip: Fields, name: str, steps: dict[str, dict[datetime, int]], clock: dict[int, datetime]
) -> tuple[int, datetime]:
    """Index of the bar of that time in the trip's symbol, and the time."""
    symbol, at = trip.text("symbol"), trip.time(name)
    step = steps.get(symbol, {}).get(at)
    if step is None:
        raise LineError(f"{name} is {at:%Y-%m-%d %H:%M} UTC, at which {symbol} has no bar")
    if step not in clock:
        raise LineError(f"{name} is bar {step} of {symbol}, outside of the trading day")
    return step, at


def _play(results: _Results, refuse: Callable[[str], None]) -> Iterator[Event]:
    account = _Account(f"paper-{results.day}", results.strategy, results.capital)
    for step in range(max(map(len, results.series.values()))):
        for symbol, bars in results.series.items():
            bar = bars[step] if step < len(bars) else None
            if isinstance(bar, PriceBar):
                account.marks[symbol] = bar.close
                yield bar
            elif bar is not None:
                refuse(f"{results.path} price_data[{symbol}][{step}]: {bar}")
        if step not in results.clock:
            continue
        for place, complaint in results.bad_trips:
            if place == step:
                refuse(f"{results.path} {complaint}")
        yield from _step_events(account, results.trips, step, results.clock[step])


def _step_events(account: "_Account", trips: list[_Trip], step: int, at: datetime) -> Iterator[Event]:
    exits = [trip for trip in trips if trip.exit == step and trip.entry < step]
    entries = [trip for trip in trips if trip.entry == step]
    for trip in exits:  # first, since the engine enters with the place that an exit left
        yield account.leave(trip, at)
    for trip in entries:
        yield account.enter(trip, at)
        if trip.exit == step:
            yield account.leave(trip, at)
    for symbol in dict.fromkeys(trip.symbol for trip in exits + entries):
        yield account.position(symbol, at)
    yield account.performance(at)


@dataclass(slots=True)
class _Account:
    name: str
    strategy: str
    capital: Decimal
    marks: dict[str, Decimal] = field(default_factory=dict)
    """Last close by symbol."""
    shares: dict[str, Decimal] = field(default_factory=dict)
    paid: dict[str, Decimal] = field(default_factory=dict)
    """USD paid for the shares held, exact, by symbol."""
    realized: dict[str, Decimal] = field(default_factory=dict)

    def enter(self, trip: _Trip, at: datetime) -> TradeExecuted:
        self._hold(trip, 1)
        return TradeExecuted(
            account=self.name,
            strategy=self.strategy,
            symbol=trip.symbol,
            action="ENTRY",
            side="BUY",
            quantity=trip.quantity,
            price=trip.entry_price,
            fees=amounts.money(0),
            reason=_reason("entry", trip.entry, trip.entry_bar_at),
            executed_at=at,
        )

    def leave(self, trip: _Trip, at: datetime) -> TradeExecuted:
        """The costs of the round trip, which the file holds only inside its pnl, are charged here."""
        assert trip.exit is not None
        assert trip.exit_price is not None
        assert trip.exit_bar_at is not None
        assert trip.pnl is not None
        self._hold(trip, -1)
        self.realized[trip.symbol] = self.realized.get(trip.symbol, NONE) + trip.pnl
        gross = amounts.product(trip.exit_price - trip.entry_price, trip.quantity)
        return TradeExecuted(
            account=self.name,
            strategy=self.strategy,
            symbol=trip.symbol,
            action="EXIT",
            side="SELL",
            quantity=trip.quantity,
            price=trip.exit_price,
            realized_pnl=trip.pnl,
            fees=amounts.money(amounts.EXACT.subtract(gross, trip.pnl)),
            reason=_reason("exit", trip.exit, trip.exit_bar_at),
            executed_at=at,
        )

    def position(self, symbol: str, at: datetime) -> PositionUpdated:
        shares, paid = self.shares[symbol], self.paid[symbol]
        return PositionUpdated(
            account=self.name,
            symbol=symbol,
            quantity=amounts.quantity(shares),
            average_entry=amounts.price(amounts.EXACT.divide(paid, shares) if shares else NONE),
            mark=self.marks[symbol],
            unrealized_pnl=amounts.money(self._gain(symbol)),
            realized_pnl=amounts.money(self.realized.get(symbol, NONE)),
            updated_at=at,
        )

    def performance(self, at: datetime) -> PerformanceMinute:
        realized = amounts.money(sum(self.realized.values(), NONE))
        unrealized = amounts.money(sum(map(self._gain, self.shares), NONE))
        equity = self.capital + realized + unrealized
        return PerformanceMinute(
            account=self.name,
            equity=equity,
            day_return=amounts.price(amounts.EXACT.divide(equity, self.capital) - 1),
            open_positions=sum(shares > 0 for shares in self.shares.values()),
            realized_pnl=realized,
            unrealized_pnl=unrealized,
            minute_at=at,
        )

    def _hold(self, trip: _Trip, sign: int) -> None:
        """The file has long trips only."""
        paid = amounts.product(trip.entry_price, trip.quantity)
        self.shares[trip.symbol] = self.shares.get(trip.symbol, NONE) + sign * trip.quantity
        self.paid[trip.symbol] = amounts.EXACT.add(
            self.paid.get(trip.symbol, NONE), amounts.product(paid, Decimal(sign))
        )

    def _gain(self, symbol: str) -> Decimal:
        """USD that the shares held are above what was paid; costs come with the exit."""
        if not self.shares[symbol]:
            return NONE
        return amounts.EXACT.subtract(amounts.product(self.marks[symbol], self.shares[symbol]), self.paid[symbol])


def _reason(what: str, step: int, bar_at: datetime) -> str:
    return f"{what} on bar {step}, which is of {bar_at.astimezone(NEW_YORK):%Y-%m-%d %H:%M} New York"
