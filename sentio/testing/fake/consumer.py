"""A consumer of the fake broker: its part in a group, and where it reads."""

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, cast

from confluent_kafka import (
    OFFSET_BEGINNING,
    OFFSET_END,
    OFFSET_INVALID,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from sentio.kafka import Place

if TYPE_CHECKING:
    from sentio.testing.fake.broker import FakeBroker, Log

Rebalance = Callable[[Consumer, list[TopicPartition]], None]


class _Reading:
    """Where a consumer stands in a partition it was assigned."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.paused = False
        self.failed = False
        self.end_said = -1


class FakeConsumer:
    """One member of a group, cooperative; or, with `assign`, of none."""

    def __init__(self, broker: "FakeBroker", config: Mapping[str, Any]) -> None:
        self.topics: list[str] = []
        self.owned: set[Place] = set()
        """What the group knows it to have; ``wanted`` is what it should have."""

        self.wanted: set[Place] = set()
        self.is_lost = False
        self.is_settled = True
        """Since it joined, it was told what it has, be it nothing."""

        self._broker = broker
        self.group_id: str = config["group.id"]
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
            self._broker.join(self)

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

    def wants(self, topic: str) -> bool:
        """Whether it is subscribed to the topic, by name or by a pattern, which begins with ``^``."""
        return any(re.match(each, topic) if each.startswith("^") else each == topic for each in self.topics)

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
            group = self._broker.group(self.group_id)
            if not self._broker.is_up or (self.topics and self not in group.members):
                if asynchronous:
                    return None
                code = KafkaError.UNKNOWN_MEMBER_ID if self._broker.is_up else KafkaError._TIMED_OUT  # noqa: SLF001 - its public name
                raise KafkaException(KafkaError(code))
            group.committed.update({place: asked.offset for place, asked in _places(offsets).items()})
            return None if asynchronous else offsets

    def committed(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:  # noqa: ARG002 - as the real one has it
        with self._broker.changed:
            for place in _places(partitions):
                self._broker.log(place)
            known = self._broker.group(self.group_id).committed
            return [TopicPartition(*place, known.get(place, OFFSET_INVALID)) for place in _places(partitions)]

    def offsets_for_times(self, partitions: list[TopicPartition], timeout: float = -1) -> list[TopicPartition]:  # noqa: ARG002 - as the real one has it
        """First offset at or after each time, -1 where there is none; of a logical offset the one behind it."""
        with self._broker.changed:
            return [
                TopicPartition(*place, _at(self._broker.log(place), asked.offset))
                for place, asked in _places(partitions).items()
            ]

    def close(self) -> None:
        if self._closed:
            return
        if self._readings and self.topics:
            self._rebalance("lost" if self.is_lost else "revoke", set(self._readings))
        with self._broker.changed:
            self._closed = True
            if self in self._broker.group(self.group_id).members:
                self._broker.leave(self)

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
        members = self._broker.group(self.group_id).members
        # Cooperative: what another still has comes when that one has let go.
        free = self.wanted.difference(*(member.owned for member in members))
        return ("assign", free) if free or not self.is_settled else None

    def _rebalance(self, what: str, places: set[Place]) -> None:
        """Tell the application, without the lock; do for it what its callback left undone."""
        if callback := self._callbacks[what]:
            callback(cast("Consumer", self), [TopicPartition(*place) for place in sorted(places)])
        with self._broker.changed:
            if what == "assign":
                self.is_settled = True
                self.owned |= places
                self.incremental_assign([TopicPartition(*place) for place in places - set(self._readings)])
            else:
                self.owned -= places
                self.incremental_unassign([TopicPartition(*place) for place in places & set(self._readings)])
            if self.is_lost:
                self.is_lost = False
                self._broker.join(self)
            self._broker.changed.notify_all()

    def _offset(self, place: Place, asked: int) -> int:
        """The offset behind a logical one; -1, which is out of any range, where there is none."""
        log = self._broker.log(place)
        if asked < OFFSET_BEGINNING:
            stored = self._broker.group(self.group_id).committed.get(place)
            return stored if stored is not None else self._reset_offset(log)
        return {OFFSET_BEGINNING: log.oldest, OFFSET_END: log.next}.get(asked, asked)

    def _reset_offset(self, log: "Log") -> int:
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
                gone = KafkaError(KafkaError._AUTO_OFFSET_RESET, "the offset is gone")  # noqa: SLF001 - its public name
                return [_event(place, missed, gone)]
        start = reading.offset - log.oldest
        found = log.messages[start : start + at_most]
        reading.offset += len(found)
        at_end = reading.offset == log.next
        if self._says_end and at_end and reading.end_said != log.next and len(found) < at_most:
            reading.end_said = log.next
            found.append(_event(place, log.next, KafkaError(KafkaError._PARTITION_EOF)))  # noqa: SLF001 - its public name
        return found


def _at(log: "Log", time_ms: int) -> int:
    if time_ms in (OFFSET_BEGINNING, OFFSET_END):
        return log.oldest if time_ms == OFFSET_BEGINNING else log.next
    return next((message.offset() or 0 for message in log.messages if message.timestamp()[1] >= time_ms), -1)


def _places(partitions: Iterable[TopicPartition]) -> dict[Place, TopicPartition]:
    return {(each.topic, each.partition): each for each in partitions}


def _event(place: Place, offset: int, error: KafkaError) -> Message:
    return Message(topic=place[0], partition=place[1], offset=offset, error=error)
