"""The REST API on a real database, platforms and stages for the gateway of the stream, and replays on a real broker."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from gateway.stream import registry
from gateway.stream.descriptors import Descriptors, PythonDescriptors, descriptors
from sentio.config import RestSettings
from sentio.database import migrate
from sentio.stack.kafka import KafkaServer
from sentio.testing.servers import Kafka, fresh_prefix
from tests.gateways import Platform, make_platform
from tests.replays import Replays, make_replays
from tests.rest import Rows, served
from tests.stages import Begin, stage


@pytest.fixture
def rows(database: str) -> Rows:
    migrate(SecretStr(database))
    return Rows(database)


@pytest.fixture
def client(rows: Rows, database: str) -> Iterator[httpx.Client]:
    with served(RestSettings(database=SecretStr(database), rest_requests=0)) as made:
        yield made


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
def platform(kafka: Kafka, database: str) -> Iterator[Platform]:
    with make_platform(kafka.bootstrap, kafka.prefix, database) as made:
        made.make_topics()
        yield made


@pytest.fixture
def replay(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Replays:
    """With the topic of trades, three partitions of it."""
    return make_replays(kafka, tmp_path, monkeypatch, capsys)


@pytest.fixture
def own_replay(
    own_kafka: KafkaServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Replays:
    """The same, on a broker of its own."""
    return make_replays(Kafka(own_kafka.address or "", fresh_prefix()), tmp_path, monkeypatch, capsys)


@pytest.fixture(params=[PythonDescriptors, descriptors], ids=["python", "native"])
def begin(request: pytest.FixtureRequest) -> Begin:
    """A stage; where native/ is not built both are Python's."""
    made: Callable[[], Descriptors] = request.param
    return lambda **options: stage(made(), **options)


@pytest.fixture
def redis_tried_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis is tried again at once."""
    monkeypatch.setattr(registry, "PAUSE_S", 0.05)
    monkeypatch.setattr(registry, "LONGEST_PAUSE_S", 0.1)
