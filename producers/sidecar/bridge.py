"""An engine's JSON topics into the house's, exactly once: what is read and what is written are one transaction.

Old and new run side by side, and consumers go over one by one. Who takes the place of a bridge that runs (the same
name) puts it out: it ends with an error, and nothing of it comes to the log any more.
"""

import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import Any
from uuid import UUID, uuid5

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # it is theirs to give

from producers.sidecar.documents import Unusable, parse
from producers.sidecar.mapping import Map
from producers.sidecar.numbered import Numbered, messages
from producers.sidecar.refusals import Refusals
from producers.sidecar.source import Refused, Tally
from schemas.topics import topic_of_event
from sentio import kafka, letters, log
from sentio.config import SidecarSettings
from sentio.errors import Fatal, Retryable

MOST = 2_000
WAIT_S = 0.05
CALL_S = 5.0
"""How long a call of Kafka may take."""

END_S = 15.0
"""When the end of a transaction is waited for no longer. librdkafka was seen to wait for ever, whatever it was told,
for the coordinator of a group on a broker that had been away; a new client finds it.
"""

LOOK_S = 30.0
"""How often it is looked for new partitions."""

EVENTS_OF_A_MESSAGE = 1_024

LETTER_BYTES = 900_000
"""Of a dead letter: what is larger Kafka may not take, and it goes without its value. Its headers say where it was."""

REASON = 1_000
AGAIN_S = 1.0


class Bridge:
    """Carries the messages of the mapped topics over until it is told to stop. Used by one thread.

    ``name`` is its group and its transactions': how far it came is known by it.
    """

    def __init__(self, settings: SidecarSettings, maps: Sequence[Map], *, name: str) -> None:
        self.turned_s = time.monotonic()
        self.name = f"bridge:{name}"
        self.tallies = {self.name: Tally()}
        self.failed = 0
        self._settings = settings
        self._maps: dict[str, list[Map]] = {}
        for each in maps:
            self._maps.setdefault(each.topic, []).append(each)
        self._group = f"{settings.topic_prefix}.bridge.{name}"
        self._consumer = Consumer(
            kafka.reader(settings.kafka, name="sentio-bridge")
            | {"group.id": self._group, "enable.partition.eof": False}
        )
        self._producer = self._new_producer()
        self._ids: dict[str, UUID] = {}
        self._is_owner = False
        self._is_open = False  # its transaction
        self._next: dict[kafka.Place, int] = {}
        self._look_at_s = 0.0
        self._once = log.OncePer()
        self._refusals = Refusals()

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set. Raises `Fatal`: for another bridge of that name, and what is gone from a topic."""
        try:
            while not stop.is_set():
                self.turned_s = time.monotonic()
                try:
                    if not self._is_owner:
                        self._begin()
                    while not stop.is_set():
                        self._turn()
                except (Retryable, KafkaException) as failure:
                    self._look_at(failure)
                    self._give_up()
                    stop.wait(AGAIN_S)
        finally:
            self._consumer.close()

    def _begin(self) -> None:
        """Be the only one of that name, and stand where the last transaction ended."""
        self._producer = self._new_producer()
        self._producer.init_transactions(CALL_S)
        self._make_dead_letter_topics()
        self._is_owner = True

    def _new_producer(self) -> Producer:
        config = kafka.writer(self._settings.kafka, name="sentio-bridge") | {"transactional.id": self._group}
        del config["message.timeout.ms"]  # bounded by the transaction's
        return Producer(config)

    def _turn(self) -> None:
        self.turned_s = time.monotonic()
        if self.turned_s >= self._look_at_s:
            self._assign()
            self._look_at_s = self.turned_s + LOOK_S
        self._refusals.say(self.name, ())
        found = self._consumer.consume(MOST, WAIT_S)
        messages = [message for message in found if self._is_sound(message)]
        if messages:
            self._carry_over(messages)

    def _assign(self) -> None:
        """All partitions of the topics that are there by now."""
        states = kafka.describe(self._settings.kafka, self._maps)
        if missing := self._maps.keys() - states.keys():
            self._say("missing", f"topics are not there yet: {', '.join(sorted(missing))}")
        places = [(topic, partition) for topic, state in states.items() for partition in range(state.partitions)]
        self._ids = {topic: UUID(bytes=urlsafe_b64decode(f"{state.id}==")) for topic, state in states.items()}
        fresh = [place for place in places if place not in self._next]
        if not fresh:
            return
        committed = self._consumer.committed([TopicPartition(*place) for place in fresh], timeout=CALL_S)
        ends = kafka.ends(self._consumer, fresh)
        for each in committed:
            place = (each.topic, each.partition)
            oldest, newest = ends[place]
            self._next[place] = each.offset if each.offset >= 0 else oldest
            if not oldest <= self._next[place] <= newest:
                raise Fatal(
                    f"{each.topic}[{each.partition}] has offsets {oldest} to {newest}, group {self._group} stands at"
                    f" {each.offset}: what lies between is lost, or it is another log; to go on give the bridge another"
                    " --name"
                )
        self._consumer.assign([TopicPartition(*place, offset) for place, offset in self._next.items()])

    def _is_sound(self, message: Message) -> bool:
        error = message.error()
        if error is None:
            return True
        if error.code() in {KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE}:  # noqa: SLF001 - its public name
            raise Fatal(f"{message.topic()}[{message.partition()}]: {error.str()}: what lies between is lost")
        self._say(error.name(), error.str())
        return False

    def _carry_over(self, messages: Sequence[Message]) -> None:
        """One transaction. A failure leaves nothing of it, and the messages come again."""
        events: list[Numbered] = []
        bad: list[tuple[Message, str]] = []
        for message in messages:
            try:
                events += self._events(message)
            except Unusable as why:
                bad.append((message, str(why)))
        self._producer.begin_transaction()
        self._is_open = True
        count = self._publish(events)
        self._bury(bad)
        stands = dict(self._next)
        for message in messages:
            stands[message.topic() or "", message.partition() or 0] = (message.offset() or 0) + 1
        moved = [TopicPartition(*place, offset) for place, offset in stands.items() if offset != self._next[place]]
        metadata, producer = self._consumer.consumer_group_metadata(), self._producer

        def commit() -> None:
            producer.send_offsets_to_transaction(moved, metadata, CALL_S)
            producer.commit_transaction(CALL_S)

        _bounded(commit)
        self._is_open = False
        self._next = stands
        tally = self.tallies[self.name]
        tally.events += count
        tally.refused += len(bad)

    def _events(self, message: Message) -> list[Numbered]:
        topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
        value = message.value()
        if value is None:
            raise Unusable("has no value")
        parsed = parse(value)
        found = [read for each in self._maps[topic] for read in each.events(parsed)]
        if len(found) > EVENTS_OF_A_MESSAGE:
            raise Unusable(f"has {len(found)} events, more than {EVENTS_OF_A_MESSAGE}")
        source = uuid5(self._ids[topic], str(partition))
        producer = f"bridge@{source}"
        first = offset * EVENTS_OF_A_MESSAGE
        return [Numbered(producer, source, first + place, read.event) for place, read in enumerate(found)]

    def _publish(self, events: Sequence[Numbered]) -> int:
        for event, keys, values in messages(events):
            name = topic_of_event(event).full_name(self._settings.topic_prefix)
            for key, value in zip(keys, values, strict=True):
                self._produce(name, value, key)
        return len(events)

    def _bury(self, bad: Iterable[tuple[Message, str]]) -> None:
        refused = []
        for message, reason in bad:
            topic, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            refused.append(Refused(f"{topic}[{partition}] {offset}", reason))
            value, headers = _carried(message)
            headers += letters.source(self._group, topic, partition, offset)
            headers += letters.error("bridge", reason[:REASON])
            self._produce(letters.dead_topic(topic), value, None, headers=headers)
        self._refusals.say(self.name, refused)

    def _produce(self, topic: str, value: bytes | None, key: bytes | None, **more: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, value, key, **more)
            except BufferError:
                self._producer.poll(0.1)
            else:
                return

    def _look_at(self, failure: Retryable | KafkaException) -> None:
        """What the failure means."""
        if isinstance(failure, KafkaException):
            error: KafkaError = failure.args[0]
            if error.code() in {KafkaError._FENCED, KafkaError.INVALID_PRODUCER_EPOCH, KafkaError.PRODUCER_FENCED}:  # noqa: SLF001 - its public name
                raise Fatal(f"another bridge named {self._group} has begun; this one ends") from failure
            self._say("kafka", error.str())
        else:
            self._say("kafka", str(failure))

    def _give_up(self) -> None:
        """Nothing of what was under way is left, and it is read again.

        The same client ends the transaction where it can. To begin anew would put out another bridge that has begun
        meanwhile: its beginning is seen as any failure, and this one is told of it at the end of the transaction.
        """
        self._next = {}
        self._look_at_s = 0.0
        if not self._is_open:
            return
        self._is_open = False
        producer = self._producer
        producer.purge()
        try:
            _bounded(lambda: producer.abort_transaction(CALL_S))
        except (Retryable, KafkaException) as failure:
            self._look_at(failure)
            self._is_owner = False

    def _make_dead_letter_topics(self) -> None:
        admin = AdminClient(kafka.client(self._settings.kafka))
        names = [letters.dead_topic(topic) for topic in self._maps]
        missing = [name for name in names if name not in kafka.describe(self._settings.kafka, names)]
        for future in (
            admin.create_topics([NewTopic(name, 1, self._settings.replication) for name in missing]).values()
            if missing
            else ()
        ):
            try:
                future.result(CALL_S)
            except KafkaException as failure:
                if failure.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise Retryable(f"kafka: dead letter topics: {failure.args[0].str()}") from failure

    def _say(self, what: str, cause: str) -> None:
        if self._once.due(what):
            log.get().warning("the bridge waits, and tries again", bridge=self._group, cause=cause)


def _carried(message: Message) -> tuple[bytes | None, list[tuple[str, Any]]]:
    """What of a message goes into its dead letter."""
    value = message.value()
    own = letters.own(message.headers() or ())  # type: ignore[arg-type] # never a dict
    if sum(len(name) + len(each or b"") for name, each in own) > LETTER_BYTES // 10:
        own = []
    if value is None or len(value) <= LETTER_BYTES - LETTER_BYTES // 5:
        return value, own
    return None, [*own, letters.dropped(len(value))]


def _bounded(call: Callable[[], None]) -> None:
    """Let another thread do it, and leave both behind when it takes too long: who begins anew fences what they do."""
    done: Future[None] = Future()

    def work() -> None:
        try:
            call()
        except BaseException as failure:  # noqa: BLE001 - raised below
            done.set_exception(failure)
        else:
            done.set_result(None)

    threading.Thread(target=work, name="sentio-transaction", daemon=True).start()
    try:
        done.result(END_S)
    except TimeoutError:
        raise Retryable(f"kafka has not ended a transaction within {END_S:.0f} s") from None
