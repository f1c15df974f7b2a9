"""Who listens live to one channel in one delivery, and what waits to be sent to them: each message once for all."""

from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from gateway.stream.channels import Channel
from gateway.stream.connection import AT_ONCE_BYTES, Connection
from gateway.stream.cursor import Positions
from gateway.stream.deflate import payload
from gateway.stream.delivery import Delivery
from gateway.stream.descriptors import GONE, Descriptors
from gateway.stream.framing import parts
from gateway.stream.ring import Entry, Log
from gateway.stream.tally import Tally


@dataclass(eq=False, slots=True)
class Listener:
    """A client on a channel, from the moment it has caught up."""

    channel: Channel
    delivery: Delivery
    connection: Connection
    log: Log
    resume: Callable[[Positions | None], None]
    """Told that the client is no longer live: it has all before these positions, and must catch up; None, the log
    was retired."""

    positions: Positions | None = None
    """Where the client stands; kept only while it is ahead of its audience."""

    place: int = -1
    """In its audience."""


def update(entry: Entry, channel: Channel, positions: Positions, delivery: Delivery) -> bytes:
    """The update of an entry; moves ``positions`` past it."""
    positions.advance(entry.partition, entry.offset + 1)
    return delivery.dialect.update(entry, channel, positions, conflate=delivery.conflate)


def newest(entries: Iterable[Entry]) -> list[Entry]:
    """The last entry of each key, in order."""
    found: dict[Hashable, Entry] = {}
    for entry in entries:
        found.pop(entry.key, None)
        found[entry.key] = entry
    return list(found.values())


@dataclass(eq=False, slots=True)
class Audience:
    """Listeners of the same channel and delivery."""

    channel: Channel
    delivery: Delivery
    log: Log
    sent_s: float = float("-inf")
    """When something was last sent."""

    _members: list[Listener] = field(default_factory=list)
    _handles: "array[int]" = field(default_factory=lambda: array("Q"))
    """Of the members, in the same order."""

    _ahead: set[Listener] = field(default_factory=set)
    """Those that have some of what waits already, or what this gateway has not read yet."""

    _waiting: dict[Hashable, tuple[Entry, bytes]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._members or self._ahead)

    @property
    def listeners(self) -> list[Listener]:
        return [*self._members, *self._ahead]

    def add(self, listener: Listener, positions: Positions) -> None:
        """From now on it gets what follows: it has all that the log has, and more where ``positions`` are beyond."""
        for partition, offset in enumerate(self.log.positions.offsets):
            positions.advance(partition, offset)
        if self._waiting or _beyond(positions, self.log):
            listener.positions = positions
            self._ahead.add(listener)
        else:
            self._join(listener)

    def remove(self, listener: Listener) -> None:
        if listener.place < 0:
            self._ahead.discard(listener)
            return
        last, last_handle = self._members.pop(), self._handles.pop()
        if last is not listener:
            self._members[listener.place], self._handles[listener.place] = last, last_handle
            last.place = listener.place
        listener.place = -1

    def take(self, entry: Entry, message: bytes) -> None:
        """Have a message wait; where only the newest counts, the one of its key that waited is dropped."""
        key = entry.key if self.delivery.conflate else (entry.partition, entry.offset)
        self._waiting.pop(key, None)
        self._waiting[key] = (entry, message)

    def send(self, descriptors: Descriptors, tally: Tally) -> None:
        """Send what waits. Who has no room for it is no longer live."""
        entries = [entry for entry, _ in self._waiting.values()]
        messages = [message for _, message in self._waiting.values()]
        self._waiting.clear()
        if self._members:
            sent, hearers = 0, len(self._members)
            for part in parts(messages, AT_ONCE_BYTES):
                self._send_part(descriptors, payload(part, self.delivery.codec), entries[sent:])
                sent += len(part)
            tally.behind += hearers - len(self._members)
            if entries:
                tally.sending(len(entries), len(self._members), entries[0].timestamp_ms)
        for listener in list(self._ahead):
            self._send_ahead(listener, entries)

    def _send_part(self, descriptors: Descriptors, batch: bytes, unsent: Sequence[Entry]) -> None:
        without_room, gone = [], []
        for place, written in descriptors.send(self._handles, batch):
            listener = self._members[place]
            if written == GONE:
                gone.append(listener)
            elif not listener.connection.put(batch, written):
                without_room.append(listener)
        for listener in gone:
            self.remove(listener)
            listener.connection.broken()
        for listener in without_room:
            self.remove(listener)
            listener.resume(before(unsent, self.log.positions))

    def _send_ahead(self, listener: Listener, entries: Sequence[Entry]) -> None:
        """What it does not have yet, with cursors of its own."""
        positions = listener.positions
        assert positions is not None
        new = [entry for entry in entries if entry.offset >= positions.next(entry.partition)]
        if new and listener.connection.is_held:
            self._ahead.discard(listener)
            listener.resume(positions)
            return
        listener.connection.offer(*[update(entry, self.channel, positions, self.delivery) for entry in new])
        if not _beyond(positions, self.log):
            self._ahead.discard(listener)
            self._join(listener)

    def _join(self, listener: Listener) -> None:
        listener.positions = None
        listener.place = len(self._members)
        self._members.append(listener)
        self._handles.append(listener.connection.handle)


def before(entries: Sequence[Entry], positions: Positions) -> Positions:
    """Positions at which everything that ``entries`` hold is still to come, and else what ``positions`` say."""
    offsets = list(positions.offsets)
    for entry in entries:
        offsets[entry.partition] = min(offsets[entry.partition], entry.offset)
    return Positions(positions.epoch, offsets)


def _beyond(positions: Positions, log: Log) -> bool:
    return any(offset > log.positions.next(partition) for partition, offset in enumerate(positions.offsets))
