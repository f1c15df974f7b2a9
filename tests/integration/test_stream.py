"""The WebSocket gateway on a real broker and a real database."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from gateway.stream import connection
from gateway.stream.connection import Connection
from gateway.stream.cursor import Cursor, decode, encode, epoch_of
from gateway.stream.sockets import Sockets
from schemas.events import EngineHeartbeat, PositionUpdated, PriceUpdated, SignalGenerated
from tests.gateways import DEADLINE_S, START, Platform, Published, gateway, heard_ids, ids, price, trade, trades

pytestmark = pytest.mark.anyio


def partition_order(frames: list[dict[str, Any]]) -> bool:
    """Whether each partition's messages are in order, and each names the one before it."""
    last: dict[int, int] = {}
    for frame in frames:
        partition, offset = map(int, frame["seq"].split(":"))
        if partition in last and frame["prev"] != f"{partition}:{last[partition]}":
            return False
        last[partition] = offset
    return True


async def test_snapshot_and_updates_together_are_every_trade_once(platform: Platform) -> None:
    first, second = platform.publish(trades(20)), platform.publish(trades(10, 20))
    platform.store(first)
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("trades")
        assert (await phone.listen())["type"] == "ack"
        snapshot = await phone.next("snapshot")
        assert {row["event_id"] for row in snapshot["data"]} == set(ids(first))
        missed = await phone.updates(10)
        third = await asyncio.to_thread(platform.publish, trades(10, 30))
        live = await phone.updates(10)
        assert sorted(heard_ids(missed + live)) == sorted(ids(second + third))
        assert partition_order(missed + live)
        data = next(frame["data"] for frame in live if frame["data"]["sequence"] == 35)
        assert data["quantity"] == "36"
        assert data["price"] == "101.2500000001"
        assert data["fees"] == "0"
        assert data["realized_pnl"] is None
        assert data["executed_at"] == "2025-10-10T13:30:35.000000Z"


async def test_cursor_of_any_update_brings_exactly_what_followed(platform: Platform) -> None:
    """From memory and from the log: the ring is smaller than what was published."""
    settings = platform.settings.model_copy(update={"stream_ring": 100, "stream_conflated_ms": 0.0})
    async with gateway(settings) as running:
        async with running.phone() as phone:
            await phone.subscribe("trades")
            await phone.next("snapshot")
            published = await asyncio.to_thread(platform.publish, trades(400))
            heard = await phone.updates(400)
        assert sorted(heard_ids(heard)) == sorted(ids(published))
        for cut in random.Random(7).sample(range(400), 12):
            async with running.phone() as phone:
                await phone.subscribe("trades", heard[cut]["cursor"])
                rest = await phone.updates(399 - cut)
                assert sorted(heard_ids(rest)) == sorted(heard_ids(heard[cut + 1 :]))
                assert partition_order(rest)
                await phone.nothing_more()


async def test_cursors_taken_while_catching_up_are_exact_too(platform: Platform) -> None:
    published = platform.publish(trades(60))
    async with gateway(platform.settings) as running:
        async with running.phone() as phone:
            await phone.subscribe("trades")
            heard = await phone.updates(60)
        for cut in (0, 17, 42, 58):
            async with running.phone() as phone:
                await phone.subscribe("trades", heard[cut]["cursor"])
                rest = await phone.updates(59 - cut)
                assert sorted(heard_ids(heard[: cut + 1] + rest)) == sorted(ids(published))
                await phone.nothing_more()


async def test_cursors_are_good_after_a_restart_of_the_gateway(platform: Platform) -> None:
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("trades")
        await phone.next("snapshot")
        await asyncio.to_thread(platform.publish, trades(5))
        cursor = (await phone.updates(5))[-1]["cursor"]
    missed = await asyncio.to_thread(platform.publish, trades(7, 5))
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("trades", cursor)
        assert sorted(heard_ids(await phone.updates(7))) == sorted(ids(missed))
        await phone.nothing_more()


async def test_cursor_ahead_of_this_gateway_neither_repeats_nor_loses(platform: Platform) -> None:
    """The snapshot of a store that is further than a feed that still reads the past."""
    published = platform.publish(trades(50))
    platform.store(published)
    async with gateway(platform.settings, wait=False) as running, running.phone() as phone:
        await phone.subscribe("trades")
        assert len((await phone.next("snapshot"))["data"]) == 50
        later = await asyncio.to_thread(platform.publish, trades(5, 50))
        assert sorted(heard_ids(await phone.updates(5))) == sorted(ids(later))
        await phone.nothing_more()


async def test_switch_to_live_loses_nothing_while_the_engine_publishes(platform: Platform) -> None:
    settings = platform.settings.model_copy(update={"stream_ring": 200})
    first = platform.publish(trades(300))
    platform.store(first[:250])

    def run_engine() -> list[Published]:
        return [one for _ in range(200) for one in platform.publish(trades(10))]

    async with gateway(settings) as running:
        engine = asyncio.create_task(asyncio.to_thread(run_engine))

        async def watch() -> list[str]:
            async with running.phone() as phone:
                await phone.subscribe("trades")
                cursor = (await phone.next("snapshot"))["cursor"]
                stored = sum(decode(cursor).offsets)
                frames = await phone.updates(2300 - stored)
                assert partition_order(frames)
                return heard_ids(frames)

        phones = []
        while not engine.done():
            phones += [asyncio.create_task(watch())]
            await asyncio.wait([engine], timeout=0.2)
        published = ids(first[250:] + await engine)
        assert len(phones) > 1
        for phone in phones:
            assert sorted(await phone) == sorted(published)


async def test_narrowed_channels_hear_their_value_only(platform: Platform) -> None:
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.say(id="a", op="subscribe", channels=["trades.BRK.B", "trades.SPY"])
        await phone.next("snapshot")
        await phone.next("snapshot")
        await asyncio.to_thread(platform.publish, trades(12))
        frames = await phone.updates(6)
        for symbol in ("BRK.B", "SPY"):
            of_symbol = [frame for frame in frames if frame["channel"] == f"trades.{symbol}"]
            assert [frame["data"]["symbol"] for frame in of_symbol] == [symbol] * 3
            assert partition_order(of_symbol)
        of_spy = [frame for frame in frames if frame["channel"] == "trades.SPY"]
        await phone.nothing_more()
        await phone.say(op="unsubscribe", channels=["trades.SPY"])
        await phone.next("ack")
        await asyncio.to_thread(platform.publish, trades(4))
        assert (await phone.next("update"))["data"]["symbol"] == "BRK.B"
        await phone.nothing_more()
        await phone.subscribe("trades.SPY", of_spy[0]["cursor"])  # what follows is in memory
        rest = await phone.updates(3)
        assert [frame["data"]["sequence"] for frame in rest] == [6, 10, 14]
        await phone.nothing_more()


async def test_repeats_and_undecodable_messages_are_left_out(platform: Platform) -> None:
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("trades")
        await phone.next("snapshot")
        events = platform.numbered([trade(0), trade(4), trade(8)])  # one symbol, one partition
        await asyncio.to_thread(platform.send, events[:2])
        platform.producer.produce(platform.topic("TradeExecuted"), b"\0garbage", b"TQQQ")
        await asyncio.to_thread(platform.send, [events[0], events[1], events[2]])
        frames = await phone.updates(3)
        assert [frame["data"]["sequence"] for frame in frames] == [0, 1, 2]
        assert partition_order(frames)
        await phone.nothing_more()


@pytest.mark.parametrize("failure", ["malformed", "foreign", "expired", "beyond"])
async def test_cursor_that_cannot_be_resumed_is_answered_with_a_snapshot(platform: Platform, failure: str) -> None:
    published = platform.publish(trades(20))
    platform.store(published)
    epoch = epoch_of(platform.topic_id("TradeExecuted"))
    cursor = {
        "malformed": "bm9uc2Vuc2U",
        "foreign": encode(Cursor(epoch_of("another"), (0, 0, 0))),
        "expired": encode(Cursor(epoch, (0, 0, 0))),
        "beyond": encode(Cursor(epoch, (1_000, 0, 0))),
    }[failure]
    if failure == "expired":
        admin = AdminClient({"bootstrap.servers": platform.settings.kafka})
        cut = TopicPartition(platform.topic("TradeExecuted"), published[0].partition, 2)
        [future] = admin.delete_records([cut]).values()
        future.result(10)
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("trades", cursor)
        refused = await phone.next("resume_failed")
        assert refused["channel"] == "trades"
        assert refused["reason"] == ("foreign" if failure == "beyond" else failure)
        assert {row["event_id"] for row in (await phone.next("snapshot"))["data"]} == set(ids(published))
        await phone.nothing_more()


async def test_bad_requests_are_answered_with_a_code_and_ten_in_a_row_are_enough(platform: Platform) -> None:
    async with gateway(platform.settings) as running, running.phone() as phone:
        requests = {
            "{": "bad_json",
            "[1]": "bad_request",
            "[" * 60_000: "bad_json",
            '{"id":1.5,"op":"ping"}': "bad_request",
            '{"op":"dance"}': "unknown_op",
            '{"op":"subscribe"}': "bad_request",
            '{"id":7,"op":"subscribe","channels":["trade"]}': "unknown_channel",
            '{"op":"subscribe","channels":["trades.\\u0000"]}': "unknown_channel",
            '{"op":"subscribe","channels":["trades"],"cursor":{"signals":"x"}}': "bad_request",
        }
        for text, code in requests.items():
            await phone.socket.send(text)
            error = await phone.next("error")
            assert error["code"] == code, text[:80]
        assert phone.heard[-3]["id"] == 7
        await phone.say(id=2, op="ping")
        assert (await phone.next("pong"))["id"] == 2
        for _ in range(10):
            await phone.socket.send(" " * 70_000)
            assert (await phone.next("error"))["code"] == "too_large"
        assert (await phone.close_code())[0] == 4400


async def test_absurdly_large_request_is_closed(platform: Platform) -> None:
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.socket.send(" " * (1 << 20) + " ")
        assert (await phone.close_code())[0] == 1009


async def test_slow_client_is_closed_and_may_come_back_with_its_cursor(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CLOSE_S", 60.0)  # the close frame waits behind what it has not read
    closed = asyncio.Event()
    late = Sockets.late

    def note(sockets: Sockets, behind: Connection) -> None:
        late(sockets, behind)
        closed.set()

    monkeypatch.setattr(Sockets, "late", note)
    settings = platform.settings.model_copy(update={"stream_behind_s": 2.0})
    bulky = [trade(number, reason="x" * 20_000) for number in range(1_500)]
    async with gateway(settings) as running, running.phone() as quick:
        async with running.phone(max_queue=1) as slow:
            for phone in (slow, quick):
                await phone.subscribe("trades")
                await phone.next("snapshot")
            published = asyncio.create_task(asyncio.to_thread(platform.publish, bulky))
            heard = await quick.updates(1_500)  # while the slow one reads nothing
            async with asyncio.timeout(DEADLINE_S):
                await closed.wait()
            code, reason = await slow.close_code()
            assert code == 4508
            assert "cursor" in reason
        updates = [frame for frame in slow.heard if frame["type"] == "update"]
        assert len(updates) < 1_500
        assert sorted(heard_ids(heard)) == sorted(ids(await published))
        async with running.phone() as again:
            await again.subscribe("trades", updates[-1]["cursor"])
            rest = await again.updates(1_500 - len(updates))
            assert sorted(heard_ids(updates + rest)) == sorted(heard_ids(heard))


async def test_snapshots_of_state_show_the_newest_of_each(platform: Platform) -> None:
    def position(account: str, symbol: str, quantity: int, minute: int) -> PositionUpdated:
        one = Decimal(1)
        at = START + timedelta(minutes=minute)
        return PositionUpdated(
            account=account,
            symbol=symbol,
            quantity=Decimal(quantity),
            average_entry=one,
            mark=one,
            unrealized_pnl=one,
            realized_pnl=one,
            updated_at=at,
        )

    def signal(symbol: str, bar: int, probability: float) -> SignalGenerated:
        return SignalGenerated(
            symbol=symbol,
            direction="LONG",
            probability=probability,
            confidence=0.5,
            bar_id=bar,
            generated_at=START + timedelta(minutes=bar),
        )

    positions = [position("a", "SPY", 5, 0), position("a", "TQQQ", 2, 0), position("b", "SPY", -1, 0)]
    closed = [position("a", "SPY", 0, 1), position("b", "SPY", 7, 1)]
    platform.store(platform.publish(positions + closed))
    platform.store(platform.publish([signal("SPY", 1, 0.25), signal("TQQQ", 2, 0.5), signal("SPY", 3, 0.75)]))
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("positions")
        held = {(row["account"], row["symbol"]): row["quantity"] for row in (await phone.next("snapshot"))["data"]}
        assert held == {("a", "TQQQ"): "2", ("b", "SPY"): "7"}
        await phone.subscribe("positions.b")
        assert [row["account"] for row in (await phone.next("snapshot"))["data"]] == ["b"]
        await phone.subscribe("signals")
        newest = {row["symbol"]: row["probability"] for row in (await phone.next("snapshot"))["data"]}
        assert newest == {"SPY": 0.75, "TQQQ": 0.5}
        await asyncio.to_thread(platform.publish, [signal("SPY", 4, 0.5)])
        assert (await phone.next("update"))["data"]["direction"] == "LONG"


async def test_prices_begin_with_the_newest_of_each_symbol_and_none_that_is_older_follows(platform: Platform) -> None:
    settings = platform.settings.model_copy(update={"stream_ring": 100, "stream_conflated_ms": 0.0})
    newest = [price(91, second=100, slot=2), price(90, second=100, slot=3), price(7, second=5, symbol="JUP")]
    # So many that the newest lies before what the gateway reads when it starts.
    since = [price(second, second=second) for second in range(1, 99)]
    platform.store(with_ids(platform, newest + since))
    async with gateway(settings) as running, running.phone() as phone, running.phone() as every:
        await every.subscribe("prices", conflate=False)
        await every.next("snapshot")
        await every.nothing_more()
        await phone.subscribe("prices")
        snapshot = {row["symbol"]: row["price"] for row in (await phone.next("snapshot"))["data"]}
        assert snapshot == {"SOL": "90", "JUP": "7"}
        late = [price(92, second=99), price(93, second=100, slot=1)]
        await asyncio.to_thread(with_ids, platform, late)
        await every.updates(2)
        await asyncio.to_thread(with_ids, platform, [price(94, second=100, slot=4)])
        assert (await phone.next("update"))["data"]["price"] == "94"


def with_ids(platform: Platform, prices: list[PriceUpdated]) -> list[Published]:
    """Publish prices under the ids that they have."""
    numbered = platform.numbered(prices)
    return platform.send([replace(new, event_id=one.event_id) for new, one in zip(numbered, prices, strict=True)])


async def test_aggregates_show_the_statistics_and_engine_the_newest_beat(platform: Platform) -> None:
    with psycopg.connect(platform.settings.database.get_secret_value()) as connection:
        connection.execute(
            "insert into windows (account, strategy, symbol, kind, start_at, revision, trades, wins, realized_pnl)"
            " values ('a', '*', '*', 'DAY', '2025-10-10 04:00Z', 3, 4, 1, 12.5), ('b', '*', '*', 'MINUTE',"
            " '2025-10-10 13:30Z', 1, 0, 0, 0)"
        )
    beats = [
        EngineHeartbeat(engine="sentio", version="1", mode="mock", state=state, beat_at=START)
        for state in ("starting", "running")
    ]
    platform.publish(beats)
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("aggregates")
        rows = (await phone.next("snapshot"))["data"]
        assert [(row["account"], row["kind"], row["revision"], row["win_rate"]) for row in rows] == [
            ("a", "DAY", 3, "0.25"),
            ("b", "MINUTE", 1, None),
        ]
        await phone.subscribe("aggregates.a")
        assert len((await phone.next("snapshot"))["data"]) == 1
        await phone.subscribe("engine")
        assert [row["state"] for row in (await phone.next("snapshot"))["data"]] == ["running"]


async def test_heartbeat_says_where_each_live_channel_stands(platform: Platform) -> None:
    settings = platform.settings.model_copy(update={"stream_heartbeat_s": 0.05})
    async with gateway(settings) as running, running.phone() as phone:
        await phone.subscribe("trades.SPY")
        await phone.next("snapshot")
        others = [trade(number, symbol="TQQQ") for number in range(3)]
        await asyncio.to_thread(platform.publish, others)
        while (
            sum(
                decode(
                    (await phone.next("heartbeat"))["cursors"].get("trades.SPY", encode(Cursor(b"12345678", ())))
                ).offsets
            )
            < 3
        ):
            pass
