"""Who is behind, on a real broker: of the records that are there, in numbers and in seconds."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry

from consumers.consumer import Consumer
from producers.publisher import EventPublisher
from schemas.events import EngineHeartbeat
from sentio.batch import Batch
from sentio.config import ConsumerSettings
from sentio.exporter import Exporter
from sentio.lag import lags
from sentio.survey import last_beats, spans
from sentio.testing.servers import Kafka
from tests.pipeline import consumer_settings, publisher_settings, running, until
from tests.samples import trade

GROUPS = ("one", "two")


class Reads(Consumer):
    topics = ("trades.executed",)

    def __init__(self, name: str) -> None:
        self.name = name  # type: ignore[misc] # of this instance
        self.records = 0

    def process(self, batch: Batch) -> None:
        self.records += len(batch)


@pytest.fixture
def settings(kafka: Kafka, database: str) -> ConsumerSettings:
    return consumer_settings(kafka.bootstrap, kafka.prefix, database)


def beat(at: datetime, state: str = "running") -> EngineHeartbeat:
    return EngineHeartbeat(engine="rotation", version="1", mode="paper", state=state, beat_at=at)


def publish(settings: ConsumerSettings, *events: Any) -> None:
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        for event in events:
            publisher.publish(event)


def test_exporter_shows_groups_topics_dead_letters_and_beats(settings: ConsumerSettings) -> None:
    now = datetime.now(UTC)
    publish(settings, *[trade(number) for number in range(6)], beat(now - timedelta(minutes=1)), beat(now))
    for name in GROUPS:
        reads = Reads(name)
        with running(reads, settings):
            until(lambda reads=reads: reads.records == 6)  # type: ignore[misc] # bound now
    trades = f"{settings.topic_prefix}.trades.executed"
    producer = Producer({"enable.idempotence": True, "bootstrap.servers": settings.kafka})
    long_ago_ms = int((now - timedelta(hours=1)).timestamp() * 1_000)
    for partition in range(3):
        producer.produce(trades, b"unread", partition=partition, timestamp=long_ago_ms)
    producer.produce(f"{trades}.dead", b"letter")
    assert producer.flush(10) == 0

    registry = CollectorRegistry()
    exporter = Exporter(settings)
    registry.register(exporter)
    assert not exporter.ready
    exporter.look()

    def value(name: str, **labels: str) -> float | None:
        return registry.get_sample_value(name, labels)

    for name in GROUPS:
        group = f"{settings.topic_prefix}.{name}"
        for number in range(3):
            place = {"group": group, "topic": "trades.executed", "partition": str(number)}
            if value("sentio_lag_records", **place) is not None:  # a group commits where it has read
                assert value("sentio_lag_records", **place) == 1
                assert 3_600 <= (value("sentio_lag_seconds", **place) or 0) < 3_700
        left_s = value("sentio_lag_retention_left_seconds", group=group, topic="trades.executed")
        assert 7 * 86_400 - 3_700 < (left_s or 0) <= 7 * 86_400 - 3_600
    assert value("sentio_topic_end_offset", topic="trades.executed") == 9
    assert value("sentio_dead_letters_total", topic="trades.executed") == 1
    assert value("sentio_dead_letters_kept", topic="trades.executed") == 1
    assert value("sentio_topic_retention_seconds", topic="engine.heartbeat") is None
    beat_s = value("sentio_engine_beat_timestamp_seconds", engine="rotation", mode="paper")
    assert beat_s == pytest.approx(now.timestamp(), abs=0.001)
    assert value("sentio_lag_ready") == 1


def test_of_a_platform_without_topics_and_groups_there_is_nothing_to_see(kafka: Kafka) -> None:
    settings = ConsumerSettings(kafka=kafka.bootstrap, topic_prefix=kafka.prefix)

    assert (lags(settings), spans(settings), last_beats(settings)) == ([], [], [])
