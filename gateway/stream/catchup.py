"""What a client missed, from the log: bounded reads in threads, a part at a time."""

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar, TypeVarTuple

import pyarrow.compute as pc
from confluent_kafka import Consumer, Message

from gateway.stream.channels import Channel
from gateway.stream.cursor import BadCursor, Positions, decode
from gateway.stream.decoding import Marks, to_batch
from gateway.stream.ring import Entry, Log, Numbering
from gateway.stream.sharing import Shared
from schemas.topics import Topic
from sentio import kafka
from sentio.config import StreamSettings
from sentio.errors import Retryable

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

PART_RECORDS = 10_000
SILENCE_S = 20.0  # of the broker, until the client is told to come back later
OLDEST_FOR_S = 5.0


class CannotResume(Exception):
    """A cursor from which no updates can follow without a gap."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(slots=True)
class Reader:
    """What one client's catching up remembers between its parts."""

    channel: Channel
    marks: Marks = field(default_factory=Marks)
    numbering: Numbering = field(default_factory=Numbering)


@dataclass(frozen=True, slots=True)
class Part:
    """Entries of the channel, and the offset reached in every partition."""

    entries: Sequence[Entry]
    reached: Mapping[int, int]


class History:
    """Reads the logs on demand; safe to use by many clients at once."""

    def __init__(self, settings: StreamSettings, threads: Executor) -> None:
        self._settings = settings
        self._threads = threads
        self._asker: Consumer | None = None
        self._oldest = Shared[dict[int, int]](good_for_s=OLDEST_FOR_S)
        self._asking = threading.Lock()
        self._stopped = False

    def stop(self) -> None:
        """Let running reads end soon."""
        self._stopped = True

    async def positions(self, token: str, log: Log) -> Positions:
        """Where a client's cursor stands; raises `CannotResume`, or `Retryable` in an outage."""
        try:
            cursor = decode(token)
        except BadCursor as failure:
            raise CannotResume("malformed", f"the cursor is not one of this stream: {failure}") from failure
        ours = log.positions
        if cursor.epoch != ours.epoch or len(cursor.offsets) > len(ours.offsets):
            raise CannotResume("foreign", "the cursor is of another log: the topic was made again, or is another")
        positions = Positions(cursor.epoch, cursor.offsets)
        if not log.covers(positions):
            oldest = await self.oldest(log)
            if any(positions.next(partition) < offset for partition, offset in oldest.items()):
                raise CannotResume("expired", "the log no longer goes back to the cursor")
        beyond = [p for p, offset in enumerate(positions.offsets) if offset > ours.next(p)]
        if beyond:
            ends = await self._in_thread(self._ends, log.topic, beyond)
            if any(positions.next(partition) > end for partition, (_, end) in ends.items()):
                raise CannotResume("foreign", "the cursor is beyond the end of the log")
        return positions

    async def oldest(self, log: Log) -> dict[int, int]:
        """Oldest offset of each partition, not older than a few seconds; raises `Retryable`."""
        return await self._oldest.get(log, lambda: self._ask_oldest(log))

    async def part(self, log: Log, positions: Positions, reader: Reader) -> Part:
        """The next part from ``positions`` towards where the log has been fanned out; raises `Retryable`."""
        name = log.topic.full_name(self._settings.topic_prefix)
        spans = {
            (name, partition): (positions.next(partition), end) for partition, end in enumerate(log.positions.offsets)
        }
        return await self._in_thread(self._read, spans, reader)

    def _read(self, spans: Mapping[kafka.Place, tuple[int, int]], reader: Reader) -> Part:
        deadline_s = time.monotonic() + SILENCE_S
        silent = False

        def stop() -> bool:
            nonlocal silent
            silent = self._stopped or time.monotonic() > deadline_s
            return silent

        found: list[Message] = []
        for messages in kafka.read(self._settings.kafka, spans, at_most=1_000, stop=stop):
            found += messages
            deadline_s = time.monotonic() + SILENCE_S
            if len(found) >= PART_RECORDS:
                break
        else:
            if silent:
                raise Retryable(f"kafka did not answer within {SILENCE_S:.0f} s")
        batch = to_batch(reader.channel.topic, found, reader.marks).batch
        reached = {partition: span.next for partition, span in batch.ranges.items()}
        if len(found) < PART_RECORDS:  # all was read: what is left of the spans holds no message
            reached = {partition: max(first, end) for (_, partition), (first, end) in spans.items()}
        channel = reader.channel
        if channel.value is not None and channel.topic.filter:
            batch = batch.where(pc.equal(batch.records.column(channel.topic.filter), channel.value))
        return Part(reader.numbering.entries(batch), reached)

    async def _ask_oldest(self, log: Log) -> dict[int, int]:
        partitions = range(len(log.positions.offsets))
        ends = await self._in_thread(self._ends, log.topic, partitions)
        return {partition: oldest for partition, (oldest, _) in ends.items()}

    def _ends(self, topic: Topic, partitions: Sequence[int]) -> dict[int, tuple[int, int]]:
        with self._asking:
            if self._asker is None:
                self._asker = Consumer(kafka.reader(self._settings.kafka, name="sentio-stream-history"))
        name = topic.full_name(self._settings.topic_prefix)
        found = kafka.ends(self._asker, [(name, partition) for partition in partitions])
        return {partition: span for (_, partition), span in found.items()}

    async def _in_thread(self, work: Callable[[*Ts], T], *arguments: *Ts) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
