"""What a replay would read: the offsets of each partition, ends captured now; and about how much and how long it is."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from consumers.replay.held import Held, Seen
from consumers.replay.job import Spans
from consumers.replay.pace import speed_of
from schemas.codec import decode
from schemas.topics import Topic, topic_of_name
from sentio.asked import iso_ms
from sentio.errors import SettingError
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
    held: Held,
    prefix: str,
    topics: Iterable[Topic],
    range_: Range,
    *,
    speed: str,
    rate: float | None,
    records_s: float,
) -> Plan:
    """Raises `SettingError` for a range that is not held (any more), `Fatal` for a topic that is not there.

    ``records_s`` is what the target takes when nothing slows it down.
    """
    names = {topic.full_name(prefix): topic for topic in topics}
    topic_ids = held.topic_ids(names)
    ends = held.bounds(names)
    if range_.partition is not None:
        highest = max((partition for _, partition in ends), default=-1)
        ends = {place: span for place, span in ends.items() if place[1] == range_.partition}
        if not ends:
            raise SettingError(f"--partition {range_.partition}: the {held.name} has {highest + 1} of the topic")
    spans = _spans(held, ends, range_, names)
    heads, tails = _sample(held, spans)
    lines = tuple(_line(place, span, heads[place], tails[place]) for place, span in spans.items())
    offsets = sum(line.end - line.first for line in lines)
    seconds = max(offsets / records_s, offsets / rate if rate else 0.0)
    if (times := speed_of(speed)) is not None:
        seconds = max(seconds, _event_span_s(prefix, heads, tails) / times)
    return Plan(spans, topic_ids, lines, seconds)


def _spans(held: Held, ends: Mapping[Place, tuple[int, int]], asked: Range, names: Mapping[str, Topic]) -> Spans:
    firsts = {place: low for place, (low, _) in ends.items()}
    lasts = {place: high for place, (_, high) in ends.items()}
    if asked.since_ms is not None:
        firsts = held.offsets_at(ends, asked.since_ms)
        _refuse_what_is_gone(held, ends, firsts, asked.since_ms, names)
    if asked.until_ms is not None:
        lasts = {p: min(lasts[p], at) for p, at in held.offsets_at(ends, asked.until_ms).items()}
    for place, (low, high) in ends.items():
        if asked.from_offset is not None:
            if not low <= asked.from_offset <= high:
                raise SettingError(
                    f"--from-offset {asked.from_offset}: the {held.name} holds offsets {low} to {high} of"
                    f" {_name(place)}{_oldest(held, place, (low, high))}"
                )
            firsts[place] = asked.from_offset
        if asked.to_offset is not None:
            lasts[place] = min(lasts[place], asked.to_offset)
    return {place: (first, max(first, lasts[place])) for place, first in firsts.items()}


def _refuse_what_is_gone(
    held: Held,
    ends: Mapping[Place, tuple[int, int]],
    firsts: Mapping[Place, int],
    since_ms: int,
    names: Mapping[str, Topic],
) -> None:
    """Where the beginning was deleted there is no earlier record: whether there was one nobody knows."""
    cut = {place: span for place, span in ends.items() if 0 < span[0] == firsts[place]}
    heads = held.records({place: (low, min(low + SAMPLE, high)) for place, (low, high) in cut.items()})
    oldest: list[tuple[int, Place]] = []
    for place in cut:
        kept_ms = int(time.time() * 1000) - names[place[0]].kafka_days * DAY_MS
        oldest.append((heads[place][0].timestamp_ms if heads[place] else kept_ms, place))
    if oldest and max(oldest)[0] > since_ms:
        oldest_ms, place = max(oldest)
        raise SettingError(
            f"--from {iso_ms(since_ms)} is older than the {held.name}: the oldest that {_name(place)} has is of"
            f" {iso_ms(oldest_ms)}{held.further}"
        )


def _oldest(held: Held, place: Place, span: tuple[int, int]) -> str:
    head = held.records({place: (span[0], min(span[0] + SAMPLE, span[1]))})[place]
    return f", the oldest of {iso_ms(head[0].timestamp_ms)}" if head else ""


Samples = Mapping[Place, list[Seen]]


def _sample(held: Held, spans: Spans) -> tuple[Samples, Samples]:
    """A few records of the beginning and the end of each span."""
    heads = held.records({p: (first, min(first + SAMPLE, end)) for p, (first, end) in spans.items()})
    tails = held.records({p: (max(first, end - SAMPLE), end) for p, (first, end) in spans.items()})
    return heads, tails


def _line(place: Place, span: tuple[int, int], head: list[Seen], tail: list[Seen]) -> Line:
    sizes = [len(record.key or b"") + len(record.value or b"") for record in (*head, *tail)]
    size = sum(sizes) / len(sizes) if sizes else 0.0
    return Line(
        *place,
        *span,
        bytes=round(size * (span[1] - span[0])),
        begins_ms=head[0].timestamp_ms if head else None,
        ends_ms=tail[-1].timestamp_ms if tail else None,
    )


def _event_span_s(prefix: str, *samples: Samples) -> float:
    """From the first event to the last, by their own times."""
    times: list[Any] = []
    for sample in samples:
        for place, seen in sample.items():
            if seen:
                topic = topic_of_name(place[0], prefix)
                records = decode(topic.event, [record.value for record in seen]).records
                bounds = pc.min_max(pc.cast(records[topic.time], pa.int64())).as_py()
                times += [at for at in bounds.values() if at is not None]
    return (max(times) - min(times)) / 1e6 if times else 0.0


def _name(place: Place) -> str:
    return f"{place[0]}[{place[1]}]"
