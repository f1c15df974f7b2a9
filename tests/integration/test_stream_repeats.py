"""Events that a publisher sent twice: clients that come back hear each once, and are told of no gap where there is none."""

import asyncio
import json
from dataclasses import replace

import pytest

from gateway.stream.cursor import Cursor, encode, epoch_of
from schemas.events import Event
from sentio_client import Gap, Update
from sentio_client.channels import Channels
from tests.gateways import Phone, Platform, gateway, trade

pytestmark = pytest.mark.anyio

RING = 30  # a gateway begins ten messages before the end of each of three partitions
EVENTS = 50


class Listening:
    """What the client for Python makes of what a phone hears, from the beginning of the log on."""

    def __init__(self, platform: Platform, phone: Phone, channel: str) -> None:
        oldest = encode(Cursor(epoch_of(platform.topic_id("TradeExecuted")), (0, 0, 0)))
        self._phone = phone
        self._channels = Channels([channel], cursors={channel: oldest})
        self._channels.connected()

    async def subscribe(self) -> None:
        [request] = self._channels.requests(0.0)
        await self._phone.say(**json.loads(request))

    async def updates(self, count: int) -> list[int]:
        """The sequences of so many; a gap is none of them."""
        found: list[int] = []
        while len(found) < count:
            for item in self._channels.heard(await self._phone.listen(), 0.0):
                assert not isinstance(item, Gap), item
                if isinstance(item, Update):
                    assert item.event.sequence is not None  # as of statistics alone
                    found.append(item.event.sequence)
        return found


def sent_again(platform: Platform) -> None:
    """Events of one symbol: some of an engine, many of another, and the last of the first once more behind them."""
    events = platform.numbered([trade(number, "TQQQ") for number in range(EVENTS)])
    others: list[Event] = [replace(event, producer="another") for event in events[8:]]
    platform.send([*events[:8], *others, events[7]])


@pytest.mark.parametrize("channel", ["trades", "trades.TQQQ"])
async def test_what_follows_a_repeat_that_catching_up_left_out_is_no_gap(platform: Platform, channel: str) -> None:
    sent_again(platform)  # the gateway begins behind the first of the two
    settings = platform.settings.model_copy(update={"stream_ring": RING})
    async with gateway(settings) as running, running.phone() as one, running.phone() as other:
        clients = [Listening(platform, phone, channel) for phone in (one, other)]
        for client, phone in zip(clients, (one, other), strict=True):
            await client.subscribe()
            assert await client.updates(EVENTS) == list(range(EVENTS))
            await phone.nothing_more()
        await asyncio.to_thread(platform.publish, [trade(number, "TQQQ") for number in range(3)])
        for client in clients:
            assert await client.updates(3) == [EVENTS, EVENTS + 1, EVENTS + 2]
        told = [frame["prev"] for frame in one.heard if frame["type"] == "update"]
        assert told.count(None) == 2, "the first of all, and the one behind the repeat"


async def test_nor_where_the_repeat_is_no_longer_in_memory(platform: Platform) -> None:
    sent_again(platform)
    settings = platform.settings.model_copy(update={"stream_ring": RING})
    async with gateway(settings) as running, running.phone() as one, running.phone() as other:
        first, second = Listening(platform, one, "trades"), Listening(platform, other, "trades.TQQQ")
        await first.subscribe()
        await first.updates(EVENTS)
        await one.nothing_more()
        await asyncio.to_thread(platform.publish, [trade(number, "SPY") for number in range(2 * RING)])
        await first.updates(2 * RING)
        await second.subscribe()
        assert await second.updates(EVENTS) == list(range(EVENTS))
        await other.nothing_more()
        await asyncio.to_thread(platform.publish, [trade(0, "TQQQ")])
        assert await first.updates(1) == await second.updates(1)
