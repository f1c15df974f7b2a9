"""Input for tests: the recorded days beside the project, where there are any, and made-up ones."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet

DATA = Path(__file__).parents[1].parent / "shared" / "data"
ABSENT = f"the recorded data is not at {DATA}"

OPENING = datetime(2025, 1, 6, 14, 30, tzinfo=UTC)
"""09:30 in New York on the made-up day."""


def recorded_days() -> list[ParameterSet]:
    """The folder of every recorded day, to parametrize a test with; a skipped one where there are none."""
    folders = sorted((DATA / "session").glob("*-*-*"))
    if not folders:
        return [pytest.param(Path(), marks=pytest.mark.skip(reason=ABSENT), id="none")]
    return [pytest.param(folder, id=folder.name) for folder in folders]


def recorded_results() -> Path:
    """The recorded results file; skips the test where there is none."""
    path = DATA / "results" / "2025-10-10.json.gz"
    if not path.is_file():
        pytest.skip(ABSENT)
    return path


def decimals(*texts: str) -> tuple[Decimal, ...]:
    return tuple(map(Decimal, texts))


def minute(number: int) -> datetime:
    return OPENING + timedelta(minutes=number)


def ms(number: int) -> int:
    """Milliseconds of a minute of the made-up day."""
    return int(minute(number).timestamp() * 1000)


def signal(number: int, symbol: str = "AAA", **changed: object) -> dict[str, Any]:
    fields = {"symbol": symbol, "signal": 1, "probability": 0.75, "confidence": 0.5, "bar_id": number}
    return fields | {"timestamp_ms": ms(number)} | changed


def entry(number: int, symbol: str = "AAA", **changed: object) -> dict[str, Any]:
    fields = {"symbol": symbol, "action": "ENTRY", "direction": "LONG", "exec_price": 10.5, "shares": 100}
    return fields | {"reason": "made up", "timestamp_ms": ms(number)} | changed


def leave(number: int, symbol: str = "AAA", **changed: object) -> dict[str, Any]:
    fields = {"symbol": symbol, "action": "EXIT", "direction": "SHORT", "exec_price": 11.25, "shares": 100}
    return fields | {"pnl": 75.0, "reason": "made up", "timestamp_ms": ms(number)} | changed


def book(bar: int, equity: float, *held: Mapping[str, object]) -> dict[str, Any]:
    return {"bar": bar, "current_equity": equity, "positions": held, "total_unrealized_pnl": 0.0}


def holding(symbol: str = "AAA", **changed: object) -> dict[str, Any]:
    fields = {"symbol": symbol, "direction": "LONG", "entry_price": 10.5, "current_price": 10.75, "pnl": 0.25}
    return fields | changed


def write_session(
    folder: Path,
    *,
    signals: Iterable[object],
    trades: Iterable[object] = (),
    positions: Iterable[object] | None = None,
) -> Path:
    """Write a session; what is no text becomes JSON, a text is written as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, lines in {"signals": signals, "trades": trades, "positions": positions}.items():
        if lines is not None:
            texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
            (folder / f"{name}.jsonl").write_text("".join(f"{text}\n" for text in texts))
    return folder
