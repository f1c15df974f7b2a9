"""Who is let in and who is told to come back: limits, origins, proxies, and the way out when the gateway is stopped."""

import asyncio
import time
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from proxyprotocol.result import ProxyResultIPv4
from proxyprotocol.v2 import ProxyProtocolV2
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from gateway.stream.descriptors import PythonDescriptors
from tests.gateways import Phone, trades
from tests.stages import HANDSHAKE, Stage, stage
from tests.tokens import edwards, keys_file

pytestmark = pytest.mark.anyio

SIGNER = edwards("now")


async def turned_away(running: Stage, **options: Any) -> Response:
    with pytest.raises(InvalidStatus) as refusal:
        async with running.phone(**options):
            pass
    return refusal.value.response


def forwarded(address: str) -> dict[str, Any]:
    return {"additional_headers": {"X-Forwarded-For": address}}


async def test_address_has_so_many_connections_and_another_its_own() -> None:
    async with stage(PythonDescriptors(), stream_address_connections=2, proxies="127.0.0.0/8") as running:
        async with running.phone(**forwarded("203.0.113.9")), AsyncExitStack() as second:
            await second.enter_async_context(running.phone(**forwarded("203.0.113.9")))
            response = await turned_away(running, **forwarded("203.0.113.9"))
            assert response.status_code == 429
            assert int(response.headers["Retry-After"]) > 0
            async with running.phone(**forwarded("203.0.113.10")):
                pass
            await second.aclose()
            while len(running.sockets.all) > 1:  # noqa: ASYNC110 - until the gateway has seen it go
                await asyncio.sleep(0)
            async with running.phone(**forwarded("203.0.113.9")):
                pass
        # IPv6 subscribers have a network each.
        async with running.phone(**forwarded("2001:db8::1")), running.phone(**forwarded("2001:db8::2")):
            assert (await turned_away(running, **forwarded("2001:db8::3"))).status_code == 429
            async with running.phone(**forwarded("2001:db8:0:1::1")):
                pass


async def test_handshake_that_fails_takes_no_place() -> None:
    async with stage(PythonDescriptors(), stream_address_connections=1) as running:
        for _ in range(3):
            with pytest.raises(InvalidStatus):
                async with running.phone(additional_headers={"Sec-WebSocket-Version": "7"}):
                    pass
        async with running.phone():
            pass


async def test_user_has_so_many_connections_wherever_from(tmp_path: Path) -> None:
    options = {"auth_keys": keys_file(tmp_path, SIGNER), "auth_anonymous": "trades"}
    async with stage(PythonDescriptors(), stream_user_connections=1, **options) as running:
        ada, bob = (f"/?token={SIGNER.token('trades', sub=user)}" for user in ("ada", "bob"))
        async with running.phone(ada), running.phone(bob), running.phone() as later:
            assert (await turned_away(running, path=ada)).status_code == 429
            await later.say(id=1, op="auth", token=SIGNER.token("trades", sub="ada"))
            assert (await later.next("error"))["code"] == "too_many_connections"
            await later.say(id=2, op="auth", token=SIGNER.token("trades", sub="cyd"))
            assert (await later.next("ack"))["user"] == "cyd"
            cyd = f"/?token={SIGNER.token('trades', sub='cyd')}"
            assert (await turned_away(running, path=cyd)).status_code == 429
            await later.say(
                id=3, op="auth", token=SIGNER.token("trades", sub="cyd")
            )  # a newer one takes no other place
            assert (await later.next("ack"))["user"] == "cyd"
        await running.left()
        async with running.phone(cyd), running.phone(ada):
            pass


async def test_storm_of_handshakes_is_told_to_come_back() -> None:
    async with stage(PythonDescriptors(), stream_handshakes=5) as running, AsyncExitStack() as open_ones:
        retries, accepted = [], 0
        for _ in range(60):
            try:
                await open_ones.enter_async_context(running.phone())
                accepted += 1
            except InvalidStatus as refusal:
                assert refusal.response.status_code == 503  # noqa: PT017 - both may happen
                retries.append(int(refusal.response.headers["Retry-After"]))
        assert accepted < 60
        assert len(set(retries)) > 1, "not all at the same moment"
        assert max(retries) <= 2 + 60 / 5 + 1


async def test_only_pages_of_named_origins_connect() -> None:
    async with stage(PythonDescriptors(), stream_origins="https://app.example.com, https://x.example.com") as running:
        async with running.phone(origin="https://x.example.com"), running.phone():
            pass
        response = await turned_away(running, origin="https://evil.example.com")
        assert response.status_code == 403


async def test_too_many_requests_are_not_followed_and_end_the_connection() -> None:
    async with stage(PythonDescriptors(), stream_requests=5) as running:
        async with running.phone() as phone:
            for number in range(6):
                await phone.say(id=number, op="ping")
            for _ in range(5):
                await phone.next("pong")
            error = await phone.next("error")
            assert (error["code"], error["id"]) == ("too_many_requests", 5)
            assert 0 < error["retry_s"] <= 2
            for number in range(9):
                await phone.say(id=number, op="ping")
            assert (await phone.close_code())[0] == 4429
        async with running.phone() as phone:
            await phone.nothing_more()


async def test_proxy_names_the_client_before_anything_else() -> None:
    client = (IPv4Address("203.0.113.9"), 4711), (IPv4Address("127.0.0.1"), 80)
    header = ProxyProtocolV2().pack(ProxyResultIPv4(*client))
    options = {"proxies": "127.0.0.1", "proxy_says": "protocol", "stream_address_connections": 1}
    async with stage(PythonDescriptors(), **options) as running:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for byte in header:
            writer.write(bytes([byte]))
            await writer.drain()
        writer.write(HANDSHAKE)
        assert b"101 Switching Protocols" in await reader.readuntil(b"\r\n\r\n")
        assert running.only.address == "203.0.113.9"
        second, words = await asyncio.open_connection("127.0.0.1", running.port)
        words.write(header + HANDSHAKE)
        assert b" 429 " in await second.readline()
        third, words_of_third = await asyncio.open_connection("127.0.0.1", running.port)
        words_of_third.write(HANDSHAKE)
        assert await third.read() == b""
        for one in (writer, words, words_of_third):
            one.close()


async def test_clients_leave_one_after_the_other_when_the_gateway_stops() -> None:
    async with stage(PythonDescriptors()) as running, AsyncExitStack() as stack:
        await running.follow("TradeExecuted")
        phones: list[Phone] = [await stack.enter_async_context(running.phone()) for _ in range(5)]
        for phone in phones:
            await phone.subscribe("trades")
            await phone.next("snapshot")
        began_s = time.monotonic()
        draining = asyncio.create_task(running.sockets.drain(1.0, 1012, "restarting", asyncio.Event()))
        told = [(await phone.next("draining"))["reconnect_in_s"] for phone in phones]
        assert sorted(told) == [0, 0.2, 0.4, 0.6, 0.8]
        await running.publish(trades(1))  # whoever is still there hears on
        last = phones[told.index(0.8)]
        assert (await last.next("update"))["data"]["symbol"]

        async def left_s(phone: Phone) -> float:
            assert (await phone.close_code())[0] == 1012
            return time.monotonic() - began_s

        left = await asyncio.gather(*map(left_s, phones))
        for told_s, seen_s in zip(told, left, strict=True):
            assert seen_s >= told_s
        await draining


async def test_who_is_in_a_hurry_stops_at_once() -> None:
    async with stage(PythonDescriptors()) as running, running.phone() as one, running.phone() as other:
        hurry = asyncio.Event()
        draining = asyncio.create_task(running.sockets.drain(3_600, 1012, "restarting", hurry))
        for phone in (one, other):
            await phone.next("draining")
        hurry.set()
        for phone in (one, other):
            assert (await phone.close_code())[0] == 1012
        await draining
