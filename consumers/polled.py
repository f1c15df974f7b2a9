"""What one poll brought of one topic, as columns. No message is looked at alone unless something is wrong with it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
from confluent_kafka import Message

from schemas.codec import Decoded
from schemas.topics import Topic
from sentio.batch import Batch, Range


@dataclass(frozen=True, slots=True)
class Polled:
    """Messages of one topic without errors; entry i of each column is message i."""

    messages: Sequence[Message]
    partitions: pa.Int32Array
    offsets: pa.Int64Array
    spans: Mapping[int, tuple[int, int]]
    """Lowest and highest offset of each partition."""

    def __len__(self) -> int:
        return len(self.messages)

    def values(self) -> list[bytes | None]:
        return list(map(Message.value, self.messages))

    def batch(self, topic: Topic, decoded: Decoded, ranges: Mapping[int, Range]) -> Batch:
        """The batch of what could be decoded of the messages."""
        stamps_ms = pa.array([stamp[1] for stamp in map(Message.timestamp, self.messages)], pa.int64())
        columns = [self.partitions, self.offsets, stamps_ms]
        if decoded.poison:
            kept = pa.array(decoded.kept, pa.int64())
            columns = [column.take(kept) for column in columns]
        partitions, offsets, timestamps_ms = columns
        return Batch(topic, decoded.records, partitions, offsets, timestamps_ms, ranges)


def by_topic(messages: Sequence[Message]) -> dict[str, list[Message]]:
    """Messages by full topic name, in their order; errors that concern no topic are under ``""``."""
    names = list(map(Message.topic, messages))
    if len(set(names)) <= 1:
        return {name or "": list(messages) for name in names[:1]}
    found: dict[str, list[Message]] = {}
    for name, message in zip(names, messages, strict=True):
        found.setdefault(name or "", []).append(message)
    return found


def polled(messages: Sequence[Message]) -> Polled:
    """Columns of the messages of one topic."""
    partitions = pa.array(list(map(Message.partition, messages)), pa.int32())
    offsets = pa.array(list(map(Message.offset, messages)), pa.int64())
    spans = (
        pa.table({"partition": partitions, "offset": offsets})
        .group_by("partition", use_threads=False)
        .aggregate([("offset", "min"), ("offset", "max")])
    )
    columns = (spans[name].to_pylist() for name in ("partition", "offset_min", "offset_max"))
    return Polled(messages, partitions, offsets, {p: (low, high) for p, low, high in zip(*columns, strict=True)})
