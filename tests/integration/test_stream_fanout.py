"""What many clients are sent, and what becomes of those that do not take it: both twins, on real sockets."""

import asyncio
import json
import os
import socket
import struct
from typing import Any

import pytest
from websockets.frames import Frame, Opcode

from gateway.stream import connection, sockets
from tests.gateways import position, price, trade, trades
from tests.stages import HANDSHAKE, Begin, live, sequences

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[True, False], ids=["uvloop", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


async def test_messages_wait_for_others_and_go_together(begin: Begin) -> None:
    async with begin(stream_wait_ms=1_000) as on, on.phone() as phone, on.phone() as other:
        await on.follow("TradeExecuted")
        await live(phone, "trades")
        await live(other, "trades")
        for number in range(6):
            await on.publish([trade(number)])
        assert on.descriptors.sends == 1  # the first waits for nobody
        for one in (phone, other):
            frames = await one.updates(6)
            assert sequences(frames) == list(range(6))
            assert [frame["prev"] for frame in frames] == [None, *(f"0:{n}" for n in range(5))]
        assert on.descriptors.sends == 2


async def test_who_hears_all_and_who_hears_one_value_are_each_told_in_the_words_of_their_channel(begin: Begin) -> None:
    def told(frames: list[dict[str, Any]]) -> list[tuple[str, str, str | None]]:
        return [(frame["channel"], frame["seq"], frame["prev"]) for frame in frames]

    async with begin(stream_wait_ms=0, stream_conflated_ms=0) as on, on.phone() as everyone, on.phone() as one:
        await on.follow("TradeExecuted", "PriceUpdated")
        for channel in ("trades", "prices"):
            await live(everyone, channel)
            await live(one, f"{channel}.SPY")
        await on.publish([trade(0, "SPY"), trade(1, "TQQQ"), trade(2, "SPY")])
        assert told(await everyone.updates(3)) == [
            ("trades", "0:0", None),
            ("trades", "0:1", "0:0"),
            ("trades", "0:2", "0:1"),
        ]
        assert told(await one.updates(2)) == [("trades.SPY", "0:0", None), ("trades.SPY", "0:2", "0:0")]
        await on.publish([price(1, second=1, symbol="SPY"), price(2, second=2, symbol="TQQQ")])
        assert told(await everyone.updates(2)) == [("prices", "0:0", None), ("prices", "0:1", None)]
        assert told(await one.updates(1)) == [("prices.SPY", "0:0", None)]
        await one.nothing_more()


async def test_what_waited_in_the_feed_waits_for_the_rest_of_its_tick_only(begin: Begin) -> None:
    async with begin(stream_wait_ms=1_000) as on, on.phone() as phone:
        await on.follow("TradeExecuted")
        await live(phone, "trades")
        await on.publish([trade(0)])
        await on.publish([trade(1)], waited_s=1.0)
        assert on.descriptors.sends == 2
        await on.publish([trade(2)], waited_s=0.5)
        assert on.descriptors.sends == 2
        assert sequences(await phone.updates(3)) == [0, 1, 2]


async def test_who_asks_for_the_lowest_latency_waits_for_nothing(begin: Begin) -> None:
    async with begin(stream_wait_ms=1_000) as on, on.phone() as phone:
        await on.follow("TradeExecuted")
        await live(phone, "trades", latency="lowest")
        for number in range(4):
            await on.publish([trade(number)])
            assert on.descriptors.sends == number + 1
        assert sequences(await phone.updates(4)) == [0, 1, 2, 3]


async def test_of_a_state_only_the_newest_of_each_key_is_sent(begin: Begin) -> None:
    async with begin(stream_conflated_ms=1_000) as on, on.phone() as phone, on.phone() as every:
        await on.follow("PositionUpdated")
        await live(phone, "positions")
        await live(every, "positions", conflate=False)
        for number, symbol in enumerate(["SPY", "SPY", "TQQQ", "SPY", "TQQQ", "SPY"]):
            await on.publish([position(number, symbol)])
        frames = await phone.updates(3)
        assert sequences(frames) == [0, 4, 5]
        assert [frame["prev"] for frame in frames] == [None, None, None]
        assert sequences(await every.updates(6)) == list(range(6))
        await phone.subscribe("positions", frames[1]["cursor"])
        assert sequences(await phone.updates(1)) == [5]
        await phone.subscribe("positions", frames[0]["cursor"])
        assert sequences(await phone.updates(2)) == [4, 5]


def shown(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["data"]["price"] for frame in frames]


async def test_a_price_is_never_followed_by_one_that_is_older(begin: Begin) -> None:
    async with begin(stream_conflated_ms=0) as on, on.phone() as phone, on.phone() as every:
        await on.follow("PriceUpdated")
        await live(phone, "prices.SOL")
        await live(every, "prices", conflate=False)
        await on.publish([price(1, second=10, slot=5)])
        first = await phone.updates(1)
        await on.publish([price(2, second=9), price(3, second=10, slot=4)])  # of an older block, and of an older slot
        await on.publish([price(4, second=1, symbol="JUP")])  # another symbol's time is its own
        await on.publish([price(5, second=10, slot=6), price(6, second=10, slot=5)])
        assert shown(first + await phone.updates(1)) == ["1", "5"]
        assert shown(await every.updates(6)) == ["1", "2", "3", "4", "5", "6"]
        await phone.nothing_more()
        await phone.subscribe("prices", first[0]["cursor"])
        assert shown(await phone.updates(2)) == ["4", "5"]
        await phone.nothing_more()


async def test_of_prices_that_wait_the_newest_is_sent_whatever_their_order(begin: Begin) -> None:
    async with begin(stream_conflated_ms=1_000) as on, on.phone() as phone:
        await on.follow("PriceUpdated")
        await live(phone, "prices")
        await on.publish([price(1, second=1)])
        for usd, second in ((2, 5), (3, 7), (4, 6)):
            await on.publish([price(usd, second=second)])
        assert shown(await phone.updates(2)) == ["1", "3"]


async def test_one_who_joins_while_messages_wait_gets_each_once(begin: Begin) -> None:
    async with begin(stream_wait_ms=1_000) as on, on.phone() as first, on.phone() as second:
        await on.follow("TradeExecuted")
        await live(first, "trades")
        for number in range(3):
            await on.publish([trade(number)])
        cursor = (await first.updates(1))[0]["cursor"]
        await second.subscribe("trades", cursor)
        assert sequences(await second.updates(2)) == [1, 2]  # of the ring, while the first still waits for them
        await on.publish([trade(3)])
        assert sequences(await first.updates(3)) == [1, 2, 3]
        assert sequences(await second.updates(1)) == [3]
        await on.publish([trade(4)])
        for one in (first, second):
            assert sequences(await one.updates(1)) == [4]
            await one.nothing_more()


async def test_unsubscribed_client_gets_nothing_of_what_waited(begin: Begin) -> None:
    async with begin(stream_wait_ms=1_000) as on, on.phone() as phone:
        await on.follow("TradeExecuted")
        await live(phone, "trades")
        await on.publish([trade(0)])
        await on.publish([trade(1)])
        await phone.updates(1)
        await phone.say(op="unsubscribe", channels=["trades"])
        assert (await phone.listen())["type"] == "ack"
        await phone.nothing_more()


async def test_client_whose_socket_takes_parts_gets_every_byte_in_order(begin: Begin) -> None:
    """Its buffers are smaller than a message, and it begins to read when all has been published."""
    async with begin(stream_wait_ms=0) as on:
        await on.follow("TradeExecuted")
        async with on.phone(max_queue=1) as phone, on.phone() as quick:
            for one in on.sockets.all:
                kernel = one._transport.get_extra_info("socket")
                assert kernel.getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == sockets.UNSENT_BYTES
                kernel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4_608)
            await live(phone, "trades")
            await live(quick, "trades")
            most = 0
            for number in range(100):
                await on.publish([trade(number, reason=os.urandom(10_000).hex())])
                await quick.updates(1)
                most = max(most, *(one._transport.get_write_buffer_size() for one in on.sockets.all))
            assert len(on.sockets.held) == 1
            assert 0 < most <= 65_536 + 21_000  # the backlog, or one message alone
            frames = await phone.updates(100)
            assert sequences(frames) == list(range(100))
            assert [frame["data"]["reason"] for frame in frames] == [
                frame["data"]["reason"] for frame in quick.heard if frame["type"] == "update"
            ]
            assert [frame["prev"] for frame in frames[1:]] == [frame["seq"] for frame in frames[:-1]]
            await on.publish([trade(100)])
            assert sequences(await phone.updates(1)) == [100]  # live again


async def test_close_reaches_a_client_behind_what_waits_whatever_is_published_then(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CLOSE_S", 60.0)
    async with begin(stream_wait_ms=0) as on, on.phone(max_queue=1) as phone:
        await on.follow("TradeExecuted")
        await live(phone, "trades")
        number = 0
        while not on.sockets.held:
            await on.publish([trade(number, reason=os.urandom(10_000).hex())])
            number += 1
        on.only.close(4508, "come back")
        await on.publish([trade(number)])
        assert await phone.close_code() == (4508, "come back")
        updates = [frame for frame in phone.heard if frame["type"] == "update"]
        assert sequences(updates) == list(range(number))


async def test_slow_client_of_a_state_gets_what_is_newest_when_it_reads(begin: Begin) -> None:
    async with begin(stream_conflated_ms=0, stream_backlog_bytes=1_024) as on, on.phone(max_queue=1) as phone:
        await on.follow("PositionUpdated")
        await live(phone, "positions")
        number = 0
        missed = 0
        while missed < 100:
            missed += len(on.sockets.held)
            await on.publish([position(number, "SPY"), position(number + 1, "TQQQ")])
            number += 2
        async with asyncio.timeout(20):
            last: dict[str, int] = {}
            heard = 0
            while last != {"SPY": number - 2, "TQQQ": number - 1}:
                frame = await phone.next("update")
                heard += 1
                assert int(frame["data"]["quantity"]) > last.get(frame["data"]["symbol"], -1)
                last[frame["data"]["symbol"]] = int(frame["data"]["quantity"])
        assert heard < number
        await phone.nothing_more()


async def test_number_of_a_descriptor_that_is_used_again_hears_nothing_of_the_one_before(begin: Begin) -> None:
    async with begin() as on:
        await on.follow("TradeExecuted", "PositionUpdated")
        before: int | None = None
        for _ in range(100):  # a number that anything else in this process gave back may be the next one's
            async with on.phone() as phone:
                handle = on.only.handle
                again = before is not None and handle & 0xFFFF_FFFF == before & 0xFFFF_FFFF
                await live(phone, "positions" if again else "trades")
                if again:
                    assert handle != before
                    await on.publish(trades(3))
                    await on.publish([position(0, "SPY")])
                    assert (await phone.next("update"))["channel"] == "positions"
                    await phone.nothing_more()
                before = handle
            await on.left()
            if again:
                return
        pytest.fail("no number was used again")


async def test_who_asks_without_reading_the_answers_is_not_listened_to(begin: Begin) -> None:
    async with begin(stream_backlog_bytes=1_024) as on:
        client = await on.raw(receive_bytes=4_096)
        ping = Frame(Opcode.PING, b"x" * 125).serialize(mask=True) * 1_000
        request = Frame(Opcode.TEXT, json.dumps({"op": "ping", "id": "x" * 100}).encode()).serialize(mask=True) * 1_000
        loop = asyncio.get_running_loop()

        async def ask_for_ever() -> None:
            while True:
                await loop.sock_sendall(client, ping + request)

        asking = asyncio.create_task(ask_for_ever())
        while not on.only._deaf:  # noqa: ASYNC110 - of the other end
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asking, 0.3)
        # What it sent in one read is answered: 64 KiB at most (256 KiB in asyncio), each answer as long as its ping.
        assert on.only._transport.get_write_buffer_size() < 600_000
        client.close()


async def test_client_that_is_gone_before_its_answer_disturbs_nobody(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def answer() -> tuple[int, str]:
        asked.set()
        await may_answer.wait()
        return 200, "ok"

    async with begin() as on, on.phone() as phone:
        monkeypatch.setattr(on.sockets, "answer", lambda _: answer())
        client = socket.create_connection(("127.0.0.1", on.port))
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        await asked.wait()
        [gone] = [one for one in on.sockets.all if one.handle and one._hearer is None]
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()  # with a reset
        while gone in on.sockets.all:  # noqa: ASYNC110 - of the other end
            await asyncio.sleep(0.001)
        may_answer.set()
        await phone.nothing_more()
        assert not on.sockets._answering
        gone.ask()
        gone.close(1000, "")
        gone.offer(b"x")
        assert gone.put(b"x", 0)


async def test_client_that_does_not_answer_a_ping_is_closed(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "PING_S", 0.05)
    async with begin(stream_behind_s=0.1) as on, on.phone() as phone:
        client = await on.raw()
        loop = asyncio.get_running_loop()
        heard = b""
        async with asyncio.timeout(20):
            while part := await loop.sock_recv(client, 4_096):
                heard += part
        assert b"\x89\x00" in heard  # it was asked
        assert (1011).to_bytes(2, "big") + b"no pong" in heard
        client.close()
        await phone.nothing_more()  # who answers stays


async def test_connection_without_a_handshake_is_ended(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HANDSHAKE_S", 0.05)
    async with begin() as on, on.phone() as phone:
        reader, writer = await asyncio.open_connection("127.0.0.1", on.port)
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()
        await phone.nothing_more()


async def test_request_in_parts_is_one_request(begin: Begin) -> None:
    async with begin() as on, on.phone() as phone:
        await phone.socket.send(['{"op":"pi', 'ng","id":', "", '"é"}'])
        assert (await phone.next("pong"))["id"] == "é"


async def test_nonsense_right_behind_the_handshake_is_the_end(begin: Begin) -> None:
    async with begin() as on:
        reader, writer = await asyncio.open_connection("127.0.0.1", on.port)
        writer.write(HANDSHAKE + b"\x81\x05hello")
        async with asyncio.timeout(20):
            assert await reader.read() == b""
        writer.close()


async def test_many_clients_get_the_same_in_one_call(begin: Begin) -> None:
    async with begin(stream_wait_ms=0) as on:
        await on.follow("TradeExecuted")
        opened = [on.phone() for _ in range(40)]
        phones = [await one.__aenter__() for one in opened]
        try:
            for phone in phones:
                await live(phone, "trades.TQQQ")
            await on.publish([trade(0, "TQQQ"), trade(1, "SPY"), trade(2, "TQQQ")])
            assert on.descriptors.sends == 1
            for phone in phones:
                assert sequences(await phone.updates(2)) == [0, 2]
        finally:
            for one in opened:
                await one.__aexit__(None, None, None)
