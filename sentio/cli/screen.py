"""What `sentio watch` shows on a terminal: a line on the connection, and a table for each channel."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from sentio_client import Event, Gap, Item, Resumed, Snapshot, Status, Update

RATE_S = 10.0
MOST_ROWS = 500
MOST_NAME = 12
FRAME_LINES = 4  # of a table besides its rows, and the empty one before it
Cell = Callable[[Any], Text]


@dataclass(frozen=True)
class Layout:
    """How a channel is shown."""

    columns: Mapping[str, tuple[str, Cell]]
    """By heading: field and how it is written."""

    key: tuple[str, ...] = ()
    """Of which the newest is shown; none: all events, the newest first."""


def _text(value: Any) -> Text:
    # An event's text may hold anything; on a terminal it is one line.
    return Text("" if value is None else str(value).encode("unicode_escape").decode("ascii"))


def _name(value: Any) -> Text:
    """A text that gives way to figures where there is little room."""
    text = _text(value)
    text.truncate(MOST_NAME, overflow="ellipsis")
    text.no_wrap, text.overflow = True, "ellipsis"
    return text


def _time(value: datetime) -> Text:
    return Text(value.strftime("%H:%M:%S"), "cyan")


def _start(value: datetime) -> Text:
    return Text(value.strftime("%m-%d %H:%M"), "cyan")


def _number(value: Decimal | float | None) -> Text:
    if value is None:
        return Text("-", "dim")
    text = f"{Decimal(str(value)):,f}"
    return Text(text.rstrip("0").rstrip(".") if "." in text else text)


def _price(value: Decimal) -> Text:
    """At least cents."""
    whole, _, part = f"{value:,f}".partition(".")
    return Text(f"{whole}.{part.rstrip('0').ljust(2, '0')}")


def _money(value: Decimal | None) -> Text:
    return Text("-", "dim") if value is None else Text(f"{value:,.2f}")


def _change(value: Decimal | None) -> Text:
    """Money gained or lost."""
    if value is None:
        return Text("")
    return Text(f"{value:+,.2f}", "green" if value > 0 else "red" if value < 0 else "dim")


def _share(value: Decimal | float | None) -> Text:
    return Text("-", "dim") if value is None else Text(f"{float(value):.2%}")


def _word(value: str) -> Text:
    good, bad = {"BUY", "LONG", "running"}, {"SELL", "SHORT", "stopped"}
    text = _name(value)
    text.stylize("green" if value in good else "red" if value in bad else "")
    return text


LAYOUTS: Mapping[str, Layout] = {
    "trades": Layout(
        {
            "time": ("executed_at", _time),
            "symbol": ("symbol", _name),
            "side": ("side", _word),
            "quantity": ("quantity", _number),
            "price": ("price", _price),
            "p&l": ("realized_pnl", _change),
            "reason": ("reason", _text),
        }
    ),
    "signals": Layout(
        {
            "time": ("generated_at", _time),
            "symbol": ("symbol", _name),
            "direction": ("direction", _word),
            "probability": ("probability", _share),
            "confidence": ("confidence", _share),
        },
        ("symbol",),
    ),
    "positions": Layout(
        {
            "time": ("updated_at", _time),
            "account": ("account", _name),
            "symbol": ("symbol", _name),
            "quantity": ("quantity", _number),
            "entry": ("average_entry", _price),
            "mark": ("mark", _price),
            "unrealized": ("unrealized_pnl", _change),
        },
        ("account", "symbol"),
    ),
    "performance": Layout(
        {
            "time": ("minute_at", _time),
            "account": ("account", _name),
            "equity": ("equity", _money),
            "day": ("day_return", _share),
            "open": ("open_positions", _text),
            "realized": ("realized_pnl", _change),
            "unrealized": ("unrealized_pnl", _change),
        },
        ("account",),
    ),
    "bars": Layout(
        {
            "time": ("minute_at", _time),
            "symbol": ("symbol", _name),
            "open": ("open", _price),
            "high": ("high", _price),
            "low": ("low", _price),
            "close": ("close", _price),
            "volume": ("volume", _number),
        },
        ("symbol",),
    ),
    "prices": Layout(
        {
            "time": ("observed_at", _time),
            "symbol": ("symbol", _name),
            "price": ("price", _price),
            "source": ("source", _name),
        },
        ("symbol",),
    ),
    "engine": Layout(
        {
            "time": ("beat_at", _time),
            "engine": ("engine", _name),
            "version": ("version", _name),
            "mode": ("mode", _name),
            "state": ("state", _word),
        },
        ("engine",),
    ),
    "aggregates": Layout(
        {
            "start": ("start_at", _start),
            "window": ("kind", _text),
            "account": ("account", _name),
            "strategy": ("strategy", _name),
            "symbol": ("symbol", _name),
            "trips": ("trades", _text),
            "won": ("win_rate", _share),
            "p&l": ("realized_pnl", _change),
        },
        ("account", "strategy", "symbol", "kind", "start_at"),
    ),
}
_RIGHT = {_number, _price, _money, _change, _share}


@dataclass
class _Pane:
    """One channel."""

    channel: str
    layout: Layout
    rows: dict[Any, Event] = field(default_factory=dict)
    """Oldest first."""

    heard: int = 0
    note: Text = field(default_factory=Text)
    """What was last said of it besides events."""

    def add(self, event: Event) -> None:
        key = tuple(getattr(event, name) for name in self.layout.key) or object()
        former = self.rows.pop(key, None)
        # The same window may come again as it was.
        if former is not None and getattr(former, "revision", 0) > getattr(event, "revision", 0):
            event = former
        if getattr(event, "quantity", None) == 0:
            return  # no longer held
        self.rows[key] = event
        if len(self.rows) > MOST_ROWS:
            del self.rows[next(iter(self.rows))]

    def render(self, lines: int) -> RenderableType:
        heard = (f"  {self.heard:,} heard  ", "dim")
        title = Text.assemble((self.channel, "bold"), heard, self.note, no_wrap=True, overflow="ellipsis")
        table = Table(box=box.SIMPLE_HEAD, expand=True, show_edge=False, pad_edge=False)
        for heading, (_, cell) in self.layout.columns.items():
            last = heading == "reason"
            table.add_column(
                heading,
                justify="right" if cell in _RIGHT else "left",
                no_wrap=cell is not _name,  # those that may wrap are made narrow first; the texts in them do not wrap
                overflow="ellipsis",
                ratio=1 if last else None,
                min_width=8 if heading == "time" else None,
            )
        newest = list(self.rows.values())[: -lines - 1 : -1]
        for event in newest:
            table.add_row(*(cell(getattr(event, name)) for name, cell in self.layout.columns.values()))
        return Group(title, table)


class Screen:
    """Takes items, and shows the newest of them in as many lines as there are."""

    def __init__(self, url: str, channels: Sequence[str]) -> None:
        self._url = url
        self._panes = {name: _Pane(name, LAYOUTS[name.partition(".")[0]]) for name in channels}
        self._gaps = 0
        self._came: deque[tuple[float, int]] = deque()
        """Second, and how many updates came in it."""

    def take(self, item: Item) -> None:
        pane = self._panes[item.channel]
        match item:
            case Update():
                pane.add(item.event)
                pane.heard += 1
                self._count(time.monotonic())
            case Snapshot():
                pane.rows.clear()
                for event in item.events:
                    pane.add(event)
            case Gap():
                self._gaps += 1
                pane.note = Text(f"gap at {_now()}: {item.reason}, {item.message}", "bold red")
            case Resumed():
                pane.note = Text(f"resumed at {_now()}", "green")

    def render(self, status: Status, height: int) -> RenderableType:
        lines = max(1, (height - 1) // len(self._panes) - FRAME_LINES)
        tables = (part for pane in self._panes.values() for part in (Text(), pane.render(lines)))
        return Group(self._head(status), *tables)

    def _count(self, now_s: float) -> None:
        if self._came and self._came[-1][0] == int(now_s):
            self._came.append((int(now_s), self._came.pop()[1] + 1))
        else:
            self._came.append((int(now_s), 1))

    def _rate(self, now_s: float) -> float:
        """Updates a second, over the last ten."""
        while self._came and self._came[0][0] < now_s - RATE_S:
            self._came.popleft()
        return sum(count for _, count in self._came) / RATE_S

    def _head(self, status: Status) -> Text:
        mark = {"open": ("● ", "green"), "waiting": ("○ ", "red"), "closed": ("○ ", "dim")}
        line = Text.assemble(
            mark.get(status.state, ("○ ", "yellow")), self._url, "  ", no_wrap=True, overflow="ellipsis"
        )
        since_s = (datetime.now(UTC) - status.since).total_seconds()
        if status.state == "open":
            line.append(f"open {_duration(since_s)}  {self._rate(time.monotonic()):,.1f}/s")
            line.append(f"  {self._gaps} gaps", "bold red" if self._gaps else "dim")
            line.append(f"  {status.connections - 1} reconnects", "yellow" if status.connections > 1 else "dim")
        elif status.state == "waiting":
            line.append(f"again in {max(0.0, status.retry_in_s - since_s):.1f} s: ", "red")
        else:
            line.append(status.state, "yellow")
        return line.append(f"  {status.detail}" if status.detail else "", "red")


def _now() -> str:
    return datetime.now(UTC).strftime("%H:%M:%S")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
