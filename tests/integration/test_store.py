"""The store against a real broker and database: every record once, in its table, whatever happens."""

import threading
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from confluent_kafka import Message, Producer

from consumers.group import Group
from consumers.store.store import Store
from producers.publisher import EventPublisher
from schemas.registry import current
from schemas.topics import stored_topics, topics
from sentio import kafka as kafka_access
from sentio.batch import Batch
from sentio.config import ConsumerSettings
from sentio.errors import Fatal, Retryable
from sentio.stack.postgres import PostgresServer
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, count, publisher_settings, rows, running, until
from tests.samples import encoded, minute, signal, trade


@pytest.fixture
def settings(kafka: Kafka, database: str) -> ConsumerSettings:
    return consumer_settings(kafka.bootstrap, kafka.prefix, database)


WAITING = "select pid from pg_stat_activity where application_name = 'store' and wait_event_type = 'Lock'"


def dsn(settings: ConsumerSettings) -> str:
    return settings.database.get_secret_value()


def full(settings: ConsumerSettings, name: str = "trades.executed") -> str:
    return topics()[name].full_name(settings.topic_prefix)


@pytest.fixture
def raw(settings: ConsumerSettings) -> Iterator[Producer]:
    producer = Producer({"enable.idempotence": True, "bootstrap.servers": settings.kafka})
    yield producer
    assert producer.flush(10) == 0


def dead_letters(settings: ConsumerSettings, name: str = "trades.executed") -> list[Message]:
    topic = full(settings, name) + ".dead"
    spans = kafka_access.spans(settings.kafka, [(topic, 0)])
    return [message for messages in kafka_access.read(settings.kafka, spans) for message in messages]


def headers_of(letter: Message) -> dict[str, str]:
    headers: Any = letter.headers() or []
    return {name: text.decode() for name, text in headers}


def publish(settings: ConsumerSettings, *events: object) -> None:
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        for event in events:
            publisher.publish(event)  # type: ignore[arg-type] # events of several types


def test_every_kind_of_event_is_stored_exactly(settings: ConsumerSettings) -> None:
    publish(settings, trade(0), trade(1, pnl="-12.345678"), signal(0), minute(0, "100012.34"))
    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), "trades") == 2 and count(dsn(settings), "performance") == 1)
        until(lambda: count(dsn(settings), "signals") == 1)
    stored = rows(dsn(settings), "select quantity, price, realized_pnl, reason, order_id from trades order by sequence")
    assert stored == [
        (Decimal("100.00000000"), Decimal("109.0200000000"), None, 'rank, "strength"\nand more', None),
        (Decimal("101.00000000"), Decimal("109.0200000000"), Decimal("-12.345678"), 'rank, "strength"\nand more', None),
    ]
    assert rows(dsn(settings), "select probability, confidence from signals") == [(0.1 + 0.2, 1 / 3)]


def test_an_empty_text_is_not_a_missing_one(settings: ConsumerSettings) -> None:
    publish(settings, trade(0, reason="", order_id=""), trade(1, reason="\\N", order_id=None))
    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), "trades") == 2)
    found = rows(dsn(settings), "select reason, order_id from trades order by sequence")
    assert found == [("", ""), ("\\N", None)]


def test_a_restarted_store_continues_where_the_transaction_ended(settings: ConsumerSettings) -> None:
    publish(settings, *(trade(n) for n in range(50)))
    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), "trades") == 50)
    publish(settings, *(trade(n) for n in range(50)))
    with running(Store(settings), settings) as group:
        until(lambda: count(dsn(settings), "trades") == 100)
    assert group.records == 50


def test_what_cannot_be_stored_becomes_a_dead_letter_and_the_rest_is_stored(
    settings: ConsumerSettings, raw: Producer
) -> None:
    bad = [
        (b"no avro at all", "not framed Avro"),
        (b"\x00\x00\x00\x00\x07abc", "unknown schema id 7"),
        (encoded(trade(1), number=901)[:-3], "ends too early"),
        (encoded(trade(2, quantity=Decimal(0)), number=902), "not above 0"),
    ]
    for number in range(20):
        raw.produce(full(settings), encoded(trade(number), number=number), b"TQQQ")
        if number % 5 == 0:
            raw.produce(full(settings), bad[number // 5][0], b"TQQQ", headers={"traceparent": b"00-1"})
    assert raw.flush(10) == 0
    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), "trades") == 20)
        until(lambda: len(dead_letters(settings)) == 4)
    for letter, (value, reason) in zip(dead_letters(settings), bad, strict=True):
        headers = headers_of(letter)
        assert letter.value() == value
        assert letter.key() == b"TQQQ"
        assert headers["traceparent"] == "00-1"
        assert (headers["source.topic"], headers["source.group"]) == (full(settings), f"{settings.topic_prefix}.store")
        assert headers["error.type"] == "decode"
        assert reason in headers["error.message"]
    offsets = rows(dsn(settings), "select sum(next_offset) from consumer_offsets where next_offset > 0")
    assert offsets == [(24,)]


def test_a_name_too_long_for_an_index_is_a_dead_letter(settings: ConsumerSettings, raw: Producer) -> None:
    # Bytes that do not compress, as an index would try.
    noise = "".join(chr(0x4E00 + (number * 7919) % 20_000) for number in range(1_200))
    messages = [
        encoded(trade(0, symbol="A" * 500), number=0),
        encoded(trade(1, symbol=noise), number=1),
        encoded(trade(2), number=2, producer=noise),
        encoded(trade(3), number=3),
    ]
    for value in messages:
        raw.produce(full(settings), value, b"TQQQ")
    assert raw.flush(10) == 0
    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), "trades") == 2)
        until(lambda: len(dead_letters(settings)) == 2)
    said = [headers_of(letter)["error.message"] for letter in dead_letters(settings)]
    assert ["symbol of 3,600 bytes" in said[0], "producer of 3,600 bytes" in said[1]] == [True, True]


def test_a_row_that_breaks_a_constraint_of_its_table_is_a_dead_letter(
    settings: ConsumerSettings, raw: Producer
) -> None:
    # Limits of single fields are the schema's; this one the database alone knows.
    with running(Store(settings), settings):
        until(lambda: rows(dsn(settings), "select count(*) from consumer_offsets")[0][0] == 3 * len(stored_topics()))
    with psycopg.connect(dsn(settings)) as connection:
        connection.execute("alter table trades add constraint no_penny_stocks check (price > 5)")
    for number in range(9):
        price = Decimal("1.5") if number in (2, 7) else Decimal(100)
        raw.produce(full(settings), encoded(trade(number, price=price), number=number), b"TQQQ")
    assert raw.flush(10) == 0
    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), "trades") == 7)
        until(lambda: len(dead_letters(settings)) == 2)
    assert rows(dsn(settings), "select sequence from trades order by 1") == [(n,) for n in (0, 1, 3, 4, 5, 6, 8)]
    headers = headers_of(dead_letters(settings)[0])
    assert headers["error.type"] == "process"
    assert "no_penny_stocks" in headers["error.message"]


def test_a_repeated_event_is_stored_once(settings: ConsumerSettings, raw: Producer) -> None:
    for number in (0, 1, 2, 1, 2, 3, 0, 4):
        raw.produce(full(settings), encoded(trade(number), number=number), b"TQQQ")
    assert raw.flush(10) == 0
    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), "trades") == 5)
        raw.produce(full(settings), encoded(trade(4), number=4), b"TQQQ")
        raw.produce(full(settings), encoded(trade(5), number=5), b"TQQQ")
        until(lambda: count(dsn(settings), "trades") == 6)
    assert rows(dsn(settings), "select sequence from trades order by 1") == [(n,) for n in range(6)]


def test_an_event_of_the_same_id_from_another_partition_is_no_second_row(
    settings: ConsumerSettings, raw: Producer
) -> None:
    for partition in (0, 1):
        raw.produce(full(settings), encoded(trade(0), number=0), b"TQQQ", partition=partition)
        raw.produce(full(settings), encoded(trade(partition + 1), number=partition + 1), b"TQQQ", partition=partition)
    assert raw.flush(10) == 0
    with running(Store(settings), settings):
        until(
            lambda: rows(dsn(settings), "select sum(next_offset) from consumer_offsets where next_offset > 0") == [(4,)]
        )
    assert count(dsn(settings), "trades") == 3
    assert dead_letters(settings) == []


def test_two_members_share_the_work_and_one_takes_over(settings: ConsumerSettings) -> None:
    quick = settings.model_copy(update={"session_timeout_ms": 6_000})
    with running(Store(quick), quick) as stays:
        publish(settings, *(trade(n) for n in range(300)))
        with running(Store(quick), quick) as leaves:
            until(lambda: leaves._next and not leaves._unclaimed)
            publish(settings, *(trade(n) for n in range(300)))
            until(lambda: count(dsn(settings), "trades") == 600)
        publish(settings, *(trade(n) for n in range(300)))
        until(lambda: count(dsn(settings), "trades") == 900)
        until(lambda: len(stays._next) == 3 * len(stored_topics()))
    assert rows(dsn(settings), "select count(distinct event_id) from trades") == [(900,)]


def test_a_store_that_lost_its_partition_writes_nothing(settings: ConsumerSettings) -> None:
    publish(settings, *(trade(n) for n in range(10)))
    with running(Store(settings), settings) as group:
        until(lambda: count(dsn(settings), "trades") == 10)
        with psycopg.connect(dsn(settings)) as connection:
            # As another member does that is assigned the partitions while this one is frozen.
            connection.execute("update consumer_offsets set generation = generation + 1")
        publish(settings, *(trade(n) for n in range(10)))
        # The three symbols lie in two of the three partitions: those were tried and dropped.
        until(lambda: sum(topic == full(settings) for topic, _ in group._next) == 1)
    assert count(dsn(settings), "trades") == 10
    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), "trades") == 20)


class Forgetful(Store):
    """Writes its first batch of trades and then does not know that it did."""

    commits = 0

    def process(self, batch: Batch) -> None:
        super().process(batch)
        if batch.topic.table == "trades":
            self.commits += 1
            if self.commits == 1:
                raise Retryable("the connection was lost while the database committed")


def test_a_commit_of_unknown_outcome_is_looked_up_and_not_repeated(settings: ConsumerSettings) -> None:
    publish(settings, *(trade(n) for n in range(30)))
    store = Forgetful(settings)
    with running(store, settings):
        until(lambda: store.commits)
        publish(settings, *(trade(n) for n in range(30)))
        until(lambda: count(dsn(settings), "trades") == 60)
    assert rows(dsn(settings), "select count(distinct event_id) from trades") == [(60,)]
    assert rows(dsn(settings), "select sum(next_offset) from consumer_offsets where next_offset > 0") == [(60,)]


def test_a_database_that_dies_and_comes_back_costs_no_event(kafka: Kafka, own_database: PostgresServer) -> None:
    settings = consumer_settings(kafka.bootstrap, kafka.prefix, own_database.address or "")
    publish(settings, *(trade(n) for n in range(100)))
    with running(Store(settings), settings) as group:
        until(lambda: count(dsn(settings), "trades") == 100)
        own_database.kill()
        publish(settings, *(trade(n) for n in range(100)))
        until(lambda: not group.ready)
        own_database.start()
        until(lambda: count(dsn(settings), "trades") == 200)
    assert rows(dsn(settings), "select count(distinct event_id) from trades") == [(200,)]


def test_a_store_that_woke_up_inside_its_transaction_goes_on(settings: ConsumerSettings) -> None:
    publish(settings, *(trade(n) for n in range(10)))
    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), "trades") == 10)
        with psycopg.connect(dsn(settings)) as connection:
            # What the server does with a transaction that was idle for too long.
            connection.execute("lock table trades in access exclusive mode")
            publish(settings, *(trade(n) for n in range(10)))
            until(lambda: rows(dsn(settings), WAITING) != [])
            rows(dsn(settings), f"select pg_terminate_backend(pid) from ({WAITING}) as waiting")
        until(lambda: count(dsn(settings), "trades") == 20)


def test_an_owner_fenced_by_a_zombie_takes_its_partition_back(settings: ConsumerSettings) -> None:
    quick = settings.model_copy(update={"session_timeout_ms": 6_000})
    publish(settings, trade(0))
    with running(Store(quick), quick) as group:
        until(lambda: count(dsn(settings), "trades") == 1)
        rows(dsn(settings), "update consumer_offsets set generation = generation + 1 returning 1")
        publish(settings, trade(0))
        until(lambda: not group.ready)
        until(lambda: group.ready)
        until(lambda: count(dsn(settings), "trades") == 2)


def test_a_store_started_before_its_database_waits_for_it(kafka: Kafka, own_database: PostgresServer) -> None:
    settings = consumer_settings(kafka.bootstrap, kafka.prefix, own_database.address or "")
    publish(settings, trade(0))
    own_database.stop()
    with running(Store(settings), settings) as group:
        until(lambda: group._waiting)
        own_database.start()
        until(lambda: count(dsn(settings), "trades") == 1)


def test_a_topic_made_anew_is_refused_and_the_way_on_is_named(settings: ConsumerSettings) -> None:
    publish(settings, trade(0))
    with running(Store(settings), settings):
        until(lambda: count(dsn(settings), "trades") == 1)
    with psycopg.connect(dsn(settings)) as connection:
        connection.execute("update consumer_offsets set topic_id = 'another' where topic = %s", [full(settings)])
    with pytest.raises(Fatal, match=r"is another topic .* sentio skip store"):
        Group(Store(settings), settings, stop=threading.Event()).run()


def test_the_schema_id_is_on_the_wire(settings: ConsumerSettings) -> None:
    assert int.from_bytes(encoded(trade())[1:5], "big") == current("TradeExecuted").id
