"""The WebSocket gateway when the broker, the database, a topic or itself goes away."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from pydantic import SecretStr
from websockets.asyncio.client import connect

from gateway import database as database_of_gateway
from gateway.stream import feed
from sentio.stack.kafka import KafkaServer
from sentio.testing.servers import Kafka, fresh_prefix
from tests.gateways import DEADLINE_S, Phone, Platform, gateway, heard_ids, ids, make_platform, process, trades

pytestmark = pytest.mark.anyio


@pytest.fixture
def platform(kafka: Kafka, database: str) -> Iterator[Platform]:
    """Without topics as yet."""
    with make_platform(kafka.bootstrap, kafka.prefix, database) as made:
        yield made


async def test_stop_tells_clients_to_come_back(platform: Platform) -> None:
    platform.make_topics()
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("trades")
        await phone.next("snapshot")
        began_s = time.monotonic()
        running.stop.set()
        code, reason = await phone.close_code()
        await running.task
        assert time.monotonic() - began_s < 5
        assert code == 1012
        assert "cursor" in reason


async def test_sigterm_ends_the_process_in_order(platform: Platform) -> None:
    platform.make_topics()
    async with process(platform.settings) as running, asyncio.timeout(DEADLINE_S):
        async with connect(running.address) as socket:
            phone = Phone(socket)
            await phone.subscribe("trades")
            await phone.next("snapshot")
            running.send_signal(signal.SIGTERM)
            assert (await phone.close_code())[0] == 1012
        assert "Traceback" not in await running.ended()


async def test_workers_share_a_port_take_each_others_cursors_and_are_replaced(platform: Platform) -> None:
    platform.make_topics()
    async with process(platform.settings, stream_workers=2) as running, asyncio.timeout(2 * DEADLINE_S):
        assert await running.next_address() == running.address
        cursor: str | None = None
        served_by: set[int] = set()
        published = 0
        while len(served_by) < 2 or published < 3:  # the kernel chooses
            async with connect(running.address, max_size=None) as socket:
                phone = Phone(socket)
                await phone.subscribe("trades", cursor)
                if cursor is None:
                    cursor = (await phone.next("snapshot"))["cursor"]
                [one] = await asyncio.to_thread(platform.publish, trades(1, published))
                published += 1
                update = await phone.next("update")
                assert heard_ids([update]) == ids([one])
                cursor = update["cursor"]
                served_by.add(_owner(socket.remote_address[1], socket.local_address[1], running.pid))
        os.kill(served_by.pop(), signal.SIGKILL)
        assert await running.next_address() == running.address  # another one
        running.send_signal(signal.SIGTERM)
        assert "Traceback" not in await running.ended()


def _owner(port: int, peer_port: int, parent: int) -> int:
    """Which child of a process has the connection to this peer."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    [inode] = [
        row[9]
        for row in rows
        if int(row[1].partition(":")[2], 16) == port and int(row[2].partition(":")[2], 16) == peer_port
    ]
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    for child in children:
        for descriptor in Path(f"/proc/{child}/fd").iterdir():
            with suppress(OSError):
                if descriptor.readlink().name == f"socket:[{inode}]":
                    return int(child)
    raise AssertionError("no worker has it")


async def test_topics_that_come_later_are_followed_from_their_first_message(platform: Platform) -> None:
    async with gateway(platform.settings, wait=False) as running, running.phone() as phone:
        await phone.subscribe("trades")
        error = await phone.next("error")
        assert (error["code"], error["channel"], error["retry_s"]) == ("unavailable", "trades", 5)
        assert (await running.get("/readyz")).startswith("503")
        await asyncio.to_thread(platform.make_topics)
        published = await asyncio.to_thread(platform.publish, trades(5))
        await phone.subscribe("trades")
        assert (await phone.next("snapshot"))["data"] == []
        await running.ready()
        assert sorted(heard_ids(await phone.updates(5))) == sorted(ids(published))


async def test_database_that_is_gone_costs_snapshots_only(platform: Platform) -> None:
    platform.make_topics()
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("trades")
        await phone.next("snapshot")
        first = await asyncio.to_thread(platform.publish, trades(3))
        cursor = (await phone.updates(3))[1]["cursor"]
    elsewhere = SecretStr("postgresql://nobody@127.0.0.1:1/nothing")
    settings = platform.settings.model_copy(update={"database": elsewhere})
    async with gateway(settings, wait=False) as running, running.phone() as phone:
        await phone.subscribe("signals")
        error = await phone.next("error")
        assert (error["code"], error["channel"]) == ("unavailable", "signals")
        await phone.subscribe("trades", cursor)
        assert len(await phone.updates(1)) == 1
        second = await asyncio.to_thread(platform.publish, trades(2, 3))
        assert sorted(heard_ids(await phone.updates(2))) == sorted(ids(second))
        assert (await running.get("/readyz")).startswith("503 Service Unavailable database:")
        assert (await running.get("/livez")) == "200 OK ok"
    assert len(first) == 3


async def test_query_that_takes_too_long_costs_its_own_clients_only(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_of_gateway, "STATEMENT_TIMEOUT_MS", 500)
    platform.make_topics()
    async with gateway(platform.settings) as running, running.phone() as live, running.phone() as waiting:
        await live.subscribe("trades")
        await live.next("snapshot")
        with psycopg.connect(platform.settings.database.get_secret_value()) as blocking:
            blocking.execute("lock table signals in access exclusive mode")
            await waiting.subscribe("signals")
            await waiting.next("ack")
            published = await asyncio.to_thread(platform.publish, trades(5))
            assert sorted(heard_ids(await live.updates(5))) == sorted(ids(published))
            await live.nothing_more()
            error = await waiting.next("error")
            assert (error["code"], error["channel"]) == ("unavailable", "signals")
        await waiting.subscribe("signals")
        await waiting.next("snapshot")


async def test_nothing_is_lost_over_an_outage_of_the_broker(own_kafka: KafkaServer, database: str) -> None:
    with make_platform(own_kafka.address or "", fresh_prefix(), database) as platform:
        platform.make_topics()
        async with gateway(platform.settings) as running, running.phone() as phone:
            await phone.subscribe("trades")
            await phone.next("snapshot")
            first = await asyncio.to_thread(platform.publish, trades(5))
            heard = await phone.updates(5)
            await asyncio.to_thread(own_kafka.kill)
            await phone.nothing_more()  # still served
            await asyncio.to_thread(own_kafka.start)
            second = await asyncio.to_thread(platform.publish, trades(5, 5))
            heard += await phone.updates(5)
            assert heard_ids(heard[:5]) != heard_ids(heard[5:])
            assert sorted(heard_ids(heard)) == sorted(ids(first + second))


async def test_gateway_that_starts_without_a_broker_serves_when_it_comes(own_kafka: KafkaServer, database: str) -> None:
    with make_platform(own_kafka.address or "", fresh_prefix(), database) as platform:
        platform.make_topics()
        published = platform.publish(trades(5))
        own_kafka.kill()
        async with gateway(platform.settings, wait=False) as running, running.phone() as phone:
            assert (await running.get("/readyz")).startswith("503")
            await phone.subscribe("trades")
            assert (await phone.next("error"))["code"] == "unavailable"
            await asyncio.to_thread(own_kafka.start)
            await running.ready()
            await phone.subscribe("trades")
            assert sorted(heard_ids(await phone.updates(5))) == sorted(ids(published))


async def test_topic_that_is_made_again_restarts_its_channels(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "REFRESH_S", 0.2)
    platform.make_topics()
    first = platform.publish(trades(3))
    platform.store(first)
    async with gateway(platform.settings) as running, running.phone() as phone:
        await phone.subscribe("trades")
        await phone.next("snapshot")
        admin = AdminClient({"bootstrap.servers": platform.settings.kafka})
        for future in admin.delete_topics([platform.topic("TradeExecuted")]).values():
            await asyncio.to_thread(future.result, 10)
        await asyncio.to_thread(platform.make_topics)
        assert (await phone.next("resume_failed"))["channel"] == "trades"
        assert len((await phone.next("snapshot"))["data"]) == 3
        second = await asyncio.to_thread(platform.publish, trades(4, 3))
        assert sorted(heard_ids(await phone.updates(4))) == sorted(ids(second))
