"""A client of Pusher's protocol on a gateway without Kafka and database: its channels, its end, and many at once."""

import asyncio
import hmac
import json
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import SecretStr
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from gateway.pusher import session
from gateway.stream import connection
from gateway.stream.descriptors import PythonDescriptors, descriptors
from sentio.errors import Retryable
from tests.gateways import DEADLINE_S, trade, trades
from tests.pushers import KEY, SECRET
from tests.stages import NoRows, Stage, stage

pytestmark = pytest.mark.anyio

APP: dict[str, Any] = {"pusher_key": KEY, "pusher_secret": SecretStr(SECRET)}
PATH = f"/app/{KEY}?protocol=7&client=test"


@dataclass
class Caller:
    socket: ClientConnection
    socket_id: str = ""

    async def say(self, event: str, **data: Any) -> None:
        await self.socket.send(json.dumps({"event": event, "data": data}))

    async def subscribe(self, channel: str, **more: Any) -> None:
        await self.say("pusher:subscribe", channel=channel, **more)

    def sign(self, channel: str) -> str:
        return f"{KEY}:{hmac.new(SECRET.encode(), f'{self.socket_id}:{channel}'.encode(), 'sha256').hexdigest()}"

    async def listen(self) -> tuple[str, str | None, Any]:
        """Event, channel, and data, which is text in all but errors."""
        async with asyncio.timeout(DEADLINE_S):
            frame = json.loads(await self.socket.recv())
        is_error = frame["event"] == "pusher:error"
        return frame["event"], frame.get("channel"), frame["data"] if is_error else json.loads(frame["data"])

    async def hear(self, event: str) -> Any:
        """The data of the next frame, which is this event's."""
        heard, _, data = await self.listen()
        assert heard == event, (heard, data)
        return data

    async def live(self, channel: str, **more: Any) -> None:
        await self.subscribe(channel, **more)
        assert await self.listen() == ("pusher_internal:subscription_succeeded", channel, {})
        assert (await self.listen())[:2] == ("snapshot", channel)
        await self.nothing_more()  # and it has joined

    async def nothing_more(self) -> None:
        await self.say("pusher:ping")
        await self.hear("pusher:pong")

    async def numbers(self, count: int) -> list[int]:
        return [(await self.hear("TradeExecuted"))["sequence"] for _ in range(count)]

    async def close_code(self) -> tuple[int, str]:
        with pytest.raises(ConnectionClosed):
            await self.listen()
        assert self.socket.close_code is not None
        return self.socket.close_code, self.socket.close_reason or ""


@asynccontextmanager
async def calling(on: Stage, path: str = PATH, **options: Any) -> AsyncIterator[Caller]:
    async with connect(f"ws://127.0.0.1:{on.port}{path}", max_size=None, **options) as socket:
        yield Caller(socket)


@asynccontextmanager
async def caller(on: Stage, **options: Any) -> AsyncIterator[Caller]:
    async with calling(on, **options) as made:
        established = await made.hear("pusher:connection_established")
        assert established["activity_timeout"] == 120
        made.socket_id = established["socket_id"]
        yield made


async def test_each_connection_has_an_id_that_signing_servers_take() -> None:
    async with stage(PythonDescriptors(), **APP) as on, caller(on) as one, caller(on) as other:
        assert one.socket_id != other.socket_id
        assert all(part.isdigit() for part in one.socket_id.split(".", 1))


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/app/other?protocol=7", 4001),
        (f"/app/{KEY}", 4008),
        (f"/app/{KEY}?protocol=3", 4007),
        (f"/app/{KEY}/x?protocol=7", 4005),
    ],
)
async def test_handshake_of_no_use_is_told_why_and_closed_with_the_same_code(path: str, code: int) -> None:
    async with stage(PythonDescriptors(), **APP) as on, calling(on, path) as refused:
        told = await refused.hear("pusher:error")
        assert told["code"] == code
        assert await refused.close_code() == (code, told["message"])


async def test_without_a_key_no_app_exists_and_other_paths_speak_the_streams_own_words() -> None:
    async with stage(PythonDescriptors()) as on:
        async with calling(on) as refused:
            assert (await refused.hear("pusher:error"))["code"] == 4001
        for path in ("/stream", "//["):
            async with on.phone(path=path):  # it was greeted
                pass


async def test_signature_is_needed_and_is_of_this_connection() -> None:
    async with stage(PythonDescriptors(), **APP) as on, caller(on) as one, caller(on) as other:
        await on.follow("TradeExecuted")
        for auth in (None, "", f"{KEY}:", other.sign("private-trades"), one.sign("private-trades.SPY")):
            await one.subscribe("private-trades", auth=auth)
            refusal = await one.hear("pusher:subscription_error")
            assert (refusal["type"], refusal["status"]) == ("AuthError", 401)
            assert one.socket_id in refusal["error"]
        await one.live("private-trades", auth=one.sign("private-trades"))
        await on.publish([trade(0)])
        event, channel, data = await one.listen()
        assert (event, channel, data["seq"], data["prev"]) == ("TradeExecuted", "private-trades", "0:0", None)


@pytest.mark.parametrize(
    ("channel", "status", "word"),
    [
        ("presence-trades", 501, "presence"),
        ("private-encrypted-trades", 501, "encrypted"),
        ("orders", 404, "there are trades"),
        ("private-orders", 404, "there are trades"),
        ("trades.S P", 404, "letters"),
        ("trades.", 404, "after trades."),
        ("#server-to-user-1", 404, "letters"),
        ("trades." + "A" * 158, 404, "164"),
    ],
)
async def test_channel_that_is_not_served_is_refused_and_the_connection_goes_on(
    channel: str, status: int, word: str
) -> None:
    async with stage(PythonDescriptors(), **APP) as on, caller(on) as one:
        await on.follow("TradeExecuted")
        for _ in range(12):  # more often than bad messages are taken
            await one.subscribe(channel)
            heard, of, data = await one.listen()
            assert (heard, of, data["status"]) == ("pusher:subscription_error", channel, status)
            assert word in data["error"]
        await one.live("trades")


async def test_who_asks_too_often_is_told_so() -> None:
    async with stage(PythonDescriptors(), stream_requests=2, **APP) as on, caller(on) as one:
        for _ in range(3):
            await one.say("pusher:ping")
        await one.hear("pusher:pong")
        await one.hear("pusher:pong")
        assert "2 requests" in (await one.hear("pusher:error"))["message"]


async def test_connection_has_as_many_channels_as_any_other() -> None:
    async with stage(PythonDescriptors(), stream_requests=0, **APP) as on, caller(on) as one:
        await on.follow("TradeExecuted")
        for number in range(200):
            await one.live(f"trades.S{number}")
        await one.subscribe("trades")
        assert (await one.hear("pusher:subscription_error"))["status"] == 429
        await one.say("pusher:unsubscribe", channel="trades.S0")
        await one.live("trades")


async def test_unsubscribed_channel_is_silent_and_can_be_had_again() -> None:
    async with stage(PythonDescriptors(), **APP) as on, caller(on) as one:
        await on.follow("TradeExecuted")
        await one.live("trades")
        await on.publish([trade(0)])
        assert await one.numbers(1) == [0]
        await one.say("pusher:unsubscribe", channel="trades")
        await one.nothing_more()
        await on.publish([trade(1)])
        await one.nothing_more()
        await one.live("trades")
        await one.live("trades")  # begins anew, and is heard once
        await on.publish([trade(2)])
        assert await one.numbers(1) == [2]
        await one.nothing_more()


async def test_pong_comes_behind_what_was_due() -> None:
    async with stage(PythonDescriptors(), stream_wait_ms=1_000, **APP) as on, caller(on) as one:
        await on.follow("TradeExecuted")
        await one.live("trades")
        for number in range(5):  # the first goes at once, the others wait
            await on.publish([trade(number)])
        await one.say("pusher:ping")
        assert await one.numbers(5) == [0, 1, 2, 3, 4]
        await one.hear("pusher:pong")


async def test_ten_messages_of_no_sense_end_the_connection_and_client_events_do_not() -> None:
    async with stage(PythonDescriptors(), **APP) as on, caller(on) as one:
        for _ in range(12):
            await one.say("client-typing")
            assert (await one.hear("pusher:error"))["code"] == 4301
        for messages in (9, 10):
            await one.nothing_more()  # a good one between them
            for _ in range(messages):
                await one.socket.send("nonsense")
                assert (await one.hear("pusher:error"))["code"] is None
        assert (await one.hear("pusher:error"))["code"] == 4009
        assert await one.close_code() == (4009, "10 bad messages in a row")


async def test_message_is_written_once_for_all_of_a_dialect_and_native_clients_beside_them_get_theirs() -> None:
    async with stage(descriptors(), stream_wait_ms=0, **APP) as on, AsyncExitStack() as all_of_them:
        await on.follow("TradeExecuted")
        callers = [await all_of_them.enter_async_context(caller(on)) for _ in range(20)]
        phones = [await all_of_them.enter_async_context(on.phone()) for _ in range(20)]
        for number, one in enumerate(callers):
            name = "trades" if number % 2 else "private-trades"
            await one.live(name, auth=one.sign(name))
        for phone in phones:
            await phone.subscribe("trades")
            await phone.next("snapshot")
            await phone.nothing_more()
        before = on.descriptors.sends
        await on.publish(trades(3))
        assert on.descriptors.sends - before == 3  # public, private, native
        for one in callers:
            assert await one.numbers(3) == [0, 1, 2]
            await one.nothing_more()
        for phone in phones:
            assert [frame["data"]["sequence"] for frame in await phone.updates(3)] == [0, 1, 2]


async def test_client_that_reads_slowly_gets_every_event_in_order() -> None:
    settings = {"stream_wait_ms": 0, "stream_backlog_bytes": 1_024, **APP}
    async with stage(PythonDescriptors(), **settings) as on, caller(on, max_queue=1) as one:
        await on.follow("TradeExecuted")
        await one.live("trades")
        number = missed = 0
        while missed < 100:
            missed += len(on.sockets.held)
            await on.publish([trade(number, reason=os.urandom(1_000).hex())])
            number += 1
        assert await one.numbers(number) == list(range(number))
        await one.nothing_more()


async def test_client_that_stays_behind_is_told_to_come_back_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CLOSE_S", 60.0)
    async with stage(PythonDescriptors(), stream_wait_ms=0, **APP) as on, caller(on, max_queue=1) as one:
        await on.follow("TradeExecuted")
        await one.live("trades")
        number = 0
        while not on.sockets.held:
            await on.publish([trade(number, reason=os.urandom(10_000).hex())])
            number += 1
        on.sockets.late(on.only)
        assert await one.numbers(number) == list(range(number))
        code, reason = await one.close_code()
        assert code == 4100
        assert "behind" in reason


async def test_gateway_that_restarts_says_come_back_at_once() -> None:
    async with stage(PythonDescriptors(), **APP) as on, caller(on) as one:
        ending = asyncio.create_task(on.sockets.close(1012, "restarting"))
        assert await one.close_code() == (4200, "restarting")
        await ending


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> list[Retryable]:
    """What the next snapshots fail with."""
    failures: list[Retryable] = []
    real = NoRows.get

    async def get(self: NoRows, *wanted: Any) -> Any:
        if failures:
            raise failures.pop()
        return await real(self, *wanted)

    monkeypatch.setattr(NoRows, "get", get)
    monkeypatch.setattr(session, "RETRY_S", 0.01)
    return failures


async def test_channel_that_cannot_be_served_yet_comes_by_itself(outage: list[Retryable]) -> None:
    async with stage(PythonDescriptors(), **APP) as on, caller(on) as one:
        await on.follow("TradeExecuted")
        outage += [Retryable("the database is away"), Retryable("still")]
        await one.live("trades")
        assert not outage


async def test_channel_that_is_left_while_it_cannot_be_served_does_not_come(
    outage: list[Retryable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "RETRY_S", 3_600.0)
    async with stage(PythonDescriptors(), **APP) as on, caller(on) as one:
        await on.follow("TradeExecuted")
        outage.append(Retryable("the database is away"))
        await one.subscribe("trades")
        await one.hear("pusher_internal:subscription_succeeded")
        hearer = on.only._hearer
        assert isinstance(hearer, session.Session)
        async with asyncio.timeout(DEADLINE_S):
            while not hearer._retries:  # noqa: ASYNC110 - of a task of the gateway
                await asyncio.sleep(0.001)
        [timer] = hearer._retries.values()
        await one.say("pusher:unsubscribe", channel="trades")
        await one.nothing_more()
        assert timer.cancelled()
        assert not hearer._retries
