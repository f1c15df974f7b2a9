"""Gateways on one Redis: limits that count all of them, and what becomes of that when Redis goes and comes back."""

import asyncio
import json
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from redis import Redis
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.frames import Frame, Opcode

from gateway import shared
from gateway.shared import BOUND_S
from gateway.stream import registry
from gateway.stream.connection import Connection
from gateway.stream.descriptors import PythonDescriptors
from sentio.config import StreamSettings
from sentio.stack.redis import RedisServer
from tests.gateways import DEADLINE_S, process
from tests.pairs import SIGNER, pair, path_of, whose
from tests.stages import HANDSHAKE, Stage, stage
from tests.tokens import keys_file

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("redis_tried_at_once")]


async def refused(running: Stage, path: str = "", **options: Any) -> str:
    with pytest.raises(InvalidStatus) as refusal:
        async with running.phone(path, **options):
            pass
    assert refusal.value.response.status_code == 429
    assert int(refusal.value.response.headers["Retry-After"]) > 0
    return refusal.value.response.body.decode()


async def test_limits_count_the_connections_of_all_gateways(own_redis: RedisServer, tmp_path: Path) -> None:
    limits = {"stream_user_connections": 2, "stream_address_connections": 3}
    async with pair(own_redis, tmp_path, **limits) as made:
        one, other = made.both
        async with AsyncExitStack() as open_ones:
            await open_ones.enter_async_context(one.phone(path_of("ada"), **whose("203.0.113.9")))
            second = await open_ones.enter_async_context(other.phone(path_of("ada"), **whose("203.0.113.9")))
            for full in made.both:
                assert "connections of ada" in await refused(full, path_of("ada"))
                async with full.phone(path_of("bob")):
                    pass
            await open_ones.enter_async_context(one.phone(**whose("203.0.113.9")))
            assert "from your address" in await refused(other, path_of("bob"), **whose("203.0.113.9"))
            async with other.phone(**whose("203.0.113.10")):
                pass
            await second.socket.close()
            await made.knows({"user ada": 1, "address 203.0.113.9": 2})
            async with one.phone(path_of("ada")):
                pass
        await made.knows({})


async def test_auth_takes_a_place_of_the_user_on_all_gateways(own_redis: RedisServer, tmp_path: Path) -> None:
    async with pair(own_redis, tmp_path, stream_user_connections=1) as made:
        one, other = made.both
        async with one.phone() as first, other.phone() as second:
            await first.say(id=1, op="auth", token=SIGNER.token("signals", sub="ada"))
            await first.say(id=2, op="subscribe", channels=["signals"])  # does not wait for the answer
            assert (await first.next("ack"))["user"] == "ada"
            assert (await first.next("ack"))["channels"] == ["signals"]
            await second.say(id=3, op="auth", token=SIGNER.token("signals", sub="ada"))
            await second.say(id=4, op="subscribe", channels=["signals"])
            assert (await second.next("error"))["code"] == "too_many_connections"
            assert (await second.next("error"))["code"] == "forbidden"
            await first.say(id=5, op="auth", token=SIGNER.token("signals", sub="ada"))  # takes no other place
            assert (await first.next("ack"))["user"] == "ada"
            await made.knows({"user ada": 1, "address 127.0.0.1": 2})
        await made.knows({})


async def test_handshake_that_fails_takes_no_place_anywhere(own_redis: RedisServer, tmp_path: Path) -> None:
    async with pair(own_redis, tmp_path, stream_origins="https://app.example.com") as made:
        for gateway in made.both:
            with pytest.raises(InvalidStatus):
                async with gateway.phone(origin="https://evil.example.com"):
                    pass
        async with made.both[0].phone():
            await made.knows({"address 127.0.0.1": 1})


async def test_client_that_does_not_wait_for_the_answer_is_heard_behind_it(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    async with pair(own_redis, tmp_path) as made:
        one, _ = made.both
        first, second = (
            Frame(Opcode.TEXT, json.dumps({"id": number, "op": "ping"}).encode()).serialize(mask=True)
            for number in (1, 2)
        )
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
        assert own_redis.pid
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            writer.write(HANDSHAKE + first)
            while not one.sockets._answering:  # noqa: ASYNC110 - until Redis is asked
                await asyncio.sleep(0.005)
            writer.write(second)
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)
        async with asyncio.timeout(DEADLINE_S):
            said = await reader.readuntil(b'"id":2')
        assert said.startswith(b"HTTP/1.1 101 ")
        assert said.index(b'"greeting"') < said.index(b'"id":1')
        writer.close()


async def test_pusher_client_of_an_unknown_app_takes_no_place(own_redis: RedisServer, tmp_path: Path) -> None:
    pusher = {"pusher_key": "key", "pusher_secret": SecretStr("secret")}
    async with pair(own_redis, tmp_path, **pusher) as made:
        url = f"ws://127.0.0.1:{made.both[0].port}/app"
        async with connect(f"{url}/key?protocol=7"), connect(f"{url}/other?protocol=7") as unknown:
            await unknown.wait_closed()
            assert unknown.close_code == 4001
            await made.knows({"address 127.0.0.1": 1})
        await made.knows({})


async def test_outage_leaves_everyone_connected_and_each_gateway_its_own_limits(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    async with pair(own_redis, tmp_path, stream_user_connections=2) as made, AsyncExitStack() as open_ones:
        one, other = made.both
        phones = [await open_ones.enter_async_context(gateway.phone(path_of("ada"))) for gateway in made.both]
        later = await open_ones.enter_async_context(one.phone())
        assert "connections of ada" in await refused(one, path_of("ada"))
        own_redis.kill()
        phones.append(await open_ones.enter_async_context(one.phone(path_of("ada"))))
        assert "connections of ada" in await refused(one, path_of("ada")), "its own two are open"
        left = await open_ones.enter_async_context(other.phone(path_of("bob")))
        await made.joined(is_so=False)
        await later.say(id=1, op="auth", token=SIGNER.token("trades", sub="cyd"))
        assert (await later.next("ack"))["user"] == "cyd"
        await left.socket.close()
        own_redis.start()
        await made.joined()
        await made.knows({"user ada": 3, "user cyd": 1, "address 127.0.0.1": 4})
        assert "connections of ada" in await refused(other, path_of("ada")), "three are open on both"
        for phone in phones:
            await phone.nothing_more()


@pytest.mark.parametrize("trouble", [("SCRIPT", "FLUSH"), ("FLUSHALL",), ("REPLICAOF", "127.0.0.1", "1")])
async def test_redis_that_forgot_or_only_reads_is_an_outage(
    own_redis: RedisServer, tmp_path: Path, trouble: tuple[str, ...]
) -> None:
    async with pair(own_redis, tmp_path, stream_user_connections=1) as made:
        one, other = made.both
        with Redis.from_url(own_redis.address) as redis:
            async with one.phone(path_of("ada")) as first:
                redis.execute_command(*trouble)
                async with other.phone(path_of("ada")), one.phone(path_of("bob")):
                    pass
                if trouble[0] == "REPLICAOF":
                    tried: set[str] = set()
                    while len(tried) < 6:
                        tried |= {gateway.registry._instance for gateway in made.both if gateway.registry}
                        await asyncio.sleep(0.005)
                redis.execute_command("REPLICAOF", "NO", "ONE")
                await made.joined()
                await made.knows({"user ada": 1, "address 127.0.0.1": 1})
                assert "connections of ada" in await refused(other, path_of("ada"))
                await first.nothing_more()


async def test_redis_that_does_not_answer_costs_one_handshake_its_bound(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(own_redis, tmp_path) as made:
        monkeypatch.setattr(registry, "PAUSE_S", DEADLINE_S)
        monkeypatch.setattr(registry, "LONGEST_PAUSE_S", DEADLINE_S)
        one, _ = made.both
        clock = asyncio.get_running_loop().time
        assert own_redis.pid
        os.kill(own_redis.pid, signal.SIGSTOP)
        try:
            began_s = clock()
            async with one.phone(path_of("ada")):
                assert BOUND_S <= clock() - began_s < BOUND_S + 5
            assert one.registry
            assert not one.registry.joined, "the next ones do not ask"
        finally:
            os.kill(own_redis.pid, signal.SIGCONT)


async def test_connection_that_goes_while_the_others_are_asked_takes_no_place(
    own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (registry, shared):
        monkeypatch.setattr(module, "BOUND_S", DEADLINE_S)
    async with pair(own_redis, tmp_path) as made:
        one, _ = made.both
        async with one.phone() as later:
            await made.knows({"address 127.0.0.1": 1})
            assert own_redis.pid
            assert one.registry
            asked: list[str | None] = []
            enter = one.registry.enter

            async def counted(connection: Connection, user: str | None) -> str | None:
                asked.append(user)
                return await enter(connection, user)

            monkeypatch.setattr(one.registry, "enter", counted)
            os.kill(own_redis.pid, signal.SIGSTOP)
            try:
                coming = asyncio.create_task(_refused_by_nobody(one, path_of("bob")))
                await later.say(id=1, op="auth", token=SIGNER.token("signals", sub="ada"))
                while len(asked) < 2:  # noqa: ASYNC110 - until both wait
                    await asyncio.sleep(0.005)
                for connection in list(one.sockets.all):
                    connection.abort()
                await coming
            finally:
                os.kill(own_redis.pid, signal.SIGCONT)
        async with one.phone(path_of("cyd")):
            await made.knows({"user cyd": 1, "address 127.0.0.1": 1})


ANOTHER = """
import asyncio, sys
from pathlib import Path
from pydantic import SecretStr
from gateway.stream import registry
from gateway.stream.descriptors import PythonDescriptors
from tests.stages import stage

async def main():
    options = {"redis": SecretStr(sys.argv[1]), "auth_keys": Path(sys.argv[2]), "stream_user_connections": 1}
    async with stage(PythonDescriptors(), **options) as running:
        while not running.registry.joined:
            await asyncio.sleep(0.01)
        print(running.port, flush=True)
        await asyncio.Event().wait()

registry.LEASE_S = 3
asyncio.run(main())
"""


async def test_places_of_a_killed_gateway_are_free_again_after_its_lease(
    own_redis: RedisServer, tmp_path: Path
) -> None:
    options = {
        "redis": SecretStr(own_redis.address),
        "auth_keys": keys_file(tmp_path, SIGNER),
        "stream_user_connections": 1,
    }
    another = await asyncio.create_subprocess_exec(
        sys.executable, "-c", ANOTHER, own_redis.address, str(options["auth_keys"]),
        stdout=asyncio.subprocess.PIPE, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    try:
        async with stage(PythonDescriptors(), **options) as running, asyncio.timeout(DEADLINE_S):
            assert another.stdout
            port = int(await another.stdout.readline())
            while not (running.registry and running.registry.joined):  # noqa: ASYNC110 - it has no event for it
                await asyncio.sleep(0.005)
            async with connect(f"ws://127.0.0.1:{port}{path_of('ada')}") as there:
                await there.recv()
                assert "connections of ada" in await refused(running, path_of("ada"))
                another.kill()
                await another.wait()
                assert "connections of ada" in await refused(running, path_of("ada")), "as long as the lease lasts"
                while True:
                    try:
                        async with running.phone(path_of("ada")):
                            break
                    except InvalidStatus:
                        await asyncio.sleep(0.02)
    finally:
        if another.returncode is None:
            another.kill()
            await another.wait()


async def test_workers_of_one_gateway_count_together_and_leave_nothing(own_redis: RedisServer) -> None:
    """Neither broker nor database answer: nobody who connects notices."""
    settings = StreamSettings(kafka="127.0.0.1:1", database=SecretStr("postgresql://127.0.0.1:1/none"))
    prefix = "sentio:gateway:"
    options = {"redis": own_redis.address, "stream_workers": 2, "stream_address_connections": 3}
    async with process(settings, **options) as running, AsyncExitStack() as open_ones, asyncio.timeout(DEADLINE_S):
        with Redis.from_url(own_redis.address, decode_responses=True) as redis:
            while redis.zcard(f"{prefix}instances") < 2:  # noqa: ASYNC110 - of another process
                await asyncio.sleep(0.02)
            for _ in range(3):
                await open_ones.enter_async_context(connect(running.address))
            for _ in range(5):  # the kernel chooses the worker
                with pytest.raises(InvalidStatus, match="429"):
                    await connect(running.address)
            assert redis.ttl(redis.keys(f"{prefix}clients:*")[0]) > 0
            running.send_signal(signal.SIGTERM)
            assert "Traceback" not in await running.ended()
            assert redis.keys(f"{prefix}*") == []


async def _refused_by_nobody(running: Stage, path: str) -> None:
    with pytest.raises(InvalidMessage):
        async with running.phone(path):
            pass
