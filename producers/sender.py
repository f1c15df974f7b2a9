"""Encoded events to Kafka in order, by way of the spool when Kafka does not take them. Used by one thread.

Every record is in exactly one place: under way in librdkafka, held here, in the spool, or done (acknowledged or
failed). librdkafka tells only what fails; what is no longer under way and did not fail is acknowledged.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.spool import Place, Record, Spool
from sentio import kafka, log
from sentio.tracing import TRACEPARENT

SLICE = 500
"""Records read from the spool or sent again in one turn: new events are not kept waiting for longer."""

DRAIN_WINDOW = 10_000
"""Records of the spool that are under way before it is noted that all of them arrived."""

FRESH_MS = 2_000
"""What is older is sent record by record: only so can each carry the time of its publish()."""

REBUILD_PAUSE_S = 1.0
CLOSE_S = 5.0

# The broker refuses this very record; sending it again changes nothing.
_AT_FAULT = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_MSG,
    KafkaError.RECORD_LIST_TOO_LARGE,
}


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the records given to `KafkaSender`."""

    acknowledged: int
    failed: int
    spooled_bytes: int


@dataclass(frozen=True, slots=True)
class Parcel:
    """Encoded events of one topic, in order; the lists are of one length, and not empty."""

    topic: str
    keys: list[bytes]
    values: list[bytes]
    time_ms: int
    """When they were published."""

    traceparent: str | None = None
    """Of the span that they are sent in."""

    def records(self) -> list[Record]:
        told = self.time_ms, self.traceparent
        return [Record(self.topic, *parts, *told) for parts in zip(self.keys, self.values, strict=True)]

    def is_fresh(self) -> bool:
        return time.time() * 1_000 - self.time_ms < FRESH_MS


@dataclass(slots=True, eq=False)
class _Handed:
    """What librdkafka was given in one go; it calls this for each record that fails."""

    sender: "KafkaSender"
    parcel: Parcel | list[Record]
    spooled: bool
    order: int
    failed: set[bytes] = field(default_factory=set)
    """Values of the records that came back; an event's id makes its value its own."""

    def __call__(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.sender.came_back(self, error, message)

    def returned(self) -> list[Record]:
        """In the order in which they were handed over."""
        records = self.parcel.records() if isinstance(self.parcel, Parcel) else self.parcel
        return [record for record in records if record.value in self.failed]


class KafkaSender:
    """Sends on librdkafka and, where one is given, by way of a `Spool`."""

    def __init__(
        self,
        bootstrap: str,
        *,
        queue_records: int,
        spool: Spool | None,
        durable: bool,
        linger_ms: float = kafka.LINGER_MS,
    ) -> None:
        self._config = kafka.writer(bootstrap, name="sentio-publisher", linger_ms=linger_ms) | {
            # When the broker refuses a batch, nothing of the partition behind it may go on: it all comes back.
            "enable.gapless.guarantee": True,
            "queue.buffering.max.messages": queue_records,
            "queue.buffering.max.kbytes": 256 * 1024,
        }
        self._producer = Producer(self._config)
        self._queue_records = queue_records
        self._spool = spool
        self._durable = durable
        self._once = log.OncePer()
        # Of this run's records: given to librdkafka (again counts again), given back by it, under way when last looked.
        self._handed = 0
        self._returned = 0
        self._acknowledged = 0
        self._failed = 0
        self._order = 0
        self._with_failures: dict[int, _Handed] = {}
        # To be sent before anything else: those that are nowhere else, then those that are in the spool too.
        self._held: deque[Record] = deque()
        self._held_spooled: deque[Record] = deque()
        self._rebuild_at_s: float | None = None
        # The records of the spool that are under way: how many, and the place behind the last.
        self._window = 0
        self._window_end: Place = (0, 0)
        # Records that an earlier run left in the spool are delivered but not counted as this run's.
        self._foreign_until = spool.end if spool and not spool.empty else None

    def send(self, parcel: Parcel) -> None:
        """Take records, in order."""
        if self._must_wait():
            self.keep(parcel.records())
            return
        if parcel.traceparent is None and parcel.is_fresh():
            taken = self._produce_batch(parcel)
        else:  # which alone can give each record a time, or headers
            taken = self._produce(parcel.records(), spooled=False)
        if taken < len(parcel.values):
            self.keep(parcel.records()[taken:])

    def keep(self, records: Sequence[Record]) -> None:
        """Take records that cannot be sent now: into the spool, or into memory without one."""
        if self._spool:
            kept = self._spool.append(records)
        else:
            # librdkafka's own queue is full: as many again wait here, in order.
            kept = max(0, min(len(records), self._queue_records - len(self._held)))
            self._held.extend(records[:kept])
        if lost := len(records) - kept:
            self._failed += lost
            if self._once.due("lost"):
                full = "the spool (SENTIO_SPOOL_MAX_BYTES)" if self._spool else "memory, and SENTIO_SPOOL is unset"
                log.get().error(f"events are lost: no room in {full}", lost=self._failed)

    def refuse(self, count: int) -> None:
        """Count records that never came to be."""
        self._failed += count

    def turn(self) -> int:
        """Hear what librdkafka has to tell, then send on what waits; returns how many went."""
        self._poll(0)
        under_way = self._count()
        if self._rebuild_at_s is not None:
            if not under_way and time.monotonic() >= self._rebuild_at_s:
                self._rebuild()
            return 0
        for held, spooled in ((self._held, False), (self._held_spooled, True)):
            if held:
                taken = self._produce(list(islice(held, SLICE)), spooled=spooled)
                for _ in range(taken):
                    held.popleft()
                return taken
        return self._drain(self._spool, under_way) if self._spool else 0

    def counts(self) -> Counts:
        return Counts(self._acknowledged, self._failed, self._spool.size_bytes if self._spool else 0)

    def close(self) -> None:
        """Put what is still under way where it is safe: before everything in the spool, in order."""
        deadline_s = time.monotonic() + CLOSE_S
        self._producer.purge()
        while (under_way := self._count()) and time.monotonic() < deadline_s:
            self._poll(0.1)
        if under_way:
            self._failed += under_way
            log.get().error("events may be lost: librdkafka does not say what became of them", lost=under_way)
        if self._spool and self._window and not under_way and not self._with_failures and not self._held_spooled:
            self._spool.acknowledge(self._window_end)
        self._take_back()
        if not self._held:
            return
        try:
            if self._spool:
                self._spool.prepend(self._held)
                return
            cause = "SENTIO_SPOOL is unset"
        except OSError as failure:
            cause = f"the spool cannot write: {failure.strerror}"
        self._failed += len(self._held)
        log.get().error(f"events are lost: Kafka did not take them in time and {cause}", lost=len(self._held))

    def abandon(self) -> None:
        """End without a word of what is under way: its source still has it."""
        deadline_s = time.monotonic() + CLOSE_S
        self._producer.purge()
        while len(self._producer) and time.monotonic() < deadline_s:
            self._poll(0.1)

    def came_back(self, handed: _Handed, error: KafkaError, message: Message) -> None:
        """A record of ``handed`` is given up by librdkafka."""
        own = not self._is_foreign(handed)
        self._returned += own
        if error.code() in _AT_FAULT:
            self._refused(handed, message.topic() or "", error)
            return
        handed.failed.add(message.value() or b"")
        self._with_failures[handed.order] = handed
        self._start_rebuild(error)

    def _poll(self, timeout_s: float) -> None:
        """Hear of failures. A fatal one of librdkafka's own is raised, once; what was under way then comes back."""
        try:
            self._producer.poll(timeout_s)
        except KafkaException as failure:
            self._start_rebuild(failure.args[0])

    def _must_wait(self) -> bool:
        if self._spool and (self._durable or not self._spool.empty):
            return True
        return bool(self._held) or self._rebuild_at_s is not None

    def _produce_batch(self, parcel: Parcel) -> int:
        """How many librdkafka took or will never take, from the first on.

        When its queue is full it refuses what does not fit and all behind it, so that nothing overtakes.
        """
        messages: list[dict[str, Any]] = [
            {"key": key, "value": value} for key, value in zip(parcel.keys, parcel.values, strict=True)
        ]
        handed = self._new(parcel, spooled=False)
        taken = self._producer.produce_batch(parcel.topic, messages, on_delivery=handed)
        self._handed += taken
        if taken == len(messages):
            return taken
        for index, message in enumerate(messages):
            if (error := message.get("_error")) and not self._go_on(handed, parcel.topic, error):
                return index
        return len(messages)

    def _produce(self, records: list[Record], *, spooled: bool) -> int:
        """How many librdkafka took or will never take, from the first on. Each keeps the time of its publish()."""
        handed = self._new(records, spooled=spooled)
        own = not self._is_foreign(handed)
        for index, record in enumerate(records):
            more: dict[str, Any] = {"headers": {TRACEPARENT: record.traceparent}} if record.traceparent else {}
            try:
                self._producer.produce(
                    record.topic, record.value, record.key, timestamp=record.timestamp_ms, on_delivery=handed, **more
                )
            except BufferError:
                return index
            except KafkaException as failure:
                if not self._go_on(handed, record.topic, failure.args[0]):
                    return index
            else:
                self._handed += own
        return len(records)

    def _new(self, parcel: Parcel | list[Record], *, spooled: bool) -> _Handed:
        self._order += 1
        return _Handed(self, parcel, spooled, self._order)

    def _go_on(self, handed: _Handed, topic: str, error: KafkaError) -> bool:
        """Whether the records behind the one that librdkafka does not take can be sent."""
        if error.code() in _AT_FAULT:
            self._refused(handed, topic, error)
            return True
        if error.code() != KafkaError._QUEUE_FULL:  # noqa: SLF001 - its public name
            self._start_rebuild(error)
        return False

    def _refused(self, handed: _Handed, topic: str, error: KafkaError) -> None:
        self._failed += not self._is_foreign(handed)
        log.get().error("kafka refuses an event; it is lost", topic=topic, cause=error.str())

    def _is_foreign(self, handed: _Handed) -> bool:
        """Whether an earlier run's: nothing else is under way or held together with these (`_drain`)."""
        return handed.spooled and self._foreign_until is not None

    def _count(self) -> int:
        """Take note of what is acknowledged; returns how many records are under way."""
        under_way = len(self._producer)
        own = 0 if self._window and self._foreign_until is not None else under_way
        # What is told and not yet heard is counted as under way once more: never too much is acknowledged.
        self._acknowledged = max(self._acknowledged, self._handed - self._returned - own)
        return under_way

    def _start_rebuild(self, error: KafkaError) -> None:
        """Stop sending until everything under way has come back: only then is the order known."""
        if self._once.due("rebuild"):
            log.get().warning("kafka took back events; sending them again", cause=error.str())
        if self._rebuild_at_s is None:
            self._rebuild_at_s = time.monotonic() + REBUILD_PAUSE_S
            self._producer.purge()

    def _rebuild(self) -> None:
        self._producer = Producer(self._config)
        self._rebuild_at_s = None
        self._take_back()

    def _take_back(self) -> None:
        """Hold what came back, before what is held already."""
        came_back = [self._with_failures[order] for order in sorted(self._with_failures)]
        self._with_failures.clear()
        for held, spooled in ((self._held, False), (self._held_spooled, True)):
            records = [record for handed in came_back if handed.spooled is spooled for record in handed.returned()]
            held.extendleft(reversed(records))

    def _drain(self, spool: Spool, under_way: int) -> int:
        """Send on what the spool holds, a window at a time: nothing else is under way with it."""
        if self._window and not under_way:
            # Noted only now, so a restart sends up to a window again; readers know repeats by their sequences.
            spool.acknowledge(self._window_end)
            self._window = 0
        if self._foreign_until is not None and not self._window and spool.acknowledged >= self._foreign_until:
            self._foreign_until = None
        room = min(DRAIN_WINDOW, self._queue_records) - self._window
        if spool.empty or room <= 0 or (under_way and not self._window):
            return 0
        found = spool.read(min(room, SLICE), until=self._foreign_until)
        taken = self._produce([record for _, record in found], spooled=True)
        self._window += taken
        if taken:
            self._window_end = found[taken - 1][0]
        if taken < len(found):
            spool.rewind(self._window_end if self._window else None)
        return taken
