"""The Python client on a real gateway that comes and goes."""

import asyncio
import time
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.stream import admission, session
from gateway.stream.descriptors import PythonDescriptors
from sentio.stack.processes import free_port
from sentio_client import (
    FileCursors,
    Gap,
    Item,
    Refused,
    Rejected,
    Snapshot,
    Stream,
    TradeExecuted,
    Update,
)
from tests.gateways import DEADLINE_S, Platform, gateway, ids, trade, trades
from tests.hearing import ends, event_ids, names, take, take_updates
from tests.stages import stage
from tests.tokens import edwards, keys_file

pytestmark = pytest.mark.anyio

SIGNER = edwards("now")


async def test_what_is_heard_over_restarts_of_gateway_and_client_is_what_was_published(
    platform: Platform, tmp_path: Path
) -> None:
    settings = platform.settings.model_copy(update={"stream_port": free_port(None), "stream_ring": 100})
    url = f"ws://127.0.0.1:{settings.stream_port}"
    published = await asyncio.to_thread(platform.publish, trades(50))
    heard: list[Item] = []
    async with Stream(url, ["trades"], cursors=FileCursors(tmp_path / "cursors")) as stream:
        # The gateway is not there yet.
        begin = asyncio.create_task(take(stream, 1))
        async with gateway(settings):
            [snapshot] = await begin
            assert isinstance(snapshot, Snapshot)
            heard += await take_updates(stream, 50)
        for round_ in range(3):
            published += await asyncio.to_thread(platform.publish, trades(150, 50 + 150 * round_))
            async with gateway(settings):
                again = await take_updates(stream, 150)
                assert names(again).count("Resumed") == 1
                heard += again
        assert stream.status.connections == 4
    async with gateway(settings), Stream(url, ["trades"], cursors=FileCursors(tmp_path / "cursors")) as stream:
        published += await asyncio.to_thread(platform.publish, trades(5, 500))
        heard += await take_updates(stream, 5)
    assert sorted(event_ids(heard)) == sorted(ids(published))
    assert not any(isinstance(item, Gap) for item in heard)
    first = next(item for item in heard if isinstance(item, Update))
    assert isinstance(first.event, TradeExecuted)


async def test_a_stream_may_begin_at_a_time(platform: Platform) -> None:
    began = datetime.now(UTC) - timedelta(hours=1)
    times_ms = [int((began + timedelta(minutes=number)).timestamp() * 1000) for number in range(20)]
    published = await asyncio.to_thread(platform.send, platform.numbered(trades(20)), times_ms)
    async with (
        gateway(platform.settings) as running,
        Stream(f"ws://127.0.0.1:{running.port}", ["trades"], since=began + timedelta(minutes=12)) as stream,
    ):
        heard = await take_updates(stream, 8)
        expected = [one for one in published if one.event.sequence >= 12]
        assert sorted(event_ids(heard)) == sorted(ids(expected))


async def test_clients_of_a_gateway_that_drains_go_on_with_the_next(platform: Platform) -> None:
    settings = platform.settings.model_copy(update={"stream_port": free_port(None), "stream_drain_s": 1.0})
    url = f"ws://127.0.0.1:{settings.stream_port}"
    async with AsyncExitStack() as streams:
        clients = [await streams.enter_async_context(Stream(url, ["trades"])) for _ in range(4)]
        async with gateway(settings):
            for client in clients:
                await take(client, 1)
            published = await asyncio.to_thread(platform.publish, trades(20))
            heard = [await take_updates(client, 20) for client in clients]
        again = [asyncio.create_task(take_updates(client, 10)) for client in clients]
        published += await asyncio.to_thread(platform.publish, trades(10, 20))
        async with gateway(settings):
            for number, items in enumerate(await asyncio.gather(*again)):
                heard[number] += items
        for items in heard:
            assert sorted(event_ids(items)) == sorted(ids(published))
            assert not any(isinstance(item, Gap) for item in items)


async def test_a_request_that_came_too_soon_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "REQUESTS_S", 0.5)
    channels = [f"trades.{number:0100}" for number in range(200)]  # too many to ask for in one request
    async with stage(PythonDescriptors(), stream_requests=1) as on:
        await on.follow("TradeExecuted")
        async with Stream(f"ws://127.0.0.1:{on.port}", channels) as stream:
            heard = await take(stream, 200)
            assert list(on.sockets.products.counts) == ["sentio-python/0.1.0"]
    assert {item.channel for item in heard if isinstance(item, Snapshot)} == set(channels)


async def test_what_was_not_finished_when_the_program_died_comes_again(platform: Platform, tmp_path: Path) -> None:
    async with gateway(platform.settings) as running:
        url = f"ws://127.0.0.1:{running.port}"

        async def program() -> None:
            async with Stream(url, ["trades"], cursors=FileCursors(tmp_path / "cursors")) as stream:
                await take(stream, 1)
                await asyncio.to_thread(platform.publish, trades(10))
                handled.extend(event_ids(await take_updates(stream, 6)))
                raise RuntimeError("the sixth was too much")

        handled: list[str] = []
        with pytest.raises(RuntimeError):
            await program()
        async with Stream(url, ["trades"], cursors=FileCursors(tmp_path / "cursors")) as stream:
            rest = event_ids(await take_updates(stream, 5))
    assert rest[0] == handled[-1]
    assert len(set(handled + rest)) == 10


async def test_a_token_is_renewed_on_the_connection_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LEEWAY_S", 0.0)
    shown: list[str] = []

    async def fresh() -> str:
        shown.append(SIGNER.token("trades", lasts_s=3))
        return shown[-1]

    async with stage(PythonDescriptors(), auth_keys=keys_file(tmp_path, SIGNER)) as running:
        await running.follow("TradeExecuted")
        async with Stream(f"ws://127.0.0.1:{running.port}", ["trades"], token=fresh) as stream:
            await take(stream, 1)
            waiting = asyncio.create_task(take(stream, 1))
            began_s = time.monotonic()
            while time.monotonic() < began_s + 4:  # noqa: ASYNC110 - beyond the end of the first
                await asyncio.sleep(0.05)
            await running.publish([trade(1)])
            assert names(await waiting) == ["Update"]
            assert stream.status.connections == 1
        assert len(shown) > 1


async def test_a_token_that_ended_is_replaced_and_the_stream_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "LEEWAY_S", 0.0)
    lasts_s = iter((2, 60))

    async def fetch() -> str:
        left_s = next(lasts_s, None)
        if left_s is None:
            raise TimeoutError("nobody signs at the moment")
        return SIGNER.token("trades", lasts_s=left_s)

    async with stage(PythonDescriptors(), auth_keys=keys_file(tmp_path, SIGNER)) as running:
        await running.follow("TradeExecuted")
        async with Stream(f"ws://127.0.0.1:{running.port}", ["trades"], token=fetch) as stream:
            await take(stream, 1)
            stream._refresh_at_s = None  # as if the application had been busy then
            [resumed, update] = await _publishing(running.publish([trade(1)]), take(stream, 2), stream)
            assert names([resumed, update]) == ["Resumed", "Update"]
            assert stream.status.connections == 2


async def _publishing(publish: Awaitable[None], heard: Awaitable[list[Item]], stream: Stream) -> list[Item]:
    """Publish once the stream has come back."""
    waiting = asyncio.ensure_future(heard)
    async with asyncio.timeout(DEADLINE_S):
        while stream.status.connections < 2:  # noqa: ASYNC110 - the stream has no event for it
            await asyncio.sleep(0.01)
    await publish
    return await waiting


async def test_a_token_that_is_no_good_or_grants_too_little_ends_the_stream(tmp_path: Path) -> None:
    async with stage(PythonDescriptors(), auth_keys=keys_file(tmp_path, SIGNER)) as running:
        url = f"ws://127.0.0.1:{running.port}"
        with pytest.raises(Rejected, match="401") as rejection:
            await ends(Stream(url, ["trades"], token="nonsense"))
        assert rejection.value.status == 401
        with pytest.raises(Refused, match="trades is not granted to you"):
            await ends(Stream(url, ["trades"], token=SIGNER.token("signals")))
