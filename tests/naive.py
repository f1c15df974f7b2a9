"""Statistics by plain loops over distinct events, in Python's decimals and fractions: what the tables are held against."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from schemas.amounts import money, product
from schemas.events import PerformanceMinute, TradeExecuted

NEW_YORK = ZoneInfo("America/New_York")
KINDS = ("MINUTE", "DAY", "WEEK", "MONTH")

Window = tuple[str, str, str, str, datetime]
"""Account, strategy, symbol, kind, start."""


@dataclass(frozen=True)
class Numbered:
    """An event with the header that its publisher gave it."""

    event: TradeExecuted | PerformanceMinute
    producer: str
    sequence: int


@dataclass
class _Collected:
    fills: list[TradeExecuted] = field(default_factory=list)
    minutes: list[Numbered] = field(default_factory=list)


def start_of(kind: str, at: datetime) -> datetime:
    """Where the window lies that this time is in."""
    local = at.astimezone(NEW_YORK)
    day = datetime(local.year, local.month, local.day, tzinfo=NEW_YORK)
    match kind:
        case "MINUTE":
            return at.replace(second=0, microsecond=0)
        case "DAY":
            return day
        case "WEEK":
            return (day.replace(tzinfo=None) - timedelta(days=day.weekday())).replace(tzinfo=NEW_YORK)
    return day.replace(day=1)


def statistics(events: Iterable[Numbered]) -> dict[Window, dict[str, Any]]:
    """Every figure of every window."""
    windows: dict[Window, _Collected] = defaultdict(_Collected)
    for each in events:
        event = each.event
        for kind in KINDS:
            if isinstance(event, PerformanceMinute):
                windows[event.account, "*", "*", kind, start_of(kind, event.minute_at)].minutes.append(each)
                continue
            for strategy, symbol in ((event.strategy, event.symbol), (event.strategy, "*"), ("*", "*")):
                windows[event.account, strategy, symbol, kind, start_of(kind, event.executed_at)].fills.append(event)
    return {
        window: _of_fills(found.fills) | _of_minutes(found.minutes, drawn_down=window[3] != "MINUTE")
        for window, found in windows.items()
    }


def _of_fills(fills: Sequence[TradeExecuted]) -> dict[str, Any]:
    pnls = [fill.realized_pnl for fill in fills if fill.realized_pnl is not None]
    wins, losses = [pnl for pnl in pnls if pnl > 0], [-pnl for pnl in pnls if pnl < 0]
    zero = Decimal(0)
    return {
        "fills": len(fills),
        "trades": len(pnls),
        "wins": len(wins),
        "losses": len(losses),
        "volume": sum((fill.quantity for fill in fills), zero),
        "notional": sum((money(product(fill.price, fill.quantity)) for fill in fills), zero),
        "fees": sum((fill.fees for fill in fills), zero),
        "realized_pnl": sum(pnls, zero),
        "gross_profit": sum(wins, zero),
        "gross_loss": sum(losses, zero),
        "win_rate": _ratio(len(wins), len(pnls), 10),
        "average_win": _ratio(sum(wins), len(wins), 6),
        "average_loss": _ratio(sum(losses), len(losses), 6),
        "profit_factor": _announceable(_ratio(sum(wins), sum(losses), 10)),
    }


def _of_minutes(minutes: Sequence[Numbered], *, drawn_down: bool) -> dict[str, Any]:
    names = ("equity_open", "equity_high", "equity_low", "equity_close", "equity_return", "max_drawdown")
    if not minutes:
        return dict.fromkeys(names)
    states = sorted((each.event.minute_at, each.producer, each.sequence, each.event.equity) for each in minutes)  # type: ignore[union-attr] # all of that kind
    equity = [state[3] for state in states]
    gain = _announceable(_ratio(equity[-1] - equity[0], equity[0], 10))
    last_of_minute = {start_of("MINUTE", state[0]): state[3] for state in states}
    drawdown = _drawdown(list(last_of_minute.values())) if drawn_down else None
    return dict(zip(names, (equity[0], max(equity), min(equity), equity[-1], gain, drawdown), strict=True))


def _drawdown(closes: Sequence[Decimal]) -> Decimal | None:
    peak = Decimal(0)
    falls = []
    for close in closes:
        peak = max(peak, close)
        if peak > 0:
            falls.append(Fraction(peak - close) / Fraction(peak))
    return _rounded(max(falls), 10) if falls else None


def _ratio(part: Decimal | int, whole: Decimal | int, places: int) -> Decimal | None:
    return _rounded(Fraction(part) / Fraction(whole), places) if whole else None


def _announceable(ratio: Decimal | None) -> Decimal | None:
    return ratio if ratio is not None and abs(ratio) < 10**18 else None


def _rounded(exact: Fraction, places: int) -> Decimal:
    return Decimal(round(exact * 10**places)).scaleb(-places)  # round() of a fraction is half even
