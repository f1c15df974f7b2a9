"""Plays a recorded engine session: the log files of one trading day become the events of that day, in order.

Lives here: reading, checking and ordering the lines, and the book that the fills make. Numbering and sending
the events is the publisher's.

Where a line belongs in engine time: signals and fills say it themselves; row `bar` N of the positions belongs
to the N-th distinct time of the signals. A line that cannot be used has the place of its own time where that
can be read, else the minute of the line before it in its file (before everything if it is the first). The
play stops at that place: what precedes it in engine time, of all three files, has been yielded, and nothing
behind it. What is yielded without `skip_bad` is therefore always the beginning of what is yielded with it.

What the engine logged is carried as it is, its errors too. It values a SHORT as if it were LONG, in
`current_equity` and in the `pnl` of the exit, yet not in the per-share `pnl` of its positions: while a short
is held, the account's unrealized P&L is not the sum of its positions'.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import groupby
from pathlib import Path
from typing import Literal, NamedTuple
from zoneinfo import ZoneInfo

from producers.fields import Fields, LineError, contents, refusal
from schemas import amounts
from schemas.events import Event, PerformanceMinute, PositionUpdated, SignalGenerated, TradeExecuted
from sentio.errors import NotPlayable

STRATEGY = "rotation"
INITIAL_CAPITAL = Decimal(100_000)
"""USD with which every recorded day starts again."""

NEW_YORK = ZoneInfo("America/New_York")
NONE = Decimal(0)

DIRECTIONS: Mapping[int, Literal["NEUTRAL", "LONG", "SHORT"]] = {0: "NEUTRAL", 1: "LONG", 2: "SHORT"}
BUY_OR_SELL: Mapping[int, Literal["BUY", "SELL"]] = {1: "BUY", -1: "SELL"}
SIGNS = {"LONG": 1, "SHORT": -1}


def events(folder: Path, *, skip_bad: bool = False, on_bad: Callable[[str], None] | None = None) -> Iterator[Event]:
    """The events of a recorded day, in engine time: per minute its signals and fills in the order of their
    files, the positions, then the account. The same files always give the same events in the same order.

    A line that cannot be used raises NotPlayable at its place in engine time, after everything before it;
    with `skip_bad` it is told to `on_bad` in one line and left out. Without a positions file there are
    neither positions nor performance, since nothing else tells the marks.

    Raises NotPlayable at once for a file that is missing or unreadable.
    """
    found, day = files(folder), trading_day(folder)
    return _play(day, _lines(found, day), refusal(skip_bad=skip_bad, on_bad=on_bad))


def files(folder: Path) -> dict[str, Path]:
    """The files of a session that are played, by kind; a plain file is taken before a compressed one.

    Raises NotPlayable when the signals or trades are missing.
    """
    found = {}
    for kind in ("signals", "trades", "positions"):
        plain, packed = folder / f"{kind}.jsonl", folder / f"{kind}.jsonl.gz"
        path = next((path for path in (plain, packed) if path.is_file()), None)
        if path is not None:
            found[kind] = path
        elif kind != "positions":
            raise NotPlayable(f"{plain} is missing, and so is {packed.name}")
    return found


def trading_day(folder: Path) -> date:
    """The day in New York: the folder's name, or what its first readable signal says."""
    try:
        return date.fromisoformat(folder.resolve().name)
    except ValueError:
        path = files(folder)["signals"]
    for text in contents(path).splitlines():
        try:
            return Fields.parse(text).time("timestamp_ms").astimezone(NEW_YORK).date()
        except LineError:
            continue
    raise NotPlayable(f"{path} has no usable line; name the folder by its day, like 2025-10-10")


@dataclass(frozen=True, slots=True)
class _Fill:
    symbol: str
    action: Literal["ENTRY", "EXIT"]
    sign: int
    """Of an entry: 1 long, -1 short. An exit's `direction` says nothing of its position: 0."""
    quantity: Decimal
    price: Decimal
    pnl: Decimal | None
    reason: str


@dataclass(frozen=True, slots=True)
class _Held:
    symbol: str
    sign: int
    entry: Decimal
    mark: Decimal
    pnl_per_share: Decimal


@dataclass(frozen=True, slots=True)
class _Row:
    equity: Decimal
    held: tuple[_Held, ...]


class _Line(NamedTuple):
    """A line at its place: sorts by minute, kind and number."""

    minute: datetime
    kind: int
    number: int
    path: Path
    at: datetime
    content: SignalGenerated | _Fill | _Row | LineError


def _lines(found: Mapping[str, Path], day: date) -> list[_Line]:

    def own_time(fields: Fields) -> datetime:
        at = fields.time("timestamp_ms")
        if at.astimezone(NEW_YORK).date() != day:
            raise LineError(f"timestamp_ms is {at:%Y-%m-%d %H:%M} UTC, not within {day} in New York")
        return at

    signals = _read(0, found["signals"], own_time, _signal)
    trades = _read(1, found["trades"], own_time, _fill)
    minutes = sorted({line.at for line in signals if not isinstance(line.content, LineError)})

    def time_of_bar(fields: Fields) -> datetime:
        bar = fields.integer("bar", 1, 10**6)
        if bar > len(minutes):
            raise LineError(f"bar is {bar}, but the signals have {len(minutes)} minutes")
        return minutes[bar - 1]

    rows = _read(2, found["positions"], time_of_bar, _row) if "positions" in found else []
    return sorted(signals + trades + rows, key=lambda line: line[:3])


def _read(
    kind: int,
    path: Path,
    time: Callable[[Fields], datetime],
    content: Callable[[Fields, datetime], SignalGenerated | _Fill | _Row],
) -> list[_Line]:
    """The lines of one file, blank ones left out."""
    lines = []
    at = datetime.min.replace(tzinfo=UTC)
    for number, text in enumerate(contents(path).split(b"\n"), 1):
        if not text.strip():
            continue
        said: SignalGenerated | _Fill | _Row | LineError
        try:
            fields = Fields.parse(text)
            at = time(fields)
            said = content(fields, at)
        except LineError as error:
            said = error
        lines.append(_Line(at.replace(second=0, microsecond=0), kind, number, path, at, said))
    return lines


def _signal(fields: Fields, at: datetime) -> SignalGenerated:
    return SignalGenerated(
        symbol=fields.text("symbol"),
        direction=DIRECTIONS[fields.integer("signal", 0, 2)],
        probability=fields.fraction("probability"),
        confidence=fields.fraction("confidence"),
        bar_id=fields.integer("bar_id", -(2**63), 2**63 - 1),
        generated_at=at,
    )


def _fill(fields: Fields, _at: datetime) -> _Fill:
    action = fields.get("action")
    if action not in {"ENTRY", "EXIT"}:
        raise LineError(f"action is {action!r}, not ENTRY or EXIT")
    entry = action == "ENTRY"
    return _Fill(
        symbol=fields.text("symbol"),
        action="ENTRY" if entry else "EXIT",
        sign=_sign(fields) if entry else 0,
        quantity=fields.quantity("shares"),
        price=fields.price("exec_price"),
        pnl=None if entry else amounts.money(fields.money("pnl")),
        reason=fields.text("reason", empty=True),
    )


def _row(fields: Fields, _at: datetime) -> _Row:
    held = fields.get("positions")
    if not isinstance(held, list):
        raise LineError("positions is not a list")
    row = _Row(amounts.money(fields.money("current_equity")), tuple(_held(Fields(each)) for each in held))
    if len({each.symbol for each in row.held}) < len(held):
        raise LineError("positions names a symbol twice")
    return row


def _held(fields: Fields) -> _Held:
    return _Held(
        symbol=fields.text("symbol"),
        sign=_sign(fields),
        entry=fields.price("entry_price"),
        mark=fields.price("current_price"),
        pnl_per_share=fields.number("pnl", -(10**9), 10**9),
    )


def _sign(fields: Fields) -> int:
    direction = fields.text("direction")
    if direction not in SIGNS:
        raise LineError(f"direction is {direction!r}, not LONG or SHORT")
    return SIGNS[direction]


def _play(day: date, lines: list[_Line], refuse: Callable[[str], None]) -> Iterator[Event]:
    book = _Book(f"paper-{day}")
    for minute, together in groupby(lines, key=lambda line: line.minute):
        for line in together:
            try:
                yield from book.events(line)
            except LineError as error:
                refuse(f"{line.path} line {line.number}: {error}")
        yield from book.closures(minute)


@dataclass(slots=True)
class _Book:
    """What the fills so far amount to. An unusable line changes nothing and yields nothing."""

    account: str
    held: dict[str, Decimal] = field(default_factory=dict)
    """Signed shares by symbol, none of them zero."""
    realized: dict[str, Decimal] = field(default_factory=dict)
    """USD by symbol, summed as the fills carry it."""
    marks: dict[str, Decimal] = field(default_factory=dict)
    """Last price of every symbol that was yielded as held and not yet as closed."""

    def events(self, line: _Line) -> list[Event]:
        match line.content:
            case LineError():
                raise line.content
            case SignalGenerated():
                return [line.content]
            case _Fill():
                return [self.fill(line.content, line.at)]
            case _Row():
                return self.row(line.content, line.at)

    def fill(self, fill: _Fill, at: datetime) -> TradeExecuted:
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

    def row(self, row: _Row, at: datetime) -> list[Event]:
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
