"""One trace from the engine's publish() to the consumer's batch and to the client, at a collector that is there."""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
import structlog
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import TracerProvider
from pydantic import SecretStr

from consumers.consumer import Consumer
from gateway.rest.figures import Counted
from producers.publisher import EventPublisher
from producers.sidecar.numbered import Numbered, messages
from producers.sidecar.source import Portion
from sentio import kafka as kafka_access
from sentio.batch import Batch
from sentio.config import ConsumerSettings, PublisherSettings, RestSettings, SidecarSettings, load
from sentio.tracing import traceparent_of, traces
from tests.gateways import Platform, gateway, off_loop
from tests.pipeline import running, until
from tests.receivers import Received, receiver
from tests.rest import Rows, served
from tests.samples import trade
from tests.ways import Scripted, draining


class Seen(Consumer):
    name = "seen"
    topics = ("trades.executed",)

    def __init__(self) -> None:
        self.records = 0
        self.noted: dict[str, str] = {}

    def process(self, batch: Batch) -> None:
        self.noted = dict(structlog.contextvars.get_contextvars())
        self.records += len(batch)


def publish(platform: Platform, collector: Received) -> str:
    """Three trades, within a span of the caller's; returns the id of the caller's trace."""
    settings = load(
        PublisherSettings,
        kafka=platform.settings.kafka,
        topic_prefix=platform.settings.topic_prefix,
        traces=collector.url,
    )
    engine = TracerProvider(shutdown_on_exit=False).get_tracer("engine")
    with EventPublisher(settings, name="engine") as publisher, engine.start_as_current_span("decide") as span:
        for number in range(3):
            publisher.publish(trade(number))
    return f"{span.get_span_context().trace_id:032x}"


def consume(platform: Platform, collector: Received) -> Seen:
    settings = load(
        ConsumerSettings,
        kafka=platform.settings.kafka,
        topic_prefix=platform.settings.topic_prefix,
        database=platform.settings.database,
        traces=collector.url,
    )
    seen = Seen()
    to_collector = traces(settings, process="seen")
    assert to_collector
    with running(seen, settings, traces=to_collector):
        until(lambda: seen.records == 3)
    to_collector.close()
    return seen


@pytest.mark.anyio
async def test_a_trace_goes_from_the_engine_to_the_consumer_and_to_the_client(platform: Platform) -> None:
    with receiver() as collector:
        settings = platform.settings.model_copy(update={"traces": collector.url})
        async with gateway(settings) as on, on.phone() as phone:
            await phone.subscribe("trades")
            await phone.next("snapshot")
            await phone.nothing_more()
            callers_trace = await off_loop(publish, platform, collector)
            heard = {update["traceparent"] for update in await phone.updates(3)}
        seen = await off_loop(consume, platform, collector)
        spans = {span.name.partition(" ")[0]: span for span in collector.spans()}

    published = [span for span in collector.spans() if span.name.startswith("publish")]
    assert {text[:-3] for text in heard} <= {f"00-{span.trace_id.hex()}-{span.span_id.hex()}" for span in published}
    assert {link.trace_id.hex() for span in published for link in span.links} == {callers_trace}
    for name in ("process", "deliver"):
        assert {link.span_id for link in spans[name].links} <= {span.span_id for span in published}
        assert spans[name].links
    assert seen.noted["trace_id"] in {span.trace_id.hex() for span in collector.spans() if "process" in span.name}


def test_the_trace_of_an_engine_without_one_begins_with_its_sidecar(platform: Platform) -> None:
    settings = load(
        SidecarSettings, kafka=platform.settings.kafka, topic_prefix=platform.settings.topic_prefix, spool=None
    )
    with receiver() as collector:
        source = Scripted(Portion(messages([Numbered("engine@1", UUID(int=1), n, trade(n)) for n in range(3)])))
        with draining(settings.model_copy(update={"traces": collector.url}), source):
            until(lambda: source.acknowledged == 1)
        [span] = collector.spans()
    assert span.name == f"publish {settings.topic_prefix}.trades.executed"
    topic = f"{settings.topic_prefix}.trades.executed"
    places = kafka_access.spans(settings.kafka, [(topic, partition) for partition in range(3)])
    read = [message for batch in kafka_access.read(settings.kafka, places) for message in batch]
    found = {traceparent_of(headers) for message in read if isinstance(headers := message.headers(), list)}
    assert {text and text[:-3] for text in found} == {f"00-{span.trace_id.hex()}-{span.span_id.hex()}"}


def test_without_a_collector_records_have_no_header_and_nothing_is_imported(platform: Platform) -> None:
    settings = load(PublisherSettings, kafka=platform.settings.kafka, topic_prefix=platform.settings.topic_prefix)
    with EventPublisher(settings, name="engine") as publisher:
        publisher.publish(trade(0))
    topic = f"{settings.topic_prefix}.trades.executed"
    spans = kafka_access.spans(settings.kafka, [(topic, partition) for partition in range(3)])
    [[message]] = list(kafka_access.read(settings.kafka, spans))
    assert message.headers() is None

    code = (
        "import sys, producers.publisher, consumers.group, gateway.stream.server, gateway.rest.app;"
        " sys.exit(any(name.startswith(('opentelemetry.sdk', 'sentry')) for name in sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_a_request_of_rest_is_a_span_in_the_trace_of_its_caller(rows: Rows, database: str) -> None:
    rows.trade(0)
    route = "/api/v1/trades/history"
    with receiver() as collector:
        with served(RestSettings(database=SecretStr(database), rest_requests=0, traces=collector.url)) as client:
            called = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
            assert client.get(route, headers={"traceparent": called}).status_code == 200
            assert client.get(route, params={"limit": 0}, headers={"traceparent": "nonsense"}).status_code == 400
            assert client.get("/nothing/of/the/kind").status_code == 404
        spans = {span.name + str(numbers(span)["http.response.status_code"]): span for span in collector.spans()}

    assert sorted(spans) == [f"GET {route}200", f"GET {route}400", "GET other404"]
    called_one = spans[f"GET {route}200"]
    assert called_one.kind == Span.SPAN_KIND_SERVER
    assert f"00-{called_one.trace_id.hex()}-{called_one.parent_span_id.hex()}-01" == called
    assert spans[f"GET {route}400"].parent_span_id == b""
    assert spans[f"GET {route}400"].trace_id != called_one.trace_id
    assert not any(span.status.code for span in spans.values())


def test_a_request_that_fails_is_a_span_that_says_so() -> None:
    async def fails(*_: object) -> None:
        raise ZeroDivisionError

    with receiver() as collector:
        to_collector = traces(load(RestSettings, traces=collector.url), process="rest")
        counted = Counted(fails, to_collector)
        scope = {"type": "http", "method": "GET", "headers": []}
        with pytest.raises(ZeroDivisionError):
            asyncio.run(counted(scope, cast("Any", None), cast("Any", None)))
        assert to_collector
        to_collector.close()
        [span] = collector.spans()
    assert (span.name, numbers(span), span.status.code) == (
        "GET other",
        {"http.response.status_code": 500},
        Status.STATUS_CODE_ERROR,
    )


def numbers(span: Span) -> dict[str, int]:
    return {one.key: one.value.int_value for one in span.attributes if one.value.HasField("int_value")}


def test_what_goes_by_way_of_the_spool_keeps_its_trace(platform: Platform, tmp_path: Path) -> None:
    settings = {"kafka": platform.settings.kafka, "topic_prefix": platform.settings.topic_prefix}
    with receiver() as collector:
        traced = load(PublisherSettings, **settings, spool=tmp_path, traces=collector.url)
        with EventPublisher(traced, name="engine", durable=True) as publisher:
            publisher.publish(trade(0))
        [span] = collector.spans()
    topic = f"{platform.settings.topic_prefix}.trades.executed"
    spans = kafka_access.spans(platform.settings.kafka, [(topic, partition) for partition in range(3)])
    [[message]] = list(kafka_access.read(platform.settings.kafka, spans))
    carried = traceparent_of(cast("Any", message.headers()))
    assert carried
    assert carried[:-3] == f"00-{span.trace_id.hex()}-{span.span_id.hex()}"
