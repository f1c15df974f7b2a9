"""How far each group of the platform is behind the end of the log, in records and in seconds."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from sentio import kafka
from sentio.config import Settings
from sentio.errors import Retryable
from sentio.kafka import Place

TIMEOUT_S = 10
READ_S = 15.0


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


@dataclass(slots=True)
class Behind:
    """One group in one topic, its partitions added."""

    records: int = 0
    oldest_unread_s: float = 0.0
    retention_left_s: float | None = None
    """Until Kafka may delete what it has not read; None: the topic is kept for ever, or by key."""


def by_topic(rows: Iterable[Lag], kept_s: Mapping[str, float]) -> dict[tuple[str, str], Behind]:
    """By group and topic. ``kept_s``: for how long Kafka keeps a topic's records, as `sentio.survey` finds it."""
    found: dict[tuple[str, str], Behind] = {}
    for row in rows:
        one = found.setdefault((row.group, row.topic), Behind())
        one.records += row.lag
        one.oldest_unread_s = max(one.oldest_unread_s, row.oldest_unread_s)
        if row.topic in kept_s:
            one.retention_left_s = kept_s[row.topic] - one.oldest_unread_s
    return found


def lags(settings: Settings) -> list[Lag]:
    """Lag of every group whose name begins with the topic prefix; raises `Retryable` when Kafka does not answer."""
    committed = _committed(settings)
    ends = kafka.spans(settings.kafka, {place for offsets in committed.values() for place in offsets})
    rows = []
    for group, offsets in sorted(committed.items()):
        unread = {place: offset for place, offset in offsets.items() if offset < ends[place][1]}
        times_ms = _next_times_ms(settings, unread)
        now_ms = time.time() * 1000
        for place, offset in sorted(offsets.items()):
            at_ms = times_ms.get(place)
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
        raise kafka.silent(settings.kafka, failure) from failure
    return found


def _groups(admin: AdminClient) -> list[str]:
    listed = admin.list_consumer_groups(request_timeout=TIMEOUT_S).result(TIMEOUT_S + 1)
    if listed.errors:
        raise KafkaException(listed.errors[0])
    return [group.group_id for group in listed.valid]


def _next_times_ms(settings: Settings, offsets: Mapping[Place, int]) -> dict[Place, int]:
    """Timestamp of the first record at or after each offset; nothing where only markers are left.

    An offset that retention has overtaken is taken for the oldest one there is.
    """
    if not offsets:
        return {}
    # One record of each partition is wanted: no reading ahead.
    sparing = {"queued.min.messages": 1, "fetch.message.max.bytes": 16_384, "auto.offset.reset": "earliest"}
    consumer = Consumer(kafka.reader(settings.kafka, name="sentio-lag") | sparing)
    left = set(offsets)
    found: dict[Place, int] = {}
    deadline_s = time.monotonic() + READ_S
    try:
        consumer.assign([TopicPartition(*place, offset) for place, offset in offsets.items()])
        while left:
            if time.monotonic() > deadline_s:
                raise Retryable(f"kafka at {settings.kafka} (SENTIO_KAFKA): records are not read within {READ_S:g} s")
            for message in consumer.consume(1_000, 0.2):
                place = (message.topic() or "", message.partition() or 0)
                if place not in left:
                    continue
                error = message.error()
                if error is None:
                    found[place] = int(message.timestamp()[1])
                elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    continue
                left.discard(place)
                consumer.incremental_unassign([TopicPartition(*place)])
    finally:
        consumer.close()
    return found
