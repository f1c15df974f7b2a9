"""The newest messages of one topic in memory, in the order they are fanned out, and how far that has come.

Belongs to the event loop: nothing here is called from another thread.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from gateway.newest import KEYS
from gateway.stream import documents
from gateway.stream.channels import Channel
from gateway.stream.cursor import Positions, epoch_of
from gateway.wire import milliseconds_text
from schemas.topics import Topic
from sentio.batch import Batch


class Page:
    """A batch and, once somebody asks, the JSON text of its rows."""

    def __init__(self, batch: Batch) -> None:
        self._batch = batch

    @cached_property
    def times(self) -> list[str]:
        """Kafka's, of the records."""
        return [milliseconds_text(at) for at in self._batch.timestamps_ms.to_pylist()]

    @cached_property
    def bodies(self) -> list[str]:
        """``"at":…,"data":{…}``: the time of the record and all fields of the event."""
        return [f'"at":"{at}","data":{text}' for at, text in zip(self.times, self.documents, strict=True)]

    @cached_property
    def sent_as(self) -> list[tuple[str, int]]:
        """Producer and sequence of each event."""
        columns = (self._batch.records.column(name).to_pylist() for name in ("producer", "sequence"))
        return list(zip(*columns, strict=True))

    @cached_property
    def documents(self) -> list[str]:
        """A JSON object of each event."""
        return documents.documents(self._batch.records)


@dataclass(frozen=True, slots=True)
class Entry:
    """One message."""

    page: Page
    row: int
    partition: int
    offset: int
    value: str | None
    """Of the topic's filter field: what narrows a channel."""

    previous: int | None
    """Offset of the message before it in its partition, where that is known."""

    previous_of_value: int | None
    """The same among the messages of this value."""

    key: Hashable
    """Of what the message tells the state; None where messages tell what happened."""

    @property
    def body(self) -> str:
        """``"at":…,"data":{…}``."""
        return self.page.bodies[self.row]

    @property
    def at(self) -> str:
        """Kafka's time of the record."""
        return self.page.times[self.row]

    @property
    def document(self) -> str:
        """The event as a JSON object."""
        return self.page.documents[self.row]

    @property
    def sent_as(self) -> tuple[str, int]:
        return self.page.sent_as[self.row]

    def is_in(self, channel: Channel) -> bool:
        return channel.value is None or channel.value == self.value

    def previous_in(self, channel: Channel) -> int | None:
        return self.previous if channel.value is None else self.previous_of_value


class Numbering:
    """Remembers the last offset of each partition, and of each value in it, to say what came before."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._last_of_value: dict[tuple[int, str | None], int] = {}

    def entries(self, batch: Batch) -> list[Entry]:
        """The rows of a batch, in order."""
        page = Page(batch)
        values = batch.records.column(batch.topic.filter).to_pylist() if batch.topic.filter else [None] * len(batch)
        keys: Iterable[Hashable] = [None] * len(batch)
        if batch.topic.table in KEYS:
            keys = zip(*[batch.records.column(name).to_pylist() for name in KEYS[batch.topic.table]], strict=True)
        made = []
        rows = zip(batch.partitions.to_pylist(), batch.offsets.to_pylist(), values, keys, strict=True)
        for row, (partition, offset, value, key) in enumerate(rows):
            narrow = (partition, value)
            made.append(
                Entry(
                    page,
                    row,
                    partition,
                    offset,
                    value,
                    self._last.get(partition),
                    self._last_of_value.get(narrow),
                    key,
                )
            )
            self._last[partition] = self._last_of_value[narrow] = offset
        return made


class Log:
    """One topic as this gateway follows it, from ``starts`` (an offset for each partition) on."""

    def __init__(self, topic: Topic, topic_id: str, starts: Mapping[int, int], *, ring: int) -> None:
        self.topic = topic
        self.topic_id = topic_id
        self.retired = False
        """True when the topic was made again or a part of it was missed: another `Log` took its place."""

        offsets = [starts[partition] for partition in range(len(starts))]
        self.positions = Positions(epoch_of(topic_id), offsets)
        self.kept_from = dict(enumerate(offsets))
        """From which offset of each partition on all is in memory."""

        self._ring = ring
        self._entries: deque[Entry] = deque()
        self._numbering = Numbering()

    def grow(self, starts: Mapping[int, int]) -> None:
        """The topic gained partitions."""
        for partition, start in sorted(starts.items()):
            self.kept_from[partition] = start
            self.positions.advance(partition, start)

    def append(self, batch: Batch) -> list[Entry]:
        """Keep a batch, forget the oldest; ``positions`` are the caller's to advance, entry by entry."""
        entries = self._numbering.entries(batch)
        self._entries.extend(entries)
        while len(self._entries) > self._ring:
            gone = self._entries.popleft()
            self.kept_from[gone.partition] = gone.offset + 1
        return entries

    def covers(self, positions: Positions) -> bool:
        """Whether everything from ``positions`` on is in memory."""
        return all(positions.next(partition) >= start for partition, start in self.kept_from.items())

    def since(self, positions: Positions) -> list[Entry]:
        """The entries from ``positions`` up to our own, in order. Costs as many steps as it goes back."""
        behind = {
            partition for partition, offset in enumerate(self.positions.offsets) if positions.next(partition) < offset
        }
        found = []
        for entry in reversed(self._entries):
            if not behind:
                break
            if entry.offset >= positions.next(entry.partition):
                found.append(entry)
            else:
                behind.discard(entry.partition)
        found.reverse()
        return found

    def newest(self, channel: Channel) -> list[Entry]:
        """The last entry in memory of each producer on this channel."""
        found: dict[str | None, Entry] = {}
        for entry in self._entries:
            if entry.is_in(channel):
                found[entry.value] = entry
        return list(found.values())
