"""What each process shows of itself is what it did."""

import asyncio
import socket
from contextlib import AsyncExitStack

import httpx
import pytest
from confluent_kafka import Producer
from prometheus_client import REGISTRY

from consumers.store.store import Store
from gateway.stream import descriptors
from gateway.stream.figures import Figures
from producers import figures as of_publisher
from producers.publisher import EventPublisher
from sentio.config import ConsumerSettings
from sentio.testing.servers import Kafka
from tests.gateways import DEADLINE_S, Phone, Platform, gateway, off_loop, trades
from tests.pipeline import consumer_settings, publisher_settings, running, until
from tests.rest import Rows
from tests.samples import trade
from tests.stages import stage


@pytest.fixture
def settings(kafka: Kafka, database: str) -> ConsumerSettings:
    return consumer_settings(kafka.bootstrap, kafka.prefix, database)


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def test_a_group_counts_records_dead_letters_and_the_time_of_its_batches(settings: ConsumerSettings) -> None:
    group, topic = f"{settings.topic_prefix}.store", f"{settings.topic_prefix}.trades.executed"
    producer = Producer({"enable.idempotence": True, "bootstrap.servers": settings.kafka})
    producer.produce(topic, b"no event", b"k")
    assert producer.flush(10) == 0
    with EventPublisher(publisher_settings(settings), name="engine") as publisher:
        shown = of_publisher.show(publisher)
        for number in range(5):
            publisher.publish(trade(number))
        publisher.flush()
        assert value("sentio_publisher_events_total", publisher="engine", outcome="acknowledged") == 5
        REGISTRY.unregister(shown)

    with running(Store(settings), settings):
        until(lambda: value("sentio_consumer_records_total", group=group, topic=topic) == 6)
        assert value("sentio_consumer_partitions", group=group) > 0
    assert value("sentio_consumer_dead_letters_total", group=group, topic=topic, error="decode") == 1
    assert value("sentio_consumer_batch_seconds_count", group=group, topic=topic) >= 1
    assert 0 < value("sentio_consumer_delay_seconds", group=group, topic=topic) < 120


def test_the_api_counts_requests_by_route_and_status(client: httpx.Client, rows: Rows) -> None:
    route = "/api/v1/trades/history"
    before = value("sentio_rest_requests_total", route=route, status="200")
    unknown = value("sentio_rest_requests_total", route="other", status="404")
    rows.trade(0)
    assert client.get(route).status_code == 200
    assert client.get("/api/v1/nothing-of-the-kind").status_code == 404
    assert client.get(route, params={"limit": 0}).status_code == 400

    assert value("sentio_rest_requests_total", route=route, status="200") == before + 1
    assert value("sentio_rest_requests_total", route=route, status="400") >= 1
    assert value("sentio_rest_requests_total", route="other", status="404") == unknown + 1
    assert value("sentio_rest_request_seconds_count", route=route) >= 2


@pytest.mark.anyio
async def test_the_stream_counts_clients_messages_and_delivery_times() -> None:
    async with stage(descriptors.descriptors(), stream_wait_ms=0) as on, on.phone() as one, on.phone() as other:
        await on.follow("TradeExecuted")
        for phone in (one, other):
            await phone.subscribe("trades")
            await phone.next("snapshot")
            await phone.nothing_more()
        await on.publish(trades(3))
        for phone in (one, other):
            await phone.updates(3)
        on.sockets.late(on.only if len(on.sockets.all) == 1 else next(iter(on.sockets.all)))

        families = {family.name: family for family in Figures(on.sockets, on.fanout, on.feed).collect()}
        samples = {(s.name, *s.labels.values()): s.value for family in families.values() for s in family.samples}
        assert samples["sentio_stream_messages_total",] == 6
        assert samples["sentio_stream_closed_total", "4508"] == 1
        assert samples["sentio_stream_delivery_seconds_bucket", "+Inf"] == 2  # two clients, one sending
        assert samples["sentio_stream_connections",] == 2


@pytest.mark.anyio
async def test_the_stream_counts_connections_by_what_the_client_says_it_is() -> None:
    async with stage(descriptors.descriptors()) as on, AsyncExitStack() as clients:

        def shown() -> dict[str, float]:
            families = Figures(on.sockets, on.fanout, on.feed).collect()
            [clients] = [family for family in families if family.name == "sentio_stream_clients"]
            return {sample.labels["client"]: sample.value for sample in clients.samples}

        async def phone(path: str = "") -> Phone:
            return await clients.enter_async_context(on.phone(path, user_agent_header=None))

        await phone("/?client=app/2.0")
        gone = await phone("/?client=app/1.0")
        await phone("/?client=app/1.0")
        await phone()
        assert shown() == {"app/1.0": 2, "app/2.0": 1, "unknown": 1}
        await gone.socket.close()
        async with asyncio.timeout(DEADLINE_S):
            while len(on.sockets.all) > 3:  # noqa: ASYNC110 - the server's side of it
                await asyncio.sleep(0.005)
        assert shown() == {"app/1.0": 1, "app/2.0": 1, "unknown": 1}


@pytest.mark.anyio
async def test_the_stream_serves_metrics_and_health_on_a_port_of_their_own(platform: Platform) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = platform.settings.model_copy(update={"metrics_port": port})
    asking = httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20)
    async with gateway(settings) as running_one, running_one.phone(), asking:
        assert (await asking.get("/livez")).status_code == 200
        assert (await asking.get("/readyz")).status_code == 200
        assert "sentio_stream_connections 1.0" in (await asking.get("/metrics")).text
    with pytest.raises(httpx.ConnectError):
        await off_loop(httpx.get, f"http://127.0.0.1:{port}/livez")
