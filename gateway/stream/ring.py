"""The newest messages of one topic in memory, in the order they are fanned out, and how far that has come.

Belongs to the event loop: nothing here is called from another thread.
"""

from collections import deque
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

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
        self._documents: dict[int, str] = {}
        self._bodies: dict[int, str] = {}

    def at(self, row: int) -> str:
        """Kafka's time of the record."""
        return milliseconds_text(self._rows.rows[row].timestamp_ms)

    def body(self, row: int) -> str:
        """``"at":…,"data":{…}``: the time of the record and all fields of the event."""
        if row not in self._bodies:
            text = f'"at":"{self.at(row)}","data":{self.document(row)}'
            trace = self._rows.traces[row] if self._rows.traces else None
            self._bodies[row] = f'{text},"traceparent":"{trace}"' if trace else text
        return self._bodies[row]

    def document(self, row: int) -> str:
        """The event as a JSON object."""
        if row not in self._documents:
            self._documents = dict(enumerate(self._rows.documents()))
        return self._documents[row]

    def write(self, rows: Sequence[int]) -> None:
        """Have the documents of these rows, and no others, which cost less at once than one by one."""
        self._documents.update(zip(rows, self._rows.documents(rows), strict=True))

    def sent_as(self, row: int) -> tuple[str, int]:
        """Producer and sequence of an event."""
        return self._rows.rows[row].sent_as

    def timestamp_ms(self, row: int) -> int:
        """Kafka's, of one record."""
        return self._rows.rows[row].timestamp_ms


class Entry(NamedTuple):
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
        return self.page.body(self.row)

    @property
    def at(self) -> str:
        """Kafka's time of the record."""
        return self.page.at(self.row)

    @property
    def document(self) -> str:
        """The event as a JSON object."""
        return self.page.document(self.row)

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
        last, last_of_value = self._last, self._last_of_value
        for place, (partition, offset, _, _, value, key, order) in enumerate(rows.rows):
            narrow = (partition, value)
            previous, previous_of_value = last.get(partition), last_of_value.get(narrow)
            made.append(Entry(page, place, partition, offset, value, previous, previous_of_value, key, order))
            last[partition] = last_of_value[narrow] = offset
        return made

    def forget_others(self, channel: Channel, last: Mapping[int, int | None]) -> None:
        """Where the last of a channel in a partition is another than ``last``, the next names none before it."""
        for partition, offset in last.items():
            if channel.value is None:
                if self._last.get(partition) != offset:
                    self._last.pop(partition, None)
            elif self._last_of_value.get((partition, channel.value)) != offset:
                self._last_of_value.pop((partition, channel.value), None)


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
        for _ in range(len(self._entries) - self._ring):
            gone = self._entries.popleft()
            self.kept_from[gone.partition] = gone.offset + 1
        return entries

    def join(self, channel: Channel, last: Mapping[int, int | None]) -> None:
        """Somebody hears the channel from now on who was told of these offsets last, by partition.

        What it was not told of since it came again (`Marks`) is not said to be before the next message, which all hear.
        """
        self._numbering.forget_others(channel, last)

    def note(self, key: Hashable, order: Order) -> None:
        """Something so new of a key is in the log."""
        if key not in self._newest or order > self._newest[key]:
            self._newest[key] = order

    def note_all(self, entries: Iterable[Entry]) -> None:
        """The same of entries that are in the log."""
        newest = self._newest
        for entry in entries:
            key, order = entry.key, entry.order
            if order is not None and (key not in newest or order > newest[key]):
                newest[key] = order

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
