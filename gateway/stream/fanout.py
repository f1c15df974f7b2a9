"""From the feed to who listens: each message becomes a frame once per channel, shared by all its clients."""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from gateway.stream import protocol
from gateway.stream.channels import Channel
from gateway.stream.client import Client
from gateway.stream.cursor import Positions
from gateway.stream.feed import Assigned, Feed, Grown
from gateway.stream.ring import Entry, Log
from schemas.topics import Topic
from sentio.batch import Batch


@dataclass(eq=False, slots=True)
class Listener:
    """A client on a channel, from the moment it has caught up."""

    channel: Channel
    client: Client
    log: Log
    positions: Positions
    """Where the client stands; kept up only while it is ahead."""

    ahead: dict[int, int] = field(init=False)
    """Where the client is further than this gateway, since it came from another one or from a snapshot."""

    def __post_init__(self) -> None:
        ours = self.log.positions
        for partition, offset in enumerate(ours.offsets):
            self.positions.advance(partition, offset)
        self.ahead = {p: offset for p, offset in enumerate(self.positions.offsets) if offset > ours.next(p)}

    @property
    def cursor(self) -> str:
        """Of all that was offered to the client."""
        return (self.positions if self.ahead else self.log.positions).token

    def offer(self, entries: Sequence[Entry], frames: Sequence[bytes]) -> None:
        """``frames`` are the shared ones; whoever is ahead gets its own, without what it has."""
        if not self.ahead:
            self.client.offer(frames)
            return
        new = [entry for entry in entries if entry.offset >= self.positions.next(entry.partition)]
        self.client.offer([frame(self.channel, entry, self.positions) for entry in new])
        self.ahead = {p: offset for p, offset in self.ahead.items() if offset > self.log.positions.next(p)}


def frame(channel: Channel, entry: Entry, positions: Positions) -> bytes:
    """The update of an entry; moves ``positions`` past it."""
    positions.advance(entry.partition, entry.offset + 1)
    return protocol.update(
        channel,
        partition=entry.partition,
        offset=entry.offset,
        prev=entry.previous_in(channel),
        cursor=positions.token,
        body=entry.body,
    )


@dataclass(slots=True)
class _Audience:
    """Who listens to one channel, and what a batch holds for them."""

    channel: Channel
    listeners: set[Listener] = field(default_factory=set)
    entries: list[Entry] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)


class Fanout:
    """The logs, and who listens to them live. Belongs to the event loop."""

    def __init__(self, *, ring: int) -> None:
        self.caught_up = asyncio.Event()
        """All that was in the logs when the gateway started has been read."""

        self._ring = ring
        self._logs: dict[Topic, Log] = {}
        self._changed = asyncio.Condition()
        self._audiences: defaultdict[Topic, dict[str | None, _Audience]] = defaultdict(dict)

    async def run(self, feed: Feed) -> None:
        """Pass on what the feed reads, for ever."""
        while True:
            match await feed.items.get():
                case Batch() as batch:
                    self._publish(batch)
                case Assigned() as assigned:
                    await self._assign(assigned)
                case Grown() as grown:
                    self._logs[grown.topic].grow(grown.starts)
                case _:
                    self.caught_up.set()

    async def log(self, topic: Topic, *, wait_s: float) -> Log:
        """The log of a topic; TimeoutError when it is not followed yet."""
        async with asyncio.timeout(wait_s), self._changed:
            await self._changed.wait_for(lambda: topic in self._logs)
            return self._logs[topic]

    def add(self, listener: Listener) -> None:
        channel = listener.channel
        audiences = self._audiences[channel.topic]
        audiences.setdefault(channel.value, _Audience(channel)).listeners.add(listener)

    def remove(self, listener: Listener) -> None:
        """Nothing more is offered to it; no harm when it is gone already."""
        channel = listener.channel
        audience = self._audiences[channel.topic].get(channel.value)
        if audience:
            audience.listeners.discard(listener)
            if not audience.listeners:
                del self._audiences[channel.topic][channel.value]

    async def _assign(self, assigned: Assigned) -> None:
        before = self._logs.get(assigned.topic)
        self._logs[assigned.topic] = Log(assigned.topic, assigned.topic_id, assigned.starts, ring=self._ring)
        if before:
            self._audiences.pop(assigned.topic, None)
            before.retired.set()
        async with self._changed:
            self._changed.notify_all()

    def _publish(self, batch: Batch) -> None:
        log = self._logs[batch.topic]
        audiences = self._audiences[batch.topic]
        hearing: dict[str | None, _Audience] = {}
        for entry in log.append(batch):
            log.positions.advance(entry.partition, entry.offset + 1)
            for value in {None, entry.value}:
                if audience := audiences.get(value):
                    hearing[value] = audience
                    audience.entries.append(entry)
                    audience.frames.append(frame(audience.channel, entry, log.positions))
        for partition, span in batch.ranges.items():  # wider than the rows where messages were dropped
            log.positions.advance(partition, span.next)
        for audience in hearing.values():
            for listener in audience.listeners:
                listener.offer(audience.entries, audience.frames)
            audience.entries, audience.frames = [], []
