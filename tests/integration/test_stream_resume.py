"""Clients that come back: by cursor or by time, alone or all at once, for what is in the log only."""

import asyncio
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from gateway.stream import stretches
from gateway.stream.cursor import Cursor, encode, epoch_of
from schemas.events import Event
from sentio import kafka as kafka_access
from sentio import topics
from tests.gateways import Platform, gateway, heard_ids, ids, make_platform, trade, trades

pytestmark = pytest.mark.anyio

SMALL_RING = {"stream_ring": 100}


def oldest_cursor(platform: Platform) -> str:
    return encode(Cursor(epoch_of(platform.topic_id("TradeExecuted")), (0, 0, 0)))


async def test_crowd_that_comes_back_reads_the_log_once(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    real = kafka_access.read

    def counting(bootstrap: str, spans: dict[kafka_access.Place, tuple[int, int]], **options: Any) -> Any:
        for messages in real(bootstrap, spans, **options):
            read.append(len(messages))
            yield messages

    monkeypatch.setattr(kafka_access, "read", counting)
    published = platform.publish(trades(2_000))
    async with gateway(platform.settings.model_copy(update=SMALL_RING)) as running:

        async def come_back() -> None:
            async with running.phone() as phone:
                await phone.subscribe("trades", oldest_cursor(platform))
                assert sorted(heard_ids(await phone.updates(2_000))) == sorted(ids(published))
                await phone.nothing_more()

        await asyncio.gather(*(come_back() for _ in range(20)))
    assert sum(read) <= 2_000


async def test_too_much_to_catch_up_becomes_a_snapshot(platform: Platform) -> None:
    published = platform.publish(trades(300))
    platform.store(published)
    settings = platform.settings.model_copy(update={**SMALL_RING, "stream_resume_records": 150})
    async with gateway(settings) as running, running.phone() as phone:
        await phone.subscribe("trades", oldest_cursor(platform))
        refused = await phone.next("resume_failed")
        assert (refused["reason"], refused["channel"]) == ("too_much", "trades")
        assert len((await phone.next("snapshot"))["data"]) == 100
        later = await asyncio.to_thread(platform.publish, trades(3, 300))
        assert sorted(heard_ids(await phone.updates(3))) == sorted(ids(later))


async def test_catching_up_for_too_long_becomes_a_snapshot(platform: Platform) -> None:
    published = platform.publish(trades(300))
    platform.store(published)
    settings = platform.settings.model_copy(update={**SMALL_RING, "stream_resume_s": 0.000_001})
    async with gateway(settings) as running, running.phone() as phone:
        await phone.subscribe("trades", oldest_cursor(platform))
        refused = await phone.next("resume_failed")
        assert refused["reason"] == "too_much"
        assert "longer" in refused["message"]
        await phone.next("snapshot")
        await phone.nothing_more()


async def test_one_more_than_may_read_the_log_gets_a_snapshot(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "READERS", 1)
    monkeypatch.setattr(stretches, "TURN_S", 0.1)
    published = platform.publish([trade(number, reason="x" * 5_000) for number in range(2_000)])
    platform.store(published[-5:])
    settings = platform.settings.model_copy(update=SMALL_RING)
    async with gateway(settings) as running:
        async with running.phone(max_queue=1) as slow:  # does not read on, so it keeps its turn
            await slow.subscribe("trades", oldest_cursor(platform))
            heard = await slow.updates(1)
            async with running.phone() as other:
                await other.subscribe("trades", oldest_cursor(platform))
                refused = await other.next("resume_failed")
                assert refused["reason"] == "busy"
                await other.next("snapshot")
            heard += await slow.updates(1_999)
            assert sorted(heard_ids(heard)) == sorted(ids(published))
        async with running.phone() as other:
            await other.subscribe("trades", oldest_cursor(platform))
            assert sorted(heard_ids(await other.updates(2_000))) == sorted(ids(published))


async def test_log_that_begins_within_a_stretch_is_read_from_there(platform: Platform) -> None:
    published = platform.publish([trade(number, "TQQQ") for number in range(300)])
    [partition] = {one.partition for one in published}
    admin = AdminClient({"bootstrap.servers": platform.settings.kafka})
    [future] = admin.delete_records([TopicPartition(platform.topic("TradeExecuted"), partition, 30)]).values()
    future.result(10)
    offsets = tuple(40 if number == partition else 0 for number in range(3))
    cursor = encode(Cursor(epoch_of(platform.topic_id("TradeExecuted")), offsets))
    async with gateway(platform.settings.model_copy(update=SMALL_RING)) as running, running.phone() as phone:
        await phone.subscribe("trades", cursor)
        assert heard_ids(await phone.updates(260)) == ids(published[40:])


async def test_cursor_of_a_gateway_that_saw_new_partitions_sooner_is_good(platform: Platform) -> None:
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("trades")
        await phone.next("snapshot")
        await asyncio.to_thread(platform.publish, trades(20))
        await phone.updates(20)  # it follows three partitions, and looks for more once a minute
        grown = platform.settings.model_copy(update={"partitions": 6})
        topics.apply(grown, topics.plan(grown))
        with make_platform(grown.kafka, grown.topic_prefix, grown.database.get_secret_value()) as afresh:
            afresh.sequence = platform.sequence
            sent = await asyncio.to_thread(afresh.publish, [trade(n, f"S{n % 30}") for n in range(90)])
        offsets = [max((one.offset for one in sent if one.partition == p), default=0) for p in range(6)]
        assert any(offsets[3:])
        cursor = encode(Cursor(epoch_of(platform.topic_id("TradeExecuted")), tuple(offsets)))
        async with running.phone() as other:
            await other.subscribe("trades", cursor)
            async with running.phone() as third:
                await third.subscribe("signals")  # has it look at once
                expected = [one.event for one in sent if one.offset >= offsets[one.partition]]
                heard = [frame["data"]["sequence"] for frame in await other.updates(len(expected))]
                assert sorted(heard) == sorted(event.sequence for event in expected)
            await other.nothing_more()
            assert "resume_failed" not in [frame["type"] for frame in other.heard]


async def test_repeats_are_known_and_prev_is_whole_from_stretch_to_stretch(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stretches, "STRETCH_OFFSETS", 20)
    events: list[Event] = platform.numbered([trade(number) for number in range(300)])
    chosen = random.Random(11)
    sent = [event for event in events for _ in range(chosen.choice((1, 1, 1, 2)))]
    for place in range(len(events) - 30, 0, -37):  # and again much later
        sent.insert(place + 60, sent[place])
    published = platform.send(sent)
    first: dict[bytes, str] = {}
    for one in published:
        first.setdefault(one.event.event_id, one.seq)
    async with gateway(platform.settings.model_copy(update=SMALL_RING)) as running:
        for channel in ("trades", "trades.TQQQ"):
            async with running.phone() as phone:
                await phone.subscribe(channel, oldest_cursor(platform))
                expected = {
                    seq
                    for event in events
                    if channel == "trades" or event.symbol == "TQQQ"  # type: ignore[attr-defined] # trades all
                    for seq in [first[event.event_id]]
                }
                heard = await phone.updates(len(expected))
                await phone.nothing_more()
                assert {frame["seq"] for frame in heard} == expected
                last: dict[str, str] = {}
                for frame in heard:
                    partition = frame["seq"].partition(":")[0]
                    if partition in last:
                        assert frame["prev"] == last[partition]
                    last[partition] = frame["seq"]


class TestFromATime:
    BEGAN = datetime.now(UTC) - timedelta(hours=3)

    def publish(self, platform: Platform) -> list[Any]:
        """Ten a minute, for ten minutes."""
        events = platform.numbered(trades(100))
        return platform.send(events, [int(self.at(number).timestamp() * 1000) for number in range(100)])

    def at(self, number: int) -> datetime:
        return self.BEGAN + timedelta(seconds=6 * number)

    async def test_everything_since_comes_and_nothing_before(self, platform: Platform) -> None:
        published = self.publish(platform)
        for ring in (100, 50_000):  # from the log, and from memory
            settings = platform.settings.model_copy(update={"stream_ring": ring})
            async with gateway(settings) as running, running.phone() as phone:
                since = self.at(40).astimezone().isoformat()  # in the zone of whoever asks
                await phone.subscribe("trades", **{"from": since})
                expected = [one for one in published if one.event.sequence >= 40]
                assert sorted(heard_ids(await phone.updates(len(expected)))) == sorted(ids(expected))
                await phone.nothing_more()
                later = await asyncio.to_thread(platform.publish, trades(3, 100))
                assert sorted(heard_ids(await phone.updates(3))) == sorted(ids(later))
                published += later

    async def test_before_the_first_message_is_everything(self, platform: Platform) -> None:
        published = self.publish(platform)
        async with gateway(platform.settings) as running, running.phone() as phone:
            await phone.subscribe("trades", **{"from": "2020-01-01T00:00:00Z"})
            assert sorted(heard_ids(await phone.updates(100))) == sorted(ids(published))

    async def test_time_to_come_is_now(self, platform: Platform) -> None:
        self.publish(platform)
        settings = platform.settings.model_copy(update={"stream_heartbeat_s": 0.1})
        async with gateway(settings) as running, running.phone() as phone:
            await phone.subscribe("trades", **{"from": "2900-01-01T00:00:00Z"})
            while "trades" not in (await phone.next("heartbeat"))["cursors"]:  # it is live
                pass
            later = await asyncio.to_thread(platform.publish, trades(3, 100))
            assert sorted(heard_ids(await phone.updates(3))) == sorted(ids(later))

    async def test_cursor_comes_before_it(self, platform: Platform) -> None:
        published = self.publish(platform)
        async with gateway(platform.settings) as running, running.phone() as phone:
            await phone.subscribe("trades", oldest_cursor(platform), **{"from": self.at(90).isoformat()})
            assert sorted(heard_ids(await phone.updates(100))) == sorted(ids(published))

    async def test_log_that_no_longer_goes_back_so_far_says_so(self, platform: Platform) -> None:
        published = self.publish(platform)
        platform.store(published)
        admin = AdminClient({"bootstrap.servers": platform.settings.kafka})
        cuts = [TopicPartition(platform.topic("TradeExecuted"), partition, 2) for partition in range(3)]
        ends = {one.partition: one.offset for one in published}
        for future in admin.delete_records([cut for cut in cuts if ends.get(cut.partition, 0) > 2]).values():
            future.result(10)
        async with gateway(platform.settings) as running, running.phone() as phone:
            await phone.subscribe("trades", **{"from": "2020-01-01T00:00:00Z"})
            assert (await phone.next("resume_failed"))["reason"] == "expired"
            assert len((await phone.next("snapshot"))["data"]) == 100
            await phone.nothing_more()
