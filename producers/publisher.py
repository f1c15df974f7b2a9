"""`EventPublisher`: hands events to Kafka without ever making the caller wait.

publish() numbers the event and puts it in a queue; a thread of the publisher's own encodes, sends, and turns to
the spool when Kafka does not take them. Once one event is spooled, all go through the spool until it is empty, so
that the order holds.
"""

import threading
import time
from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import UUID

import pyarrow as pa
import uuid_utils

from producers.sender import KafkaSender
from producers.spool import Record, Spool
from schemas.codec import encode
from schemas.columns import from_events
from schemas.events import Event
from schemas.topics import topic_of_event
from sentio import log
from sentio.config import PublisherSettings

BATCH = 1_000
IDLE_S = 0.005


@dataclass(frozen=True, slots=True)
class Counters:
    """What became of the events given to `publish`: published = acknowledged + waiting + failed + repeated."""

    published: int
    acknowledged: int
    waiting: int
    """In memory, under way, or in the spool."""

    failed: int
    """Lost for good: it cannot be encoded, the broker refuses this very record, or memory and spool are full."""

    repeated: int
    """Not sent again since the log already held it (`already`)."""

    spooled_bytes: int


@dataclass(frozen=True, slots=True)
class _Queued:
    event: Event
    event_id: bytes
    sequence: int


class EventPublisher:
    """Publishes events, idempotent and in order per key. Thread-safe; use it as a context manager.

    ``name`` and ``source`` make the events' ``producer``. Give ``source`` only when it is the id of something
    durable that yields the same events in the same order every time (a recorded day): a publisher that goes on from
    it gives ``already``, the sequences that the log holds, and those are counted and not sent again. Without it
    every run is a producer of its own.

    With ``durable`` every event is written to the spool before it is sent, so that a SIGKILL of this process loses
    at most what its queue held for some milliseconds. Needs SENTIO_SPOOL.
    """

    def __init__(
        self,
        settings: PublisherSettings,
        *,
        name: str,
        source: str | None = None,
        already: Collection[int] = frozenset(),
        durable: bool = False,
    ) -> None:
        self.producer = f"{name}@{source or UUID(bytes=uuid_utils.uuid7().bytes)}"
        self._prefix = settings.topic_prefix
        self._limit = settings.queue_records
        self._already = already
        self._spool = Spool(settings.spool, max_bytes=settings.spool_max_bytes) if settings.spool else None
        if source is not None and self._spool is not None:
            raise ValueError("a publisher with a durable source has no spool: it goes on from its source")
        if durable and self._spool is None:
            raise ValueError("durable=True needs a spool: set SENTIO_SPOOL to a folder")
        self._sender = KafkaSender(
            settings.kafka, queue_records=settings.queue_records, spool=self._spool, durable=durable
        )
        self._once = log.OncePer()
        self._lock = threading.Lock()
        self._queue: deque[_Queued] = deque()
        self._next = 0
        self._repeated = 0
        self._refused = 0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sentio-publisher", daemon=True)
        self._thread.start()

    def publish(self, event: Event) -> None:
        """Take an event; returns at once whatever the broker does. Raises only when the publisher is closed."""
        with self._lock:
            if self._closing.is_set():
                raise RuntimeError("the publisher is closed")
            sequence = self._next
            self._next = sequence + 1
            if sequence in self._already:
                self._repeated += 1
            elif len(self._queue) < self._limit:
                self._queue.append(_Queued(event, uuid_utils.uuid7().bytes, sequence))
            else:
                self._refused += 1
                if self._once.due("full"):
                    log.get().error("events are lost: the publisher's queue is full", lost=self._refused)

    def flush(self, timeout_s: float = 30.0) -> int:
        """Wait until everything is acknowledged or the time is over; returns how many still wait."""
        deadline = time.monotonic() + timeout_s
        while (waiting := self.counters().waiting) and time.monotonic() < deadline:
            self._closing.wait(IDLE_S)
            if self._closing.is_set():
                break
        return waiting

    def close(self, timeout_s: float = 30.0) -> Counters:
        """Send what waits, as far as time allows; the rest goes to the spool, or is counted as failed without one."""
        if self._closing.is_set():
            return self.counters()
        self.flush(timeout_s)
        with self._lock:
            self._closing.set()
        self._thread.join()
        self._sender.close()
        counters = self.counters()
        if counters.waiting:
            log.get().warning(
                "closed with events in the spool; they go out at the next start", waiting=counters.waiting
            )
        if self._spool:
            self._spool.close()
        return counters

    def counters(self) -> Counters:
        """Exact figures of this moment."""
        with self._lock:
            sender = self._sender.counts()
            failed = sender.failed + self._refused
            waiting = self._next - self._repeated - sender.acknowledged - failed
            return Counters(self._next, sender.acknowledged, waiting, failed, self._repeated, sender.spooled_bytes)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            batch = self._take()
            self._sender.send(self._encode(batch))
            self._sender.turn(0 if batch else IDLE_S)
            if closing and not batch:
                return

    def _take(self) -> list[_Queued]:
        with self._lock:
            return [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]

    def _encode(self, batch: list[_Queued]) -> list[Record]:
        by_type: dict[type[Event], list[_Queued]] = {}
        for queued in batch:
            by_type.setdefault(type(queued.event), []).append(queued)
        return [record for group in by_type.values() for record in self._encode_group(group)]

    def _encode_group(self, group: list[_Queued]) -> list[Record]:
        """Records of events of one type; one that does not fit its schema is counted and costs only itself."""
        event = type(group[0].event).__name__
        try:
            topic = topic_of_event(event)
            values = encode(event, self._columns(group))
        except (pa.ArrowException, ValueError, TypeError, KeyError, AttributeError, OverflowError) as failure:
            if len(group) > 1:
                return [record for queued in group for record in self._encode_group([queued])]
            self._sender.refuse(1)
            log.get().error("an event cannot be encoded and is lost", type=event, cause=str(failure))
            return []
        name = topic.full_name(self._prefix)
        keys = (topic.record_key(queued.event, self.producer) for queued in group)
        # The first 48 bits of a UUIDv7 are the time of publish().
        times_ms = (int.from_bytes(queued.event_id[:6], "big") for queued in group)
        return [Record(name, *parts) for parts in zip(keys, values, times_ms, strict=True)]

    def _columns(self, group: list[_Queued]) -> pa.RecordBatch:
        return from_events(
            [queued.event for queued in group],
            event_id=[queued.event_id for queued in group],
            producer=[self.producer] * len(group),
            sequence=[queued.sequence for queued in group],
        )
