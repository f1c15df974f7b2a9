"""The engine's own words, read from the log exactly as far as somebody else has read them.

Two who have read the same must say the same, whatever else is on its way: no guess about delays is needed. What is
beyond stays with Kafka, so that memory is bounded however far somebody is behind.
"""

import time
from collections import deque
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from gateway.watch.book import Book
from gateway.watch.lateness import Said
from schemas import codec
from schemas.topics import Topic, topics
from sentio import kafka, survey
from sentio.asked import log_time
from sentio.config import Settings
from sentio.errors import Retryable
from sentio.kafka import Place

TOLD = ("trades.executed", "positions.updated", "performance.minute")
"""Topics, without prefix, of which a `Book` is made."""

AT_ONCE = 2_000
ANSWER_S = 10.0
HELD_BACK = 4_000
"""Messages of one partition beyond the mark before it is paused."""

_LITTLE = {"queued.min.messages": 2_000, "queued.max.messages.kbytes": 4_096}


class Tape:
    """A book that is kept from the log. Of one thread; `close` it."""

    def __init__(self, settings: Settings, since: datetime, names: Iterable[str] = TOLD) -> None:
        """Begins with what was published at ``since``, or what is left of it. Raises `Retryable`."""
        self.book = Book()
        self._kafka = settings.kafka
        self._topics: dict[str, Topic] = {
            topics()[name].full_name(settings.topic_prefix): topics()[name] for name in names
        }
        states = kafka.describe(settings.kafka, self._topics)
        if missing := self._topics.keys() - states.keys():
            raise Retryable(f"topic {min(missing)} does not exist; 'sentio topics apply' makes it")
        kept_s = min(survey.retention_s(settings, self._topics).values(), default=None)
        self.since = since if kept_s is None else max(since, datetime.now(UTC) - timedelta(seconds=kept_s))
        """Of what was published before, Kafka may have deleted some."""

        places = [(name, number) for name, state in states.items() for number in range(state.partitions)]
        self._consumer = Consumer(kafka.reader(settings.kafka, name="sentio-watcher") | _LITTLE)
        self.position = _begins(self._consumer, places, since)
        """Next offset of each partition that is not in the book yet."""

        self.said: dict[Place, Said] = {}
        """The newest event of each partition that is in the book and no repeat."""

        self.whole = not any(self.position.values())
        """From the very first record on."""

        self._consumer.assign([TopicPartition(*place, offset) for place, offset in self.position.items()])
        self._beyond: dict[Place, deque[Message]] = {place: deque() for place in places}
        self._paused: set[Place] = set()

    def close(self) -> None:
        self._consumer.close()

    def advance(self, marks: Mapping[Place, int], within_s: float) -> bool:
        """Take what is before ``marks`` (next offsets; a partition that is not named stays); whether all was there.

        Raises `Retryable` when the log cannot be read, and for a partition that was made after the tape.
        """
        self._refuse_new(marks)
        ends_s = time.monotonic() + within_s
        for place in marks.keys() & self._beyond.keys():
            self._take_held(place, marks[place])
        while (late := self._late(marks)) and time.monotonic() < ends_s:
            self._resume(late)
            self._hear(self._consumer.consume(AT_ONCE, 0.05), marks)
        return not late and all(self.position.get(place, mark) <= mark for place, mark in marks.items())

    def _refuse_new(self, marks: Mapping[Place, int]) -> None:
        unknown = [place for place in marks.keys() - self.position.keys() if place[0] in self._topics]
        states = kafka.describe(self._kafka, {name for name, _ in unknown}) if unknown else {}
        for name, number in unknown:
            if name in states and number < states[name].partitions:  # else it is one of a former topic of that name
                raise Retryable(
                    f"kafka: {name}[{number}] was made after the watcher read the log, which it reads again"
                )

    def drain(self, within_s: float) -> bool:
        """Take all there is; whether the end was reached, or what the end was at first: a busy log has no pause."""
        ends_s = time.monotonic() + within_s
        ends: dict[Place, int] | None = None
        while time.monotonic() < ends_s:
            ends = ends or self._known_ends()
            messages = self._consumer.consume(AT_ONCE, 0.02)
            self._hear(messages, {})
            if ends and (not messages or all(self.position[place] >= end for place, end in ends.items())):
                return True
        return False

    def _known_ends(self) -> dict[Place, int] | None:
        """End of each partition as of the broker's last answer; None while it has not answered for all of them."""
        known = {
            place: self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True) for place in self._beyond
        }
        ends = {place: marks[1] for place, marks in known.items() if marks and marks[1] >= 0}
        return ends if len(ends) == len(known) else None

    def _late(self, marks: Mapping[Place, int]) -> list[Place]:
        return [p for p, mark in marks.items() if self.position.get(p, mark) < mark and not self._beyond[p]]

    def _hear(self, messages: list[Message], marks: Mapping[Place, int]) -> None:
        """``marks`` empty: everything is taken."""
        due: dict[str, list[Message]] = {}
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            error = message.error()
            if error is not None:
                if error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
                    raise Retryable(f"kafka: {place[0]}[{place[1]}]: {error.str()}")
                # Behind the last record may be markers only: whoever waits for more would wait for ever.
                if not self._beyond[place]:
                    end = message.offset() or 0
                    read = min(end, marks.get(place, self.position[place])) if marks else end
                    self.position[place] = max(self.position[place], read)
            elif marks and (message.offset() or 0) >= marks.get(place, 0):
                self._beyond[place].append(message)
                if len(self._beyond[place]) >= HELD_BACK and place not in self._paused:
                    self._paused.add(place)
                    self._consumer.pause([TopicPartition(*place)])
            else:
                due.setdefault(place[0], []).append(message)
        for name, some in due.items():
            self._fold(name, some)

    def _take_held(self, place: Place, mark: int) -> None:
        held, due = self._beyond[place], []
        while held and (held[0].offset() or 0) < mark:
            due.append(held.popleft())
        if due:
            self._fold(place[0], due)
        if held:
            self.position[place] = max(self.position[place], mark)

    def _resume(self, places: Iterable[Place]) -> None:
        if due := self._paused.intersection(places):
            self._consumer.resume([TopicPartition(*place) for place in due])
            self._paused -= due

    def _fold(self, name: str, messages: list[Message]) -> None:
        topic, now = self._topics[name], datetime.now(UTC)
        decoded = codec.decode(topic.event, [message.value() for message in messages])
        for index, row in zip(decoded.kept, decoded.records.to_pylist(), strict=True):
            message = messages[index]
            if self.book.take(topic.name, partition := message.partition() or 0, row, now):
                self.said[name, partition] = Said((message.offset() or 0) + 1, log_time(message.timestamp()[1]))
        for message in messages:
            place = (name, message.partition() or 0)
            self.position[place] = max(self.position[place], (message.offset() or 0) + 1)


def _begins(consumer: Consumer, places: list[Place], since: datetime) -> dict[Place, int]:
    """First offset of each partition that is not older than ``since``, else its end.

    The ends are asked for first: what is published between the two questions must not be left out.
    """
    ends = kafka.ends(consumer, places)
    at_ms = int(since.timestamp() * 1000)
    try:
        found = consumer.offsets_for_times([TopicPartition(*place, at_ms) for place in places], timeout=ANSWER_S)
    except KafkaException as failure:
        raise Retryable(f"kafka: {failure.args[0].str()}") from failure
    return {(p.topic, p.partition): p.offset if p.offset >= 0 else ends[p.topic, p.partition][1] for p in found}
