"""An archive in tests: its settings, what the log and the archive hold, and its process to be killed."""

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from pyarrow import fs

from consumers.archive import reading
from consumers.archive.reading import Record
from consumers.archive.stores import Store
from schemas.topics import topics
from sentio import kafka
from sentio import topics as plan
from sentio.config import ArchiveSettings, load
from sentio.kafka import Place
from sentio.stack.processes import answers, free_port, until
from tests.samples import encoded, trade

PROGRAM = Path(sys.executable).parent / "sentio"
MOTO = Path(__file__).parents[1] / ".sentio/moto/bin/moto_server"
TOPIC = "trades.executed"


@dataclass(frozen=True)
class Bucket:
    """A bucket of a server with S3's protocol, as settings name it."""

    settings: dict[str, str]


@contextmanager
def s3_server() -> Iterator[str]:
    """URL of a server with S3's protocol and a bucket ``archives``."""
    for _ in range(5):  # another one may take the port before it does
        port = free_port(None)
        server = subprocess.Popen([MOTO, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
        try:
            if until(lambda: answers(port) or server.poll() is not None, timeout_s=60) and server.poll() is None:  # noqa: B023 - called at once
                client = fs.S3FileSystem(
                    access_key="key", secret_key="secret", scheme="http", endpoint_override=f"127.0.0.1:{port}",
                    region="us-east-1", allow_bucket_creation=True,
                )  # fmt: skip
                client.create_dir("archives")
                yield f"http://127.0.0.1:{port}"
                return
        finally:
            server.kill()
            server.wait()
    raise AssertionError("moto_server did not start")


def bucket(url: str) -> Bucket:
    """A place of its own on the server."""
    place = f"s3://archives/{uuid.uuid4().hex[:8]}"
    return Bucket({"archive": place, "archive_endpoint": url, "archive_key": "key", "archive_secret": "secret"})


def archive_settings(bootstrap: str, prefix: str, **more: Any) -> ArchiveSettings:
    """Settings of an archive whose topics exist; files are cut early."""
    given = {
        "kafka": bootstrap,
        "topic_prefix": prefix,
        "partitions": 2,
        "archive_file_s": 0.2,
        "session_timeout_ms": 6_000,
    }
    settings = load(ArchiveSettings, **(given | more))
    plan.apply(settings, [change for change in plan.plan(settings) if change.lines])
    return settings


def environment(settings: ArchiveSettings) -> dict[str, str]:
    """The same for a process."""
    given = settings.model_dump(exclude_unset=True)
    secrets = {name: value.get_secret_value() for name, value in given.items() if hasattr(value, "get_secret_value")}
    return os.environ | {f"SENTIO_{name.upper()}": str(value) for name, value in (given | secrets).items()}


@contextmanager
def process(settings: ArchiveSettings) -> Iterator[subprocess.Popen[bytes]]:
    """`sentio run archive`, killed at the end."""
    started = subprocess.Popen([PROGRAM, "run", "archive"], env=environment(settings), stderr=subprocess.DEVNULL)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def command(settings: ArchiveSettings, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *words], env=environment(settings), capture_output=True, text=True, check=False, timeout=60
    )


def full_name(settings: ArchiveSettings, topic: str = TOPIC) -> str:
    return topics()[topic].full_name(settings.topic_prefix)


def produce(settings: ArchiveSettings, count: int, *, first: int = 0, **more: Any) -> None:
    """Trades with keys and headers, over all partitions."""
    producer = Producer(kafka.writer(settings.kafka, name="test"))
    for number in range(first, first + count):
        headers: list[tuple[str, Any]] = [("traceparent", f"{number:x}".encode()), ("empty", None), ("twice", b"1")]
        producer.produce(
            full_name(settings),
            encoded(trade(number), number=number),
            f"key-{number}".encode(),
            partition=number % settings.partitions,
            headers=[*headers, ("twice", b"\x00\xff")] if number % 3 else None,
            **more,
        )
    assert producer.flush(30) == 0


def places(settings: ArchiveSettings, topic: str = TOPIC) -> list[Place]:
    return [(full_name(settings, topic), partition) for partition in range(settings.partitions)]


def in_log(settings: ArchiveSettings, *topics_: str) -> list[Record]:
    """Every record of these topics, by partition and offset."""
    wanted = [place for topic in topics_ or (TOPIC,) for place in places(settings, topic)]
    found = []
    for messages in kafka.read(settings.kafka, kafka.spans(settings.kafka, wanted)):
        for one in messages:
            headers: list[tuple[str, Any]] = list(one.headers() or [])  # type: ignore[arg-type] # never a dict
            place = one.topic() or "", one.partition() or 0
            found.append(Record(*place, one.offset() or 0, one.timestamp()[1], one.key(), one.value(), headers))
    return sorted(found, key=lambda record: record[:3])


def in_archive(store: Store, settings: ArchiveSettings, *topics_: str) -> list[Record]:
    """The same of the archive, in the order in which it is read."""
    wanted = [place for topic in topics_ or (TOPIC,) for place in places(settings, topic)]
    return [record for place in sorted(wanted) for records in reading.read(store, place) for record in records]


def ends(store: Store, settings: ArchiveSettings, topic: str = TOPIC) -> Mapping[int, int]:
    """The next offset of each partition in the archive."""
    found = {place[1]: reading.offsets(store, place) for place in places(settings, topic)}
    return {partition: span[1] for partition, span in found.items() if span}
