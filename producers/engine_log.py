"""What the lines of an engine's log say, and the book that its fills make. Knows nothing of files and their order.

What the engine logged is carried as it is, its errors too. It values a SHORT as if it were LONG, in
`current_equity` and in the `pnl` of the exit, yet not in the per-share `pnl` of its positions: while a short
is held, the account's unrealized P&L is not the sum of its positions'.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal

from producers.fields import Fields, LineError, shown
from schemas import amounts
from schemas.events import Event, PerformanceMinute, PositionUpdated, SignalGenerated, TradeExecuted

STRATEGY = "rotation"
INITIAL_CAPITAL = Decimal(100_000)
"""USD with which every recorded day starts again."""

NONE = Decimal(0)

DIRECTIONS: Mapping[int, Literal["NEUTRAL", "LONG", "SHORT"]] = {0: "NEUTRAL", 1: "LONG", 2: "SHORT"}
BUY_OR_SELL: Mapping[int, Literal["BUY", "SELL"]] = {1: "BUY", -1: "SELL"}
SIGNS = {"LONG": 1, "SHORT": -1}


@dataclass(frozen=True, slots=True)
class Fill:
    """A line of trades."""

    symbol: str
    action: Literal["ENTRY", "EXIT"]
    sign: int
    """Of an entry: 1 long, -1 short. An exit's `direction` says nothing of its position: 0."""
    quantity: Decimal
    price: Decimal
    pnl: Decimal | None
    reason: str


@dataclass(frozen=True, slots=True)
class Held:
    """A position of a `Row`."""

    symbol: str
    sign: int
    entry: Decimal
    mark: Decimal
    pnl_per_share: Decimal


@dataclass(frozen=True, slots=True)
class Row:
    """A line of positions."""

    equity: Decimal
    held: tuple[Held, ...]


Content = SignalGenerated | Fill | Row | LineError
"""Of a line."""


def signal_of(fields: Fields, at: datetime) -> SignalGenerated:
    return SignalGenerated(
        symbol=fields.text("symbol"),
        direction=DIRECTIONS[fields.integer("signal", 0, 2)],
        probability=fields.fraction("probability"),
        confidence=fields.fraction("confidence"),
        bar_id=fields.integer("bar_id", -(2**63), 2**63 - 1),
        generated_at=at,
    )


def fill_of(fields: Fields, _at: datetime) -> Fill:
    action = fields.get("action")
    # Not a set: what was logged may be a list, which has no hash.
    if action not in ("ENTRY", "EXIT"):
        raise LineError(f"action is {shown(action)}, not ENTRY or EXIT")
    entry = action == "ENTRY"
    return Fill(
        symbol=fields.text("symbol"),
        action="ENTRY" if entry else "EXIT",
        sign=_sign_of(fields) if entry else 0,
        quantity=fields.quantity("shares"),
        price=fields.price("exec_price"),
        pnl=None if entry else amounts.money(fields.money("pnl")),
        reason=fields.text("reason", empty=True),
    )


def row_of(fields: Fields, _at: datetime) -> Row:
    held = fields.get("positions")
    if not isinstance(held, list):
        raise LineError("positions is not a list")
    row = Row(amounts.money(fields.money("current_equity")), tuple(_held_of(Fields(each)) for each in held))
    if len({each.symbol for each in row.held}) < len(held):
        raise LineError("positions names a symbol twice")
    return row


def _held_of(fields: Fields) -> Held:
    return Held(
        symbol=fields.text("symbol"),
        sign=_sign_of(fields),
        entry=fields.price("entry_price"),
        mark=fields.price("current_price"),
        pnl_per_share=fields.number("pnl", -(10**9), 10**9),
    )


def _sign_of(fields: Fields) -> int:
    direction = fields.text("direction")
    if direction not in SIGNS:
        raise LineError(f"direction is {shown(direction)}, not LONG or SHORT")
    return SIGNS[direction]


@dataclass(slots=True)
class Book:
    """What the fills so far amount to. An unusable line changes nothing and yields nothing."""

    account: str
    held: dict[str, Decimal] = field(default_factory=dict)
    """Signed shares by symbol, none of them zero."""
    realized: dict[str, Decimal] = field(default_factory=dict)
    """USD by symbol, summed as the fills carry it."""
    marks: dict[str, Decimal] = field(default_factory=dict)
    """Last price of every symbol that was yielded as held and not yet as closed."""

    @classmethod
    def of(cls, day: date) -> "Book":
        """Of the account of a day: each begins with nothing."""
        return cls(f"paper-{day}")

    def events(self, content: Content, at: datetime) -> list[Event]:
        """Those of a line of that time; raises `LineError`."""
        match content:
            case LineError():
                raise content
            case SignalGenerated():
                return [content]
            case Fill():
                return [self.fill(content, at)]
            case Row():
                return self.row(content, at)

    def fill(self, fill: Fill, at: datetime) -> TradeExecuted:
        before = self.held.get(fill.symbol, NONE)
        sign = fill.sign or (-1 if before > 0 else 1)
        if fill.action == "ENTRY" and before * sign < 0:
            raise LineError(f"enters {fill.symbol} against the {before.normalize():f} shares held")
        if fill.action == "EXIT" and fill.quantity > abs(before):
            raise LineError(f"exits more {fill.symbol} than the {abs(before).normalize():f} shares held")
        self.held[fill.symbol] = before + sign * fill.quantity
        if not self.held[fill.symbol]:
            del self.held[fill.symbol]
        if fill.pnl is not None:
            self.realized[fill.symbol] = self.realized.get(fill.symbol, NONE) + fill.pnl
        if fill.symbol in self.marks:
            self.marks[fill.symbol] = fill.price
        return TradeExecuted(
            account=self.account,
            strategy=STRATEGY,
            symbol=fill.symbol,
            action=fill.action,
            side=BUY_OR_SELL[sign],
            quantity=fill.quantity,
            price=fill.price,
            realized_pnl=fill.pnl,
            fees=amounts.money(0),
            reason=fill.reason,
            executed_at=at,
        )

    def row(self, row: Row, at: datetime) -> list[Event]:
        for each in row.held:
            if self.held.get(each.symbol, NONE) * each.sign <= 0:
                raise LineError(f"positions holds {each.symbol}, which no fill opened that way")
        # What the engine no longer holds is gone, even if the line of its exit could not be used.
        self.held = {each.symbol: self.held[each.symbol] for each in row.held}
        events: list[Event] = list(self.closures(at))
        for each in row.held:
            self.marks[each.symbol] = each.mark
            gain = amounts.money(amounts.product(each.pnl_per_share, abs(self.held[each.symbol])))
            events.append(self.position(each.symbol, each.entry, gain, at))
        realized = sum(self.realized.values(), NONE)
        account = PerformanceMinute(
            account=self.account,
            equity=row.equity,
            day_return=amounts.price(row.equity / INITIAL_CAPITAL - 1),
            open_positions=len(row.held),
            realized_pnl=amounts.money(realized),
            unrealized_pnl=row.equity - INITIAL_CAPITAL - realized,
            minute_at=at,
        )
        return [*events, account]

    def closures(self, at: datetime) -> Iterator[PositionUpdated]:
        """A last event, of quantity 0, for every symbol gone since it was yielded as held."""
        for symbol in [symbol for symbol in self.marks if symbol not in self.held]:
            yield self.position(symbol, NONE, NONE, at)
            del self.marks[symbol]

    def position(self, symbol: str, entry: Decimal, unrealized: Decimal, at: datetime) -> PositionUpdated:
        return PositionUpdated(
            account=self.account,
            symbol=symbol,
            quantity=self.held.get(symbol, amounts.quantity(0)),
            average_entry=amounts.price(entry),
            mark=self.marks[symbol],
            unrealized_pnl=amounts.money(unrealized),
            realized_pnl=amounts.money(self.realized.get(symbol, NONE)),
            updated_at=at,
        )
