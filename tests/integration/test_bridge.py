"""The bridge on a real broker: once, whatever kills it, and never two of a name."""

import contextlib
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined] # it is theirs to give

from producers.sidecar import bridge as bridge_module
from producers.sidecar import mapping
from producers.sidecar.bridge import Bridge
from sentio import kafka as kafka_access
from sentio.config import SidecarSettings
from sentio.errors import Fatal
from sentio.stack.kafka import KafkaServer
from sentio.testing.servers import Kafka
from tests.pipeline import until
from tests.ways import records, running, settings_for, sidecar_process

MAP = """
[[map]]
topic = "TOPIC"
event = "SignalGenerated"
[map.fields]
symbol = "s"
direction = { value = "LONG" }
probability = "p"
confidence = { value = 1 }
bar_id = "n"
generated_at = { value = "2025-10-10T13:30:00Z" }
"""


class Engine:
    """Writes JSON messages, numbered."""

    def __init__(self, settings: SidecarSettings, partitions: int = 3, name: str = "engine") -> None:
        self.topic = f"{settings.topic_prefix}.{name}"
        self._config = {"bootstrap.servers": settings.kafka, "enable.idempotence": True}
        self.renew()
        admin = AdminClient({"bootstrap.servers": settings.kafka})
        admin.create_topics([NewTopic(self.topic, partitions)])[self.topic].result(20)
        self.count = 0

    def renew(self) -> None:
        """A client that knows nothing of what the cluster was."""
        self._producer = Producer(self._config)

    def say(self, count: int, **changed: object) -> None:
        for _ in range(count):
            message = {"s": f"S{self.count % 7}", "p": 0.5, "n": self.count} | changed
            self._producer.produce(self.topic, json.dumps(message), key=str(self.count % 7))
            self.count += 1
        assert self._producer.flush(20) == 0

    def map(self, folder: Path) -> Path:
        path = folder / "map.toml"
        path.write_text(MAP.replace("TOPIC", self.topic))
        return path


@pytest.fixture
def settings(kafka: Kafka) -> SidecarSettings:
    return settings_for(kafka.bootstrap, kafka.prefix)


def bars(settings: SidecarSettings) -> list[int]:
    """Of all that readers of what is committed see; nothing is left out as a repeat."""
    return sorted(row["bar_id"] for row in records(settings, "SignalGenerated"))


def has_more(settings: SidecarSettings, than: int) -> bool:
    return len(bars(settings)) > than


def bridged(settings: SidecarSettings, engine: Engine, folder: Path) -> Bridge:
    return Bridge(settings, mapping.load(engine.map(folder)), name="test")


def test_a_bridge_that_is_killed_again_and_again_writes_everything_once(
    settings: SidecarSettings, tmp_path: Path
) -> None:
    moments = random.Random(3)
    engine = Engine(settings)
    arguments = ("bridge", engine.map(tmp_path), "--name", "test")
    for _ in range(4):
        engine.say(2_000)
        seen = len(bars(settings))
        with sidecar_process(settings, tmp_path / "log", *arguments) as process:
            until(partial(has_more, settings, seen), timeout_s=40)
            engine.say(moments.randrange(1_000))
            process.kill()
            process.wait()
    with running(bridged(settings, engine, tmp_path)):
        until(lambda: len(bars(settings)) >= engine.count, timeout_s=40)
    assert bars(settings) == list(range(engine.count))


def test_who_takes_the_place_of_a_bridge_puts_it_out(settings: SidecarSettings, tmp_path: Path) -> None:
    engine = Engine(settings)
    engine.say(10)

    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool, contextlib.ExitStack() as at_the_end:
        at_the_end.callback(stop.set)
        first = pool.submit(bridged(settings, engine, tmp_path).run, stop)
        until(lambda: len(bars(settings)) == 10)
        with running(bridged(settings, engine, tmp_path)):
            while not first.done():
                engine.say(10)
                until(partial(has_more, settings, engine.count - 1))
        with pytest.raises(Fatal, match="another bridge named"):
            first.result()
    assert bars(settings) == list(range(engine.count))


def test_what_cannot_be_used_becomes_a_dead_letter_and_the_rest_goes_on(
    settings: SidecarSettings, tmp_path: Path
) -> None:
    engine = Engine(settings, partitions=1)
    engine.say(3)
    engine.say(1, p=7)
    engine.say(3)
    with running(bridged(settings, engine, tmp_path)) as bridge:
        until(lambda: len(bars(settings)) == 6)
        assert (bridge.tallies[bridge.name].events, bridge.tallies[bridge.name].refused) == (6, 1)
    place = (f"{engine.topic}.dead", 0)
    [letter] = [
        message
        for messages in kafka_access.read(settings.kafka, kafka_access.spans(settings.kafka, [place]))
        for message in messages
    ]
    headers = dict(letter.headers() or ())
    assert json.loads(letter.value() or b"")["n"] == 3
    assert headers["source.offset"] == b"3"
    assert headers["error.message"] == b"probability is 7, beyond its limits"


def test_a_message_too_large_for_a_dead_letter_goes_without_its_value(
    settings: SidecarSettings, tmp_path: Path
) -> None:
    engine = Engine(settings, partitions=1)
    engine.say(1, p=7, more="x" * 999_000)
    engine.say(2)
    with running(bridged(settings, engine, tmp_path)):
        until(lambda: len(bars(settings)) == 2)
    place = (f"{engine.topic}.dead", 0)
    [[letter]] = kafka_access.read(settings.kafka, kafka_access.spans(settings.kafka, [place]))
    assert letter.value() is None
    assert dict(letter.headers() or ())["value.dropped_bytes"] == b"999039"


def test_partitions_and_topics_that_come_later_are_carried_over_too(
    settings: SidecarSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge_module, "LOOK_S", 0.2)
    engine = Engine(settings, partitions=1)
    both = engine.map(tmp_path).read_text() + MAP.replace("TOPIC", f"{settings.topic_prefix}.later")
    (tmp_path / "map.toml").write_text(both)
    with running(Bridge(settings, mapping.load(tmp_path / "map.toml"), name="test")):
        engine.say(5)
        until(lambda: len(bars(settings)) == 5)
        admin = AdminClient({"bootstrap.servers": settings.kafka})
        admin.create_partitions([NewPartitions(engine.topic, 4)])[engine.topic].result(20)
        later = Engine(settings, partitions=2, name="later")
        engine.renew()
        engine.say(20)
        later.count = engine.count
        later.say(5)
        until(lambda: len(bars(settings)) == 30)
    assert bars(settings) == list(range(30))


def test_an_outage_of_kafka_is_waited_out(own_kafka: KafkaServer, tmp_path: Path) -> None:
    settings = settings_for(own_kafka.start(), "outage")
    engine = Engine(settings)
    engine.say(100)
    with running(bridged(settings, engine, tmp_path)):
        until(lambda: len(bars(settings)) == 100)
        own_kafka.kill()
        own_kafka.start()
        engine.renew()
        engine.say(100)
        until(lambda: len(bars(settings)) >= 200, timeout_s=60)
    assert bars(settings) == list(range(200))


def test_what_is_gone_from_a_topic_is_named(settings: SidecarSettings, tmp_path: Path) -> None:
    engine = Engine(settings, partitions=1)
    engine.say(10)
    with running(bridged(settings, engine, tmp_path)):
        until(lambda: len(bars(settings)) == 10)
    engine.say(10)
    admin = AdminClient({"bootstrap.servers": settings.kafka})
    for cut in admin.delete_records([TopicPartition(engine.topic, 0, 15)]).values():
        cut.result(20)
    with pytest.raises(Fatal, match=r"has offsets 15 to 20, group .*bridge.test stands at 10"):
        bridged(settings, engine, tmp_path).run(threading.Event())
