"""The Python client: on a real gateway that comes and goes, and on a scripted one for what that does rarely."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from websockets.exceptions import WebSocketException

from gateway.stream import admission, session
from gateway.stream.descriptors import PythonDescriptors
from sentio.stack.processes import free_port
from sentio_client import (
    BadFrame,
    Closed,
    FileCursors,
    Gap,
    Item,
    Refused,
    Rejected,
    Resumed,
    Snapshot,
    Stream,
    TradeExecuted,
    Update,
)
from tests.gateways import DEADLINE_S, Platform, gateway, ids, trade, trades
from tests.scripted import Answer, Guest, scripted
from tests.stages import stage
from tests.tokens import edwards, keys_file

pytestmark = pytest.mark.anyio

SIGNER = edwards("now")
MOST_UNREAD = 5_000  # of 16 KB each; what sockets hold on both sides is less


async def take(stream: Stream, count: int) -> list[Item]:
    async with asyncio.timeout(DEADLINE_S):
        return [await anext(stream) for _ in range(count)]


async def take_updates(stream: Stream, count: int) -> list[Item]:
    """Until so many updates came, with what came between them."""
    found: list[Item] = []
    async with asyncio.timeout(DEADLINE_S):
        while sum(isinstance(item, Update) for item in found) < count:
            found.append(await anext(stream))
    return found


def event_ids(items: list[Item]) -> list[str]:
    return [str(item.event.event_id) for item in items if isinstance(item, Update)]


def names(items: list[Item]) -> list[str]:
    return [type(item).__name__ for item in items]


async def ends(stream: Stream) -> None:
    """Runs until the stream gives up."""
    async with asyncio.timeout(DEADLINE_S), stream:
        async for _ in stream:
            pass


# On a real gateway


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


# On a scripted one


@pytest.mark.parametrize("code", [4400, 4401, 4403, 4429, 4499])
async def test_44xx_ends_the_stream_and_says_why(code: int) -> None:
    async def act(guest: Guest) -> None:
        await guest.subscribed()
        await guest.close(code, "for a reason")

    async with scripted(act) as server:
        with pytest.raises(Closed, match=f"{code}: for a reason") as closed:
            await ends(Stream(server.url, ["trades"], token="fixed"))
    assert closed.value.code == code


@pytest.mark.parametrize("code", [1012, 1011, 1000, 4500, 4508])
async def test_others_come_back_with_their_cursors(code: int) -> None:
    async def first(guest: Guest) -> None:
        assert (await guest.subscribed())["cursor"] == {}
        await guest.snapshot("c0")
        await guest.update(1)
        await guest.close(code)

    async def second(guest: Guest) -> None:
        assert (await guest.subscribed())["cursor"] == {"trades": "c1"}
        await guest.update(2, 1)
        await guest.stay()

    async with scripted(first, second) as server, Stream(server.url, ["trades"]) as stream:
        assert names(await take(stream, 4)) == ["Snapshot", "Update", "Resumed", "Update"]


async def test_a_connection_that_breaks_off_is_made_again() -> None:
    async def first(guest: Guest) -> None:
        await guest.subscribed()
        await guest.snapshot()
        guest.socket.transport.abort()

    async def second(guest: Guest) -> None:
        await guest.subscribed()
        await guest.update(1)
        await guest.stay()

    async with scripted(first, second) as server, Stream(server.url, ["trades"]) as stream:
        assert names(await take(stream, 3)) == ["Snapshot", "Resumed", "Update"]


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_handshake_that_is_refused_is_not_tried_again(status: int) -> None:
    async with scripted(Answer(status, {}, "Origin not allowed")) as server:
        with pytest.raises(Rejected, match=f"{status}: Origin not allowed"):
            await ends(Stream(server.url, ["trades"]))


@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_gateway_is_left_alone_for_as_long_as_it_asks(status: int) -> None:
    async def act(guest: Guest) -> None:
        await guest.subscribed()
        await guest.snapshot()
        await guest.stay()

    async with scripted(Answer(status, {"Retry-After": "1"}), Answer(500), act) as server:
        async with Stream(server.url, ["trades"]) as stream:
            assert names(await take(stream, 1)) == ["Snapshot"]
        assert server.came_s[1] - server.came_s[0] >= 1.0


async def test_a_gateway_that_falls_silent_is_left() -> None:
    async def silent(guest: Guest) -> None:
        await guest.greet(heartbeat_s=0.1)
        await guest.stay()

    async def act(guest: Guest) -> None:
        await guest.subscribed()
        await guest.snapshot()
        await guest.stay()

    async with scripted(silent, act) as server, Stream(server.url, ["trades"]) as stream:
        assert names(await take(stream, 1)) == ["Snapshot"]


async def test_a_message_that_did_not_come_is_fetched_on_the_same_connection() -> None:
    async def act(guest: Guest) -> None:
        await guest.subscribed()
        await guest.update(1)
        await guest.update(3, 2)
        request = await guest.heard()
        assert (request["op"], request["cursor"]) == ("subscribe", {"trades": "c1"})
        await guest.update(4, 3)  # of the subscription that is being replaced
        await guest.say(type="ack", id=request["id"], channels=["trades"])
        for number in (2, 3, 4):
            await guest.update(number, number - 1)
        await guest.stay()

    async with scripted(act) as server, Stream(server.url, ["trades"]) as stream:
        items = await take(stream, 6)
    assert names(items) == ["Update", "Gap", "Resumed", "Update", "Update", "Update"]
    assert [item.seq for item in items if isinstance(item, Update)] == ["0:1", "0:2", "0:3", "0:4"]


async def test_a_slow_application_is_not_read_for_and_misses_nothing() -> None:
    behind = asyncio.Event()
    sent: list[int] = []

    async def first(guest: Guest) -> None:
        await guest.subscribed()
        with suppress(TimeoutError):
            while len(sent) < MOST_UNREAD:
                sent.append(len(sent) + 1)
                async with asyncio.timeout(1):
                    await guest.update(sent[-1], sent[-1] - 1, reason=random.randbytes(8_000).hex())
        behind.set()
        await guest.close(4508)

    async def second(guest: Guest) -> None:
        [cursor] = (await guest.subscribed())["cursor"].values()
        for number in range(int(cursor[1:]) + 1, len(sent) + 10):
            await guest.update(number, number - 1)
        await guest.stay()

    async with scripted(first, second) as server, Stream(server.url, ["trades"]) as stream:
        heard = await take(stream, 1)
        async with asyncio.timeout(DEADLINE_S):
            await behind.wait()
        heard += await take_updates(stream, len(sent) + 8)
    assert len(sent) < MOST_UNREAD
    assert names(heard).count("Resumed") == 1
    assert [item.seq for item in heard if isinstance(item, Update)] == [f"0:{n + 1}" for n in range(len(sent) + 9)]


async def test_a_waiting_application_may_be_cancelled_and_ask_again() -> None:
    sent = asyncio.Event()

    async def act(guest: Guest) -> None:
        await guest.subscribed()
        await sent.wait()
        await guest.update(1)
        await guest.stay()

    async with scripted(Answer(503), act) as server, Stream(server.url, ["trades"]) as stream:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(stream), 0.3)
        sent.set()
        assert names(await take(stream, 1)) == ["Update"]


async def test_every_connection_shows_a_new_token_and_who_signs_them_may_be_away() -> None:
    fetched: list[str] = []

    async def fetch() -> str:
        fetched.append(f"token{len(fetched)}")
        if len(fetched) == 2:
            raise ConnectionRefusedError("nobody signs at the moment")
        return fetched[-1]

    async def first(guest: Guest) -> None:
        await guest.subscribed()
        await guest.close(4401)

    async def second(guest: Guest) -> None:
        await guest.subscribed()
        await guest.update(1)
        await guest.stay()

    async with scripted(first, second) as server, Stream(server.url, ["trades"], token=fetch) as stream:
        assert names(await take(stream, 1)) == ["Update"]
    assert server.tokens == ["token0", "token2"]


async def test_cursors_are_written_while_the_stream_is_quiet(tmp_path: Path) -> None:
    async def act(guest: Guest) -> None:
        await guest.subscribed()
        await guest.update(1)
        await guest.update(2, 1)
        await guest.stay()

    store = FileCursors(tmp_path / "cursors")
    async with scripted(act) as server, Stream(server.url, ["trades"], cursors=store) as stream:
        await take(stream, 2)
        waiting = asyncio.create_task(take(stream, 1))
        async with asyncio.timeout(DEADLINE_S):
            while store.load() != {"trades": "c2"}:  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.02)
        waiting.cancel()


@pytest.mark.parametrize("say", [lambda guest: guest.socket.send("{"), lambda guest: guest.socket.send("[]")])
async def test_what_is_not_the_protocol_ends_the_stream(say: Callable[[Guest], Awaitable[None]]) -> None:
    async with scripted(say) as server:
        with pytest.raises(BadFrame):
            await ends(Stream(server.url, ["trades"]))


async def test_an_address_that_is_none_is_said_at_once() -> None:
    with pytest.raises(WebSocketException, match="localhost"):
        await ends(Stream("localhost", ["trades"]))


async def test_resumed_is_told_with_the_first_heartbeat_of_a_quiet_channel(tmp_path: Path) -> None:
    async def act(guest: Guest) -> None:
        assert (await guest.subscribed())["cursor"] == {"trades": "c1"}
        await guest.say(type="heartbeat", at="2025-10-10T13:30:00.000Z", cursors={"trades": "c5"})
        await guest.stay()

    store = FileCursors(tmp_path / "cursors")
    store.save({"trades": "c1", "another": "kept"})
    async with scripted(act) as server, Stream(server.url, ["trades"], cursors=store) as stream:
        assert await take(stream, 1) == [Resumed("trades")]
    assert store.load() == {"trades": "c5", "another": "kept"}
