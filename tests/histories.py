"""Logs of trades and minutes as Hypothesis draws them, with repeats, and batches of them as a poll gives them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from hashlib import md5

import pyarrow as pa
from hypothesis import strategies as st

from consumers.aggregates.sender import Sender
from schemas.columns import from_events
from schemas.events import PerformanceMinute
from schemas.topics import Topic, topic_of_event
from sentio.batch import Batch, Range
from tests.naive import Numbered
from tests.samples import trade

PARTITIONS = 2
PREFIX = "t"
TRADES, PERFORMANCE = topic_of_event("TradeExecuted"), topic_of_event("PerformanceMinute")

Log = dict[tuple[str, int], list[Numbered]]
"""Records of each (event type, partition), in the order of their offsets."""


class Silent(Sender):
    """Announces to nobody."""

    def __init__(self) -> None:
        pass

    def send(self, windows: pa.Table) -> None:
        pass

    def arrived(self) -> bool | None:
        return True

    def close(self) -> None:
        pass


# Both changes of daylight saving time; a month, a year and a week ending; and the minutes around New York's midnight.
NEAR = (
    datetime(2025, 3, 9, 6, 58, tzinfo=UTC),
    datetime(2025, 3, 10, 3, 58, tzinfo=UTC),
    datetime(2025, 11, 1, 3, 58, tzinfo=UTC),
    datetime(2025, 11, 2, 5, 58, tzinfo=UTC),
    datetime(2025, 11, 2, 6, 58, tzinfo=UTC),
    datetime(2025, 11, 3, 4, 58, tzinfo=UTC),
    datetime(2026, 1, 1, 4, 58, tzinfo=UTC),
    datetime(2025, 10, 31, 15, 0, tzinfo=UTC),
)
times = st.builds(
    lambda near, minutes, micros: near + timedelta(minutes=minutes, microseconds=micros),
    st.sampled_from(NEAR),
    st.integers(0, 3),
    st.sampled_from([0, 0, 1, 30_000_000, 59_999_999]),
)
amounts = st.one_of(
    st.sampled_from([Decimal(text) for text in ("0", "1", "-1", "2.5", "-2.5", "0.000001")]),
    st.integers(-(10**21) + 1, 10**21 - 1).map(lambda n: Decimal(n).scaleb(-6)),
)
trades = st.builds(
    lambda at, pnl, price, quantity, fees, level: trade(
        executed_at=at, realized_pnl=pnl, price=price, quantity=quantity, fees=fees,
        symbol=level[0], strategy=level[1], account=level[2],
    ),
    times,
    st.one_of(st.none(), amounts),
    st.integers(1, 10**13).map(lambda n: Decimal(n).scaleb(-10)),
    st.integers(1, 10**13).map(lambda n: Decimal(n).scaleb(-8)),
    amounts,
    st.sampled_from([("TQQQ", "rotation", "paper"), ("SQQQ", "rotation", "paper"), ("TQQQ", "other", "paper"), ("TQQQ", "rotation", "live")]),
)  # fmt: skip
equities = st.one_of(
    st.sampled_from([Decimal(text) for text in ("100000", "100000", "90000", "110000", "0", "-1", "0.000001")]),
    st.integers(-(10**9), 10**21).map(lambda n: Decimal(n).scaleb(-6)),
)
minutes = st.builds(
    lambda at, equity, account: PerformanceMinute(
        account=account, equity=equity, day_return=Decimal(0), open_positions=0, realized_pnl=Decimal(0),
        unrealized_pnl=Decimal(0), minute_at=at,
    ),
    st.one_of(st.sampled_from(NEAR[:2]), times),  # several at one moment, too
    equities,
    st.sampled_from(["paper", "paper", "live"]),
)  # fmt: skip
PRODUCERS = ("engine@b", "engine@B", "moteur@é")


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Events of several publishers, each numbered in send order, and repeats anywhere behind their first record."""
    log: Log = {(topic.event, partition): [] for topic in (TRADES, PERFORMANCE) for partition in range(PARTITIONS)}
    sent = dict.fromkeys(PRODUCERS, 0)
    for event in draw(st.lists(st.one_of(trades, minutes), min_size=1, max_size=20)):
        producer = draw(st.sampled_from(PRODUCERS))
        partition = draw(st.integers(0, PARTITIONS - 1))
        log[type(event).__name__, partition].append(Numbered(event, producer, sent[producer]))
        sent[producer] += 1
    for records in log.values():
        for _ in range(draw(st.integers(0, 3)) if records else 0):
            first = draw(st.integers(0, len(records) - 1))
            records.insert(draw(st.integers(first + 1, len(records))), records[first])
    return log


def batch_of(topic: Topic, parts: Mapping[int, tuple[int, Sequence[Numbered]]]) -> Batch:
    """What one poll gives: from each partition the records from an offset on."""
    records = [
        (partition, offset, each)
        for partition, (first, part) in parts.items()
        for offset, each in enumerate(part, start=first)
    ]
    events = [each.event for _, _, each in records]
    columns = from_events(
        events,
        event_id=[md5(f"{each.producer} {each.sequence}".encode()).digest() for _, _, each in records],
        producer=[each.producer for _, _, each in records],
        sequence=[each.sequence for _, _, each in records],
    )
    return Batch(
        topic,
        columns,
        pa.array([partition for partition, _, _ in records], pa.int32()),
        pa.array([offset for _, offset, _ in records], pa.int64()),
        pa.array([0] * len(records), pa.int64()),
        {partition: Range(first, first + len(part)) for partition, (first, part) in parts.items()},
    )
