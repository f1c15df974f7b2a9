"""A gateway reads the topics that somebody listens to, and no others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from gateway.stream import fanout
from gateway.stream.feed import Assigned, CaughtUp, Dropped, Feed, Item
from schemas.events import EngineHeartbeat
from schemas.topics import topic_of_event
from sentio.batch import Batch
from sentio.config import StreamSettings
from tests.gateways import DEADLINE_S, START, Platform, gateway, heard_ids, ids, trades

pytestmark = pytest.mark.anyio

TRADES = topic_of_event("TradeExecuted")
ENGINE = topic_of_event("EngineHeartbeat")


@asynccontextmanager
async def fed(settings: StreamSettings) -> AsyncIterator[Feed]:
    feed = Feed(settings)
    feed.start()
    try:
        async with asyncio.timeout(3 * DEADLINE_S):
            yield feed
    finally:
        await feed.stop()


async def until(feed: Feed, kind: type[Item]) -> list[Item]:
    items = [await feed.items.get()]
    while not isinstance(items[-1], kind):
        items.append(await feed.items.get())
    return items


def beat(number: int) -> EngineHeartbeat:
    return EngineHeartbeat(
        engine="e", version="1", mode="PAPER", state="RUNNING", beat_at=START + timedelta(seconds=number)
    )


async def test_feed_reads_what_is_wanted_and_the_state_of_the_engines(platform: Platform) -> None:
    await asyncio.to_thread(platform.publish, [*trades(3), beat(0)])
    async with fed(platform.settings) as feed:
        first = await until(feed, CaughtUp)
        assert [one.topic for one in first if isinstance(one, Assigned | Batch)] == [ENGINE, ENGINE]
        feed.follow(TRADES)
        [assigned, *_] = await until(feed, Assigned)
        assert isinstance(assigned, Assigned)
        assert assigned.topic is TRADES
        heard = 0
        while heard < 3:
            [batch] = await until(feed, Batch)
            heard += len(batch)  # type: ignore[arg-type] # a batch it is
        feed.leave(TRADES)
        [dropped] = await until(feed, Dropped)
        assert dropped == Dropped(TRADES)
        await asyncio.to_thread(platform.publish, [*trades(3, 3), beat(1)])
        [of_engine] = await until(feed, Batch)
        assert isinstance(of_engine, Batch)
        assert of_engine.topic is ENGINE
        feed.follow(TRADES)
        assert isinstance((await until(feed, Assigned))[-1], Assigned)


async def test_nothing_is_lost_while_interest_comes_and_goes(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fanout, "UNWANTED_S", 0.0)
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("trades")
        await phone.next("snapshot")
        published, heard = [], []
        for turn in range(12):
            new = await asyncio.to_thread(platform.publish, trades(5, 5 * turn))
            published += new
            updates = await phone.updates(5)
            heard += updates
            await phone.say(id=2, op="unsubscribe", channels=["trades"])
            if turn % 3:
                await phone.next("ack")
            if turn % 2:
                await asyncio.to_thread(platform.publish, [beat(turn)])
            await phone.subscribe("trades", updates[-1]["cursor"])
        assert sorted(heard_ids(heard)) == sorted(ids(published))
