"""An answer of a slow broker that comes after the claim: what the storm found, alone and every time."""

import os
import signal
import threading

from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import Producer, TopicPartition

from consumers.consumer import Consumer
from consumers.group import Group
from schemas.topics import topics
from sentio import kafka
from sentio import topics as cluster
from sentio.config import ConsumerSettings, load
from sentio.stack.kafka import KafkaServer
from tests.pipeline import until

RECORDS = 100


class Reader(Consumer):
    name = "reader"
    topics = ("trades.executed",)


def test_a_position_taken_while_the_broker_is_slow_is_kept(own_kafka: KafkaServer) -> None:
    bootstrap, pid = own_kafka.address or "", own_kafka.pid or 0
    settings = load(ConsumerSettings, kafka=bootstrap, topic_prefix="late", partitions=1)
    cluster.apply(settings, [change for change in cluster.plan(settings) if change.lines])
    topic = topics()["trades.executed"].full_name("late")
    producer = Producer({"enable.idempotence": True, "bootstrap.servers": bootstrap})
    for _ in range(RECORDS):  # in batches of one, and a fetch takes four: later ones would follow a moved position
        producer.produce(topic, bytes(500))
        assert producer.flush(30) == 0

    client = KafkaConsumer(kafka.reader(bootstrap) | {"fetch.message.max.bytes": 2_000, "enable.partition.eof": False})
    place = [TopicPartition(topic, 0, 0)]
    client.assign(place)
    until(lambda: client.poll(0.1))  # connected, and the leader known
    client.unassign()
    group = Group(Reader(), settings, stop=threading.Event(), connect=lambda _: client)
    os.kill(pid, signal.SIGSTOP)
    try:
        group._on_assign(client, place)
        client.poll(0.5)
        client.incremental_unassign(place)  # as a claim does, once it knows where to begin
        client.incremental_assign(place)
        client.resume(place)
        client.poll(0.5)
    finally:
        os.kill(pid, signal.SIGCONT)
    offsets: list[int] = []

    def read() -> bool:
        for _, messages in group._reader.read(RECORDS, 0.2).messages:
            offsets.extend(messages.columns()[1].to_pylist())
        return len(offsets) >= RECORDS

    until(read)
    group._reader.close()
    client.close()
    assert offsets == list(range(RECORDS))
