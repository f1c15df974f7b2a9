"""The life of one client on one channel as a task: snapshot or cursor, then what was missed, then live."""

import asyncio
from collections.abc import Sequence

from gateway.stream import protocol
from gateway.stream.catchup import CannotResume, History, Reader
from gateway.stream.channels import Channel
from gateway.stream.client import Client
from gateway.stream.cursor import Positions
from gateway.stream.fanout import Fanout, Listener, frame
from gateway.stream.ring import Entry, Log
from gateway.stream.snapshot import Snapshots
from sentio import log as logs
from sentio.errors import Retryable

WAIT_FOR_LOG_S = 5.0

_once = logs.OncePer()


class Subscription:
    """`start` it once; after `stop` nothing more is offered to the client."""

    def __init__(
        self,
        channel: Channel,
        client: Client,
        request_id: protocol.Id,
        *,
        fanout: Fanout,
        history: History,
        snapshots: Snapshots,
    ) -> None:
        self._channel = channel
        self._client = client
        self._request_id = request_id
        self._fanout = fanout
        self._history = history
        self._snapshots = snapshots
        self._listener: Listener | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def cursor(self) -> str | None:
        """Of all that was offered, once live."""
        return self._listener.cursor if self._listener else None

    def start(self, cursor: str | None) -> None:
        self._task = asyncio.create_task(self._run(cursor))

    def stop(self) -> None:
        if self._listener:
            self._fanout.remove(self._listener)
            self._listener = None
        if self._task:
            self._task.cancel()

    async def _run(self, cursor: str | None) -> None:
        try:
            while True:
                log = await self._fanout.log(self._channel.topic, wait_s=WAIT_FOR_LOG_S)
                positions = await self._begin(log, cursor)
                await self._catch_up(log, positions)
                await log.retired.wait()
                self._listener = None
                cursor = None
                reason = "the topic was made again, or the gateway was away for longer than it is kept"
                self._client.offer([protocol.resume_failed(self._channel, "foreign", reason)])
        except TimeoutError:
            self._give_up("the channel's log is not there yet; try again", "its topic is not followed yet")
        except Retryable as failure:
            self._give_up("the channel cannot be read at the moment; try again", str(failure))
        except Exception:  # noqa: BLE001 - one channel of one client; the others go on
            logs.get().exception("a subscription failed", channel=self._channel.name)
            self._client.offer([protocol.unavailable(self._request_id, self._channel, "internal error; try again")])

    def _give_up(self, message: str, cause: str) -> None:
        if _once.due((self._channel.topic.name, cause)):
            logs.get().warning("cannot serve a subscription", channel=self._channel.name, cause=cause)
        self._client.offer([protocol.unavailable(self._request_id, self._channel, message)])

    async def _begin(self, log: Log, cursor: str | None) -> Positions:
        """Where updates begin: at the client's cursor, or after a snapshot."""
        if cursor is not None:
            try:
                return await self._history.positions(cursor, log)
            except CannotResume as failure:
                self._client.offer([protocol.resume_failed(self._channel, failure.reason, str(failure))])
        snapshot = await self._snapshots.get(self._channel, log)
        positions = snapshot.positions.copy()
        await self._client.room()
        self._client.offer(
            [protocol.snapshot(self._channel, positions.token, snapshot.documents, truncated=snapshot.truncated)]
        )
        return positions

    async def _catch_up(self, log: Log, positions: Positions) -> None:
        """Offer everything from ``positions`` on, then listen.

        There is no await in the last step: no message can come between what is replayed and what is live.
        """
        reader = Reader(self._channel)
        while not log.retired.is_set():
            await self._client.room()
            if not log.covers(positions):
                part = await self._history.part(log, positions, reader)
                await self._replay(part.entries, positions)
                for partition, offset in part.reached.items():
                    positions.advance(partition, offset)
                continue
            missed = log.since(positions)
            if len(missed) > self._client.slice:
                await self._replay(missed, positions)
                continue
            self._offer(missed, positions)
            self._listener = Listener(self._channel, self._client, log, positions)
            self._fanout.add(self._listener)
            return

    async def _replay(self, entries: Sequence[Entry], positions: Positions) -> None:
        """Offer entries at the pace of the client."""
        size = self._client.slice
        for start in range(0, len(entries), size):
            await self._client.room()
            self._offer(entries[start : start + size], positions)
            await asyncio.sleep(0)  # the others' turn

    def _offer(self, entries: Sequence[Entry], positions: Positions) -> None:
        frames = []
        for entry in entries:
            if entry.is_in(self._channel):
                frames.append(frame(self._channel, entry, positions))
            else:
                positions.advance(entry.partition, entry.offset + 1)
        self._client.offer(frames)
