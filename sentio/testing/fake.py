"""Kafka in memory, for unit tests: a broker, and clients with the part of confluent_kafka's that the platform uses.

tests/contract holds it to what the real one does. Transactions, message timeouts and compaction are not here.
"""

import random
import threading
import time
import uuid
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    TIMESTAMP_CREATE_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)

from sentio.errors import Retryable
from sentio.kafka import Place, TopicState

Delivery = Callable[[KafkaError | None, Message], None]
Headers = Sequence[tuple[str, str | bytes | None]]
Rebalance = Callable[[Consumer, list[TopicPartition]], None]

MESSAGE_MAX_BYTES = 1_000_000


class _Log:
    """One partition."""

    def __init__(self) -> None:
        self.oldest = 0
        self.messages: list[Message] = []

    @property
    def next(self) -> int:
        return self.oldest + len(self.messages)


class _Topic:
    def __init__(self, partitions: int) -> None:
        self.id = str(uuid.uuid4())
        self.logs = [_Log() for _ in range(partitions)]


class _Group:
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
        self._topics: dict[str, _Topic] = {}
        self._groups: dict[str, _Group] = {}
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
            self._topics[name] = _Topic(partitions)
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

    def expel(self, group: str) -> None:
        """Every member of the group was silent for too long: what they own is given away, and they join again."""
        with self.changed:
            for member in list(self.group(group).members):
                member.is_lost = True
                self.leave(group, member)

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

    def log(self, place: Place) -> _Log:
        """Raises `KafkaException` for a partition that does not exist, or when the broker is down."""
        if not self.is_up:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its public name
        topic = self._topics.get(place[0])
        if topic is None or not 0 <= place[1] < len(topic.logs):
            raise KafkaException(KafkaError(KafkaError.UNKNOWN_TOPIC_OR_PART))
        return topic.logs[place[1]]

    def partitions(self, topic: str) -> int:
        return len(self._topics[topic].logs) if topic in self._topics else 0

    def group(self, name: str) -> _Group:
        return self._groups.setdefault(name, _Group())

    def join(self, group: str, member: "FakeConsumer") -> None:
        self.group(group).members.append(member)
        self._balance()

    def leave(self, group: str, member: "FakeConsumer") -> None:
        self.group(group).members.remove(member)
        member.wanted = set()
        self._balance()

    def _balance(self) -> None:
        """Say what each member should own: equal shares, each keeping as much of what it has as its share allows."""
        for group in self._groups.values():
            topics = {topic for member in group.members for topic in member.topics}
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


class _Reading:
    """Where a consumer stands in a partition it was assigned."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.paused = False
        self.failed = False
        self.end_said = -1


class FakeConsumer:
    """One member of a group, cooperative; or, with `assign`, of none."""

    def __init__(self, broker: FakeBroker, config: Mapping[str, Any]) -> None:
        self.topics: list[str] = []
        self.owned: set[Place] = set()
        """What the group knows it to have; ``wanted`` is what it should have."""

        self.wanted: set[Place] = set()
        self.is_lost = False
        self._broker = broker
        self._group_id: str = config["group.id"]
        self._reset = config.get("auto.offset.reset", "latest")
        self._says_end = bool(config.get("enable.partition.eof", False))
        self._readings: dict[Place, _Reading] = {}
        self._callbacks: dict[str, Rebalance | None] = {}
        self._closed = False

    def subscribe(
        self,
        topics: list[str],
        on_assign: Rebalance | None = None,
        on_revoke: Rebalance | None = None,
        on_lost: Rebalance | None = None,
    ) -> None:
        with self._broker.changed:
            self.topics = topics
            self._callbacks = {"assign": on_assign, "revoke": on_revoke, "lost": on_lost or on_revoke}
            self._broker.join(self._group_id, self)

    def consume(self, num_messages: int = 1, timeout: float = -1) -> list[Message]:
        """Up to so many messages; fewer when the time is over (never, below zero), or a rebalance is due."""
        until_s = time.monotonic() + (timeout if timeout >= 0 else threading.TIMEOUT_MAX)
        found: list[Message] = []
        while True:
            if self._closed:
                raise RuntimeError("Consumer closed")
            with self._broker.changed:
                due = self._due()
                if due is None:
                    found += self._fetch(num_messages - len(found))
                left_s = until_s - time.monotonic()
                if len(found) >= num_messages or left_s <= 0 or (found and due):
                    return found
                if due is None:
                    self._broker.changed.wait(min(left_s, threading.TIMEOUT_MAX))
            if due is not None:
                self._rebalance(*due)

    def assign(self, partitions: list[TopicPartition]) -> None:
        with self._broker.changed:
            self._readings.clear()
            self.incremental_assign(partitions)

    def incremental_assign(self, partitions: list[TopicPartition]) -> None:
        with self._broker.changed:
            for place, asked in _places(partitions).items():
                if place in self._readings:
                    raise KafkaException(KafkaError(KafkaError._CONFLICT))  # noqa: SLF001 - its public name
                self._readings[place] = _Reading(self._offset(place, asked.offset))

    def incremental_unassign(self, partitions: list[TopicPartition]) -> None:
        with self._broker.changed:
            for place in _places(partitions):
                if self._readings.pop(place, None) is None:
                    raise KafkaException(KafkaError(KafkaError._INVALID_ARG))  # noqa: SLF001 - its public name

    def pause(self, partitions: list[TopicPartition]) -> None:
        self._set_paused(partitions, paused=True)

    def resume(self, partitions: list[TopicPartition]) -> None:
        self._set_paused(partitions, paused=False)

    def commit(self, *, offsets: list[TopicPartition], asynchronous: bool = True) -> list[TopicPartition] | None:
        with self._broker.changed:
            group = self._broker.group(self._group_id)
            if not self._broker.is_up or (self.topics and self not in group.members):
                if asynchronous:
                    return None
                code = KafkaError.UNKNOWN_MEMBER_ID if self._broker.is_up else KafkaError._TIMED_OUT  # noqa: SLF001
                raise KafkaException(KafkaError(code))
            group.committed.update({place: asked.offset for place, asked in _places(offsets).items()})
            return None if asynchronous else offsets

    def committed(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:  # noqa: ARG002
        with self._broker.changed:
            for place in _places(partitions):
                self._broker.log(place)
            known = self._broker.group(self._group_id).committed
            return [TopicPartition(*place, known.get(place, OFFSET_INVALID)) for place in _places(partitions)]

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float = -1) -> tuple[int, int]:  # noqa: ARG002
        with self._broker.changed:
            log = self._broker.log((partition.topic, partition.partition))
            return log.oldest, log.next

    def close(self) -> None:
        if self._closed:
            return
        if self._readings and self.topics:
            self._rebalance("lost" if self.is_lost else "revoke", set(self._readings))
        with self._broker.changed:
            self._closed = True
            if self in self._broker.group(self._group_id).members:
                self._broker.leave(self._group_id, self)

    def _set_paused(self, partitions: list[TopicPartition], *, paused: bool) -> None:
        with self._broker.changed:
            for place in _places(partitions):
                if place in self._readings:
                    self._readings[place].paused = paused

    def _due(self) -> tuple[str, set[Place]] | None:
        """What the group wants of this member next."""
        if not self._broker.is_up:
            return None
        if self.is_lost:
            return "lost", set(self.owned)
        if revoked := self.owned - self.wanted:
            return "revoke", revoked
        members = self._broker.group(self._group_id).members
        # Cooperative: what another still has comes when that one has let go.
        free = self.wanted.difference(*(member.owned for member in members))
        return ("assign", free) if free else None

    def _rebalance(self, what: str, places: set[Place]) -> None:
        """Tell the application, without the lock; do for it what its callback left undone."""
        if (callback := self._callbacks[what]) and places:
            callback(cast("Consumer", self), [TopicPartition(*place) for place in sorted(places)])
        with self._broker.changed:
            if what == "assign":
                self.owned |= places
                self.incremental_assign([TopicPartition(*place) for place in places - set(self._readings)])
            else:
                self.owned -= places
                self.incremental_unassign([TopicPartition(*place) for place in places & set(self._readings)])
            if self.is_lost:
                self.is_lost = False
                self._broker.join(self._group_id, self)
            self._broker.changed.notify_all()

    def _offset(self, place: Place, asked: int) -> int:
        """The offset behind a logical one; -1, which is out of any range, where there is none."""
        log = self._broker.log(place)
        if asked < OFFSET_BEGINNING:
            stored = self._broker.group(self._group_id).committed.get(place)
            return stored if stored is not None else self._reset_offset(log)
        return {OFFSET_BEGINNING: log.oldest, OFFSET_END: log.next}.get(asked, asked)

    def _reset_offset(self, log: _Log) -> int:
        return {"earliest": log.oldest, "latest": log.next}.get(self._reset, -1)

    def _fetch(self, at_most: int) -> list[Message]:
        found: list[Message] = []
        for place, reading in list(self._readings.items()):
            if self._broker.is_up and not (reading.paused or reading.failed) and len(found) < at_most:
                found += self._read(place, reading, at_most - len(found))
                self._readings[place] = self._readings.pop(place)  # the others first, next time
        return found

    def _read(self, place: Place, reading: _Reading, at_most: int) -> list[Message]:
        try:
            log = self._broker.log(place)
        except KafkaException as failure:
            reading.failed = True
            return [_event(place, reading.offset, failure.args[0])]
        if not log.oldest <= reading.offset <= log.next:
            missed, reading.offset = reading.offset, self._reset_offset(log)
            if reading.offset < 0:
                reading.failed = True
                gone = KafkaError(KafkaError._AUTO_OFFSET_RESET, "the offset is gone")  # noqa: SLF001
                return [_event(place, missed, gone)]
        start = reading.offset - log.oldest
        found = log.messages[start : start + at_most]
        reading.offset += len(found)
        at_end = reading.offset == log.next
        if self._says_end and at_end and reading.end_said != log.next and len(found) < at_most:
            reading.end_said = log.next
            found.append(_event(place, log.next, KafkaError(KafkaError._PARTITION_EOF)))  # noqa: SLF001
        return found


class FakeProducer:
    """Sends at once, or when the broker is up again; deliveries are told in `poll` and `flush`, as ever."""

    def __init__(self, broker: FakeBroker, config: Mapping[str, Any]) -> None:
        self._broker = broker
        self._most: int = config.get("queue.buffering.max.messages", 100_000)
        self._queue: deque[tuple[Message, Delivery | None]] = deque()
        self._told: deque[tuple[KafkaError | None, Message, Delivery | None]] = deque()

    def __len__(self) -> int:
        return len(self._queue) + len(self._told)

    def produce(
        self,
        topic: str,
        value: str | bytes | None = None,
        key: str | bytes | None = None,
        partition: int = -1,
        on_delivery: Delivery | None = None,
        timestamp: int = 0,
        headers: Headers | None = None,
    ) -> None:
        """Raises `BufferError` when as much waits as the settings allow, `KafkaException` for a record too large."""
        message = Message(
            topic=topic,
            partition=partition,
            key=_bytes(key),
            value=_bytes(value),
            headers=[(name, _bytes(each)) for name, each in headers or ()] or None,
            timestamp=(TIMESTAMP_CREATE_TIME, timestamp or int(time.time() * 1000)),
        )
        if len(message) > MESSAGE_MAX_BYTES:
            raise KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE))
        with self._broker.changed:
            if len(self) >= self._most:
                raise BufferError("Local: Queue full")
            self._queue.append((message, on_delivery))
            self.transmit()

    def poll(self, timeout: float = -1) -> int:
        """Tell deliveries, waiting so long for the first; returns how many."""
        with self._broker.changed:
            self._broker.changed.wait_for(lambda: self._told, timeout if timeout >= 0 else None)
            told, self._told = self._told, deque()
        for error, message, on_delivery in told:
            if on_delivery:
                on_delivery(error, message)
        return len(told)

    def flush(self, timeout: float = -1) -> int:
        """Wait so long for everything to be delivered and told; returns how much is left."""
        with self._broker.changed:
            self._broker.changed.wait_for(lambda: not self._queue, timeout if timeout >= 0 else None)
        self.poll(0)
        return len(self)

    def purge(self) -> None:
        with self._broker.changed:
            purged = KafkaError(KafkaError._PURGE_QUEUE)  # noqa: SLF001 - its public name
            self._told.extend((purged, message, on_delivery) for message, on_delivery in self._queue)
            self._queue.clear()
            self._broker.changed.notify_all()

    def transmit(self) -> None:
        """Send what waits; the caller holds the lock."""
        while self._queue and self._broker.is_up:
            message, on_delivery = self._queue.popleft()
            try:
                self._told.append((None, self._append(message), on_delivery))
            except KafkaException as failure:
                self._told.append((failure.args[0], message, on_delivery))
        self._broker.changed.notify_all()

    def _append(self, message: Message) -> Message:
        topic, partition, key = message.topic() or "", message.partition(), message.key()
        if partition is None or partition < 0:
            count = self._broker.partitions(topic) or 1
            # librdkafka's default partitioner
            partition = zlib.crc32(key) % count if key else random.randrange(count)  # noqa: S311 - no secret
        log = self._broker.log((topic, partition))
        log.messages.append(
            Message(
                topic=topic,
                partition=partition,
                offset=log.next,
                key=key,
                value=message.value(),
                headers=message.headers(),
                timestamp=message.timestamp(),
            )
        )
        return log.messages[-1]


def _places(partitions: Iterable[TopicPartition]) -> dict[Place, TopicPartition]:
    return {(each.topic, each.partition): each for each in partitions}


def _bytes(text: str | bytes | None) -> bytes | None:
    return text.encode() if isinstance(text, str) else text


def _event(place: Place, offset: int, error: KafkaError) -> Message:
    return Message(topic=place[0], partition=place[1], offset=offset, error=error)
