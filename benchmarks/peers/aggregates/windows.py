"""What every contestant must come to: statistics of each window at every level, and where each keeps them."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from zoneinfo import ZoneInfo

import psycopg

from benchmarks.harness import Differs
from benchmarks.peers.aggregates import fills
from benchmarks.stage import PARTITIONS
from schemas.amounts import money, product
from sentio import kafka

Key = tuple[str, str, str, str, str]
"""(MINUTE or DAY, account, strategy, symbol, start: the minute in UTC, or the date); ``*`` stands for all of them"""

ALL = "*"

Sums = tuple[Decimal, ...]
"""fills, trades, wins, losses, volume, notional, fees, realized P&L: exact"""

NEW_YORK = ZoneInfo("America/New_York")
_NONE: Sums = (Decimal(0),) * 8


@cache
def expected(total: int) -> Mapping[Key, Sums]:
    """The statistics of `fills.make(total)`, by plain Python; without the closing day."""
    found: dict[Key, Sums] = {}
    records = fills.make(total).records
    names = ("account", "strategy", "symbol", "executed_at", "quantity", "price", "fees", "realized_pnl")
    for account, strategy, symbol, at, *amounts in zip(*(records[n].to_pylist() for n in names), strict=True):
        if at >= fills.CLOSING:
            continue
        quantity, price, fees, pnl = amounts
        closed = (1, pnl > 0, pnl < 0) if pnl is not None else (0, 0, 0)
        adds = (1, *closed, quantity, money(product(price, quantity)), fees, pnl or 0)
        for kind in ("MINUTE", "DAY"):
            for level in ((strategy, symbol), (strategy, ALL), (ALL, ALL)):
                key = (kind, account, *level, start(kind, at))
                found[key] = tuple(a + b for a, b in zip(found.get(key, _NONE), adds, strict=True))
    return found


def start(kind: str, at: datetime) -> str:
    """All fills are of the regular session, where a day of New York and one of UTC hold the same."""
    return at.date().isoformat() if kind == "DAY" else at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


def of_topic(bootstrap: str, topic: str) -> dict[Key, Sums]:
    """The newest state of each window in a peer's topic: key account|strategy|symbol, value KIND,start in ms,
    the eight sums.
    """
    found = {}
    spans = kafka.spans(bootstrap, [(topic, partition) for partition in range(PARTITIONS)])
    for messages in kafka.read(bootstrap, spans):
        for message in messages:
            account, strategy, symbol = (message.key() or b"").decode().split("|")
            kind, start_ms, *sums = (message.value() or b"").decode().split(",")
            at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(start_ms))
            found[kind, account, strategy, symbol, start(kind, at)] = tuple(map(Decimal, sums))
    return found


def of_table(dsn: str) -> dict[Key, Sums]:
    """Ours, of the kinds that all are asked for."""
    with psycopg.connect(dsn) as connection:
        rows = connection.execute(
            "select kind, account, strategy, symbol, start_at, fills, trades, wins, losses, volume, notional, fees,"
            " realized_pnl from windows where kind in ('MINUTE', 'DAY')"
        )
        return {
            (kind, account, strategy, symbol, start(kind, at.astimezone(NEW_YORK) if kind == "DAY" else at)): tuple(
                sums
            )
            for kind, account, strategy, symbol, at, *sums in rows
        }


def compare(who: str, found: Mapping[Key, Sums], total: int, *, finest_only: bool = False) -> str:
    """How many of the finest windows there are. Raises `Differs`, with the first window that is not as expected."""
    wanted = {key: sums for key, sums in expected(total).items() if not finest_only or key[3] != ALL}
    closing = start("MINUTE", fills.CLOSING), start("DAY", fills.CLOSING)
    found = {key: sums for key, sums in found.items() if key[4] not in closing}
    for key in sorted(wanted.keys() | found.keys()):
        if wanted.get(key) != found.get(key):
            raise Differs(f"{who}: window {key} is {found.get(key)}, it should be {wanted.get(key)}")
    finest = [key[0] for key in wanted if key[3] != ALL]
    return f"{finest.count('MINUTE')} minutes, {finest.count('DAY')} days"
