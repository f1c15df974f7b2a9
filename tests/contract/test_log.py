"""The log as clients see it: what is sent, in which partition, and what comes back from an offset."""

import zlib
from collections.abc import Callable
from typing import Any, cast

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    TIMESTAMP_CREATE_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from sentio import kafka
from sentio.errors import Retryable
from sentio.kafka import TopicState
from tests.contract.clusters import DEADLINE_S, HOUR_AGO_MS, Clients, Cluster, take, until, values


def test_records_of_a_key_stay_in_one_partition_and_in_order(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic(3)
    for number in range(60):
        clients.producer.produce(topic, str(number).encode(), f"key-{number % 6}".encode())
    assert clients.producer.flush(DEADLINE_S) == 0

    found = take(clients.reading(topic, 0, 0, 0), 60)

    for key in (f"key-{number}".encode() for number in range(6)):
        of_key = [message for message in found if message.key() == key]
        assert {message.partition() for message in of_key} == {zlib.crc32(key) % 3}
        assert [int(message.value() or b"") % 6 for message in of_key] == [int(key[-1:])] * 10
        assert values(of_key) == sorted(values(of_key), key=lambda value: int(value or b""))
    assert len({message.partition() for message in found}) > 1


def test_reading_begins_at_the_assigned_offset(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic(2)
    clients.send(topic, b"a0", b"a1", b"a2", b"a3")
    clients.send(topic, b"b0", b"b1", b"b2", partition=1)

    found = take(clients.reading(topic, 2, 1), 4)

    assert sorted((m.partition(), m.offset(), m.value()) for m in found) == [
        (0, 2, b"a2"),
        (0, 3, b"a3"),
        (1, 1, b"b1"),
        (1, 2, b"b2"),
    ]


def test_reading_from_the_beginning_skips_what_is_gone(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    clients.send(topic, b"0", b"1", b"2")
    cluster.truncate(topic, 0, 2)

    (found,) = take(clients.reading(topic, OFFSET_BEGINNING), 1)

    assert (found.offset(), found.value()) == (2, b"2")


def test_paused_partition_gives_nothing_and_resumes_where_it_was(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic(2)
    clients.send(topic, *(f"a{number}".encode() for number in range(6)))
    consumer = clients.reading(topic, 0, 0)
    assert values(take(consumer, 2)) == [b"a0", b"a1"]

    consumer.pause([TopicPartition(topic, 0)])
    clients.send(topic, b"b0", b"b1", partition=1)
    assert values(take(consumer, 2)) == [b"b0", b"b1"]
    assert consumer.consume(10, 0.3) == []

    consumer.resume([TopicPartition(topic, 0)])
    assert values(take(consumer, 4)) == [b"a2", b"a3", b"a4", b"a5"]


def test_partition_assigned_again_is_read_from_its_new_offset(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    clients.send(topic, b"0", b"1", b"2")
    consumer = clients.reading(topic, 2)
    assert values(take(consumer, 1)) == [b"2"]
    partition = TopicPartition(topic, 0, 1)

    consumer.pause([partition])
    consumer.incremental_unassign([partition])
    consumer.incremental_assign([partition])
    consumer.resume([partition])

    assert values(take(consumer, 2)) == [b"1", b"2"]


def test_partition_is_assigned_only_once(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    consumer = clients.reading(topic, 0)
    with pytest.raises(KafkaException) as twice:
        consumer.incremental_assign([TopicPartition(topic, 0, 0)])
    assert twice.value.args[0].code() == KafkaError._CONFLICT

    consumer.incremental_unassign([TopicPartition(topic, 0)])
    with pytest.raises(KafkaException) as gone:
        consumer.incremental_unassign([TopicPartition(topic, 0)])
    assert gone.value.args[0].code() == KafkaError._INVALID_ARG


@pytest.mark.parametrize("offset", [1, 9])
def test_offset_that_is_gone_or_never_was_is_said_once(cluster: Cluster, clients: Clients, offset: int) -> None:
    topic = cluster.create_topic()
    clients.send(topic, b"0", b"1", b"2", b"3")
    cluster.truncate(topic, 0, 3)
    consumer = clients.reading(topic, offset)

    (found,) = take(consumer, 1)

    error = found.error()
    assert error is not None
    assert error.code() == KafkaError._AUTO_OFFSET_RESET
    assert not error.fatal()
    assert (found.topic(), found.partition(), found.offset()) == (topic, 0, offset)
    assert consumer.consume(10, 0.3) == []


def test_oldest_and_next_offset_are_known(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic(2)
    clients.send(topic, b"0", b"1", b"2")
    cluster.truncate(topic, 0, 1)

    assert kafka.ends(clients.consumer(), [(topic, 0), (topic, 1)]) == {(topic, 0): (1, 3), (topic, 1): (0, 0)}


class Interrupted:
    """A consumer that counts its questions, and between two of them something happens."""

    def __init__(self, consumer: Consumer, between: Callable[[], object] = lambda: None) -> None:
        self.asked = 0
        self._consumer = consumer
        self._between = between

    def __getattr__(self, name: str) -> Any:
        def ask(*arguments: Any, **more: Any) -> Any:
            if self.asked == 1:
                self._between()
            self.asked += 1
            return getattr(self._consumer, name)(*arguments, **more)

        return ask


def test_however_many_partitions_there_are_they_are_asked_for_at_once(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic(20)
    for partition in range(20):
        clients.send(topic, *[b"x"] * (1 + partition % 2), partition=partition)
    consumer = Interrupted(clients.consumer())

    found = kafka.ends(cast("Consumer", consumer), [(topic, partition) for partition in range(20)])

    assert found == {(topic, partition): (0, 1 + partition % 2) for partition in range(20)}
    assert consumer.asked == 2
    assert kafka.ends(clients.consumer(), []) == {}


def test_first_offset_at_a_time_is_known_and_the_end_where_there_is_none(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic(3)
    for past_ms, partition in ((0, 0), (1_000, 0), (2_000, 0), (0, 1)):
        clients.producer.produce(topic, b"x", partition=partition, timestamp=HOUR_AGO_MS + past_ms)
    assert clients.producer.flush(DEADLINE_S) == 0
    places = [(topic, partition) for partition in range(3)]

    assert list(kafka.offsets_at(clients.consumer(), places, HOUR_AGO_MS + 500).values()) == [1, 1, 0]
    assert list(kafka.offsets_at(clients.consumer(), places, HOUR_AGO_MS).values()) == [0, 0, 0]


def test_what_is_published_while_offsets_are_asked_for_is_not_passed_by(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    clients.producer.produce(topic, b"before", timestamp=HOUR_AGO_MS)
    assert clients.producer.flush(DEADLINE_S) == 0
    consumer = Interrupted(clients.consumer(), lambda: clients.send(topic, b"meanwhile"))

    found = kafka.offsets_at(cast("Consumer", consumer), [(topic, 0)], HOUR_AGO_MS + 1_000)

    assert found == {(topic, 0): 1}


def test_a_partition_that_is_not_there_has_no_offsets(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()

    with pytest.raises(Retryable):
        kafka.ends(clients.consumer(), [(topic, 0), (topic, 9)])


def test_end_of_a_partition_is_said_where_wanted(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    clients.send(topic, b"0", b"1")
    consumer = clients.consumer(enable_partition_eof=True)
    consumer.assign([TopicPartition(topic, 0, 0)])

    *found, end = take(consumer, 3)

    assert values(found) == [b"0", b"1"]
    error = end.error()
    assert error is not None
    assert (error.code(), end.offset()) == (KafkaError._PARTITION_EOF, 2)


def test_delivery_says_partition_and_offset(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic(2)
    told: list[tuple[KafkaError | None, int | None, int | None, bytes | None]] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        told.append((error, message.partition(), message.offset(), message.value()))

    for value in (b"0", b"1"):
        clients.producer.produce(topic, value, partition=1, on_delivery=delivered)
    assert told == []
    assert len(clients.producer) == 2
    until(lambda: len(told) == 2, lambda: clients.producer.poll(0.1))

    assert told == [(None, 1, 0, b"0"), (None, 1, 1, b"1")]
    assert len(clients.producer) == 0


def test_headers_key_and_timestamp_come_through(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    headers: list[tuple[str, str | bytes | None]] = [("a", b"\x00\xff"), ("a", b"again"), ("text", "é"), ("none", None)]
    clients.producer.produce(topic, "text", "kéy", headers=headers, timestamp=HOUR_AGO_MS)
    assert clients.producer.flush(DEADLINE_S) == 0

    (found,) = take(clients.reading(topic, 0), 1)

    assert (found.error(), found.topic(), found.partition(), found.offset()) == (None, topic, 0, 0)
    assert (found.key(), found.value()) == ("kéy".encode(), b"text")
    assert found.headers() == [("a", b"\x00\xff"), ("a", b"again"), ("text", "é".encode()), ("none", None)]
    assert found.timestamp() == (TIMESTAMP_CREATE_TIME, HOUR_AGO_MS)


def test_tombstone_is_no_empty_value(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    clients.producer.produce(topic, None, b"key")
    clients.producer.produce(topic, b"", b"key")
    clients.producer.produce(topic, b"no key")
    assert clients.producer.flush(DEADLINE_S) == 0

    found = take(clients.reading(topic, 0), 3)

    assert values(found) == [None, b"", b"no key"]
    assert [message.key() for message in found] == [b"key", b"key", None]
    assert [message.headers() for message in found] == [None, None, None]


def test_record_too_large_is_refused_at_once(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    with pytest.raises(KafkaException) as refusal:
        clients.producer.produce(topic, bytes(1_000_001))
    assert refusal.value.args[0].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert len(clients.producer) == 0


def test_batch_goes_in_order_and_only_what_fails_is_told(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    producer = cluster.producer(delivery_report_only_error=True)
    told: list[KafkaError | None] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        told.append(error)

    messages = [{"key": b"k%d" % (number % 2), "value": b"%d" % number} for number in range(6)]
    assert producer.produce_batch(topic, messages, on_delivery=delivered) == 6
    until(lambda: len(producer) == 0, lambda: producer.poll(0.1))

    assert told == []
    found = take(clients.reading(topic, 0), 6)
    assert [(each.key(), each.value()) for each in found] == [(b"k%d" % (n % 2), b"%d" % n) for n in range(6)]


def test_what_a_batch_has_no_room_for_is_refused_with_all_behind_it(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    producer = cluster.producer(queue_buffering_max_messages=3, linger_ms=60_000)
    messages: list[dict[str, Any]] = [{"value": b"%d" % number} for number in range(5)]

    assert producer.produce_batch(topic, messages) == 3

    errors = [message["_error"].code() if "_error" in message else None for message in messages]
    assert errors == [None, None, None, KafkaError._QUEUE_FULL, KafkaError._QUEUE_FULL]
    assert producer.flush(DEADLINE_S) == 0
    assert values(take(clients.reading(topic, 0), 3)) == [b"0", b"1", b"2"]


def test_record_too_large_costs_a_batch_only_itself(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    messages: list[dict[str, Any]] = [{"value": b"0"}, {"value": bytes(1_000_001)}, {"value": b"2"}]

    assert clients.producer.produce_batch(topic, messages) == 2

    assert [set(message) for message in messages] == [{"value"}, {"value", "_error"}, {"value"}]
    assert messages[1]["_error"].code() == KafkaError.MSG_SIZE_TOO_LARGE
    assert clients.producer.flush(DEADLINE_S) == 0
    assert values(take(clients.reading(topic, 0), 2)) == [b"0", b"2"]


def test_batch_takes_no_times(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic()
    with pytest.raises(NotImplementedError, match="timestamps"):
        clients.producer.produce_batch(topic, [{"value": b"0", "timestamp": HOUR_AGO_MS}])
    assert len(clients.producer) == 0


def test_topic_made_again_is_empty_and_has_another_id(cluster: Cluster, clients: Clients) -> None:
    topic = cluster.create_topic(2)
    clients.send(topic, b"0")
    before = cluster.describe([topic, "never-made"])
    cluster.delete_topic(topic)
    until(lambda: cluster.describe([topic]) == {}, lambda: None)

    assert cluster.create_topic(3, name=topic) == topic
    until(lambda: cluster.describe([topic]) != {}, lambda: None)

    after = cluster.describe([topic])
    assert before == {topic: TopicState(before[topic].id, 2)}
    assert after == {topic: TopicState(after[topic].id, 3)}
    assert before[topic].id != after[topic].id
    reader = clients.consumer()

    def is_empty() -> bool:
        try:
            return kafka.ends(reader, [(topic, 0)]) == {(topic, 0): (0, 0)}
        except Retryable:  # a new topic may have no leader yet
            return False

    until(is_empty, lambda: None)
