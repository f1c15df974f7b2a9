"""The fake broker in the place of Kafka."""

from collections.abc import Iterator

import pytest
from confluent_kafka import Consumer as KafkaConsumer

from consumers import deadletters, waiting
from sentio import kafka
from sentio.testing.fake import FakeBroker
from tests.notebook import GROUP, PARTITIONS, TOPIC


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> FakeBroker:
    """With the topic of trades and its dead letters; groups that use it wait little between tries."""
    made = FakeBroker()
    made.create_topic(TOPIC, PARTITIONS)
    made.create_topic(f"{TOPIC}.dead")
    monkeypatch.setattr(kafka, "describe", made.describe)
    monkeypatch.setattr(deadletters, "Producer", made.producer)
    monkeypatch.setattr(waiting, "FIRST_S", 0.01)
    monkeypatch.setattr(waiting, "MOST_S", 0.05)
    return made


@pytest.fixture
def observer(broker: FakeBroker) -> Iterator[KafkaConsumer]:
    """A bystander that joins the group when it is told to, and gives everything back at the end."""
    client = broker.consumer({"group.id": GROUP, "auto.offset.reset": "earliest"})
    yield client
    client.close()
