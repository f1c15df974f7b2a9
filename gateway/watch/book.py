"""What an account did on its newest trading day, folded from events: the same whoever the events were heard from."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import reduce
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from schemas.amounts import EXACT, money, price, product

NEW_YORK = ZoneInfo("America/New_York")
MOST_ACCOUNTS = 50
"""The one that was silent for longest is forgotten first: of it no more is kept than day and state."""

MOST_FORGOTTEN = 5_000
"""Of which that is kept; one beyond it that is heard again counts as never heard."""

BACK_DAYS = 3
"""How many days before today the log is read from: on Monday Friday is still known."""

MOST_PRODUCERS = 20_000
FUTURE = timedelta(hours=24)
"""An event further ahead comes from a clock gone wrong and begins no day."""

NONE = Decimal(0)
Order = tuple[datetime, str, int]
"""Event time, producer, sequence: which of two states is newer."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One account on one day, by one who knows; None: they do not know it."""

    equity: Decimal | None = None
    drawdown: Decimal | None = None
    """Deepest fall of the minute closes below their running peak, as a fraction of the peak."""

    open_positions: int | None = None
    exposure: Decimal | None = None
    """Sum of quantity times mark, without signs, of the positions that were reported on the day, USD."""

    fills: int | None = None
    realized_pnl: Decimal | None = None
    notional: Decimal | None = None
    """Sum of price times quantity of the fills, USD; each is rounded once, half even, as it is in statistics."""

    newest_trade: str | None = None
    """Its event_id."""


@dataclass(slots=True)
class Account:
    """The newest day of one account."""

    day: date
    heard_at: datetime
    fills: int = 0
    realized_pnl: Decimal = NONE
    notional: Decimal = NONE
    newest_trade: tuple[datetime, UUID] | None = None
    newest: tuple[Order, Decimal, int] | None = None
    """Order, equity and open positions of the newest minute."""

    closes: dict[datetime, tuple[Order, Decimal]] = field(default_factory=dict)
    positions: dict[str, tuple[Order, Decimal]] = field(default_factory=dict)
    partial: bool = False
    """It was forgotten on this day: its state is known, but not all that was heard of it."""

    _drawdown: Decimal | None = None
    _stale: bool = False

    @property
    def span(self) -> tuple[datetime, datetime]:
        """First instant of the day and of the next."""
        return start_of(self.day), start_of(self.day + timedelta(days=1))

    def trade(self, row: Mapping[str, Any]) -> None:
        self.fills += 1
        self.realized_pnl = EXACT.add(self.realized_pnl, row["realized_pnl"] or NONE)
        self.notional = EXACT.add(self.notional, money(product(row["price"], row["quantity"])))
        key = (row["executed_at"], as_uuid(row["event_id"]))
        self.newest_trade = max(self.newest_trade or key, key)

    def performance(self, row: Mapping[str, Any]) -> None:
        at: datetime = row["minute_at"]
        order = (at, row["producer"], row["sequence"])
        if self.newest is None or order > self.newest[0]:
            self.newest = (order, row["equity"], row["open_positions"])
        minute = at.replace(second=0, microsecond=0)
        if minute not in self.closes or order > self.closes[minute][0]:
            self.closes[minute] = (order, row["equity"])
            self._stale = True

    def position(self, row: Mapping[str, Any]) -> None:
        order = (row["updated_at"], row["producer"], row["sequence"])
        held = self.positions.get(row["symbol"])
        if held is None or order > held[0]:
            self.positions[row["symbol"]] = (order, abs(product(row["quantity"], row["mark"])))

    def state(self) -> "Account":
        """All that is kept of it once it is forgotten."""
        return Account(self.day, self.heard_at, newest_trade=self.newest_trade, newest=self.newest, partial=True)

    def figures(self) -> Figures:
        return Figures(
            equity=self.newest[1] if self.newest else None,
            drawdown=self._deepest(),
            open_positions=self.newest[2] if self.newest else None,
            exposure=reduce(EXACT.add, (value for _, value in self.positions.values()), NONE),
            fills=self.fills,
            realized_pnl=self.realized_pnl,
            notional=self.notional,
            newest_trade=str(self.newest_trade[1]) if self.newest_trade else None,
        )

    def _deepest(self) -> Decimal | None:
        if self._stale:
            self._drawdown = drawdown([equity for _, (_, equity) in sorted(self.closes.items())])
            self._stale = False
        return self._drawdown


class Book:
    """Accounts by name. Repeats (a sequence at or below the producer's last in the partition) are dropped."""

    def __init__(self) -> None:
        self.accounts: OrderedDict[str, Account] = OrderedDict()
        self._forgotten: OrderedDict[str, Account] = OrderedDict()
        self._marks: OrderedDict[tuple[str, int, str], int] = OrderedDict()

    @property
    def partial(self) -> frozenset[str]:
        """Accounts of whose day not everything is known."""
        return frozenset(name for name, account in self.accounts.items() if account.partial) | self._forgotten.keys()

    def take(self, topic: str, partition: int, row: Mapping[str, Any], now: datetime) -> bool:
        """One event of trades.executed, positions.updated or performance.minute, as a row of its columns.

        Whether it was no repeat.
        """
        if not self._is_new((topic, partition, row["producer"]), row["sequence"]):
            return False
        match topic:
            case "trades.executed":
                at, fold = row["executed_at"], Account.trade
            case "performance.minute":
                at, fold = row["minute_at"], Account.performance
            case _:
                at, fold = row["updated_at"], Account.position
        account = self._account(row["account"], at, now)
        if account is not None:
            fold(account, row)
        return True

    def _account(self, name: str, at: datetime, now: datetime) -> Account | None:
        """The account, if the event is of its newest day."""
        if at > now + FUTURE or "\x00" in name:  # no table can hold such a name
            return None
        day = day_of(at)
        found = self.accounts.get(name) or self._forgotten.get(name)
        if found is None or day > found.day:
            found = Account(day, now)
        elif day < found.day:
            return None
        found.heard_at = now
        self.accounts[name] = found
        self.accounts.move_to_end(name)
        self._forgotten.pop(name, None)
        while len(self.accounts) > MOST_ACCOUNTS:
            forgotten, account = self.accounts.popitem(last=False)
            self._forgotten[forgotten] = account.state()
        while len(self._forgotten) > MOST_FORGOTTEN:
            self._forgotten.popitem(last=False)
        return found

    def _is_new(self, key: tuple[str, int, str], sequence: int) -> bool:
        if sequence <= self._marks.get(key, -1):
            return False
        self._marks[key] = sequence
        self._marks.move_to_end(key)
        while len(self._marks) > MOST_PRODUCERS:
            self._marks.popitem(last=False)
        return True


def drawdown(closes: list[Decimal]) -> Decimal | None:
    """Deepest fall below the running peak, as a fraction of it to ten places; None without a peak above zero."""
    peak: Decimal | None = None
    deepest: Decimal | None = None
    for close in closes:
        peak = close if peak is None else max(peak, close)
        if peak > 0:
            deepest = max(deepest or NONE, EXACT.divide(peak - close, peak))
    return None if deepest is None else price(deepest)


def day_of(at: datetime) -> date:
    """Trading day, of New York."""
    return at.astimezone(NEW_YORK).date()


def start_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=NEW_YORK).astimezone(UTC)


def beginning(now: datetime | None = None) -> datetime:
    """From where on the log is read by who begins now."""
    return start_of(day_of(now or datetime.now(UTC)) - timedelta(days=BACK_DAYS))


def as_uuid(value: bytes | UUID) -> UUID:
    return UUID(bytes=value) if isinstance(value, bytes) else value
