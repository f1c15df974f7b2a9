"""Records to Kafka in order, by way of the spool when Kafka does not take them. Used by one thread.

Every record is in exactly one place: under way in librdkafka, in the spool, or done (acknowledged or failed).
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producers.spool import Place, Record, Spool
from sentio import kafka, log

DRAIN_WINDOW = 5_000
CHECKPOINT_S = 0.2
REBUILD_PAUSE_S = 1.0

# The broker refuses this very record; sending it again changes nothing.
_AT_FAULT = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_MSG,
    KafkaError.RECORD_LIST_TOO_LARGE,
}


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the records given to `KafkaSender.send`."""

    acknowledged: int
    failed: int
    spooled_bytes: int


@dataclass(slots=True, eq=False)
class _UnderWay:
    """A record in librdkafka's hands; ``place`` when it came from the spool."""

    order: int
    record: Record
    place: Place | None
    done: bool = False


class KafkaSender:
    """Sends on librdkafka and, where one is given, by way of a `Spool`."""

    def __init__(self, bootstrap: str, *, queue_records: int, spool: Spool | None, durable: bool) -> None:
        self._config = kafka.client(bootstrap, name="sentio-publisher") | {
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 5,
            # Never give up on a record: an outage is waited out, in memory or in the spool.
            "message.timeout.ms": 0,
            "queue.buffering.max.messages": queue_records,
            "queue.buffering.max.kbytes": 256 * 1024,
        }
        self._producer = Producer(self._config)
        self._queue_records = queue_records
        self._spool = spool
        self._durable = durable
        self._once = log.OncePer()
        self._order = 0
        self._under_way: dict[int, _UnderWay] = {}
        self._drained: deque[_UnderWay] = deque()
        self._returned: list[_UnderWay] = []
        # Acknowledged, but behind a record that came back: sent once more, and not to be counted twice.
        self._acknowledged_ahead: set[Place | None] = set()
        self._held: deque[Record] = deque()
        self._rebuild_at_s: float | None = None
        self._checkpoint_at_s = 0.0
        self._acknowledged = 0
        self._failed = 0
        # Records that an earlier run left in the spool are delivered but not counted as this run's.
        self._foreign_until = spool.end if spool and not spool.empty else None

    def send(self, records: Sequence[Record]) -> None:
        """Take records, in order."""
        if self._spool and (self._durable or not self._spool.empty):
            self._keep(records)
            return
        for place, record in enumerate(records):
            if self._held or self._rebuild_at_s is not None or not self._produce(record, None):
                self._keep(records[place:])
                return

    def refuse(self, count: int) -> None:
        """Count records that never came to be."""
        self._failed += count

    def turn(self, timeout_s: float) -> None:
        """Serve deliveries for up to ``timeout_s``, then send on what waits."""
        self._producer.poll(timeout_s)
        if self._rebuild_at_s is not None:
            self._rebuild()
            return
        while self._held and self._produce(self._held[0], None):
            self._held.popleft()
        self._drain()

    def counts(self) -> Counts:
        return Counts(self._acknowledged, self._failed, self._spool.size_bytes if self._spool else 0)

    def close(self) -> None:
        """Put what is still under way where it is safe: before everything in the spool, in order."""
        self._producer.purge()
        self._producer.flush(1)
        self._checkpoint(now=True)
        left = sorted([*self._under_way.values(), *self._returned], key=lambda under_way: under_way.order)
        records = [under_way.record for under_way in left if under_way.place is None] + list(self._held)
        if not records:
            return
        try:
            if self._spool:
                self._spool.prepend(records)
                return
            cause = "SENTIO_SPOOL is unset"
        except OSError as failure:
            cause = f"the spool cannot write: {failure.strerror}"
        self._failed += len(records)
        log.get().error(f"events are lost: Kafka did not take them in time and {cause}", lost=len(records))

    def _keep(self, records: Sequence[Record]) -> None:
        if self._spool:
            kept = self._spool.append(records)
        else:
            # librdkafka's own queue is full: as many again wait here, in order.
            kept = max(0, self._queue_records - len(self._held))
            self._held.extend(records[:kept])
        if lost := len(records[kept:]):
            self._failed += lost
            if self._once.due("lost"):
                full = "the spool (SENTIO_SPOOL_MAX_BYTES)" if self._spool else "memory, and SENTIO_SPOOL is unset"
                log.get().error(f"events are lost: no room in {full}", lost=self._failed)

    def _produce(self, record: Record, place: Place | None) -> bool:
        under_way = _UnderWay(self._order, record, place)
        try:
            self._producer.produce(
                record.topic,
                record.value,
                record.key,
                timestamp=record.timestamp_ms,
                on_delivery=partial(self._delivered, under_way),
            )
        except BufferError:
            return False
        except KafkaException as failure:
            if failure.args[0].code() in _AT_FAULT:
                self._refused_by_broker(under_way, failure.args[0])
                if place is not None:
                    self._drained.append(under_way)
                return True
            self._start_rebuild(failure.args[0])
            return False
        self._order += 1
        self._under_way[under_way.order] = under_way
        if place is not None:
            self._drained.append(under_way)
        return True

    def _delivered(self, under_way: _UnderWay, error: KafkaError | None, _: Message) -> None:
        self._under_way.pop(under_way.order, None)
        if error is None:
            under_way.done = True
            if not self._is_foreign(under_way.place) and under_way.place not in self._acknowledged_ahead:
                self._acknowledged += 1
        elif error.code() in _AT_FAULT:
            self._refused_by_broker(under_way, error)
        else:
            self._returned.append(under_way)
            self._start_rebuild(error)

    def _is_foreign(self, place: Place | None) -> bool:
        return place is not None and self._foreign_until is not None and place <= self._foreign_until

    def _refused_by_broker(self, under_way: _UnderWay, error: KafkaError) -> None:
        under_way.done = True
        if not self._is_foreign(under_way.place):
            self._failed += 1
        log.get().error("kafka refuses an event; it is lost", topic=under_way.record.topic, cause=error.str())

    def _start_rebuild(self, error: KafkaError) -> None:
        """Stop sending until everything under way has come back: only then is the order known."""
        if self._once.due("rebuild"):
            log.get().warning("kafka took back events; sending them again", cause=error.str())
        if self._rebuild_at_s is None:
            self._rebuild_at_s = time.monotonic() + REBUILD_PAUSE_S
            self._producer.purge()

    def _rebuild(self) -> None:
        assert self._rebuild_at_s is not None
        if self._under_way or time.monotonic() < self._rebuild_at_s:
            return
        self._producer = Producer(self._config)
        self._rebuild_at_s = None
        returned = sorted(self._returned, key=lambda under_way: under_way.order)
        self._returned = []
        self._held.extendleft(under_way.record for under_way in reversed(returned) if under_way.place is None)
        if self._spool:
            self._checkpoint(now=True)
            self._acknowledged_ahead |= {each.place for each in self._drained if each.done}
            self._drained.clear()
            self._spool.rewind()

    def _drain(self) -> None:
        if self._spool is None or self._rebuild_at_s is not None:
            return
        room = DRAIN_WINDOW - len(self._drained)
        if not self._held and not self._spool.empty and room > 0:
            for place, record in self._spool.read(min(room, 1_000)):
                if not self._produce(record, place):
                    # Read again from the first that is not acknowledged once there is room.
                    self._spool.rewind(self._drained[-1].place if self._drained else None)
                    break
        self._checkpoint()

    def _checkpoint(self, *, now: bool = False) -> None:
        """Tell the spool how far everything is delivered, now and then: a restart sends the rest again."""
        if self._spool is None or (not now and time.monotonic() < self._checkpoint_at_s):
            return
        self._checkpoint_at_s = time.monotonic() + CHECKPOINT_S
        place = None
        while self._drained and self._drained[0].done:
            place = self._drained.popleft().place
        if place is not None:
            self._spool.acknowledge(place)
