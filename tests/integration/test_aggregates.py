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
from confluent_kafka.admin import (  # type: ignore[attr-defined] # a re-export
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)
from confluent_kafka.cimpl import NewTopic
from psycopg import Connection
from psycopg.rows import dict_row
from pydantic import SecretStr

from consumers.aggregates import announce
from consumers.aggregates import merge as merging
from consumers.aggregates.aggregates import Aggregates
from consumers.aggregates.announce import Announcer
from consumers.aggregates.merge import merge
from consumers.aggregates.partials import KEY, of_trades
from consumers.aggregates.sender import SCHEMA, Sender
from producers.publisher import EventPublisher
from schemas.codec import decode
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
    producer = Producer({"enable.idempotence": True, "bootstrap.servers": kafka.bootstrap})

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


class Lots(Sender):
    """Keeps what it is given; ``arrives`` is what becomes of it."""

    def __init__(self) -> None:
        self.given: list[pa.Table] = []
        self.arrives: bool | None = True

    def send(self, windows: pa.Table) -> None:
        self.given.append(windows)

    def arrived(self) -> bool | None:
        return self.arrives


def changes(connection: Connection) -> int:
    [(count,)] = connection.execute("select coalesce(sum(windows), 0) from window_changes").fetchall()
    return int(count)


def turn(announcer: Announcer) -> None:
    """At once, whatever the pace is."""
    announcer._next_s = 0
    announcer.turn()


def test_what_was_not_sent_is_not_marked_as_announced(windows: Connection) -> None:
    sender, asked = Lots(), 0

    def breaks_once() -> Connection:
        nonlocal asked
        asked += 1
        return Uncommitted(windows) if asked == 1 else windows  # type: ignore[return-value] # a stand-in

    with windows.transaction(force_rollback=True):
        write(windows, batch_of([(trade(0), 0)]))
        announcer = Announcer(sender, breaks_once)
        with pytest.raises(psycopg.OperationalError):
            turn(announcer)
        assert sender.given == []
        turn(announcer)
        assert [len(lot) for lot in sender.given] == [12]  # three levels of four lengths
        assert changes(windows) == 12
        turn(announcer)
        assert changes(windows) == 0


def test_a_lot_is_marked_when_it_has_arrived_and_sent_again_when_it_has_not(windows: Connection) -> None:
    sender = Lots()
    with windows.transaction(force_rollback=True):
        write(windows, batch_of([(trade(0), 0)]))
        announcer = Announcer(sender, lambda: windows)
        sender.arrives = None
        for _ in range(3):
            turn(announcer)
        assert len(sender.given) == 1
        sender.arrives = False
        turn(announcer)
        assert (len(sender.given), changes(windows)) == (2, 12)
        sender.arrives = True
        for _ in range(3):
            turn(announcer)
        assert (len(sender.given), changes(windows)) == (2, 0)


def test_a_window_is_announced_once_a_second_at_most(windows: Connection) -> None:
    sender = Lots()
    with windows.transaction(force_rollback=True):
        announcer = Announcer(sender, lambda: windows)
        for number in range(3):
            write(windows, batch_of([(trade(number), number)]))
            announcer.turn()
    assert len(sender.given) == 1


def test_a_window_that_changes_while_it_is_announced_is_announced_again(windows: Connection) -> None:
    sender = Lots()
    with windows.transaction(force_rollback=True):
        announcer = Announcer(sender, lambda: windows)
        write(windows, batch_of([(trade(0, symbol="TQQQ"), 0)]))
        turn(announcer)
        write(windows, batch_of([(trade(0, symbol="SQQQ"), 1)]))
        turn(announcer)
        assert changes(windows) == 12
    first, again = (lot.to_pylist() for lot in sender.given)
    assert len(first) == len(again) == 12
    assert {(row["symbol"], row["revision"]) for row in again} == {("*", 2), ("SQQQ", 1)}


def test_changes_of_one_window_are_one_event_with_its_newest_state(windows: Connection) -> None:
    sender = Lots()
    with windows.transaction(force_rollback=True):
        for number in range(3):
            write(windows, batch_of([(trade(0), number)]))
        turn(Announcer(sender, lambda: windows))
    [lot] = sender.given
    assert [(row["revision"], row["fills"]) for row in lot.to_pylist()] == [(3, 3)] * 12


def test_changes_of_windows_that_are_gone_are_forgotten(windows: Connection) -> None:
    sender = Lots()
    with windows.transaction(force_rollback=True):
        write(windows, batch_of([(trade(0), 0)]))
        windows.execute("delete from windows")
        announcer = Announcer(sender, lambda: windows)
        turn(announcer)
        turn(announcer)
        assert changes(windows) == 0
    assert [len(lot) for lot in sender.given] == [0]


def test_a_lot_is_limited_and_the_rest_follows(windows: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(merging, "CHANGES_A_ROW", 5)
    monkeypatch.setattr(announce, "AT_MOST", 7)
    sender = Lots()
    with windows.transaction(force_rollback=True):
        write(windows, batch_of([(trade(0), 0)]))
        announcer = Announcer(sender, lambda: windows)
        for _ in range(3):
            turn(announcer)
    assert len(sender.given) == 2
    assert sum(len(lot) for lot in sender.given) == 12


def test_a_lot_says_what_the_table_says_whatever_the_names_are(windows: Connection) -> None:
    names = ["", 'a,"b"', "two\nlines", "back\\slash", "null", "é|ü"]
    sender = Lots()
    with windows.transaction(force_rollback=True):
        write(windows, batch_of([(trade(n, pnl=str(n - 2), strategy=name, symbol=name), n)
                                 for n, name in enumerate(names)]))  # fmt: skip
        turn(Announcer(sender, lambda: windows))
        with windows.cursor(row_factory=dict_row) as cursor:
            stored = cursor.execute(f"select {', '.join(SCHEMA.names)} from statistics").fetchall()
    [lot] = sender.given
    assert (lot.schema.names, lot.schema.types) == (SCHEMA.names, SCHEMA.types)
    assert sorted(lot.to_pylist(), key=key_of) == sorted(stored, key=key_of)
    assert {row["symbol"] for row in stored} == {*names, "*"}


def key_of(window: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(window[part] for part in KEY)


def test_a_ratio_without_room_in_the_event_is_null_and_hides_no_other_figure(windows: Connection) -> None:
    sender = Lots()
    with windows.transaction(force_rollback=True):
        write(windows, batch_of([(trade(0, pnl="1000000000000"), 0), (trade(0, pnl="-0.000001"), 1)]))
        turn(Announcer(sender, lambda: windows))
    told = {(row["profit_factor"], row["gross_profit"]) for lot in sender.given for row in lot.to_pylist()}
    assert told == {(None, Decimal(10**12))}


def test_what_kafka_did_not_take_can_be_sent_again(kafka: Kafka, windows: Connection) -> None:
    lots = Lots()
    with windows.transaction(force_rollback=True):
        write(windows, batch_of([(trade(0), 0)]))
        turn(Announcer(lots, lambda: windows))
    [lot] = lots.given
    name = topic_of_event("AggregateUpdated").full_name(kafka.prefix)
    admin = AdminClient(kafka_access.client(kafka.bootstrap))
    admin.create_topics([NewTopic(name, 1, 1, config={"max.message.bytes": "10"})])[name].result(30)
    sender = Sender(kafka.bootstrap, kafka.prefix, name="test")

    def became() -> str:
        return {None: "", True: "arrived", False: "came back"}[sender.arrived()]

    sender.send(lot)
    assert until(became) == "came back"
    more = ConfigEntry("max.message.bytes", "1000000", incremental_operation=AlterConfigOpType.SET)
    [altered] = admin.incremental_alter_configs([ConfigResource("topic", name, incremental_configs=[more])]).values()
    altered.result(30)
    sender.send(lot)
    assert until(became) == "arrived"
    sender.close()
    events = announced(kafka, partitions=1)
    assert [(event["producer"], event["sequence"]) for _, event in events] == [
        (sender.producer, number) for number in range(12, 24)
    ]
    assert len({event["event_id"] for _, event in events}) == 12
    assert [{name: event[name] for name in SCHEMA.names} for _, event in events] == lot.to_pylist()
    topic = topic_of_event("AggregateUpdated")
    assert [key for key, _ in events] == [topic.record_key(AggregateUpdated(**event), "") for _, event in events]


def announced(kafka: Kafka, *, partitions: int) -> list[tuple[bytes | None, dict[str, Any]]]:
    """Keys and events of `aggregates.updated`."""
    name = topic_of_event("AggregateUpdated").full_name(kafka.prefix)
    spans = kafka_access.spans(kafka.bootstrap, [(name, partition) for partition in range(partitions)])
    found: list[tuple[bytes | None, dict[str, Any]]] = []
    for messages in kafka_access.read(kafka.bootstrap, spans):
        events = decode("AggregateUpdated", [message.value() for message in messages]).records.to_pylist()
        found += zip([message.key() for message in messages], events, strict=True)
    return found


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
        until(lambda: rows(database, "select count(*) from window_changes") == [(0,)])
        until(lambda: rows(database, "select count(equity_close) from windows where kind = 'MINUTE'") == [(40,)])
        until(lambda: rows(database, "select count(*) from window_changes") == [(0,)])
    newest: dict[Any, Any] = {}
    for _, event in announced(kafka, partitions=3):
        key = key_of(event)
        newest[key] = max(newest.get(key, event), event, key=lambda each: each["revision"])
    told = {key: (event["revision"], event["fills"], event["realized_pnl"], event["equity_close"])
            for key, event in newest.items()}  # fmt: skip
    query = (
        "select account, strategy, symbol, kind, start_at, revision, fills, realized_pnl, equity_close from statistics"
    )
    assert told == {tuple(row[:5]): tuple(row[5:]) for row in rows(database, query)}
