"""The data of the aggregates: orders that are filled in parts, in the order in which they reach the log.

Other than in `benchmarks.trades` a minute of one account and symbol holds several fills, as it does where orders are
worked; some come hours late. The key is account, strategy and symbol: every contestant can count the finest windows
without moving a record between partitions first.
"""

import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import product
from typing import Any

import pyarrow as pa

from benchmarks.trades import ACCOUNTS, CHUNK, EVENT, MINUTES_A_DAY, REASONS, STRATEGIES, SYMBOLS, Trades, event_id
from schemas.codec import encode
from schemas.columns import arrow_schema

FIRST_DAY = datetime(2025, 9, 8, 13, 30, tzinfo=UTC)
DAYS = 15
"""Trading days, three weeks of them."""

CLOSING = datetime(2025, 10, 10, 13, 30, tzinfo=UTC)
"""Day of one last fill of each key: event time moves on for all of them, so that windows close."""

FILLS_AN_ORDER = 20
"""At most; half as many on average."""

LATE_ORDERS = 0.01
LATE_AT_MOST = timedelta(hours=6)

_US = timedelta(microseconds=1)


@cache
def make(total: int) -> Trades:
    """``total`` fills, the same in every run."""
    chance = random.Random(20250908)
    closing = [
        (CLOSING, _fill(chance, CLOSING, account, strategy, symbol, "EXIT"))
        for account, strategy, symbol in product(ACCOUNTS, STRATEGIES, SYMBOLS)
    ]
    worked: list[tuple[datetime, dict[str, Any]]] = []
    while len(worked) < total - len(closing):
        worked += _order(chance)
    found = worked[: total - len(closing)]
    found.sort(key=lambda each: each[0])
    rows = [row for _, row in found + closing]
    records = _columns(rows)
    values: list[bytes] = []
    for first in range(0, total, CHUNK):
        values += encode(EVENT, records.slice(first, CHUNK))
    return Trades(records, [f"{row['account']}|{row['strategy']}|{row['symbol']}".encode() for row in rows], values)


def _order(chance: random.Random) -> list[tuple[datetime, dict[str, Any]]]:
    """(when it reaches the log, fill) of each part of one order, filled within seconds."""
    day = chance.randrange(DAYS)
    opened = FIRST_DAY + timedelta(days=day + 2 * (day // 5), seconds=chance.randrange((MINUTES_A_DAY - 1) * 60))
    late = LATE_AT_MOST * chance.random() if chance.random() < LATE_ORDERS else timedelta()
    account, strategy, symbol = chance.choice(ACCOUNTS), chance.choice(STRATEGIES), chance.choice(SYMBOLS)
    action = chance.choice(("ENTRY", "EXIT"))
    at = opened
    fills = []
    for _ in range(chance.randint(1, FILLS_AN_ORDER)):
        fills.append((at + late, _fill(chance, at, account, strategy, symbol, action)))
        at += _US * chance.randrange(1_000_000)
    return fills


def _fill(chance: random.Random, at: datetime, account: str, strategy: str, symbol: str, action: str) -> dict[str, Any]:
    gained = Decimal(chance.randint(-5_000_000, 6_000_000)).scaleb(-4) if action == "EXIT" else None
    return {
        "account": account,
        "strategy": strategy,
        "symbol": symbol,
        "action": action,
        "side": "SELL" if action == "EXIT" else "BUY",
        "quantity": Decimal(chance.randint(1, 50_000)).scaleb(-2),
        "price": Decimal(chance.randint(10_000, 2_000_000)).scaleb(-4),
        "realized_pnl": gained if chance.random() > 0.001 or gained is None else Decimal(0),  # neither won nor lost
        "fees": Decimal(chance.randint(1, 900)).scaleb(-2),
        "reason": chance.choice(REASONS),
        "order_id": f"o-{chance.randrange(1_000_000)}",
        "executed_at": at,
    }


def _columns(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    schema = arrow_schema(EVENT)
    header = {
        "event_id": [event_id(number, row["executed_at"]) for number, row in enumerate(rows)],
        "producer": ["bench@1"] * len(rows),
        "sequence": range(len(rows)),
    }
    columns = [header.get(field.name) or [row[field.name] for row in rows] for field in schema]
    return pa.record_batch(
        [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema
    )
