"""Who may hear what on the stream: tokens at the handshake and later, their end, and what they do not grant."""

import gc
import time
from pathlib import Path
from typing import Any

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus

from gateway.stream import session
from gateway.stream.descriptors import PythonDescriptors
from tests.gateways import Phone, trade
from tests.stages import Stage, stage
from tests.tokens import Signer, edwards, keys_file

pytestmark = pytest.mark.anyio

SIGNER = edwards("now")
KEY_OF_RAW = "dGhlIHNhbXBsZSBub25jZQ=="
"""What a client of `Stage.raw` sends, and no other."""


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    return {"auth_keys": keys_file(tmp_path, SIGNER), "auth_anonymous": "signals"}


def bearer(token: str) -> dict[str, Any]:
    return {"additional_headers": {"Authorization": f"Bearer {token}"}}


def signed(*channels: str, signer: Signer = SIGNER, **claims: Any) -> str:
    return signer.token(*channels, **claims)


async def refused(phone: Phone, channel: str) -> tuple[str, str]:
    await phone.subscribe(channel)
    error = await phone.next("error")
    return error["code"], error["message"]


async def follows(running: Stage) -> None:
    await running.follow("TradeExecuted", "SignalGenerated", "EngineHeartbeat")


async def test_a_token_opens_its_channels_and_no_others(settings: dict[str, Any]) -> None:
    async with stage(PythonDescriptors(), **settings) as running:
        await follows(running)
        async with running.phone(**bearer(signed("trades.SPY"))) as phone:
            assert await refused(phone, "trades") == ("forbidden", "trades is not granted to you")
            assert (await refused(phone, "engine"))[0] == "forbidden"
            await phone.subscribe("trades.SPY")
            await phone.next("snapshot")
            await phone.subscribe("signals")  # what is public is theirs too
            await phone.next("snapshot")
            await running.publish([trade(0, "QQQ"), trade(1, "SPY")])
            assert (await phone.next("update"))["data"]["symbol"] == "SPY"
            await phone.nothing_more()


async def test_an_owner_hears_what_only_owners_do(settings: dict[str, Any]) -> None:
    async with stage(PythonDescriptors(), **settings) as running:
        await follows(running)
        async with running.phone(**bearer(signed("*", owner=True))) as phone:
            await phone.subscribe("engine")
            await phone.next("snapshot")
        async with running.phone(**bearer(signed("*"))) as phone:
            assert (await refused(phone, "engine"))[0] == "forbidden"


@pytest.mark.parametrize(
    "headers",
    [
        [("Authorization", "Bearer nonsense")],
        [("Authorization", "Basic YTpi")],
        [("Authorization", f"Bearer {signed('*', lasts_s=-60)}")],
        [("Authorization", f"Bearer {signed('*')}"), ("Authorization", f"Bearer {signed('*')}")],
        [("Authorization", f"Bearer {signed('*', signer=edwards('now'))}")],
    ],
)
async def test_a_token_that_is_no_good_opens_nothing(settings: dict[str, Any], headers: list[tuple[str, str]]) -> None:
    async with stage(PythonDescriptors(), **settings) as running:
        with pytest.raises(InvalidStatus) as refusal:
            async with running.phone(additional_headers=headers):
                pass
        assert refusal.value.response.status_code == 401
        assert refusal.value.response.body


async def test_a_browser_shows_its_token_in_the_address(settings: dict[str, Any]) -> None:
    async with stage(PythonDescriptors(), **settings) as running:
        await follows(running)
        async with running.phone(path=f"/stream?token={signed('trades')}") as phone:
            await phone.subscribe("trades")
            await phone.next("snapshot")
        with pytest.raises(InvalidStatus):
            async with running.phone(path="/?token=a&token=b"):
                pass


async def test_who_comes_without_a_token_hears_what_is_public_and_may_show_one_later(settings: dict[str, Any]) -> None:
    async with stage(PythonDescriptors(), **settings) as running:
        await follows(running)
        async with running.phone() as phone:
            assert (await refused(phone, "trades"))[0] == "forbidden"
            await phone.subscribe("signals")
            await phone.next("snapshot")
            await phone.say(id=7, op="auth", token=signed("trades", user="ann"))
            ack = await phone.next("ack")
            assert (ack["id"], ack["user"]) == (7, "ann")
            assert ack["expires_at"].endswith("Z")
            await phone.subscribe("trades")
            await phone.next("snapshot")


async def test_a_connection_ends_with_its_token(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LEEWAY_S", 0.0)
    async with stage(PythonDescriptors(), **settings) as running, running.phone(**bearer(signed(lasts_s=2))) as phone:
        code, reason = await phone.close_code()
        assert code == 4401
        assert "token" in reason


async def test_a_newer_token_keeps_the_connection(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "LEEWAY_S", 0.0)
    async with (
        stage(PythonDescriptors(), stream_requests=0, **settings) as running,
        running.phone(**bearer(signed(lasts_s=2))) as phone,
    ):
        ends_s = time.time() + 2
        await phone.say(id=1, op="auth", token=signed())
        await phone.next("ack")
        while time.time() < ends_s + 0.2:
            await phone.say(id=2, op="ping")
            await phone.next("pong")


async def test_a_token_that_grants_less_ends_what_it_does_not_cover(settings: dict[str, Any]) -> None:
    async with stage(PythonDescriptors(), **settings) as running:
        await follows(running)
        async with running.phone(**bearer(signed("trades"))) as phone:
            for channel in ("trades", "trades.SPY"):
                await phone.subscribe(channel)
                await phone.next("snapshot")
            await phone.say(id=9, op="auth", token=signed("trades.SPY"))
            await phone.next("ack")
            error = await phone.next("error")
            assert (error["id"], error["code"], error["channel"]) == (9, "forbidden", "trades")
            await running.publish([trade(0, "QQQ"), trade(1, "SPY")])
            assert (await phone.next("update"))["channel"] == "trades.SPY"
            await phone.nothing_more()


async def test_a_token_that_is_refused_later_takes_nothing_away(settings: dict[str, Any]) -> None:
    async with stage(PythonDescriptors(), **settings) as running:
        await follows(running)
        async with running.phone(**bearer(signed("trades", user="ann"))) as phone:
            for words in ({"token": "nonsense"}, {"token": signed("*", user="bob")}):
                await phone.say(id=3, op="auth", **words)
                assert (await phone.next("error"))["code"] == "unauthorized"
            for wrong in ({}, {"token": 7}, {"token": ""}, {"token": "x" * 9_000}):
                await phone.say(id=3, op="auth", **wrong)
                assert (await phone.next("error"))["code"] == "bad_request"
            await phone.subscribe("trades")
            await phone.next("snapshot")


async def test_a_connection_that_leaves_leaves_no_timer(settings: dict[str, Any]) -> None:
    async with stage(PythonDescriptors(), **settings) as running:
        async with running.phone(**bearer(signed("trades", lasts_s=10_000))):
            hearer = running.only._hearer
            assert isinstance(hearer, session.Session)
            timer = hearer._end
            assert timer is not None
        await running.left()
        assert timer.cancelled()


async def test_an_open_connection_keeps_nothing_of_its_handshake(settings: dict[str, Any]) -> None:
    async with stage(PythonDescriptors(), **settings) as running:
        with await running.raw():
            kept = [found for found in gc.get_objects() if type(found) is Headers]
            assert not [found for found in kept if found.get("Sec-WebSocket-Key") == KEY_OF_RAW]
