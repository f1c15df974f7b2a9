"""`Sidecar`: what engines wrote into their rings goes to Kafka, each event once for those who read by sequences.

A ring's mark moves only when Kafka has acknowledged everything before it. So neither an outage nor a SIGKILL of this
process loses anything while the ring has room; what is sent again then has the same ids and sequences.
"""

import glob
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pyarrow as pa

from producers.sender import KafkaSender, Parcel
from producers.sidecar.records import Records
from producers.sidecar.ring import Ring
from schemas.codec import encode
from schemas.topics import Topic, topic_of_event
from sentio import log
from sentio.config import PublisherSettings
from sentio.errors import RingUnusable

MOST = 10_000
"""Records of a ring that are under way before its mark moves."""

SHORTEST_S, LONGEST_S = 0.0005, 0.02
IDLE_PART = 0.02
"""Between two looks, at rings that hold nothing new or for an acknowledgement, lies this part of the time since there
was something, within these limits: to be woken takes up to 0.1 ms of a processor (a virtual one), fifty times a second
0.5 %.
"""

ASIDE = "????????-????-????-????-????????????"
"""The id of a ring, behind the name from which its engine has set it aside."""

LOST = {
    "dropped": "events are lost: the ring was full, and its engine drops then. Give it more capacity, or see why this "
    "sidecar was behind (Kafka away, not running)",
    "refused": "an engine's events are not in its ring, the header refused them: see the answers in docs/engine.md",
}
"""Counts of a ring that should not rise, and what to do about it."""

REOPEN_S = 1.0
STOP_S = 1.0


class Source:
    """The ring at a path: the one that is there now, after those of it that engines have set aside."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ring: Ring | None = None
        self._again_at_s = 0.0
        self._once = log.OncePer()
        # Set aside, read, and not to be removed. By their names: these have ids, and files' numbers are given again.
        self._spent: set[Path] = set()
        self._told: dict[tuple[UUID, str], int] = {}

    def ring(self) -> Ring | None:
        """The ring to read from, if there is one."""
        if self._ring is None and time.monotonic() >= self._again_at_s:
            try:
                self._ring = self._open()
            except OSError as failure:
                self._say(self.path, failure)
            if self._ring is None:
                self._again_at_s = time.monotonic() + REOPEN_S
        if self._ring is not None:
            self._tell_losses(self._ring)
        return self._ring

    def spent(self) -> None:
        """All of the ring is read: go over to the next one, if this was set aside."""
        if self._ring is None or time.monotonic() < self._again_at_s:
            return
        self._again_at_s = time.monotonic() + REOPEN_S
        if self._ring.path != self.path:
            self._remove(self._ring)
        elif self._ring.is_in_place():
            return
        self.close()
        self._again_at_s = 0.0

    def close(self) -> None:
        if self._ring is not None:
            self._ring.close()
        self._ring = None

    def _open(self) -> Ring | None:
        """The first that can be read: those set aside, the oldest first, then the one that is there now."""
        aside = self.path.parent.glob(f"{glob.escape(self.path.name)}.{ASIDE}")
        for path in [*sorted(set(aside) - self._spent, key=_changed_ns), self.path]:
            identity = None if path == self.path else path.name.removeprefix(f"{self.path.name}.")
            try:
                path.stat()
                return Ring(path, identity=identity)
            except FileNotFoundError:
                continue  # not made yet, or removed meanwhile
            except (OSError, RingUnusable) as failure:
                self._say(path, failure)
        return None

    def _tell_losses(self, ring: Ring) -> None:
        """All that there were when the ring is first seen, then once a minute if there are more."""
        counts = ring.counts()
        for what, message in LOST.items():
            count, key = getattr(counts, what), (ring.id, what)
            if count > self._told.get(key, 0) and self._once.due(key):
                self._told[key] = count
                log.get().error(message, ring=str(ring.path), capacity=counts.capacity, **{what: count})

    def _remove(self, ring: Ring) -> None:
        log.get().info("a ring that was set aside is read to its end", ring=str(ring.path))
        try:
            ring.remove()
        except (OSError, RingUnusable) as failure:
            self._spent.add(ring.path)
            log.get().error(
                "a ring that is read cannot be removed and stays; remove it once no engine has it open",
                ring=str(ring.path),
                cause=str(failure),
            )

    def _say(self, path: Path, failure: Exception) -> None:
        if self._once.due(path):
            log.get().error("a ring cannot be read; the others are", cause=str(failure))


class Sidecar:
    """Drains rings until it is told to stop. Used by one thread."""

    def __init__(self, settings: PublisherSettings, paths: Sequence[Path]) -> None:
        self._prefix = settings.topic_prefix
        self._sources = [Source(path) for path in paths]
        room = MOST * len(paths)
        # What waits is sent in one go, and then waited for: lingering for more would only take longer.
        self._sender = KafkaSender(settings.kafka, queue_records=room, spool=None, durable=False, linger_ms=0)
        self._sent = 0
        self.refused = 0
        """Records that could not be used."""

    def run(self, stop: threading.Event) -> None:
        """Until ``stop`` is set; what Kafka has not acknowledged by then stays in the rings."""
        last_s = time.monotonic()
        try:
            while not stop.is_set():
                if self._turn(stop):
                    last_s = time.monotonic()
                else:
                    self._sender.turn()  # librdkafka has things to tell without events, too: a broker that is away
                    stop.wait(_pause_s(last_s))
        finally:
            self._sender.abandon()
            for source in self._sources:
                source.close()

    def _turn(self, stop: threading.Event) -> bool:
        """Whether there was anything to do."""
        read = [ring for source in self._sources if (ring := source.ring()) and self._send(source, ring)]
        if not read:
            return False
        if self._is_sent(stop):
            for ring in read:
                ring.acknowledge(ring.position)
        return True

    def _is_sent(self, stop: threading.Event) -> bool:
        """Wait until Kafka has everything; False when it has not by `STOP_S` after the stop."""
        began_s = time.monotonic()
        stopped_s: float | None = None
        while (counts := self._sender.counts()).acknowledged + counts.failed < self._sent:
            if stop.is_set():
                stopped_s = stopped_s or time.monotonic()
                if time.monotonic() > stopped_s + STOP_S:
                    return False
            if not self._sender.turn():
                time.sleep(_pause_s(began_s))
        return True

    def _send(self, source: Source, ring: Ring) -> bool:
        first = ring.position
        try:
            found = ring.read(MOST)
        except RingUnusable as failure:
            log.get().error("a ring cannot be read any more; the others are", cause=str(failure))
            source.close()
            return False
        if ring.position == first:
            source.spent()
            return False
        self._tell(ring, found)
        for event, batch in found.batches.items():
            topic = topic_of_event(event)
            now_ms = int(time.time() * 1_000)
            values = encode(event, batch)
            self._sent += len(values)
            self._sender.send(Parcel(topic.full_name(self._prefix), keys(topic, batch), values, now_ms))
        return True

    def _tell(self, ring: Ring, found: Records) -> None:
        self.refused += len(found.refused)
        for refusal in found.refused:
            log.get().error(
                "a record cannot be used", ring=str(ring.path), position=refusal.position, reason=refusal.reason
            )


def _changed_ns(path: Path) -> int:
    """0 of a file that is gone meanwhile or cannot be seen: opening it says why."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _pause_s(since_s: float) -> float:
    return min(max(IDLE_PART * (time.monotonic() - since_s), SHORTEST_S), LONGEST_S)


def keys(topic: Topic, batch: pa.RecordBatch) -> list[bytes]:
    """Keys of a batch's records; those of an engine are one text, which is not empty."""
    [name] = topic.key
    return [key.encode() for key in batch.column(name).to_pylist()]
