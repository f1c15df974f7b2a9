"""Kafka's clock: a coordinator stamps what a group commits, so a group that nobody needs commits once and is read."""

import time
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from sentio import kafka
from sentio.config import Settings
from sentio.errors import Retryable

OFFSETS = "__consumer_offsets"
TIMEOUT_S = 10.0
BACK = 500
"""Records before the end in which the commit is looked for: others commit meanwhile."""


def kafka_ahead_s(settings: Settings) -> float | None:
    """Seconds by which the broker's clock is ahead of ours; None where it cannot be told."""
    group = f"sentio-doctor-{uuid.uuid4().hex}"
    admin = AdminClient(kafka.client(settings.kafka))
    try:
        began_s = time.time()
        _commit(settings, group)
        ended_s = time.time()
        at_s = _stamp_s(settings, group)
    except (KafkaException, Retryable):
        return None
    finally:
        for future in admin.delete_consumer_groups([group], request_timeout=TIMEOUT_S).values():
            future.exception(TIMEOUT_S)  # it is forgotten by Kafka in a week at the latest
    if at_s is None:
        return None
    # Somewhere between the two it was stamped: within them there is no difference to be seen.
    return 0.0 if began_s <= at_s <= ended_s else at_s - (ended_s if at_s > ended_s else began_s)


def _commit(settings: Settings, group: str) -> None:
    consumer = Consumer(kafka.client(settings.kafka) | {"group.id": group, "enable.auto.commit": False})
    try:
        consumer.commit(offsets=[TopicPartition(OFFSETS, 0, 0)], asynchronous=False)
    finally:
        consumer.close()


def _stamp_s(settings: Settings, group: str) -> float | None:
    state = kafka.describe(settings.kafka, [OFFSETS])[OFFSETS]
    place = (OFFSETS, _hash(group) % state.partitions)
    # Somebody's transaction may hang in that partition, and would hide what comes behind it.
    consumer = Consumer(kafka.reader(settings.kafka) | {"isolation.level": "read_uncommitted"})
    ends_s = time.monotonic() + TIMEOUT_S
    stamp_s = None
    try:
        end = kafka.ends(consumer, [place])[place][1]
        consumer.assign([TopicPartition(*place, max(0, end - BACK))])
        while time.monotonic() < ends_s:
            for message in consumer.consume(BACK, 0.2):
                error = message.error()
                if error is not None and error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    return stamp_s
                if error is None and group.encode() in _key(message):
                    stamp_s = message.timestamp()[1] / 1_000
    finally:
        consumer.close()
    return stamp_s


def _key(message: Message) -> bytes:
    key = message.key()
    return key if isinstance(key, bytes) else b""


def _hash(group: str) -> int:
    """Java's of a string without its sign, as the coordinator's partition goes by it."""
    value = 0
    for character in group:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value if value < 1 << 31 else (1 << 32) - value
