"""The publisher against a real broker: in order, once, through outages and crashes."""

import signal
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from producers.publisher import EventPublisher
from schemas.amounts import quantity
from schemas.codec import decode
from schemas.topics import topics
from sentio import kafka as kafka_access
from sentio import topics as kafka_topics
from sentio.config import PublisherSettings, load
from sentio.stack.kafka import KafkaServer
from sentio.testing.proxy import slowed
from sentio.testing.servers import Kafka
from tests.pipeline import until
from tests.samples import signal as a_signal
from tests.samples import trade


def settings_for(bootstrap: str, prefix: str, **more: object) -> PublisherSettings:
    settings = load(PublisherSettings, kafka=bootstrap, topic_prefix=prefix, partitions=3, **more)
    kafka_topics.apply(settings, [change for change in kafka_topics.plan(settings) if change.lines])
    return settings


@pytest.fixture
def settings(kafka: Kafka) -> PublisherSettings:
    return settings_for(kafka.bootstrap, kafka.prefix)


def trades_on_log(settings: PublisherSettings) -> dict[int, list[tuple[str, int, bytes]]]:
    """(producer, sequence, event id) of each partition, in the order of the log."""
    name = topics()["trades.executed"].full_name(settings.topic_prefix)
    spans = kafka_access.spans(settings.kafka, [(name, partition) for partition in range(settings.partitions)])
    found: dict[int, list[tuple[str, int, bytes]]] = defaultdict(list)
    for messages in kafka_access.read(settings.kafka, spans):
        decoded = decode("TradeExecuted", [message.value() for message in messages])
        assert decoded.poison == ()
        rows = decoded.records.select(["producer", "sequence", "event_id"]).to_pylist()
        for message, row in zip(messages, rows, strict=True):
            found[message.partition() or 0].append((row["producer"], row["sequence"], row["event_id"]))
    return found


def sequences(settings: PublisherSettings) -> list[int]:
    return sorted(sequence for rows in trades_on_log(settings).values() for _, sequence, _ in rows)


def in_order(settings: PublisherSettings) -> bool:
    return all(
        [sequence for _, sequence, _ in rows] == sorted(sequence for _, sequence, _ in rows)
        for rows in trades_on_log(settings).values()
    )


def test_every_event_arrives_once_and_in_order_per_key(settings: PublisherSettings) -> None:
    with EventPublisher(settings, name="engine") as publisher:
        for number in range(3_000):
            publisher.publish(trade(number))
        assert publisher.flush() == 0
        counters = publisher.counters()
    assert (counters.published, counters.acknowledged, counters.failed) == (3_000, 3_000, 0)
    assert sequences(settings) == list(range(3_000))
    assert in_order(settings)
    ids = [event_id for rows in trades_on_log(settings).values() for _, _, event_id in rows]
    assert len(set(ids)) == 3_000


def test_an_event_that_cannot_be_encoded_costs_only_itself(settings: PublisherSettings) -> None:
    with EventPublisher(settings, name="engine") as publisher:
        publisher.publish(trade(0))
        publisher.publish(trade(1, quantity=quantity(1) / 3))
        publisher.publish(trade(2, action="HOLD"))
        publisher.publish(trade(3))
        publisher.flush()
        counters = publisher.counters()
    assert (counters.acknowledged, counters.failed, counters.waiting) == (2, 2, 0)
    assert sequences(settings) == [0, 3]


def test_a_record_the_broker_refuses_is_counted_and_the_rest_goes_on(settings: PublisherSettings) -> None:
    with EventPublisher(settings, name="engine") as publisher:
        publisher.publish(trade(0, reason="x" * 5_000_000))
        publisher.publish(trade(1))
        publisher.flush()
        counters = publisher.counters()
    assert (counters.acknowledged, counters.failed) == (1, 1)


def test_several_threads_publish_without_losing_or_doubling(settings: PublisherSettings) -> None:
    with EventPublisher(settings, name="engine") as publisher:

        def publish() -> None:
            for number in range(500):
                publisher.publish(trade(number))

        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        publisher.flush()
    assert sequences(settings) == list(range(2_000))


def test_a_player_that_starts_again_sends_only_what_the_log_lacks(settings: PublisherSettings) -> None:
    for already, upto in (((), 300), (range(300), 1_000)):
        with EventPublisher(settings, name="player", source="day", already=frozenset(already)) as publisher:
            for number in range(upto):
                publisher.publish(trade(number))
    assert publisher.counters().repeated == 300
    assert sequences(settings) == list(range(1_000))


def test_publishing_costs_the_caller_nothing_while_the_broker_is_gone(own_kafka: KafkaServer, tmp_path: Path) -> None:
    settings = settings_for(own_kafka.address or "", "outage", spool=tmp_path / "spool", queue_records=1_000)
    with EventPublisher(settings, name="engine") as publisher:
        publisher.publish(trade(0))
        assert publisher.flush() == 0
        own_kafka.kill()
        for number in range(1, 5_000):
            publisher.publish(trade(number))
            if number % 500 == 0:
                until(lambda: not publisher._queue)
        until(lambda: publisher.counters().spooled_bytes)
        assert publisher.counters().failed == 0
        own_kafka.start()
        assert publisher.flush(60) == 0
        assert publisher.counters().acknowledged == 5_000
        until(lambda: publisher.counters().spooled_bytes == 0)
    assert sequences(settings) == list(range(5_000))
    assert in_order(settings)


def test_order_and_number_hold_through_slowness_outage_spool_and_what_comes_back(
    settings: PublisherSettings, tmp_path: Path
) -> None:
    """A reader that drops a producer's repeats, as all do, misses nothing: whatever was overtaken would be missing."""
    changes = {"spool": tmp_path / "spool", "queue_records": 1_000}
    with ExitStack() as proxy:
        address = proxy.enter_context(slowed(settings.kafka, delay_ms=50))
        publisher = EventPublisher(settings.model_copy(update=changes | {"kafka": address}), name="engine")
        publish_on(publisher, 2_000)
        give_back(publisher)
        publish_on(publisher, 4_000)
        assert publisher.flush(60) == 0
        publish_on(publisher, 4_500)
    # The broker is gone, with events under way.
    publish_on(publisher, 8_000)
    until(lambda: publisher.counters().spooled_bytes)
    with slowed(settings.kafka, delay_ms=20, at=address):
        until(lambda: publisher.counters().acknowledged > 5_000)
        publish_on(publisher, 8_500)
        give_back(publisher)
        publish_on(publisher, 9_000)
        assert publisher.flush(60) == 0
        counters = publisher.close()
    assert (counters.published, counters.acknowledged, counters.failed) == (9_000, 9_000, 0)
    assert read_once(settings) == list(range(9_000))


def publish_on(publisher: EventPublisher, upto: int) -> None:
    """As many as memory holds at once."""
    for number in range(publisher.counters().published, upto):
        publisher.publish(trade(number))
        if number % 250 == 0:
            until(lambda: not publisher._queue)


def give_back(publisher: EventPublisher) -> None:
    """Have librdkafka give up on all that is under way, as after a fatal error of its own."""
    sender, turn = publisher._sender, publisher._sender.turn
    given = threading.Event()

    def once() -> int:
        sender.turn = turn  # type: ignore[method-assign] # puts back what was there
        sender._start_rebuild(KafkaError(KafkaError._FATAL))
        given.set()
        return turn()

    sender.turn = once  # type: ignore[method-assign] # librdkafka is not made to fail at will
    assert given.wait(20)


def read_once(settings: PublisherSettings) -> list[int]:
    """Sequences of one producer that a reader keeps, which drops what is at or below the newest of its partition."""
    kept = []
    for rows in trades_on_log(settings).values():
        newest = -1
        for _, sequence, _ in rows:
            if sequence > newest:
                kept.append(sequence)
                newest = sequence
    return sorted(kept)


def test_what_the_broker_never_took_goes_out_at_the_next_start(own_kafka: KafkaServer, tmp_path: Path) -> None:
    settings = settings_for(own_kafka.address or "", "restart", spool=tmp_path / "spool", queue_records=500)
    own_kafka.kill()
    publisher = EventPublisher(settings, name="engine")
    for number in range(2_000):
        publisher.publish(trade(number))
        if number % 250 == 0:
            until(lambda: not publisher._queue)
    assert publisher.close(timeout_s=0.5).waiting == 2_000
    own_kafka.start()
    with EventPublisher(settings, name="engine") as again:
        again.publish(trade(0))
        assert again.flush(60) == 0
        until(lambda: again.counters().spooled_bytes == 0)
    [first] = {who for rows in trades_on_log(settings).values() for who, _, _ in rows if who != again.producer}
    for rows in trades_on_log(settings).values():
        of_first = [sequence for who, sequence, _ in rows if who == first]
        assert of_first == sorted(of_first)
    assert {s for rows in trades_on_log(settings).values() for who, s, _ in rows if who == first} == set(range(2_000))


def test_a_full_spool_is_the_only_loss_and_is_counted(own_kafka: KafkaServer, tmp_path: Path) -> None:
    settings = settings_for(
        own_kafka.address or "", "full", spool=tmp_path / "spool", spool_max_bytes=1 << 20, queue_records=100
    )
    own_kafka.kill()
    publisher = EventPublisher(settings, name="engine")
    for number in range(300):
        publisher.publish(trade(number, reason="x" * 10_000))
        if number % 50 == 0:
            until(lambda: not publisher._queue)
    until(lambda: not publisher._queue and publisher.counters().failed)
    own_kafka.start()
    publisher.flush(60)
    counters = publisher.close()
    assert counters.failed > 0
    assert counters.acknowledged + counters.failed == 300
    assert len(sequences(settings)) == counters.acknowledged


DURABLE = """
import sys
from producers.publisher import EventPublisher
from sentio.config import PublisherSettings, load
from tests.samples import trade
publisher = EventPublisher(load(PublisherSettings), name="engine", durable=True)
for number in range(100_000):
    publisher.publish(trade(number))
    if number % 200 == 0:
        while publisher._queue:
            pass
        print(number, flush=True)
"""


def test_what_a_durable_publisher_accepted_survives_its_sigkill(
    settings: PublisherSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTIO_KAFKA", settings.kafka)
    monkeypatch.setenv("SENTIO_TOPIC_PREFIX", settings.topic_prefix)
    monkeypatch.setenv("SENTIO_SPOOL", str(tmp_path / "spool"))
    with subprocess.Popen([sys.executable, "-c", DURABLE], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        accepted = 0
        while accepted < 2_000:
            accepted = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    # Taken over from the spool by the next publisher; a few may come twice, which readers know by their sequence.
    with EventPublisher(load(PublisherSettings), name="engine") as publisher:
        until(lambda: publisher.counters().spooled_bytes == 0)
    # The last batch may still have been on its way to the spool when the count was printed.
    assert set(sequences(settings)) >= set(range(accepted - 1_000))
    found = sorted(set(sequences(settings)))
    assert found == list(range(len(found)))


def test_signals_and_trades_go_to_their_own_topics(settings: PublisherSettings) -> None:
    with EventPublisher(settings, name="engine") as publisher:
        publisher.publish(a_signal())
        publisher.publish(trade())
    names = [topics()[name].full_name(settings.topic_prefix) for name in ("signals.generated", "trades.executed")]
    ends = kafka_access.spans(settings.kafka, [(name, p) for name in names for p in range(3)])
    assert [sum(end for (topic, _), (_, end) in ends.items() if topic == name) for name in names] == [1, 1]


def test_a_closed_publisher_says_so(settings: PublisherSettings) -> None:
    publisher = EventPublisher(settings, name="engine")
    publisher.close()
    with pytest.raises(RuntimeError, match="closed"):
        publisher.publish(trade())
