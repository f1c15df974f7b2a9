"""Pusher's own clients, unchanged, on a real broker and a real database, beside clients of the stream's own protocol."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Any, get_args

import pytest
from pydantic import SecretStr

from gateway.stream.descriptors import PythonDescriptors
from sentio.testing.servers import Kafka
from tests.gateways import DEADLINE_S, Platform, gateway, heard_ids, ids, make_platform, trades
from tests.pushers import KEY, SECRET, App, Library, app
from tests.stages import stage
from tests.tokens import edwards, keys_file

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("library", get_args(Library))]


@pytest.fixture
def platform(kafka: Kafka, database: str) -> Iterator[Platform]:
    with make_platform(kafka.bootstrap, kafka.prefix, database) as made:
        made.settings = made.settings.model_copy(update={"pusher_key": KEY, "pusher_secret": SecretStr(SECRET)})
        made.make_topics()
        yield made


def heard_on(client: App, channel: str) -> list[dict[str, Any]]:
    return [said["data"] for said in client.heard if said.get("channel") == channel]


def event_ids(events: Sequence[dict[str, Any]]) -> list[str]:
    return [event["event_id"] for event in events]


async def test_hears_what_a_native_client_hears_in_the_same_order(platform: Platform, library: Library) -> None:
    stored = platform.publish(trades(20))
    platform.store(stored)
    async with gateway(platform.settings) as running, AsyncExitStack() as clients:
        phone = await clients.enter_async_context(running.phone())
        await phone.subscribe("trades")
        native = await phone.next("snapshot")
        other = await clients.enter_async_context(app(library, running.port, "trades", "private-trades.TQQQ"))
        await other.events("snapshot", 2)
        snapshot, narrowed = heard_on(other, "trades")[-1], heard_on(other, "private-trades.TQQQ")[-1]
        assert snapshot == {"truncated": False, "data": native["data"]}
        assert narrowed["data"] == [row for row in native["data"] if row["symbol"] == "TQQQ"]

        for first in range(20, 320, 30):
            await asyncio.to_thread(platform.publish, trades(30, first))
        updates = await phone.updates(300)
        await other.events("TradeExecuted", 375)  # every fourth is of TQQQ, and comes twice
        heard = heard_on(other, "trades")[-300:]
        assert heard == [{"seq": one["seq"], "prev": one["prev"], "at": one["at"], **one["data"]} for one in updates]
        of_tqqq = heard_on(other, "private-trades.TQQQ")[-75:]
        assert event_ids(of_tqqq) == [one["event_id"] for one in heard if one["symbol"] == "TQQQ"]


async def test_signature_opens_what_is_not_public_and_a_wrong_one_does_not(
    platform: Platform, library: Library, tmp_path: Any
) -> None:
    keys = {"auth_keys": keys_file(tmp_path, edwards("now")), "auth_anonymous": "signals"}
    async with gateway(platform.settings.model_copy(update=keys)) as running:
        async with app(library, running.port, "trades", "private-engine", "private-trades", "signals") as signed:
            refusals = [await signed.next("pusher:subscription_error") for _ in range(2)]
            assert [(one["type"], one["status"]) for one in refusals] == [("AuthError", 403)] * 2
            await signed.next("snapshot")
            await signed.next("snapshot")
            published = await asyncio.to_thread(platform.publish, trades(5))
            assert sorted(event_ids(await signed.events("TradeExecuted", 5))) == sorted(ids(published))
        async with app(library, running.port, "private-trades", "signals", secret="another of its length") as forger:
            refusal = await forger.next("pusher:subscription_error")
            assert (refusal["type"], refusal["status"]) == ("AuthError", 401)
            await forger.next("snapshot")
            assert forger.heard[-1]["channel"] == "signals"  # the connection goes on


async def test_presence_unknown_channels_and_client_events_are_refused_and_the_rest_goes_on(
    platform: Platform, library: Library
) -> None:
    channels = "presence-trades", "orders", "private-trades"
    async with (
        gateway(platform.settings) as running,
        app(library, running.port, *channels, trigger="client-typing") as client,
    ):
        wanted = {4301, "snapshot"}
        while wanted:  # in any order
            said = await client.listen()
            wanted -= {said.get("error", {}).get("code"), said.get("event")}
        [presence], [orders] = heard_on(client, "presence-trades"), heard_on(client, "orders")
        assert (presence["type"], presence["status"]) == ("ChannelError", 501)
        assert presence["error"].startswith("presence")
        assert (orders["type"], orders["status"]) == ("ChannelError", 404)
        assert "there are trades" in orders["error"]
        await asyncio.to_thread(platform.publish, trades(1))
        await client.next("TradeExecuted")


async def test_comes_back_by_itself_when_the_gateway_restarts_and_misses_nothing(
    platform: Platform, library: Library
) -> None:
    """Another one has the port already, as in a rolling restart: pusher-js waits 15 s when nobody answers."""
    shares_port = platform.settings.model_copy(update={"stream_workers": 2})
    async with AsyncExitStack() as clients, AsyncExitStack() as second:
        async with gateway(shares_port) as first:
            client = await clients.enter_async_context(app(library, first.port, "private-trades"))
            await client.next("snapshot")
            before = await asyncio.to_thread(platform.publish, trades(10))
            assert sorted(event_ids(await client.events("TradeExecuted", 10))) == sorted(ids(before))
            await asyncio.to_thread(platform.store, before)
            again = shares_port.model_copy(update={"stream_port": first.port})
            running = await second.enter_async_context(gateway(again))
        meanwhile = await asyncio.to_thread(platform.publish, trades(10, 10))
        async with running.phone() as phone:
            snapshot = await client.next("snapshot")
            await phone.subscribe("trades")
            native = await phone.next("snapshot")
            assert snapshot["data"] == native["data"]
            assert sorted(event_ids(snapshot["data"])) == sorted(ids(before))
            live = await asyncio.to_thread(platform.publish, trades(10, 20))
            heard = event_ids(await client.events("TradeExecuted", 20))
            assert sorted(heard) == sorted(heard_ids(await phone.updates(20))) == sorted(ids(meanwhile + live))


async def test_stays_away_from_an_app_that_does_not_exist(platform: Platform, library: Library) -> None:
    async with (
        gateway(platform.settings) as running,
        app(library, running.port, "trades", key="phase-two") as client,
    ):
        said = await client.until(lambda said: "error" in said)
        assert said["error"]["code"] == 4001
        if library == "pusher-js":
            await client.until(lambda said: said.get("state") == "disconnected")
        else:  # its thread, and with it the program, ends
            async with asyncio.timeout(DEADLINE_S):
                await client.process.wait()


async def test_says_which_library_it_is_and_its_version(library: Library) -> None:
    options: Any = {"pusher_key": KEY, "pusher_secret": SecretStr(SECRET)}
    async with stage(PythonDescriptors(), **options) as on, app(library, on.port, "trades"):
        async with asyncio.timeout(DEADLINE_S):
            while not (found := list(on.sockets.products.counts)):  # noqa: ASYNC110 - the server's side of it
                await asyncio.sleep(0.005)
        name = "js" if library == "pusher-js" else "Pysher"
        assert re.fullmatch(rf"pusher-{name}/[\d.]+", found[0])
