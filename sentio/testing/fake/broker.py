"""The broker: topics, groups, and who of a group owns what. No network and no thread of its own."""

import threading
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer

from sentio.errors import Retryable
from sentio.kafka import Place, TopicState
from sentio.testing.fake.consumer import FakeConsumer
from sentio.testing.fake.producer import FakeProducer


class Log:
    """One partition."""

    def __init__(self) -> None:
        self.oldest = 0
        self.messages: list[Message] = []

    @property
    def next(self) -> int:
        return self.oldest + len(self.messages)


class Topic:
    def __init__(self, partitions: int) -> None:
        self.id = str(uuid.uuid4())
        self.logs = [Log() for _ in range(partitions)]


class Group:
    def __init__(self) -> None:
        self.members: list[FakeConsumer] = []
        self.committed: dict[Place, int] = {}


class FakeBroker:
    """Topics and groups; `consumer` and `producer` make its clients, from the settings of the real ones.

    Thread-safe. `describe` stands in for `sentio.kafka.describe`.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        """Guards all state of the broker and its clients; notified after every change."""

        self.is_up = True
        self._topics: dict[str, Topic] = {}
        self._groups: dict[str, Group] = {}
        self._producers: list[FakeProducer] = []

    def consumer(self, config: Mapping[str, Any]) -> Consumer:
        return cast("Consumer", FakeConsumer(self, config))

    def producer(self, config: Mapping[str, Any]) -> Producer:
        producer = FakeProducer(self, config)
        with self.changed:
            self._producers.append(producer)
        return cast("Producer", producer)

    def create_topic(self, name: str, partitions: int = 1) -> None:
        with self.changed:
            if name in self._topics:
                raise KafkaException(KafkaError(KafkaError.TOPIC_ALREADY_EXISTS))
            self._topics[name] = Topic(partitions)
            self._balance()

    def delete_topic(self, name: str) -> None:
        with self.changed:
            del self._topics[name]
            self._balance()

    def truncate(self, topic: str, partition: int, before: int) -> None:
        """Drop the records before this offset, as retention does."""
        with self.changed:
            log = self.log((topic, partition))
            del log.messages[: before - log.oldest]
            log.oldest = before
            self.changed.notify_all()

    def down(self) -> None:
        """From now on nothing gets an answer; what is produced waits in the producers."""
        with self.changed:
            self.is_up = False
            self.changed.notify_all()

    def up(self) -> None:
        with self.changed:
            self.is_up = True
            for producer in self._producers:
                producer.transmit()
            self.changed.notify_all()

    def expel(self, consumer: Consumer) -> None:
        """Its group heard nothing of it for too long: what it has is given away. It hears so, and joins again."""
        with self.changed:
            member = cast("FakeConsumer", consumer)
            member.is_lost = True
            self.leave(member)

    def describe(self, bootstrap: str, names: Iterable[str]) -> dict[str, TopicState]:  # noqa: ARG002 - the real one's
        with self.changed:
            if not self.is_up:
                raise Retryable("the fake broker is down")
            found = {name: self._topics[name] for name in names if name in self._topics}
            return {name: TopicState(topic.id, len(topic.logs)) for name, topic in found.items()}

    def messages(self, topic: str) -> list[Message]:
        """Everything in a topic, partition by partition."""
        with self.changed:
            return [message for log in self._topics[topic].logs for message in log.messages]

    def committed(self, group: str) -> dict[Place, int]:
        with self.changed:
            return dict(self.group(group).committed)

    # --- for the clients, which hold the lock ------------------------------------------------------------------------

    def log(self, place: Place) -> Log:
        """Raises `KafkaException` for a partition that does not exist, or when the broker is down."""
        if not self.is_up:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its public name
        topic = self._topics.get(place[0])
        if topic is None or not 0 <= place[1] < len(topic.logs):
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return topic.logs[place[1]]

    def partitions(self, topic: str) -> int:
        return len(self._topics[topic].logs) if topic in self._topics else 0

    def group(self, name: str) -> Group:
        return self._groups.setdefault(name, Group())

    def join(self, member: FakeConsumer) -> None:
        self.group(member.group_id).members.append(member)
        member.is_settled = False
        self._balance()

    def leave(self, member: FakeConsumer) -> None:
        self.group(member.group_id).members.remove(member)
        member.wanted = set()
        self._balance()

    def _balance(self) -> None:
        """Say what each member should own: equal shares, each keeping as much of what it has as its share allows."""
        for group in self._groups.values():
            topics = {topic for topic in self._topics if any(member.wants(topic) for member in group.members)}
            free = {(topic, partition) for topic in topics for partition in range(self.partitions(topic))}
            members = sorted(group.members, key=lambda member: -len(member.owned & free))
            share, more = divmod(len(free), len(members) or 1)
            shares = {member: share + (place < more) for place, member in enumerate(members)}
            for member in members:
                member.wanted = set(sorted(member.owned & free)[: shares[member]])
                free -= member.wanted
            rest = sorted(free)
            for member in members:
                missing = shares[member] - len(member.wanted)
                member.wanted.update(rest[:missing])
                del rest[:missing]
        self.changed.notify_all()
