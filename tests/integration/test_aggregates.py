"""Statistics from the log to the table and to `aggregates.updated`. That they are exact: test_aggregates_exact."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import psycopg
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from psycopg import Connection
from pydantic import SecretStr

from consumers.aggregates.aggregates import Aggregates
from consumers.aggregates.announce import Announcer
from consumers.aggregates.merge import merge
from consumers.aggregates.partials import of_trades
from producers.publisher import Counters, EventPublisher
from schemas.codec import decode, encode
from schemas.columns import from_events
from schemas.events import AggregateUpdated, Event
from schemas.topics import topic_of_event, topics
from sentio import kafka as kafka_access
from sentio.batch import Batch
from sentio.database import migrate
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, publisher_settings, rows, running, until
from tests.samples import encoded, minute, trade


def batch_of(events: Sequence[tuple[Event, int]]) -> Batch:
    records = from_events(
        [event for event, _ in events], producer=["test"] * len(events), sequence=[number for _, number in events]
    )
    zeros = pa.array([0] * len(events), pa.int64())
    topic = topic_of_event(type(events[0][0]).__name__)
    return Batch(topic, records, zeros.cast(pa.int32()), zeros, zeros, {})


def write(connection: Connection, batch: Batch) -> None:
    merge(connection, of_trades(batch))


@pytest.fixture(scope="module")
def windows(database_server: str) -> Iterable[Connection]:
    from sentio.testing.servers import fresh_database

    with fresh_database(database_server) as dsn:
        migrate(SecretStr(dsn))
        with psycopg.connect(dsn) as connection:
            yield connection


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


class Acknowledged(EventPublisher):
    """Sends nothing, and says at once that it arrived."""

    def __init__(self) -> None:
        self.given: list[Event] = []
        self._failure = None

    def publish(self, event: Event) -> None:
        self.given.append(event)

    def counters(self) -> Counters:
        count = len(self.given)
        return Counters(count, count, 0, 0, 0, 0)


def test_a_window_that_changes_while_it_is_announced_is_announced_again(windows: Connection) -> None:
    publisher = Acknowledged()
    with windows.transaction(force_rollback=True):
        announcer = Announcer(publisher, lambda: windows)
        write(windows, batch_of([(trade(0, symbol="TQQQ"), 0)]))
        announcer.turn()
        first = len(publisher.given)
        write(windows, batch_of([(trade(0, symbol="SQQQ"), 1)]))
        announcer._next_s = 0
        announcer.turn()
        waiting = windows.execute("select count(*) from windows where unannounced_since is not null").fetchone()
        told = windows.execute("select count(*) from windows where published_revision = 1").fetchone()
    again = [event for event in publisher.given[first:] if isinstance(event, AggregateUpdated)]
    assert first == 12  # three levels of four lengths
    assert {(event.symbol, event.revision) for event in again} == {("*", 2), ("SQQQ", 1)}
    assert len(again) == 12
    assert (waiting, told) == ((12,), (12,))


def test_a_ratio_without_room_in_the_event_is_null_and_hides_no_other_figure(windows: Connection) -> None:
    publisher = Acknowledged()
    with windows.transaction(force_rollback=True):
        write(windows, batch_of([(trade(0, pnl="1000000000000"), 0), (trade(0, pnl="-0.000001"), 1)]))
        Announcer(publisher, lambda: windows).turn()
    assert len(encode("AggregateUpdated", from_events(publisher.given, event_id=[bytes(16)] * 12, producer=["a"] * 12,
        sequence=list(range(12))))) == 12  # fmt: skip
    told = [event for event in publisher.given if isinstance(event, AggregateUpdated)]
    assert {(event.profit_factor, event.gross_profit) for event in told} == {(None, Decimal(10**12))}


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
