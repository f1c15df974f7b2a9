"""Who is connected to any of the gateways on one Redis, as operators and the watcher see it; `sentio clients`."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr
from redis import Redis

from gateway.stream import registry
from gateway.watch.meters import connected
from sentio.config import WatchSettings, load
from sentio.stack.redis import RedisServer
from tests.gateways import DEADLINE_S
from tests.pairs import pair, path_of, whose

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("redis_tried_at_once")]


async def command(*words: str) -> tuple[int, str]:
    """Exit status of `sentio`, and what it says."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sentio", *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    async with asyncio.timeout(DEADLINE_S):
        said, _ = await started.communicate()
    assert started.returncode is not None
    return started.returncode, said.decode()


async def listening(server: RedisServer, count: int) -> None:
    """Wait until so many gateways hear operators."""
    channel = "sentio:gateway:disconnect"
    with Redis.from_url(server.address, decode_responses=True) as redis:
        async with asyncio.timeout(DEADLINE_S):
            while redis.pubsub_numsub(channel) != [(channel, count)]:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.005)


async def test_user_is_seen_and_disconnected_on_all_gateways(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTIO_REDIS", own_redis.address)
    odd = "ada [x]* lovelace"
    async with pair(own_redis, tmp_path) as made:
        one, other = made.both
        async with (
            one.phone(path_of(odd), **whose("203.0.113.9")) as first,
            other.phone(path_of(odd)) as second,
            other.phone(path_of("ada")) as ada,
            other.phone() as nobody,
        ):
            await second.subscribe("trades")
            status, everyone = await command("clients", "list", "--json")
            assert status == 0
            assert sorted(client["user"] for client in json.loads(everyone)) == ["", "ada", odd, odd]
            status, shown = await command("clients", "list", odd, "--json")
            listed = json.loads(shown)
            assert {client["address"] for client in listed} == {"203.0.113.9", "127.0.0.1"}
            assert len({client["instance"] for client in listed}) == 2
            assert datetime.fromisoformat(listed[0]["opened_at"]) <= datetime.now(UTC)
            await listening(own_redis, 2)
            with Redis.from_url(own_redis.address) as redis:
                redis.publish("sentio:gateway:disconnect", b"\xff")  # somebody else's noise
            done = asyncio.create_task(command("clients", "disconnect", odd))
            for phone in (first, second):
                assert await phone.close_code() == (4403, "disconnected by an operator")
            assert await done == (0, f"{odd}: 2 connections closed; 2 instances heard of it\n")
            assert await command("clients", "list", odd, "--json") == (0, "[]\n")
            await ada.nothing_more()
            await nobody.nothing_more()
            status, table = await command("clients", "list")
            assert "2 connections" in table
            assert "ada" in table


async def test_watcher_counts_clients_by_gateway_and_by_what_they_say_they_are(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    async with pair(own_redis, tmp_path) as made, AsyncExitStack() as open_ones:
        for running, products in zip(made.both, (("app/1.0", "app/1.0", "app/2.0"), ("app/1.0",)), strict=True):
            for product in products:
                await open_ones.enter_async_context(running.phone(f"/?client={product}"))
        watching = load(WatchSettings, redis=SecretStr(own_redis.address))
        counts: dict[str, dict[str, int]] = {}
        for row in await asyncio.to_thread(connected, watching) or ():
            counts.setdefault(row["instance"], {})[row["client"]] = row["count"]
        assert sorted(counts.values(), key=len) == [{"app/1.0": 1}, {"app/1.0": 2, "app/2.0": 1}]
        # As a gateway of an earlier version has it, in the middle of a restart of all of them.
        with Redis.from_url(own_redis.address) as redis:
            redis.hset(f"sentio:gateway:clients:{min(counts)}", "99 ada", "1764000000000 203.0.113.9")
        found = await asyncio.to_thread(connected, watching)
        assert {"instance": min(counts), "client": "unknown", "count": 1} in (found or ())
    assert await asyncio.to_thread(connected, watching) == []
    assert connected(load(WatchSettings)) is None


async def test_user_whom_no_gateway_hears_of_is_not_said_to_be_gone(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTIO_REDIS", own_redis.address)
    async with pair(own_redis, tmp_path) as made, made.both[0].phone(path_of("ada")) as phone:
        await listening(own_redis, 2)
        monkeypatch.setattr(registry, "PAUSE_S", DEADLINE_S)
        with Redis.from_url(own_redis.address) as redis:
            redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await listening(own_redis, 0)
        status, said = await command("clients", "disconnect", "ada")
        assert status == 1
        assert "ada: 0 connections closed; 0 instances heard of it; 1 are open still" in said
        await phone.nothing_more()


@pytest.mark.parametrize(
    ("url", "status", "words"),
    [
        ("", 2, "SENTIO_REDIS is not set"),
        ("http://127.0.0.1", 2, "it is redis://"),
        ("redis://127.0.0.1:1", 1, "SENTIO_REDIS: "),
    ],
)
async def test_command_without_redis_says_so(
    monkeypatch: pytest.MonkeyPatch, url: str, status: int, words: str
) -> None:
    if url:
        monkeypatch.setenv("SENTIO_REDIS", url)
    ended, said = await command("clients", "list")
    assert (ended, words in said) == (status, True), said
