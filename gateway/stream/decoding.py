"""Kafka messages of one topic to what the stream passes on, without repeats and without what cannot be decoded."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
from confluent_kafka import Message

from gateway.newest import KEYS, ORDER, Order
from gateway.stream import documents
from schemas import codec
from schemas.topics import Topic
from sentio.batch import Range

_FIRST_KEY = 3
"""Values of a message before those of its key: producer, sequence, filter."""


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


class Row(NamedTuple):
    """One message: where it stands, and what of it decides who hears it."""

    partition: int
    offset: int
    timestamp_ms: int
    """Kafka's, since 1970 UTC."""

    sent_as: tuple[str, int]
    """Producer and sequence."""

    value: str | None
    """Of the topic's filter field: what narrows a channel."""

    key: Hashable
    """Of what the message tells the state; None where messages tell what happened."""

    order: Order | None
    """Of two messages with a key, the one with the higher order is newer; None: the one that comes later."""


class Documents(Protocol):
    """Writes JSON objects of rows."""

    def __call__(self, places: Sequence[int] | None = None, /) -> list[str]:
        """Of these rows, or of all."""
        ...


@dataclass(frozen=True, slots=True)
class Rows:
    """Messages of one topic, in the order they are passed on."""

    topic: Topic
    rows: Sequence[Row]
    ranges: Mapping[int, Range]
    """By partition. Covers messages that were dropped too, so may be wider than the rows."""

    documents: Documents
    """A JSON object of each row: made when somebody asks, since most of what is read ahead nobody does."""

    traces: tuple[str | None, ...] = ()
    """The `traceparent` of each row; empty where traces are off."""

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True, slots=True)
class Decoded:
    rows: Rows
    skipped: tuple[tuple[str, str], ...]
    """(seq, reason) of each message that cannot be decoded."""


def decode(topic: Topic, messages: Sequence[Message], marks: Marks) -> Decoded:
    """The messages in their order; the ranges cover what was dropped too."""
    places = [(message.partition() or 0, message.offset() or 0) for message in messages]
    firsts: dict[int, int] = {}
    lasts: dict[int, int] = {}
    for partition, offset in places:
        firsts.setdefault(partition, offset)
        lasts[partition] = offset
    ranges = {partition: Range(first, lasts[partition] + 1) for partition, first in firsts.items()}

    found, write = _read(topic, [_value(message) for message in messages])
    behind_keys = _FIRST_KEY + len(KEYS.get(topic.table or "", ()))
    rows, new = [], []
    for place, (values, index) in enumerate(zip(found.values, found.kept, strict=True)):
        producer, sequence, value = values[:_FIRST_KEY]
        key, order = values[_FIRST_KEY:behind_keys] or None, values[behind_keys:] or None
        partition, offset = places[index]
        if marks.is_new(partition, producer, sequence):
            timestamp_ms = messages[index].timestamp()[1]
            rows.append(Row(partition, offset, timestamp_ms, (producer, sequence), value, key, order))
            new.append(place)
    skipped = tuple(("{}:{}".format(*places[index]), reason) for index, reason in found.poison)

    def written(places: Sequence[int] | None = None) -> list[str]:
        return write(new if places is None else [new[place] for place in places])

    return Decoded(Rows(topic, rows, ranges, written), skipped)


def _read(topic: Topic, messages: Sequence[bytes | None]) -> tuple[codec.Fields, Callable[[list[int]], list[str]]]:
    """The values of the columns that a `Row` needs, and what writes the documents of some of them, by their places.

    Columns cost as much for one message as for a hundred, and few come at once: they are made only where they must be.
    """
    names = _names(topic)
    fields = codec.fields(topic.event, messages, names)
    if fields is not None:
        kept = fields.kept
        return fields, lambda places: codec.documents(topic.event, [messages[kept[place]] for place in places])
    decoded = codec.decode(topic.event, messages)
    columns: list[list[Any]] = [_plain(decoded.records.column(name)) for name in names]
    values = list(zip(*columns, strict=True))
    return (
        codec.Fields(values, decoded.kept, decoded.poison),
        lambda places: documents.documents(decoded.records.take(pa.array(places, pa.int64()))),
    )


def _names(topic: Topic) -> tuple[str, ...]:
    assert topic.filter  # of every topic that is served
    table = topic.table or ""
    return ("producer", "sequence", topic.filter, *KEYS.get(table, ()), *ORDER.get(table, ()))


def _plain(column: pa.Array) -> list[Any]:
    """As `codec.fields` gives them: times as microseconds."""
    values: list[Any] = (column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column).to_pylist()
    return values


def _value(message: Message) -> bytes | None:
    value = message.value()
    return value.encode() if isinstance(value, str) else value
