"""Stretches of the log that clients missed: read and decoded once for all who want them, and kept for a moment.

A crowd that comes back with old cursors costs the broker one read of what it missed, not one each. All is bounded:
how far back a client may read, for how long, how many read at once, and what is kept.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from confluent_kafka import Message

from gateway.stream.catchup import History
from gateway.stream.channels import Channel
from gateway.stream.cursor import CannotResume, Positions
from gateway.stream.decoding import Marks, decode
from gateway.stream.ring import Entry, Log, Numbering
from sentio import kafka
from sentio.config import StreamSettings
from sentio.errors import Retryable

STRETCH_OFFSETS = 500  # of one partition; stretches begin at multiples of it, so that clients want the same ones
PART_STRETCHES = 20
KEPT_STRETCHES = 200  # some 60 MB at most
KEPT_S = 10.0
READERS = 100  # clients that read the log at once
TURN_S = 10.0  # that one more waits for its turn
SILENCE_S = 20.0  # of the broker, until the client is told to come back later


@dataclass(frozen=True, slots=True)
class Stretch:
    """What one partition's log holds from ``first`` up to, not including, ``end``."""

    first: int
    end: int
    entries: Sequence[Entry]


@dataclass(frozen=True, slots=True)
class Part:
    """Entries of the channel, and the offset reached in partitions."""

    entries: Sequence[Entry]
    reached: Mapping[int, int]


@dataclass(slots=True)
class Reader:
    """What one client's catching up remembers from stretch to stretch."""

    channel: Channel
    last: dict[int, int | None] = field(default_factory=dict)
    """Offset of the last entry of the channel that was given out in each partition; None: of those that the client
    had before, which it was is not known."""

    _marks: Marks = field(default_factory=Marks)

    def take(self, stretch: Stretch, first: int) -> list[Entry]:
        """Entries of the channel from offset ``first`` on: none that came before, each saying what came before it."""
        found = []
        for entry in stretch.entries:
            if not self._marks.is_new(entry.partition, *entry.sent_as) or not entry.is_in(self.channel):
                continue
            if entry.offset < first:
                self.last.setdefault(entry.partition, None)
                continue
            found.append(self._given(entry, self.last.get(entry.partition)))
        return found

    def follow(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Entries in memory that come next: none that came before, each saying what came before it."""
        came_before = bool(self._marks.highest)
        for entry in entries:
            if not entry.is_in(self.channel):
                continue
            if came_before and not self._marks.is_new(entry.partition, *entry.sent_as):
                continue
            yield self._given(entry, self.last.get(entry.partition, entry.previous_in(self.channel)))

    def _given(self, entry: Entry, previous: int | None) -> Entry:
        self.last[entry.partition] = entry.offset
        if previous == entry.previous_in(self.channel):
            return entry
        return entry._replace(previous=previous, previous_of_value=previous)


@dataclass(slots=True, eq=False)
class _Asked:
    """A stretch that is there or on its way."""

    end: int
    found: asyncio.Future[Stretch]
    used_s: float


_Key = tuple[Log, int, int]
"""(log, partition, number of the stretch)"""


class Stretches:
    """Belongs to the event loop; reads in threads."""

    def __init__(self, settings: StreamSettings, history: History, threads: Executor) -> None:
        self._settings = settings
        self._history = history
        self._threads = threads
        self._asked: OrderedDict[_Key, _Asked] = OrderedDict()
        self._turns = asyncio.Semaphore(READERS)
        self._reads: set[asyncio.Task[None]] = set()
        self._stopped = False

    def stop(self) -> None:
        """Let running reads end soon."""
        self._stopped = True

    @asynccontextmanager
    async def turn(self, log: Log, positions: Positions) -> AsyncIterator[None]:
        """For as long as a client reads the log; raises `CannotResume` when that would be too much, or too long."""
        most, seconds = self._settings.stream_resume_records, self._settings.stream_resume_s
        missed = sum(max(0, end - positions.next(partition)) for partition, end in enumerate(log.positions.offsets))
        if missed > most:
            raise CannotResume("too_much", f"{missed} messages came since; at most {most} are read for one client")
        try:
            async with asyncio.timeout(TURN_S):
                await self._turns.acquire()
        except TimeoutError:
            raise CannotResume("busy", f"{READERS} others are catching up at the moment") from None
        try:
            async with asyncio.timeout(seconds) as limit:
                yield
        except TimeoutError:
            if not limit.expired():
                raise
            raise CannotResume("too_much", f"catching up took longer than {seconds:g} s") from None
        finally:
            self._turns.release()

    async def part(self, log: Log, positions: Positions, reader: Reader) -> Part:
        """The next part from ``positions`` towards what is in memory; raises `CannotResume` or `Retryable`."""
        entries: list[Entry] = []
        reached: dict[int, int] = {}
        for partition, asked in self._ask(log, positions):
            stretch = await asyncio.shield(asked.found)
            first = reached.get(partition, positions.next(partition))
            if first < stretch.first:
                raise CannotResume("expired", "the log went away while it was read")
            entries += reader.take(stretch, first)
            reached[partition] = stretch.end
        return Part(entries, reached)

    def _ask(self, log: Log, positions: Positions) -> list[tuple[int, _Asked]]:
        """The next stretches of each partition that is behind; those that nobody has asked for are read in one go."""
        behind = {partition: end for partition, end in log.kept_from.items() if positions.next(partition) < end}
        of_each = max(1, PART_STRETCHES // len(behind))
        now_s = time.monotonic()
        wanted, new = [], {}
        for partition, needed in list(behind.items())[:PART_STRETCHES]:
            first = positions.next(partition) // STRETCH_OFFSETS
            for number in range(first, min(first + of_each, -(-needed // STRETCH_OFFSETS))):
                key = (log, partition, number)
                asked = self._asked.get(key)
                if asked is None or asked.end < min((number + 1) * STRETCH_OFFSETS, needed):
                    end = min((number + 1) * STRETCH_OFFSETS, log.positions.next(partition))
                    asked = self._asked[key] = _Asked(end, asyncio.get_running_loop().create_future(), now_s)
                    asked.found.add_done_callback(_is_heard)
                    new[key] = asked
                self._asked.move_to_end(key)
                asked.used_s = now_s
                wanted.append((partition, asked))
        if new:
            read = asyncio.create_task(self._fill(log, new))
            self._reads.add(read)
            read.add_done_callback(self._reads.discard)
            self._forget()
        return wanted

    async def _fill(self, log: Log, new: Mapping[_Key, _Asked]) -> None:
        loop = asyncio.get_running_loop()
        try:
            oldest = await self._history.oldest(log)
            spans = {
                (partition, number): (max(number * STRETCH_OFFSETS, oldest[partition]), asked.end)
                for (_, partition, number), asked in new.items()
            }
            found = await loop.run_in_executor(self._threads, self._read, log, spans)
        except Exception as failure:  # noqa: BLE001 - whoever waits for it says what it means
            for key, asked in new.items():
                asked.found.set_exception(failure)
                if self._asked.get(key) is asked:
                    del self._asked[key]
            return
        for key, asked in new.items():
            asked.found.set_result(found[key[1:]])
        loop.call_later(KEPT_S + 1, self._forget)

    def _forget(self) -> None:
        """What was not used for a while, and the oldest of what is too much."""
        since_s = time.monotonic() - KEPT_S
        for key, asked in list(self._asked.items()):
            if not asked.found.done() or (asked.used_s > since_s and len(self._asked) <= KEPT_STRETCHES):
                break
            del self._asked[key]

    def _read(self, log: Log, wanted: Mapping[tuple[int, int], tuple[int, int]]) -> dict[tuple[int, int], Stretch]:
        """Stretches by partition and number, from and up to the offsets given. In a thread."""
        name = log.topic.full_name(self._settings.topic_prefix)
        spans: dict[kafka.Place, tuple[int, int]] = {}
        for (partition, _), (first, end) in sorted(wanted.items()):
            known = spans.get((name, partition), (first, end))
            spans[name, partition] = (known[0], max(known[1], end))
        entries = Numbering().entries(decode(log.topic, self._messages(spans), Marks()).rows)
        if entries:
            entries[0].page.write(range(len(entries)))  # made here, and not on the event loop
        found: dict[tuple[int, int], list[Entry]] = {key: [] for key in wanted}
        for entry in entries:
            if (of_stretch := found.get((entry.partition, entry.offset // STRETCH_OFFSETS))) is not None:
                of_stretch.append(entry)
        return {key: Stretch(*span, found[key]) for key, span in wanted.items()}

    def _messages(self, spans: Mapping[kafka.Place, tuple[int, int]]) -> list[Message]:
        heard_s = time.monotonic()
        silent = False

        def stop() -> bool:
            nonlocal silent
            silent = self._stopped or time.monotonic() - heard_s > SILENCE_S
            return silent

        messages: list[Message] = []
        for some in kafka.read(self._settings.kafka, spans, at_most=1_000, stop=stop):
            messages += some
            heard_s = time.monotonic()
        if silent:
            raise Retryable(f"kafka did not answer within {SILENCE_S:.0f} s")
        return messages


def _is_heard(found: asyncio.Future[Stretch]) -> None:
    """A failure that nobody waits for any more is no news."""
    if not found.cancelled():
        found.exception()
