"""How far each group of the platform is behind the end of the log."""

import time
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException
from confluent_kafka.admin import AdminClient

from sentio import kafka
from sentio.config import Settings
from sentio.errors import Retryable
from sentio.kafka import Place

TIMEOUT_S = 10


@dataclass(frozen=True, slots=True)
class Lag:
    """One group in one partition. ``oldest_unread_s`` is now minus Kafka's timestamp of the next unread record."""

    group: str
    topic: str
    partition: int
    offset: int
    end: int
    lag: int
    oldest_unread_s: float


def lags(settings: Settings) -> list[Lag]:
    """Lag of every group whose name begins with the topic prefix; raises `Retryable` when Kafka does not answer."""
    committed = _committed(settings)
    ends = kafka.spans(settings.kafka, {place for offsets in committed.values() for place in offsets})
    unread = {
        (place, offset)
        for offsets in committed.values()
        for place, offset in offsets.items()
        if offset < ends[place][1]
    }
    times_ms = {(place, offset): _next_time_ms(settings, place, offset, ends[place][1]) for place, offset in unread}
    now_ms = time.time() * 1000
    rows = []
    for group, offsets in sorted(committed.items()):
        for place, offset in sorted(offsets.items()):
            at_ms = times_ms.get((place, offset))
            age_s = 0.0 if at_ms is None else max(0.0, (now_ms - at_ms) / 1000)
            end = ends[place][1]
            rows.append(Lag(group, *place, offset, end, end - offset if at_ms is not None else 0, round(age_s, 3)))
    return rows


def _committed(settings: Settings) -> dict[str, dict[Place, int]]:
    admin = AdminClient(kafka.client(settings.kafka))
    try:
        names = [name for name in _groups(admin) if name.startswith(f"{settings.topic_prefix}.")]
        found = {}
        for name in names:
            future = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(name)])[name]
            partitions = future.result(TIMEOUT_S).topic_partitions
            found[name] = {(p.topic, p.partition): p.offset for p in partitions if p.offset >= 0}
    except (KafkaException, TimeoutError) as failure:
        raise Retryable(f"kafka at {settings.kafka} (SENTIO_KAFKA) does not answer: {failure}") from failure
    return found


def _groups(admin: AdminClient) -> list[str]:
    listed = admin.list_consumer_groups(request_timeout=TIMEOUT_S).result(TIMEOUT_S + 1)
    if listed.errors:
        raise KafkaException(listed.errors[0])
    return [group.group_id for group in listed.valid]


def _next_time_ms(settings: Settings, place: Place, offset: int, end: int) -> int | None:
    """Timestamp of the first record at or after ``offset``; None when only markers are left."""
    for messages in kafka.read(settings.kafka, {place: (offset, end)}, at_most=1):
        return int(messages[0].timestamp()[1])
    return None
