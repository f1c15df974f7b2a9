"""The Python client on a scripted gateway, for what a real one does rarely."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest
from websockets.exceptions import WebSocketException

from sentio_client import (
    BadFrame,
    Closed,
    FileCursors,
    Rejected,
    Resumed,
    Stream,
    Update,
)
from tests.gateways import DEADLINE_S
from tests.hearing import ends, names, take, take_updates
from tests.scripted import Answer, Guest, scripted

pytestmark = pytest.mark.anyio

MOST_UNREAD = 5_000  # of 16 KB each; what sockets hold on both sides is less


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
