"""A gateway without Kafka and database: what a test publishes is what its feed would have read. Sockets are real."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

from pydantic import SecretStr
from websockets.asyncio.client import connect

from gateway.stream.catchup import History
from gateway.stream.channels import Channel
from gateway.stream.connection import Connection
from gateway.stream.decoding import Marks, Rows, decode
from gateway.stream.descriptors import Descriptors
from gateway.stream.fanout import Fanout
from gateway.stream.feed import Assigned, Feed, Item, Read
from gateway.stream.registry import Registry
from gateway.stream.ring import Log
from gateway.stream.session import admitting
from gateway.stream.snapshot import Snapshot, Snapshots
from gateway.stream.sockets import Sockets
from gateway.stream.stretches import Stretches
from gateway.stream.subscription import Sources
from schemas.codec import encode
from schemas.columns import from_events
from schemas.events import Event
from schemas.topics import Topic, topic_of_event
from sentio.config import StreamSettings
from tests.gateways import DEADLINE_S, Phone

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Counting:
    """Descriptors that count how often something is sent."""

    def __init__(self, real: Descriptors) -> None:
        self._real = real
        self.sends = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def send(self, handles: Sequence[int], payload: bytes) -> list[tuple[int, int]]:
        self.sends += 1
        return self._real.send(handles, payload)


class NoRows:
    """Snapshots of a store that has read everything and kept nothing."""

    async def get(self, _: Channel, log: Log) -> Snapshot:
        return Snapshot([], log.positions.copy())


@dataclass
class ByHand:
    """A feed that reads what the test gives it."""

    items: asyncio.Queue[Item] = field(default_factory=asyncio.Queue)
    skipped: int = 0

    def follow(self, topic: Topic) -> None:
        """The test says when."""

    def leave(self, topic: Topic) -> None:
        """Nor does it go on its own."""

    def wait(self, topic: Topic, wait_s: float) -> None:
        """Nothing waits here."""


@dataclass
class Record:
    """As Kafka's client gives it."""

    at: int
    content: bytes

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return self.at

    def timestamp(self) -> tuple[int, int]:
        return 1, 0

    def value(self) -> bytes:
        return self.content


def rows(events: Sequence[Event], first: int) -> Rows:
    """Events of one kind, as read from partition 0 from the offset ``first`` on."""
    kind = type(events[0]).__name__
    numbers = range(first, first + len(events))
    columns = from_events(events, producer=["engine"] * len(events), sequence=numbers)
    values = encode(kind, columns)
    records: Any = [Record(at, value) for at, value in zip(numbers, values, strict=True)]
    return decode(topic_of_event(kind), records, Marks()).rows


@dataclass
class Stage:
    port: int
    sockets: Sockets
    descriptors: Counting
    fanout: Fanout
    _feed: ByHand
    registry: Registry | None = None
    _published: dict[Topic, int] = field(default_factory=dict)

    @property
    def feed(self) -> Feed:
        return cast("Feed", self._feed)

    async def left(self) -> None:
        """Until the gateway has seen all clients go."""
        while self.sockets.all:  # noqa: ASYNC110 - of the other end
            await asyncio.sleep(0.001)

    async def follow(self, *events: str) -> None:
        for event in events:
            await self._feed.items.put(Assigned(topic_of_event(event), event, {0: 0}))

    async def publish(self, events: Sequence[Event], *, waited_s: float = 0.0) -> None:
        """At once; all of one kind, in partition 0. The feed has had them for so long."""
        topic = topic_of_event(type(events[0]).__name__)
        first = self._published.get(topic, 0)
        self._published[topic] = first + len(events)
        await self._feed.items.put(Read(rows(events, first), time.monotonic() - waited_s))
        while not self._feed.items.empty():  # noqa: ASYNC110 - its reader waits for nothing but the queue
            await asyncio.sleep(0)
        await asyncio.sleep(0)

    @asynccontextmanager
    async def phone(self, path: str = "", **options: Any) -> AsyncIterator[Phone]:
        async with connect(
            f"{'wss' if 'ssl' in options else 'ws'}://127.0.0.1:{self.port}{path}", max_size=None, **options
        ) as opened:
            phone = Phone(opened)
            assert (await phone.listen())["type"] == "greeting"
            yield phone

    async def raw(self, receive_bytes: int | None = None) -> socket.socket:
        """A client that does only what the test does, after its handshake."""
        opened = socket.socket()
        if receive_bytes:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        opened.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(opened, ("127.0.0.1", self.port))
        await loop.sock_sendall(opened, HANDSHAKE)
        while not (await loop.sock_recv(opened, 1 << 16)).endswith(b"}"):  # of the greeting
            pass
        return opened

    @property
    def only(self) -> Connection:
        """The one connection there is."""
        [connection] = self.sockets.all
        return connection


@asynccontextmanager
async def stage(descriptors: Descriptors, **options: Any) -> AsyncIterator[Stage]:
    settings = StreamSettings(database=SecretStr("postgresql://none"), stream_port=0, **options)
    counting = Counting(descriptors)
    feed = ByHand()
    fanout = Fanout(counting, cast("Feed", feed), ring=settings.stream_ring)
    sockets = Sockets(counting, settings, answer=lambda _: None)
    nobody = cast("Any", None)
    history = History(settings, nobody)
    sources = Sources(fanout, history, Stretches(settings, history, nobody), cast("Snapshots", NoRows()), sockets)
    registry = Registry(settings, settings.redis) if settings.redis else None
    port = await sockets.listen(admitting(settings, sources, registry))
    tasks = [asyncio.create_task(fanout.run()), asyncio.create_task(sockets.watch())]
    if registry:
        tasks.append(asyncio.create_task(registry.run()))
    try:
        yield Stage(port, sockets, counting, fanout, feed, registry)
        assert not any(task.done() for task in tasks)
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await sockets.close(1012, "the end")
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if registry:
            await registry.close()


Begin = Callable[..., AbstractAsyncContextManager[Stage]]
"""`stage` with the options it is given."""


async def live(phone: Phone, channel: str, **wishes: Any) -> None:
    await phone.say(id=1, op="subscribe", channels=[channel], **wishes)
    await phone.next("snapshot")
    await phone.nothing_more()  # and it has joined


def sequences(frames: list[dict[str, Any]]) -> list[int]:
    return [frame["data"]["sequence"] for frame in frames]
