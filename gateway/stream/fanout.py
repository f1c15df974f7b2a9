"""From the feed to who listens: each message is written once per channel and delivery, and sent to all its clients."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from gateway.stream.audience import Audience, Listener, update
from gateway.stream.cursor import Positions
from gateway.stream.delivery import Delivery
from gateway.stream.descriptors import Descriptors
from gateway.stream.dialect import Dialect
from gateway.stream.feed import ALWAYS, Assigned, Dropped, Feed, Grown, Read
from gateway.stream.ring import Entry, Log
from gateway.stream.tally import Tally
from schemas.topics import Topic

UNWANTED_S = 300.0
SOON_S = 0.001  # worth no timer

Hearers = Sequence[tuple[Delivery, Audience]]


class Fanout:
    """The logs, and who listens to them live. Belongs to the event loop."""

    def __init__(self, descriptors: Descriptors, feed: Feed, *, ring: int) -> None:
        self.caught_up = asyncio.Event()
        """All that was in the logs when the gateway started has been read."""

        self.tally = Tally()
        self._descriptors = descriptors
        self._feed = feed
        self._ring = ring
        self._logs: dict[Topic, Log] = {}
        self._changed = asyncio.Condition()
        self._wanted: Counter[Topic] = Counter()
        """Subscriptions of each topic."""

        self._leaving: set[Topic] = set()
        """Topics whose `Dropped` is still to come."""

        self._audiences: defaultdict[Topic, dict[str | None, dict[Delivery, Audience]]] = defaultdict(dict)
        self._waits: defaultdict[Topic, Counter[float]] = defaultdict(Counter)
        """How long they wait for company, and how many of a topic's audiences do so."""

        self._due: dict[Audience, asyncio.TimerHandle] = {}
        """Audiences with something that waits for company."""

    async def run(self) -> None:
        """Pass on what the feed reads, for ever."""
        while True:
            match await self._feed.items.get():
                case Read() as read:
                    self._publish(read)
                case Dropped() as dropped:
                    self._drop(dropped.topic)
                case Assigned() as assigned:
                    await self._assign(assigned)
                case Grown() as grown:
                    self._logs[grown.topic].grow(grown.starts)
                case _:
                    self.caught_up.set()

    def want(self, topic: Topic) -> None:
        """One subscription more; the first has the topic followed."""
        self._wanted[topic] += 1
        if self._wanted[topic] == 1 and topic not in self._leaving:
            self._feed.follow(topic)

    def leave(self, topic: Topic) -> None:
        """One less; what nobody has wanted for a while is not followed any more."""
        self._wanted[topic] -= 1
        if not self._wanted[topic]:
            asyncio.get_running_loop().call_later(UNWANTED_S, self._leave_if_unwanted, topic)

    async def log(self, topic: Topic, *, wait_s: float) -> Log:
        """The log of a topic that is wanted; TimeoutError when it is not followed yet."""
        async with asyncio.timeout(wait_s), self._changed:
            await self._changed.wait_for(lambda: topic in self._logs and topic not in self._leaving)
            return self._logs[topic]

    def add(self, listener: Listener, positions: Positions) -> None:
        """It has all that its log has, and more where ``positions`` are beyond; from now on it gets what follows."""
        channel = listener.channel
        deliveries = self._audiences[channel.topic].setdefault(channel.value, {})
        audience = deliveries.get(listener.delivery)
        if audience is None:
            audience = deliveries[listener.delivery] = Audience(channel, listener.delivery, listener.log)
            self._waits[channel.topic][listener.delivery.wait_s] += 1
            self._set_wait(channel.topic)
        audience.add(listener, positions)

    def remove(self, listener: Listener) -> None:
        """Nothing more is sent to it; no harm when it is gone already."""
        channel = listener.channel
        deliveries = self._audiences[channel.topic].get(channel.value, {})
        audience = deliveries.get(listener.delivery)
        if audience is None:
            return
        audience.remove(listener)
        self._drop_if_empty(audience)

    def send_all(self) -> None:
        """Send what waits for company: whoever is told of a cursor then has all before it."""
        for audience in list(self._due):
            self._send(audience)

    def _leave_if_unwanted(self, topic: Topic) -> None:
        if not self._wanted[topic] and topic in self._logs and topic not in ALWAYS | self._leaving:
            self._leaving.add(topic)
            self._feed.leave(topic)

    def _drop(self, topic: Topic) -> None:
        """What is in memory of it goes; whoever wants it again waits until it is assigned anew."""
        self._logs.pop(topic).retired = True
        self._leaving.discard(topic)
        if self._wanted[topic]:
            self._feed.follow(topic)

    async def _assign(self, assigned: Assigned) -> None:
        before = self._logs.get(assigned.topic)
        self._logs[assigned.topic] = Log(assigned.topic, assigned.topic_id, assigned.starts, ring=self._ring)
        if before:
            retired = [
                audience for one in self._audiences.pop(assigned.topic, {}).values() for audience in one.values()
            ]
            before.retired = True
            self._waits.pop(assigned.topic, None)
            self._set_wait(assigned.topic)
            for audience in retired:
                if timer := self._due.pop(audience, None):
                    timer.cancel()
                for listener in audience.listeners:
                    listener.resume(None)
        async with self._changed:
            self._changed.notify_all()

    def _set_wait(self, topic: Topic) -> None:
        """The feed need not read more often than somebody is sent something."""
        self._feed.wait(topic, min((wait_s for wait_s, count in self._waits[topic].items() if count), default=0.0))

    def _publish(self, read: Read) -> None:
        rows = read.rows
        log = self._logs[rows.topic]
        audiences = self._audiences[rows.topic]
        hearing: dict[Audience, None] = {}
        entries = log.append(rows)
        heard = _heard(entries, log, audiences)
        if heard:
            entries[0].page.write(list(heard))
        done = 0
        for row, hearers in heard.items():
            for passed in entries[done : row + 1]:
                log.positions.advance(passed.partition, passed.offset + 1)
            done, entry = row + 1, entries[row]
            written: dict[tuple[str | None, Dialect, bool], bytes] = {}
            for delivery, audience in hearers:
                words = audience.channel.value, delivery.dialect, delivery.conflate
                if words not in written:
                    written[words] = update(entry, audience.channel, log.positions, delivery)
                audience.take(entry, written[words])
                hearing[audience] = None
        for partition, span in rows.ranges.items():  # wider than the rows where messages were dropped
            log.positions.advance(partition, span.next)
        now_s = time.monotonic()
        for audience in hearing:
            if audience in self._due:
                continue
            # A message that waited in the feed waits here for the rest only.
            wait_s = min(audience.sent_s, read.since_s) + audience.delivery.wait_s - now_s
            if wait_s > SOON_S:
                self._due[audience] = asyncio.get_running_loop().call_later(wait_s, self._send, audience)
            else:
                self._send(audience)

    def _send(self, audience: Audience) -> None:
        if timer := self._due.pop(audience, None):
            timer.cancel()
        audience.sent_s = time.monotonic()
        audience.send(self._descriptors, self.tally)
        self._drop_if_empty(audience)

    def _drop_if_empty(self, audience: Audience) -> None:
        if audience:
            return
        if timer := self._due.pop(audience, None):
            timer.cancel()
        channel = audience.channel
        deliveries = self._audiences[channel.topic].get(channel.value, {})
        if deliveries.get(audience.delivery) is audience:
            del deliveries[audience.delivery]
            self._waits[channel.topic][audience.delivery.wait_s] -= 1
            self._set_wait(channel.topic)
            if not deliveries:
                del self._audiences[channel.topic][channel.value]


def _heard(
    entries: Sequence[Entry], log: Log, audiences: Mapping[str | None, Mapping[Delivery, Audience]]
) -> dict[int, Hearers]:
    """Who is to hear an entry, by its row: where only the newest counts, most are heard by nobody and never written."""
    everyone: Hearers = list(audiences.get(None, {}).items())
    shown_all = _shown_all(everyone)
    heard: dict[int, Hearers] = {}
    for entry in entries:
        narrowed = audiences.get(entry.value) if entry.value is not None else None
        hearers = [*everyone, *narrowed.items()] if narrowed else everyone
        if hearers and log.is_outdated(entry):
            hearers = _shown_all(hearers) if narrowed else shown_all
        if hearers:
            heard[entry.row] = hearers
    return heard


def _shown_all(hearers: Hearers) -> Hearers:
    """Those who hear a message also when something newer of its key is in the log."""
    return [(delivery, audience) for delivery, audience in hearers if not delivery.conflate]
