"""Statistics are exact however the stream is cut, ordered or repeated: held against a naive computation."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import Connection
from pydantic import SecretStr

from consumers.aggregates.aggregates import Aggregates
from consumers.aggregates.announce import Announcer
from consumers.aggregates.merge import merge, recompute_drawdown
from consumers.aggregates.partials import of_performance, of_trades
from producers.publisher import EventPublisher
from schemas.codec import decode
from schemas.columns import from_events
from schemas.events import Event, PerformanceMinute, TradeExecuted
from schemas.topics import topic_of_event, topics
from sentio import kafka as kafka_access
from sentio.batch import Batch
from sentio.database import migrate
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, publisher_settings, rows, running, until
from tests.samples import encoded, minute, trade

NEW_YORK = ZoneInfo("America/New_York")
FIGURES = ("fills", "trades", "wins", "losses", "volume", "notional", "fees", "realized_pnl", "gross_profit", "gross_loss",
           "equity_open", "equity_high", "equity_low", "equity_close", "max_drawdown")  # fmt: skip

Window = tuple[str, str, str, str, datetime]


def start_of(kind: str, at: datetime) -> datetime:
    local = at.astimezone(NEW_YORK)
    day = local.replace(hour=0, minute=0, second=0, microsecond=0)
    match kind:
        case "MINUTE":
            return at.replace(second=0, microsecond=0)
        case "DAY":
            return day
        case "WEEK":
            return (day.replace(tzinfo=None) - timedelta(days=day.weekday())).replace(tzinfo=NEW_YORK)
    return day.replace(day=1)


def naive(events: Iterable[tuple[Event, int]]) -> dict[Window, dict[str, Any]]:
    """Every window, by plain loops and Python decimals."""
    found: dict[Window, dict[str, Any]] = defaultdict(lambda: dict.fromkeys(FIGURES[:10], Decimal(0)))
    equity: dict[Window, list[tuple[datetime, int, Decimal]]] = defaultdict(list)
    for event, sequence in events:
        for kind in ("MINUTE", "DAY", "WEEK", "MONTH"):
            if isinstance(event, PerformanceMinute):
                window = (event.account, "*", "*", kind, start_of(kind, event.minute_at))
                equity[window].append((event.minute_at, sequence, event.equity))
                continue
            assert isinstance(event, TradeExecuted)
            for level in ((event.strategy, event.symbol), (event.strategy, "*"), ("*", "*")):
                add_fill(found[event.account, *level, kind, start_of(kind, event.executed_at)], event)
    for window, states in equity.items():
        ordered = [value for _, _, value in sorted(states)]
        found[window] |= {
            "equity_open": ordered[0],
            "equity_high": max(ordered),
            "equity_low": min(ordered),
            "equity_close": ordered[-1],
        }
        if window[3] != "MINUTE":
            found[window]["max_drawdown"] = drawdown(states)
    return dict(found)


def add_fill(window: dict[str, Any], fill: TradeExecuted) -> None:
    with localcontext() as context:
        context.prec = 60
        notional = (fill.price * fill.quantity).quantize(Decimal("0.000001"), ROUND_HALF_EVEN)
    pnl = fill.realized_pnl
    window["fills"] += 1
    window["volume"] += fill.quantity
    window["notional"] += notional
    window["fees"] += fill.fees
    if pnl is not None:
        window["trades"] += 1
        window["realized_pnl"] += pnl
        window["wins"] += pnl > 0
        window["losses"] += pnl < 0
        window["gross_profit"] += max(pnl, Decimal(0))
        window["gross_loss"] += max(-pnl, Decimal(0))


def drawdown(states: Sequence[tuple[datetime, int, Decimal]]) -> Decimal:
    closes: dict[datetime, Decimal] = {}
    for at, _, value in sorted(states):
        closes[at.replace(second=0, microsecond=0)] = value
    peak, deepest = Decimal(0), Decimal(0)
    for _, close in sorted(closes.items()):
        peak = max(peak, close)
        deepest = max(deepest, (peak - close) / peak)
    return deepest.quantize(Decimal("1e-10"), ROUND_HALF_EVEN)


def in_table(connection: Connection) -> dict[Window, dict[str, Any]]:
    query = f"select account, strategy, symbol, kind, start_at, {', '.join(FIGURES)} from statistics"
    return {
        (a, s, y, k, at): {name: value for name, value in zip(FIGURES, figures, strict=True) if value is not None}
        for a, s, y, k, at, *figures in connection.execute(query)
    }


def batch_of(events: Sequence[tuple[Event, int]]) -> Batch:
    records = from_events(
        [event for event, _ in events], producer=["test"] * len(events), sequence=[number for _, number in events]
    )
    zeros = pa.array([0] * len(events), pa.int64())
    topic = topic_of_event(type(events[0][0]).__name__)
    return Batch(topic, records, zeros.cast(pa.int32()), zeros, zeros, {})


def write(connection: Connection, batch: Batch) -> None:
    if batch.topic.event == "TradeExecuted":
        merge(connection, of_trades(batch))
    else:
        windows = of_performance(batch)
        merge(connection, windows)
        recompute_drawdown(connection, windows)


# Around the end of daylight saving time (2025-11-02) and of a month, a week, a day.
times = st.integers(0, 4 * 24 * 60).map(lambda n: datetime(2025, 10, 31, tzinfo=ZoneInfo("UTC")) + timedelta(minutes=n))
amounts = st.integers(-(10**12), 10**12).map(lambda n: Decimal(n).scaleb(-6))
trades = st.builds(
    lambda at, pnl, price, quantity, symbol, strategy: trade(
        executed_at=at, realized_pnl=pnl, price=price, quantity=quantity, symbol=symbol, strategy=strategy
    ),
    times,
    st.one_of(st.none(), st.just(Decimal(0)), amounts),
    st.integers(1, 10**18).map(lambda n: Decimal(n).scaleb(-10)),
    st.integers(1, 10**18).map(lambda n: Decimal(n).scaleb(-8)),
    st.sampled_from(["TQQQ", "SQQQ"]),
    st.sampled_from(["rotation", "other"]),
)
minutes = st.builds(
    lambda at, seconds, equity: minute(0, equity, minute_at=at + timedelta(seconds=seconds)),
    times,
    st.sampled_from([0, 0, 30]),
    st.integers(1, 10**11).map(lambda n: Decimal(n).scaleb(-6)),
)


@pytest.fixture(scope="module")
def windows(database_server: str) -> Iterable[Connection]:
    from sentio.testing.servers import fresh_database

    with fresh_database(database_server) as dsn:
        migrate(SecretStr(dsn))
        with psycopg.connect(dsn) as connection:
            yield connection


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.lists(st.one_of(trades, minutes), min_size=1, max_size=25))
def test_any_cut_and_any_order_of_the_stream_gives_the_same_statistics(
    windows: Connection, data: st.DataObject, events: list[Event]
) -> None:
    numbered = list(enumerate(events))
    shuffled = [(event, number) for number, event in data.draw(st.permutations(numbered))]
    with windows.transaction(force_rollback=True):
        while shuffled:
            size = data.draw(st.integers(1, len(shuffled)))
            part, shuffled = shuffled[:size], shuffled[size:]
            for kind in (TradeExecuted, PerformanceMinute):
                if of_kind := [each for each in part if isinstance(each[0], kind)]:
                    write(windows, batch_of(of_kind))
        assert in_table(windows) == naive((event, number) for number, event in numbered)


def test_what_follows_from_the_sums_rounds_half_even(windows: Connection) -> None:
    pnls = ["10", "5", "0", "-3", "-4", "-1"]
    with windows.transaction(force_rollback=True):
        write(windows, batch_of([(trade(n, pnl=pnl), n) for n, pnl in enumerate(pnls)]))
        [row] = windows.execute(
            "select trades, wins, losses, win_rate, average_win, average_loss, profit_factor, equity_return"
            " from statistics where kind = 'DAY' and strategy = '*'"
        ).fetchall()
        halves = windows.execute(
            "select round_half_even(0.125, 2), round_half_even(0.135, 2), round_half_even(-0.125, 2),"
            " round_half_even(-1.5, 0), round_half_even(2.5, 0), round_half_even(0.1251, 2)"
        ).fetchall()
    assert row == (6, 2, 3, Decimal("0.3333333333"), Decimal("7.5"), Decimal("2.666667"), Decimal("1.875"), None)
    assert [Decimal(str(half)) for half in halves[0]] == [
        Decimal(text) for text in ("0.12", "0.14", "-0.12", "-2", "2", "0.13")
    ]


def test_without_losses_there_is_no_profit_factor(windows: Connection) -> None:
    with windows.transaction(force_rollback=True):
        write(windows, batch_of([(trade(0, pnl="10"), 0), (trade(1), 1)]))
        [row] = windows.execute(
            "select profit_factor, average_loss, win_rate from statistics where kind = 'DAY' and strategy = '*'"
        ).fetchall()
    assert row == (None, None, 1)


def test_a_repeated_fill_is_counted_once(kafka: Kafka, database: str) -> None:
    settings = consumer_settings(kafka.bootstrap, kafka.prefix, database)
    name = topics()["trades.executed"].full_name(kafka.prefix)
    producer = Producer({"bootstrap.servers": kafka.bootstrap})

    def send(*numbers: int) -> None:
        for number in numbers:
            producer.produce(name, encoded(trade(number), number=number), b"TQQQ")
        assert producer.flush(10) == 0

    with running(Aggregates(settings), settings):
        send(0, 1, 2, 1, 2, 3, 0)
        until(partial(counted_fills, database, 4))
        send(3, 2, 4)
        until(partial(counted_fills, database, 5))


def counted_fills(database: str, fills: int) -> bool:
    return rows(database, "select sum(fills) from windows where kind = 'DAY' and strategy = '*'") == [(fills,)]


class Losing(EventPublisher):
    """Counts what it is given; sends nothing."""

    given = 0

    def publish(self, event: Event) -> None:  # noqa: ARG002 - as its base class has it
        self.given += 1


def test_what_was_not_published_is_not_marked_as_announced(kafka: Kafka, database: str) -> None:
    settings = consumer_settings(kafka.bootstrap, kafka.prefix, database)
    unannounced = "select count(*) from windows where revision > published_revision"
    with psycopg.connect(database) as connection, Losing(publisher_settings(settings), name="test") as publisher:
        write(connection, batch_of([(trade(0), 0)]))
        connection.commit()
        asked = 0

        def breaks_once() -> Connection:
            nonlocal asked
            asked += 1
            return Uncommitted(connection) if asked == 1 else connection  # type: ignore[return-value] # a stand-in

        announcer = Announcer(publisher, breaks_once)
        with pytest.raises(psycopg.OperationalError):
            announcer.turn()
        announcer.turn()
        assert publisher.given == 0
        assert rows(database, unannounced)[0][0] > 0


class Uncommitted:
    """A connection that is lost at its commit."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._connection.transaction():
            yield
        raise psycopg.OperationalError("lost at commit")

    def cursor(self, **more: Any) -> Any:
        return self._connection.cursor(**more)


def test_every_window_is_announced_and_its_newest_revision_is_the_table(kafka: Kafka, database: str) -> None:
    settings = consumer_settings(kafka.bootstrap, kafka.prefix, database)
    with running(Aggregates(settings), settings):
        for first in (0, 20):
            with EventPublisher(publisher_settings(settings), name="engine") as publisher:
                for number in range(first, first + 20):
                    publisher.publish(trade(number, pnl=str(number - 10)))
                    publisher.publish(minute(number, str(100_000 + number)))
            until(partial(counted_fills, database, first + 20))
        until(lambda: rows(database, "select count(*) from windows where revision > published_revision") == [(0,)])
        until(lambda: rows(database, "select count(equity_close) from windows where kind = 'MINUTE'") == [(40,)])
        until(lambda: rows(database, "select count(*) from windows where revision > published_revision") == [(0,)])
    newest: dict[Any, Any] = {}
    name = topics()["aggregates.updated"].full_name(kafka.prefix)
    spans = kafka_access.spans(kafka.bootstrap, [(name, partition) for partition in range(3)])
    for messages in kafka_access.read(kafka.bootstrap, spans):
        for event in decode("AggregateUpdated", [m.value() for m in messages]).records.to_pylist():
            key = tuple(event[part] for part in ("account", "strategy", "symbol", "kind", "start_at"))
            newest[key] = max(newest.get(key, event), event, key=lambda each: each["revision"])
    told = {key: (event["revision"], event["fills"], event["realized_pnl"], event["equity_close"])
            for key, event in newest.items()}  # fmt: skip
    query = (
        "select account, strategy, symbol, kind, start_at, revision, fills, realized_pnl, equity_close from statistics"
    )
    assert told == {tuple(row[:5]): tuple(row[5:]) for row in rows(database, query)}
