"""Kafka's clock: a coordinator stamps what a group commits, so a group that nobody needs commits once and is read."""

import time
import uuid

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
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
    end = kafka.spans(settings.kafka, [place])[place][1]
    ends_s = time.monotonic() + TIMEOUT_S
    found = kafka.read(settings.kafka, {place: (max(0, end - BACK), end)}, stop=lambda: time.monotonic() > ends_s)
    ours = [message for messages in found for message in messages if group.encode() in _key(message)]
    return ours[-1].timestamp()[1] / 1_000 if ours else None


def _key(message: Message) -> bytes:
    key = message.key()
    return key if isinstance(key, bytes) else b""


def _hash(group: str) -> int:
    """Java's of a string, as the coordinator's partition goes by it."""
    value = 0
    for character in group:
        value = (31 * value + ord(character)) & 0xFFFFFFFF
    return value & 0x7FFFFFFF
