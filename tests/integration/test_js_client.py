"""The JavaScript client in Node and in Chromium: on a real gateway that comes and goes, and on a scripted one."""

import asyncio
import time
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.stream import admission, session
from gateway.stream.descriptors import PythonDescriptors
from sentio.stack.processes import free_port
from tests.gateways import Platform, gateway, ids, trade, trades
from tests.javascript import FOLDER, Place, build, following, needs
from tests.scripted import Guest, scripted
from tests.stages import stage
from tests.tokens import edwards, keys_file

pytestmark = pytest.mark.anyio

SIGNER = edwards("now")


@pytest.fixture(scope="module")
def built() -> None:
    needs("node")
    build()


@pytest.fixture(params=["node", "chromium"])
def place(request: pytest.FixtureRequest, built: None) -> Place:
    needs(request.param)
    found: Place = request.param
    return found


async def test_units(built: None) -> None:
    process = await asyncio.create_subprocess_exec(
        "node", "--test", "test/units.test.js", cwd=FOLDER, stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert b"# pass 0" not in said


async def test_what_is_heard_over_restarts_of_gateway_and_client_is_what_was_published(
    platform: Platform, place: Place, tmp_path: Path
) -> None:
    settings = platform.settings.model_copy(update={"stream_port": free_port(None), "stream_ring": 100})
    url = f"ws://127.0.0.1:{settings.stream_port}"
    published = await asyncio.to_thread(platform.publish, trades(50))
    async with following(place, url, "trades", cache=str(tmp_path / "cache")) as first:
        # The gateway is not there yet.
        async with gateway(settings):
            assert (await first.next())["type"] == "snapshot"
            await first.updates(50)
        for number in range(2):
            published += await asyncio.to_thread(platform.publish, trades(150, 50 + 150 * number))
            async with gateway(settings):
                await first.updates(150)
        assert first.types.count("resumed") == 2
        await first.close()
    published += await asyncio.to_thread(platform.publish, trades(150, 350))
    async with following(place, url, "trades", cache=str(tmp_path / "cache")) as second:
        # What it showed last is there before any gateway is.
        shown = await second.next()
        assert (shown["type"], shown["cached"]) == ("snapshot", True)
        assert [event["event_id"] for event in shown["events"]] == first.event_ids[-100:]
        async with gateway(settings):
            await second.updates(150)
            await second.close()
    assert sorted(first.event_ids + second.event_ids) == sorted(ids(published))
    assert "gap" not in first.types + second.types
    assert second.types.count("resumed") == 1
    update = next(item for item in second.items if item["type"] == "update")
    assert (update["kind"], update["event"]["price"]) == ("trades", "101.2500000001")


async def test_a_stream_may_begin_at_a_time(platform: Platform, place: Place, tmp_path: Path) -> None:
    began = datetime.now(UTC) - timedelta(hours=1)
    times_ms = [int((began + timedelta(minutes=number)).timestamp() * 1000) for number in range(20)]
    published = await asyncio.to_thread(platform.send, platform.numbered(trades(20)), times_ms)
    since = (began + timedelta(minutes=12)).isoformat()
    async with gateway(platform.settings) as running:
        url, cache = f"ws://127.0.0.1:{running.port}", str(tmp_path / "cache")
        async with following(place, url, "trades", cache=cache, since=since) as client:
            await client.updates(8)
            await client.close()
    expected = [one for one in published if one.event.sequence >= 12]
    assert sorted(client.event_ids) == sorted(ids(expected))
    assert "gap" not in client.types


async def test_clients_of_a_gateway_that_drains_go_on_with_the_next(
    platform: Platform, place: Place, tmp_path: Path
) -> None:
    settings = platform.settings.model_copy(update={"stream_port": free_port(None), "stream_drain_s": 1.0})
    url = f"ws://127.0.0.1:{settings.stream_port}"
    async with AsyncExitStack() as followers:
        clients = [
            await followers.enter_async_context(following(place, url, "trades", cache=str(tmp_path / str(number))))
            for number in range(2)
        ]
        async with gateway(settings):
            for client in clients:
                assert (await client.next())["type"] == "snapshot"
            published = await asyncio.to_thread(platform.publish, trades(20))
            for client in clients:
                await client.updates(20)
        published += await asyncio.to_thread(platform.publish, trades(10, 20))
        async with gateway(settings):
            for client in clients:
                await client.updates(10)
                await client.close()
    for client in clients:
        assert sorted(client.event_ids) == sorted(ids(published))
        assert client.types.count("resumed") == 1
        assert "gap" not in client.types


async def test_a_request_that_came_too_soon_is_made_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "REQUESTS_S", 0.5)
    channels = [f"trades.{number:0100}" for number in range(200)]  # too many to ask for in one request
    async with stage(PythonDescriptors(), stream_requests=1) as on:
        await on.follow("TradeExecuted")
        url, cache = f"ws://127.0.0.1:{on.port}", str(tmp_path / "cache")
        async with following(place, url, *channels, cache=cache) as client:
            heard = [await client.next() for _ in channels]
            await client.close()
    assert {item["channel"] for item in heard if item["type"] == "snapshot"} == set(channels)


async def test_a_token_is_renewed_on_the_connection_before_it_ends(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LEEWAY_S", 0.0)
    async with stage(PythonDescriptors(), auth_keys=keys_file(tmp_path, SIGNER)) as running:
        await running.follow("TradeExecuted")
        url, cache = f"ws://127.0.0.1:{running.port}", str(tmp_path / "cache")
        async with following(place, url, "trades", cache=cache, signed=True) as client:
            for lasts_s in (3, 60):
                assert await client.next() == {"type": "token"}
                await client.tell(SIGNER.token("trades", lasts_s=lasts_s))
                if lasts_s == 3:
                    ends_s = time.time() + lasts_s
                    assert (await client.next())["type"] == "snapshot"
            while time.time() < ends_s + 0.5:  # noqa: ASYNC110 - nothing says that a token has ended
                await asyncio.sleep(0.05)
            await running.publish([trade(1)])
            assert (await client.next())["type"] == "update"
            assert list(running.sockets.products.counts) == ["sentio-js/0.1.0"]


async def test_a_token_that_is_no_good_or_grants_too_little_ends_the_stream(place: Place, tmp_path: Path) -> None:
    async with stage(PythonDescriptors(), auth_keys=keys_file(tmp_path, SIGNER)) as running:
        for token, code in (("nonsense", "unauthorized"), (SIGNER.token("signals"), "forbidden")):
            url, cache = f"ws://127.0.0.1:{running.port}", str(tmp_path / code)
            async with following(place, url, "trades", cache=cache, token=token) as client:
                end = await client.next()
                assert (end["type"], end["name"], end["code"]) == ("end", "Refused", code)


@pytest.mark.parametrize("code", [4400, 4401, 4403, 4429])
async def test_44xx_ends_the_stream_and_says_why(place: Place, tmp_path: Path, code: int) -> None:
    async def act(guest: Guest) -> None:
        await guest.subscribed()
        await guest.close(code, "for a reason")

    async with scripted(act) as server, following(place, server.url, "trades", cache=str(tmp_path / "cache")) as client:
        end = await client.next()
    assert (end["name"], end["code"]) == ("Closed", code)
    assert end["message"].endswith("for a reason")


async def test_45xx_1012_broken_and_silent_connections_come_back_with_their_cursors(
    place: Place, tmp_path: Path
) -> None:
    async def begin(guest: Guest) -> None:
        await guest.subscribed()
        await guest.snapshot("c0")
        await guest.update(1)
        await guest.close(4508)

    async def restart(guest: Guest) -> None:
        assert (await guest.subscribed())["cursor"] == {"trades": "c1"}
        await guest.update(2, 1)
        await guest.close(1012)

    async def broken(guest: Guest) -> None:
        assert (await guest.subscribed())["cursor"] == {"trades": "c2"}
        await guest.update(3, 2)
        guest.socket.transport.abort()

    async def silent(guest: Guest) -> None:
        await guest.greet(heartbeat_s=0.1)
        await guest.stay()

    async def last(guest: Guest) -> None:
        assert (await guest.subscribed())["cursor"] == {"trades": "c3"}
        await guest.update(4, 3)
        await guest.stay()

    acts = (begin, restart, broken, silent, last)
    async with (
        scripted(*acts) as server,
        following(place, server.url, "trades", cache=str(tmp_path / "cache")) as client,
    ):
        await client.updates(4)
        await client.close()
    assert client.types == ["snapshot", "update", *["resumed", "update"] * 3, "end"]


async def test_a_message_that_did_not_come_is_fetched_on_the_same_connection(place: Place, tmp_path: Path) -> None:
    async def act(guest: Guest) -> None:
        await guest.subscribed()
        await guest.update(1)
        await guest.update(3, 2)
        request = await guest.heard()
        assert request["cursor"] == {"trades": "c1"}
        await guest.update(4, 3)  # of the subscription that is being replaced
        await guest.say(type="ack", id=request["id"], channels=["trades"])
        for number in (2, 3, 4):
            await guest.update(number, number - 1)
        await guest.stay()

    async with scripted(act) as server, following(place, server.url, "trades", cache=str(tmp_path / "cache")) as client:
        await client.updates(4)
        await client.close()
    assert client.types == ["update", "gap", "resumed", "update", "update", "update", "end"]
