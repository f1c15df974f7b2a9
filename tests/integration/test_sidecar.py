"""`sentio sidecar` between an engine in C and a real broker: all that the engine was told is there is on the log, in order."""

import os
import random
import signal
import threading
from collections import defaultdict
from pathlib import Path

import pytest

from producers.sidecar.drain import Sidecar
from producers.sidecar.layout import KINDS
from producers.sidecar.ring import Ring
from producers.sidecar.rings import RingSource
from schemas.codec import decode
from schemas.topics import topic_of_event
from sentio import kafka as kafka_access
from sentio import topics as kafka_topics
from sentio.config import PublisherSettings, load
from sentio.stack.kafka import KafkaServer
from sentio.testing.servers import Kafka
from tests import engines
from tests.engines import OK, SOURCES, Engine
from tests.pipeline import until
from tests.ways import sidecar_process


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return engines.built(tmp_path_factory.getbasetemp() / "programs", SOURCES / "driver.c")


def settings_for(bootstrap: str, prefix: str) -> PublisherSettings:
    settings = load(PublisherSettings, kafka=bootstrap, topic_prefix=prefix, partitions=3)
    kafka_topics.apply(settings, [change for change in kafka_topics.plan(settings) if change.lines])
    return settings


def on_log(settings: PublisherSettings, event: str) -> list[dict[str, list[tuple[int, bytes]]]]:
    """Of each partition: the (sequence, value) of each record, by producer, in the order of the log."""
    name = topic_of_event(event).full_name(settings.topic_prefix)
    spans = kafka_access.spans(settings.kafka, [(name, partition) for partition in range(settings.partitions)])
    found: list[dict[str, list[tuple[int, bytes]]]] = [defaultdict(list) for _ in range(settings.partitions)]
    for messages in kafka_access.read(settings.kafka, spans):
        decoded = decode(event, [message.value() for message in messages])
        assert decoded.poison == ()
        for message, row in zip(messages, decoded.records.select(["producer", "sequence"]).to_pylist(), strict=True):
            found[message.partition() or 0][row["producer"]].append((row["sequence"], message.value() or b""))
    return found


def told(settings: PublisherSettings, event: str) -> dict[str, list[int]]:
    """What readers by sequence take: of each producer, the sequences, each once. A repeat is the same record again."""
    found: dict[str, list[int]] = defaultdict(list)
    for partition in on_log(settings, event):
        for producer, records in partition.items():
            newest = -1
            values: dict[int, bytes] = {}
            for sequence, value in records:
                assert values.setdefault(sequence, value) == value
                if sequence > newest:
                    found[producer].append(sequence)
                    newest = sequence
    return {producer: sorted(sequences) for producer, sequences in found.items()}


def unread(path: Path) -> int:
    data = path.read_bytes()[:512]
    return int.from_bytes(data[256:264], "little") - int.from_bytes(data[384:392], "little")


def publish(engine: Engine, first: int, count: int) -> None:
    symbols = ["TQQQ", "SQQQ", "SPXL", "SOXL", "UVXY"]
    for number in range(first, first + count):
        assert engine.signal(number, symbol=symbols[number % len(symbols)]) == OK


def test_each_kind_of_event_comes_to_its_topic_as_it_was_in_the_ring(
    kafka: Kafka, driver: Path, tmp_path: Path
) -> None:
    settings = settings_for(kafka.bootstrap, kafka.prefix)
    path = tmp_path / "ring"
    with sidecar_process(settings, tmp_path / "log", path) as process, engines.engine(driver, path) as engine:
        assert [engine.trade(), engine.signal(), engine.position(), engine.performance()] == [OK] * 4
        until(lambda: unread(path) == 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    with Ring(path) as ring:
        producer = ring.producer
    assert [told(settings, event) for event in KINDS.values()] == [{producer: [n]} for n in range(4)]


def test_a_sidecar_that_is_killed_again_and_again_loses_and_repeats_nothing(
    kafka: Kafka, driver: Path, tmp_path: Path
) -> None:
    settings = settings_for(kafka.bootstrap, kafka.prefix)
    path = tmp_path / "ring"
    moments = random.Random(6)
    published = 0
    with engines.engine(driver, path, capacity=1 << 16) as engine:
        for _ in range(4):
            publish(engine, published, 3_000)
            published += 3_000
            with sidecar_process(settings, tmp_path / "log", path) as process:
                until(lambda: unread(path) == 0)
                publish(engine, published, moments.randrange(500))
                published = engine.stats().published
                process.kill()
                process.wait()
        with sidecar_process(settings, tmp_path / "log", path):
            until(lambda: unread(path) == 0)
    with Ring(path) as ring:
        assert told(settings, "SignalGenerated") == {ring.producer: list(range(published))}


def test_what_was_sent_when_the_mark_had_not_moved_is_sent_again_the_same(
    kafka: Kafka, driver: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(kafka.bootstrap, kafka.prefix)
    path = tmp_path / "ring"
    with engines.engine(driver, path, capacity=1024) as engine:
        publish(engine, 0, 500)
    stop = threading.Event()
    with monkeypatch.context() as patched:
        patched.setattr(Ring, "acknowledge", lambda *_: stop.set())  # killed at this very moment
        Sidecar(settings, [RingSource(path)]).run(stop)
    with sidecar_process(settings, tmp_path / "log", path):
        until(lambda: unread(path) == 0)
    with Ring(path) as ring:
        assert told(settings, "SignalGenerated") == {ring.producer: list(range(500))}
    on_partitions = [records for partition in on_log(settings, "SignalGenerated") for records in partition.values()]
    assert sum(map(len, on_partitions)) == 1_000
    assert all(records[: len(records) // 2] == records[len(records) // 2 :] for records in on_partitions)


def test_an_outage_of_kafka_is_waited_out_in_the_ring(own_kafka: KafkaServer, driver: Path, tmp_path: Path) -> None:
    settings = settings_for(own_kafka.start(), "outage")
    path = tmp_path / "ring"
    with sidecar_process(settings, tmp_path / "log", path), engines.engine(driver, path, capacity=1 << 14) as engine:
        publish(engine, 0, 1_000)
        until(lambda: unread(path) == 0)
        own_kafka.kill()
        publish(engine, 1_000, 5_000)
        assert unread(path) > 0
        own_kafka.start()
        publish(engine, 6_000, 100)
        until(lambda: unread(path) == 0)
    with Ring(path) as ring:
        assert told(settings, "SignalGenerated") == {ring.producer: list(range(6_100))}


def test_a_ring_that_was_set_aside_is_read_to_its_end_and_removed(kafka: Kafka, driver: Path, tmp_path: Path) -> None:
    settings = settings_for(kafka.bootstrap, kafka.prefix)
    path = tmp_path / "ring"
    with engines.engine(driver, path) as engine:
        publish(engine, 0, 20)
    with Ring(path) as ring:
        former = ring.producer
    with engines.engine(driver, path, capacity=128) as engine:
        publish(engine, 0, 10)
        with sidecar_process(settings, tmp_path / "log", path):
            until(lambda: not list(tmp_path.glob("ring.*-*")))
            until(lambda: unread(path) == 0)
            engine.kill()
            with engines.engine(driver, path, capacity=256) as another:  # while it is read
                publish(another, 0, 5)
                until(lambda: not list(tmp_path.glob("ring.*-*")))
                until(lambda: unread(path) == 0)
    found = told(settings, "SignalGenerated")
    assert sorted(map(len, found.values())) == [5, 10, 20]
    assert found[former] == list(range(20))


def test_a_ring_that_cannot_be_read_does_not_stop_the_others(kafka: Kafka, driver: Path, tmp_path: Path) -> None:
    settings = settings_for(kafka.bootstrap, kafka.prefix)
    broken, path = tmp_path / "broken", tmp_path / "ring"
    broken.write_bytes(b"no ring")
    with sidecar_process(settings, tmp_path / "log", broken, path), engines.engine(driver, path) as engine:
        publish(engine, 0, 3)
        until(lambda: unread(path) == 0)
    assert f"ring {broken}: the file is no ring" in (tmp_path / "log").read_text()


def test_a_ring_that_is_cut_while_it_is_read_does_not_stop_the_others(
    kafka: Kafka, driver: Path, tmp_path: Path
) -> None:
    settings = settings_for(kafka.bootstrap, kafka.prefix)
    cut, path, log = tmp_path / "cut", tmp_path / "ring", tmp_path / "log"
    with (
        sidecar_process(settings, log, cut, path),
        engines.engine(driver, cut) as first,
        engines.engine(driver, path) as engine,
    ):
        publish(first, 0, 3)
        until(lambda: unread(cut) == 0)
        os.truncate(cut, 0)
        publish(engine, 0, 3)
        until(lambda: unread(path) == 0)
        until(lambda: f"ring {cut}: the file is no ring" in log.read_text())
        publish(engine, 3, 3)
        until(lambda: unread(path) == 0)
    assert f"ring {cut}: its file was cut from 20480 to 0 bytes while it was read" in log.read_text()
