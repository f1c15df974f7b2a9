"""Kafka messages of one topic to a `Batch`, without repeats and without what cannot be decoded."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
from confluent_kafka import Message

from schemas.codec import decode
from schemas.topics import Topic
from sentio.batch import Batch, Range


@dataclass(slots=True)
class Marks:
    """Highest sequence of each producer in each partition of one topic: at or below it is a repeat."""

    highest: dict[tuple[int, str], int] = field(default_factory=dict)

    def is_new(self, partition: int, producer: str, sequence: int) -> bool:
        """Whether this is the first of its kind; remembers it."""
        key = (partition, producer)
        if sequence <= self.highest.get(key, -1):
            return False
        self.highest[key] = sequence
        return True


@dataclass(frozen=True, slots=True)
class Decoded:
    batch: Batch
    skipped: tuple[tuple[str, str], ...]
    """(seq, reason) of each message that cannot be decoded."""


def to_batch(topic: Topic, messages: Sequence[Message], marks: Marks) -> Decoded:
    """Columns of the messages in their order; the ranges cover what was dropped too."""
    partitions = [message.partition() or 0 for message in messages]
    offsets = [message.offset() or 0 for message in messages]
    timestamps_ms = [message.timestamp()[1] for message in messages]
    ranges: dict[int, Range] = {}
    for partition, offset in zip(partitions, offsets, strict=True):
        seen = ranges.get(partition)
        ranges[partition] = Range(offset if seen is None else seen.first, offset + 1)

    decoded = decode(topic.event, [_value(message) for message in messages])
    kept = decoded.kept
    batch = Batch(
        topic,
        decoded.records,
        pa.array([partitions[index] for index in kept], pa.int32()),
        pa.array([offsets[index] for index in kept], pa.int64()),
        pa.array([timestamps_ms[index] for index in kept], pa.int64()),
        ranges,
    )
    new = [
        marks.is_new(partitions[index], producer, sequence)
        for index, producer, sequence in zip(
            kept,
            decoded.records.column("producer").to_pylist(),
            decoded.records.column("sequence").to_pylist(),
            strict=True,
        )
    ]
    skipped = tuple((f"{partitions[index]}:{offsets[index]}", reason) for index, reason in decoded.poison)
    return Decoded(batch if all(new) else batch.where(new), skipped)


def _value(message: Message) -> bytes | None:
    value = message.value()
    return value.encode() if isinstance(value, str) else value
