"""What one poll brought, by topic, as columns. No message is looked at alone unless something is wrong with it.

Read through the client's own objects (`ClientReader`), or past them where native code is built (`consumers.queues`):
the same for a third of the CPU. Tests hold the two equal.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, Message

from schemas.codec import Decoded
from schemas.topics import Topic
from sentio.batch import Batch, Range
from sentio.kafka import Place


class Letter(NamedTuple):
    """One message, to be looked at by itself."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, Any]]


class Messages(Protocol):
    """Messages of one topic without errors, by column or index."""

    def __len__(self) -> int: ...

    def values(self) -> Sequence[bytes | None]:
        """As `schemas.codec.decode` takes them."""
        ...

    def columns(self) -> tuple[pa.Int32Array, pa.Int64Array, pa.Int64Array]:
        """Partition, offset and time (Kafka's, milliseconds since 1970 UTC) of each message."""
        ...

    def spans(self) -> Mapping[int, tuple[int, int]]:
        """Lowest and highest offset of each partition."""
        ...

    def since(self, first: dict[int, int], /) -> "Messages":
        """Those at or behind the offset that ``first`` has for their partition; none of one that it does not name.

        Costs next to nothing when that is all of them.
        """
        ...

    def letter(self, index: int, /) -> tuple[int, int, bytes | None, bytes | None, Sequence[tuple[str, Any]]]:
        """The fields of a `Letter`."""
        ...


@dataclass(frozen=True, slots=True)
class Polled:
    """What came since the last poll."""

    messages: Sequence[tuple[str, Messages]]
    """By full topic name. A topic may come twice, the older messages first."""

    errors: Sequence[tuple[Place, KafkaError]]
    """Of partitions; a place without a topic is the client's own."""


class Reader(Protocol):
    """Reads what a client is assigned. The client itself does all else."""

    def add(self, places: Iterable[Place]) -> None:
        """To be called before these partitions are assigned."""
        ...

    def remove(self, places: Iterable[Place]) -> None:
        """These partitions are no longer assigned."""
        ...

    def read(self, at_most: int, wait_s: float) -> Polled:
        """Up to so many messages; fewer when the time is over, now and then before. Serves the client's callbacks."""
        ...

    def rest(self, wait_s: float) -> Polled:
        """Only serve the client's callbacks, for about so long, all partitions being paused."""
        ...

    def close(self) -> None:
        """To be called before the client is closed."""
        ...


class ClientReader:
    """Reads by the client's `consume`: an object for each message."""

    def __init__(self, client: Consumer) -> None:
        self._client = client

    def add(self, places: Iterable[Place]) -> None:
        """Nothing to do: all that is assigned is read."""

    def remove(self, places: Iterable[Place]) -> None:
        """Nothing to do."""

    def read(self, at_most: int, wait_s: float) -> Polled:
        return of_client(self._client.consume(at_most, wait_s))

    def rest(self, wait_s: float) -> Polled:
        return of_client(self._client.consume(1, wait_s))

    def close(self) -> None:
        """Nothing to do."""


class ClientMessages:
    """The client's own messages."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self._messages = messages

    def __len__(self) -> int:
        return len(self._messages)

    def values(self) -> Sequence[bytes | None]:
        return list(map(Message.value, self._messages))

    def columns(self) -> tuple[pa.Int32Array, pa.Int64Array, pa.Int64Array]:
        return (
            pa.array(list(map(Message.partition, self._messages)), pa.int32()),
            pa.array(list(map(Message.offset, self._messages)), pa.int64()),
            pa.array([stamp[1] for stamp in map(Message.timestamp, self._messages)], pa.int64()),
        )

    def spans(self) -> Mapping[int, tuple[int, int]]:
        found: dict[int, tuple[int, int]] = {}
        for message in self._messages:
            partition, offset = _place(message)[1], message.offset() or 0
            low, high = found.get(partition, (offset, offset))
            found[partition] = min(low, offset), max(high, offset)
        return found

    def since(self, first: dict[int, int], /) -> "ClientMessages":
        if all(first.get(partition, lowest + 1) <= lowest for partition, (lowest, _) in self.spans().items()):
            return self
        return ClientMessages(
            [
                message
                for message in self._messages
                if (from_offset := first.get(_place(message)[1])) is not None and (message.offset() or 0) >= from_offset
            ]
        )

    def letter(self, index: int, /) -> tuple[int, int, bytes | None, bytes | None, Sequence[tuple[str, Any]]]:
        message = self._messages[index]
        headers: Sequence[tuple[str, Any]] = list(message.headers() or [])  # type: ignore[arg-type] # never a dict
        return _place(message)[1], message.offset() or 0, message.key(), message.value(), headers


def of_client(found: Sequence[Message]) -> Polled:
    """What the client gave, in its order."""
    by_topic: dict[str, list[Message]] = {}
    errors: list[tuple[Place, KafkaError]] = []
    for message in found:
        if (error := message.error()) is not None:
            errors.append((_place(message), error))
        else:
            by_topic.setdefault(message.topic() or "", []).append(message)
    return Polled([(topic, ClientMessages(messages)) for topic, messages in by_topic.items()], errors)


ORIGINALS = pa.schema(
    [
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())]))),
    ]
)
"""Columns of `Batch.originals`."""


def batch(
    topic: Topic,
    messages: Messages,
    decoded: Decoded,
    ranges: Mapping[int, Range],
    *,
    redrive_topic: str | None = None,
    originals: bool = False,
) -> Batch:
    """The batch of what could be decoded of the messages; on request with their keys, values and headers."""
    columns = messages.columns()
    if decoded.poison:
        kept = pa.array(decoded.kept, pa.int64())
        columns = tuple(column.take(kept) for column in columns)
    partitions, offsets, timestamps_ms = columns
    kept_originals = _originals(messages, decoded.kept) if originals else None
    return Batch(topic, decoded.records, partitions, offsets, timestamps_ms, ranges, redrive_topic, kept_originals)


def _originals(messages: Messages, kept: Sequence[int]) -> pa.RecordBatch:
    letters = [messages.letter(index) for index in kept]
    columns = [
        [key for _, _, key, _, _ in letters],
        [value for _, _, _, value, _ in letters],
        [[{"name": name, "value": value} for name, value in headers] for *_, headers in letters],
    ]
    return pa.record_batch([pa.array(c, kind) for c, kind in zip(columns, ORIGINALS.types, strict=True)], ORIGINALS)


def _place(message: Message) -> Place:
    return message.topic() or "", message.partition() or 0
