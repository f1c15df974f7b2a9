"""The data of every benchmark: one month of trades, the same in every run, as events, columns and Kafka messages."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from zlib import crc32

import pyarrow as pa

from schemas.codec import encode
from schemas.columns import from_events
from schemas.events import TradeExecuted

EVENT = "TradeExecuted"
PRODUCER = "bench@1"
SYMBOLS = ("TQQQ", "SQQQ", "UVXY", "SVXY", "SPXL", "SPXS", "QQQ", "PSQ", "TNA", "TZA", "SDS", "SSO")
ACCOUNTS = ("paper-1", "paper-2", "live-1")
STRATEGIES = ("rotation", "breakout")
REASONS = ("rank 2 of 12, probability 0.61", "stop", "target reached", "signal turned SHORT")

FIRST_DAY = datetime(2025, 10, 6, 13, 30, tzinfo=UTC)
DAYS = 15
MINUTES_A_DAY = 390
CHUNK = 5_000


@dataclass(frozen=True)
class Trades:
    """N trades in the order of their time. Element i of everything is the same trade."""

    records: pa.RecordBatch
    """Columns of TradeExecuted, ids and sequences given."""

    keys: list[bytes]
    values: list[bytes]
    """Framed Avro, as the platform's publisher writes it."""

    def __len__(self) -> int:
        return len(self.values)

    def partition(self, index: int, partitions: int) -> int:
        """Where a trade goes: as librdkafka does it."""
        return crc32(self.keys[index]) % partitions

    def last_of_each_partition(self, end: int, partitions: int) -> list[int]:
        """Index of the last one of trades [0, end) in each partition that has any."""
        return sorted({self.partition(index, partitions): index for index in range(end)}.values())


def make(count: int) -> Trades:
    """``count`` trades on 15 trading days of October 2025, 12 symbols, 3 accounts, 2 strategies."""
    batches = []
    values: list[bytes] = []
    chunk: list[TradeExecuted] = []
    for number, event in enumerate(events(count)):
        chunk.append(event)
        if len(chunk) == CHUNK or number == count - 1:
            first = number + 1 - len(chunk)
            numbers = range(first, number + 1)
            ids = [event_id(n, each.executed_at) for n, each in zip(numbers, chunk, strict=True)]
            batches.append(from_events(chunk, event_id=ids, producer=[PRODUCER] * len(chunk), sequence=numbers))
            values += encode(EVENT, batches[-1])
            chunk = []
    records = pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
    return Trades(records, [symbol.encode() for symbol in records["symbol"].to_pylist()], values)


def events(count: int) -> Iterator[TradeExecuted]:
    """The trades as an engine would give them to publish(): every other one closes a round trip."""
    chance = random.Random(20251006)
    step_us = DAYS * MINUTES_A_DAY * 60_000_000 // max(count, 1)
    for number in range(count):
        in_session = timedelta(microseconds=number * step_us)
        day, inside = divmod(in_session, timedelta(minutes=MINUTES_A_DAY))
        closes = number % 2 == 1
        yield TradeExecuted(
            account=chance.choice(ACCOUNTS),
            strategy=chance.choice(STRATEGIES),
            symbol=chance.choice(SYMBOLS),
            action="EXIT" if closes else "ENTRY",
            side="SELL" if closes else "BUY",
            quantity=Decimal(chance.randint(1, 500)).scaleb(0).quantize(Decimal("0.00000001")),
            price=Decimal(chance.randint(10_000, 2_000_000)).scaleb(-4).quantize(Decimal("0.0000000001")),
            realized_pnl=Decimal(chance.randint(-5_000_000, 6_000_000)).scaleb(-4).quantize(Decimal("0.000001"))
            if closes
            else None,
            fees=Decimal(chance.randint(1, 900)).scaleb(-2).quantize(Decimal("0.000001")),
            reason=chance.choice(REASONS),
            order_id=f"o-{number}" if number % 3 else None,
            executed_at=FIRST_DAY + timedelta(days=day + 2 * (day // 5)) + inside,
        )


def event_id(number: int, at: datetime) -> bytes:
    """A UUIDv7 of that time, random but the same in every run."""
    time_ms = int(at.timestamp() * 1000)
    noise = random.Random(number).getrandbits(74)
    return (time_ms << 80 | 7 << 76 | (noise >> 62) << 64 | 2 << 62 | noise & (1 << 62) - 1).to_bytes(16)
