"""A gateway reads the topics that somebody listens to, and no others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from gateway.stream import fanout
from gateway.stream.feed import Assigned, CaughtUp, Dropped, Feed, Item, Read
from schemas.events import EngineHeartbeat
from schemas.topics import Topic, topic_of_event
from sentio.config import StreamSettings
from tests.gateways import DEADLINE_S, START, Platform, gateway, heard_ids, ids, position, trades

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


def of(item: Item) -> Topic | None:
    match item:
        case Read():
            return item.rows.topic
        case Assigned():
            return item.topic
    return None


def places(item: Item) -> list[str]:
    assert isinstance(item, Read)
    return [f"{row.partition}:{row.offset}" for row in item.rows.rows]


def beat(number: int) -> EngineHeartbeat:
    return EngineHeartbeat(
        engine="e", version="1", mode="PAPER", state="RUNNING", beat_at=START + timedelta(seconds=number)
    )


async def test_feed_reads_what_is_wanted_and_the_state_of_the_engines(platform: Platform) -> None:
    await asyncio.to_thread(platform.publish, [*trades(3), beat(0)])
    async with fed(platform.settings) as feed:
        first = await until(feed, CaughtUp)
        assert [of(one) for one in first if isinstance(one, Assigned | Read)] == [ENGINE, ENGINE]
        feed.follow(TRADES)
        [assigned, *_] = await until(feed, Assigned)
        assert isinstance(assigned, Assigned)
        assert assigned.topic is TRADES
        heard = 0
        while heard < 3:
            [read] = await until(feed, Read)
            heard += len(read.rows)  # type: ignore[union-attr] # such it is
        feed.leave(TRADES)
        [dropped] = await until(feed, Dropped)
        assert dropped == Dropped(TRADES)
        await asyncio.to_thread(platform.publish, [*trades(3, 3), beat(1)])
        [of_engine] = await until(feed, Read)
        assert of(of_engine) is ENGINE
        feed.follow(TRADES)
        assert isinstance((await until(feed, Assigned))[-1], Assigned)


async def test_messages_of_a_busy_topic_are_read_together_and_come_before_what_changes(platform: Platform) -> None:
    async with fed(platform.settings) as feed:
        feed.wait(TRADES, 60.0)
        feed.follow(TRADES)
        items = await until(feed, CaughtUp)
        if TRADES not in map(of, items):
            await until(feed, Assigned)
        first = await asyncio.to_thread(platform.publish, trades(1))
        assert [places(read) for read in await until(feed, Read)] == [[first[0].seq]]  # it waits for nobody
        published = await asyncio.to_thread(platform.publish, trades(3, 1))
        published += await asyncio.to_thread(platform.publish, trades(3, 4))
        for number in range(2):  # the second is read when all before the first has been
            await asyncio.to_thread(platform.publish, [beat(number)])
            assert [of(read) for read in await until(feed, Read)] == [ENGINE]
        feed.leave(TRADES)
        read, dropped = await until(feed, Dropped)
        assert sorted(places(read)) == sorted(one.seq for one in published)
        assert dropped == Dropped(TRADES)


async def test_who_asks_for_the_lowest_latency_waits_for_no_tick_of_others(platform: Platform) -> None:
    settings = platform.settings.model_copy(update={"stream_conflated_ms": 10_000.0})
    async with gateway(settings) as running, running.phone() as usual, running.phone() as lowest:
        await usual.subscribe("positions")
        await usual.next("snapshot")
        await lowest.say(id=1, op="subscribe", channels=["positions"], latency="lowest", conflate=False)
        await lowest.next("snapshot")
        async with asyncio.timeout(8):  # less than a tick
            for number in range(4):
                published = await asyncio.to_thread(platform.publish, [position(number, "SPY")])
                assert heard_ids(await lowest.updates(1)) == ids(published)


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
