"""Where a replay reads: messages of planned spans, in polls of many. The log is one; an archive may be another."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from confluent_kafka import Consumer, KafkaError, TopicPartition

from consumers.polled import Messages
from consumers.queues import reader_of
from consumers.replay.job import Spans
from sentio import kafka, log
from sentio.errors import Fatal, Retryable
from sentio.kafka import Place

AT_MOST = 20_000
WAIT_S = 0.1

_GONE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}  # noqa: SLF001 - its public name


class Gone(Fatal):
    """What was planned is not there any more: the job cannot go on."""


@dataclass(frozen=True, slots=True)
class Part:
    """Messages of one topic, in the order of each partition."""

    topic: str
    """Full name."""

    messages: Messages
    inside: Sequence[int]
    """Index of each message that lies in its span."""

    reached: Mapping[Place, int]
    """By partition: the offset behind the last of them."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one poll brought; maybe nothing."""

    parts: Sequence[Part]
    finished: frozenset[Place]
    """Partitions whose span is read: nothing more comes from them."""


class Source(Protocol):
    """Reads spans. Who has enough of a partition may ``hold`` it until ``go_on``; what is on its way still comes."""

    def read(self, spans: Spans, /) -> Iterator[Found]: ...

    def hold(self, place: Place) -> None: ...

    def go_on(self, place: Place) -> None: ...


class KafkaLog:
    """Reads the log beside all groups: partitions are assigned, nothing is committed."""

    def __init__(self, bootstrap: str, *, at_most: int = AT_MOST) -> None:
        self._at_most = at_most
        self._consumer = Consumer(kafka.reader(bootstrap, name="sentio-replay"))
        self._reader = reader_of(self._consumer)
        self._next: dict[Place, int] = {}
        self._ends: dict[Place, int] = {}
        self._held: set[Place] = set()
        self._once = log.OncePer()

    def read(self, spans: Spans) -> Iterator[Found]:
        """Until every span is read. Raises `Gone` for what is gone from the log meanwhile. To be called once."""
        finished = {place for place, (first, end) in spans.items() if first >= end}
        self._ends = {place: end for place, (_, end) in spans.items() if place not in finished}
        self._next = {place: spans[place][0] for place in self._ends}
        try:
            self._add(self._ends)
            if finished:
                yield Found((), frozenset(finished))
            while self._ends:
                yield self._poll()
        finally:
            self._reader.close()
            self._consumer.close()

    def hold(self, place: Place) -> None:
        if place in self._ends and place not in self._held:
            self._held.add(place)
            self._drop(place)

    def go_on(self, place: Place) -> None:
        if place in self._held:
            self._held.discard(place)
            self._add([place])

    def _poll(self) -> Found:
        polled = self._reader.read(self._at_most, WAIT_S)
        parts = [part for topic, messages in polled.messages if (part := self._inside(topic, messages))]
        finished = {place for place, end in self._ends.items() if self._next[place] >= end}
        for place, error in polled.errors:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                # What is left of the span are markers of transactions, or compacted away.
                if place in self._ends and place not in self._held:
                    finished.add(place)
            else:
                self._look_at(place, error)
        for place in finished:
            del self._ends[place]
            if place not in self._held:
                self._drop(place)
            self._held.discard(place)
        return Found(parts, frozenset(finished))

    def _inside(self, topic: str, messages: Messages) -> Part | None:
        """What lies in the spans, and was not given before: after `go_on` some may come again."""
        spans = {(topic, partition): span for partition, span in messages.spans().items()}
        whole = True
        reached = {}
        for place, (low, high) in spans.items():
            end = self._ends.get(place, -1)
            whole = whole and end > high and low >= self._next[place]
            if end > low and high >= self._next[place]:
                reached[place] = min(high + 1, end)
        inside: Sequence[int] = range(len(messages))
        if not whole:
            partitions, offsets, _ = messages.columns()
            bounds = {place[1]: (self._next[place], self._ends[place]) for place in reached}
            inside = [
                index
                for index, (partition, offset) in enumerate(
                    zip(partitions.to_pylist(), offsets.to_pylist(), strict=True)
                )
                if (bound := bounds.get(partition)) and bound[0] <= offset < bound[1]
            ]
        self._next |= reached
        return Part(topic, messages, inside, reached) if reached else None

    def _add(self, places: Sequence[Place] | Mapping[Place, int]) -> None:
        self._reader.add(places)
        self._consumer.incremental_assign([TopicPartition(*place, self._next[place]) for place in places])

    def _drop(self, place: Place) -> None:
        self._reader.remove([place])
        self._consumer.incremental_unassign([TopicPartition(*place)])

    def _look_at(self, place: Place, error: KafkaError) -> None:
        if error.code() in _GONE and place in self._ends:
            raise Gone(f"{place[0]}[{place[1]}] at {self._next[place]}: {error.str()}: it is gone from the log")
        if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise Retryable(f"{place[0]}[{place[1]}]: {error.str()}")  # by a broker that has just come back, maybe
        if self._once.due(error.code()):
            log.get().warning("kafka is not answering as it should", place=f"{place[0]}[{place[1]}]", cause=error.str())
