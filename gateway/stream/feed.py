"""Follows the topics that somebody wants, in a thread of its own, without a consumer group.

Puts what it reads on a bounded queue of the event loop, and waits when that is full. Starts a little before the
end of each log, so that the newest messages are in memory.
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from gateway.stream.channels import served
from gateway.stream.decoding import Decoded, Marks, Rows, decode
from gateway.stream.gathering import MOST_AT_ONCE, Gathered, Gathering
from schemas.topics import Topic, topic_of_name
from sentio import kafka, log
from sentio.config import StreamSettings
from sentio.errors import Retryable
from sentio.kafka import Place
from sentio.tracing import traceparent_of, traces

POLL_S = 0.1
LINGER_S = 0.005
BUSY_S = 0.02  # between two reads
REFRESH_S = 60.0
RETRY_S = 1.0
HANDED_OVER = 2  # queue items the loop may be behind

_GONE = {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}  # noqa: SLF001 - its public name
_STALE = {
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.UNKNOWN_TOPIC_ID,
    KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - its public name
    KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - its public name
}


_NOT_OURS = 1 << 63  # beyond every offset

ALWAYS = frozenset(topic for topic in served().values() if topic.cleanup == "compact")
"""Their snapshot is what is in memory: followed whether somebody wants them or not."""


@dataclass(frozen=True, slots=True)
class Assigned:
    """From now on messages of this topic follow, from ``starts`` on.

    A second one replaces the first: messages were missed, or the topic was made again (another ``topic_id``).
    """

    topic: Topic
    topic_id: str
    starts: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Grown:
    """The topic gained these partitions."""

    topic: Topic
    starts: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Dropped:
    """No more messages of this topic, until it is assigned again."""

    topic: Topic


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What was in the logs at the start has been read."""


@dataclass(frozen=True, slots=True)
class Read:
    """Messages of a topic."""

    rows: Rows
    since_s: float
    """When the first of them came (monotonic)."""


Item = Assigned | Grown | Dropped | CaughtUp | Read


class Feed:
    """``items`` is what was read; `start` and `stop` it once."""

    def __init__(self, settings: StreamSettings) -> None:
        self.items: asyncio.Queue[Item] = asyncio.Queue(HANDED_OVER)
        self.skipped = 0
        """Messages that could not be decoded."""

        self.turned_s = time.monotonic()
        """When the thread last went round."""

        self._settings = settings
        self._traces = traces(settings, process="stream")
        self._wanted: frozenset[Topic] = ALWAYS
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="feed", daemon=True)
        self._once = log.OncePer()
        self._ids: dict[Topic, str] = {}
        self._next: dict[Place, int] = {}
        self._marks: dict[Topic, Marks] = defaultdict(Marks)
        self._gathering = Gathering()
        self._ahead: dict[Place, int] = {}
        self._caught_up = False
        self._described = False
        self._seen: set[Topic] = set()
        """Topics that exist, as far as is known."""

        self._refresh_s = 0.0
        self._lost: set[Topic] = set()

    def start(self) -> None:
        self._thread.start()

    def follow(self, topic: Topic) -> None:
        """Somebody wants it: `Assigned` comes, at the latest when the topic exists and the broker answers."""
        self._wanted |= {topic}
        self._refresh_s = 0.0

    def leave(self, topic: Topic) -> None:
        """Nobody wants it any more: `Dropped` comes."""
        self._wanted -= {topic}
        self._refresh_s = 0.0

    def wait(self, topic: Topic, wait_s: float) -> None:
        """Nobody is sent messages of this topic more often than every ``wait_s``: while it is busy, so long may pass
        between two batches.
        """
        self._gathering.wait(topic.full_name(self._settings.topic_prefix), wait_s)

    async def stop(self) -> None:
        self._stop.set()
        while self._thread.is_alive():
            while not self.items.empty():  # let it finish the hand-over it may wait in
                self.items.get_nowait()
            await asyncio.sleep(0.01)
        if self._traces:
            await asyncio.to_thread(self._traces.close)

    def _run(self) -> None:
        while not self._stop.is_set():
            consumer = Consumer(kafka.reader(self._settings.kafka, name="sentio-stream"))
            try:
                self._follow(consumer)
            except (Retryable, KafkaException) as failure:
                self._say(str(failure))
            except Exception:  # noqa: BLE001 - a bug must show, and must not silence the stream for ever
                log.get().exception("the feed failed; it skips what it held and goes on")
            finally:
                consumer.close()
            self._stop.wait(RETRY_S)

    def _follow(self, consumer: Consumer) -> None:
        """Read on from ``_next`` until told to stop; raises what another consumer may get over."""
        if self._next:
            self._assign(consumer)
        read_s = 0.0
        while not self._stop.is_set():
            self.turned_s = time.monotonic()
            if self.turned_s >= self._refresh_s:
                self._pass_on(self._gathering.all(self.turned_s))  # what changes comes behind what was read before
                self._refresh(consumer)
            first = consumer.poll(self._gathering.due_in_s(time.monotonic(), POLL_S))
            if first is not None:
                # To be woken costs as well: on a busy stream, read what comes within a few milliseconds at once.
                now_s = time.monotonic()
                linger_s = self._gathering.due_in_s(now_s, LINGER_S if now_s - read_s < BUSY_S else 0)
                read_s = now_s
                self._keep([first, *consumer.consume(MOST_AT_ONCE - 1, linger_s)], now_s)
            now_s = time.monotonic()
            # Nobody is served before the start is over, which it is when nothing waits.
            self._pass_on(self._gathering.due(now_s) if self._caught_up else self._gathering.all(now_s))

    def _refresh(self, consumer: Consumer) -> None:
        """Look for topics and partitions that are new, made again, or lost, and assign what changed."""
        self._refresh_s = time.monotonic() + RETRY_S
        wanted = self._wanted  # may change any time, and then we come here again
        for topic in self._ids.keys() - wanted:
            self._drop(consumer, topic)
        known_names = {topic.full_name(self._settings.topic_prefix): topic for topic in served().values()}
        try:
            states = kafka.describe(self._settings.kafka, known_names)
        except Retryable as failure:
            self._say(str(failure))
            return
        changes = self._changes(consumer, {known_names[name]: state for name, state in states.items()}, wanted)
        for change in changes:
            name = change.topic.full_name(self._settings.topic_prefix)
            if isinstance(change, Assigned):
                self._forget(change.topic, [place for place in self._next if place[0] == name])
                self._ids[change.topic] = change.topic_id
            self._next |= {(name, partition): start for partition, start in change.starts.items()}
            self._hand_over(change)
        if changes:
            self._assign(consumer)
        self._lost.clear()
        self._described = True
        missing = known_names.keys() - states.keys()
        if missing:
            self._say(f"topics do not exist yet: {', '.join(sorted(missing))}; make them with 'sentio topics apply'")
        else:
            self._refresh_s = time.monotonic() + REFRESH_S
            self._once.reset()
        if wanted != self._wanted:
            self._refresh_s = 0.0
        self._check_caught_up()

    def _changes(
        self, consumer: Consumer, states: Mapping[Topic, kafka.TopicState], wanted: frozenset[Topic]
    ) -> list[Assigned | Grown]:
        changes: list[Assigned | Grown] = []
        for topic in wanted & states.keys():
            name, state = topic.full_name(self._settings.topic_prefix), states[topic]
            known = sum(place[0] == name for place in self._next)
            if self._ids.get(topic) != state.id or topic in self._lost:
                places = [(name, partition) for partition in range(state.partitions)]
                is_new = topic in self._ids or (self._described and topic not in self._seen)
                from_oldest = is_new and topic not in self._lost
                changes.append(Assigned(topic, state.id, self._starts(consumer, places, from_oldest=from_oldest)))
            elif state.partitions > known:
                places = [(name, partition) for partition in range(known, state.partitions)]
                changes.append(Grown(topic, self._starts(consumer, places, from_oldest=True)))
        self._seen |= states.keys()
        return changes

    def _starts(self, consumer: Consumer, places: list[Place], *, from_oldest: bool) -> dict[int, int]:
        """Where to begin: at the oldest of a topic that came later, else so far back that the ring fills."""
        back = self._settings.stream_ring // len(places)
        starts = {}
        for place, (oldest, end) in kafka.ends(consumer, places).items():
            starts[place[1]] = oldest if from_oldest else max(oldest, end - back)
            if not from_oldest and end > starts[place[1]]:
                self._ahead[place] = end
        return starts

    def _drop(self, consumer: Consumer, topic: Topic) -> None:
        name = topic.full_name(self._settings.topic_prefix)
        self._forget(topic, [place for place in self._next if place[0] == name])
        del self._ids[topic]
        self._assign(consumer)
        self._hand_over(Dropped(topic))

    def _forget(self, topic: Topic, places: Iterable[Place]) -> None:
        self._marks.pop(topic, None)
        for place in places:
            self._next.pop(place, None)

    def _assign(self, consumer: Consumer) -> None:
        consumer.assign([TopicPartition(*place, offset) for place, offset in self._next.items()])

    def _keep(self, messages: Iterable[Message], now_s: float) -> None:
        """Have what was read wait for its tick; errors are noted for the next refresh."""
        for message in messages:
            place = (message.topic() or "", message.partition() or 0)
            offset, error = message.offset() or 0, message.error()
            if error is not None:
                self._note(place, error, offset)
            elif offset >= self._next.get(place, _NOT_OURS):
                self._gathering.add(place[0], message, now_s)
                self._next[place] = offset + 1

    def _pass_on(self, gathered: Iterable[Gathered]) -> None:
        """Hand over what waited, a batch a topic."""
        for one in gathered:
            topic = topic_of_name(one.name, self._settings.topic_prefix)
            decoded = self._decode(topic, one)
            self.skipped += len(decoded.skipped)
            for seq, reason in decoded.skipped:
                if self._once.due(("skipped", one.name)):
                    log.get().warning("skipped a message", topic=one.name, seq=seq, cause=reason, skipped=self.skipped)
            self._hand_over(Read(decoded.rows, one.since_s))
        self._check_caught_up()

    def _decode(self, topic: Topic, one: Gathered) -> Decoded:
        if self._traces is None:
            return decode(topic, one.messages, self._marks[topic])
        found = {(m.partition(), m.offset()): traceparent_of(_headers(m)) for m in one.messages}
        counted: dict[str, str | int] = {
            "messaging__destination__name": one.name,
            "messaging__batch__message_count": len(one.messages),
        }
        with self._traces.span(f"deliver {one.name}", [parent for parent in found.values() if parent], **counted):
            decoded = decode(topic, one.messages, self._marks[topic])
        of_rows = tuple(found.get((row.partition, row.offset)) for row in decoded.rows.rows)
        return replace(decoded, rows=replace(decoded.rows, traces=of_rows))

    def _note(self, place: Place, error: KafkaError, offset: int) -> None:
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - its public name
            # The last offsets may hold no message (transaction markers, compaction).
            if self._ahead.get(place, 0) <= offset:
                self._ahead.pop(place, None)
            return
        self._say(f"{place[0]}[{place[1]}]: {error.str()}")
        if error.code() in _GONE | _STALE:
            self._refresh_s = min(self._refresh_s, time.monotonic() + RETRY_S)
        if error.code() in _GONE and place in self._next:
            self._lost.add(topic_of_name(place[0], self._settings.topic_prefix))

    def _check_caught_up(self) -> None:
        if self._caught_up or not self._next or self._gathering:
            return
        self._ahead = {place: end for place, end in self._ahead.items() if self._next.get(place, end) < end}
        if not self._ahead:
            self._caught_up = True
            self._hand_over(CaughtUp())

    def _hand_over(self, item: Item) -> None:
        """Wait until the loop has room for it."""
        if not self._stop.is_set():
            asyncio.run_coroutine_threadsafe(self.items.put(item), self._loop).result()

    def _say(self, cause: str) -> None:
        if self._once.due(cause):
            log.get().warning("the feed waits", cause=cause, retry_s=RETRY_S)


def _headers(message: Message) -> Iterable[tuple[str, Any]]:
    headers: Any = message.headers()  # never a dict, whatever its stubs say
    return headers or ()
