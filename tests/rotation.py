"""The engine of examples/engine-cpp for tests: built under the sanitizers, run, and what is in its ring added up."""

import gzip
import json
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path
from typing import Any

from producers.sidecar.ring import Ring
from schemas.columns import to_events
from schemas.events import PerformanceMinute, PositionUpdated, TradeExecuted
from tests.engines import LIMIT_S, STRICT, needs
from tests.written import columns

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "examples" / "engine-cpp"
BUILD = ROOT / ".sentio" / "engine-cpp-tests"
SANITIZED = (
    "-O0",
    "-g1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)  # optimized, it builds for longer
CAPITAL = Decimal(100_000)
SIX, TEN = Decimal("0.000001"), Decimal("0.0000000001")

Figures = dict[str, Any]
"""Of an account, by the names that the engine's own totals have."""


def built() -> Path:
    """The program as a user builds it, but for the sanitizers and warnings that are errors; kept from run to run."""
    needs("cmake")
    needs("c++")
    flags = f"-DCMAKE_CXX_FLAGS={' '.join([*STRICT, *SANITIZED])}"
    unity = ("-DCMAKE_UNITY_BUILD=ON", "-DCMAKE_UNITY_BUILD_BATCH_SIZE=0")  # takes half the time
    for step in (("-S", SOURCES, "-B", BUILD, "-DCMAKE_BUILD_TYPE=None", flags, *unity), ("--build", BUILD)):
        command = ["cmake", *map(str, step)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        assert done.returncode == 0, done.stdout + done.stderr
    return BUILD / "rotation"


def run(program: Path, *arguments: object, status: int = 0) -> tuple[dict[str, Any], str]:
    """What the engine says at its end, and what it said on stderr."""
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    assert done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
    return json.loads(done.stdout) if done.stdout else {}, done.stderr


def in_ring(path: Path) -> dict[str, list[Any]]:
    """The events of a ring by kind, in order; nothing is taken away, nothing may be refused."""
    found: dict[str, list[Any]] = defaultdict(list)
    with Ring(path) as ring:
        while (records := ring.read()).messages or records.refused:
            assert records.refused == ()
            for event, batch in columns(records).items():
                found[event] += to_events(batch, event)
    return found


def added_up(events: Mapping[str, Sequence[Any]]) -> dict[str, Figures]:
    """The figures of each account, by plain sums over its events; signals have no account and are left out."""
    accounts: dict[str, Figures] = {}
    fills: Sequence[TradeExecuted] = events["TradeExecuted"]
    minutes: Sequence[PerformanceMinute] = events["PerformanceMinute"]
    positions: Sequence[PositionUpdated] = events["PositionUpdated"]
    for account in sorted({minute.account for minute in minutes}):
        own = [fill for fill in fills if fill.account == account]
        gains = [fill.realized_pnl for fill in own if fill.realized_pnl is not None]
        equity = [minute.equity for minute in minutes if minute.account == account]
        accounts[account] = {
            "fills": len(own),
            "trades": len(gains),
            "wins": sum(gain > 0 for gain in gains),
            "losses": sum(gain < 0 for gain in gains),
            "volume": total(fill.quantity for fill in own),
            "notional": total((fill.price * fill.quantity).quantize(SIX, ROUND_HALF_EVEN) for fill in own),
            "fees": total(fill.fees for fill in own),
            "realized_pnl": total(gains),
            "gross_profit": total(gain for gain in gains if gain > 0),
            "gross_loss": -total(gain for gain in gains if gain < 0),
            "positions": sum(position.account == account for position in positions),
            "minutes": len(equity),
            "equity_close": equity[-1],
            "max_drawdown": drawdown(equity),
        }
    return accounts


def said(totals: Mapping[str, Any]) -> dict[str, Figures]:
    """The figures of each account as the engine says them, but its signals."""
    return {day["account"]: figures(day) for day in totals["days"]}


def figures(texts: Mapping[str, Any]) -> Figures:
    return {
        name: Decimal(value) if isinstance(value, str) else value
        for name, value in texts.items()
        if name not in {"account", "signals"}
    }


def sum_of(accounts: Iterable[Figures]) -> Figures:
    """Of all accounts, of what can be added."""
    found: Figures = {}
    for account in accounts:
        for name, value in account.items():
            if name not in {"equity_close", "max_drawdown"}:
                found[name] = found.get(name, 0) + value
    return found


def total(amounts: Iterable[Decimal]) -> Decimal:
    return sum(amounts, Decimal(0))


def drawdown(equity: Iterable[Decimal]) -> Decimal:
    peak = deepest = Decimal(0)
    for each in equity:
        peak = max(peak, each)
        deepest = max(deepest, (peak - each) / peak)
    return deepest.quantize(TEN, ROUND_HALF_EVEN)


def unpacked(bars: Path, folder: Path, first: str, last: str) -> Path:
    """Recorded bars of those days as the engine reads them."""
    folder.mkdir()
    for packed in bars.glob("*.csv.gz"):
        with gzip.open(packed, "rt") as source, (folder / packed.stem).open("w") as plain:
            plain.write(source.readline())
            plain.writelines(line for line in source if first <= line[:10] <= last)
    return folder
