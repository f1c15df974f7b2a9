"""The fake and the real broker behind one face, and members of a group that take notes."""

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # its stubs forget to export it

from sentio import kafka
from sentio.kafka import Place, TopicState
from sentio.testing.fake import FakeBroker
from sentio.testing.servers import Kafka

DEADLINE_S = 20.0

HOUR_AGO_MS = time.time_ns() // 10**6 - 3_600_000
"""A record's time within the retention: a broker deletes what is older, even while a test reads it."""

GROUP = {"partition_assignment_strategy": "cooperative-sticky", "enable_partition_eof": False}
GROUP |= {"auto_offset_reset": "earliest", "session_timeout_ms": 6_000, "heartbeat_interval_ms": 200}
"""What a member of a group has beyond `kafka.reader`, as in `consumers.group`; it begins where it
committed, else with the oldest record."""

MISSED_SOON = {"session_timeout_ms": 1_500, "max_poll_interval_ms": 1_500}


class Cluster(Protocol):
    """What the contract needs of a Kafka."""

    def create_topic(self, partitions: int = 1, *, name: str | None = None) -> str:
        """Its name: another with every call, or the one given."""
        ...

    def delete_topic(self, name: str) -> None: ...
    def truncate(self, topic: str, partition: int, before: int) -> None: ...
    def describe(self, names: list[str]) -> dict[str, TopicState]: ...
    def new_group(self) -> str: ...
    def miss(self, member: "Member") -> None:
        """Have the group take a member that does not poll for gone, soon."""
        ...

    def consumer(self, config: Mapping[str, object]) -> Consumer: ...
    def producer(self, **settings: object) -> Producer: ...


class FakeCluster:
    def __init__(self, broker: FakeBroker) -> None:
        self._broker = broker
        self._made = 0
        self.delete_topic = broker.delete_topic
        self.truncate = broker.truncate

    def create_topic(self, partitions: int = 1, *, name: str | None = None) -> str:
        self._made += 1
        name = name or f"topic-{self._made}"
        self._broker.create_topic(name, partitions)
        return name

    def describe(self, names: list[str]) -> dict[str, TopicState]:
        return self._broker.describe("", names)

    def new_group(self) -> str:
        self._made += 1
        return f"group-{self._made}"

    def miss(self, member: "Member") -> None:
        self._broker.expel(member.client)

    def consumer(self, config: Mapping[str, object]) -> Consumer:
        return self._broker.consumer(kafka.reader("") | dict(config))

    def producer(self, **settings: object) -> Producer:
        return self._broker.producer(kafka.client("") | _dotted(settings))


class RealCluster:
    def __init__(self, corner: Kafka) -> None:
        self._corner = corner
        self._admin = AdminClient(kafka.client(corner.bootstrap))
        self._made = 0

    def create_topic(self, partitions: int = 1, *, name: str | None = None) -> str:
        self._made += 1
        name = name or self._corner.topic(f"topic-{self._made}")
        self._admin.create_topics([NewTopic(name, partitions, 1)])[name].result(DEADLINE_S)
        return name

    def delete_topic(self, name: str) -> None:
        self._admin.delete_topics([name])[name].result(DEADLINE_S)

    def truncate(self, topic: str, partition: int, before: int) -> None:
        for future in self._admin.delete_records([TopicPartition(topic, partition, before)]).values():
            future.result(DEADLINE_S)

    def describe(self, names: list[str]) -> dict[str, TopicState]:
        return kafka.describe(self._corner.bootstrap, names)

    def new_group(self) -> str:
        return self._corner.group()

    def miss(self, member: "Member") -> None:
        """It comes by itself for a member with `MISSED_SOON`."""

    def consumer(self, config: Mapping[str, object]) -> Consumer:
        return Consumer(kafka.reader(self._corner.bootstrap) | dict(config))

    def producer(self, **settings: object) -> Producer:
        return Producer(kafka.client(self._corner.bootstrap) | {"linger.ms": 0} | _dotted(settings))


class Member:
    """A member of a group that notes what it is given, what it loses, and what it reads."""

    def __init__(self, client: Consumer, *topics: str) -> None:
        self.client = client
        self.owned: set[int] = set()
        self.lost: set[int] = set()
        """Every partition it ever had to give back, or was told that others have."""

        self.losses = 0
        self.assignments: list[int] = []
        """Number of partitions in each."""

        self.read: list[Message] = []
        client.subscribe(list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost)

    def turn(self) -> None:
        self.read += [message for message in self.client.consume(100, 0.02) if message.error() is None]

    def values(self, partition: int | None = None) -> list[bytes | None]:
        return [message.value() for message in self.read if partition in (None, message.partition())]

    def _on_assign(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self.owned.update(each.partition for each in partitions)
        self.assignments.append(len(partitions))
        client.incremental_assign(partitions)

    def _on_revoke(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        numbers = {each.partition for each in partitions}
        self.lost |= numbers
        self.owned -= numbers
        client.incremental_unassign(partitions)

    def _on_lost(self, client: Consumer, partitions: list[TopicPartition]) -> None:
        self.losses += 1
        self._on_revoke(client, partitions)


class Clients:
    """Makes clients of a cluster; what is open at the end is closed."""

    def __init__(self, cluster: Cluster) -> None:
        # A slow broker may be asked twice: what it has taken twice would be another log than the test has written.
        self.producer = cluster.producer(enable_idempotence=True)
        self._cluster = cluster
        self._open: list[Consumer] = []

    def consumer(self, **settings: Any) -> Consumer:
        """One of no group; its settings with ``_`` for ``.``."""
        named = _dotted(settings)
        self._open.append(self._cluster.consumer(named))
        return self._open[-1]

    def reading(self, topic: str, *offsets: int) -> Consumer:
        """One that reads the partitions of a topic from these offsets."""
        consumer = self.consumer(enable_partition_eof=False)
        consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in enumerate(offsets)])
        return consumer

    def member(self, group: str, *topics: str, **settings: Any) -> Member:
        return Member(self.consumer(**(GROUP | {"group_id": group} | settings)), *topics)

    def send(self, topic: str, *values: bytes, partition: int = 0) -> None:
        """Append values to a partition, and wait until they are there."""
        for value in values:
            self.producer.produce(topic, value, partition=partition)
        assert self.producer.flush(DEADLINE_S) == 0

    def close(self) -> None:
        for consumer in self._open:
            consumer.close()


def take(consumer: Consumer, count: int) -> list[Message]:
    """The next so many messages, errors included."""
    found: list[Message] = []
    until(lambda: len(found) >= count, lambda: found.extend(consumer.consume(count - len(found), 0.1)))
    return found


def values(messages: list[Message]) -> list[bytes | None]:
    return [message.value() for message in messages]


def place(message: Message) -> Place:
    return message.topic() or "", -1 if (partition := message.partition()) is None else partition


def until(condition: Callable[[], bool], turn: Callable[[], object]) -> None:
    """Do ``turn``, which has to wait a little itself, until the condition holds."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline_s, "still not so"
        turn()


def _dotted(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of librdkafka, written as keywords."""
    return {name.replace("_", "."): value for name, value in settings.items()}
