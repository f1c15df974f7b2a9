"""A client's journey: connections break, workers and the broker are killed; what it heard is the log, each once."""

import asyncio
import os
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from sentio.stack.kafka import KafkaServer
from sentio.testing.servers import fresh_prefix
from tests.gateways import Phone, Platform, Published, heard_ids, ids, make_platform, process, trade

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(300)]

STEPS = 25
WHOLE_S = 240.0
RING = {"stream_workers": 2, "stream_ring": 150, "stream_heartbeat_s": 1}


@dataclass
class Engine:
    """Publishes all the while, whatever becomes of the broker."""

    platform: Platform
    published: list[Published] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        number = 0
        while not self.stopped.wait(0.05):
            self.published += self.platform.publish([trade(number + one) for one in range(8)])
            number += 8


@contextmanager
def publishing(platform: Platform) -> Iterator[Engine]:
    engine = Engine(platform)
    thread = threading.Thread(target=engine.run, daemon=True)
    thread.start()
    try:
        yield engine
    finally:
        engine.stopped.set()
        thread.join()


@dataclass
class Traveller:
    """A client that keeps the cursor of the last frame it handled, and comes back with it."""

    address: str
    channel: str
    cursor: str | None = None
    heard: list[dict[str, Any]] = field(default_factory=list)
    failed: list[dict[str, Any]] = field(default_factory=list)
    away: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: it leaves, without a word."""

    until: set[str] | None = None
    """Ids to have heard before the journey ends."""

    async def travel(self) -> None:
        while self.until is None or not self.until <= set(heard_ids(self.heard)):
            try:
                async with connect(self.address, max_size=None, open_timeout=2, close_timeout=0.1) as socket:
                    await self._listen(Phone(socket))
            except (OSError, TimeoutError, ConnectionClosed, InvalidHandshake):
                await asyncio.sleep(0.05)

    async def _listen(self, phone: Phone) -> None:
        await phone.subscribe(self.channel, self.cursor)
        leaving = asyncio.create_task(self.away.wait())
        try:
            while self.until is None or not self.until <= set(heard_ids(self.heard)):
                hearing = asyncio.create_task(phone.listen())
                await asyncio.wait({hearing, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if leaving.done():
                    hearing.cancel()
                    self.away.clear()
                    phone.socket.transport.abort()
                    return
                self._handle(await hearing)
        finally:
            leaving.cancel()

    def _handle(self, frame: dict[str, Any]) -> None:
        match frame["type"]:
            case "update":
                assert frame["channel"] == self.channel
                self.heard.append(frame)
                self.cursor = frame["cursor"]
            case "snapshot":
                self.cursor = frame["cursor"]
            case "heartbeat":
                self.cursor = frame["cursors"].get(self.channel, self.cursor)
            case "resume_failed":
                self.failed.append(frame)
            case "error":
                raise ConnectionClosed(None, None)  # `unavailable`: again, with the cursor


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_worker(pid: int) -> bool:
    return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("seed", [20251010, 7])
async def test_what_a_client_heard_is_the_log_each_once(own_kafka: KafkaServer, database: str, seed: int) -> None:
    chosen = random.Random(seed)
    with make_platform(own_kafka.address or "", fresh_prefix(), database) as platform:
        platform.make_topics()
        async with process(platform.settings, **RING) as running, asyncio.timeout(WHOLE_S):
            await running.next_address()
            travellers = [Traveller(running.address, channel) for channel in ("trades", "trades.TQQQ", "trades")]
            journeys = [asyncio.create_task(one.travel()) for one in travellers]
            while not all(one.cursor for one in travellers):  # noqa: ASYNC110 - from the first message on
                await asyncio.sleep(0.02)
            with publishing(platform) as engine:
                for _ in range(STEPS):
                    await asyncio.sleep(chosen.uniform(0.05, 0.5))
                    match chosen.choices(["leave", "worker", "broker"], [10, 3, 1])[0]:
                        case "leave":
                            chosen.choice(travellers).away.set()
                        case "worker":
                            workers = [one for one in children(running.pid) if is_worker(one)]
                            if workers:  # else both were killed a moment ago
                                os.kill(chosen.choice(workers), signal.SIGKILL)
                        case "broker":
                            await asyncio.to_thread(own_kafka.kill)
                            await asyncio.to_thread(own_kafka.start)
            for one in travellers:
                symbols = [one.channel.partition(".")[2]] if "." in one.channel else None
                one.until = set(
                    ids([it for it in engine.published if symbols is None or it.event.symbol in symbols])  # type: ignore[attr-defined] # trades all
                )
            await asyncio.gather(*journeys)
    for one in travellers:
        assert one.until
        assert not one.failed
        assert sorted(heard_ids(one.heard)) == sorted(one.until)
        last: dict[str, int] = {}
        for frame in one.heard:
            partition, offset = frame["seq"].split(":")
            assert int(offset) > last.get(partition, -1)
            last[partition] = int(offset)
