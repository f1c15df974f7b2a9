"""Webhooks to rows: a receiver as a process, a real broker, a real database, and what a simulator says should come of it."""

import json
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from consumers.store.store import Store
from producers.webhooks.journal import Journal
from producers.webhooks.sending import Sender
from producers.webhooks.simulator import Delivery, Expected, Simulation
from schemas.codec import decode
from sentio import kafka as kafka_access
from sentio import topics
from sentio.config import ConsumerSettings, Settings, load
from sentio.stack.kafka import KafkaServer
from sentio.testing.servers import Kafka
from tests import pipeline
from tests.pipeline import consumer_settings, running, until
from tests.webhooks import BONK, SECRET, SENTIO, TOKENS, Running, bought, receiver

Row = tuple[str, Decimal, datetime]


def deliveries(events: int, *, seed: int, batch: int = 20) -> list[Delivery]:
    simulation = Simulation(TOKENS, seed=seed, start_s=time.time() - 60, rate=1_000, batch=batch)
    return list(simulation.deliveries(events))


def bodies(found: list[Delivery]) -> list[bytes]:
    return [json.dumps(delivery.events).encode() for delivery in found]


def expected(found: list[Delivery]) -> list[Row]:
    return sorted(row(price) for delivery in found for price in delivery.prices)


def row(price: Expected) -> Row:
    return price.symbol, price.price, datetime.fromtimestamp(price.at_s, UTC)


def make_topics(kafka: Kafka) -> None:
    settings = load(Settings, kafka=kafka.bootstrap, topic_prefix=kafka.prefix, partitions=3)
    topics.apply(settings, [change for change in topics.plan(settings) if change.lines])


def send(url: str, contents: list[bytes], *, connections: int = 4) -> Sender:
    sender = Sender(url, SECRET, connections=connections, again_s=0.25)
    sender.run(contents, every_s=0.0, stop=threading.Event())
    return sender


@contextmanager
def sending(url: str, contents: list[bytes]) -> Iterator[Sender]:
    """In threads, until the block is left."""
    sender, stop = Sender(url, SECRET, connections=4, again_s=0.05), threading.Event()
    thread = threading.Thread(target=sender.run, args=(contents,), kwargs={"every_s": 0.0, "stop": stop})
    thread.start()
    try:
        yield sender
    finally:
        stop.set()
        thread.join()


def stopped(running_receiver: Running) -> None:
    """Asked to, once it has sent on what it kept; nothing is left behind."""
    running_receiver.process.send_signal(signal.SIGTERM)
    assert running_receiver.process.wait(20) == 0, running_receiver.log.read_text()
    journal = Journal(running_receiver.log.parent / "spool", max_bytes=1 << 30, remember_s=3_600)
    assert journal.waiting == 0
    journal.close()


def stored(database: str) -> list[Row]:
    return sorted(pipeline.rows(database, "select symbol, price, observed_at from prices"))


@pytest.fixture
def settings(kafka: Kafka, database: str) -> ConsumerSettings:
    return consumer_settings(kafka.bootstrap, kafka.prefix, database)


@pytest.fixture
def rows_written(settings: ConsumerSettings) -> Iterator[None]:
    with running(Store(settings), settings):
        yield


def on_log(settings: ConsumerSettings) -> list[dict[str, object]]:
    """Every record of the topic, repeats too."""
    name = f"{settings.topic_prefix}.prices.updated"
    spans = kafka_access.spans(settings.kafka, [(name, partition) for partition in range(settings.partitions)])
    found: list[dict[str, object]] = []
    for messages in kafka_access.read(settings.kafka, spans):
        found += decode("PriceUpdated", [message.value() for message in messages]).records.to_pylist()
    return found


@pytest.mark.usefixtures("rows_written")
def test_rows_are_what_the_simulator_says_they_should_be(
    kafka: Kafka, settings: ConsumerSettings, database: str, tmp_path: Path
) -> None:
    found = deliveries(2_000, seed=1)
    with receiver(kafka.bootstrap, kafka.prefix, tmp_path) as running_receiver:
        sent = send(running_receiver.url, bodies(found)).sent
        stopped(running_receiver)

    until(lambda: pipeline.count(database, "prices") >= len(expected(found)))
    assert stored(database) == expected(found)
    assert sent.statuses == {"200": len(found)}
    assert sent.answered == {
        "accepted": len(expected(found)),
        "repeated": sum(delivery.repeated for delivery in found),
        "ignored": sum(delivery.ignored for delivery in found),
        "refused": sum(delivery.refused for delivery in found),
    }
    spans = kafka_access.spans(settings.kafka, [(f"{settings.topic_prefix}.prices.updated.dead", 0)])
    letters = [message for messages in kafka_access.read(settings.kafka, spans) for message in messages]
    assert len(letters) == sum(delivery.refused for delivery in found)
    assert all(dict(letter.headers() or [])["error.message"] for letter in letters)


def test_simulating_command_agrees_with_the_receiver_which_shows_what_it_counts(kafka: Kafka, tmp_path: Path) -> None:
    make_topics(kafka)
    with socket.create_server(("127.0.0.1", 0)) as free:
        metrics = free.getsockname()[1]
    with receiver(kafka.bootstrap, kafka.prefix, tmp_path, SENTIO_METRICS_PORT=str(metrics)) as shown:
        command = [str(SENTIO), "webhooks", "simulate", "--url", shown.url, "--rate", "2000", "--events", "400"]
        done = subprocess.run(command, env=shown.environment, capture_output=True, timeout=60, check=False)
        answered = json.loads(done.stdout)["answered"]
        figures = httpx.get(f"http://127.0.0.1:{metrics}/metrics").text
        assert httpx.get(f"http://127.0.0.1:{metrics}/readyz").status_code == 200
        stopped(shown)

    assert done.returncode == 0, done.stderr
    assert f'sentio_webhook_events_total{{outcome="accepted",reason=""}} {answered["accepted"]}.0' in figures
    assert 'sentio_webhook_requests_total{status="200"} 40.0' in figures


@pytest.mark.usefixtures("rows_written")
def test_receiver_that_is_killed_again_and_again_counts_no_price_twice_and_loses_none(
    kafka: Kafka, settings: ConsumerSettings, database: str, tmp_path: Path
) -> None:
    found = deliveries(3_000, seed=2, batch=10)
    contents = bodies(found)
    moments = random.Random(3)
    for _ in range(2):
        with receiver(kafka.bootstrap, kafka.prefix, tmp_path) as killed, sending(killed.url, contents) as sender:
            answered = moments.randrange(20, 200)
            until(lambda: sender.sent.requests >= answered)  # noqa: B023 - called here
            killed.process.kill()
    with receiver(kafka.bootstrap, kafka.prefix, tmp_path) as last:
        assert send(last.url, contents).sent.statuses == {"200": len(found)}
        stopped(last)

    until(lambda: pipeline.count(database, "prices") >= len(expected(found)))
    assert stored(database) == expected(found)
    sent_as: dict[object, set[tuple[object, object]]] = {}
    for each in on_log(settings):
        sent_as.setdefault(each["event_id"], set()).add((each["producer"], each["sequence"]))
    assert len(sent_as) == len(expected(found))
    assert all(len(places) == 1 for places in sent_as.values())  # a repeat is the same record, and known as such


def test_what_was_kept_but_not_answered_is_a_repeat_when_it_comes_again(
    kafka: Kafka, settings: ConsumerSettings, tmp_path: Path
) -> None:
    events = [bought(BONK, 1_000_000, number, number=number) for number in range(1, 6)]
    with receiver(kafka.bootstrap, kafka.prefix, tmp_path) as killed:
        assert killed.post(events[:3]).json()["accepted"] == 3
        killed.process.kill()
        killed.process.wait()
    with receiver(kafka.bootstrap, kafka.prefix, tmp_path) as again:
        answer = again.post(events).json()
        stopped(again)

    assert (answer["accepted"], answer["repeated"]) == (2, 3)
    assert sorted({str(each["price"]) for each in on_log(settings)}) == [f"0.00000{n}0000" for n in range(1, 6)]


def test_outage_of_kafka_is_waited_out_in_the_journal_and_beyond_it_by_the_sender(
    own_kafka: KafkaServer, database: str, tmp_path: Path
) -> None:
    settings = consumer_settings(own_kafka.start(), "outage", database)
    found = deliveries(8_000, seed=4, batch=250)
    contents = bodies(found)
    with receiver(settings.kafka, "outage", tmp_path, SENTIO_SPOOL_MAX_BYTES=str(1 << 20)) as outlasting:
        assert send(outlasting.url, contents[:5]).sent.statuses == {"200": 5}
        own_kafka.kill()
        place = 5
        while (answer := outlasting.send(contents[place])).status_code == 200:
            place += 1
        assert place > 6
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert "SENTIO_SPOOL_MAX_BYTES" in answer.text
        own_kafka.start()
        until(lambda: outlasting.send(contents[place]).status_code == 200)
        assert send(outlasting.url, contents[place + 1 :]).sent.given_up == 0
        with running(Store(settings), settings):
            until(lambda: pipeline.count(database, "prices") >= len(expected(found)))
        stopped(outlasting)

    assert stored(database) == expected(found)
