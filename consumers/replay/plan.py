"""What a replay would read: the offsets of each partition, ends captured now; and about how much and how long it is."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, Message

from consumers.replay.job import Spans
from consumers.replay.pace import speed_of
from schemas.codec import decode
from schemas.topics import Topic, topic_of_name
from sentio import kafka
from sentio.asked import iso_ms
from sentio.config import Settings
from sentio.errors import Fatal, SettingError
from sentio.kafka import Place
from sentio.topics import DAY_MS

SAMPLE = 50
"""Records of each end of a partition that size and time are estimated by."""


@dataclass(frozen=True, slots=True)
class Range:
    """From where to where, in time (of the log, milliseconds) or in offsets of one partition. None: all there is."""

    since_ms: int | None = None
    until_ms: int | None = None
    partition: int | None = None
    from_offset: int | None = None
    to_offset: int | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One partition of a plan."""

    topic: str
    partition: int
    first: int
    end: int
    bytes: int
    """About; keys and values."""

    begins_ms: int | None
    ends_ms: int | None
    """Times of the first and the last record, by the log."""


@dataclass(frozen=True, slots=True)
class Plan:
    spans: Spans
    topic_ids: dict[str, str]
    lines: tuple[Line, ...]
    seconds: float
    """About, for what is read."""

    @property
    def offsets(self) -> int:
        return sum(line.end - line.first for line in self.lines)

    @property
    def bytes(self) -> int:
        return sum(line.bytes for line in self.lines)


def plan(
    settings: Settings, topics: Iterable[Topic], range_: Range, *, speed: str, rate: float | None, records_s: float
) -> Plan:
    """Raises `SettingError` for a range that the log does not have (any more), `Fatal` for a topic that is not there.

    ``records_s`` is what the target takes when nothing slows it down.
    """
    names = {topic.full_name(settings.topic_prefix): topic for topic in topics}
    states = kafka.describe(settings.kafka, names)
    if missing := names.keys() - states.keys():
        raise Fatal(f"topic {min(missing)} does not exist; create it with 'sentio topics apply'")
    places = [(name, partition) for name in names for partition in range(states[name].partitions)]
    if range_.partition is not None:
        places = [place for place in places if place[1] == range_.partition]
        if not places:
            raise SettingError(
                f"--partition {range_.partition}: the topic has {max(s.partitions for s in states.values())}"
            )
    consumer = Consumer(kafka.reader(settings.kafka, name="sentio-replay"))
    try:
        ends = kafka.ends(consumer, places)
        spans = _spans(settings, consumer, ends, range_, names)
    finally:
        consumer.close()
    heads, tails = _sample(settings, spans)
    lines = tuple(_line(place, span, heads[place], tails[place]) for place, span in spans.items())
    offsets = sum(line.end - line.first for line in lines)
    seconds = max(offsets / records_s, offsets / rate if rate else 0.0)
    if (times := speed_of(speed)) is not None:
        seconds = max(seconds, _event_span_s(settings, heads, tails) / times)
    return Plan(spans, {name: states[name].id for name in names}, lines, seconds)


def _spans(
    settings: Settings,
    consumer: Consumer,
    ends: Mapping[Place, tuple[int, int]],
    asked: Range,
    names: Mapping[str, Topic],
) -> Spans:
    firsts = {place: low for place, (low, _) in ends.items()}
    lasts = {place: high for place, (_, high) in ends.items()}
    if asked.since_ms is not None:
        firsts = kafka.offsets_at(consumer, ends, asked.since_ms)
        _refuse_what_is_gone(settings, ends, firsts, asked.since_ms, names)
    if asked.until_ms is not None:
        lasts = {p: min(lasts[p], at) for p, at in kafka.offsets_at(consumer, ends, asked.until_ms).items()}
    for place, (low, high) in ends.items():
        if asked.from_offset is not None:
            if not low <= asked.from_offset <= high:
                raise SettingError(
                    f"--from-offset {asked.from_offset}: {_name(place)} holds offsets {low} to {high}"
                    f"{_oldest(settings, place, (low, high))}"
                )
            firsts[place] = asked.from_offset
        if asked.to_offset is not None:
            lasts[place] = min(lasts[place], asked.to_offset)
    return {place: (first, max(first, lasts[place])) for place, first in firsts.items()}


def _refuse_what_is_gone(
    settings: Settings,
    ends: Mapping[Place, tuple[int, int]],
    firsts: Mapping[Place, int],
    since_ms: int,
    names: Mapping[str, Topic],
) -> None:
    """A log whose beginning was deleted has no earlier record: whether there was one nobody knows."""
    cut = {place: span for place, span in ends.items() if 0 < span[0] == firsts[place]}
    heads = _messages(settings, {place: (low, min(low + SAMPLE, high)) for place, (low, high) in cut.items()})
    oldest: list[tuple[int, Place]] = []
    for place in cut:
        times = [message.timestamp()[1] for message in heads[place]]
        kept_ms = int(time.time() * 1000) - names[place[0]].kafka_days * DAY_MS
        oldest.append((times[0] if times else kept_ms, place))
    if oldest and max(oldest)[0] > since_ms:
        oldest_ms, place = max(oldest)
        raise SettingError(
            f"--from {iso_ms(since_ms)} is older than the log: the oldest that {_name(place)} has is of"
            f" {iso_ms(oldest_ms)}"
        )


def _oldest(settings: Settings, place: Place, span: tuple[int, int]) -> str:
    head = _messages(settings, {place: (span[0], min(span[0] + SAMPLE, span[1]))})[place]
    return f", the oldest of {iso_ms(head[0].timestamp()[1])}" if head else ""


def _sample(settings: Settings, spans: Spans) -> tuple[dict[Place, list[Message]], dict[Place, list[Message]]]:
    """A few messages of the beginning and the end of each span."""
    heads = _messages(settings, {p: (first, min(first + SAMPLE, end)) for p, (first, end) in spans.items()})
    tails = _messages(settings, {p: (max(first, end - SAMPLE), end) for p, (first, end) in spans.items()})
    return heads, tails


def _messages(settings: Settings, spans: Spans) -> dict[Place, list[Message]]:
    found: dict[Place, list[Message]] = {place: [] for place in spans}
    for messages in kafka.read(settings.kafka, spans) if spans else ():
        for message in messages:
            found[message.topic() or "", message.partition() or 0].append(message)
    return found


def _line(place: Place, span: tuple[int, int], head: list[Message], tail: list[Message]) -> Line:
    sizes = [len(message.key() or b"") + len(message.value() or b"") for message in (*head, *tail)]
    size = sum(sizes) / len(sizes) if sizes else 0.0
    return Line(
        *place,
        *span,
        bytes=round(size * (span[1] - span[0])),
        begins_ms=head[0].timestamp()[1] if head else None,
        ends_ms=tail[-1].timestamp()[1] if tail else None,
    )


def _event_span_s(settings: Settings, *samples: Mapping[Place, list[Message]]) -> float:
    """From the first event to the last, by their own times."""
    times: list[Any] = []
    for sample in samples:
        for place, messages in sample.items():
            if messages:
                topic = topic_of_name(place[0], settings.topic_prefix)
                records = decode(topic.event, [message.value() for message in messages]).records
                bounds = pc.min_max(pc.cast(records[topic.time], pa.int64())).as_py()
                times += [at for at in bounds.values() if at is not None]
    return (max(times) - min(times)) / 1e6 if times else 0.0


def _name(place: Place) -> str:
    return f"{place[0]}[{place[1]}]"
