"""A platform in small for tests of the gateway: topics, tables, stand-ins for engine and store, a gateway, clients."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import uuid_utils
from confluent_kafka import Message, Producer
from psycopg import sql
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.stream.server import run
from schemas.codec import encode as to_avro
from schemas.columns import arrow_schema, from_events
from schemas.events import (
    Event,
    PositionUpdated,
    PriceUpdated,
    TradeExecuted,
)
from schemas.topics import topic_of_event
from sentio import kafka as kafka_access
from sentio import topics
from sentio.config import StreamSettings
from sentio.database import migrate

DEADLINE_S = 20.0
START = datetime(2025, 10, 10, 13, 30, tzinfo=UTC)
SYMBOLS = ("TQQQ", "SQQQ", "SPY", "BRK.B")


@dataclass(frozen=True)
class Published:
    event: Event
    partition: int
    offset: int

    @property
    def seq(self) -> str:
        return f"{self.partition}:{self.offset}"


@dataclass
class Platform:
    """Topics, tables, and stand-ins for the engine and the store."""

    settings: StreamSettings
    producer: Producer
    sequence: int = 0

    def topic(self, event: str) -> str:
        return topic_of_event(event).full_name(self.settings.topic_prefix)

    def make_topics(self) -> None:
        topics.apply(self.settings, topics.plan(self.settings))

    def numbered(self, events: Sequence[Event]) -> list[Event]:
        """The events as a publisher sends them."""
        made = []
        for event in events:
            fields = {name: getattr(event, name) for name in arrow_schema(type(event).__name__).names}
            headers = {"event_id": uuid_utils.uuid7().bytes, "producer": "engine", "sequence": self.sequence}
            made.append(type(event)(**{**fields, **headers}))
            self.sequence += 1
        return made

    def send(self, events: Sequence[Event], at_ms: Sequence[int] = ()) -> list[Published]:
        """Publish events as they are; returns when the broker has them. ``at_ms``: the records' own times."""
        placed: list[Published] = []
        for number, event in enumerate(events):
            [value] = to_avro(type(event).__name__, from_events([event]))

            def note(error: object, message: Message, event: Event = event) -> None:
                assert error is None, error
                placed.append(Published(event, message.partition() or 0, message.offset() or 0))

            topic = topic_of_event(type(event).__name__)
            self.producer.produce(
                topic.full_name(self.settings.topic_prefix),
                value,
                topic.record_key(event, "test"),
                on_delivery=note,
                timestamp=at_ms[number] if at_ms else 0,
            )
            self.producer.poll(0)
        assert self.producer.flush(DEADLINE_S) == 0
        return placed

    def publish(self, events: Sequence[Event]) -> list[Published]:
        return self.send(self.numbered(events))

    def store(self, published: Sequence[Published]) -> None:
        """What the store does with messages: rows and offsets in one transaction."""
        with psycopg.connect(self.settings.database.get_secret_value()) as connection:
            for one in published:
                name = type(one.event).__name__
                topic = topic_of_event(name)
                columns = arrow_schema(name).names
                row = {column: getattr(one.event, column) for column in columns}
                row["event_id"] = UUID(bytes=one.event.event_id)
                connection.execute(
                    sql.SQL("insert into {} ({}) values ({})").format(
                        sql.Identifier(topic.table or ""),
                        sql.SQL(", ").join(map(sql.Identifier, columns)),
                        sql.SQL(", ").join(sql.Placeholder() * len(columns)),
                    ),
                    list(row.values()),
                )
                full_name = self.topic(name)
                connection.execute(
                    "insert into consumer_offsets (group_name, topic, partition, generation, next_offset, topic_id)"
                    " values ('store', %s, %s, 1, %s, %s) on conflict (group_name, topic, partition) do update set"
                    " next_offset = greatest(consumer_offsets.next_offset, excluded.next_offset)",
                    [full_name, one.partition, one.offset + 1, self.topic_id(name)],
                )

    def topic_id(self, event: str) -> str:
        name = self.topic(event)
        return kafka_access.describe(self.settings.kafka, [name])[name].id


@contextmanager
def make_platform(bootstrap: str, prefix: str, database: str) -> Iterator[Platform]:
    settings = StreamSettings(
        kafka=bootstrap,
        topic_prefix=prefix,
        partitions=3,
        database=SecretStr(database),
        stream_port=0,
        stream_heartbeat_s=60,
        stream_drain_s=0,
        stream_requests=0,
    )
    migrate(settings.database)
    made = Platform(settings, Producer(kafka_access.client(bootstrap) | {"linger.ms": 1, "enable.idempotence": True}))
    yield made
    made.producer.flush(DEADLINE_S)


@dataclass
class Phone:
    """A client that keeps what it heard."""

    socket: ClientConnection
    heard: list[dict[str, Any]] = field(default_factory=list)

    async def say(self, **words: Any) -> None:
        await self.socket.send(json.dumps(words))

    async def subscribe(self, channel: str, cursor: str | None = None, **more: Any) -> None:
        if cursor:
            more["cursor"] = {channel: cursor}
        await self.say(id=1, op="subscribe", channels=[channel], **more)

    async def listen(self) -> dict[str, Any]:
        async with asyncio.timeout(DEADLINE_S):
            frame: dict[str, Any] = json.loads(await self.socket.recv())
        self.heard.append(frame)
        return frame

    async def next(self, kind: str) -> dict[str, Any]:
        """The next frame of a type; others before it are kept in ``heard``."""
        while (frame := await self.listen())["type"] != kind:
            pass
        return frame

    async def updates(self, count: int) -> list[dict[str, Any]]:
        return [await self.next("update") for _ in range(count)]

    async def nothing_more(self) -> None:
        """A ping comes back before any other frame: all that was due has been heard."""
        await self.say(id="last", op="ping")
        while (frame := await self.listen())["type"] == "heartbeat":
            pass
        assert frame["type"] == "pong", frame

    async def close_code(self) -> tuple[int, str]:
        """Listen until the gateway closes."""
        with suppress(ConnectionClosed):
            while True:
                await self.listen()
        assert self.socket.close_code is not None
        return self.socket.close_code, self.socket.close_reason or ""


@dataclass
class Gateway:
    port: int
    stop: asyncio.Event
    task: asyncio.Task[None]

    @asynccontextmanager
    async def phone(self, **options: Any) -> AsyncIterator[Phone]:
        async with connect(f"ws://127.0.0.1:{self.port}", max_size=None, **options) as socket:
            phone = Phone(socket)
            assert (await phone.listen())["type"] == "greeting"
            yield phone

    async def get(self, path: str) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        return answer.split(" ", 1)[1].split("\r\n", 1)[0] + " " + answer.rsplit("\r\n\r\n", 1)[-1].strip()

    async def ready(self) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while not (await self.get("/readyz")).startswith("200"):  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.02)


@asynccontextmanager
async def gateway(settings: StreamSettings, *, wait: bool = True) -> AsyncIterator[Gateway]:
    stop = asyncio.Event()
    listening = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(run(settings, stop, listening=listening))
    try:
        async with asyncio.timeout(DEADLINE_S):
            running = Gateway(await listening, stop, task)
        if wait:
            await running.ready()
        yield running
    finally:
        stop.set()
        async with asyncio.timeout(DEADLINE_S):
            await task


@dataclass
class Process:
    """A gateway in a process of its own, or several workers."""

    pid: int
    address: str
    _log: asyncio.StreamReader
    _process: asyncio.subprocess.Process

    async def next_address(self) -> str:
        """Of the next worker that listens."""
        while '"address": "' not in (line := (await self._log.readline()).decode()):
            assert line, "the process ended"
        return line.split('"address": "')[1].split('"')[0]

    def send_signal(self, number: int) -> None:
        self._process.send_signal(number)

    async def ended(self) -> str:
        """What it says until it ends, which it must do well."""
        rest = (await self._log.read()).decode()
        assert await self._process.wait() == 0, rest
        return rest


@asynccontextmanager
async def process(settings: StreamSettings, **more: object) -> AsyncIterator[Process]:
    """Started as `sentio run stream` starts it, with the settings that a test's platform has; killed at the end."""
    code = (
        "from gateway.stream.workers import main; from sentio.config import StreamSettings, load;"
        " main(load(StreamSettings))"
    )
    known = {
        "kafka": settings.kafka,
        "topic_prefix": settings.topic_prefix,
        "database": settings.database.get_secret_value(),
        "stream_port": 0,
        "stream_drain_s": 0,
    }
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        code,
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 24,
        env={f"SENTIO_{name.upper()}": str(value) for name, value in (known | more).items()},
    )
    assert started.stderr
    try:
        made = Process(started.pid, "", started.stderr, started)
        async with asyncio.timeout(DEADLINE_S):
            made.address = await made.next_address()
        yield made
    finally:
        if started.returncode is None:
            with suppress(ProcessLookupError):
                started.kill()
            await started.communicate()


def trade(number: int, symbol: str | None = None, reason: str = "test") -> TradeExecuted:
    return TradeExecuted(
        account="paper-2025-10-10",
        strategy="rotation",
        symbol=symbol or SYMBOLS[number % len(SYMBOLS)],
        action="ENTRY",
        side="BUY",
        quantity=Decimal(number + 1),
        price=Decimal("101.2500000001"),
        fees=Decimal(0),
        reason=reason,
        executed_at=START + timedelta(seconds=number),
    )


def trades(count: int, first: int = 0) -> list[TradeExecuted]:
    return [trade(number) for number in range(first, first + count)]


def position(number: int, symbol: str) -> PositionUpdated:
    one = Decimal(1)
    return PositionUpdated(
        account="a",
        symbol=symbol,
        quantity=Decimal(number),
        average_entry=one,
        mark=one,
        unrealized_pnl=one,
        realized_pnl=one,
        updated_at=START + timedelta(seconds=number),
    )


def price(usd: int, *, second: int, slot: int = 0, symbol: str = "SOL") -> PriceUpdated:
    """Of a block's second and slot, which its id has, as those of webhooks do."""
    at = START + timedelta(seconds=second)
    number = int(at.timestamp() * 1_000) << 80 | 7 << 76 | 2 << 62 | slot << 50 | int.from_bytes(symbol.encode())
    event_id = number.to_bytes(16)
    return PriceUpdated(symbol=symbol, price=Decimal(usd), source="helius", observed_at=at, event_id=event_id)


def ids(published: Sequence[Published]) -> list[str]:
    return [str(UUID(bytes=one.event.event_id)) for one in published]


def heard_ids(frames: Sequence[dict[str, Any]]) -> list[str]:
    return [frame["data"]["event_id"] for frame in frames]


async def off_loop(work: Any, *arguments: Any) -> Any:
    return await asyncio.to_thread(work, *arguments)
