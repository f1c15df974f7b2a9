"""`sentio replay` as an operator types it, with the settings of one test; and what a replay is made of and leaves."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined] # it is theirs to give

from consumers.replay.job import loads
from schemas.topics import topics
from sentio import kafka as kafka_access
from sentio.cli.main import main
from sentio.config import Settings
from sentio.testing.servers import Kafka
from tests.pipeline import until
from tests.samples import encoded, trade

TRADES = topics()["trades.executed"]
MINUTE_MS = 60_000


class Replays:
    """Runs `sentio replay` with the settings of one test, and reads what came of it."""

    def __init__(self, settings: Settings, folder: Path, said: pytest.CaptureFixture[str]) -> None:
        self.settings = settings
        self.folder = folder
        self.topic = TRADES.full_name(settings.topic_prefix)
        self._said = said

    def __call__(self, *arguments: str, status: int = 0) -> str:
        """In this process: a new one takes seconds on a busy machine."""
        self._said.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", ["sentio", "replay", *arguments])
            handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
            try:
                main()
            except SystemExit as end:
                found = end.code or 0
            finally:
                for number, handler in handlers.items():
                    signal.signal(number, handler)
        out, err = self._said.readouterr()
        assert found == status, err
        return out if status == 0 else err

    def begun(self, *arguments: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
        return self._process("trades.executed", "--yes", *arguments)

    def again(self, job: str) -> AbstractContextManager["subprocess.Popen[bytes]"]:
        return self._process("--resume", job)

    @contextmanager
    def _process(self, *arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
        with (self.folder / "said").open("wb") as said:
            command = [sys.executable, "-m", "sentio", "replay", "run", *arguments]
            process = subprocess.Popen(command, stdout=said, stderr=said)
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def killed_when_it_has_written(self, least: int, *arguments: str) -> str:
        """The id of the job; some of it is written, some not."""
        with self.begun(*arguments):
            until(lambda: any(job["counts"]["written"] >= least for job in self.jobs()))
        [job] = self.jobs()
        assert job["counts"]["written"] < job["offsets"]
        return str(job["id"])

    def jobs(self) -> list[dict[str, Any]]:
        return [loads(path.read_text()).as_json() for path in sorted((self.folder / "state").glob("*.json"))]

    def publish(self, number: int, *, partition: int | None = None, **more: Any) -> None:
        """So many trades, a minute apart in their own time and in the log's, until an hour ago."""
        producer = Producer({"enable.idempotence": True, "bootstrap.servers": self.settings.kafka, "linger.ms": 5})
        first_ms = int(time.time() * 1000) - (number + 60) * MINUTE_MS
        for each in range(number):
            event = trade(each)
            place = each % 3 if partition is None else partition
            at_ms = first_ms + each * MINUTE_MS
            value = encoded(event, number=each)
            producer.produce(self.topic, value, event.symbol.encode(), partition=place, timestamp=at_ms, **more)
        assert producer.flush(60) == 0

    def produce(self, value: bytes, partition: int = 0) -> None:
        producer = Producer({"enable.idempotence": True, "bootstrap.servers": self.settings.kafka})
        producer.produce(self.topic, value, b"TQQQ", partition=partition)
        assert producer.flush(60) == 0

    def messages(self, topic: str) -> list[Message]:
        states = kafka_access.describe(self.settings.kafka, [topic])
        places = [(topic, partition) for partition in range(states[topic].partitions)]
        spans = kafka_access.spans(self.settings.kafka, places)
        return [message for found in kafka_access.read(self.settings.kafka, spans) for message in found]

    def groups(self) -> set[str]:
        admin = AdminClient({"bootstrap.servers": self.settings.kafka})  # has to outlive its futures
        listed = admin.list_consumer_groups().result(20)
        return {group.group_id for group in listed.valid if group.group_id.startswith(self.settings.topic_prefix)}


def make_replays(
    kafka: Kafka, folder: Path, monkeypatch: pytest.MonkeyPatch, said: pytest.CaptureFixture[str]
) -> Replays:
    """With the topic of trades, three partitions of it."""
    monkeypatch.setenv("SENTIO_KAFKA", kafka.bootstrap)
    monkeypatch.setenv("SENTIO_TOPIC_PREFIX", kafka.prefix)
    monkeypatch.setenv("SENTIO_REPLAY_STATE", str(folder / "state"))
    monkeypatch.setenv("SENTIO_DATABASE", "postgresql://127.0.0.1:1/none")
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
    name = TRADES.full_name(kafka.prefix)
    admin.create_topics([NewTopic(name, 3)])[name].result(60)
    return Replays(Settings(kafka=kafka.bootstrap, topic_prefix=kafka.prefix), folder, said)


def sequences(path: Path) -> list[int]:
    return sorted(json.loads(line)["sequence"] for line in path.read_text().splitlines())


def whole(message: Message) -> tuple[object, ...]:
    """All of a record but its offset and what the replay adds."""
    headers = [header for header in message.headers() or () if header[0] != "x-replay-id"]
    return message.partition(), message.key(), message.value(), message.timestamp(), headers
