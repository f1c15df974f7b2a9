"""`EventPublisher`: hands events to Kafka without ever making the caller wait.

publish() numbers the event and puts it in a queue; a thread of the publisher's own gives it its id, encodes,
sends, and turns to the spool when Kafka does not take them. Once one event is spooled, all go through the spool until
it is empty, so that the order holds.
"""

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from uuid import UUID

from uuid_utils import uuid7

from producers import spans
from producers.sender import KafkaSender, Parcel
from producers.spool import Spool
from producers.waiting import SMALLEST_BATCH, Batch, Waiting
from schemas.codec import encode_events
from schemas.events import Event
from schemas.topics import topic_of_event
from sentio import log
from sentio.config import PublisherSettings
from sentio.tracing import caller, traces

PACE_S = 0.005
"""Between two batches, while no more than the smallest waits: an event costs least in a large batch."""

FLUSH_S = 0.005

_LOWEST = 1 << 61
"""Without this bit of a UUIDv7's random ones a billion ids can be counted up from it."""


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
        self.producer = f"{name}@{source or UUID(bytes=uuid7().bytes)}"
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
        self._traces = traces(settings, process=name)
        self._callers: dict[str, None] = {}
        if self._traces:
            # In its place, so that without traces nothing is asked of each event.
            self._publish, self.publish = self.publish, self._publish_traced  # type: ignore[method-assign] # once, before any call
        self._once = log.OncePer()
        self._lock = threading.Lock()
        self._queue = Waiting()
        self._in_hand: Batch | None = None
        self._next = 0
        self._repeated = 0
        self._refused = 0
        self._closed = False
        self._closing = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="sentio-publisher", daemon=True)
        self._thread.start()

    @property
    def failure(self) -> BaseException | None:
        """The defect that stopped the publisher's thread, if one did: what it left waits until `close`."""
        return self._failure

    def publish(self, event: Event) -> None:
        """Take an event; returns at once whatever the broker does. Raises only when the publisher is closed."""
        # Only callers of publish() and counters() ever hold this lock, for a microsecond.
        with self._lock:
            if self._closed:
                raise RuntimeError("the publisher is closed")
            sequence = self._next
            self._next = sequence + 1
            if sequence in self._already:
                self._repeated += 1
            elif len(self._queue) < self._limit:
                self._queue.put(event, sequence)
            else:
                self._refused += 1
                if self._once.due("full"):
                    log.get().error(
                        "events are lost: the publisher's queue is full (SENTIO_QUEUE_RECORDS)",
                        lost=self._refused,
                        cause=f"stopped by a defect: {self._failure!r}" if self._failure else "it cannot keep up",
                    )

    def _publish_traced(self, event: Event) -> None:
        if parent := caller():
            self._callers[parent] = None
        self._publish(event)

    def flush(self, timeout_s: float = 30.0) -> int:
        """Wait until everything is acknowledged or the time is over; returns how many still wait."""
        deadline = time.monotonic() + timeout_s
        while (waiting := self.counters().waiting) and time.monotonic() < deadline:
            self._closing.wait(FLUSH_S)
            if self._closing.is_set() or self._failure:
                break
        return waiting

    def close(self, timeout_s: float = 30.0) -> Counters:
        """Send what waits, as far as time allows; the rest goes to the spool, or is counted as failed without one."""
        if self._closed:
            return self.counters()
        self.flush(timeout_s)
        with self._lock:
            self._closed = True
        self._closing.set()
        self._thread.join()
        if self._failure:
            self._rescue()
        self._sender.close()
        counters = self.counters()
        if counters.waiting:
            log.get().warning(
                "closed with events in the spool; they go out at the next start", waiting=counters.waiting
            )
        if self._spool:
            self._spool.close()
        if self._traces:
            self._traces.close()
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
        try:
            self._work()
        except BaseException as failure:  # noqa: BLE001 - a thread that ends without a word would be worse
            self._failure = failure
            log.get().error(
                "the publisher is stopped by a defect; events wait in memory until it is closed",
                cause=repr(failure),
                waiting=self.counters().waiting,
                exc_info=failure,
            )

    def _work(self) -> None:
        while True:
            closing = self._closing.is_set()
            batch = self._in_hand = self._queue.take()
            for parcel in self._encode(batch):
                self._send(parcel)
            self._in_hand = None
            if closing and not batch.events:
                return
            sent = self._sender.turn()
            if not sent and len(self._queue) < SMALLEST_BATCH:
                self._closing.wait(PACE_S)

    def _send(self, parcel: Parcel) -> None:
        callers, self._callers = self._callers, {}
        spans.send(self._sender, parcel, self._traces, callers)

    def _rescue(self) -> None:
        """Keep what the stopped thread left. The batch in its hands may go out twice; readers know it by sequence."""
        while (batch := self._in_hand or self._queue.take()).events:
            try:
                for parcel in self._encode(batch):
                    self._sender.keep(parcel.records())
            except Exception as failure:  # noqa: BLE001 - whatever the defect is, the rest may still be kept
                lost = len(batch.events)
                self._sender.refuse(lost)
                log.get().exception("events are lost: they cannot be kept", cause=repr(failure), lost=lost)
            self._in_hand = None

    def _encode(self, batch: Batch) -> list[Parcel]:
        places: dict[type[Event], list[int]] = {}
        for place, event in enumerate(batch.events):
            places.setdefault(type(event), []).append(place)
        groups = [batch] if len(places) == 1 else [batch.only(of_type) for of_type in places.values()]
        return [parcel for group in groups for parcel in self._encode_group(group)]

    def _encode_group(self, group: Batch) -> list[Parcel]:
        """Records of events of one type; one that cannot be encoded, for whatever reason, is counted and costs only
        itself.
        """
        event = type(group.events[0]).__name__
        first_id = (uuid7(nanoseconds=group.time_ns).int & ~_LOWEST).to_bytes(16)
        try:
            topic = topic_of_event(event)
            values = encode_events(group.events, first_id=first_id, producer=self.producer, sequences=group.sequences)
            keys = topic.record_keys(group.events, self.producer)
        except Exception as failure:  # noqa: BLE001 - no event may stop those behind it
            if len(group.events) > 1:
                return [parcel for n in range(len(group.events)) for parcel in self._encode_group(group.only([n]))]
            self._sender.refuse(1)
            log.get().error("an event cannot be encoded and is lost", type=event, cause=str(failure))
            return []
        return [Parcel(topic.full_name(self._prefix), keys, values, group.time_ns // 1_000_000)]
