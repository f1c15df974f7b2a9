"""The newest messages of one topic in memory, in the order they are fanned out, and how far that has come.

Belongs to the event loop: nothing here is called from another thread.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from gateway.newest import Order
from gateway.stream.channels import Channel
from gateway.stream.cursor import Positions, epoch_of
from gateway.stream.decoding import Rows
from gateway.wire import milliseconds_text
from schemas.topics import Topic


class Page:
    """What was read at once and, when somebody asks, the JSON text of its rows."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @cached_property
    def times(self) -> list[str]:
        """Kafka's, of the records."""
        return [milliseconds_text(row.timestamp_ms) for row in self._rows.rows]

    @cached_property
    def bodies(self) -> list[str]:
        """``"at":…,"data":{…}``: the time of the record and all fields of the event."""
        found = [f'"at":"{at}","data":{text}' for at, text in zip(self.times, self.documents, strict=True)]
        if self._rows.traces:
            sent_in = zip(found, self._rows.traces, strict=True)
            return [f'{text},"traceparent":"{trace}"' if trace else text for text, trace in sent_in]
        return found

    @cached_property
    def documents(self) -> list[str]:
        """A JSON object of each event."""
        return self._rows.documents()

    def sent_as(self, row: int) -> tuple[str, int]:
        """Producer and sequence of an event."""
        return self._rows.rows[row].sent_as

    def timestamp_ms(self, row: int) -> int:
        """Kafka's, of one record."""
        return self._rows.rows[row].timestamp_ms


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

    order: Order | None
    """Of two messages with a key, the one with the higher order is newer; None: the one that comes later."""

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
        return self.page.sent_as(self.row)

    @property
    def timestamp_ms(self) -> int:
        """Kafka's time of the record, since 1970 UTC."""
        return self.page.timestamp_ms(self.row)

    def is_in(self, channel: Channel) -> bool:
        return channel.value is None or channel.value == self.value

    def previous_in(self, channel: Channel) -> int | None:
        return self.previous if channel.value is None else self.previous_of_value


class Numbering:
    """Remembers the last offset of each partition, and of each value in it, to say what came before."""

    def __init__(self) -> None:
        self._last: dict[int, int] = {}
        self._last_of_value: dict[tuple[int, str | None], int] = {}

    def entries(self, rows: Rows) -> list[Entry]:
        """An entry for each row, in order."""
        page = Page(rows)
        made = []
        for place, row in enumerate(rows.rows):
            narrow = (row.partition, row.value)
            made.append(
                Entry(
                    page,
                    place,
                    row.partition,
                    row.offset,
                    row.value,
                    self._last.get(row.partition),
                    self._last_of_value.get(narrow),
                    row.key,
                    row.order,
                )
            )
            self._last[row.partition] = self._last_of_value[narrow] = row.offset
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
        self._newest: dict[Hashable, Order] = {}
        self._numbering = Numbering()

    def grow(self, starts: Mapping[int, int]) -> None:
        """The topic gained partitions."""
        for partition, start in sorted(starts.items()):
            self.kept_from[partition] = start
            self.positions.advance(partition, start)

    def append(self, rows: Rows) -> list[Entry]:
        """Keep the rows, forget the oldest; ``positions`` are the caller's to advance, entry by entry."""
        entries = self._numbering.entries(rows)
        self._entries.extend(entries)
        self.note_all(entries)
        while len(self._entries) > self._ring:
            gone = self._entries.popleft()
            self.kept_from[gone.partition] = gone.offset + 1
        return entries

    def note(self, key: Hashable, order: Order) -> None:
        """Something so new of a key is in the log."""
        if key not in self._newest or order > self._newest[key]:
            self._newest[key] = order

    def note_all(self, entries: Iterable[Entry]) -> None:
        """The same of entries that are in the log."""
        for entry in entries:
            if entry.order is not None:
                self.note(entry.key, entry.order)

    def is_outdated(self, entry: Entry) -> bool:
        """Whether something newer of its key is in the log, before it or behind: where only the newest counts, it is
        not sent.
        """
        return entry.order is not None and entry.order < self._newest.get(entry.key, entry.order)

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
