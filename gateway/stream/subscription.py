"""One client on one channel: snapshot or cursor, then what was missed, then live; and again when it falls behind."""

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from gateway.stream.audience import Listener, newest, update
from gateway.stream.catchup import History
from gateway.stream.channels import Channel
from gateway.stream.connection import AT_ONCE_BYTES, Connection
from gateway.stream.cursor import CannotResume, Positions
from gateway.stream.delivery import Delivery
from gateway.stream.fanout import Fanout
from gateway.stream.ring import Entry, Log
from gateway.stream.snapshot import Snapshots
from gateway.stream.sockets import Sockets
from gateway.stream.stretches import Reader, Stretches
from sentio import log as logs
from sentio.errors import Retryable

WAIT_FOR_LOG_S = 5.0

_once = logs.OncePer()


@dataclass(frozen=True, slots=True)
class Sources:
    """Where what a client hears comes from."""

    fanout: Fanout
    history: History
    stretches: Stretches
    snapshots: Snapshots
    sockets: Sockets


class Subscription:
    """`start` it once; after `stop` nothing more is offered to the client."""

    __slots__ = (
        "_behind_since_s",
        "_channel",
        "_connection",
        "_delivery",
        "_listener",
        "_sources",
        "_task",
        "_unavailable",
    )

    def __init__(
        self,
        channel: Channel,
        delivery: Delivery,
        connection: Connection,
        sources: Sources,
        *,
        unavailable: Callable[[Channel, str], None],
    ) -> None:
        """``unavailable`` is told, with the reason for the client, when the channel cannot be served: it is over."""
        self._channel = channel
        self._delivery = delivery
        self._connection = connection
        self._sources = sources
        self._unavailable = unavailable
        self._listener: Listener | None = None
        self._task: asyncio.Task[None] | None = None
        self._behind_since_s: float | None = None

    @property
    def channel(self) -> Channel:
        return self._channel

    @property
    def cursor(self) -> str | None:
        """Of all that was offered, while live and nothing waits for company."""
        if self._listener is None:
            return None
        return (self._listener.positions or self._listener.log.positions).token

    def start(self, begin: str | datetime | None) -> None:
        """At a cursor, at a time, or after a snapshot."""
        self._sources.fanout.want(self._channel.topic)
        self._task = asyncio.create_task(self._run(begin))

    def stop(self) -> None:
        self._sources.fanout.leave(self._channel.topic)
        if self._listener:
            self._sources.fanout.remove(self._listener)
            self._listener = None
        if self._task:
            self._task.cancel()

    def _resume(self, log: Log, positions: Positions | None) -> None:
        """No longer live: behind, or the log was retired."""
        self._listener = None
        if positions is None:
            self._say_retired()
            self._behind_since_s = None
            self._task = asyncio.create_task(self._run(None))
        else:
            self._behind_since_s = time.monotonic()
            self._task = asyncio.create_task(self._run(None, log, positions))

    async def _run(
        self, begin: str | datetime | None, log: Log | None = None, positions: Positions | None = None
    ) -> None:
        try:
            while True:
                if log is None or positions is None:
                    log = await self._sources.fanout.log(self._channel.topic, wait_s=WAIT_FOR_LOG_S)
                    positions = await self._begin(log, begin)
                try:
                    if await self._catch_up(log, positions):
                        break
                    self._say_retired()
                except CannotResume as failure:
                    if begin is None and self._behind_since_s is None:  # the store is too far behind for its snapshots
                        raise Retryable(f"updates cannot follow a snapshot: {failure}") from failure
                    self._say_failed(failure)
                    self._behind_since_s = None
                begin = log = positions = None
            self._task = None  # and the memory that it takes
        except TimeoutError:
            self._give_up("the channel's log is not there yet; try again", "its topic is not followed yet")
        except Retryable as failure:
            self._give_up("the channel cannot be read at the moment; try again", str(failure))
        except Exception:  # noqa: BLE001 - one channel of one client; the others go on
            logs.get().exception("a subscription failed", channel=self._channel.name)
            self._unavailable(self._channel, "internal error; try again")

    def _say_retired(self) -> None:
        reason = "the topic was made again, or the gateway was away for longer than it is kept"
        self._say_failed(CannotResume("foreign", reason))

    def _say_failed(self, failure: CannotResume) -> None:
        words = self._delivery.dialect
        self._connection.offer(words.resume_failed(self._channel, failure.reason, str(failure)))

    def _give_up(self, message: str, cause: str) -> None:
        if _once.due((self._channel.topic.name, cause)):
            logs.get().warning("cannot serve a subscription", channel=self._channel.name, cause=cause)
        self._unavailable(self._channel, message)

    async def _begin(self, log: Log, begin: str | datetime | None) -> Positions:
        """Where updates begin: where the client says, or after a snapshot."""
        try:
            if isinstance(begin, datetime):
                return await self._sources.history.positions_at(begin, log)
            if begin is not None:
                return await self._sources.history.positions(begin, log)
        except CannotResume as failure:
            self._say_failed(failure)
        snapshot = await self._sources.snapshots.get(self._channel, log)
        positions = snapshot.positions.copy()
        await self._connection.room()
        self._connection.offer(
            self._delivery.dialect.snapshot(self._channel, positions, snapshot.documents, truncated=snapshot.truncated)
        )
        return positions

    async def _catch_up(self, log: Log, positions: Positions) -> bool:
        """Offer everything from ``positions`` on, then listen; False when the log is retired before that.

        There is no await in the last step: no message can come between what is replayed and what is live.
        """
        reader = Reader(self._channel)
        while not log.retired:
            await self._room()
            if not log.covers(positions):
                await self._read_log(log, positions, reader)
                continue
            missed = self._wanted(log, reader.follow(log.since(positions)))
            reached = list(log.positions.offsets)
            offered = self._offer(missed, positions)
            if offered < len(missed):
                await self._replay(missed[offered:], positions)
                for partition, offset in enumerate(reached):
                    positions.advance(partition, offset)
                continue
            self._behind_since_s = None
            self._listener = Listener(
                self._channel, self._delivery, self._connection, log, lambda at: self._resume(log, at)
            )
            log.join(self._channel, reader.last)
            self._sources.fanout.add(self._listener, positions)
            return True
        return False

    async def _read_log(self, log: Log, positions: Positions, reader: Reader) -> None:
        """Offer what is no longer in memory, from ``positions`` on; raises `CannotResume` when it is too much."""
        async with self._sources.stretches.turn(log, positions):
            while not log.retired and not log.covers(positions):
                await self._room()
                part = await self._sources.stretches.part(log, positions, reader)
                await self._replay(self._wanted(log, part.entries), positions)
                for partition, offset in part.reached.items():
                    positions.advance(partition, offset)

    async def _room(self) -> None:
        """Wait until the client has taken what it was sent; close it when it has been behind for too long."""
        await self._connection.room()
        if self._behind_since_s is not None and self._sources.sockets.is_late(self._behind_since_s):
            self._sources.sockets.late(self._connection)
            await asyncio.Event().wait()  # until the connection is lost

    def _wanted(self, log: Log, entries: Iterable[Entry]) -> Sequence[Entry]:
        """Where only the newest counts, the newest of each key."""
        wanted = list(entries)
        if not self._delivery.conflate:
            return wanted
        log.note_all(wanted)
        return newest(entry for entry in wanted if not log.is_outdated(entry))

    async def _replay(self, entries: Sequence[Entry], positions: Positions) -> None:
        """Offer entries at the pace of the client."""
        offered = 0
        while offered < len(entries):
            await self._connection.room()
            offered += self._offer(entries[offered:], positions)
            await asyncio.sleep(0)  # the others' turn

    def _offer(self, entries: Sequence[Entry], positions: Positions) -> int:
        """Offer as many as may go at once; returns how many."""
        messages = []
        size = 0
        for entry in entries:
            messages.append(update(entry, self._channel, positions, self._delivery))
            size += len(messages[-1])
            if size >= AT_ONCE_BYTES:
                break
        if messages:
            self._sources.fanout.tally.replayed += len(messages)
            self._connection.offer(*messages)
        return len(messages)
