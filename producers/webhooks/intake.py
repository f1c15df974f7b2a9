"""From an answer's point of view: prices go in, and are safe when their future is done. Behind it, on to Kafka.

One thread owns the journal and the client of Kafka. What several requests bring at once is one transaction.
"""

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future

from producers.sender import KafkaSender, Parcel
from producers.webhooks.journal import EVENT, Journal
from producers.webhooks.prices import Price
from schemas.topics import topic_of_event
from sentio import log
from sentio.config import WebhookSettings
from sentio.errors import Retryable

MOST = 10_000
"""Records that are under way before it is noted that Kafka has them."""

TOGETHER = 2_000
"""Prices of one transaction: those behind them are not kept waiting for longer."""

GATHER_S = 0.01
"""So long after a transaction what comes is gathered for the next: one for each small request costs more than it."""

LOOK_S = 0.002
IDLE_S = 0.05
SETTLE_S = 0.5
"""Of silence, then what Kafka has is taken out of the journal: before, it goes with the next prices."""

STOP_S = 2.0
STALLED_S = 30.0

Kept = Future[int]
"""How many of the prices were new; fails with `Retryable` when none is kept."""


class Intake:
    """Thread-safe but for `close`; use it once."""

    def __init__(self, settings: WebhookSettings, journal: Journal) -> None:
        self._journal = journal
        self._topic = topic_of_event(EVENT).full_name(settings.topic_prefix)
        self._most_waiting = settings.queue_records
        # What waits is sent in one go, and then waited for: lingering for more would only take longer.
        self._sender = KafkaSender(settings.kafka, queue_records=MOST, spool=None, durable=False, linger_ms=0)
        self._arriving: queue.SimpleQueue[tuple[Sequence[Price], Kept]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._in_hand = 0
        self._closing = False
        self._once = log.OncePer()
        self._sent = 0
        self._sent_last = journal.acknowledged
        self._turned_s = time.monotonic()
        self._gathered: list[tuple[Sequence[Price], Kept]] = []
        """To be written next, in one transaction."""

        self._together = 0
        """So many prices that is."""

        self._kept_s = 0.0
        """When the last one was written."""

        self.failure: BaseException | None = None
        """The defect that stopped the thread, if one did."""

        self._thread = threading.Thread(target=self._run, name="webhooks-intake", daemon=True)
        self._thread.start()

    @property
    def live(self) -> bool:
        """The thread goes round."""
        return self.failure is None and time.monotonic() - self._turned_s < STALLED_S

    @property
    def ready(self) -> bool:
        """There is room for prices."""
        return self.live and not self._closing and not self._journal.is_full

    def keep(self, prices: Sequence[Price]) -> Kept:
        """Have prices kept; raises `Retryable` when there is no room for them now."""
        kept: Kept = Future()
        kept.set_running_or_notify_cancel()  # from here on it cannot be cancelled
        with self._lock:
            if self._closing or self.failure:
                raise Retryable("the receiver is being stopped")
            if self._in_hand and self._in_hand + len(prices) > self._most_waiting:
                raise Retryable(f"{self._in_hand} prices are being written already (SENTIO_QUEUE_RECORDS)")
            self._in_hand += len(prices)
            self._arriving.put((prices, kept))
        return kept

    def close(self) -> None:
        """Keep what came, and send on what Kafka takes in time; the rest stays in the journal."""
        with self._lock:
            self._closing = True
        self._thread.join()
        self._sender.abandon()
        self._journal.close()

    def _run(self) -> None:
        try:
            self._work()
        except BaseException as failure:  # noqa: BLE001 - a thread that ends without a word would be worse
            with self._lock:
                self.failure = failure
            log.get().error("the intake is stopped by a defect", cause=repr(failure), exc_info=failure)
            self._gather(0)
            for _, kept in self._gathered:
                if not kept.done():
                    kept.set_exception(Retryable("the receiver is stopped by a defect"))

    def _work(self) -> None:
        stop_s: float | None = None
        while True:
            self._turned_s = time.monotonic()
            if self._closing and stop_s is None:
                stop_s = self._turned_s + STOP_S
            self._gather(self._patience_s())
            is_due = self._closing or self._together >= TOGETHER or self._turned_s - self._kept_s > GATHER_S
            if self._gathered and is_due:
                self._keep(self._gathered)
                self._gathered, self._together = [], 0
                self._kept_s = time.monotonic()
            self._send_on()
            if stop_s and not self._gathered and (not self._journal.waiting or time.monotonic() > stop_s):
                self._settle()
                return
            if not self._gathered and time.monotonic() - self._kept_s > SETTLE_S:
                self._settle()

    def _patience_s(self) -> float:
        """How long to wait for what arrives."""
        if self._sent_last > self._journal.acknowledged:
            return LOOK_S
        return max(0.0, self._kept_s + GATHER_S - self._turned_s) if self._gathered else IDLE_S

    def _gather(self, wait_s: float) -> None:
        """Take what arrived, as far as it is written together; wait for the first."""
        while self._together < TOGETHER:
            try:
                arrived = self._arriving.get(timeout=wait_s) if wait_s else self._arriving.get_nowait()
            except queue.Empty:
                return
            self._gathered.append(arrived)
            self._together += len(arrived[0])
            wait_s = 0

    def _keep(self, arrived: list[tuple[Sequence[Price], Kept]]) -> None:
        """All in the order of their blocks, whichever request brought them: readers of the log then see fewer prices
        that are older than the one before.
        """
        together = [(price, place) for place, (prices, _) in enumerate(arrived) for price in prices]
        together.sort(key=lambda one: (one[0].at_s, one[0].slot))
        try:
            new = self._journal.keep([price for price, _ in together])
        except Retryable as failure:
            if self._once.due("keep"):
                log.get().error("prices are not taken; their sender is told to come back", cause=str(failure))
            for _, kept in arrived:
                kept.set_exception(failure)
            return
        finally:
            with self._lock:
                self._in_hand -= len(together)
        counts = [0] * len(arrived)
        for place in new:
            counts[together[place][1]] += 1
        for (_, kept), count in zip(arrived, counts, strict=True):
            kept.set_result(count)

    def _send_on(self) -> None:
        """One window after the other: what is under way is all acknowledged, then more is sent.

        Several at once would need to know which are acknowledged, and librdkafka says only which failed.
        """
        self._sender.turn()
        counts = self._sender.counts()
        if counts.acknowledged + counts.failed < self._sent:
            return
        self._journal.acknowledge(self._sent_last)
        try:
            waiting = self._journal.read(self._sent_last, MOST)
        except Retryable as failure:
            if self._once.due("read"):
                log.get().error("prices stay in the journal for now", cause=str(failure))
            return
        if waiting:
            self._sender.send(Parcel(self._topic, waiting.keys, waiting.values, waiting.at_ms))
            self._sent += len(waiting.values)
            self._sent_last = waiting.last

    def _settle(self) -> None:
        try:
            self._journal.settle()
        except Retryable as failure:
            if self._once.due("settle"):
                log.get().warning("what Kafka has stays in the journal for now", cause=str(failure))
