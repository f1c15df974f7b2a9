"""The loop of every consumer group: poll, decode, process, commit.

It alone polls, assigns, pauses and commits. Partitions that Kafka gives are first claimed from the consumer (or
from Kafka's committed offsets), outside the rebalance callback, so that a database outage costs no membership.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from confluent_kafka import Consumer as KafkaConsumer
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from consumers import figures, polled, refusals
from consumers.consumer import Consumer, Fenced
from consumers.deadletters import DeadLetters
from consumers.polled import Letter, Messages
from consumers.queues import reader_of
from consumers.waiting import Backoff
from schemas import codec
from schemas.topics import topic_of_name, topics
from sentio import kafka, letters, log
from sentio.batch import Batch, Range
from sentio.config import ConsumerSettings
from sentio.errors import Fatal, Poison, Retryable
from sentio.kafka import Place
from sentio.tracing import Traces, traceparent_of

REDRIVE_NOTICED_MS = 5_000
"""How soon a topic of redriven records is noticed that was made while the group runs."""

_GONE = {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}  # noqa: SLF001 - its public name


class Group:
    """Runs one member of a consumer group until `stop` is set. ``connect`` makes the Kafka client."""

    def __init__(
        self,
        consumer: Consumer,
        settings: ConsumerSettings,
        *,
        stop: threading.Event,
        group_id: str | None = None,
        connect: Callable[[dict[str, object]], KafkaConsumer] = KafkaConsumer,
        dead_letters: DeadLetters | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.turned_s = time.monotonic()
        """When the loop last turned, for /livez."""

        self.records = 0
        self._consumer = consumer
        self._settings = settings
        self._stop = stop
        self._group_id = group_id or f"{settings.topic_prefix}.{consumer.name}"
        self._topics = [topics()[name].full_name(settings.topic_prefix) for name in consumer.topics]
        group = self._group_id.removeprefix(f"{settings.topic_prefix}.")
        self._redriven = {letters.redrive_topic(name, group): name for name in self._topics}
        patterns = [letters.redrive_pattern(name, group) for name in self._topics]
        self._patterns = [pattern for pattern in patterns if pattern is not None]
        self._dead = dead_letters or DeadLetters(settings.kafka, self._group_id)
        self._traces = traces
        self._once = log.OncePer()
        self._next: dict[Place, int] = {}
        self._unclaimed: set[Place] = set()
        self._fenced: dict[Place, float] = {}
        self._stood: dict[Place, int] = {}
        self._assigned = False
        self._waiting = False
        self._client = connect(self._config())
        self._reader = reader_of(self._client)
        figures.PARTITIONS.labels(self._group_id).set_function(lambda: len(self._next))
        figures.WAITING.labels(self._group_id).set_function(lambda: self._waiting or not self._assigned)

    @property
    def ready(self) -> bool:
        """The group gave its share, all of it is claimed, and nothing waits for the sink."""
        return self._assigned and not self._unclaimed and not self._fenced and not self._waiting

    def run(self) -> None:
        """Consume until stopped. Raises `Fatal`; everything else is dealt with here."""
        try:
            self._retry("topics", self._check_topics)
            self._retry("open", self._consumer.open)
            # Topics of redriven records by pattern: they are made when first needed, and noticed then.
            self._client.subscribe(
                [*self._topics, *self._patterns],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )
            log.get().info("consuming", group=self._group_id, topics=self._topics)
            while not self._stop.is_set():
                self._turn()
        except _Stopped:
            log.get().info("stopped while waiting; what was not done is done at the next start")
        finally:
            self._reader.close()
            self._client.close()
            self._consumer.close()

    def _turn(self) -> None:
        self.turned_s = time.monotonic()
        self._unclaimed |= {place for place, again_s in self._fenced.items() if again_s <= self.turned_s}
        if self._unclaimed:
            self._retry("claim", self._claim)
        found = self._reader.read(self._settings.batch_records, self._settings.batch_wait_ms / 1000)
        for place, error in found.errors:
            self._look_at_error(place, error)
        for name, messages in found.messages:
            # Asked only now: delivering the topic before may have taken long, and partitions may have gone.
            if usable := self._usable(name, messages):
                self._traced(name, usable)
        try:
            self._consumer.idle()
        except Retryable as failure:
            self._say("idle", failure)
        except Fenced as fence:
            self._on_fence(fence)

    # --- partitions ------------------------------------------------------------------------------------------------

    def _on_assign(self, client: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        places = [(partition.topic, partition.partition) for partition in partitions]
        self._reader.add(places)
        # Assigned at a placeholder and paused: `_claim` finds where to begin, and may need time for it. A number, since
        # librdkafka looks up "end" at the broker, and takes an answer that comes after the claim for where to begin.
        client.incremental_assign([TopicPartition(*place, 0) for place in places])
        client.pause([TopicPartition(*place) for place in places])
        self._unclaimed.update(places)
        self._assigned = True

    def _check_topics(self) -> None:
        states = kafka.describe(self._settings.kafka, self._topics)
        if missing := [name for name in self._topics if name not in states]:
            raise Retryable(f"topic {missing[0]} does not exist; create it with 'sentio topics apply'")

    def _on_revoke(self, client: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        places = [(partition.topic, partition.partition) for partition in partitions]
        self._forget(places)
        for place in places:
            self._stood.pop(place, None)
        self._consumer.revoked(places)
        client.incremental_unassign(partitions)
        self._reader.remove(places)

    def _on_lost(self, client: KafkaConsumer, partitions: list[TopicPartition]) -> None:
        """The session is over, as after a long silence of the broker: no member until it has joined again."""
        self._assigned = False
        self._on_revoke(client, partitions)

    def _forget(self, places: Iterable[Place]) -> None:
        for place in places:
            self._unclaimed.discard(place)
            self._fenced.pop(place, None)
            self._next.pop(place, None)

    def _claim(self) -> None:
        places = sorted(self._unclaimed)
        if not places:
            return
        states = kafka.describe(self._settings.kafka, {topic for topic, _ in places})
        if missing := [topic for topic, _ in places if topic not in states]:
            raise Retryable(f"topic {missing[0]} does not exist; create it with 'sentio topics apply'")
        if self._consumer.owns_offsets:
            found = dict(self._consumer.assigned({place: states[place[0]].id for place in places}))
        else:
            found = self._committed(places)
        ends = kafka.ends(self._client, places)
        for place in places:
            oldest, newest = ends[place]
            found.setdefault(place, self._stood.get(place, oldest))
            if not oldest <= found[place] <= newest:
                raise Fatal(self._lost(place, found[place], oldest, newest))
        assigned = [TopicPartition(*place, found[place]) for place in places]
        self._client.incremental_unassign(assigned)
        self._reader.add(places)
        self._client.incremental_assign(assigned)
        self._client.resume(assigned)
        self._next.update(found)
        for place in places:
            self._unclaimed.discard(place)
            self._fenced.pop(place, None)
            self._stood.pop(place, None)
        log.get().info("partitions claimed", offsets={f"{topic}[{p}]": found[topic, p] for topic, p in places})

    def _committed(self, places: Sequence[Place]) -> dict[Place, int]:
        try:
            found = self._client.committed([TopicPartition(*place) for place in places], timeout=10)
        except KafkaException as failure:
            raise Retryable(f"kafka: committed offsets: {failure.args[0].str()}") from failure
        return {(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

    def _lost(self, place: Place, wanted: int, oldest: int, newest: int) -> str:
        topic, partition = place
        if wanted > newest:
            return (
                f"{topic}[{partition}] ends at {newest}, group {self._group_id} stands at {wanted}: another log, or one"
                f" that lost its end; what was read beyond it is only in the results of {self._consumer.name}"
            )
        return (
            f"{topic}[{partition}]: offsets {wanted} to {oldest - 1} are gone from the log (retention), group"
            f" {self._group_id} had not read them; to accept the loss and go on:"
            f" sentio skip {self._consumer.name} {topic} {partition} --to {oldest}"
        )

    # --- messages --------------------------------------------------------------------------------------------------

    def _usable(self, name: str, messages: Messages) -> Messages | None:
        """What of a topic's messages is to be processed: ours, and not before the claimed position."""
        # Others are not ours (any more), or were fetched before a claim moved the position.
        stands = {p: self._next[name, p] for p in messages.spans() if (name, p) in self._next}
        messages = messages.since(stands)
        return messages if len(messages) else None

    def _look_at_error(self, place: Place, error: KafkaError) -> None:
        if error.fatal():
            raise Fatal(f"kafka: {error.str()}")
        if place not in self._next:
            return
        if error.code() in _GONE:
            # `_claim` looks at it again, with retries, and names what is lost.
            self._stood[place] = self._next[place]
            self._forget([place])
            self._unclaimed.add(place)
        else:
            self._say(f"kafka {error.name()}", Retryable(f"{place[0]}: {error.str()}"))

    def _traced(self, name: str, messages: Messages) -> None:
        if self._traces is None:
            self._deliver(name, messages)
            return
        headers = (messages.letter(index)[-1] for index in range(len(messages)))
        parents = [parent for each in headers if (parent := traceparent_of(each))]
        counted: dict[str, str | int] = {
            "messaging__destination__name": name,
            "messaging__batch__message_count": len(messages),
        }
        counted["messaging__consumer__group__name"] = self._group_id
        with self._traces.span(f"process {name}", parents, **counted):
            self._deliver(name, messages)

    def _deliver(self, name: str, messages: Messages) -> None:
        began_s = time.monotonic()
        base = self._redriven.get(name)
        topic = topic_of_name(base or name, self._settings.topic_prefix)
        decoded = codec.decode(topic.event, messages.values())
        ranges = {p: Range(self._next[name, p], high + 1) for p, (_, high) in messages.spans().items()}
        # The headers of a redriven record say which one it was: the ledger asks.
        originals = self._consumer.wants_originals or base is not None
        redrive = name if base else None
        batch = polled.batch(topic, messages, decoded, ranges, redrive_topic=redrive, originals=originals)
        batch = refusals.refusing(batch, (messages.letter(index)[:2] for index, _ in decoded.poison))
        self._bury(name, messages, "decode", dict(decoded.poison))
        poison = len(decoded.poison) + self._process(name, batch, messages)
        if base is None:  # of what was refused before much may be refused again, and that is no news of a deployment
            self._dead.count(good=len(messages) - poison, poison=poison)
        self.records += len(messages)
        self._commit(name, batch)
        figures.of_batch(self._group_id, name, len(messages), began_s, batch)

    def _process(self, name: str, batch: Batch, messages: Messages) -> int:
        """Have the consumer process what is still ours of the batch; returns how many rows were poison."""
        poison = 0

        def attempt() -> None:
            nonlocal batch, poison
            while (batch := self._still_ours(name, batch)).ranges:
                try:
                    self._consumer.process(batch)
                except Poison as failure:
                    rows = set(batch.places())
                    at_fault = {place: why for place, why in failure.reasons.items() if place in rows}
                    if not at_fault:
                        raise Fatal(
                            f"{self._consumer.name} names poison that is not in its batch: {failure}"
                        ) from failure
                    self._bury(name, messages, "process", _by_index(messages, at_fault))
                    poison += len(at_fault)
                    kept = batch.where([place not in at_fault for place in batch.places()])
                    batch = refusals.refusing(kept, at_fault)
                except Fenced as fence:
                    self._on_fence(fence)
                else:
                    break

        self._retry("process", attempt)
        return poison

    def _still_ours(self, name: str, batch: Batch) -> Batch:
        """Asked before every attempt: what is waited for in between may take partitions away."""
        ours = {partition for partition in batch.ranges if (name, partition) in self._next}
        return batch if len(ours) == len(batch.ranges) else batch.only(ours)

    def _on_fence(self, fence: Fenced) -> None:
        log.get().warning("partitions have another owner or place", gone=fence.gone, moved=fence.moved)
        places = [*fence.gone, *fence.moved]
        self._forget(places)
        self._client.pause([TopicPartition(*place) for place in places])
        self._unclaimed.update(fence.moved)
        # Whoever claimed them may have been a zombie that claimed late. A group that does mean another member takes
        # them from us within a session; what is still ours after that is claimed again.
        again_s = time.monotonic() + 1.5 * self._settings.session_timeout_ms / 1000
        self._fenced |= dict.fromkeys(fence.gone, again_s)

    def _bury(self, name: str, messages: Messages, kind: str, reasons: Mapping[int, str]) -> None:
        """Make dead letters of these messages of a topic, by index."""
        if reasons:
            refused = [(Letter(*messages.letter(index)), kind, reason) for index, reason in reasons.items()]
            self._retry("dead letters", lambda: self._dead.send(name, refused))
            figures.DEAD_LETTERS.labels(self._group_id, name, kind).inc(len(refused))

    def _commit(self, name: str, batch: Batch) -> None:
        done = []
        for partition, span in batch.ranges.items():
            if (name, partition) in self._next:
                self._next[name, partition] = span.next
                done.append(TopicPartition(name, partition, span.next))
        if not done:
            return
        try:
            if self._consumer.owns_offsets:  # for the lag tools only
                self._client.commit(offsets=done, asynchronous=True)
            else:
                self._client.commit(offsets=done, asynchronous=False)
        except KafkaException as failure:
            self._say("commit", Retryable(failure.args[0].str()))

    # --- trouble ---------------------------------------------------------------------------------------------------

    def _retry(self, what: str, action: Callable[[], None]) -> None:
        """Do it until it works, the partitions paused and the membership kept; ends early when stopped."""
        backoff = Backoff()
        while True:
            try:
                action()
            except Retryable as failure:
                self._say(what, failure)
                figures.RETRIES.labels(self._group_id, what).inc()
            else:
                break
            if not self._waiting:
                self._waiting = True
                self._client.pause([TopicPartition(*place) for place in self._next])
            if self._wait(backoff.next_s()):
                raise _Stopped
        if self._waiting:
            self._waiting = False
            self._once.reset()
            log.get().info("going on", after=what)
            self._client.resume([TopicPartition(*place) for place in self._next])

    def _wait(self, seconds: float) -> bool:
        """Stay in the group for a while with nothing to read; True when asked to stop."""
        until_s = time.monotonic() + seconds
        while (left_s := until_s - time.monotonic()) > 0 and not self._stop.is_set():
            self.turned_s = time.monotonic()
            for name, messages in self._reader.rest(min(left_s, 0.1)).messages:
                if usable := self._usable(name, messages):
                    # Fetched before the pause took hold, and nobody is there to take it: begin there again.
                    places = [(name, partition) for partition in usable.spans()]
                    self._forget(places)
                    self._unclaimed.update(places)
        return self._stop.is_set()

    def _say(self, what: str, failure: Exception) -> None:
        if self._once.due(what):
            log.get().warning("waiting, will try again", what=what, cause=str(failure))

    def _config(self) -> dict[str, object]:
        return kafka.reader(self._settings.kafka, name=f"{self._consumer.name}") | {
            "group.id": self._group_id,
            "enable.partition.eof": False,
            "topic.metadata.refresh.interval.ms": REDRIVE_NOTICED_MS,
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": self._settings.session_timeout_ms,
            "heartbeat.interval.ms": max(500, self._settings.session_timeout_ms // 10),
        }


def _by_index(messages: Messages, reasons: Mapping[tuple[int, int], str]) -> dict[int, str]:
    """By index in the messages what is known by (partition, offset)."""
    partitions, offsets, _ = messages.columns()
    places = zip(partitions.to_pylist(), offsets.to_pylist(), strict=True)
    return {index: reasons[place] for index, place in enumerate(places) if place in reasons}


class _Stopped(Exception):
    """Asked to stop while waiting."""
