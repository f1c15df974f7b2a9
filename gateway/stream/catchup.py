"""Where in the log a client begins: at its cursor, or at a time; asked of the broker in threads."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import TypeVar, TypeVarTuple

from confluent_kafka import Consumer, KafkaException

from gateway.stream.cursor import BadCursor, CannotResume, Positions, decode
from gateway.stream.ring import Log
from gateway.stream.sharing import Shared
from schemas.topics import Topic
from sentio import kafka
from sentio.config import StreamSettings

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

OLDEST_FOR_S = 5.0


class History:
    """Knows the ends of the logs; safe to use by many clients at once."""

    def __init__(self, settings: StreamSettings, threads: Executor) -> None:
        self._settings = settings
        self._threads = threads
        self._asker: Consumer | None = None
        self._oldest = Shared[dict[int, int]](good_for_s=OLDEST_FOR_S)
        self._starts = Shared[dict[int, int]](good_for_s=OLDEST_FOR_S)
        self._asking = threading.Lock()

    async def positions(self, token: str, log: Log) -> Positions:
        """Where a client's cursor stands; raises `CannotResume`, or `Retryable` in an outage."""
        try:
            cursor = decode(token)
        except BadCursor as failure:
            raise CannotResume("malformed", f"the cursor is not one of this stream: {failure}") from failure
        ours = log.positions
        if cursor.epoch != ours.epoch:
            raise CannotResume("foreign", "the cursor is of another log: the topic was made again, or is another")
        positions = Positions(cursor.epoch, cursor.offsets)
        if not log.covers(positions):
            oldest = await self.oldest(log)
            if any(positions.next(partition) < offset for partition, offset in oldest.items()):
                raise CannotResume("expired", "the log no longer goes back to the cursor")
        known = len(ours.offsets)  # another gateway may have seen sooner that the topic grew
        beyond = [p for p, offset in enumerate(positions.offsets) if p >= known or offset > ours.next(p)]
        if beyond:
            ends = await self._in_thread(self._ends, log, beyond)
            if any(positions.next(partition) > end for partition, (_, end) in ends.items()):
                raise CannotResume("foreign", "the cursor is beyond the end of the log")
        return positions

    async def positions_at(self, since: datetime, log: Log) -> Positions:
        """Where the first messages of ``since`` or later stand; raises `CannotResume`, or `Retryable` in an outage."""
        time_ms = int(since.timestamp() * 1000)
        starts = await self._starts.get((log, time_ms), lambda: self._in_thread(self._starts_at, log, time_ms))
        if log.topic.cleanup != "delete" or since < datetime.now(UTC) - timedelta(days=log.topic.kafka_days):
            # What is older than the topic keeps may be gone, and was so if the log no longer begins at its beginning.
            oldest = await self.oldest(log)
            if any(0 < starts.get(partition, 0) <= offset for partition, offset in oldest.items()):
                raise CannotResume("expired", f"the log no longer goes back to {since:%Y-%m-%dT%H:%M:%SZ}")
        return Positions(log.positions.epoch, [starts[partition] for partition in range(len(starts))])

    async def oldest(self, log: Log) -> dict[int, int]:
        """Oldest offset of each partition, not older than a few seconds; raises `Retryable`."""
        return await self._oldest.get(log, lambda: self._ask_oldest(log))

    async def _ask_oldest(self, log: Log) -> dict[int, int]:
        partitions = range(len(log.positions.offsets))
        ends = await self._in_thread(self._ends, log, partitions)
        return {partition: oldest for partition, (oldest, _) in ends.items()}

    def _starts_at(self, log: Log, time_ms: int) -> dict[int, int]:
        places = self._places(log.topic, range(len(log.positions.offsets)))
        return {place[1]: offset for place, offset in kafka.offsets_at(self._client(), places, time_ms).items()}

    def _ends(self, log: Log, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        places = self._places(log.topic, partitions)
        if max(partitions) >= len(log.positions.offsets):
            self._look_for_new(places[0][0])
        found = kafka.ends(self._client(), places)
        return {partition: span for (_, partition), span in found.items()}

    def _look_for_new(self, name: str) -> None:
        """Partitions: librdkafka looks once a minute by itself, and until then says that there are none."""
        try:
            self._client().list_topics(name, timeout=kafka.REQUEST_TIMEOUT_S)
        except KafkaException as failure:
            raise kafka.silent(self._settings.kafka, failure) from failure

    def _places(self, topic: Topic, partitions: Sequence[int]) -> list[kafka.Place]:
        name = topic.full_name(self._settings.topic_prefix)
        return [(name, partition) for partition in partitions]

    def _client(self) -> Consumer:
        with self._asking:
            if self._asker is None:
                self._asker = Consumer(kafka.reader(self._settings.kafka, name="sentio-stream-history"))
            return self._asker

    async def _in_thread(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
