"""What a day's statistics must be, computed from the file that is played and from nothing else.

A second opinion: plain loops over the log that share no code with the pipeline (nothing of schemas, producers
or consumers is imported), so that an error there cannot hide itself here. The roundings are those of the
stream: a price to ten digits, shares to eight, money to six, each once, half even.
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

EXACT = Context(prec=76, rounding=ROUND_HALF_EVEN)
SIX = Decimal("0.000001")
EIGHT = Decimal("0.00000001")
TEN = Decimal("0.0000000001")
NOT_USABLE = (ValueError, KeyError, TypeError, ArithmeticError)


@dataclass(frozen=True, slots=True)
class Figures:
    """A day of one account; None where the file does not say it. Amounts in USD."""

    account: str
    signals: int
    prices: int
    """One-minute bars."""
    fills: int
    round_trips: int
    """Fills with a P&L."""
    wins: int
    losses: int
    """Of the round trips; one of exactly zero is neither."""
    volume: Decimal
    """Shares filled."""
    notional: Decimal
    """Price times shares, rounded per fill to six digits."""
    fees: Decimal
    realized_pnl: Decimal
    """Rounded per fill to six digits."""
    realized_pnl_unrounded: Decimal
    """As the log writes it."""
    gross_profit: Decimal
    gross_loss: Decimal
    """Positive."""
    positions: int | None
    """States of positions: in a session one for every symbol and minute that it is held and one when it is
    gone, in a results file one for every symbol and minute that its position changes."""
    performance_minutes: int | None
    final_equity: Decimal | None
    max_drawdown: Decimal | None
    """Deepest fall of the minutes' equity below its running peak: a fraction of the peak, ten digits."""
    bad_lines: int
    """Lines left out: no JSON, without a field that is needed, or with a value that cannot be."""


def figures(path: Path) -> Figures:
    """The figures of a recorded session (a folder), of a results file (.json, .json.gz), or of events written
    as JSON lines (.jsonl, .jsonl.gz).

    Raises FileNotFoundError for a missing file, ValueError or KeyError for a results file of another form.
    """
    if path.is_dir():
        return _of_session(path)
    if ".jsonl" in path.suffixes[-2:]:
        return _of_events(path)
    return _of_results(path)


class _Fills:
    """Adds up fills."""

    def __init__(self) -> None:
        self.fills = self.round_trips = self.wins = self.losses = 0
        self.volume = self.notional = self.fees = Decimal(0)
        self.pnl = self.pnl_unrounded = self.profit = self.loss = Decimal(0)

    def add(self, price: Decimal, shares: Decimal, pnl: Decimal | None, fees: Decimal) -> None:
        if price <= 0 or shares <= 0:
            raise ValueError("a fill has a price and shares above zero")
        price, shares = EXACT.quantize(price, TEN), EXACT.quantize(shares, EIGHT)
        rounded = None if pnl is None else EXACT.quantize(pnl, SIX)
        self.fills += 1
        self.volume += shares
        self.notional += EXACT.quantize(EXACT.multiply(price, shares), SIX)
        self.fees += EXACT.quantize(fees, SIX)
        if pnl is None or rounded is None:
            return
        self.round_trips += 1
        self.pnl_unrounded += pnl
        self.pnl += rounded
        if rounded > 0:
            self.wins += 1
            self.profit += rounded
        if rounded < 0:
            self.losses += 1
            self.loss -= rounded

    def figures(
        self,
        account: str,
        equity: list[Decimal],
        *,
        signals: int = 0,
        prices: int = 0,
        positions: int | None = None,
        bad_lines: int = 0,
    ) -> Figures:
        return Figures(
            account=account,
            signals=signals,
            prices=prices,
            fills=self.fills,
            round_trips=self.round_trips,
            wins=self.wins,
            losses=self.losses,
            volume=self.volume,
            notional=self.notional,
            fees=self.fees,
            realized_pnl=self.pnl,
            realized_pnl_unrounded=self.pnl_unrounded,
            gross_profit=self.profit,
            gross_loss=self.loss,
            positions=positions,
            performance_minutes=len(equity) or None,
            final_equity=equity[-1] if equity else None,
            max_drawdown=_max_drawdown(equity) if equity else None,
            bad_lines=bad_lines,
        )


def _of_session(folder: Path) -> Figures:
    fills, signals, positions, bad = _Fills(), 0, 0, 0
    first_ms = None
    for line in _lines(_either(folder / "signals.jsonl")):
        try:
            signal = _json(line)
            if signal["signal"] not in {0, 1, 2} or not all(
                0 <= signal[name] <= 1 for name in ("probability", "confidence")
            ):
                raise ValueError("no such signal")
            first_ms = first_ms or signal["timestamp_ms"]
            signals += 1
        except NOT_USABLE:
            bad += 1
    for line in _lines(_either(folder / "trades.jsonl")):
        try:
            fill = _json(line)
            pnl = {"ENTRY": None, "EXIT": fill.get("pnl")}[fill["action"]]
            if fill["action"] == "EXIT" and pnl is None:
                raise ValueError("an exit has a pnl")
            fills.add(Decimal(fill["exec_price"]), Decimal(fill["shares"]), pnl, Decimal(0))
        except NOT_USABLE:
            bad += 1
    equity: list[Decimal] = []
    held: set[str] = set()
    rows = _either(folder / "positions.jsonl")
    for line in _lines(rows) if rows.is_file() else ():
        try:
            row = _json(line)
            now = {position["symbol"] for position in row["positions"]}
            equity.append(EXACT.quantize(Decimal(row["current_equity"]), SIX))
            positions += len(now) + len(held - now)
            held = now
        except NOT_USABLE:
            bad += 1
    account = f"paper-{_day(folder, first_ms)}"
    return fills.figures(account, equity, signals=signals, positions=positions if equity else None, bad_lines=bad)


def _of_results(path: Path) -> Figures:
    """The engine steps through the bars by index, so that a trip's time only tells which bar it was."""
    results = _json(b"".join(_lines(path)))
    bars = results["price_data"]
    index = {s: {bar["timestamp_ms"]: i for i, bar in enumerate(series)} for s, series in bars.items()}
    capital = Decimal(results["metadata"]["initial_capital"])
    fills = _Fills()
    trips: list[tuple[str, Decimal, Decimal, int, int | None, Decimal]] = []
    changes = set()
    for trip in results["trades"]:
        symbol, shares, bought = trip["symbol"], Decimal(trip["shares"]), Decimal(trip["entry_price"])
        entry = index[symbol][trip["entry_time_ms"]]
        fills.add(bought, shares, None, Decimal(0))
        changes.add((symbol, entry))
        if trip.get("exit_time_ms") is None:
            trips.append((symbol, shares, bought, entry, None, Decimal(0)))
            continue
        sold, pnl = Decimal(trip["exit_price"]), Decimal(trip["pnl"])
        fills.add(sold, shares, pnl, (sold - bought) * shares - pnl)
        leave = index[symbol][trip["exit_time_ms"]]
        changes.add((symbol, leave))
        trips.append((symbol, shares, bought, entry, leave, pnl))
    equity = []
    first = results["config"]["min_bars_to_learn"]
    for step in range(first, first + results["config"]["bars_per_day"]):
        worth = capital
        for symbol, shares, bought, entry, left, pnl in trips:
            if left is not None and left <= step:
                worth += pnl
            elif entry <= step:
                mark = bars[symbol][min(step, len(bars[symbol]) - 1)]["close"]
                worth += (mark - bought) * shares
        equity.append(EXACT.quantize(worth, SIX))
    account = f"paper-{results['metadata']['start_date']}"
    return fills.figures(account, equity, prices=sum(map(len, bars.values())), positions=len(changes))


def _of_events(path: Path) -> Figures:
    fills, equity = _Fills(), []
    counts = dict.fromkeys(("SignalGenerated", "PriceBar", "PositionUpdated"), 0)
    account = ""
    for line in _lines(path):
        event = _json(line)
        if event["type"] in counts:
            counts[event["type"]] += 1
        elif event["type"] == "TradeExecuted":
            pnl = event["realized_pnl"]
            fills.add(
                Decimal(event["price"]),
                Decimal(event["quantity"]),
                None if pnl is None else Decimal(pnl),
                Decimal(event["fees"]),
            )
        elif event["type"] == "PerformanceMinute":
            equity.append(Decimal(event["equity"]))
            account = event["account"]
    return fills.figures(
        account,
        equity,
        signals=counts["SignalGenerated"],
        prices=counts["PriceBar"],
        positions=counts["PositionUpdated"],
    )


def _max_drawdown(equity: Iterable[Decimal]) -> Decimal:
    peak = deepest = Decimal(0)
    for close in equity:
        peak = max(peak, close)
        deepest = max(deepest, EXACT.divide(peak - close, peak))
    return EXACT.quantize(deepest, TEN)


def _either(plain: Path) -> Path:
    return plain if plain.is_file() else plain.with_name(f"{plain.name}.gz")


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        yield from (line for line in file if line.strip())


def _json(text: bytes) -> Any:
    return json.loads(text, parse_float=Decimal)


def _day(folder: Path, first_ms: int | None) -> str:
    try:
        return str(date.fromisoformat(folder.resolve().name))
    except ValueError:
        at = datetime.fromtimestamp((first_ms or 0) / 1000, UTC)
        return str(at.astimezone(ZoneInfo("America/New_York")).date())
