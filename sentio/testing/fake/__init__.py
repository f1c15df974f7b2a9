"""Kafka in memory, for unit tests: a broker, and clients with the part of confluent_kafka's that the platform uses.

tests/contract holds it to what the real one does. Transactions, message timeouts and compaction are not here.
"""

from sentio.testing.fake.broker import FakeBroker
from sentio.testing.fake.consumer import FakeConsumer
from sentio.testing.fake.producer import FakeProducer

__all__ = ["FakeBroker", "FakeConsumer", "FakeProducer"]
